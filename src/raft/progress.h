/* raft/progress.h - what a leader knows of one follower (§5.3, Figure 2 nextIndex and matchIndex).
 *
 *            PEER_UP, PEER_DOWN, refusal
 *     +------------------------------------+
 *     v                                    |
 *   probe --- first success ----------> replicate
 *     |  one message out, until            |  ^  a window of messages and bytes out
 *     |  answered                          |  |
 *     +---------------+--------------------+  |
 *                     | next_index is not above the base of the leader's log (§7)
 *                     v                       |
 *                  snapshot --- match_index is at or above the base
 *                  nothing out but offers of the snapshot, and heartbeats that begin at the base
 *
 * next_index and match_index are different things: what to send, and what is known to be stored. The epoch grows with each
 * reset, and answers to an older one say nothing about progress. The window halves on loss, grows by one an answer.
 */
#ifndef RAFT_PROGRESS_H
#define RAFT_PROGRESS_H

#include "raft/types.h"

enum { PROGRESS_INFLIGHT_MAX = 256 };

enum progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT };

struct progress_inflight {
    raft_index last;
    uint32_t bytes;
};

struct progress {
    node_id id;
    raft_index next_index;
    raft_index match_index;
    enum progress_state state;
    bool probe_out; /* probing: a message with entries waits for its answer */
    bool sending;   /* entries are wanted, and SENT has not come yet */
    uint32_t epoch;
    raft_time contact;       /* heard from last, in this term */
    raft_time sent;          /* sent to last */
    raft_time offered;       /* a snapshot was offered last */
    raft_index commit_sent;  /* leader_commit that was sent last */
    uint64_t round_acked;    /* ReadIndex round (thesis §6.4) */
    raft_time promise_until; /* it helps nobody else to lead before (leases) */
    bool leaving;            /* no member any more: it is still told so */
    bool caught_up;          /* its last round of catching up was short (thesis §4.2.1) */
    uint32_t catch_rounds;   /* that it has done */
    raft_index catch_target; /* the round is done when it has this */
    raft_time catch_began;
    uint32_t window; /* messages that may be in flight now */
    uint64_t inflight_bytes;
    size_t inflight_first; /* a ring, oldest first */
    size_t inflight_count;
    struct progress_inflight inflight[PROGRESS_INFLIGHT_MAX];
};

/* A new leader knows nothing of its followers: next_index is after its last entry, match_index is 0 (§5.3). */
void progress_init(struct progress *progress, node_id id, raft_index last_log_index, uint32_t window,
                   raft_time now);

/* The link or the order is lost: what was in flight is not counted on any more. It probes. */
void progress_reset(struct progress *progress);

/* The log begins after `base`, and what it needs next is not above that. Nothing is in flight (progress_reset). */
void progress_wait_for_snapshot(struct progress *progress, raft_index base);

/* A message with entries up to `last` went out. */
void progress_sent(struct progress *progress, raft_index last, uint32_t bytes);

/* The follower stores everything up to `match`; the leader's log begins after `base`. Returns true if that is news. */
bool progress_acknowledged(struct progress *progress, raft_index match, raft_index base, uint32_t window_max);

/* An answer came: if it has what the leader had when its round of catching up began, the next round begins. It has caught up
 * if the round took less than `limit_ms`. */
void progress_catch_up(struct progress *progress, raft_index last_log_index, raft_time now, uint32_t limit_ms);

/* True if entries may be sent now. */
bool progress_may_send(const struct progress *progress, uint32_t window_bytes);

#endif
