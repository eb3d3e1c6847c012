/* raft/snapshot.c - a log that begins after a snapshot, and a follower that needs one (§7). The bytes are the caller's.
 *
 * A leader offers its snapshot in answer to a refusal alone: whoever holds the entry at the base after all says so first. That
 * makes a lost offer good as well, for heartbeats go on and are refused as long as it is needed.
 */
#include "base/mutant.h"
#include "raft/state.h"

/* --- the leader --------------------------------------------------------------------------------------------------------- */

bool snapshot_needed(const struct raft *raft, const struct progress *peer)
{
    return peer->next_index <= raft->trail.base && !MUTANT(106);
}

void snapshot_offer(struct raft *raft, struct progress *peer)
{
    struct raft_message *message = raft_message_new(raft, RAFT_INSTALL_SNAPSHOT, peer->id);
    message->install_snapshot = (struct raft_install_snapshot){
        .last_included_index = raft->trail.base, .last_included_term = raft->trail.base_term, .epoch = peer->epoch};
    peer->offered = raft->now;
    RAFT_TRACE(raft, "%llu lacks what is in the log no more -> offer the snapshot up to %llu of term %llu",
               (unsigned long long)peer->id, (unsigned long long)raft->trail.base,
               (unsigned long long)raft->trail.base_term);
}

/* It still waits: the offer may be lost. ReadIndex rounds ask more often than it is worth saying so. */
void snapshot_refused(struct raft *raft, struct progress *peer)
{
    if (raft->now - peer->offered >= raft->options.heartbeat_ms / 2 && !MUTANT(107))
        snapshot_offer(raft, peer);
}

void snapshot_compacted(struct raft *raft, raft_index index)
{
    if (index <= raft->trail.base)
        return;
    CHECK(index <= raft->commit_index);
    CHECK(index <= raft->durable_index);
    trail_forget(&raft->trail, index);
    RAFT_TRACE(raft, "the log begins after %llu of term %llu", (unsigned long long)index,
               (unsigned long long)raft->trail.base_term);
    for (size_t i = 0; raft->role == RAFT_LEADER && i < raft->peers_count; i++) {
        struct progress *peer = &raft->peers[i];
        if (!snapshot_needed(raft, peer))
            continue;
        if (peer->state != PROGRESS_SNAPSHOT)
            progress_reset(peer);
        progress_wait_for_snapshot(peer, raft->trail.base);
    }
}

/* --- the follower ------------------------------------------------------------------------------------------------------- */

static struct raft_append_response *answer(struct raft *raft, node_id to, uint32_t epoch)
{
    struct raft_message *message = raft_message_new(raft, RAFT_APPEND_RESPONSE, to);
    message->append_response.epoch = epoch;
    return &message->append_response;
}

void snapshot_recv_install(struct raft *raft, const struct raft_message *message)
{
    const struct raft_install_snapshot *install = &message->install_snapshot;
    if (message->term < raft->current_term) {
        (void)answer(raft, message->from, install->epoch); /* §5.1: its term tells the sender */
        return;
    }
    if (raft->role == RAFT_LEADER || install->last_included_term > message->term)
        return;
    replication_accept_leader(raft, message->from);
    if (install->last_included_index <= raft->commit_index) {
        RAFT_TRACE(raft, "recv InstallSnapshot from %llu up to %llu: %llu is committed here",
                   (unsigned long long)message->from, (unsigned long long)install->last_included_index,
                   (unsigned long long)raft->commit_index);
        /* What is committed is the leader's; as far as the disk has it, it counts. */
        struct raft_append_response *response = answer(raft, message->from, install->epoch);
        response->success = true;
        response->match_index = raft->durable_index < raft->commit_index ? raft->durable_index : raft->commit_index;
        return;
    }
    RAFT_TRACE(raft, "recv InstallSnapshot from %llu up to %llu of term %llu", (unsigned long long)message->from,
               (unsigned long long)install->last_included_index, (unsigned long long)install->last_included_term);
    raft->offer_from = message->from;
    raft->offer_term = message->term;
    raft->offer_epoch = install->epoch;
    raft->effects->snapshot_offered = true;
}

/* The leader that offered it hears how far this log is now, once that is durable. */
static void tell_leader(struct raft *raft, raft_index match)
{
    if (raft->offer_from == 0 || raft->offer_from != raft->leader || raft->offer_term != raft->current_term)
        return;
    struct raft_append_response *response = answer(raft, raft->leader, raft->offer_epoch);
    response->success = true;
    response->match_index = match;
    raft->effects->messages[raft->effects->messages_count - 1].after_write =
        MUTANT(110) ? 0 : raft->effects->write.number;
}

void snapshot_ready(struct raft *raft, raft_index index, raft_term term,
                    const struct raft_configuration *configuration)
{
    bool old = index <= raft->commit_index && !MUTANT(100);
    if (old || raft->role == RAFT_LEADER || term > raft->current_term) {
        RAFT_TRACE(raft, "the snapshot up to %llu of term %llu brings nothing -> ignore", (unsigned long long)index,
                   (unsigned long long)term);
        return;
    }
    /* Votes were asked for in another configuration. */
    if (raft->role != RAFT_FOLLOWER)
        election_become_follower(raft, raft->current_term, 0);
    /* An entry of the same index and term: what follows it may be the leader's, and may have been acknowledged. */
    bool held = index <= raft->trail.last && (trail_term(&raft->trail, index) == term || MUTANT(102));
    if (MUTANT(101))
        held = false;
    RAFT_TRACE(raft, "takes the snapshot up to %llu of term %llu, %s", (unsigned long long)index,
               (unsigned long long)term, held ? "and keeps the entries after it" : "and drops its log");
    raft_write_base(raft, index, term, !held);
    if (held)
        trail_forget(&raft->trail, index);
    else
        trail_reset(&raft->trail, index, term);
    membership_installed(raft, configuration, index, held);
    if (!MUTANT(105))
        raft_set_commit(raft, index);
    raft->effects->snapshot_taken = true;
    tell_leader(raft, index);
}
