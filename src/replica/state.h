/* replica/state.h - what the files of replica/ share. Private to replica/. */
#ifndef REPLICA_STATE_H
#define REPLICA_STATE_H

#include "base/prng.h"
#include "base/trace.h"
#include "machine/catalog.h"
#include "replica/beside.h"
#include "replica/cache.h"
#include "replica/events.h"
#include "replica/formation.h"
#include "replica/members.h"
#include "replica/replica.h"

enum {
    MACHINE_JOBS_MAX = 2,          /* out at once: what gathers meanwhile is the next batch */
    APPLY_BYTES_MAX = 1024 * 1024, /* of one apply job, unless a record is larger */
    APPLY_ENTRIES_MAX = 4096,
    READ_BYTES_MAX = 1024 * 1024, /* of one read back */
    SCAN_MS = 50,                 /* requests' deadlines are looked at this often */
    MARK_MS = 5,                  /* a log idle for this long gets a mark */
    UNCOMMITTED_MAX = 131072,     /* entries; a power of two: proposals are found by index in a ring of this size */
    LONG_QUERIES_MAX = 256,       /* that wait for a reader; beyond it: BUSY */
    SNAPSHOT_WHY_BYTES = 400,
    SNAPSHOT_FILES_MAX = 8, /* the newest, and older ones that are still being sent */
    PROTOCOL = 1
};

struct link {
    struct replica *replica;
    void *context;
    node_id peer; /* 0: incoming, and no HELLO yet */
    bool outgoing;
    bool bulk;   /* pieces of snapshots alone go here */
    bool agreed; /* its HELLO was as it should be */
    bool marked; /* incoming: the mark C1 has come */
    bool closing;
    struct link *next;
};

/* A snapshot on its way to a follower (snapshot_send.c). */
struct send {
    struct message_snapshot file; /* index 0: none */
    raft_index pin;               /* entries after it are kept for this follower; 0: none */
    uint64_t acked;               /* it has written so much */
    uint64_t read;                /* was sent, or is being read */
    uint64_t progress;            /* as it said last */
    uint64_t moved_at;            /* boot_ms when that grew */
    bool pulled;                  /* it asked for this file */
    uint64_t reading;             /* the number of the READ job that is out; 0: none that counts */
    bool dialling;
    bool failed; /* the file could not be read: it was said */
    struct link *bulk;
    bool rebuild; /* its log lacks nothing: it wants the state (rebuild.c) */
};

/* What this node knows of another node. */
struct peer {
    struct identity_member member; /* id 0: nobody is here */
    uint8_t roles;                 /* enum member_role, in the configuration in force; 0: none */
    bool stranger;                 /* spoke for a newer configuration than this node knows */
    bool dialled;                  /* a link to it is wanted */
    bool parked;                   /* as it said last */
    uint64_t heard_at;             /* boot_ms of its last word, or since when it is looked for */
    struct link *out;              /* agreed, so that messages can go */
    uint8_t formation;             /* how far it said it is */
    uint64_t set_hash;
    bool heard;
    uint64_t fingerprint; /* of its runtime; 0: not heard yet */
    int64_t wall_offset;  /* its wall clock less our boot clock, when it last spoke */
    bool wall_known;
    bool reading; /* a LOG_JOB_READ for it is out */
    bool wanting; /* the core waits for SENT of this one, which could not be sent yet: */
    struct raft_message wanted;
    char complaint[256]; /* said last, so that it is logged once */
    /* digests, as this leader knows them (digest.c) */
    raft_index answered; /* it said `answer` there */
    struct hash128 answer;
    raft_index wants; /* it has a snapshot whose digest is to be agreed on */
    bool wants_known; /* it was: */
    struct hash128 wants_digest;
    bool differs;
    struct send send; /* snapshot_send.c */
};

/* A digest that somebody asks for. */
struct digest_slot {
    raft_index index; /* 0: none */
    bool known;
    bool lost; /* the machine no longer has it */
    struct hash128 digest;
};

