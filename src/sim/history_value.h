/* sim/history_value.h - the texts that a key can hold, each once, so that a state of the search is one number.
 *
 * A text that grew by append is kept as what it was and the piece: a long list of appends takes room for its pieces, not for
 * every length that it had. Two ways to the same text give the same number, by its hash and then byte for byte.
 *
 * Depends on base.
 */
#ifndef SIM_HISTORY_VALUE_H
#define SIM_HISTORY_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/slice.h"

enum { VALUE_MISSING = 0 };

struct value_node;

struct values {
    struct value_node *nodes; /* by number; the first is VALUE_MISSING */
    uint32_t count, capacity;
    uint32_t *heads; /* of lists by hash */
    uint32_t heads_size;
    struct value_edge *edges; /* (state, piece) -> number, open addressing */
    uint32_t edges_count, edges_size;
    struct pool pool; /* texts of numbers */
    size_t bytes;     /* of memory in use */
};

/* A zeroed struct is empty; values_reset makes it so again and keeps what memory is small. */
void values_reset(struct values *values);
void values_close(struct values *values);

/* The number of a text; its bytes are borrowed until the next reset. */
uint32_t values_intern(struct values *values, struct slice text);

/* The number of state (or nothing, if missing) followed by piece, which values_intern gave. */
uint32_t values_append(struct values *values, uint32_t state, uint32_t piece);

/* The number of state + n; false if state is no number or the sum is none of 64 bits. */
bool values_add(struct values *values, uint32_t state, int64_t n, uint32_t *next, int64_t *sum);

/* Its length, 0 if missing; the bytes of one that values_intern gave; its first bytes, at most `room`. */
uint64_t values_size(const struct values *values, uint32_t value);
struct slice values_flat(const struct values *values, uint32_t value);
size_t values_copy(const struct values *values, uint32_t value, char *out, size_t room);

/* A decimal number as a 64-bit signed one prints: no plus, no zeros in front. */
bool value_parse_number(struct slice text, int64_t *number);

#endif
