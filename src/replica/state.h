/* replica/state.h - what the files of replica/ share. Private to replica/. */
#ifndef REPLICA_STATE_H
#define REPLICA_STATE_H

#include "base/prng.h"
#include "base/trace.h"
#include "machine/catalog.h"
#include "replica/cache.h"
#include "replica/formation.h"
#include "replica/replica.h"

enum {
    MACHINE_JOBS_MAX = 2,          /* out at once: what gathers meanwhile is the next batch */
    APPLY_BYTES_MAX = 1024 * 1024, /* of one apply job, unless a record is larger */
    APPLY_ENTRIES_MAX = 4096,
    READ_BYTES_MAX = 1024 * 1024, /* of one read back */
    SCAN_MS = 50,                 /* requests' deadlines are looked at this often */
    MARK_MS = 5,                  /* a log idle for this long gets a mark */
    UNCOMMITTED_MAX = 131072,     /* entries; a power of two: proposals are found by index in a ring of this size */
    PROTOCOL = 1
};

struct link {
    struct replica *replica;
    void *context;
    node_id peer; /* 0: incoming, and no HELLO yet */
    bool outgoing;
    bool agreed; /* its HELLO was as it should be */
    bool marked; /* incoming: the mark C1 has come */
    bool closing;
    struct link *next;
};

/* What this node knows of another member. */
struct peer {
    struct identity_member member;
    struct link *out;  /* agreed, so that messages can go */
    uint8_t formation; /* how far it said it is */
    uint64_t set_hash;
    bool heard;
    int64_t wall_offset; /* its wall clock less our boot clock, when it last spoke */
    bool wall_known;
    bool reading; /* a LOG_JOB_READ for it is out */
    bool wanting; /* the core waits for SENT of this one, which could not be sent yet: */
    struct raft_message wanted;
    char complaint[256]; /* said last, so that it is logged once */
};

enum request_state {
    REQUEST_FREE,
    REQUEST_WAITING,  /* for a leader, a link, or the service's code */
    REQUEST_PROPOSED, /* in the batch of this turn, or in the log at `index` */
    REQUEST_READING,  /* for a ReadIndex round, then for applying up to `index` */
    REQUEST_QUERYING, /* at the machine */
    REQUEST_FORWARDED /* at the leader `peer` */
};

/* A request to the host (host_requests.c). */
struct host_request {
    const char *name;
    uint8_t kind;    /* of the entry that it becomes; 0: it is a read */
    size_t args_max; /* bytes of arguments; 0: as of any request */
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
    bool forward;
    bool is_query;                   /* known to be one */
    const struct host_request *host; /* NULL: of the service */
    struct buffer bytes;             /* name, then args; empty once proposed; kept if small */
    uint32_t name_size;
    uint32_t next_free;
};

/* A proposal of this turn. */
struct proposal {
    uint64_t token; /* of its pending; UINT64_MAX: the replica's own (a bundle, a step of a migration) */
    uint8_t kind;
    size_t offset; /* of the payload in replica->batch_bytes */
    size_t size;
};

struct read_wait {
    uint64_t token;
    uint64_t read_id;
    raft_index index; /* 0: not confirmed yet */
};

struct replica {
    struct replica_env env;
    struct raft *raft; /* NULL while the cluster forms */
    struct raft_options raft_options;
    struct raft_effects effects;
    struct identity identity;
    struct buffer set; /* entry 1's payload */
    struct buffer bundles;
    uint32_t bundles_count;
    bool identity_saving;
    bool entry_one_writing;
    bool entry_one_differs;
    bool told_pinned;
    bool told_formed;
    const struct message *incoming; /* whose entries the core may take */
    uint64_t fingerprint;
    struct replica_time now;
    struct prng prng;
    struct link *links;
    struct peer peers[RAFT_MEMBERS_MAX]; /* by place in identity.members */

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
    bool query_out; /* at most one of them is of queries, so that entries are not starved */
    bool apply_reading;
    struct machine_status machine;
    struct catalog *catalog;
    struct buffer info;
    bool reluctant;
    raft_term bundles_proposed; /* in this term */
    bool bundles_dropped;
    raft_index migrate_index; /* of the step of a migration that was proposed last, */
    raft_term migrate_term;   /* in this term */

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
    bool reads_new;
    uint64_t next_scan;
    bool stopping;
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
void log_submit_identity(struct replica *replica, bool drop_bundles);
void log_write_entry_one(struct replica *replica);

/* apply.c */
void apply_committed(struct replica *replica);
void apply_queries(struct replica *replica);
bool apply_code_ready(const struct replica *replica);
void apply_read_back(struct replica *replica, struct log_job *done);
void apply_read_effects(struct replica *replica);

/* requests.c */
uint64_t request_add(struct replica *replica, uint64_t client, node_id origin, const struct request *request,
                     bool batch);
struct pending *request_of(struct replica *replica, uint64_t token);
void request_end(struct replica *replica, struct pending *request, bool ok, bool definite, uint64_t index,
                 struct slice value);
void request_fail(struct replica *replica, struct pending *request, enum error_code code, const char *message);
void request_wait(struct replica *replica, struct pending *request);
void request_route(struct replica *replica, uint64_t token);
void request_link_lost(struct replica *replica, node_id peer);
void requests_turn(struct replica *replica);
void requests_encode_batch(struct replica *replica, const struct raft_write *write);
void requests_refuse_batch(struct replica *replica);
void requests_applied(struct replica *replica, raft_index first, raft_index last, const struct machine_job *job);
void requests_scan(struct replica *replica);
struct pending *request_by_index(struct replica *replica, raft_index index);

void requests_propose_own(struct replica *replica, uint8_t kind, struct slice payload);

/* host_requests.c */
const struct host_request *host_request_find(struct slice name);
void host_requests_turn(struct replica *replica);

/* clock.c */
uint64_t clock_stamp(struct replica *replica);
void clock_lead(struct replica *replica);
void clock_heard(struct replica *replica, node_id peer, uint64_t wall_ms);

/* link.c */
void link_hello_all(struct replica *replica);
void link_free_all(struct replica *replica);
bool link_send_message(struct replica *replica, node_id peer, const struct message *message,
                       const struct slice *records, size_t records_count);
void formation_progress(struct replica *replica);

#endif
