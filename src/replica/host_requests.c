/* replica/host_requests.c - requests to the host that become log entries or reads of what the machine keeps: one table.
 *
 * They go the ways of any request (replica/requests.c): forwarded to the leader, proposed, answered by the entry's result. Their
 * names stand for what is proposed. Here is also what the leader proposes unasked because the machine waits for it: the
 * next step of a migration. Private to replica/.
 */
#include "base/mutant.h"
#include "machine/deploy.h"
#include "replica/state.h"
#include "wire/pack.h"

static const char *encode_deploy(struct slice args, struct buffer *payload)
{
    return deploy_from_request(args, false, payload);
}

static const char *encode_undeploy(struct slice args, struct buffer *payload)
{
    return deploy_from_request(args, true, payload);
}

static const struct host_request requests[] = {
    {.name = "tidelock.code"}, /* the machine answers it: machine_query */
    {.name = "tidelock.deploy", .kind = ENTRY_DEPLOY, .args_max = DEPLOY_BYTES_MAX, .encode = encode_deploy},
    {.name = "tidelock.undeploy", .kind = ENTRY_DEPLOY, .encode = encode_undeploy}};

const struct host_request *host_request_find(struct slice name)
{
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (slice_equal(slice_text(requests[i].name), name))
            return &requests[i];
    return NULL;
}

bool replica_takes(struct slice name)
{
    return host_request_find(name) != NULL;
}

/* A migration that wants to go on: the leader proposes its next step, one at a time. A step too many does nothing. */
void host_requests_turn(struct replica *replica)
{
    if (!replica->machine.migrating || !replica_leads(replica) || replica->machine.parked_at != 0 ||
        replica->stopping || MUTANT(153))
        return;
    if (replica->migrate_term == replica->effects.term && replica->applied < replica->migrate_index)
        return;
    struct buffer payload = {0};
    pack_text(&payload, slice_text(replica->machine.migrating_mount));
    requests_propose_own(replica, ENTRY_MIGRATE, buffer_slice(&payload));
    buffer_close(&payload);
}
