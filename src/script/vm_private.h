/* script/vm_private.h - what vm.c, ctx.c and map.c share. Private to script/. */
#ifndef SCRIPT_VM_PRIVATE_H
#define SCRIPT_VM_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/pool.h"
#include "base/prng.h"
#include "script/args.h"
#include "script/budget.h"
#include "script/vm.h"

/* A command or query. */
struct vm_function {
    char name[VM_NAME_MAX]; /* "kv.set" */
    size_t name_size;
    enum vm_kind kind;
    int ref;           /* of the Lua function, in the registry */
    struct args *args; /* NULL: not declared */
    struct vm_mount *mount;
};

struct vm_mount {
    char name[64];
    char module[64];
    double version;
    struct hash128 hash;
    uint32_t id_map;   /* host row of ctx.id: see ctx.c */
    int ctx_ref;       /* ctx of commands */
    int query_ctx_ref; /* ctx of queries */
    int apply_ref;     /* LUA_NOREF: dispatched by tables */
    int query_ref;
    int init_ref;
    struct vm_mount *next;
};

struct vm {
    lua_State *L;
    struct tree *tree;
    struct budget budget;
    struct budget idle_budget; /* outside entries: never ends */
    struct vm_limits limits;
    struct vm_entry entry;
    struct prng prng;
    bool prng_seeded;
    bool running;
    uint32_t calls_open; /* nesting of vm_call and ctx.call */
    bool querying;       /* the call in progress must not write */
    struct vm_mount *current;
    struct vm_mount *mounts;
    struct vm_function **functions; /* open addressing by name */
    struct vm_function *recent;     /* the last one found; NULL: none */
    size_t functions_count;
    size_t functions_capacity;
    struct map_loop *loops; /* open ones: map.c */
    int call_ref;           /* call_protected as a Lua function */
    struct pool pool;       /* the Lua state's objects */
    size_t lua_bytes;
    size_t lua_bytes_max;
    struct buffer key; /* scratch of map operations */
    struct buffer value;
    char why[256];
};

/* The vm of a state: a few instructions. */
struct vm *vm_of(lua_State *L);

/* mount.c: a command or query by "mount.name"; a mount by its name; the mount of "mount.name" if it dispatches itself.
 * NULL: there is none. */
struct vm_function *vm_function_find(struct vm *vm, struct slice name);
struct vm_mount *vm_mount_find(const struct vm *vm, struct slice name);
struct vm_mount *vm_mount_raw(const struct vm *vm, struct slice name);

/* Calls fn with the arguments above it on the stack, in mount `mount`; leaves one result. Raises what it raises. */
void vm_enter(lua_State *L, struct vm_mount *mount, bool querying);

/* map.c: pushes the table of a mount's maps [-0, +1]; `number` of each comes from the state of the module at `state`. */
void map_setup(lua_State *L);
/* Ends the loops that began after `mark`, or all. */
void map_close_loops(struct vm *vm, tree_mark mark, bool all);
void map_push(lua_State *L, uint32_t number, const char *name);

/* ctx.c: pushes a ctx for a mount; its maps' table is at the top [-1, +1]. */
void ctx_push(lua_State *L, struct vm_mount *mount, bool query);
int ctx_pcall(lua_State *L);

/* Turns the error value at the top into {code, message, data} appended to `out` [-1, +0]. */
void ctx_pack_error(lua_State *L, struct buffer *out);

#endif
