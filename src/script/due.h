/* script/due.h - rows of the state that wait for a moment of cluster time: timers, rows with a ttl, sessions.
 *
 * All are in one order, by deadline and then by creation (an id that only grows), as host rows of the tree: so rollback, snapshots
 * and the digest have them as they have everything.
 *
 *     VM_ROWS_DUE {kind, deadline, id} -> what       a timer: MessagePack text mount, text name, list of arguments
 *                                                     a row: bin key; and its value, once another has taken its place
 *                                                     a session: text
 *     VM_ROWS_DUE_OF {id} -> deadline                 of timers, for ctx.cancel
 *     VM_ROWS_DUE_OF {key} -> id                      of rows with a ttl
 *
 * A value with a ttl lies in its map as byte C1 (no MessagePack value has it), u64 deadline, big-endian, and the value. From its
 * deadline on a row is not there for the service, though it lies in the tree until an entry DUE takes it; if the service puts
 * another in its place before, the due row keeps the old value, so that on_expire is told of each row once.
 * Depends on state, wire/pack.h.
 */
#ifndef SCRIPT_DUE_H
#define SCRIPT_DUE_H

#include "state/tree.h"

enum due_kind { DUE_TIMER = 1, DUE_ROW = 2, DUE_SESSION = 3, DUE_KINDS = 3 };

enum { DUE_PREFIX_BYTES = 9, DUE_MARK = 0xC1 };

static const uint64_t DUE_NEVER = UINT64_MAX;
static const uint64_t DUE_TIME_MAX = (uint64_t)1 << 53; /* deadlines are numbers of keys */

struct due {
    enum due_kind kind;
    uint64_t deadline_ms;
    uint64_t id;
};

/* Notes what waits until `deadline_ms` under a new id, which it returns. */
uint64_t due_arm(struct tree *tree, enum due_kind kind, uint64_t deadline_ms, struct slice what);

/* As due_arm, with the id that it has. */
void due_set(struct tree *tree, const struct due *due, struct slice what);

/* What waits there: false if it is gone. Borrowed until the tree changes. */
bool due_get(const struct tree *tree, const struct due *due, struct slice *what);
bool due_drop(struct tree *tree, const struct due *due);

/* The first of a kind, and of all kinds; false: nothing waits. */
bool due_first(struct tree *tree, enum due_kind kind, struct due *due);
bool due_first_of_all(struct tree *tree, struct due *due);

/* The id that was given last: what is armed from now on has a greater one. */
uint64_t due_last_id(const struct tree *tree);

/* How many of a kind wait. */
uint64_t due_count(const struct tree *tree, enum due_kind kind);

/* --- timers ----------------------------------------------------------------------------------------------------------- */

uint64_t due_arm_timer(struct tree *tree, uint64_t deadline_ms, struct slice what);

/* The timer of this id; false: it has fired, was cancelled, or never was. */
bool due_find_timer(struct tree *tree, uint64_t id, struct due *due);
void due_drop_timer(struct tree *tree, const struct due *due);

/* Calls `each` for every timer that waits, in order, with its mount and function (borrowed); it may drop that timer. */
void due_each_timer(struct tree *tree,
                    void (*each)(void *context, const struct due *due, struct slice mount, struct slice name),
                    void *context);

/* --- rows with a ttl -------------------------------------------------------------------------------------------------- */

/* Splits a row's value: the deadline, DUE_NEVER for one without, and what a service sees of it. */
uint64_t due_split(struct slice *value);

/* Appends the prefix of a value with a deadline. */
void due_append_prefix(struct buffer *value, uint64_t deadline_ms);

/* A row with a deadline was put under `key`. */
void due_arm_row(struct tree *tree, struct slice key, uint64_t deadline_ms);

/* The row under `key`, which had `old` as its value, was removed or replaced: nothing waits for it any more; or if its time had
 * come, its value does. */
void due_forget_row(struct tree *tree, struct slice key, struct slice old, uint64_t now_ms);

/* Takes away a row whose time has come, with all that waited for it: `what` is what due_get gave. `key` gets the row's key and
 * `value` what a service sees of it (appended). */
void due_take_row(struct tree *tree, const struct due *due, struct slice what, struct buffer *key,
                  struct buffer *value);

/* Bounds of the due rows whose time has come by now_ms, for script/rows.c; and whether such a one stands for a row of a map
 * with lo <= key < hi (an empty bound is open). */
void due_bounds_of_past(struct buffer *from, struct buffer *to, uint64_t now_ms);
bool due_lies_within(struct slice what, struct slice lo, struct slice hi);

#endif