struct digests {
    struct digest_slot asked;  /* by the leader */
    struct digest_slot named;  /* leading: by this node */
    struct digest_slot wanted; /* of the snapshot that is being taken here */
    struct digest_slot agreed; /* the last that is known to be agreed on */
    bool looking;              /* a LOOK job is out */
    raft_index none;           /* leading: there, no majority has one digest, and none will; 0: that is not so */
    uint64_t none_since;
    raft_index undecided; /* it was said that there is none yet */
    bool differs;         /* this node's was not the majority's */
    uint64_t named_at;
    size_t turn; /* the member that wanted last */
};

enum take_state {
    TAKE_IDLE,
    TAKE_WANTED,    /* at the next good index */
    TAKE_FREEZING,  /* at the machine */
    TAKE_WRITING,   /* at the snapshot thread */
    TAKE_WAITING,   /* for the digest, and for the own log */
    TAKE_PUBLISHING /* at the transfer thread */
};

/* A snapshot being taken (snapshot.c). */
struct taking {
    enum take_state state;
    bool drop;         /* it is not wanted any more: let it end */
    const char *blame; /* with drop: why it failed; NULL: it did not */
    uint64_t wanted_at;
    struct message_snapshot file;
    struct hash128 digest;
    struct machine_frozen *frozen;
    struct snapshot_progress progress;
    uint64_t log_bytes; /* cache.appended when it was frozen */
    uint64_t stamp_ms;
    uint32_t failures; /* in a row */
    uint64_t not_before;
    uint32_t stretch;     /* of thresholds: parts in a thousand, drawn anew each time */
    raft_index asked_for; /* by hand: one that includes this */
};

enum receive_state {
    RECEIVE_IDLE,
    RECEIVE_RESUMING, /* at the transfer thread: what is there already? */
    RECEIVE_PULLING,
    RECEIVE_BUILDING, /* at the snapshot thread */
    RECEIVE_READY,    /* built; a snapshot that is being taken must end first */
    RECEIVE_WRITING,  /* the core took it; at the log thread */
    RECEIVE_SWAPPING  /* at the machine */
};

/* A snapshot being received (snapshot_recv.c). */
struct receiving {
    enum receive_state state;
    node_id from;
    struct message_snapshot file;
    uint64_t number;   /* of the attempt: jobs of an earlier one come back for nothing */
    uint64_t offset;   /* written */
    uint64_t expected; /* written, or at the transfer thread */
    size_t writes;     /* pieces that are there */
    struct snapshot_progress progress;
    struct machine *built;
    struct snapshot_head head;
    struct buffer configuration; /* what its head has */
    bool apart;                  /* the log stays as it is, and the file does not count (rebuild.c) */
    uint32_t failures;
    uint64_t not_before;
};

/* A snapshot that clients read (backup.c). */
struct backup {
    raft_index index;    /* the file; 0: none */
    uint64_t held_until; /* boot_ms */
    size_t jobs;         /* READ jobs that are out */
};

struct snapshots {
    struct replica_snapshots policy;
    struct machine_options machine;
    struct message_snapshot files[SNAPSHOT_FILES_MAX]; /* that count, newest first */
    size_t files_count;
    uint64_t stamp_ms;    /* of the newest */
    uint64_t counted_at;  /* boot_ms */
    uint64_t log_bytes;   /* cache.appended when it was frozen */
    uint64_t log_before;  /* bytes after it that were there when this life began */
    uint64_t entry_bytes; /* of one entry, lately; 0: not known */
    struct taking take;
    struct receiving receive;
    struct backup backup;
    raft_index compacted; /* the core was told */
    bool compacting;      /* a COMPACT job is out */
    raft_index damaged;   /* the file that was found to be; another takes its place as soon as it can */
    bool checking;        /* a CHECK job is out */
    size_t jobs;          /* out, at both threads */
    size_t machine_jobs;  /* LOOK, FREEZE, THAW, SWAP */
    uint64_t reads;       /* numbers READ jobs */
    uint64_t send_at;     /* with a rate: the next piece may go then; boot_ms * 1000 */
    uint64_t taken, failed, sent, received, fetched;
    char why[SNAPSHOT_WHY_BYTES];
};

