/* node/node.h - one real node: sockets, threads and clocks around a replica.
 *
 *     loop thread     libev: sockets, timers, the replica and its core
 *     log thread      storage: write, sync (node/worker.h)
 *     machine thread  Lua: apply, queries
 *     snapshot thread Lua of its own: snapshots taken and read (replica/snapshot.c)
 *     transfer thread snapshots' files, piece by piece
 *
 * Handlers only decode and gather; once a turn of the loop the replica does what has gathered (replica_turn), then all
 * sockets are written. Depends on everything below it, libev, threads.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "base/slice.h"
#include "base/trace.h"
#include "replica/replica.h"

enum {
    NODE_HEARTBEAT_MS = 100,
    NODE_ELECTION_MS = 1000,
    NODE_SNAPSHOT_KEEP_BYTES = 512 * 1024 * 1024, /* of the log behind a snapshot, at most */
    NODE_DRAIN_MS = 5000,                         /* at SIGTERM: requests in progress may take this long */

    NODE_EXIT_OK = 0,
    NODE_EXIT_FAILED = 1, /* the log failed */
    NODE_EXIT_USAGE = 2,
    NODE_EXIT_CONFIG = 78, /* the flags, the data directory and the cluster do not go together */
    NODE_EXIT_INTERRUPTED = 130
};

struct node_options {
    node_id id;
    const char *data;            /* directory */
    const char *listen;          /* HOST:PORT */
    const char *advertise;       /* HOST:PORT that leads here, if it is another; NULL: not given */
    struct replica_self self;    /* zone, tags, priority, as far as given */
    const char *cluster;         /* "1=H:P,2=H:P,..." of the first start; NULL: not given */
    const struct slice *bundles; /* of the first start, in the order of the flags */
    size_t bundles_count;
    uint32_t heartbeat_ms;  /* 0: default */
    uint32_t election_ms;   /* 0: default */
    uint64_t segment_bytes; /* 0: default */
    size_t lua_bytes_max;   /* 0: default */
    struct replica_snapshots snapshots;
    uint64_t scrub_rate; /* bytes of the state a second; 0: off */
    bool joins;          /* it has told the cluster where it is, just now */
    bool insecure;       /* may listen beyond loopback */
    enum log_level log_level;
    enum log_format log_format;
};

/* Runs a node until it is told to end (SIGTERM, SIGINT) or must. Everything in `options` is borrowed for the call. Returns
 * the exit code; if it is not 0, `why` has the sentence that says why, and what to do. */
int node_run(const struct node_options *options, struct buffer *why);

/* `start --join`, before node_run: makes the identity of a node that joins, if there is none. *cluster_id: of the cluster
 * that has let it in before; 0: none has. Between the two the cluster is asked (tidelock.join), and its id goes into the second. Both return an exit code and a sentence, like node_run. */
int node_join_begin(const struct node_options *options, uint64_t *incarnation, uint64_t *cluster_id,
                    struct buffer *why);
int node_join_end(const struct node_options *options, uint64_t cluster_id, struct buffer *why);

#endif
