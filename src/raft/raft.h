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
 *   2. effects->messages: send each when its after_write is durable (0: at once). Order to one peer is kept among equals.
 *      An APPEND_ENTRIES that wants entries is answered with SENT as soon as it is known how many went along (possibly
 *      much later, when they had to be read from disk): until then the core asks for nothing more for that peer.
 *   3. effects->commit_index moved: apply up to there.
 *   4. reads: answer those that are ready once read_index is applied; refuse those that failed.
 *   5. call again with TIMEOUT no later than wake_at.
 *   6. an INSTALL_SNAPSHOT that came in (effects->snapshot_offered): fetch that snapshot or a newer one of the same leader,
 *      verify it, and then feed SNAPSHOT_READY; if the core takes it, its write says `reset` or `base`, and once that is
 *      durable the state is the snapshot's (§7). Until then everything goes on as before; the offer is repeated as long as
 *      it is not taken, at the pace of heartbeats, and each may be answered by going on with the fetch.
 * Messages may be lost, doubled, reordered, delayed; writes may not.
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
    uint32_t election_timeout_ms; /* drawn anew from [this, 2 * this) for each wait (§5.2) */
    uint32_t heartbeat_ms;        /* less than election_timeout_ms */
    uint32_t window_messages;     /* AppendEntries with entries in flight to one follower, 1..256 */
    uint32_t window_bytes;        /* bytes of entries in flight to one follower; one message may exceed it alone */
    uint32_t message_bytes_max;   /* bytes of entries in one AppendEntries; one entry may exceed it alone */
    uint64_t uncommitted_entries_max; /* a leader refuses proposals beyond this many entries not yet committed */
    uint32_t start_wait_ms;  /* grants no vote until this long after raft_start, for it may have promised a lease */
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
    RAFT_EVENT_SNAPSHOT_READY /* a leader's snapshot is here, whole and verified: take its place in the log (§7) */
};

struct raft_event {
    enum raft_event_type type;
    raft_time now;
    union {
        struct {
            const struct raft_message *message;
            const struct raft_run *runs; /* terms of the attached entries, from prev_log_index + 1 on */
            size_t runs_count;
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
    };
};

enum raft_append_source {
    RAFT_APPEND_NONE,
    RAFT_APPEND_NOOP,     /* one entry without payload: a leader's first (§8) */
    RAFT_APPEND_PROPOSAL, /* the entries of the PROPOSE event, all of them */
    RAFT_APPEND_MESSAGE   /* entries first..last of the message in the event */
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
    bool proposal_refused;   /* PROPOSE: not leader, or too much uncommitted */
    bool snapshot_offered;   /* the leader offers the snapshot of the message in this event, and it would help */
    bool snapshot_taken;     /* SNAPSHOT_READY: it was; else it brings nothing */

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
    size_t peers_count; /* leader only */
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
 * knows more (a snapshot's index; never below the base). */
void raft_restore_vote(struct raft *raft, raft_term term, node_id voted_for);
void raft_restore_base(struct raft *raft, raft_index index, raft_term term);
void raft_restore_entries(struct raft *raft, raft_index first, raft_index last, raft_term term);
void raft_restore_configuration(struct raft *raft, const struct raft_configuration *configuration);

/* Begins: a follower that waits for its election timeout (§5.2). A cluster of one campaigns at once. */
void raft_start(struct raft *raft, raft_time now, raft_index committed, struct raft_effects *effects);

/* The core. See the head of this file. */
void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects);

/* Term of the entry at `index`, or of the snapshot that ends there; 0 if the log does not hold it (also for index 0). */
raft_term raft_term_at(const struct raft *raft, raft_index index);

/* Copies out what status and specs want. */
void raft_get_status(const struct raft *raft, struct raft_status *status);

/* Remembers what raft_invariants compares with. */
void raft_get_digest(const struct raft *raft, struct raft_digest *digest);

/* Checks everything we believe about one server, its state and what a step may change (`before` may be NULL). NULL, or a
 * static sentence that says what is broken. */
const char *raft_invariants(const struct raft *raft, const struct raft_digest *before);

#endif
