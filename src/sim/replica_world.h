/* sim/replica_world.h - replicas on virtual time: the real replica, storage, machine and Lua over modelled threads, wires
 * and disks.
 *
 * Jobs of the log and of the machine take time and are done in order; a crash may fall between a write and its report.
 * Connections are streams of bytes that arrive in pieces; they can be cut, broken and stalled. One heap of events, one
 * seed. After each event: no request has two ends, and no two machines differ at an index.
 * Nodes are numbered from 0 here; node i has the id i + 1. Depends on replica and everything below.
 */
#ifndef SIM_REPLICA_WORLD_H
#define SIM_REPLICA_WORLD_H

#include "replica/replica.h"
#include "sim/transcript.h"

struct replica_world;
struct members; /* wire/members.h */

enum { REPLICA_WORLD_NODES_MAX = 7, REPLICA_WORLD_NOBODY = 255, REPLICA_WORLD_LINE_BYTES = 128 };

struct replica_world_options {
    uint64_t seed;
    uint32_t nodes;
    uint32_t delay_ms_max; /* of bytes on their way, from 1 */
    uint32_t write_ms_max; /* of a log job, from 0; twice: until it is done, and until that is known */
    uint32_t apply_ms_max; /* of a machine job, from 0 */
    /* Of a job of the snapshot thread, from 0: twice, as for the log; a tenth: of a transfer's. */
    uint32_t snapshot_ms_max;
    uint32_t election_ms;
    uint32_t heartbeat_ms;
    size_t lua_bytes_max;
    uint64_t scrub_rate;    /* 0: off */
    size_t events_bytes;    /* of events kept at each node; 0: as a real node */
    size_t cache_bytes;     /* of recent records at each node; 0: as a real node */
    uint64_t segment_bytes; /* of the log; 0: 256 KiB */
    struct replica_snapshots snapshots;
    bool
        invariants; /* of the modules: each machine holds its state against them after each entry, and parks never */
    bool keep_log;  /* for replica_world_log */
};

struct replica_world_reply {
    uint32_t replies; /* 0: none yet; 1 */
    bool node_died;   /* the node that was asked is gone: no reply will come */
    bool ok;
    bool definite;
    uint64_t index;
    uint64_t at;        /* virtual ms */
    struct slice value; /* valid until the world is freed */
};

struct replica_world_status {
    bool up;
    bool paused;
    bool raft;     /* formed, as far as raft is concerned */
    uint32_t role; /* enum raft_role */
    uint64_t term;
    uint64_t leader;
    uint64_t commit;
    uint64_t last;
    uint64_t applied;
    uint64_t digest_hi, digest_lo;
    uint64_t stamp_ms;  /* the machine's cluster time */
    uint64_t timers;    /* that wait there */
    uint64_t parked_at; /* of the machine */
    bool parked;        /* it answers nothing; why: */
    char parked_why[256];
    uint64_t scrubbed;
    uint64_t cluster_id;
    uint64_t incarnation;
    uint32_t formation;
    uint64_t base;                          /* the log begins after it */
    uint64_t snapshot;                      /* index of the newest that counts here; 0: none */
    uint64_t agreed;                        /* digests were agreed on there last */
    uint64_t taken, failed, sent, received; /* snapshots, in this life */
    uint64_t fetched;                       /* bytes of them */
    bool differs;
    bool installing; /* a leader's snapshot is about to count */
    int fatal_code;  /* of the last life that ended itself; 0: none did */
};

/* The cluster line of `nodes` members, 1 and up, at the addresses by which their nodes find each other. */
void replica_world_line(uint32_t nodes, char line[REPLICA_WORLD_LINE_BYTES]);

/* All nodes are down at first. `line` and `bundles` (a MessagePack list) are what each is first started with. */
struct replica_world *replica_world_new(const struct replica_world_options *options, const char *line,
                                        struct slice bundles);
void replica_world_free(struct replica_world *world);

/* From its next start on the node says that its runtime is of that version; of all others it is 0. */
void replica_world_runtime(struct replica_world *world, uint32_t node, uint64_t version);

