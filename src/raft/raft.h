/* raft/raft.h - the contract of the core: one pure function.
 *
 *     raft_step(raft, event, effects)
 *
 * The time comes in with the event, the seed with the configuration; what must happen comes out, with the time of the
 * next wake-up. No I/O, clock, thread, payload or global. The same events give the same effects. raft_step cannot fail:
 * bad input from the network is ignored and traced, bad input from the caller is a CHECK.
 *
 * What the caller must do with effects, in this order:
 *   1. effects->write: make it durable as one unit, in the order vote, cut, entries, and then feed PERSISTED with its
 *      number. Writes become durable in the order of their numbers; PERSISTED of a number covers all before it.
 *   2. effects->messages: send each when its after_write is durable (0: at once). Order to one peer is kept among equals. Some
 *      go to a server that is no member any more, so that it learns that; if there is no way to it, it is lost.
 *      An APPEND_ENTRIES that wants entries is answered with SENT as soon as it is known how many went along (possibly
 *      much later, when they had to be read from disk): until then the core asks for nothing more for that peer.
 *   3. effects->commit_index moved: apply up to there.
 *   4. reads: answer those that are ready once read_index is applied; refuse those that failed.
 *   5. call again with TIMEOUT no later than wake_at.
 *   6. an INSTALL_SNAPSHOT that came in (effects->snapshot_offered): fetch that snapshot or a newer one of the same leader,
 *      verify it, and then feed SNAPSHOT_READY; if the core takes it, its write says `reset` or `base`, and once that is
 *      durable the state is the snapshot's (§7). Until then everything goes on as before; the offer is repeated as long as
 *      it is not taken, at the pace of heartbeats, and each may be answered by going on with the fetch.
 *   7. configuration_changed: another configuration is in force (raft_get_configuration), because of an entry that was appended
 *      or cut, or a snapshot. It is committed when its id is. A node that is in none of its lists was removed, once that is
 *      committed.
 * Messages may be lost, doubled, reordered, delayed; writes may not.
 *
 * Membership (§6, thesis §4). A configuration is an entry, in force as soon as it is in the log. CHANGE proposes any set in place
 * of any other. If the voters differ, what is appended is joint; once that is committed the leader, or the next one, appends
 * what it leads to by itself. The caller knows the configurations that entries carry, hands them in with the messages that bring
 * those, and at a restart (raft_restore_configuration); of what the core appends, the write says so, and the configuration in
 * force is its content. A leader that is no voter afterwards leads to the end, hands over, and steps down.
 *   A change that cannot finish, for too few of the new voters answer, is undone by ABORT_CHANGE, or by the leader itself where
 * it would step down for want of their majority: the old set is appended, and in force. Only the leader that proposed it may,
 * and only while it is not committed: then nobody can have left the joint configuration for the new one. Should that leader be
 * lost first, its successor needs both majorities: that is why new voters must have caught up.
 *   Catching up (thesis §4.2.1): a round is done when a learner holds what the leader's log had when the round began. A learner
 * has caught up if it answers and its last round took less than an election time-out. A voter that was none, nor a learner that
 * has caught up, is refused, unless forced.
 *
 * Leadership (thesis §3.10). TRANSFER lets a voter catch up, tells it to campaign, and until then takes no proposals; after an
 * election time-out it is over, and the leader goes on. A voter with voters of higher priorities waits an election time-out
 * longer for each such priority, at most three, before it campaigns; with follow_priority a leader hands over to one that has
 * caught up.
 *
 * Lease reads (thesis §6.4.1): each voter says with its answers for how long after what it answers it helps nobody else to lead.
 * Where a majority does, reads that are content with that need not ask. A round begins with each heartbeat then, and counts from
 * when it began, less lease_drift_ms. None for the rest of a term in which TIMEOUT_NOW was sent, for that sets promises aside. A
 * lease that is not valid makes the read a ReadIndex one. The reads of an event must have come in before its `now` was looked up:
 * a process may stand still in between, and others lead meanwhile.
 *
 * Owners: everything in `event` is borrowed for the call; everything in `effects` is plain data. Depends on base.
 */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include "base/trace.h"
#include "raft/types.h"

struct raft;

