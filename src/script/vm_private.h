/* script/vm_private.h - what vm.c, ctx.c and map.c share. Private to script/. */
#ifndef SCRIPT_VM_PRIVATE_H
#define SCRIPT_VM_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/pool.h"
#include "base/prng.h"
#include "script/args.h"
#include "script/budget.h"
#include "script/desk.h"
#include "script/rows.h"
#include "script/vm.h"

/* A command or query. */
struct vm_function {
    char name[VM_NAME_MAX]; /* "kv.set" */
    size_t name_size;
    enum vm_kind kind;
    int ref;           /* of the Lua function, in the registry */
    struct args *args; /* NULL: not declared */
    bool demands_session;
    struct vm_mount *mount;
};

/* The ctx that a mount's functions are given: if they could keep it, a new one for each entry, to know an old one. */
struct vm_ctx {
    int ref;         /* the latest one, in the registry */
    int meta_ref;    /* its metatable */
    uint64_t serial; /* of the entry it belongs to; 0: none was made yet */
};

/* A function of the module's timers. */
struct vm_timer {
    char name[64];
    int ref;
};

/* A map of the module: on_expire is told of its rows. */
struct vm_map {
    char name[64];
    uint32_t number;
};

struct vm_mount {
    char name[64];
    char module[64];
    double version;
    struct hash128 hash;
    struct vm_ctx ctx[2]; /* of commands; of queries */
    bool holds_tables;    /* a function could keep something: compile_check_loaded */
    int apply_ref;        /* LUA_NOREF: dispatched by tables */
    int query_ref;
    int init_ref;
    int workload_ref;  /* LUA_NOREF: it has none; these are for trial.c */
    int invariant_ref; /* the module's function */
    int hold_ref;      /* what calls it */
    int on_expire_ref;
    int on_session_end_ref;
    int migrate_ref;
    int upgrade_row_ref;
    uint64_t upgrade_base; /* version of rows without a mark (script/upgrade.h); 0: all rows are of this version */
    bool busy;             /* migrate has not come to its end */
    struct vm_timer *timers;
    size_t timers_count;
    struct vm_map *maps;
    size_t maps_count;
    struct vm_mount *next;
};

struct vm {
    lua_State *L;
    struct tree *tree;
    struct rows rows;      /* where its maps read: the tree, unless a format writes */
    struct format *format; /* that this state runs (format.c); NULL: a service's */
    bool policy;           /* this state runs a policy (policy.c) */
    struct budget budget;
    struct budget idle_budget; /* outside entries: never ends */
    struct vm_limits limits;
    struct vm_entry entry;
    struct prng prng;
    bool prng_seeded;
    bool read_clock;
    bool running;
    uint64_t serial;     /* counts entries and queries */
    uint32_t calls_open; /* nesting of vm_call and ctx.call */
    int entered_ref;     /* the function that the call in progress began with */
    bool querying;       /* the call in progress must not write */
    bool migrating;      /* it is migrate, or came of it: */
    const struct vm_old_map *old_maps;
    size_t old_maps_count;
    struct vm_mount *current;
    struct vm_mount *mounts;
    struct vm_function **functions; /* open addressing by name */
    struct vm_function *recent;     /* the last one found; NULL: none */
    size_t functions_count;
    size_t functions_capacity;
    struct map_loop *loops; /* open ones: map.c */
    int call_ref;           /* call_protected as a Lua function */
    int handler_ref;        /* message handlers: fail_handle_last, and fail_handle for pcall */
    int pcall_handler_ref;
    int stale_ref;           /* the metatable of a ctx whose entry has ended */
    unsigned desk_flags;     /* enum desk */
    struct desk_state *desk; /* NULL: copies are not watched */
    uint64_t spent;          /* of budgets that ended */
    struct pool pool;        /* the Lua state's objects */
    size_t lua_bytes;
    size_t lua_bytes_max;
    struct buffer events;         /* of the entry: script/ctx_event.c */
    uint32_t events_count;        /* in it */
    struct vm_mark events_before; /* of what vm_begin began */
    struct buffer key;            /* scratch of map operations */
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

/* ctx_timer.c: a timer of a mount; NULL: there is none. */
struct vm_timer *vm_timer_find(const struct vm_mount *mount, struct slice name);

/* Calls the function `ref`, pushed at `function` with the arguments above it, in mount `mount`; leaves one result. Raises
 * what it raises. */
void vm_enter(lua_State *L, int function, int ref, struct vm_mount *mount, bool querying);

/* Calls the function `ref` of a mount with ctx alone, as vm_call calls a query. */
enum vm_outcome vm_run(struct vm *vm, struct vm_mount *mount, int ref, struct buffer *result);

/* trial.c: what calls the mount's invariant, as a reference; LUA_NOREF if it has none [-0, +0]. */
int trial_take_invariant(lua_State *L, struct vm_mount *mount);

/* mount.c: frees a mount that is in no list, of a state that has ended; adds a function under its name. */
void vm_mount_free(struct vm_mount *mount);
void vm_function_add(struct vm *vm, struct vm_function *function);

/* vm.c: calls the function `ref` of a mount's module with a MessagePack list of arguments; LUA_NOREF: nil is the answer. */
enum vm_outcome vm_run_hook(struct vm *vm, struct vm_mount *mount, int ref, struct slice args,
                            struct buffer *result);

/* remount.c: the sentence for a call of a mount that is busy. */
void vm_say_busy(const struct vm_mount *mount, char *text, size_t size);

/* map.c: appends a row's key, which has its map's number, as a value; pushes a map [-0, +1]. */
void map_pack_key(struct slice key, struct buffer *out);
void map_setup(lua_State *L);
void map_push(lua_State *L, uint32_t number, const char *name);

/* loop.c: ends the loops that began after `mark`, or all. */
void map_close_loops(struct vm *vm, tree_mark mark, bool all);

/* format.c: a loop of a format's write has taken a row: a step. Raises when the writing is to end. */
void format_took_row(lua_State *L, struct slice key);

/* ctx.c: prepares a mount's ctx; its maps' table is at the top [-0, +0]. */
void ctx_make(lua_State *L, struct vm_ctx *ctx, bool query);
/* Pushes the ctx of the entry in progress [-0, +1]. */
void ctx_push(lua_State *L, struct vm_mount *mount, bool query);
int ctx_pcall(lua_State *L);
/* What each function of ctx begins with. */
struct vm *ctx_begin(lua_State *L, const char *name);
void ctx_setup(lua_State *L);

/* ctx_timer.c, ctx_event.c */
int ctx_at(lua_State *L);
int ctx_after(lua_State *L);
int ctx_cancel(lua_State *L);
int ctx_emit(lua_State *L);

/* Turns the error value at the top into {code, message, data} appended to `out` [-1, +0]. */
void ctx_pack_error(lua_State *L, struct buffer *out);

#endif