/* What a node is started with from now on, if it differs from the others. Without a line it joins: replica_world_joiner. */
void replica_world_flags(struct replica_world *world, uint32_t node, uint64_t id, const char *line,
                         struct slice bundles);

/* Starts a node that is down. False: it refused; replica_world_fatal says why. */
bool replica_world_start(struct replica_world *world, uint32_t node);
void replica_world_crash(struct replica_world *world, uint32_t node);
/* Where others find it. */
enum { REPLICA_WORLD_ADDRESS_BYTES = 16 };
void replica_world_address(uint32_t node, char address[REPLICA_WORLD_ADDRESS_BYTES]);

/* The members as this node's log has them; *pending: a change is under way there. False: it is down, or knows none. */
bool replica_world_members(const struct replica_world *world, uint32_t node, struct members *members,
                           bool *pending);

/* What `start --join` does to a directory before the node runs: makes its identity, if there is none, and with a cluster's id, once that has
 * let it in, completes it. Returns the incarnation; 0: the disk did not take it. */
uint64_t replica_world_joiner(struct replica_world *world, uint32_t node, uint64_t cluster_id);
/* SIGTERM: replica_stop; the node ends once it has drained. */
void replica_world_stop(struct replica_world *world, uint32_t node);
const char *replica_world_fatal(const struct replica_world *world, uint32_t node);

/* From now on everything that happens is told, line by line (sim/transcript.h); a sink without a function: nothing is. Its
 * context must live as long as the world. Whoever drives the world may add lines of its own, at replica_world_now. */
void replica_world_trace(struct replica_world *world, struct trace_sink sink);
struct transcript *replica_world_transcript(struct replica_world *world);

/* Runs for `ms`. NULL, or what was found broken (valid until the world is freed). */
const char *replica_world_run(struct replica_world *world, uint64_t ms);
uint64_t replica_world_now(const struct replica_world *world);
uint64_t replica_world_hash(const struct replica_world *world);
uint64_t replica_world_events(const struct replica_world *world);
/* Bytes of all files on a node's disk, with what is still to be made durable. */
uint64_t replica_world_disk_bytes(struct replica_world *world, uint32_t node);
/* Snapshots that came to count because they were taken, and leaders' that were installed, in all lives. */
uint64_t replica_world_taken(const struct replica_world *world);
uint64_t replica_world_installed(const struct replica_world *world);
/* The highest index that was ever committed. */
uint64_t replica_world_committed(const struct replica_world *world);

/* With options.keep_log: whole records, 1 .. of all that a machine has applied; valid until the world runs on. */
struct slice replica_world_log(const struct replica_world *world);

/* Asks a node; -> a number for replica_world_reply. `args`: one MessagePack list. */
uint32_t replica_world_request(struct replica_world *world, uint32_t node, struct slice name, struct slice args,
                               uint32_t timeout_ms, bool stale, bool forward, bool query_only);
uint32_t replica_world_ask(struct replica_world *world, uint32_t node, const struct request *request);
struct replica_world_reply replica_world_reply(const struct replica_world *world, uint32_t request);
/* tidelock.snapshot, answered as a request is. */
uint32_t replica_world_snapshot(struct replica_world *world, uint32_t node, uint32_t timeout_ms);
/* The memory of its machine has run out, by no fault of the log: it parks with its next job. False: it is down, or parked. */
bool replica_world_starve(struct replica_world *world, uint32_t node);
/* tidelock.rebuild. */
uint32_t replica_world_rebuild(struct replica_world *world, uint32_t node, uint32_t timeout_ms);
/* Memory rots: a bit of a row of a node's state flips, about the one of this rank; `what` names it. False: none could. */
bool replica_world_rot(struct replica_world *world, uint32_t node, uint64_t rank, struct buffer *what);

/* Watches events of a node, as tidelock.watch with these arguments does: -> a number, or UINT32_MAX and `error` gets the map. */
uint32_t replica_world_watch(struct replica_world *world, uint32_t node, struct slice args, struct buffer *error);

/* Where it began: an id as text. */
void replica_world_watch_from(const struct replica_world *world, uint32_t watch, struct buffer *out);

