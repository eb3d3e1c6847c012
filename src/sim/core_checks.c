/* sim/core_checks.c - see sim/core_checks.h. */
#include "sim/core_checks.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"

struct core_checks {
    const struct core_node *nodes[CORE_NODES_MAX];
    uint32_t count;
    bool votes_by_hand;
    raft_term *committed; /* term of each committed entry, as first seen */
    raft_index committed_last;
    node_id *leaders; /* by term, below CORE_LOG_MAX */
    char broken[200];
};

struct core_checks *core_checks_new(const struct core_node *const *nodes, uint32_t count, bool votes_by_hand)
{
    CHECK(count <= CORE_NODES_MAX);
    struct core_checks *checks = mem_zalloc(1, sizeof *checks);
    checks->count = count;
    checks->votes_by_hand = votes_by_hand;
    for (uint32_t i = 0; i < count; i++)
        checks->nodes[i] = nodes[i];
    checks->committed = mem_zalloc(CORE_LOG_MAX, sizeof *checks->committed);
    checks->leaders = mem_zalloc(CORE_LOG_MAX, sizeof *checks->leaders);
    return checks;
}

void core_checks_free(struct core_checks *checks)
{
    mem_free(checks->committed);
    mem_free(checks->leaders);
    mem_free(checks);
}

const char *core_checks_broken(const struct core_checks *checks)
{
    return checks->broken[0] != 0 ? checks->broken : NULL;
}

void core_checks_break(struct core_checks *checks, uint32_t node, const char *what, uint64_t number)
{
    if (checks->broken[0] != 0)
        return;
    int size = snprintf(checks->broken, sizeof checks->broken, "node %u: %s", node + 1, what);
    if (number != 0 && size > 0 && (size_t)size < sizeof checks->broken)
        snprintf(checks->broken + size, sizeof checks->broken - (size_t)size, " (%llu)",
                 (unsigned long long)number);
}

raft_index core_checks_committed(const struct core_checks *checks)
{
    return checks->committed_last;
}

/* --- after a step ------------------------------------------------------------------------------------------------------ */

/* The configuration that a step acted on: in the log before what it appended. */
static const struct raft_configuration *acted_on(const struct core_node *node)
{
    bool own = node->effects.write.source == RAFT_APPEND_CONFIGURATION;
    return core_members_as_of(node->members, node->terms, own ? node->effects.write.first - 1 : node->last);
}

typedef bool counts(const struct core_node *node, uint64_t number, uint64_t term);

static bool have_majority(const struct core_checks *checks, const node_id *voters, size_t count, counts *does,
                          uint64_t number, uint64_t term)
{
    size_t have = 0;
    for (size_t i = 0; i < count; i++)
        if (voters[i] <= checks->count && does(checks->nodes[voters[i] - 1], number, term))
            have++;
    return have * 2 > count;
}

/* §6: a majority of each set. */
static bool have_majorities(const struct core_checks *checks, const struct raft_configuration *now, counts *does,
                            uint64_t number, uint64_t term)
{
    return have_majority(checks, now->voters, now->voters_count, does, number, term) &&
           (now->old_voters_count == 0 ||
            have_majority(checks, now->old_voters, now->old_voters_count, does, number, term));
}

/* It voted for `leader`, which knows that of itself; or it may have, before it went on to a later term. */
static bool may_have_voted(const struct core_node *node, node_id leader, raft_term term)
{
    struct raft_status status = {0};
    if (node->raft != NULL)
        raft_get_status(node->raft, &status);
    return status.id == leader || node->disk_term > term || (node->disk_term == term && node->disk_vote == leader);
}

static void check_elected(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    const struct raft_configuration *now = acted_on(node);
    if (now == NULL || checks->votes_by_hand)
        return;
    if (!have_majorities(checks, now, may_have_voted, at + 1, node->effects.term))
        core_checks_break(checks, at, "leads without the votes of a majority, term", node->effects.term);
}

static void check_leader(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    if (node->effects.role != RAFT_LEADER || node->effects.term >= CORE_LOG_MAX)
        return;
    node_id *leader = &checks->leaders[node->effects.term];
    if (*leader == 0) {
        *leader = at + 1;
        check_elected(checks, at);
        for (raft_index index = 1; index <= checks->committed_last; index++)
            if (index > node->last || node->terms[index] != checks->committed[index])
                core_checks_break(checks, at, "leader completeness: a new leader lacks a committed entry", index);
    }
    if (*leader != at + 1)
        core_checks_break(checks, at, "election safety: two leaders in a term", node->effects.term);
}

static bool has_durable(const struct core_node *node, raft_index index, raft_term term)
{
    return node->disk_last >= index && node->disk_terms[index] == term;
}

static void check_new_commit(struct core_checks *checks, uint32_t at, raft_index index)
{
    raft_term term = checks->nodes[at]->terms[index];
    checks->committed[index] = term;
    checks->committed_last = index;
    if (!have_majorities(checks, acted_on(checks->nodes[at]), has_durable, index, term))
        core_checks_break(checks, at, "committed, and not durable on a majority", index);
}

static void check_commit(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    for (raft_index index = 1; index <= node->effects.commit_index; index++) {
        if (index > node->last) {
            core_checks_break(checks, at, "commit beyond the log", index);
            return;
        }
        if (index > checks->committed_last)
            check_new_commit(checks, at, index);
        else if (checks->committed[index] != node->terms[index])
            core_checks_break(checks, at, "state machine safety: another entry committed at the index", index);
    }
}

