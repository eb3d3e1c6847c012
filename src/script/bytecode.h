/* script/bytecode.h - what a compiled chunk does to names that outlive a call, read from LuaJIT's dump of it.
 *
 * The dump (lua_dump, format 2, with debug names) is the one place where it is plain which name is a global and which
 * function stores into whose local. Only a dump that this process made itself is read: bytecode is never accepted from
 * outside. Depends on base.
 */
#ifndef SCRIPT_BYTECODE_H
#define SCRIPT_BYTECODE_H

#include "base/slice.h"
#include "base/status.h"

enum bytecode_kind {
    BYTECODE_READ,       /* of the global `name` */
    BYTECODE_WRITE,      /* to the global `name` */
    BYTECODE_READ_FIELD, /* of `name`.`field`, where `name` is a global */
    BYTECODE_STORE,      /* from a function inside another into a local `name` of an outer one */
    BYTECODE_STORE_FIELD /* into a table that was reached through the local `name` of an outer function */
};

/* Whose local a store reaches, seen from the function that was dumped. */
enum bytecode_owner {
    BYTECODE_INNER,  /* of a function inside it: ends with the call */
    BYTECODE_TOP,    /* its own: when a whole file was dumped, a local of the file */
    BYTECODE_OUTSIDE /* of one around it: `upvalue` says which, counted from 0 */
};

struct bytecode_use {
    enum bytecode_kind kind;
    enum bytecode_owner owner;
    unsigned upvalue;
    unsigned line;
    struct slice name;
    struct slice field;
};

/* Calls `each` for all such uses in the dumped function and those inside it, inner ones first. INVALID: not a dump that is
 * understood. */
enum status bytecode_walk(struct slice dump, void (*each)(void *context, const struct bytecode_use *use),
                          void *context) MUST_USE;

#endif