enum replica_world_told {
    REPLICA_WORLD_NOTHING, /* yet */
    REPLICA_WORLD_EVENT,   /* `out` got the list [id, topic, key, data] */
    REPLICA_WORLD_ENDED,   /* `out` got an error map */
    REPLICA_WORLD_GONE     /* the node's life has ended */
};
enum replica_world_told replica_world_next(struct replica_world *world, uint32_t watch, struct buffer *out);
/* Grows whenever some node has told new events. */
uint64_t replica_world_events_told(const struct replica_world *world);

/* Asks a node's machine at once, past consensus: for verdicts when all is at rest. The bytes are a MessagePack value (or the
 * error map), at the end of `out`; true: it is an answer. */
bool replica_world_peek(struct replica_world *world, uint32_t node, struct slice name, struct slice args,
                        struct buffer *out);
void replica_world_status(const struct replica_world *world, uint32_t node, struct replica_world_status *status);
/* What a node that is up answers to tidelock.status: appends a MessagePack map. */
void replica_world_pack_status(const struct replica_world *world, uint32_t node, struct buffer *out);
/* The node that leads in the highest term; REPLICA_WORLD_NOBODY. */
uint32_t replica_world_leader(const struct replica_world *world);

/* Wires: no connection from -> to can be made or kept; the one there is breaks once; bytes stop arriving for a while. */
void replica_world_cut(struct replica_world *world, uint32_t from, uint32_t to, bool cut);
void replica_world_break(struct replica_world *world, uint32_t from, uint32_t to);
void replica_world_stall(struct replica_world *world, uint32_t from, uint32_t to, bool stalled);
/* The bulk link from -> to breaks, if there is one: true. */
bool replica_world_break_bulk(struct replica_world *world, uint32_t from, uint32_t to);

/* What becomes of frames of the core (RAFT messages): parts in a million are lost, doubled, overtaken by the next one. */
struct replica_world_loss {
    uint32_t lost;
    uint32_t doubled;
    uint32_t overtaken;
};
void replica_world_lose(struct replica_world *world, struct replica_world_loss loss);
/* Bytes are on their way for 1 to this many ms. */
void replica_world_delay(struct replica_world *world, uint32_t delay_ms_max);

/* Opens a connection to a node from outside and sends these bytes; -> its number. */
uint32_t replica_world_say(struct replica_world *world, uint32_t node, struct slice bytes);
/* What came back on it so far; *open: the node has not closed it. */
struct slice replica_world_heard(const struct replica_world *world, uint32_t connection, bool *open);

/* Disks, scripts, processes and clocks. Nothing of a paused node runs until then; a further pause makes it no shorter. A
 * drifting boot clock runs faster by so many parts in a million, or slower; a skewed wall clock is off by so much. */
void replica_world_hang(struct replica_world *world, uint32_t node, uint64_t ms);
void replica_world_slow(struct replica_world *world, uint32_t node, uint32_t write_ms_max, uint32_t apply_ms_max);
void replica_world_slow_snapshots(struct replica_world *world, uint32_t node, uint32_t snapshot_ms_max);
void replica_world_pause(struct replica_world *world, uint32_t node, uint64_t ms);
/* Ends a pause at once: what waited for its end comes now, in the order in which it came. */
void replica_world_resume(struct replica_world *world, uint32_t node);
void replica_world_drift(struct replica_world *world, uint32_t node, int32_t ppm);
struct disk *replica_world_disk(struct replica_world *world, uint32_t node);
/* Its disk keeps no longer what it promised: a spec or a fault has destroyed some of it. */
void replica_world_damaged(struct replica_world *world, uint32_t node);
void replica_world_fail_disk(struct replica_world *world, uint32_t node, uint64_t steps);
void replica_world_wipe(struct replica_world *world, uint32_t node);
void replica_world_copy_disk(struct replica_world *world, uint32_t from, uint32_t to);
/* Makes one file of a node's disk what it is on a disk of another world. */
void replica_world_take_file(struct replica_world *world, uint32_t node, const struct replica_world *other,
                             uint32_t from, const char *name);
void replica_world_skew(struct replica_world *world, uint32_t node, int64_t ms);

#endif
