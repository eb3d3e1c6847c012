/* script/vm.h - the Lua host: mounts of modules over the state tree, and calling into them.
 *
 * One interpreter-only Lua state, driven by the machine. Values cross as MessagePack. A mount's maps are rows of the tree,
 * under a number of their own before the key (state/key.h); numbers below VM_MAPS_FIRST are the host's.
 * Depends on base, state/tree.h, wire/pack.h, wire/error.h, script, LuaJIT.
 */
#ifndef SCRIPT_VM_H
#define SCRIPT_VM_H

#include "base/checksum.h"
#include "base/slice.h"
#include "base/status.h"
#include "state/tree.h"

struct lua_State;
struct view;
struct vm;

enum { VM_MAPS_FIRST = 16, VM_NAME_MAX = 160 };

/* The host's rows that are written here (machine/host_rows.h has the table of all). */
enum { VM_ROWS_IDS = 2, VM_ROWS_DUE = 9, VM_ROWS_DUE_OF = 10, VM_ROWS_COUNTERS = 11 };

/* The replicated limits (CONTRACT.md §1). */
struct vm_limits {
    uint64_t budget;
    uint64_t depth;
    uint64_t key_bytes;
    uint64_t row_bytes;
    uint64_t args_bytes;
    uint64_t answer_bytes;
    uint64_t batch;           /* commands of one */
    uint64_t migrate_budget;  /* of one step of a migration */
    uint64_t quota;           /* bytes of the services' rows; 0: as many as there are */
    uint64_t timers;          /* that wait */
    uint64_t timer_bytes;     /* of one's arguments */
    uint64_t events;          /* of one entry, or of one timer */
    uint64_t event_bytes;     /* of all those */
    uint64_t sessions;        /* machine/session.h */
    uint64_t session_answers; /* kept for one */
    uint64_t session_bytes;   /* of those */
    uint64_t lease_drift_ms;  /* reads by lease: how far clocks may drift apart in an election time-out; 0: none */
};

/* What an entry, or a query, is run under. */
struct vm_entry {
    uint64_t index;
    uint64_t term;
    uint64_t now_ms;
    uint64_t seed;        /* of ctx.random: the cluster and the index */
    uint32_t client;      /* not 0: a workload is asked what this client does next (script/trial.h) */
    struct slice session; /* of the client, borrowed until vm_end; no data: none */
};

enum vm_kind { VM_NONE, VM_COMMAND, VM_QUERY, VM_RAW };

enum vm_outcome {
    VM_OK,      /* `result` has the value appended */
    VM_REFUSED, /* `result` has the error map appended; nothing was changed */
    VM_PARK     /* memory or the native stack: this node must stop applying; vm_why says it */
};

/* Makes a host over `tree`. lua_bytes_max bounds Lua's memory. */
struct vm *vm_new(struct tree *tree, size_t lua_bytes_max);
void vm_free(struct vm *vm);

/* Loads a bundle under its mount's name. `map_number` gives each map of the module its number. OK; INVALID with lines in
 * `why`; NO_SPACE: this node has not the memory for it, vm_why says it. The same mount again: EXISTS. */
enum status vm_mount(struct vm *vm, struct slice bundle,
                     uint32_t (*map_number)(void *context, struct slice mount, struct slice map), void *context,
                     struct buffer *why) MUST_USE;

/* The same on a host whose state nobody keeps: it numbers the maps as they come. */
enum status vm_mount_apart(struct vm *vm, struct slice bundle, struct buffer *why) MUST_USE;

/* Forgets a mount that was just made (its init failed), or whose time is over. */
void vm_unmount(struct vm *vm, struct slice mount);

/* Takes a mount out with all its functions, so that another can have its name; then either puts it back, or frees it. */
struct vm_aside;
struct vm_aside *vm_set_aside(struct vm *vm, struct slice mount);
void vm_put_back(struct vm *vm, struct vm_aside *take_aside);
void vm_aside_free(struct vm *vm, struct vm_aside *take_aside);

/* A mount that is busy (its migration goes on) answers calls with BUSY. */
void vm_set_busy(struct vm *vm, struct slice mount, bool busy);

/* What a mount is: its module's name (valid while it is mounted) and version. False: there is no such mount. */
bool vm_describe(const struct vm *vm, struct slice mount, const char **module, double *version);

/* Whether the mount's module has a map, a timer, a function migrate. */
bool vm_has_map(const struct vm *vm, struct slice mount, struct slice map);
bool vm_has_timer(const struct vm *vm, struct slice mount, struct slice timer);
bool vm_has_migrate(const struct vm *vm, struct slice mount);
bool vm_has_upgrade_row(const struct vm *vm, struct slice mount);

