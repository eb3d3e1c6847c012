/* replica/beside.h - what goes on beside the entries: queries over views, reads at followers, states that differ, rebuilding, scrub.
 *
 * A part of replica/state.h, which includes it. Private to replica/.
 */
#ifndef REPLICA_BESIDE_H
#define REPLICA_BESIDE_H

#include "replica/replica.h"

struct peer;
struct pending;
struct read_wait;

/* A query that takes longer than a slice (query.c). */
struct long_query {
    uint64_t token;
    uint64_t now_ms;
    struct machine_frozen *frozen;
};

enum diverge_state {
    DIVERGE_NONE,
    DIVERGE_FOUND,    /* looks for somebody to compare with */
    DIVERGE_APPLYING, /* up to where the other looks */
    DIVERGE_SHARING,  /* at the machine */
    DIVERGE_ASKING,   /* for sums */
    DIVERGE_LOOKING,  /* at a reader */
    DIVERGE_PARKING   /* at the machine, or there already */
};

/* This node's state is not the majority's (diverge.c). */
struct diverging {
    enum diverge_state state;
    raft_index index; /* where that was found */
    char why[256];
    node_id with;
    uint64_t number;
    raft_index until;
    uint64_t ask_at, give_up_at;
    struct machine_frozen *frozen;
    struct buffer lo, hi; /* the rows in question */
};

/* Another node's is not: it asks this one. */
struct comparing {
    node_id with; /* 0: nobody does */
    uint64_t number;
    raft_index at_least, index;
    uint64_t give_up_at;
    struct machine_frozen *frozen;
    bool sharing; /* a SHARE job is out */
    bool wanted;  /* sums of: */
    struct buffer lo, hi;
    bool looking; /* a TELL job is out */
};

/* Whom a SHARE job is for. */
enum { SHARE_OWN, SHARE_OTHER, SHARE_SCRUB };

/* Memory that rots (scrub.c). */
struct scrubbing {
    uint64_t rate; /* bytes a second; 0: off */
    struct buffer from;
    uint64_t next_at, began_at;
    bool busy; /* a job of it is out */
    uint64_t passes;
};

/* This node throws its state away, for the leader's (rebuild.c). */
struct rebuilding {
    bool on;
    raft_index need; /* the snapshot must include it */
    uint64_t ask_at;
};

/* What is out of the machine for readers (query.c). */
struct views {
    struct long_query *queries; /* a ring of LONG_QUERIES_MAX: those that wait for a reader, oldest first */
    size_t first, count;
    size_t querying;    /* of the jobs that are out, those of queries */
    bool looking;       /* another job is out: of comparing or scrubbing */
    size_t out;         /* view jobs */
    size_t held;        /* views that are not yet on their way back */
    struct buffer back; /* those that are to go back this turn: pointers */
};

/* A follower asks for a read index (read.c). */
struct read_ask {
    node_id peer;
    uint64_t id; /* the follower's: it, and those before it */
    uint64_t read_id;
};

/* read.c */
bool read_may_ask(const struct replica *replica, const struct pending *request);
void read_ask(struct replica *replica, struct pending *request);
void read_send(struct replica *replica);
void read_asked(struct replica *replica, node_id from, const struct message_read *asked);
void read_told(struct replica *replica, node_id from, const struct message_read *told);
/* The core has said what it says of reads: followers that asked are told. */
void read_confirmed(struct replica *replica);
/* What waits for `leader` (0: for anyone) to say an index goes another way. */
void read_lost(struct replica *replica, node_id leader);

/* query.c */
void query_later(struct replica *replica, const struct machine_query_item *item);
void query_turn(struct replica *replica);
/* Views are counted by whoever gets one from the machine; each goes back once. While a built machine waits for there being none,
 * nobody takes another. */
void view_took(struct replica *replica);
void view_give_back(struct replica *replica, struct machine_frozen *frozen);
bool view_none_out(const struct replica *replica);
void view_submit(struct replica *replica, struct view_job *job);

/* handover.c */
bool handover_goes_on(const struct replica *replica);
void handover_serve(struct replica *replica, struct pending *request);
/* The core has said what became of it; some node leads now. */
void handover_effects(struct replica *replica);
void handover_leader_known(struct replica *replica);
/* The node ends, and leads: true as long as it is better to wait. */
bool handover_before_end(struct replica *replica);

/* runtime.c */
/* Why this node applies nothing for now: its runtime is not its leader's; NULL: it is. */
const char *runtime_differs(const struct replica *replica);
void runtime_turn(struct replica *replica);

/* diverge.c */
bool replica_is_parked(const struct replica *replica);
/* A majority has another digest at `index`; or, for `why`, this state is not to be trusted. */
void diverge_found(struct replica *replica, raft_index index);
void diverge_park(struct replica *replica, raft_index index, const char *why);
/* Another state is there. */
void diverge_reset(struct replica *replica);
raft_index diverge_limit(const struct replica *replica);
void diverge_turn(struct replica *replica);
uint64_t diverge_wake_at(const struct replica *replica);
void diverge_asked(struct replica *replica, node_id from, const struct message_compare *asked);
void diverge_told(struct replica *replica, node_id from, const struct message_compared *told);
void diverge_shared(struct replica *replica, struct machine_job *job);
void diverge_looked(struct replica *replica, struct view_job *job);
void diverge_rotted(struct replica *replica, const struct machine_job *job);

/* scrub.c */
void scrub_turn(struct replica *replica);
uint64_t scrub_wake_at(const struct replica *replica);
void scrub_shared(struct replica *replica, struct machine_job *job);
void scrub_looked(struct replica *replica, struct view_job *job);

/* rebuild.c */
void rebuild_turn(struct replica *replica);
uint64_t rebuild_wake_at(const struct replica *replica);
void rebuild_heard(struct replica *replica, struct peer *peer, const struct message_rebuild *said);
/* Whether what was built from a snapshot may take the state's place, though it brings the log nothing. */
bool rebuild_fits(const struct replica *replica, const struct snapshot_head *head);
void rebuild_swapped(struct replica *replica);

#endif
