/* replica/clock.c - cluster time, as a leader stamps it (DESIGN.md §6 "Time").
 *
 * stamp = last stamp + boot-clock time elapsed here, slewed at most a tenth of that toward the median of the voters' wall
 * clocks; it jumps, forward only, when a leader begins, and only to that median. So a wild clock of one node cannot run it
 * away, and it never goes back.
 */
#include "base/check.h"
#include "base/mutant.h"
#include "replica/state.h"

void clock_heard(struct replica *replica, node_id id, uint64_t wall_ms)
{
    struct peer *peer = replica_peer(replica, id);
    if (peer == NULL || wall_ms == 0)
        return;
    peer->wall_offset = (int64_t)(wall_ms - replica->now.boot_ms);
    peer->wall_known = true;
}

/* The median of the wall clocks that are known, own one included; the lower of two. */
static uint64_t median_wall(const struct replica *replica)
{
    int64_t offsets[REPLICA_PEERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct peer *peer = &replica->peers[i];
        bool self = peer->member.id == replica->identity.id;
        if (!self && (!peer->wall_known || !members_votes(peer)))
            continue;
        int64_t offset = self ? (int64_t)(replica->now.wall_ms - replica->now.boot_ms) : peer->wall_offset;
        size_t at = count++;
        for (; at > 0 && offsets[at - 1] > offset; at--)
            offsets[at] = offsets[at - 1];
        offsets[at] = offset;
    }
    CHECK(count > 0);
    return replica->now.boot_ms + (uint64_t)offsets[(count - 1) / 2];
}

void clock_lead(struct replica *replica)
{
    uint64_t median = median_wall(replica);
    if (replica->machine.now_ms > replica->stamp && !MUTANT(90))
        replica->stamp = replica->machine.now_ms;
    if (median > replica->stamp || MUTANT(90))
        replica->stamp = median;
    replica->stamp_at = replica->now.boot_ms;
}

uint64_t clock_look(const struct replica *replica)
{
    uint64_t elapsed = replica->now.boot_ms - replica->stamp_at;
    uint64_t plain = replica->stamp + elapsed;
    uint64_t median = median_wall(replica);
    uint64_t slew = elapsed / 10;
    if (median > plain)
        return plain + (median - plain < slew ? median - plain : slew);
    return plain - (plain - median < slew ? plain - median : slew);
}

uint64_t clock_stamp(struct replica *replica)
{
    replica->stamp = clock_look(replica);
    replica->stamp_at = replica->now.boot_ms;
    return replica->stamp;
}
