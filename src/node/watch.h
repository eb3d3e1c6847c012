/* node/watch.h - clients that watch events: tidelock.watch and its notifications. Private to node/.
 *
 *     [0, id, "tidelock.watch", [mount, topic?, prefix?, from?]] -> [1, id, nil, {from: ID}]
 *     then, in order, each once                                  -> [2, "tidelock.event", [ID, topic, key, data]]
 *     and if it cannot go on, before the connection is closed    -> [2, "tidelock.watch_end", [{code, message, data}]]
 *
 * `from` in the answer is where it begins: with it a client that was told no event yet can go on elsewhere. All watch the
 * one ring of the replica (replica/events.h); what a client does not take fast enough waits there, not here. A watch ends
 * with its connection.
 */
#ifndef NODE_WATCH_H
#define NODE_WATCH_H

#include "net/rpc.h"
#include "replica/events.h"

struct node;

struct watch {
    struct rpc_client *client;
    struct event_filter filter;
    struct event_cursor cursor;
    struct watch *next;
};

/* All watches of a node. Zero it before first use. */
struct watches {
    struct watch *list;
    size_t count;
    uint64_t version; /* of the ring, when all had read it to its end */
    bool more;        /* some have more to be told at once */
    bool blocked;     /* some wait for their sockets */
};

void watch_begin(struct node *node, uint64_t call, const struct request *request);

/* Tells what is new. Once a turn, before sockets are written. */
void watch_turn(struct node *node);

/* This client is gone. */
void watch_gone(struct node *node, struct rpc_client *client);

#endif