#define READ_UNASKED UINT64_MAX /* a read_id: by lease, and the core has not been asked yet */

enum request_state {
    REQUEST_FREE,
    REQUEST_WAITING,  /* for a leader, a link, or the service's code */
    REQUEST_PROPOSED, /* in the batch of this turn, or in the log at `index` */
    REQUEST_READING,  /* for a ReadIndex round, then for applying up to `index` */
    REQUEST_QUERYING, /* at the machine */
    REQUEST_SNAPSHOT, /* until one counts that includes `read_id` entries */
    REQUEST_REBUILD,  /* until the state is another */
    REQUEST_ROT,      /* at the machine */
    REQUEST_HANDOVER, /* until `peer` leads */
    REQUEST_PIECE,    /* at the transfer thread */
    REQUEST_FORWARDED /* at the leader `peer` */
};

/* A request to the host (host_requests.c). */
struct host_request {
    const char *name;
    uint8_t kind;    /* of the entry that it becomes; 0: it is a read */
    size_t args_max; /* bytes of arguments; 0: as of any request */
    bool reads_bare; /* without arguments it is a read, too */
    void (*act)(struct replica *replica, struct pending *request);    /* no entry and no read: the leader does it */
    const char *(*encode)(struct slice args, struct buffer *payload); /* NULL, or why it makes no sense */
};

struct pending {
    enum request_state state;
    uint32_t generation;
    uint64_t client;  /* for env.reply; or, with origin, the sender's own number */
    node_id origin;   /* not 0: forwarded to us by this member */
    bool origin_gone; /* it has given up on the answer: a link between us broke */
    uint64_t deadline;
    raft_index index;
    raft_term term;
    uint64_t read_id;
    node_id peer;
    bool batch;
    bool query_only;
    bool stale;
    bool lease; /* a read: a lease will do */
    bool forward;
    bool is_query;                   /* known to be one */
    bool dry_run;                    /* a command that is taken back: a read, of the leader */
    bool snapshot;                   /* a read first, so that the snapshot has what was acknowledged before */
    bool unsure;                     /* an earlier attempt of it may have had an effect */
    const struct host_request *host; /* NULL: of the service */
    struct buffer bytes;             /* name, args, ticket or nothing; empty once proposed; kept if small */
    uint32_t name_size;
    uint32_t args_size;
    uint32_t next_free;
};

/* A proposal of this turn. */
struct proposal {
    uint64_t token; /* of its pending; UINT64_MAX: the replica's own (a bundle, a step of a migration) */
    uint8_t kind;
    size_t offset; /* of the payload in replica->batch_bytes */
    size_t size;
};

/* An entry SKIP that is not applied yet (skip.c). */
struct skip {
    raft_index at;
    raft_index names;
    bool told; /* the machine knows */
};

/* Reads by lease (lease.c). */
struct leasing {
    uint64_t fed_ms;    /* the drift that the core knows of */
    uint64_t noted_ms;  /* what the identity on disk says */
    uint64_t asked_ms;  /* what the identity that is being saved says */
    uint64_t warned_ms; /* the limit as it was looked at last */
    bool saving, used;  /* that; the core has promised, or may have, in this life */
    uint64_t quiet_at;  /* boot_ms from which on no promise of an earlier life counts */
};

struct read_wait {
    uint64_t token;
    uint64_t read_id; /* of the core; or, with `leader`, of a question to it */
    raft_index index; /* 0: not confirmed yet */
    node_id leader;   /* not 0: it says from which index on (read.c) */
    uint64_t now_ms;  /* then: cluster time there */
};