struct raft_options {
    node_id id;
    uint64_t seed;                /* fixes every random choice */
    uint32_t election_timeout_ms; /* drawn anew from [this, 2 * this) for each wait (§5.2); after each term
                                   * without a leader twice that, up to four times */
    uint32_t heartbeat_ms;        /* less than election_timeout_ms */
    uint32_t window_messages;     /* AppendEntries with entries in flight to one follower, 1..256 */
    uint32_t window_bytes;        /* bytes of entries in flight to one follower; one message may exceed it alone */
    uint32_t message_bytes_max;   /* bytes of entries in one AppendEntries; one entry may exceed it alone */
    uint64_t uncommitted_entries_max; /* a leader refuses proposals beyond this many entries not yet committed */
    /* Votes for nobody until this long after raft_start, for it may have promised so before (lease reads): the largest
     * election time-out in use, and the drift; 0 where no node reads by lease. */
    uint32_t start_wait_ms;
    uint32_t
        lease_drift_ms; /* reads by lease: how far clocks may drift apart in an election time-out; 0: no such reads */
    bool follow_priority;    /* a leader hands over to a voter of higher priority */
    struct trace_sink trace; /* the narrative; .line NULL: none */

    /* For published tests of Raft that assume them away; no node offers these. */
    bool no_pre_vote;     /* campaigns at once, in a new term (§5.2 as the paper has it) */
    bool no_check_quorum; /* a leader without a majority stays one, and so does not stick to itself either */
    bool no_stickiness;   /* a server that hears from a leader helps to replace it all the same */
};

enum raft_event_type {
    RAFT_EVENT_TIMEOUT,   /* a deadline may have passed; harmless when none has */
    RAFT_EVENT_MESSAGE,   /* from a peer */
    RAFT_EVENT_PROPOSE,   /* append entries, if leader */
    RAFT_EVENT_PERSISTED, /* a write is durable */
    RAFT_EVENT_SENT,      /* how much of a wanted range went out */
    RAFT_EVENT_READ,      /* linearizable reads wait (thesis §6.4) */
    RAFT_EVENT_PEER_UP,   /* the link to a peer is new: probe at once */
    RAFT_EVENT_PEER_DOWN, /* the link to a peer is gone: what was in flight is lost */
    RAFT_EVENT_STEP_DOWN, /* give up leadership or candidacy (operator, hanging disk, parked machine) */
    RAFT_EVENT_RELUCTANT, /* set or clear: campaign only after four election timeouts without a leader (parked) */
    RAFT_EVENT_COMPACTED, /* a snapshot stands for the entries up to an index: the log begins after it from now on (§7) */
    RAFT_EVENT_SNAPSHOT_READY, /* a leader's snapshot is here, whole and verified: take its place in the log (§7) */
    RAFT_EVENT_CHANGE,         /* propose a configuration (§6) */
    RAFT_EVENT_ABORT_CHANGE,   /* back to the configuration before the joint one */
    RAFT_EVENT_TRANSFER,       /* hand leadership to another voter (thesis §3.10) */
    RAFT_EVENT_CAMPAIGN, /* do not wait for the election time-out; ignored while a leader is heard: it can transfer */
    RAFT_EVENT_LEASES /* another options.lease_drift_ms from now on; 0: no more promises, and none is relied on */
};

struct raft_event {
    enum raft_event_type type;
    raft_time now;
    union {
        struct {
            const struct raft_message *message;
            const struct raft_run *runs; /* terms of the attached entries, from prev_log_index + 1 on */
            size_t runs_count;
            /* Of the attached entries those that are configurations, in order; the id is the entry's index. */
            const struct raft_configuration *configurations;
            size_t configurations_count;
        } message;
        struct {
            uint64_t count; /* entries, at least 1 */
        } propose;
        struct {
            uint64_t write_number;
        } persisted;
        struct {
            node_id peer;
            uint32_t epoch; /* of the message that wanted them */
            raft_index
                last; /* index of the last entry that went along; prev_log_index: none could (compacted meanwhile) */
            uint32_t bytes;
        } sent;
        struct {
            uint64_t id; /* grows; all reads with an id up to this wait */
            bool lease;  /* a lease will do, if it is valid */
        } read;
        struct {
            node_id peer;
        } peer;
        struct {
            const char *why; /* one word or two, for the trace */
        } step_down;
        struct {
            bool on;
        } reluctant;
        struct {
            /* At most the commit index and the durable index; at or below the trail's base: ignored. A leader offers its
             * snapshot to each follower that needs an entry at or below it from now on. */
            raft_index index;
        } compacted;
        struct {
            /* Not taken if it brings nothing: up to there everything is committed here, or this server leads by now, or has
             * not heard of that term yet. */
            raft_index index; /* the last that the snapshot includes, and its term */
            raft_term term;
            const struct raft_configuration *configuration; /* as of that index */
        } snapshot_ready;
        struct {
            const struct raft_configuration
                *configuration;   /* voters, priorities, learners; id and old voters are not read */
            uint64_t expected_id; /* of the one in force: compare and set */
            bool force;           /* new voters need not have caught up */
        } change;
        struct {
            node_id to; /* a voter; 0: the one that lacks least, of the highest priority among equals */
        } transfer;
        struct {
            uint32_t drift_ms;
        } leases;
    };
};

