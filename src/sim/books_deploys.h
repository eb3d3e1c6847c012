/* sim/books_deploys.h - versions of the simulator's own service that are deployed in a seed, and which of them answered when.
 *
 * A version is the text of lua/tidelock/books.lua with another line VERSION: good ones whose migrate does all in one entry or in many,
 * ones whose migrate fails at once or late, ones with another timer, which are refused while timers of the old name wait, ones whose
 * version does not grow, and ones that were made against other code than what is in force.
 * All answers from one index on are of one version, as the deploys that were acknowledged say. Depends on sim/replica_world.h,
 * script/bundle.h.
 */
#ifndef SIM_BOOKS_DEPLOYS_H
#define SIM_BOOKS_DEPLOYS_H

#include "sim/replica_world.h"

struct books_deploys;

struct books_deploys *books_deploys_new(void);
void books_deploys_free(struct books_deploys *deploys);

/* Appends the bundle of the service; `line` in place of its line VERSION, unless NULL. */
void books_deploys_bundle(const char *line, struct buffer *bundle);

/* Asks a node that is up to deploy the next version after the one in force there; `amount` says of which sort. */
void books_deploys_ask(struct books_deploys *deploys, struct replica_world *world, uint32_t node, uint32_t amount);

/* A query for the version was answered at this index. */
void books_deploys_saw(struct books_deploys *deploys, uint64_t index, struct slice value);

/* False: `wrong` gets what is. */
bool books_deploys_fine(const struct books_deploys *deploys, const struct replica_world *world, char *wrong,
                        size_t size);

#endif
