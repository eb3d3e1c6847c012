/* sim/history_search.h - the search for an order of the operations on one key that explains every result.
 *
 * Wing and Gong's search: of the operations that could come next (they began before the earliest end of any that is not
 * placed yet) place one, go on, and come back to try another. Lowe's memory: a configuration (which are placed, and the
 * value) that was reached before is not searched again. What keeps it small:
 *
 * - Operations that change nothing, if they can be placed at all (get, a cas or del that gave 0), are placed as soon as
 *   their result fits: that never hurts, so nothing else is tried.
 * - A configuration is named by the operation that ends first of those not placed, and by which of those under way at its
 *   end are not placed: one bit for each slot, slots are as many as there are operations at the same time. So the room
 *   that it takes does not grow with the history, nor with how long one operation takes.
 * - Those of unknown outcome are tried last; of several alike the first one is tried; one is placed only right before an
 *   operation that could not be placed, or would not do the same, without it: else it may as well come later, or never. One
 *   configuration with fewer of them used stands for all that used those and more.
 * - Values that nobody ever saw or expected are one value.
 * - If nothing but append changes the key, each value is the beginning of the longest one that was read.
 *
 * Depends on sim/history.h, sim/history_value.h.
 */
#ifndef SIM_HISTORY_SEARCH_H
#define SIM_HISTORY_SEARCH_H

#include "sim/history.h"
#include "sim/history_value.h"

enum { SEARCH_NEVER = UINT32_MAX };

/* Values are numbers from the search's own table. */
struct search_op {
    enum history_kind kind;
    uint32_t began;
    uint32_t ended; /* SEARCH_NEVER: it may happen at any time after `began`, or never */
    bool known;     /* its result is checked: */
    uint32_t result;
    int64_t result_number;
    uint32_t old, value;
    int64_t number;
    /* The search's own: */
    bool changes_nothing;
    uint32_t slot; /* of one that ended; of another, its bit in `used` */
    uint32_t twin; /* of one that did not: the one before it that is alike, or SEARCH_NEVER */
};

struct search_link {
    uint32_t next, before;
};

struct search_frame {
    uint32_t placed; /* how many were, before this one was entered */
    uint32_t value;  /* and what the key was */
    uint32_t cursor; /* the next one to try */
    uint32_t trying; /* enum trying */
};

struct search {
    /* Set by the caller. */
    const struct history_limits *limits;
    struct search_op *ops; /* in order of begin */
    uint32_t count, capacity;
    struct values values;
    uint32_t first; /* what the key is in the beginning */
    bool
        all_states; /* for `states` as clients would see them: no merging of values, those of unknown outcome are placed
                      * everywhere, at the price of a longer search */

    /* The answer: the end that was not passed, furthest on; the values that the key can have had when it was due. After yes:
     * `value` is the last one. */
    uint32_t furthest;
    uint32_t states[HISTORY_STATES_MAX];
    uint32_t states_count;
    bool states_more;
    bool out_of_memory, stopped;
    uint64_t steps; /* of all runs */
    uint32_t value;

    /* Its own. */
    struct search_link *order; /* not placed, in order of begin: those that ended, and those that did not */
    struct search_link *ends;  /* those that ended, in order of end */
    uint32_t lists_capacity;
    uint32_t slots, pending;    /* how many */
    uint32_t words, used_words; /* of 64 bits each, for them */
    uint64_t *open, *used;
    uint32_t words_capacity, used_capacity;
    uint8_t *chains; /* by value: a cas of unknown outcome expects it */
    uint32_t chains_count;
    bool chains_any; /* an append or incr of unknown outcome takes any */
    uint32_t ahead;  /* the longest value that was read, or VALUE_MISSING */
    uint32_t *placed;
    uint32_t placed_count, placed_capacity;
    struct search_frame *frames;
    uint32_t frames_count, frames_capacity;
    uint64_t *memory; /* configurations, one after another */
    size_t memory_size, memory_capacity;
    uint32_t *heads;
    uint32_t heads_size, configurations;
    uint64_t budget;
};

void search_close(struct search *search);

/* Empties it for another key (or another part of its history). */
void search_reset(struct search *search);

/* Adds an operation, in order of begin; its values come from search->values. */
void search_add(struct search *search, const struct search_op *op);

/* What no order explains, seen without a search: a value that was read and nobody had begun to write, two that were read and
 * neither is the beginning of the other where append alone changes the key. The first end by which it is so, if no
 * failure told later matters; or SEARCH_NEVER. (sim/history_obvious.c) */
uint32_t search_obvious(const struct search *search);

/* Whether values are what was written: neither append nor incr is there. (sim/history_obvious.c) */
bool search_writes_alone(const struct search *search);

/* The longest value that was read, if append alone changes the key; else VALUE_MISSING. (sim/history_obvious.c) */
uint32_t search_longest_read(const struct search *search);

/* Fills in what is the search's own. (sim/history_prepare.c) */
void search_prepare(struct search *search);

/* Searches, at most `budget` steps. May be called once for what was added. */
enum history_verdict search_run(struct search *search, uint64_t budget);

#endif
