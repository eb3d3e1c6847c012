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
    WRITES_MAX = 256,     /* entries of writes not yet durable; beyond it they are joined */
    READ_ROUNDS_MAX = 64, /* ReadIndex rounds in flight; beyond it they are joined */
    ROUNDS_TIMED = 64     /* the newest rounds, whose beginning is known (leases) */
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
    struct raft_configuration configuration;   /* in force: the newest in the log, committed or not (§6) */
    struct raft_configuration *configurations; /* the last that is committed, and those after it, in order */
    size_t configurations_count;
    size_t configurations_capacity;
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
    raft_term led_term;       /* the last that is known to have had a leader; at a start: the one it begins in */
    bool reluctant;
    node_id votes[RAFT_MEMBERS_MAX]; /* who granted one; as candidate or pre-candidate */
    size_t votes_count;
    node_id promised_to; /* helps nobody else to lead until then (leases) */
    raft_time promised_until;

    /* the snapshot that a leader offered last (§7) */
    node_id offer_from;
    raft_term offer_term; /* of the leader */
    uint32_t offer_epoch;

    /* Figure 2, leader */
    struct progress peers[RAFT_MEMBERS_MAX]; /* all members but itself, and some that leave; by id */
    size_t peers_count;
    uint32_t epochs_gone;  /* the highest of a peer that is gone: one that comes back begins above it */
    raft_index term_start; /* index of this term's no-op */
    raft_time heartbeat_deadline;
    raft_time quorum_deadline;
    raft_time commit_deadline; /* followers are told the commit index by then; UINT64_MAX: they know */

    /* leadership transfer (thesis §3.10) */
    node_id transfer_to; /* 0: none is under way */
    bool transfer_told;  /* TIMEOUT_NOW went out since the last heartbeat */
    raft_time transfer_deadline;
    raft_time prefer_from; /* follow_priority hands over from then on */

    /* reads */
    uint64_t round;                       /* given out last */
    raft_time rounds_began[ROUNDS_TIMED]; /* by round modulo */
    bool lease_void;                      /* for the rest of the term: TIMEOUT_NOW went out */
    uint64_t read_waiting;                /* id that waits for the first commit of the term; 0: none */
    uint64_t read_last;                   /* id seen last */
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

/* membership.c */
/* What a voter has of something that is counted: an index, a round, a time; yes (1) or no (0). */
typedef uint64_t membership_value(const struct raft *raft, node_id voter);
/* The highest value that a majority has: of each set in force. Whoever needs a majority asks here. */
uint64_t membership_agreed(const struct raft *raft, membership_value *value);
bool membership_will_vote(const struct raft_configuration *configuration,
                          node_id id);                                             /* once it is joint no more */
bool membership_votes(const struct raft_configuration *configuration, node_id id); /* in either set */
bool membership_has(const struct raft_configuration *configuration, node_id id);   /* votes, or learns */
bool raft_is_voter(const struct raft *raft);
bool membership_may_campaign(const struct raft *raft);
uint32_t membership_priorities_above(const struct raft *raft);
bool membership_is_sound(const struct raft_configuration *configuration);
/* Configurations of entries from `from` on that came with a message. */
void membership_append(struct raft *raft, const struct raft_configuration *configurations, size_t count,
                       raft_index from);
void membership_cut(struct raft *raft, raft_index from);
void membership_installed(struct raft *raft, const struct raft_configuration *configuration, raft_index index,
                          bool held);
void membership_commit_moved(struct raft *raft); /* of any server */
void membership_committed(struct raft *raft);    /* of a leader: what follows from that */
enum raft_change membership_change(struct raft *raft, const struct raft_configuration *wanted, uint64_t expected_id,
                                   bool force);
enum raft_change membership_abort(struct raft *raft);
/* Undoes a change for which the new set has no majority of this, and the old one has. */
bool membership_abort_without(struct raft *raft, membership_value *value, uint64_t least);

/* peers.c */
struct progress *peers_find(struct raft *raft, node_id id); /* NULL: no peer, such as this server itself */
const struct progress *peers_look(const struct raft *raft, node_id id);
void peers_begin_term(struct raft *raft);
void peers_follow_configuration(struct raft *raft);
void peers_drop_silent(struct raft *raft);
void peers_drop_told(struct raft *raft, node_id id);
void peers_asked(struct raft *raft, const struct raft_message *message);
bool peers_caught_up(const struct raft *raft, node_id id);

/* transfer.c */
void transfer_begin(struct raft *raft, node_id to);
void transfer_go_on(struct raft *raft);
void transfer_heartbeat(struct raft *raft);
void transfer_timeout(struct raft *raft);
void transfer_lost(struct raft *raft);
void transfer_prefer(struct raft *raft);

/* election.c */
void election_reset_deadline(struct raft *raft);
void election_timeout(struct raft *raft);
void election_campaign(struct raft *raft);
void election_count_votes(struct raft *raft);
void election_recv_timeout_now(struct raft *raft, const struct raft_message *message);
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
void replication_recv_append(struct raft *raft, const struct raft_event *event);
void replication_recv_response(struct raft *raft, const struct raft_message *message);
void replication_heartbeat(struct raft *raft, struct progress *peer);
void replication_tell_commit(struct raft *raft);
uint64_t replication_contact(const struct raft *raft, node_id voter);
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
void read_request(struct raft *raft, uint64_t id, bool lease);
void read_begin_lease_round(struct raft *raft);
void read_round_answered(struct raft *raft, struct progress *peer, const struct raft_append_response *response);
raft_time read_lease_until(const struct raft *raft);
void read_commit_moved(struct raft *raft);
void read_acknowledged(struct raft *raft);
void read_fail_all(struct raft *raft);

#endif
