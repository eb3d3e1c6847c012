/* script/format_private.h - what format.c, format_write.c and format_read.c share. Private to script/. */
#ifndef SCRIPT_FORMAT_PRIVATE_H
#define SCRIPT_FORMAT_PRIVATE_H

#include "script/format.h"
#include "script/map.h"

/* A function of the module, and the C function that calls it with what it is given: both in the registry, so that a run
 * allocates nothing before it is protected. */
struct format_function {
    int ref;
    int body_ref;
};

struct format {
    struct vm *vm;
    struct tree *tree; /* empty: a state needs one to read and roll back */
    char name[FORMAT_NAME_BYTES];
    double version;
    struct format_function write;
    struct format_function read;
    /* of the run in progress */
    const struct format_writing *writing; /* one of these two, while it runs */
    const struct format_reading *reading;
    enum status ended;    /* OK, or why the run is to end, whatever Lua says */
    struct buffer reason; /* for INVALID: the sentence */
    uint64_t rows;        /* taken, or put */
    uint64_t bytes;       /* written */
    struct buffer last;   /* key of the last row, with its number */
    struct buffer input;  /* read from `at` on */
    size_t at;
    bool input_ended;
};

/* The format of a state. */
struct format *format_of(lua_State *L);

/* A step was made: the budget is full again. */
void format_step(struct format *format);

/* Ends the run with a status, past every pcall. Does not return. */
void format_end(lua_State *L, struct format *format, enum status status);

/* Remembers the row for sentences. */
void format_note_row(struct format *format, struct slice key);

/* Runs a function under the rules, once what it works on is set. */
enum status format_run(struct format *format, const struct format_function *function, const struct vm_entry *entry,
                       const struct vm_limits *limits, struct buffer *why);

/* What a module's function gave back, at the top two: nothing or true is good, nil and why is its refusal. With `demand` nothing
 * is a mistake. Raises. */
void format_check_result(lua_State *L, const char *function, bool demand);

/* Puts an empty table in front of the one at the top: it cannot be written to, and answers what is not there by an error that
 * lists `there` [-1, +1]. */
void format_guard(lua_State *L, const char *what, const char *there);

/* The C functions: they get the format as light userdata. And what read needs prepared: the maps that it puts into. */
int format_call_write(lua_State *L);
int format_call_read(lua_State *L);
void format_read_setup(lua_State *L);

#endif