/* What became of CHANGE or ABORT_CHANGE: appended, or refused for a reason, and nothing happened. */
enum raft_change {
    RAFT_CHANGE_NONE, /* the event was another */
    RAFT_CHANGE_TAKEN,
    RAFT_CHANGE_NOT_LEADER,
    RAFT_CHANGE_TOO_EARLY,    /* before the leader's first entry of its term is committed (§6; raft-dev, 2015) */
    RAFT_CHANGE_PENDING,      /* another is not done */
    RAFT_CHANGE_TRANSFERRING, /* leadership is being transferred */
    RAFT_CHANGE_STALE,        /* another configuration is in force than was expected */
    RAFT_CHANGE_NO_VOTERS,
    RAFT_CHANGE_UNSOUND, /* a list is not sorted, or names somebody twice or nobody; a learner that votes; a priority */
    RAFT_CHANGE_TOO_MANY, /* RAFT_MEMBERS_MAX, old voters included */
    RAFT_CHANGE_BEHIND,   /* a new voter has not caught up */
    RAFT_CHANGE_NO_ABORT  /* there is nothing that may be aborted (any more) */
};

/* What became of a transfer in this step. */
enum raft_transfer {
    RAFT_TRANSFER_NONE, /* nothing */
    RAFT_TRANSFER_BEGUN,
    RAFT_TRANSFER_REFUSED, /* not leader, one is under way, or its goal is no other voter */
    RAFT_TRANSFER_FAILED,  /* time is up: leads on */
    RAFT_TRANSFER_OVER     /* leads no more; whether the goal does is yet to be seen */
};

enum raft_append_source {
    RAFT_APPEND_NONE,
    RAFT_APPEND_NOOP,         /* one entry without payload: a leader's first (§8) */
    RAFT_APPEND_PROPOSAL,     /* the entries of the PROPOSE event, all of them */
    RAFT_APPEND_MESSAGE,      /* entries first..last of the message in the event */
    RAFT_APPEND_CONFIGURATION /* one entry: the configuration in force */
};

/* What must become durable together. */
struct raft_write {
    uint64_t number; /* 0: nothing to write; else greater than every earlier one */
    bool vote;       /* currentTerm and votedFor changed: */
    raft_term term;
    node_id voted_for;
    raft_index cut_from; /* not 0: drop the entries from here on (§5.3), before appending */
    enum raft_append_source source;
    raft_index first; /* entries first..last, of `append_term` unless they come from the message */
    raft_index last;
    raft_term append_term;
    /* §7: after SNAPSHOT_READY was taken. The log stands on the snapshot at base_index from now on: `reset` drops every entry
     * (none matched), else those after base_index stay. Comes alone, without cut and entries. */
    raft_index base_index; /* 0: none */
    raft_term base_term;
    bool reset;
};

struct raft_effects {
    struct raft_write write;
    size_t messages_count;
    struct raft_message messages[RAFT_MESSAGES_MAX];

    enum raft_role role; /* as it is after the step, with the next three */
    raft_term term;
    node_id leader; /* 0: none known */
    raft_index commit_index;
    bool leadership_changed; /* role, term or leader differ from before the step */
    bool proposal_refused;   /* PROPOSE: not leader, too much uncommitted, or leadership is being transferred */
    bool snapshot_offered;   /* the leader offers the snapshot of the message in this event, and it would help */
    bool snapshot_taken;     /* SNAPSHOT_READY: it was; else it brings nothing */

