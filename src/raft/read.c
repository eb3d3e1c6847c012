/* raft/read.c - linearizable reads without the log: ReadIndex (§8, thesis §6.4).
 *
 * A leader notes its commit index, asks its followers once more whether it leads, and may answer at that index once a
 * majority said so. Questions ride on AppendEntries as a round's number; rounds are pipelined and never used twice. With leases a
 * majority's promise not to elect another stands in for the question.
 */
#include "base/mutant.h"
#include "raft/state.h"

static bool own_term_committed(const struct raft *raft)
{
    return raft->commit_index >= raft->term_start || MUTANT(22);
}

static uint64_t next_round(struct raft *raft)
{
    raft->round++;
    raft->rounds_began[raft->round % ROUNDS_TIMED] = raft->now;
    return raft->round;
}

static void start_round(struct raft *raft, uint64_t id)
{
    uint64_t round = next_round(raft);
    struct read_round made = {.round = round, .id = id, .index = raft->commit_index};
    if (raft->rounds_count == READ_ROUNDS_MAX) {
        raft->rounds[(raft->rounds_first + READ_ROUNDS_MAX - 1) % READ_ROUNDS_MAX] = made;
    } else {
        raft->rounds[(raft->rounds_first + raft->rounds_count) % READ_ROUNDS_MAX] = made;
        raft->rounds_count++;
    }
    for (size_t i = 0; i < raft->peers_count; i++)
        if (membership_votes(&raft->configuration, raft->peers[i].id))
            replication_heartbeat(raft, &raft->peers[i]);
    read_acknowledged(raft); /* a cluster of one has its majority already */
}

void read_request(struct raft *raft, uint64_t id, bool lease)
{
    CHECK(id > raft->read_last);
    raft->read_last = id;
    if (raft->role != RAFT_LEADER) {
        raft->effects->reads_failed_id = id;
        return;
    }
    if (lease && raft->now < read_lease_until(raft)) {
        raft->effects->read_leased = true; /* those that wait for a round go on: they do not trust clocks */
        raft->effects->read_index = raft->commit_index;
        return;
    }
    /* thesis §6.4: before its first own commit a leader does not know what is committed. */
    if (own_term_committed(raft))
        start_round(raft, id);
    else
        raft->read_waiting = id;
}

void read_commit_moved(struct raft *raft)
{
    if (raft->read_waiting == 0 || !own_term_committed(raft))
        return;
    uint64_t id = raft->read_waiting;
    raft->read_waiting = 0;
    start_round(raft, id);
}

static uint64_t answered(const struct raft *raft, node_id voter)
{
    const struct progress *peer = peers_look(raft, voter);
    return peer != NULL ? peer->round_acked : raft->round;
}

void read_acknowledged(struct raft *raft)
{
    while (raft->rounds_count > 0) {
        const struct read_round *oldest = &raft->rounds[raft->rounds_first];
        if (membership_agreed(raft, answered) + (MUTANT(24) ? 1 : 0) < oldest->round && !MUTANT(23))
            return;
        raft->effects->reads_ready_id = oldest->id;
        raft->effects->read_index = oldest->index;
        raft->rounds_first = (raft->rounds_first + 1) % READ_ROUNDS_MAX;
        raft->rounds_count--;
    }
}

void read_fail_all(struct raft *raft)
{
    if (raft->rounds_count > 0 || raft->read_waiting != 0)
        raft->effects->reads_failed_id = raft->read_last;
    raft->rounds_count = 0;
    raft->read_waiting = 0;
}

/* --- leases (thesis §6.4.1) --------------------------------------------------------------------------------------------- */

void read_begin_lease_round(struct raft *raft)
{
    if (raft->options.lease_drift_ms > 0)
        (void)next_round(raft);
}

/* What it promises with that answer counts from when the round began, for the question went out no earlier. */
void read_round_answered(struct raft *raft, struct progress *peer, const struct raft_append_response *response)
{
    if (response->round == 0 || response->round > raft->round || raft->round - response->round >= ROUNDS_TIMED ||
        response->vote_wait_ms == 0)
        return;
    raft_time began = MUTANT(215) ? raft->now : raft->rounds_began[response->round % ROUNDS_TIMED];
    if (began + response->vote_wait_ms > peer->promise_until)
        peer->promise_until = began + response->vote_wait_ms;
}

static uint64_t promised(const struct raft *raft, node_id voter)
{
    const struct progress *peer = peers_look(raft, voter);
    return peer != NULL ? peer->promise_until : UINT64_MAX; /* this leader helps nobody while it leads */
}

raft_time read_lease_until(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER || raft->options.lease_drift_ms == 0 || raft->options.no_check_quorum ||
        (raft->lease_void && !MUTANT(213)) || !own_term_committed(raft))
        return 0;
    uint64_t until = membership_agreed(raft, promised);
    if (until == UINT64_MAX)
        return UINT64_MAX; /* it is the only voter */
    if (MUTANT(226))
        return until;
    return until > raft->options.lease_drift_ms ? until - raft->options.lease_drift_ms : 0;
}
