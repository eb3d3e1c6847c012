/* node/host_calls.h - requests to the host that one node answers itself: one table. Private to node/.
 *
 * Names that begin with "tidelock." are the host's. What changes the cluster, or needs its leader, goes to the replica
 * (replica/host_requests.c); the rest is here.
 */
#ifndef NODE_HOST_CALLS_H
#define NODE_HOST_CALLS_H

#include "wire/request.h"

struct node;

/* Takes any request of a client. */
void host_calls_take(struct node *node, uint64_t call, const struct request *request);

#endif