    uint64_t configuration_id;  /* of the one in force; */
    bool configuration_changed; /* it was another before the step, or had other content */
    enum raft_change change;
    enum raft_transfer transfer;

    bool
        read_leased; /* READ with `lease`: it was valid at `now`. The reads of this event alone are confirmed, at read_index */
    uint64_t reads_ready_id; /* not 0: reads up to this id are confirmed, at read_index */
    raft_index read_index;
    uint64_t reads_failed_id; /* not 0: reads up to this id, not confirmed before, failed: not leader (any more) */

    raft_time wake_at; /* UINT64_MAX: never (a lone learner) */
};

/* For status, metrics and specs. */
struct raft_peer_status {
    node_id id;
    raft_index next_index;
    raft_index match_index;
    bool replicating; /* else probing, or */
    bool snapshot;    /* waiting for it to take a snapshot */
    bool active;      /* heard from within the last check-quorum period */
    bool voter;       /* of either set of a joint configuration */
    bool caught_up;   /* may become a voter */
    uint32_t catch_up_rounds;
    uint32_t inflight_messages;
    uint32_t inflight_bytes;
    uint32_t window_messages; /* now: shrinks on loss, grows on acks */
};

struct raft_status {
    node_id id;
    enum raft_role role;
    raft_term current_term;
    node_id voted_for;
    node_id leader;
    raft_index commit_index;
    raft_index last_log_index;
    raft_term last_log_term;
    raft_index durable_index; /* own log, durable and not since cut */
    raft_index base_index;    /* the log begins after it; 0: nothing was compacted */
    raft_term base_term;
    uint64_t configuration_id; /* in force */
    node_id transfer_to;       /* 0: no transfer is under way */
    raft_time lease_until;     /* leader: lease reads are answered before then; 0: none */
    size_t peers_count;        /* leader only; among them removed ones that are still told so */
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
};

/* What the delta invariants compare with: taken before a step. */
struct raft_digest {
    raft_term current_term;
    node_id voted_for;
    enum raft_role role;
    raft_index commit_index;
    raft_index last_log_index;
    raft_index base_index;
};

/* Makes a core that knows nothing yet. Options are copied. Owned by the caller. */
struct raft *raft_new(const struct raft_options *options);

void raft_free(struct raft *raft);

/* Before raft_start: what was durable. A log that begins after a snapshot: the index and term of the entry before its first,
 * before all entries (§7). These come in order, in runs, from 1 or from after that index on. All voters' logs begin with
 * entry 1, the set that the cluster was formed with: commit_index starts at `committed`, which is 1, or more if the caller
 * knows more (a snapshot's index; never below the base); 0 for a node that joins with an empty log. Configurations: the
 * snapshot's and each that an entry carries, in order. */
void raft_restore_vote(struct raft *raft, raft_term term, node_id voted_for);
void raft_restore_base(struct raft *raft, raft_index index, raft_term term);
void raft_restore_entries(struct raft *raft, raft_index first, raft_index last, raft_term term);
void raft_restore_configuration(struct raft *raft, const struct raft_configuration *configuration);

/* Begins: a follower that waits for its election timeout (§5.2), if it is a voter. A cluster of one campaigns at once. */
void raft_start(struct raft *raft, raft_time now, raft_index committed, struct raft_effects *effects);

/* The core. See the head of this file. */
void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects);

/* Term of the entry at `index`, or of the snapshot that ends there; 0 if the log does not hold it (also for index 0). */
raft_term raft_term_at(const struct raft *raft, raft_index index);

/* Copies out the configuration in force. */
void raft_get_configuration(const struct raft *raft, struct raft_configuration *configuration);

/* The role as a word: "follower", "pre-candidate", "candidate", "leader". */
const char *raft_role_name(enum raft_role role);

/* Copies out what status and specs want. */
void raft_get_status(const struct raft *raft, struct raft_status *status);

/* Remembers what raft_invariants compares with. */
void raft_get_digest(const struct raft *raft, struct raft_digest *digest);

/* Checks everything we believe about one server, its state and what a step may change (`before` may be NULL). NULL, or a
 * static sentence that says what is broken. */
const char *raft_invariants(const struct raft *raft, const struct raft_digest *before);

#endif
