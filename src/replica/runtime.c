/* replica/runtime.c - nodes whose runtimes are not the same (DESIGN.md §6): LuaJIT, sandbox, number format.
 *
 * Two runtimes may make different states of one log. So HELLOs carry a fingerprint of each; a cluster forms only of equal ones, and
 * a follower whose fingerprint is not its leader's stores, acknowledges and votes, but applies nothing, answers nothing and campaigns
 * only when nobody else will, for as long as it is so. It goes on when it follows a leader like itself, or leads. That is what a
 * rolling upgrade sees: who is upgraded waits, until the leader is. Depends on replica/state.h.
 */
#include <stdio.h>

#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

const char *runtime_differs(const struct replica *replica)
{
    return replica->runtime_why[0] != 0 ? replica->runtime_why : NULL;
}

static void wait_for_leader(struct replica *replica, node_id leader, uint64_t fingerprint)
{
    snprintf(replica->runtime_why, sizeof replica->runtime_why,
             "its runtime (%016llx) is not that of node %llu, which leads (%016llx): it stores and votes until "
             "both run the same "
             "version of tidelock",
             (unsigned long long)replica->fingerprint, (unsigned long long)leader, (unsigned long long)fingerprint);
    LOG(LOG_WARN, "replica", "this node answers nothing: %s", replica->runtime_why);
    apply_step_aside(replica);
}

static void go_on(struct replica *replica)
{
    replica->runtime_why[0] = 0;
    replica->route_again = true;
    LOG(LOG_INFO, "replica", "the leader's runtime is this node's: it answers again");
    if (!replica->reluctant || replica_is_parked(replica))
        return;
    replica->reluctant = false;
    struct raft_event event = {.type = RAFT_EVENT_RELUCTANT, .reluctant = {.on = false}};
    replica_step(replica, &event);
}

void runtime_turn(struct replica *replica)
{
    const node_id leader = replica->effects.leader;
    const struct peer *peer = leader != 0 ? replica_peer(replica, leader) : NULL;
    if (leader == 0 || (leader != replica->identity.id && (peer == NULL || peer->fingerprint == 0)))
        return; /* it is not known */
    const bool other = leader != replica->identity.id && peer->fingerprint != replica->fingerprint && !MUTANT(262);
    if (other && runtime_differs(replica) == NULL)
        wait_for_leader(replica, leader, peer->fingerprint);
    else if (!other && runtime_differs(replica) != NULL)
        go_on(replica);
}
