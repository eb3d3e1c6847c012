/* sim/service.h - anybody's service as the workload of a seed (sim/swarm.h).
 *
 * What clients ask is the module's workload(ctx), or made up from the declared arguments of its commands and queries. A
 * client that does not know how its command ended repeats it half the time, as clients do. Whatever the service is, in the
 * end the log that was applied is applied once more to a fresh machine, and compared with what clients were told:
 *
 *   - every answer of a command, ok or refused, is what its entry gives, and the entry is that command;
 *   - no entry answers two commands; what certainly had no effect is not in the log, nothing is there more often than it
 *     was asked for, nothing that nobody asked for;
 *   - a query's answer is what the state gave at the index it was read at (unless the query looks at the clock);
 *   - nobody is answered from before what somebody had been told when the request began: a command comes after it, a query
 *     sees it;
 *   - the state is the one that the nodes have.
 *
 * Depends on sim/swarm.h, machine, script/trial.h.
 */
#ifndef SIM_SERVICE_H
#define SIM_SERVICE_H

#include "sim/swarm.h"

struct service;

/* `bundle` is borrowed. NULL: `why` gets a sentence (it cannot be loaded, or there is no way to think of commands). */
struct service *service_new(struct slice bundle, struct buffer *why);
void service_free(struct service *service);

/* For struct swarm_options; valid as long as the service, for one run. */
struct workload service_workload(struct service *service);

#endif