/* Two logs that hold an entry of the same index and term are equal up to there. */
static void check_matching(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    for (uint32_t i = 0; i < checks->count; i++) {
        const struct core_node *other = checks->nodes[i];
        if (i == at || other->raft == NULL)
            continue;
        raft_index index = node->last < other->last ? node->last : other->last;
        while (index > 0 && node->terms[index] != other->terms[index])
            index--;
        if (memcmp(node->terms, other->terms, (size_t)(index + 1) * sizeof *node->terms) != 0)
            core_checks_break(checks, at, "log matching: equal entries after unequal ones", index);
    }
}

/* The log goes on after what its snapshot includes, and that is committed. */
static void check_base(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    struct raft_status status;
    raft_get_status(node->raft, &status);
    if (status.base_index != node->base)
        core_checks_break(checks, at, "the log begins after another entry than was asked for", status.base_index);
    else if (status.base_term != node->terms[node->base])
        core_checks_break(checks, at, "the entry that the log begins after had another term", status.base_index);
    if (node->base > node->effects.commit_index)
        core_checks_break(checks, at, "a snapshot includes what is not committed", node->base);
}

static bool same_voters(const node_id *left, size_t left_count, const node_id *right, size_t right_count)
{
    return left_count == right_count && memcmp(left, right, left_count * sizeof *left) == 0;
}

/* A configuration that a leader appended: after a committed one, joint if other nodes vote; or what a joint one leads to, once that
 * is committed; or what came before the joint one, while it is not. */
static void check_change(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    raft_index first = node->effects.write.first;
    const struct raft_configuration *next = core_members_at(node->members, first, node->terms[first]);
    const struct raft_configuration *last = core_members_as_of(node->members, node->terms, first - 1);
    bool committed = last->id <= node->effects.commit_index;
    bool same = same_voters(next->voters, next->voters_count, last->voters, last->voters_count);
    if (last->old_voters_count > 0 && !committed) {
        const struct raft_configuration *old = core_members_as_of(node->members, node->terms, last->id - 1);
        if (next->old_voters_count > 0 ||
            !same_voters(next->voters, next->voters_count, old->voters, old->voters_count))
            core_checks_break(checks, at, "a joint configuration was left before it was committed", first);
    } else if (!committed) {
        core_checks_break(checks, at, "two changes at once", first);
    } else if (last->old_voters_count > 0 ? next->old_voters_count > 0 || !same
                                          : !same && !same_voters(next->old_voters, next->old_voters_count,
                                                                  last->voters, last->voters_count)) {
        core_checks_break(checks, at, "a configuration does not follow the one before", first);
    }
}

void core_checks_stepped(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    check_leader(checks, at);
    check_commit(checks, at);
    check_base(checks, at);
    if (node->effects.write.source == RAFT_APPEND_CONFIGURATION)
        check_change(checks, at);
    if (node->effects.write.source != RAFT_APPEND_NONE || node->effects.write.base_index != 0)
        check_matching(checks, at);
}

void core_checks_started(struct core_checks *checks, uint32_t at)
{
    const struct core_node *node = checks->nodes[at];
    struct raft_status status;
    raft_get_status(node->raft, &status);
    if (status.current_term < node->disk_term)
        core_checks_break(checks, at, "a start forgot the term", node->disk_term);
    else if (status.current_term == node->disk_term && status.voted_for != node->disk_vote)
        core_checks_break(checks, at, "a start forgot the vote", node->disk_vote);
    if (status.base_index != node->disk_base)
        core_checks_break(checks, at, "a start forgot where the log begins", node->disk_base);
    check_matching(checks, at);
}

/* --- messages, reads --------------------------------------------------------------------------------------------------- */

static bool vote_is_durable(const struct core_node *node, raft_term term, node_id voted_for)
{
    return node->disk_term > term || (node->disk_term == term && node->disk_vote == voted_for);
}

/* What a success says to the leader of its term: durable here, and the same there. */
static void check_acknowledged(struct core_checks *checks, uint32_t at, const struct raft_message *message)
{
    const struct core_node *node = checks->nodes[at];
    raft_index match = message->append_response.match_index;
    if (node->disk_term > message->term)
        return; /* it may have been cut away in a later term */
    if (match > node->disk_last) {
        core_checks_break(checks, at, "acknowledges what is not durable", match);
        return;
    }
    if (message->to > checks->count)
        return;
    const struct core_node *leader = checks->nodes[message->to - 1];
    if (leader->raft == NULL || leader->effects.role != RAFT_LEADER || leader->effects.term != message->term)
        return;
    if (match > leader->last || leader->terms[match] != node->disk_terms[match])
        core_checks_break(checks, at, "acknowledges what is not the leader's", match);
}

void core_checks_sent(struct core_checks *checks, uint32_t at, const struct raft_message *message)
{
    const struct core_node *node = checks->nodes[at];
    if (message->type == RAFT_REQUEST_VOTE && !message->request_vote.pre_vote &&
        !vote_is_durable(node, message->term, message->from))
        core_checks_break(checks, at, "asks for votes before its own is durable, term", message->term);
    if (message->type == RAFT_VOTE_RESPONSE && message->vote_response.granted && !message->vote_response.pre_vote &&
        !vote_is_durable(node, message->term, message->to))
        core_checks_break(checks, at, "a vote leaves before it is durable, term", message->term);
    if (message->type == RAFT_APPEND_RESPONSE && message->append_response.success)
        check_acknowledged(checks, at, message);
}

void core_checks_read(struct core_checks *checks, uint32_t at, raft_index floor, raft_index index)
{
    if (index < floor)
        core_checks_break(checks, at, "a linearizable read misses what was committed before it", floor);
}
