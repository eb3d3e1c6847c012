/* raft/state.h - one server's state (Figure 2), private to raft/.
 *
 * Persisted and not yet persisted values never share a name: current_term, voted_for and the trail are what this server
 * acts on; durable_index, persisted_write say how far the disk is. Depends on base, raft.
 */
#ifndef RAFT_STATE_H
#define RAFT_STATE_H

#include "base/check.h"
#include "base/prng.h"
#include "raft/progress.h"
#include "raft/quorum.h"
#include "raft/raft.h"
#include "raft/trail.h"

enum {
    WRITES_MAX = 256,    /* entries of writes not yet durable; beyond it they are joined */
    READ_ROUNDS_MAX = 64 /* ReadIndex rounds in flight; beyond it they are joined */
};

/* A write with entries that is not durable yet. */
struct write_out {
    uint64_t number;
    raft_index first;
    raft_index last; /* clamped when entries are cut; below first: nothing left of it */
};

/* A ReadIndex round (thesis §6.4): reads up to `id` may be answered at `index` once a majority answered `round`. */
struct read_round {
    uint64_t round;
    uint64_t id;
    raft_index index;
};

struct raft {
    struct raft_options options;
    struct prng prng;
    struct raft_configuration configuration;
    raft_time now;
    struct raft_effects *effects; /* of the step in progress */

    /* Figure 2, persistent */
    raft_term current_term;
    node_id voted_for;
    struct raft_trail trail;

    /* Figure 2, volatile */
    enum raft_role role;
    node_id leader;
    raft_index commit_index;

    /* the disk */
    uint64_t last_write; /* number given out last */
    uint64_t persisted_write;
    uint64_t vote_write;      /* the last that carried term and vote */
    raft_index durable_index; /* own log, durable and not cut since */
    struct write_out writes[WRITES_MAX];
    size_t writes_first;
    size_t writes_count;

    /* elections (§5.2) */
    raft_time election_deadline;
    raft_time votes_from;     /* grants none before; options.start_wait_ms */
    raft_time leader_contact; /* heard from a leader last; 0: never */
    bool reluctant;
    bool votes[RAFT_MEMBERS_MAX]; /* granted, by place in configuration.voters; as candidate or pre-candidate */

    /* the snapshot that a leader offered last (§7) */
    node_id offer_from;
    raft_term offer_term; /* of the leader */
    uint32_t offer_epoch;

    /* Figure 2, leader */
    struct progress peers[RAFT_MEMBERS_MAX]; /* by place in configuration.voters; own place unused */
    raft_index term_start;                   /* index of this term's no-op */
    raft_time heartbeat_deadline;
    raft_time quorum_deadline;
    raft_time commit_deadline; /* followers are told the commit index by then; UINT64_MAX: they know */

    /* reads */
    uint64_t round;        /* given out last */
    uint64_t read_waiting; /* id that waits for the first commit of the term; 0: none */
    uint64_t read_last;    /* id seen last */
    struct read_round rounds[READ_ROUNDS_MAX];
    size_t rounds_first;
    size_t rounds_count;
};

#define RAFT_TRACE(raft, ...) TRACE(&(raft)->options.trace, __VA_ARGS__)

/* raft.c */
struct raft_message *raft_message_new(struct raft *raft, enum raft_message_type type, node_id to);
uint64_t raft_write_number(struct raft *raft);
void raft_write_vote(struct raft *raft);
void raft_write_entries(struct raft *raft, enum raft_append_source source, raft_index first, raft_index last,
                        raft_term term);
void raft_cut(struct raft *raft, raft_index from);
void raft_write_base(struct raft *raft, raft_index index, raft_term term, bool reset);
/* The write that makes entry `index` durable here, if it is not yet: 0 if it is. */
uint64_t raft_write_of(const struct raft *raft, raft_index index);
void raft_set_commit(struct raft *raft, raft_index index);
size_t raft_place(const struct raft *raft, node_id id); /* in configuration.voters; voters_count: none */
bool raft_is_voter(const struct raft *raft);

/* election.c */
void election_reset_deadline(struct raft *raft);
void election_timeout(struct raft *raft);
void election_become_follower(struct raft *raft, raft_term term, node_id leader);
void election_recv_request_vote(struct raft *raft, const struct raft_message *message);
void election_recv_vote_response(struct raft *raft, const struct raft_message *message);
bool election_sticks_to_leader(const struct raft *raft, node_id candidate);

/* replication.c */
void replication_become_leader(struct raft *raft);
void replication_timeout(struct raft *raft);
void replication_send_all(struct raft *raft);
void replication_propose(struct raft *raft, uint64_t count);
void replication_sent(struct raft *raft, node_id peer, uint32_t epoch, raft_index last, uint32_t bytes);
void replication_peer(struct raft *raft, node_id peer, bool up);
void replication_advance_commit(struct raft *raft);
void replication_recv_append(struct raft *raft, const struct raft_message *message, const struct raft_run *runs,
                             size_t runs_count);
void replication_recv_response(struct raft *raft, const struct raft_message *message);
void replication_heartbeat(struct raft *raft, struct progress *peer);
raft_time replication_wake_at(const struct raft *raft);
void replication_accept_leader(struct raft *raft, node_id leader);

/* snapshot.c */
bool snapshot_needed(const struct raft *raft, const struct progress *peer);
void snapshot_offer(struct raft *raft, struct progress *peer);
void snapshot_refused(struct raft *raft, struct progress *peer);
void snapshot_compacted(struct raft *raft, raft_index index);
void snapshot_recv_install(struct raft *raft, const struct raft_message *message);
void snapshot_ready(struct raft *raft, raft_index index, raft_term term,
                    const struct raft_configuration *configuration);

/* read.c */
void read_request(struct raft *raft, uint64_t id);
void read_commit_moved(struct raft *raft);
void read_acknowledged(struct raft *raft);
void read_fail_all(struct raft *raft);

#endif
