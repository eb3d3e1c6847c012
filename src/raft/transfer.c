/* raft/transfer.c - a leader hands over (thesis §3.10): to order, because it was removed, or to a higher priority. */
#include "base/mutant.h"
#include "raft/state.h"

static bool may_take_over(const struct raft *raft, node_id id)
{
    return membership_will_vote(&raft->configuration, id) && id != raft->options.id;
}

/* Of the voters that answer the one whose log lacks least; among equals the one of highest priority, then of lowest id. */
static node_id choose(const struct raft *raft)
{
    const struct raft_configuration *now = &raft->configuration;
    const struct progress *best = NULL;
    uint8_t best_priority = 0;
    for (size_t i = 0; i < now->voters_count; i++) {
        const struct progress *peer = peers_look(raft, now->voters[i]);
        if (peer == NULL || raft->now - peer->contact > raft->options.election_timeout_ms)
            continue;
        bool equal = best != NULL && peer->match_index == best->match_index;
        if (best == NULL || peer->match_index > best->match_index ||
            (equal && now->priorities[i] > best_priority)) {
            best = peer;
            best_priority = now->priorities[i];
        }
    }
    return best != NULL ? best->id : 0;
}

static void leave(struct raft *raft)
{
    RAFT_TRACE(raft, "is no voter -> step down");
    replication_tell_commit(raft);
    election_become_follower(raft, raft->current_term, 0);
}

void transfer_begin(struct raft *raft, node_id to)
{
    if (to == 0 && raft->role == RAFT_LEADER)
        to = choose(raft);
    if (raft->role != RAFT_LEADER || raft->transfer_to != 0 || !may_take_over(raft, to)) {
        raft->effects->transfer = RAFT_TRANSFER_REFUSED;
        if (raft->role == RAFT_LEADER && !raft_is_voter(raft) && raft->configuration.id <= raft->commit_index)
            leave(raft); /* there is nobody to hand over to */
        return;
    }
    RAFT_TRACE(raft, "hands over to %llu", (unsigned long long)to);
    raft->effects->transfer = RAFT_TRANSFER_BEGUN;
    raft->transfer_to = to;
    raft->transfer_told = false;
    raft->transfer_deadline = raft->now + raft->options.election_timeout_ms;
    struct progress *peer = peers_find(raft, to);
    if (peer->match_index < raft->trail.last)
        replication_heartbeat(raft, peer); /* if something was lost, its answer says where to go on */
    transfer_go_on(raft);
}

void transfer_go_on(struct raft *raft)
{
    if (raft->role != RAFT_LEADER || raft->transfer_to == 0 || raft->transfer_told)
        return;
    const struct progress *peer = peers_look(raft, raft->transfer_to);
    if (peer == NULL || peer->match_index < raft->trail.last)
        return;
    (void)raft_message_new(raft, RAFT_TIMEOUT_NOW, raft->transfer_to);
    RAFT_TRACE(raft, "%llu has everything -> TimeoutNow", (unsigned long long)raft->transfer_to);
    raft->transfer_told = true;
    /* Nobody has to keep what it promised for our sake; and the message may be late, so not in this term any more. */
    raft->lease_void = true;
    if (!raft_is_voter(raft) && raft->configuration.id <= raft->commit_index)
        leave(raft);
}

/* What was sent may be lost. */
void transfer_heartbeat(struct raft *raft)
{
    raft->transfer_told = false;
    transfer_go_on(raft);
}

void transfer_timeout(struct raft *raft)
{
    if (raft->transfer_to == 0 || raft->now < raft->transfer_deadline)
        return;
    RAFT_TRACE(raft, "%llu did not take over in time", (unsigned long long)raft->transfer_to);
    raft->transfer_to = 0;
    raft->effects->transfer = RAFT_TRANSFER_FAILED;
    if (!raft_is_voter(raft) && raft->configuration.id <= raft->commit_index)
        leave(raft);
    else if (raft->commit_index >= raft->term_start)
        membership_committed(raft); /* what waited for this */
}

void transfer_lost(struct raft *raft)
{
    if (raft->transfer_to == 0)
        return;
    raft->transfer_to = 0;
    raft->effects->transfer = RAFT_TRANSFER_OVER;
}

/* follow_priority. After an attempt it leaves time for others to come first. */
void transfer_prefer(struct raft *raft)
{
    const struct raft_configuration *now = &raft->configuration;
    if (!raft->options.follow_priority || raft->transfer_to != 0 || raft->now < raft->prefer_from ||
        now->old_voters_count > 0 || now->id > raft->commit_index || raft->commit_index < raft->term_start)
        return;
    uint8_t best = 0;
    node_id to = 0;
    for (size_t i = 0; i < now->voters_count; i++)
        if (now->voters[i] == raft->options.id)
            best = now->priorities[i];
    for (size_t i = 0; i < now->voters_count; i++) {
        if (now->priorities[i] > best && peers_caught_up(raft, now->voters[i])) {
            best = now->priorities[i];
            to = now->voters[i];
        }
    }
    if (to == 0)
        return;
    raft->prefer_from = raft->now + 10 * (raft_time)raft->options.election_timeout_ms;
    transfer_begin(raft, to);
}
