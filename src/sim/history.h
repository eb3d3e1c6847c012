/* sim/history.h - what clients did and what they were told, and whether one copy of the data could have answered so.
 *
 * A history is a sequence of events: operations begin and end, on keys. It is linearizable if each operation can be given
 * one moment between its begin and its end at which it happened, such that every result is right (Herlihy and Wing). Keys
 * are judged one by one: a history is linearizable exactly if that of each key is. The search is that of Wing and Gong
 * with Lowe's memory of what was tried (sim/history_search.h). Deciding is NP-hard: within its limits it answers yes, no
 * or unknown, and never guesses.
 *
 * Operations: a key is missing or has a text.
 *   get           gives it                      append V   missing counts as empty
 *   put V                                       incr N     missing counts as 0; gives the new number
 *   cas OLD NEW   1 if it was OLD, else 0       del        1 if it was there, else 0
 * A number is what a 64-bit signed one prints as. incr of any other text, or beyond 64 bits, cannot happen: a service
 * refuses it, and then it ended FAIL or its outcome is INFO.
 *
 * Depends on base.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct history;

enum history_kind {
    HISTORY_GET,
    HISTORY_PUT,
    HISTORY_APPEND,
    HISTORY_CAS,
    HISTORY_INCR,
    HISTORY_DEL,
    HISTORY_KINDS
};

/* How an operation ended. One that did not, or INFO, may happen at any time after its begin, or never. */
enum history_end {
    HISTORY_OPEN,
    HISTORY_OK,
    HISTORY_FAIL, /* it certainly did not happen */
    HISTORY_INFO
};

struct history_call {
    enum history_kind kind;
    struct slice key;
    struct slice value; /* put, append: V; cas: NEW */
    bool has_old;       /* cas: OLD is `old`, else missing */
    struct slice old;
    int64_t number; /* incr: N */
};

/* What an operation that ended OK gave. put and append give nothing: known is false. */
struct history_result {
    bool known;   /* false: whatever it was */
    bool present; /* get: the key had `value`, else it was missing */
    struct slice value;
    int64_t number; /* cas and del: 0 or 1; incr: the new number */
};

struct history *history_new(void);
void history_free(struct history *history);

/* Events, in the order in which they happened. Bytes are copied. An operation is named by its number, from 0; it ends once,
 * and any number of them may be under way, of one client too. */
uint32_t history_begin(struct history *history, const struct history_call *call);
void history_end(struct history *history, uint32_t op, enum history_end end, const struct history_result *result);

/* How many events, operations and keys there are. */
uint32_t history_events(const struct history *history);
uint32_t history_ops(const struct history *history);
uint32_t history_keys(const struct history *history);

enum history_verdict { HISTORY_LINEARIZABLE, HISTORY_NOT_LINEARIZABLE, HISTORY_UNKNOWN };

/* How hard to try. Steps make the same verdict everywhere. */
struct history_limits {
    uint64_t steps;       /* in all; 0: no limit */
    uint64_t first_steps; /* for each key in the first round; 0: as usual */
    size_t bytes;         /* of memory for one key; 0: HISTORY_BYTES */
    /* Asked now and then: true ends the search. NULL: no such limit. */
    bool (*stop)(void *context);
    void *context;
};

#define HISTORY_BYTES ((size_t)512 * 1024 * 1024)
enum { HISTORY_STATES_MAX = 8, HISTORY_STATE_BYTES = 120 };

/* What a key can have been: missing, or a text that begins with `bytes` and is `size` long. */
struct history_state {
    bool present;
    uint64_t size;
    char bytes[HISTORY_STATE_BYTES];
};

struct history_report {
    enum history_verdict verdict;
    uint64_t steps;
    uint32_t undecided; /* keys that remain so */
    /* UNKNOWN: one key that is undecided. NOT_LINEARIZABLE: the key that shows it. Valid as long as the history. */
    struct slice key;
    /* NOT_LINEARIZABLE: the first `events` events show it, and no fewer do (shortest: known for certain). The last of them is
     * the end of `op`: a result that no order explains, or a failure of what must have happened. */
    uint32_t events;
    bool shortest;
    uint32_t op;
    enum history_end end;
    /* What the key can have been when a result of `op` was due; states_more: and other than these. */
    uint32_t states;
    bool states_more;
    struct history_state state[HISTORY_STATES_MAX];
};

/* Judges all events so far. May be called again. */
void history_check(struct history *history, const struct history_limits *limits, struct history_report *report);

/* Event `at`: which operation, and whether it is its end; of which key the operation is. */
uint32_t history_event_op(const struct history *history, uint32_t at, bool *is_end);
struct slice history_op_key(const struct history *history, uint32_t op);

#endif