struct replica {
    struct replica_env env;
    struct raft *raft; /* NULL while the cluster forms */
    struct raft_options raft_options;
    struct raft_effects effects;
    struct identity identity;
    struct buffer set; /* the formation entry's payload */
    raft_index
        restored_at; /* the file there is of before this cluster was formed: of no use to who joins; 0: none is */
    raft_index formed_at; /* its index: 1, or the one after the snapshot that was restored */
    raft_term formed_in;  /* its term; known until it is written */
    struct buffer bundles;
    uint32_t bundles_count;
    bool identity_saving;
    bool formation_writing;
    bool
        set_differs; /* what is on disk is of another set, or was restored from another file, than the identity says */
    bool told_pinned;
    bool told_formed;
    const struct message *incoming; /* whose entries the core may take */
    uint64_t fingerprint;
    char runtime_why[256]; /* runtime.c */
    struct replica_time now;
    struct prng prng;
    struct link *links;
    struct replica_self self;
    uint64_t announce_wait;
    uint64_t announce_at;                 /* boot_ms: not before */
    char address[MEMBER_ADDRESS_BYTES];   /* where the others find this node */
    struct peer peers[REPLICA_PEERS_MAX]; /* nobody moves; those of identity.members first */
    size_t peers_count;                   /* in use, with gaps */
    struct membering membering;
    struct changing changing;
    struct observing observing;

    /* the log */
    struct cache cache;
    raft_index last_index;
    uint64_t last_chain;
    struct log_job *write_out; /* being written */
    uint64_t write_since;
    bool hang_reported;
    struct log_job *queue_first; /* writes that wait for it */
    struct log_job *queue_last;
    uint64_t persisted;
    raft_index persisted_index; /* on disk, as far as it can be read back */
    uint64_t written_at;        /* boot_ms of the last write, for the mark; 0: marked */
    bool marking;
    size_t log_jobs; /* out, of all kinds */
    struct raft_message *outbox;
    size_t outbox_count, outbox_capacity;
    struct raft_message *held; /* wait for a write */
    size_t held_count, held_capacity;
    struct buffer frame;
    struct raft_run *runs; /* of the message being taken */
    size_t runs_capacity;

    /* the machine */
    raft_index apply_next;
    raft_index applied;
    size_t machine_jobs;
    size_t apply_jobs; /* of these */
    bool query_out;    /* at most one of them is of queries, so that entries are not starved */
    bool apply_reading;
    struct machine_status machine;
    struct catalog *catalog;
    struct buffer info;
    bool reluctant;
    raft_term bundles_proposed; /* in this term */
    bool bundles_dropped;
    raft_index migrate_index; /* of the step of a migration that was proposed last, */
    raft_term migrate_term;   /* in this term */
    raft_index due_index;     /* of the entry DUE that was proposed last, */
    raft_term due_term;       /* in this term */
    uint64_t due_at;          /* boot_ms at which the next one may be wanted; UINT64_MAX: none */

    /* cluster time */
    uint64_t stamp;    /* the last that was given or seen */
    uint64_t stamp_at; /* boot_ms then; 0: not leading */

    /* requests */
    struct pending *requests;
    uint32_t requests_capacity;
    uint32_t requests_free;
    uint32_t generation; /* where tokens begin: another one in each life, so that late answers fit none */
    size_t requests_count;
    size_t requests_bytes;
    uint32_t *by_index; /* slot + 1 by index modulo UNCOMMITTED_MAX */
    size_t proposed_count;
    uint64_t *waiting; /* tokens */
    size_t waiting_count, waiting_capacity;
    bool route_again;
    struct proposal *batch;
    size_t batch_count, batch_capacity;
    struct buffer batch_bytes;
    struct read_wait *reads; /* oldest first */
    size_t reads_count, reads_capacity;
    uint64_t read_id;
    bool reads_new, leases_new; /* since the core was asked last: of each sort */
    uint64_t ask_id;            /* of the last question to a leader */
    bool asks_new, asks_strict; /* somebody asks; and a lease will not do for all of these */
    struct read_ask *asks;      /* of followers, oldest first */
    size_t asks_count, asks_capacity;
    uint64_t next_scan;
    bool stopping;
    bool handed_over; /* or tried to, because it ends */

    struct leasing leasing;

