/* raft/types.h - the vocabulary of consensus: data only, the paper's words.
 *
 * Indexes begin at 1; index 0, term 0 is "before the first entry". Times are milliseconds of whatever clock the caller
 * feeds in; it never goes back. Depends on nothing.
 */
#ifndef RAFT_TYPES_H
#define RAFT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t raft_index;
typedef uint64_t raft_term;
typedef uint64_t raft_time; /* ms */
typedef uint64_t node_id;   /* 1 or more; 0 is "nobody" */

enum {
    RAFT_MEMBERS_MAX = 32,                    /* voters, old voters and learners together */
    RAFT_MESSAGES_MAX = 4 * RAFT_MEMBERS_MAX, /* in one step's effects */
    RAFT_PRIORITY_MAX = 100
};

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* Who votes and who only listens (§6, thesis §4). Each list is sorted by id and names nobody twice. While it is joint, C_old,new
 * in the paper, voters and learners are those of C_new already: what follows it is the same without the old voters. */
struct raft_configuration {
    uint64_t id;         /* index of the entry that made it */
    size_t voters_count; /* 0: of a node that joins, and knows no configuration yet */
    node_id voters[RAFT_MEMBERS_MAX];
    uint8_t priorities
        [RAFT_MEMBERS_MAX];  /* of voters, by place; RAFT_PRIORITY_MAX at the most: the higher leads rather */
    size_t old_voters_count; /* not 0: joint: whatever needs a majority needs one of these as well */
    node_id old_voters[RAFT_MEMBERS_MAX];
    size_t learners_count; /* never counted; no voters, but they may be old voters */
    node_id learners[RAFT_MEMBERS_MAX];
};

/* A run of entries of one term: how the core sees entries, for it never sees a payload. */
struct raft_run {
    raft_index first; /* index of the run's first entry; it goes up to the next run's first */
    raft_term term;
};

enum raft_message_type {
    RAFT_REQUEST_VOTE, /* §5.2; with pre_vote: thesis §9.6 */
    RAFT_VOTE_RESPONSE,
    RAFT_APPEND_ENTRIES, /* §5.3; without entries: the heartbeat, and the question of a ReadIndex round */
    RAFT_APPEND_RESPONSE,
    RAFT_INSTALL_SNAPSHOT, /* §7: what this follower lacks is in no log any more; the caller moves the file */
    RAFT_TIMEOUT_NOW /* thesis §3.10: campaign now, with the leader's consent; nothing but from, to and term */
};

struct raft_request_vote {
    raft_index last_log_index;
    raft_term last_log_term;
    bool pre_vote;
    bool transfer; /* the leader asked for this campaign: nobody stands by that leader (thesis §3.10, §4.2.3) */
};

struct raft_vote_response {
    bool granted;
    bool pre_vote;
};

struct raft_append_entries {
    raft_index prev_log_index;
    raft_term prev_log_term;
    /* Going out: entries prev_log_index + 1 .. last_index are wanted; the caller attaches as many from the front as fit
     * into bytes_max (at least one) and answers with a SENT event. last_index == prev_log_index: none, and no SENT.
     * Coming in: the entries that are attached end at last_index. */
    raft_index last_index;
    uint32_t bytes_max; /* going out only; not on the wire */
    raft_index leader_commit;
    uint64_t round; /* ReadIndex round that an answer confirms (thesis §6.4) */
    uint32_t epoch; /* the leader's count of resets of this link; echoed, so late answers are known */
};

struct raft_append_response {
    bool success;
    raft_index match_index;  /* success: the log matches up to here, and is durable up to here */
    raft_index reject_index; /* refusal: the prev_log_index that did not match */
    raft_index hint_index;   /* refusal: try prev_log_index = hint_index next ... */
    raft_term hint_term;     /* ... where this follower has this term: skips a whole term in one round trip */
    uint64_t round;
    uint32_t epoch;
    uint32_t
        vote_wait_ms; /* it helps nobody else to lead for so long after what it answers; 0: says nothing of that */
};

/* §7. The leader says that what this follower lacks ends there at the earliest; the bytes go their own way. No answer of its
 * own: when the follower has taken a snapshot it says so as to AppendEntries, with this epoch. A lost offer is made again. */
struct raft_install_snapshot {
    raft_index last_included_index;
    raft_term last_included_term;
    uint32_t epoch;
};

struct raft_message {
    enum raft_message_type type;
    node_id from;
    node_id to;
    raft_term term;       /* the sender's currentTerm; a pre-vote request: the term it would campaign in */
    uint64_t after_write; /* going out only: hold back until this write is durable; 0: send now */
    union {
        struct raft_request_vote request_vote;
        struct raft_vote_response vote_response;
        struct raft_append_entries append_entries;
        struct raft_append_response append_response;
        struct raft_install_snapshot install_snapshot;
    };
};

#endif
