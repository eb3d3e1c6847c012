/* replica/replica.h - the order of things: persist, send, apply, reply. Written once.
 *
 * The replica owns the core, the cache of recent records, proposals and reads in progress, links and forwarding, and
 * formation. It is driven by one thread, which feeds it bytes from links, requests from clients, finished jobs and the
 * time, and calls replica_turn once a turn of its loop. What must happen elsewhere goes out through struct replica_env:
 * real sockets and threads in node/, virtual ones in sim/.
 *
 *     client -> replica_request -+                         +-> env.log (vote, cut, records) -> replica_log_done
 *     link   -> link_receive ----+-> replica_turn -> core -+-> env.send (to peers)
 *     jobs done, time -----------+                         +-> env.apply -> replica_machine_done -> env.reply
 *
 * Snapshots (§7, DESIGN.md §4), file by file:
 *     digest.c         the leader names an index, voters answer with their digest at it; a majority makes it agreed
 *     snapshot.c       freeze -> take (written, read back) -> own log durable up to it, digest agreed -> published: now it
 *                      counts -> core told, log cut up to index - keep, older files removed
 *     snapshot_send.c  INSTALL_SNAPSHOT names the file; the follower pulls, pieces go out on a bulk link, in a window. File and
 *                      entries after it stay while the follower gets on
 *     snapshot_recv.c  pieces -> SNAPSHOT_IN -> build (a new machine, verified) -> core takes it -> published and log begun
 *                      anew in one log job -> machines exchanged, applied = index
 *     backup.c         pieces of a file to clients, who read it from its beginning to its end
 *     recover.c        a restart: newest snapshot that counts, then the log from there
 *     diverge.c        a state that is not the majority's parks; which row differs?
 *     rebuild.c        a parked node's state becomes the leader's
 *     scrub.c          does memory hold what was put there?
 * A file has its name from when it counts; what does not count is gone after a restart. Old or new at each step.
 *
 * Members (§6, replica/members.h): members.c has the configurations of the log and a peer for each member, change.c carries out what the
 * machine decided, observe.c brings what it decides by, announce.c says what this node was started with. Formation: forming.c.
 *
 * Queries (DESIGN.md §3, §5, §7): a follower asks the leader from which index on it may answer (read.c); apply.c finds out when they may be answered; each has a slice of the machine's thread, and those
 * that want more go on in query.c, on readers' threads over a frozen view.
 *
 * Every request ends in exactly one env.reply: ok, a definite refusal, or one that is not definite (unknown outcome).
 * Depends on raft, storage, machine, wire, base.
 */
#ifndef REPLICA_REPLICA_H
#define REPLICA_REPLICA_H

#include "raft/raft.h"
#include "replica/jobs.h"
#include "wire/members.h"
#include "wire/message.h"
#include "wire/request.h"

struct replica;
struct link;
struct events; /* replica/events.h */

enum {
    REPLICA_REQUESTS_MAX = 65536,                 /* in progress at this node; beyond it: BUSY */
    REPLICA_PENDING_BYTES_MAX = 64 * 1024 * 1024, /* of their arguments */
    REPLICA_PEERS_MAX = 4 * RAFT_MEMBERS_MAX,     /* members of three configurations, and who is yet to be in one */
    REPLICA_READERS = 3,                          /* view jobs out at once: threads that run them */
    REPLICA_CACHE_BYTES = 64 * 1024 * 1024,       /* recent records kept for followers and the machine */
    REPLICA_LINK_QUEUE_MAX = 64 * 1024 * 1024     /* bytes that env.send may hold back for one peer */
};

/* The file of bundles that wait to be entries (storage_put_file). */
#define REPLICA_BUNDLES_FILE "bundles"
#define REPLICA_BUNDLES_DAMAGED                                                                                    \
    "file bundles is damaged; it holds the services until the log does: if this cluster has served before, "       \
    "remove the "                                                                                                  \
    "file and start again, else set the directory aside and start with an empty one"

struct replica_reply {
    bool ok;
    bool definite; /* of an error */
    uint64_t index;
    struct slice value; /* the MessagePack value, or the error map; borrowed for the call */
};

/* The seam. Functions must not call back into the replica. */
struct replica_env {
    void *context;
    /* Queues the parts, in order, on a link. Copies what it cannot write at once. False: the link is closed or its queue
     * is full; nothing was queued. */
    bool (*send)(void *context, struct link *link, const struct slice *parts, size_t parts_count);
    /* Closes a link after what is queued went out; the owner then calls link_closed. */
    void (*close)(void *context, struct link *link);
    /* Hands a job to the thread of the log, of the machine, of snapshots, of transfers, or to a reader that has none. Never
     * refuses: the replica bounds how many are out. */
    void (*log)(void *context, struct log_job *job);
    void (*apply)(void *context, struct machine_job *job);
    void (*snapshot)(void *context, struct snapshot_job *job);
    void (*transfer)(void *context, struct snapshot_job *job);
    void (*view)(void *context, struct view_job *job);
    /* Begins to connect a bulk link to a peer: link_opened follows with bulk, or link_not_opened. */
    void (*dial_bulk)(void *context, node_id peer);
    /* Ends a request. */
    void (*reply)(void *context, uint64_t client, const struct replica_reply *reply);
    /* The log has failed, or this directory does not belong here: the process must end with this one last line.
     * exit_code: 1 log failure, 78 configuration. Nothing is called afterwards. */
    void (*fatal)(void *context, int exit_code, const char *sentence);
};

