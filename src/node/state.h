/* node/state.h - what the files of node/ share: one node, its threads, its peers. Private to node/. */
#ifndef NODE_STATE_H
#define NODE_STATE_H

#include <ev.h>

#include "net/connection.h"
#include "net/listener.h"
#include "net/rpc.h"
#include "net/sniff.h"
#include "node/node.h"
#include "node/watch.h"
#include "node/worker.h"
#include "replica/recover.h"
#include "replica/replica.h"

struct node;

struct node_link;

/* A member that this node keeps an outgoing link to. */
struct node_peer {
    struct node *node;
    node_id id;
    char address[256];
    struct dial *dial;
    struct dial *bulk_dial; /* for a link that pieces of a snapshot go on */
    struct connection *connection;
    struct node_link *node_link; /* with that connection */
    ev_timer retry;
    bool silent;         /* it was said that it does not answer */
    double wait_seconds; /* before the next attempt; doubles, with a bound */
};

/* A peer link's connection, incoming or outgoing. */
struct node_link {
    struct node *node;
    struct connection *connection;
    struct link *link;
    struct node_peer *peer; /* NULL: incoming */
};

struct node {
    struct ev_loop *loop;
    struct net *net;
    struct rpc *rpc;
    struct listener *listener;
    struct disk *disk;          /* the log thread's, once it runs */
    struct disk *snapshot_disk; /* the same directory, each for its thread */
    struct disk *transfer_disk;
    struct storage *storage;
    struct machine *machine;
    struct replica *replica;
    struct worker *log_thread;
    struct worker *machine_thread;
    struct worker *snapshot_thread;
    struct worker *transfer_thread;
    struct node_reader {
        struct reader *reader;
        struct worker *thread;
    } readers[REPLICA_READERS];
    struct watches watches;
    struct node_peer peers[REPLICA_PEERS_MAX]; /* id 0: none; nobody moves */
    uint64_t peers_version;
    ev_prepare turn;
    ev_timer wake;
    ev_signal terminate;
    ev_signal interrupt;
    ev_timer drain;
    int signals; /* to end, so far */
    bool draining;
    bool ending;
    int exit_code;
    struct buffer *why;
};

/* What time it is: clocks of the machine. */
struct replica_time node_time(void);

/* Takes an accepted socket. */
void node_accepted(void *context, int fd);

/* node/open.c: says why, -> exit_code; true randomness; what a first start needs, in words. */
int node_refuse(struct node *node, int exit_code, const char *sentence);
uint64_t node_random(void);
extern const char node_first_start_needs[];

/* Whether this may be listened at. */
int node_check_address(struct node *node, const struct node_options *options);

/* Opens port, identity, log and snapshot, in an order that leaves nothing behind when it is refused. -> exit code */
int node_open(struct node *node, const struct node_options *options, struct identity *identity,
              struct buffer *bundles, struct replica_recovered *recovered);

/* node/peers.c: dials whom the replica wants, and takes their links. Once a turn, too. */
void peers_follow(struct node *node);
void peers_stop(struct node *node);

/* Dials a member once more, for a bulk link. */
void peers_dial_bulk(struct node *node, node_id id);

/* Takes an incoming connection that began with the mark of a peer link. */
void peers_adopt(struct node *node, struct connection *connection);

#endif