    struct views views;
    struct diverging diverging;
    struct comparing comparing;
    struct scrubbing scrubbing;
    struct rebuilding rebuilding;
    struct skip *skips; /* by index */
    size_t skips_count, skips_capacity;
    bool skip_out; /* a SKIP job is out */
    struct events *events;
    struct digests digests;
    struct snapshots snapshots;
};

/* replica.c */
void replica_step(struct replica *replica, struct raft_event *event);
void replica_drain(struct replica *replica);
bool replica_leads(const struct replica *replica);
void replica_begin_raft(struct replica *replica);
struct peer *replica_peer(struct replica *replica, node_id id);

/* log.c */
void log_take_effects(struct replica *replica, const struct raft_write *write, const struct message *message);
void log_send_append(struct replica *replica, struct raft_message *message);
void log_maintain(struct replica *replica);
/* These records are in the log now. */
void log_note(struct replica *replica, const struct chunk *chunk);
void log_submit_identity(struct replica *replica, bool drop_bundles);
void log_write_formation(struct replica *replica);
/* Notes what the log has after `applied`, before the replica starts. */
void log_restore_notes(struct replica *replica, struct storage *storage);

/* apply.c */
void apply_committed(struct replica *replica);
void apply_queries(struct replica *replica);
bool apply_code_ready(const struct replica *replica);
void apply_read_back(struct replica *replica, struct log_job *done);
void apply_read_effects(struct replica *replica);
/* This node answers nothing and leads no more. */
void apply_step_aside(struct replica *replica);

void apply_catalog(struct replica *replica, const struct machine_job *job);

/* digest.c */
void digest_turn(struct replica *replica);
void digest_begin_term(struct replica *replica);
void digest_attach(struct replica *replica, struct peer *peer, struct message *message);
void digest_heard(struct replica *replica, struct peer *peer, const struct message *message);
void digest_at(struct replica *replica, raft_index index, const struct hash128 *digest);
void digest_swapped(struct replica *replica);
/* The snapshot at `index` waits for it; take_agreed tells. 0: none does any more. */
void digest_want(struct replica *replica, raft_index index, struct hash128 digest);

/* snapshot.c */
void take_turn(struct replica *replica);
uint64_t take_wake_at(const struct replica *replica);
/* Before entries are applied: whether they may go on, and up to where at most. */
bool take_before_apply(struct replica *replica, raft_index commit, raft_index *last);
void take_frozen(struct replica *replica, struct machine_job *job);
void take_agreed(struct replica *replica, struct hash128 digest);
void take_drop(struct replica *replica);
/* This request waits for a snapshot of what is applied now. */
void take_asked(struct replica *replica, struct pending *request);
/* A file counts from now on: the newest. */
void take_counts(struct replica *replica, const struct message_snapshot *file, uint64_t stamp_ms);
void take_compacted(struct replica *replica, const struct log_job *job);
void take_clean(struct replica *replica);
void take_installed(struct replica *replica, raft_index index);
void take_submit(struct replica *replica, struct snapshot_job *job);

/* snapshot_send.c */
bool send_offer(struct replica *replica, struct message *message);
void send_pulled(struct replica *replica, struct peer *peer, const struct message_pull *pull);
void send_checked(struct replica *replica, const struct snapshot_job *job);
void send_piece(struct replica *replica, struct snapshot_job *job);
void send_bulk_opened(struct replica *replica, struct link *link);
void send_bulk_closed(struct replica *replica, const struct link *link);
void send_turn(struct replica *replica);
uint64_t send_wake_at(const struct replica *replica);
raft_index send_pin(const struct replica *replica, raft_index index);
bool send_holds(const struct replica *replica, raft_index index);
/* A node that wanted the state has taken it. */
void send_rebuilt(struct replica *replica, struct peer *peer);

/* backup.c */
bool backup_holds(const struct replica *replica, raft_index index);
void backup_piece(struct replica *replica, struct snapshot_job *job);

