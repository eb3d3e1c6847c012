/* sim/replica_world_private.h - what the files of a world of replicas share. Private to sim/. */
#ifndef SIM_REPLICA_WORLD_PRIVATE_H
#define SIM_REPLICA_WORLD_PRIVATE_H

#include "base/prng.h"
#include "replica/formation.h"
#include "replica/recover.h"
#include "sim/replica_world.h"
#include "sim/witness.h"

enum { WORLD_JOBS_MAX = 64 };

enum world_event_kind {
    WORLD_WAKE,
    WORLD_DIAL,
    WORLD_LOG_RUN,
    WORLD_LOG_DONE,
    WORLD_MACHINE_DONE,
    WORLD_SNAPSHOT_RUN,
    WORLD_SNAPSHOT_DONE,
    WORLD_TRANSFER_RUN,
    WORLD_TRANSFER_DONE,
    WORLD_VIEW_DONE, /* `side`: of which reader */
    WORLD_BULK,      /* a bulk link is dialled; `side`: to which node */
    WORLD_ACCEPT,    /* from here on: of a connection */
    WORLD_BYTES,
    WORLD_END
};

struct world_event {
    uint64_t at;
    uint64_t order; /* breaks ties: first made, first run */
    enum world_event_kind kind;
    uint32_t node;
    uint32_t life;
    struct world_wire *wire;
    uint32_t side;
    size_t bytes;
};

/* One connection; side 0 dialled, side 1 was dialled. */
struct world_wire {
    uint64_t to_id; /* whom it was dialled for, at that node */
    struct replica_world *world;
    uint32_t number;
    bool bulk;
    uint32_t events; /* in the heap */
    struct world_end {
        struct world_wire *wire;
        uint32_t side;
        uint32_t node;     /* REPLICA_WORLD_NOBODY: outside */
        struct link *link; /* NULL: this side has closed, or is not there yet */
        bool closed;
        bool close_asked;
        struct buffer stream; /* on the way to this side */
        struct buffer input;  /* arrived, not used yet */
        struct buffer held;   /* a frame that the next one overtakes */
        uint64_t last_at;
    } ends[2];
    struct world_wire *next;
};

/* A thread for snapshots or for their files. */
struct world_thread {
    struct snapshot_job *jobs[WORLD_JOBS_MAX];
    size_t count, ran;
    uint64_t until;
};

/* What the transcript has said of a node's core last. */
struct world_told {
    bool any;
    enum raft_role role;
    raft_term term;
    node_id voted_for, leader;
    raft_index commit;
};

struct world_node {
    struct replica_world *world;
    uint32_t number;
    uint32_t life; /* grows with each start and crash */
    node_id id;
    uint64_t runtime; /* 0 unless replica_world_runtime says another */
    char line[512];
    struct buffer bundles;
    struct disk *disk;
    struct storage *storage;
    struct machine *machine;
    struct replica *replica;        /* NULL: down */
    uint64_t boot_base, boot_since; /* its boot clock was boot_base at boot_since of the world's */
    int32_t drift_ppm;
    int64_t skew;
    uint64_t paused_until;
    uint32_t write_ms_max, apply_ms_max, snapshot_ms_max;
    uint64_t wake_at;
    struct log_job *log_jobs[WORLD_JOBS_MAX];
    size_t log_count, log_ran;
    uint64_t log_until, hang_until;
    struct machine_job *machine_jobs[WORLD_JOBS_MAX];
    size_t machine_count;
    uint64_t machine_until;
    struct world_thread snapshots, transfers;
    struct world_reader {
        struct reader *reader; /* NULL: it had no job yet */
        struct view_job *job;  /* NULL: it has none */
    } readers[REPLICA_READERS];
    bool close_asked; /* some link is to be closed after the turn */
    bool dying;
    bool stopping;
    struct world_told told;
    int fatal_code;
    char fatal[1000];
};

struct world_request {
    uint32_t node;
    uint32_t life;
    struct replica_world_reply reply;
    struct buffer value;
};

struct world_watch;

struct replica_world {
    struct replica_world_options options;
    struct prng prng;
    uint64_t now;
    uint64_t order;
    struct world_event *heap;
    size_t count, capacity;
    struct world_node nodes[REPLICA_WORLD_NODES_MAX];
    struct world_wire *wires; /* youngest first */
    uint32_t wires_count;
    bool cut[REPLICA_WORLD_NODES_MAX][REPLICA_WORLD_NODES_MAX];
    bool stalled[REPLICA_WORLD_NODES_MAX][REPLICA_WORLD_NODES_MAX];
    struct world_request *requests;
    size_t requests_count, requests_capacity;
    struct replica_world_loss loss;
    struct world_watch *watches; /* replica_clients.c */
    size_t watches_count;
    uint64_t told_events; /* jobs whose entries told some */
    struct witness *witness;
    struct transcript transcript;
    struct buffer log; /* what was applied, if it is kept */
    raft_index log_last;
    uint64_t events; /* that were run */
    uint64_t taken, installed;
    uint64_t hash;
    char broken[600];
};

/* replica_heap.c: behind all that were added before; in its old order; the next one. */
void world_event_add(struct replica_world *world, struct world_event event);
void world_event_put(struct replica_world *world, struct world_event event);
struct world_event world_event_take(struct replica_world *world);

/* replica_world.c */
struct replica_time world_time(const struct world_node *node);
void world_break(struct replica_world *world, const char *what, uint64_t a, uint64_t b);
void world_hash_in(struct replica_world *world, uint64_t value);
void world_after(struct world_node *node);

/* replica_trace.c; each does nothing when the transcript is off. */
bool world_tells(struct world_node *node, const char *kind);
void world_trace_start(struct world_node *node, bool started);
void world_trace_end(struct world_node *node);
void world_trace_state(struct world_node *node);
/* A snapshot was "taken", so that it counts, or "installed". */
void world_trace_snapshot(struct world_node *node, const char *what, raft_index index);
void world_trace_log_job(struct world_node *node, const struct log_job *job, bool ran);
void world_trace_applied(struct world_node *node, const struct machine_job *job);
/* `bytes` begin with frames, the first perhaps after the mark that begins a connection; `kind`: "send" or "receive", or what
 * becomes of what is sent: "lose", "hold", "double". */
void world_trace_frames(struct world_node *node, const char *kind, uint32_t other, struct slice bytes);
void world_trace_request(struct world_node *node, uint32_t number, const struct request *request);
void world_trace_reply(struct world_node *node, uint64_t number, const struct replica_reply *reply);

/* replica_wires.c */
bool world_env_send(void *context, struct link *link, const struct slice *parts, size_t parts_count);
void world_env_close(void *context, struct link *link);
void world_wires_dial(struct world_node *node);
void world_wires_dial_bulk(struct world_node *node, node_id peer);

/* replica_threads.c */
void world_env_snapshot(void *context, struct snapshot_job *job);
void world_env_transfer(void *context, struct snapshot_job *job);
void world_env_view(void *context, struct view_job *job);
void world_env_dial_bulk(void *context, node_id peer);
void world_threads_event(struct world_node *node, const struct world_event *event);
void world_threads_crash(struct world_node *node);
void world_node_event(struct world_node *node, enum world_event_kind kind, uint64_t at, uint32_t side);
void world_wires_event(struct replica_world *world, const struct world_event *event);
void world_wires_close(struct world_node *node);
void world_wires_crash(struct world_node *node);
void world_wires_free(struct replica_world *world);

#endif