#define REPLICA_NOBODY UINT64_MAX /* a client of the replica's own requests: env.reply never hears of it */

struct replica_time {
    uint64_t boot_ms; /* a clock that never jumps and counts sleep (CLOCK_BOOTTIME) */
    uint64_t wall_ms; /* since the Unix epoch; may be anything */
};

/* When snapshots are taken without being asked for, what of the log stays behind them, how they are sent. A node may take its
 * time beyond a threshold, up to half of it again: so followers do not all take theirs at once. */
struct replica_snapshots {
    uint64_t bytes;       /* of the log after the last one, and not before it has as many as that one; 0: off */
    uint64_t entries;     /* after the last one; 0: off */
    uint64_t every_ms;    /* after the last one, if there are new entries; 0: off */
    uint64_t keep;        /* entries kept in the log behind a snapshot: about that many */
    uint64_t keep_bytes;  /* and not more than about so many bytes; 0: no bound */
    uint32_t chunk_bytes; /* of chunks in the file, and of pieces sent; 0: default */
    uint64_t rate;        /* bytes a second that are sent, to all followers together; 0: no bound */
    bool zstd;
};

struct replica_recovered; /* replica/recover.h */

/* What a node says of itself, as far as it was given. */
struct replica_self {
    bool zone_given, priority_given, tags_given;
    uint8_t priority;
    char zone[MEMBER_ZONE_BYTES];
    uint32_t tags_bytes; /* a MessagePack map of text to text, canonical; 0: none */
    uint8_t tags[MEMBER_TAGS_BYTES];
};

struct replica_options {
    uint64_t seed;
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    const char *address; /* where this node listens: HOST:PORT */
    struct replica_self self;
    struct identity identity; /* as loaded, or made anew by formation_identity (replica/formation.h) */
    struct slice bundles;     /* the bundles that wait to be entries: MessagePack list of bin; empty if none */
    uint64_t fingerprint;     /* of the runtime */
    size_t cache_bytes;       /* of recent records; 0: REPLICA_CACHE_BYTES */
    size_t events_bytes;      /* of events kept for who watches; 0: EVENTS_BYTES */
    struct replica_snapshots snapshots;
    struct machine_options machine; /* for what is built from a leader's snapshot */
    uint64_t scrub_rate;            /* bytes of the state a second that are looked at for rot; 0: none */
    const struct replica_recovered *recovered;
    struct trace_sink trace;
};

/* Makes a replica from what recovery found. `storage` is only read from, and only during this call. Everything in options is copied. */
struct replica *replica_new(const struct replica_options *options, const struct replica_env *env,
                            struct storage *storage);
void replica_free(struct replica *replica);

/* As replica_free, but as if the process had died: with links open and jobs out, without a word to anyone. Jobs that are
 * out are the caller's (log_job_free, machine_job_free). */
void replica_abandon(struct replica *replica);

/* Begins: formation, or raft at once. */
void replica_start(struct replica *replica, struct replica_time now);

/* Does what has gathered, once a turn of the loop: proposals into one write, messages, applies, replies, time-outs. */
void replica_turn(struct replica *replica, struct replica_time now);

/* Call replica_turn no later than this boot_ms. UINT64_MAX: never. */
uint64_t replica_wake_at(const struct replica *replica);

/* --- clients ------------------------------------------------------------------------------------------------------ */

/* Begins a request: `client` comes back in env.reply, which may be called before this returns. What `request` borrows is
 * copied. A batch has the name "tidelock.batch". Of other "tidelock." names those come here that replica_takes; the rest are the
 * node's. */
void replica_request(struct replica *replica, uint64_t client, const struct request *request,
                     struct replica_time now);

/* Whether a "tidelock." name becomes an entry, or a read of what the machine keeps. */
bool replica_takes(struct slice name);
const char *replica_takes_name(size_t at); /* those names, one by one; NULL after the last */

/* What was told lately, for who watches. Only to be read. */
const struct events *replica_events(const struct replica *replica);

/* Begins tidelock.snapshot: a snapshot of this node's that has all that was acknowledged before, anywhere: it is a linearizable
 * read first. Its answer is a map {bytes, digest, index, term}
 * when it counts, or an error that says why there is none. */
