/* replica/rebuild.c - a node whose state is not to be trusted throws it away, for the leader's (DESIGN.md §1).
 *
 * Its log is well and may lack nothing, so the core would take no snapshot: the node asks for one itself, again and again until it is
 * offered one that includes all that it has applied. The leader takes one if it has none. It is fetched and built like any other
 * (snapshot_recv.c); then it takes the state's place alone, and entries after it are applied from the own log. The file does not
 * count here: a restart begins from the own snapshot, which a majority agreed on.
 */
#include <string.h>

#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { ASK_MS = 500 };

static void ask(struct replica *replica, raft_index need)
{
    struct message message = {.type = MESSAGE_REBUILD, .rebuild = {.need = need}};
    (void)link_send_message(replica, replica->effects.leader, &message, NULL, 0);
}

void replica_request_rebuild(struct replica *replica, uint64_t client, uint32_t timeout_ms, struct replica_time now)
{
    replica->now = now;
    const struct request request = {.name = slice_text("tidelock.rebuild"), .timeout_ms = timeout_ms};
    uint64_t token = request_add(replica, client, 0, &request, false);
    struct pending *pending = token != 0 ? request_of(replica, token) : NULL;
    struct rebuilding *rebuild = &replica->rebuilding;
    if (pending == NULL)
        return;
    if (replica->raft == NULL || members_now(replica) == NULL || members_now(replica)->count == 1) {
        request_fail(replica, pending, replica->raft == NULL ? ERROR_NO_LEADER : ERROR_BAD_REQUEST,
                     replica->raft == NULL ? "the cluster has not formed yet"
                                           : "there is no other node whose state this one could take");
        return;
    }
    pending->state = REQUEST_REBUILD;
    if (rebuild->on)
        return;
    rebuild->on = true;
    rebuild->ask_at = now.boot_ms;
    LOG(LOG_WARN, "replica", "the state is thrown away for the leader's, as an operator wants");
    diverge_park(replica, replica->applied, "it is being rebuilt from the leader's state");
}

/* All that was given to the machine, so that nothing is applied twice, and that at which it parked. */
static raft_index needed(const struct replica *replica)
{
    const raft_index given = replica->apply_next - 1;
    if (MUTANT(185))
        return 0;
    return replica->machine.parked_at > given ? replica->machine.parked_at : given;
}

static bool may_ask(const struct replica *replica)
{
    const node_id leader = replica->effects.leader;
    return replica->rebuilding.on && replica->machine.parked_at != 0 && leader != 0 &&
           leader != replica->identity.id && replica->snapshots.receive.state < RECEIVE_BUILDING;
}

uint64_t rebuild_wake_at(const struct replica *replica)
{
    return may_ask(replica) ? replica->rebuilding.ask_at : UINT64_MAX;
}

void rebuild_turn(struct replica *replica)
{
    struct rebuilding *rebuild = &replica->rebuilding;
    if (!may_ask(replica) || replica->now.boot_ms < rebuild->ask_at)
        return;
    rebuild->ask_at = replica->now.boot_ms + ASK_MS;
    ask(replica, needed(replica));
}

static void offer(struct replica *replica, struct peer *peer, raft_index need)
{
    const struct snapshots *snapshots = &replica->snapshots;
    if (replica_is_parked(replica) || !replica_leads(replica))
        return;
    if (snapshots->files_count == 0 || snapshots->files[0].index < need ||
        snapshots->files[0].index == snapshots->damaged) {
        if (replica->applied >= need && snapshots->take.asked_for < need)
            replica->snapshots.take.asked_for = need;
        return; /* it asks again */
    }
    struct message message = {.type = MESSAGE_REBUILD, .rebuild = {.need = need, .file = snapshots->files[0]}};
    if (peer->send.rebuild && peer->send.file.index >= need)
        message.rebuild.file = peer->send.file;
    peer->send.rebuild = true;
    (void)link_send_message(replica, peer->member.id, &message, NULL, 0);
}

void rebuild_heard(struct replica *replica, struct peer *peer, const struct message_rebuild *said)
{
    if (peer == NULL)
        return;
    if (said->file.index == 0 && said->need == 0)
        send_rebuilt(replica, peer);
    else if (said->file.index == 0)
        offer(replica, peer, said->need);
    else if (may_ask(replica) && said->file.index >= needed(replica))
        receive_offered(replica, peer->member.id, &said->file);
}

bool rebuild_fits(const struct replica *replica, const struct snapshot_head *head)
{
    return replica->rebuilding.on && replica->machine.parked_at != 0 && head->index >= needed(replica) &&
           head->index <= replica->effects.commit_index && raft_term_at(replica->raft, head->index) == head->term;
}

void rebuild_swapped(struct replica *replica)
{
    struct buffer value = {0};
    if (!replica->rebuilding.on)
        return;
    replica->rebuilding.on = false;
    ask(replica, 0);
    pack_map(&value, 1);
    pack_text(&value, slice_text("index"));
    pack_u64(&value, replica->applied);
    for (uint32_t i = 0; i < replica->requests_capacity && replica->requests_count > 0; i++)
        if (replica->requests[i].state == REQUEST_REBUILD)
            request_end(replica, &replica->requests[i], true, true, replica->applied, buffer_slice(&value));
    buffer_close(&value);
}
