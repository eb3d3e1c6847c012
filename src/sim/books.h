/* sim/books.h - the simulator's own workload: clients of lua/tidelock/books.lua, and what was told to each.
 *
 * Keys are registers or counters; each command carries a number of its own. In the end the numbers that the state holds
 * are compared with what clients were told. Depends on sim/swarm.h.
 */
#ifndef SIM_BOOKS_H
#define SIM_BOOKS_H

#include "sim/swarm.h"

struct books;

struct books *books_new(uint64_t seed);
void books_free(struct books *books);

/* For struct swarm_options; valid as long as the books. */
struct workload books_workload(struct books *books);

/* The service as a MessagePack list of one bundle, appended. */
void books_bundles(struct buffer *out);

#endif
