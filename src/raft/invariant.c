/* raft/invariant.c - everything we believe about one server, its state and what a step may change (Figure 3). */
#include "raft/state.h"

static const char *check_delta(const struct raft *raft, const struct raft_digest *before)
{
    if (raft->current_term < before->current_term)
        return "currentTerm fell";
    if (raft->current_term == before->current_term && before->voted_for != 0 &&
        raft->voted_for != before->voted_for)
        return "votedFor changed within a term";
    if (raft->commit_index < before->commit_index)
        return "commitIndex fell";
    if (raft->trail.base < before->base_index)
        return "the log's base fell";
    if (before->role == RAFT_LEADER && raft->role == RAFT_LEADER && raft->current_term == before->current_term &&
        raft->trail.last < before->last_log_index)
        return "a leader removed entries from its log";
    if (before->role == RAFT_LEADER && raft->role == RAFT_LEADER && raft->current_term != before->current_term)
        return "a leader went from one term to another";
    return NULL;
}

static const char *check_peer(const struct raft *raft, const struct progress *peer)
{
    if (peer->match_index >= peer->next_index)
        return "matchIndex is not below nextIndex";
    if (peer->match_index > raft->trail.last)
        return "matchIndex is beyond the log";
    if (peer->next_index > raft->trail.last + 1)
        return "nextIndex is beyond the log's end";
    if (peer->state == PROGRESS_SNAPSHOT && peer->match_index >= raft->trail.base)
        return "a follower waits for a snapshot, and has the entry at its end";
    if (peer->next_index <= raft->trail.base)
        return "nextIndex is not above the log's base";
    if (peer->inflight_count > PROGRESS_INFLIGHT_MAX || peer->window == 0)
        return "a window is out of bounds";
    return NULL;
}

/* §6: the newest configuration in the log is in force; at most a change and its end, or its undoing, are not committed. */
static const char *check_members(const struct raft *raft)
{
    const struct raft_configuration *list = raft->configurations;
    size_t count = raft->configurations_count;
    if (raft->configuration.id != (count > 0 ? list[count - 1].id : 0))
        return "another configuration is in force than the log's newest";
    if (raft->configuration.id > raft->trail.last)
        return "a configuration is in force that is not in the log";
    for (size_t i = 0; i < count; i++)
        if (!membership_is_sound(&list[i]) || (i > 0 && list[i].id <= list[i - 1].id))
            return "a configuration is not sound";
    if (count > 1 && list[1].id <= raft->commit_index)
        return "a configuration is kept that nothing can go back to";
    if (raft->role != RAFT_LEADER)
        return raft->transfer_to != 0 ? "a transfer without a leader" : NULL;
    for (size_t i = 0; i < raft->peers_count; i++)
        if (raft->peers[i].id == raft->options.id || (i > 0 && raft->peers[i].id <= raft->peers[i - 1].id))
            return "a leader's peers are not sorted";
    return NULL;
}

const char *raft_invariants(const struct raft *raft, const struct raft_digest *before)
{
    if (raft->commit_index > raft->trail.last)
        return "commitIndex is beyond the log";
    if (raft->trail.base > raft->commit_index)
        return "the log begins after what is not committed";
    if (raft->trail.count > 0 ? raft->trail.runs[0].first != raft->trail.base + 1
                              : raft->trail.last != raft->trail.base)
        return "the log does not begin after its base";
    if ((raft->trail.base == 0) != (raft->trail.base_term == 0))
        return "the term of the log's base is not known";
    if (raft->trail.count > 0 && raft->trail.runs[0].term < raft->trail.base_term)
        return "terms in the log do not rise after its base";
    if (raft->durable_index > raft->trail.last)
        return "durable index is beyond the log";
    if (trail_last_term(&raft->trail) > raft->current_term)
        return "the log's last term is above currentTerm";
    for (size_t i = 1; i < raft->trail.count; i++)
        if (raft->trail.runs[i].term <= raft->trail.runs[i - 1].term ||
            raft->trail.runs[i].first <= raft->trail.runs[i - 1].first)
            return "terms in the log do not rise";
    if (raft->persisted_write > raft->last_write)
        return "a write is durable that was never given out";
    if (raft->role == RAFT_LEADER && (raft->leader != raft->options.id || raft->voted_for != raft->options.id))
        return "a leader that did not vote for itself";
    raft_index start = raft->term_start > raft->trail.base ? raft->term_start : raft->trail.base;
    if (raft->role == RAFT_LEADER && trail_term(&raft->trail, start) != raft->current_term)
        return "a leader without its no-op";
    if (raft->role == RAFT_CANDIDATE && raft->voted_for != raft->options.id)
        return "a candidate that did not vote for itself";
    for (size_t i = 0; raft->role == RAFT_LEADER && i < raft->peers_count; i++) {
        const char *broken = check_peer(raft, &raft->peers[i]);
        if (broken != NULL)
            return broken;
    }
    const char *members = check_members(raft);
    if (members != NULL)
        return members;
    return before != NULL ? check_delta(raft, before) : NULL;
}
