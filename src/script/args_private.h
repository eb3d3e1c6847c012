/* script/args_private.h - what a declaration of arguments has become: args.c, made_up.c. Private to script/. */
#ifndef SCRIPT_ARGS_PRIVATE_H
#define SCRIPT_ARGS_PRIVATE_H

#include <stdbool.h>

#include "script/args.h"

enum arg_type { ARG_ANY, ARG_TEXT, ARG_INT, ARG_NUMBER, ARG_BOOL, ARG_MS, ARG_FLAG, ARG_JSON, ARG_TYPES };
enum { ARG_NAME_BYTES = 48 };

struct arg {
    char name[ARG_NAME_BYTES];
    enum arg_type type;
    bool optional;
    bool rest;
    bool has_default;
    struct buffer standard; /* the default, MessagePack text or number */
};

struct args {
    size_t count;
    struct arg list[ARGS_MAX];
};

#endif