/* snapshot_recv.c */
void receive_offered(struct replica *replica, node_id from, const struct message_snapshot *file);
bool receive_piece(struct replica *replica, const struct message *message);
void receive_done(struct replica *replica, struct snapshot_job *job);
void receive_turn(struct replica *replica);
void receive_written(struct replica *replica);
void receive_swapped(struct replica *replica, struct machine_job *job);
bool receive_installs(const struct replica *replica);

/* requests.c */
uint64_t request_add(struct replica *replica, uint64_t client, node_id origin, const struct request *request,
                     bool batch);
struct pending *request_of(struct replica *replica, uint64_t token);
void request_end(struct replica *replica, struct pending *request, bool ok, bool definite, uint64_t index,
                 struct slice value);
uint64_t request_token(const struct replica *replica, const struct pending *request);
/* The parts of what it asks; of a ticket: empty, or [session, seq, done_below]. */
struct slice request_name(const struct pending *request);
struct slice request_args(const struct pending *request);
struct slice request_ticket(const struct pending *request);
void request_fail(struct replica *replica, struct pending *request, enum error_code code, const char *message);
void request_wait(struct replica *replica, struct pending *request);
struct read_wait *request_read(struct replica *replica, struct pending *request);
void request_route(struct replica *replica, uint64_t token);
void requests_turn(struct replica *replica);
void requests_encode_batch(struct replica *replica, const struct raft_write *write);
void requests_refuse_batch(struct replica *replica);
void requests_applied(struct replica *replica, raft_index first, raft_index last, const struct machine_job *job);
void requests_scan(struct replica *replica);
struct pending *request_by_index(struct replica *replica, raft_index index);

void requests_propose_own(struct replica *replica, uint8_t kind, struct slice payload);

/* forward.c */
void forward_request(struct replica *replica, struct pending *request, node_id leader);
void forward_refuse(struct replica *replica, struct pending *request, node_id leader);
/* Whether this refusal, at `index`, says what became of earlier attempts too; if not: the error that is answered in its place. */
bool forward_settles(uint64_t index, struct slice error);
void forward_pack_lost(struct slice error, struct buffer *out);
void request_link_lost(struct replica *replica, node_id peer);
/* The leader that it was forwarded to has answered. */
void request_forwarded(struct replica *replica, struct pending *request, const struct message_forwarded *answer);

/* skip.c */
/* This record is in the log now: a SKIP is remembered; from `from` on the log was cut. */
void skip_note(struct replica *replica, const struct entry *entry);
void skip_cut(struct replica *replica, raft_index from);
/* Before entries are applied: the machine hears of SKIPs that are committed. */
void skip_turn(struct replica *replica);
/* Nothing may be applied just now: the machine has yet to hear of one. */
bool skip_waits(const struct replica *replica);
/* After a SKIP job. */
void skip_told(struct replica *replica);
/* The payload of an entry SKIP, which is also the arguments of tidelock.skip: [index]. */
bool skip_read(struct slice payload, raft_index *index);
/* It asks to skip the very entry at which this node is parked. */
bool skip_is_way_out(const struct replica *replica, const struct pending *request);

/* host_requests.c */
bool host_request_reads(const struct pending *request);
const struct host_request *host_request_find(struct slice name);
void host_requests_turn(struct replica *replica);

/* announce.c */
void announce_turn(struct replica *replica);

/* lease.c */
void lease_begin(struct replica *replica);
void lease_turn(struct replica *replica);

/* clock.c */
uint64_t clock_stamp(struct replica *replica);
/* The stamp that an entry would get now. */
uint64_t clock_look(const struct replica *replica);
void clock_lead(struct replica *replica);
void clock_heard(struct replica *replica, node_id peer, uint64_t wall_ms);

/* link.c */
void link_hello_all(struct replica *replica);
void link_free_all(struct replica *replica);
bool link_send_message(struct replica *replica, node_id peer, const struct message *message,
                       const struct slice *records, size_t records_count);
bool link_send_piece(struct replica *replica, struct link *link, const struct message *message);
void formation_progress(struct replica *replica);

#endif