void replica_request_snapshot(struct replica *replica, uint64_t client, uint32_t timeout_ms,
                              struct replica_time now);

/* Begins tidelock.rebuild: this node parks, and its state becomes the leader's. Its answer is a map {index} when it has. */
void replica_request_rebuild(struct replica *replica, uint64_t client, uint32_t timeout_ms,
                             struct replica_time now);

/* Begins tidelock.snapshot_read: bytes of the file of a snapshot that counts, at most REPLICA_PIECE_BYTES and fewer only at
 * its end. Whoever goes on reading finds it there, though newer ones may count. NOT_FOUND: it is no longer (or not) here. */
enum { REPLICA_PIECE_BYTES = 1024 * 1024 };
void replica_request_piece(struct replica *replica, uint64_t client, raft_index index, uint64_t offset,
                           uint64_t bytes, uint32_t timeout_ms, struct replica_time now);

/* Begins tidelock.tamper, of test builds: memory of about the row of this rank rots. Its answer is a map {row}. */
void replica_request_rot(struct replica *replica, uint64_t client, uint64_t rank, struct replica_time now);

/* Appends tidelock.status's answer for this node: a MessagePack map. */
void replica_pack_status(const struct replica *replica, struct buffer *out);

/* --- links: one way each, from who dialled ------------------------------------------------------------------------- */

/* The nodes that this one should keep a link to: ids and addresses. Another list whenever the version grows. */
size_t replica_peers(const struct replica *replica, struct identity_member peers[REPLICA_PEERS_MAX]);
/* The configuration in force here; *pending: it is not committed, or joint, or another was decided. False: there is none yet. */
bool replica_members(const struct replica *replica, struct members *members, bool *pending);

uint64_t replica_peers_version(const struct replica *replica);

/* A connection to `peer` was made (outgoing) or taken (incoming: peer 0, known after its HELLO). `bulk`: outgoing, as env.dial_bulk
 * asked for it. Owned by the replica until link_closed. `context` is for the env's own use. */
struct link *link_opened(struct replica *replica, node_id peer, bool bulk, void *context, struct replica_time now);
/* The bulk link that env.dial_bulk asked for cannot be made now. */
void link_not_opened(struct replica *replica, node_id peer, struct replica_time now);
void *link_context(const struct link *link);

/* Bytes that came in, from the first on (the mark C1 included). Returns how many were used: the rest must be given again
 * with more behind it. *need, if not 0, says how many bytes the next frame has in all. False return in *alive: the link is
 * to be closed after what was queued went out (a GOODBYE, perhaps). */
size_t link_receive(struct replica *replica, struct link *link, struct slice bytes, struct replica_time now,
                    size_t *need, bool *alive);

/* The connection is gone. The link is freed. */
void link_closed(struct replica *replica, struct link *link, struct replica_time now);

/* --- jobs that come back ------------------------------------------------------------------------------------------ */

void replica_log_done(struct replica *replica, struct log_job *job, struct replica_time now);
void replica_machine_done(struct replica *replica, struct machine_job *job, struct replica_time now);
void replica_snapshot_done(struct replica *replica, struct snapshot_job *job, struct replica_time now);
void replica_view_done(struct replica *replica, struct view_job *job, struct replica_time now);

/* --- ending -------------------------------------------------------------------------------------------------------- */

/* Steps down, takes no new requests (NO_LEADER), lets those in progress end. */
void replica_stop(struct replica *replica, struct replica_time now);

/* True when nothing is in progress any more: no request, no job. */
bool replica_stopped(const struct replica *replica);

/* For status and specs. */
struct replica_snapshot_status {
    raft_index index; /* the newest that counts; 0: none */
    uint64_t bytes;
    uint64_t taken, failed;  /* in this life */
    uint64_t sent, received; /* whole files */
    uint64_t fetched;        /* bytes of pieces that came and were written */
    const char *doing;       /* asked, taking, agreeing, sending, receiving, reading, installing; "": nothing */
    uint64_t percent;        /* of that */
    raft_index base;         /* the log begins after it */
    raft_index agreed;       /* digests were agreed on up to here, as far as this node knows */
    bool differs;            /* this node's digest was not the majority's */
    bool installing;         /* the core took a leader's snapshot that does not count yet */
    const char *why;         /* the last failure; "" if none */
};
/* Why this node answers nothing, and the entry it is about; NULL: it does. */
const char *replica_parked(const struct replica *replica, raft_index *index);
uint64_t replica_scrubbed(const struct replica *replica); /* passes over the whole state */
void replica_get_snapshots(const struct replica *replica, struct replica_snapshot_status *status);
raft_index replica_applied(const struct replica *replica);
raft_index replica_parked_at(const struct replica *replica);    /* 0: not parked */
const struct raft *replica_raft(const struct replica *replica); /* NULL while the cluster forms */
const struct identity *replica_identity(const struct replica *replica);

#endif
