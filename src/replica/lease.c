/* replica/lease.c - reads by lease at a node (thesis §6.4.1, DESIGN.md §3): when its core may promise, and what a restart must keep.
 *
 * The limit lease_drift_ms of the state switches them on: 0 is off. Each node's core promises, and relies on promises, by what the
 * limit was at the entries that this node has applied. That the nodes apply it at different times does no harm: a leader counts only
 * promises that were made to it, and a promise holds until it runs out, whatever the limit says by then.
 *
 * A promise is of the memory; a process that ends forgets it. So before the first one, the identity on disk says for how long
 * this node may promise (its election time-out and the drift), and a node that starts with such an identity votes for nobody for so
 * long (raft_options.start_wait_ms). What it promised last was promised before it ended. Where the limit is 0 again, a
 * restart waits once more, and then the identity forgets it.
 *
 * A time-out that is no longer than the drift leaves nothing of a lease: such a node does not promise.
 * Depends on replica/state.h.
 */
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

void lease_begin(struct replica *replica)
{
    replica->leasing.noted_ms = replica->identity.lease_ms;
    replica->leasing.quiet_at = UINT64_MAX;
    replica->raft_options.start_wait_ms = MUTANT(260) ? 0 : (uint32_t)replica->identity.lease_ms;
}

static void feed(struct replica *replica, uint64_t drift_ms)
{
    replica->leasing.fed_ms = drift_ms;
    replica->leasing.used = replica->leasing.used || drift_ms > 0;
    struct raft_event event = {.type = RAFT_EVENT_LEASES, .leases = {.drift_ms = (uint32_t)drift_ms}};
    replica_step(replica, &event);
}

static void note(struct replica *replica, uint64_t lease_ms)
{
    if (replica->identity_saving)
        return;
    replica->identity.lease_ms = lease_ms;
    replica->leasing.asked_ms = lease_ms;
    replica->leasing.saving = true;
    log_submit_identity(replica, false);
}

void lease_turn(struct replica *replica)
{
    struct leasing *leasing = &replica->leasing;
    const uint64_t timeout = replica->raft_options.election_timeout_ms;
    const uint64_t limit = replica->machine.lease_drift_ms;
    const uint64_t drift = limit < timeout ? limit : 0;
    if (limit > 0 && drift == 0 && leasing->warned_ms != limit)
        LOG(LOG_WARN, "replica",
            "the limit lease_drift_ms, %llu, is not below this node's election time-out, %llu: it promises no "
            "leases",
            (unsigned long long)limit, (unsigned long long)timeout);
    leasing->warned_ms = limit;
    if (leasing->quiet_at == UINT64_MAX)
        leasing->quiet_at = replica->now.boot_ms + leasing->noted_ms;
    if (leasing->saving && !replica->identity_saving) {
        leasing->saving = false;
        leasing->noted_ms = leasing->asked_ms;
    }
    if (drift > 0 && leasing->noted_ms < timeout + drift && !MUTANT(261))
        note(replica, timeout + drift);
    else if (drift != leasing->fed_ms)
        feed(replica, drift);
    else if (drift == 0 && !leasing->used && leasing->noted_ms > 0 && replica->now.boot_ms >= leasing->quiet_at)
        note(replica, 0);
}
