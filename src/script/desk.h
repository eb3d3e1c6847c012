/* script/desk.h - what a host does besides when a service's author tries it out, and never on a node: it watches copies of rows, and
 * makes what must not matter be different each time.
 *
 * A copy that get, first, last or a loop gave to a command, that was changed, and whose row was not written after that, is most
 * likely a forgotten put: a remark says where. Nothing else changes: answers, rows and digests are those of a node.
 * Depends on script/vm.h, LuaJIT. Private to script/, but for the flags.
 */
#ifndef SCRIPT_DESK_H
#define SCRIPT_DESK_H

#include "base/slice.h"

struct lua_State;
struct vm;

/* Flags of vm_set_desk. */
enum desk {
    DESK_COPIES = 1,  /* watch copies of rows */
    DESK_COLLECT = 2, /* collect all garbage before each call, and hurry in between */
    DESK_KEEP = 4,    /* never collect */
    DESK_MIXED = 8,   /* arguments and rows are tables whose lists lie among the fields */
    DESK_ROOMY = 16,  /* ... that have room to spare */
    DESK_BALLAST = 32 /* the heap is full of other things already */
};

/* Begins a call, ends it: between them copies are watched. The end may leave a remark. */
void desk_begin(struct vm *vm, bool querying);
void desk_end(struct vm *vm);

/* The arguments are on the stack from `first` to the top. */
void desk_take_arguments(struct lua_State *L, int first);

/* A row's value, at the top, goes to the script: it may become another table that is equal [-1, +1]. */
void desk_give_copy(struct lua_State *L, struct slice key, const char *map);

/* The row was written or removed: its copies need no put any more. */
void desk_note_write(struct vm *vm, struct slice key);

/* A new line begins to run. */
void desk_note_line(struct lua_State *L, void *debug);

/* With the vm. */
void desk_free(struct vm *vm);

#endif