/* Says that rows of the mount may be of older versions, those without a mark of `base`: its upgrade_row, which it must have, converts
 * them as they are read. 0: all are of its version. */
void vm_set_upgrade(struct vm *vm, struct slice mount, uint64_t base);

/* A map that the module in force before had, and this one has not. */
struct vm_old_map {
    const char *name; /* borrowed for the call */
    uint32_t number;
};

/* Calls the module's migrate, which it must have, with the version before; `old` maps are in its ctx.db, too. The answer is
 * the text "more" if it wants to go on in another entry. */
enum vm_outcome vm_migrate(struct vm *vm, struct slice mount, double from_version, const struct vm_old_map *old,
                           size_t old_count, struct buffer *result);

/* What "mount.name" is. For a mount that dispatches itself every name is VM_RAW. */
enum vm_kind vm_find(struct vm *vm, struct slice name);

/* Whether it is a command or query with `session = true`. */
bool vm_demands_session(struct vm *vm, struct slice name);

/* Starts an entry: its facts, limits, a full budget. */
void vm_begin(struct vm *vm, const struct vm_entry *entry, const struct vm_limits *limits);

/* Calls "mount.name" (must not be VM_NONE) with a MessagePack list of arguments. Changes of a refused call are rolled
 * back; those of a good one stay in the tree's undo list until the caller commits. */
enum vm_outcome vm_call(struct vm *vm, struct slice name, struct slice args, bool as_query, struct buffer *result);

/* Calls the module's init, if it has one. */
enum vm_outcome vm_init(struct vm *vm, struct slice mount, struct buffer *result);

/* Calls a timer of a mount with a MessagePack list of arguments. A mount or timer that is not there is VM_REFUSED. */
enum vm_outcome vm_fire(struct vm *vm, struct slice mount, struct slice name, struct slice args,
                        struct buffer *result);

/* Calls on_expire of the mount whose row ran out, if it has one: `key` with the map's number, `value` without its deadline. */
enum vm_outcome vm_expire(struct vm *vm, struct slice key, struct slice value, struct buffer *result);

/* Calls on_session_end of a mount, if it has one. */
enum vm_outcome vm_session_end(struct vm *vm, struct slice mount, struct slice session, struct buffer *result);

/* Ends the entry. */
void vm_end(struct vm *vm);

/* Whether the entry that was begun last has looked at its clock, or at rows with a ttl, which come and go by it. */
bool vm_read_clock(const struct vm *vm);

/* Whether it ended because its budget was spent. */
bool vm_ran_out(const struct vm *vm);

/* From now on maps read `view`; NULL: the tree again. For queries, between entries. */
void vm_look_at(struct vm *vm, const struct view *view);

/* Bounds Lua's memory otherwise; -> the bound until now. */
size_t vm_bound_memory(struct vm *vm, size_t bytes_max);

/* A place to go back to: rows and events. */
struct vm_mark {
    tree_mark rows;
    size_t events_bytes;
    uint32_t events;
};

struct vm_mark vm_savepoint(const struct vm *vm);
void vm_rollback(struct vm *vm, struct vm_mark mark);

/* What ctx.emit left since vm_events_clear: MessagePack lists [index, n, topic, key, data]. */
struct slice vm_events(const struct vm *vm);
void vm_events_clear(struct vm *vm);

/* Why the last call parked. */
const char *vm_why(const struct vm *vm);

/* Bytes of the Lua heap. */
size_t vm_lua_bytes(const struct vm *vm);

/* Calls `each` for every name of every mount: "kv.set", or "raw.*" for one that dispatches itself. */
void vm_names(const struct vm *vm, void (*each)(void *context, const char *name, enum vm_kind kind), void *context);

/* Calls `each` for every mount. */
void vm_mounts(const struct vm *vm,
               void (*each)(void *context, const char *mount, const char *module, double version,
                            struct hash128 hash),
               void *context);

/* --- for whoever tries out a service: no node calls these (script/desk.h) ------------------------------------------------ */

/* Turns on what the flags say, before anything is mounted. */
void vm_set_desk(struct vm *vm, unsigned flags);

/* What there is to say of the calls since it was asked last, once, until the next call; NULL: nothing. */
const char *vm_take_remark(struct vm *vm);

/* What all calls have charged to their budgets so far. */
uint64_t vm_spent(const struct vm *vm);

/* Appends a MessagePack list of the services' rows: [mount, map, key, value], and the deadline of one with a ttl. */
void vm_pack_rows(struct vm *vm, struct buffer *out);

/* Cluster time of the entry in progress, for os.time; random numbers for math.random. */
uint64_t vm_now_ms(struct lua_State *L);
double vm_random(struct lua_State *L);

#endif
