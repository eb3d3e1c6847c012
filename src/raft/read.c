/* raft/read.c - linearizable reads without the log: ReadIndex (§8, thesis §6.4).
 *
 * A leader notes its commit index, asks its followers once more whether it leads, and may answer at that index once a
 * majority said so. Questions ride on AppendEntries as a round's number; rounds are pipelined and never used twice.
 */
#include "base/mutant.h"
#include "raft/state.h"

static bool own_term_committed(const struct raft *raft)
{
    return raft->commit_index >= raft->term_start || MUTANT(22);
}

static void start_round(struct raft *raft, uint64_t id)
{
    uint64_t round = ++raft->round;
    struct read_round made = {.round = round, .id = id, .index = raft->commit_index};
    if (raft->rounds_count == READ_ROUNDS_MAX) {
        raft->rounds[(raft->rounds_first + READ_ROUNDS_MAX - 1) % READ_ROUNDS_MAX] = made;
    } else {
        raft->rounds[(raft->rounds_first + raft->rounds_count) % READ_ROUNDS_MAX] = made;
        raft->rounds_count++;
    }
    for (size_t i = 0; i < raft->configuration.voters_count; i++)
        if (raft->configuration.voters[i] != raft->options.id)
            replication_heartbeat(raft, &raft->peers[i]);
    read_acknowledged(raft); /* a cluster of one has its majority already */
}

void read_request(struct raft *raft, uint64_t id)
{
    CHECK(id > raft->read_last);
    raft->read_last = id;
    if (raft->role != RAFT_LEADER) {
        raft->effects->reads_failed_id = id;
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

void read_acknowledged(struct raft *raft)
{
    while (raft->rounds_count > 0) {
        const struct read_round *oldest = &raft->rounds[raft->rounds_first];
        size_t answered = 1;
        for (size_t i = 0; i < raft->configuration.voters_count; i++)
            if (raft->configuration.voters[i] != raft->options.id &&
                raft->peers[i].round_acked + (MUTANT(24) ? 1 : 0) >= oldest->round)
                answered++;
        if (answered < quorum_size(raft->configuration.voters_count) && !MUTANT(23))
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
