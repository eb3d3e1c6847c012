/* replica/handover.c - leadership goes to another node (thesis §3.10): because somebody asks for it, or because this node ends.
 *
 * The core lets the other catch up, tells it to campaign, and takes no proposals meanwhile: those wait here, and go on at whoever leads
 * then. After an election time-out it gives up, and leads on. tidelock.transfer [ID] (nothing: whoever lacks least) is
 * answered by {leader, term} once that node leads. Private to replica/.
 */
#include <stdio.h>

#include "base/mutant.h"
#include "replica/state.h"
#include "wire/pack.h"

static bool read_goal(struct slice args, node_id *to)
{
    struct pack_reader reader = pack_reader_make(args);
    struct pack_item item;
    uint32_t count = 0;
    *to = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count > 1)
        return false;
    if (count == 0)
        return true;
    struct pack_reader number = reader;
    if (pack_read(&reader, &item) == STATUS_OK && item.type == PACK_NIL)
        return true;
    return pack_read_u64(&number, to) == STATUS_OK && *to != 0;
}

static void end_well(struct replica *replica, struct pending *request, node_id leader)
{
    struct buffer value = {0};
    pack_map(&value, 2);
    pack_text(&value, slice_text("leader"));
    pack_u64(&value, leader);
    pack_text(&value, slice_text("term"));
    pack_u64(&value, replica->effects.term);
    request_end(replica, request, true, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

static void fail(struct replica *replica, struct pending *request, enum error_code code, const char *format,
                 node_id id)
{
    char text[200];
    snprintf(text, sizeof text, format, (unsigned long long)id);
    request_fail(replica, request, code, text);
}

/* Whom the core hands over to; 0: nobody. */
static node_id goal(const struct replica *replica)
{
    struct raft_status status;
    raft_get_status(replica->raft, &status);
    return status.transfer_to;
}

bool handover_goes_on(const struct replica *replica)
{
    return replica_leads(replica) && goal(replica) != 0;
}

static void step(struct replica *replica, node_id to)
{
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .transfer = {.to = to}};
    replica_step(replica, &event);
    replica_drain(replica);
}

void handover_serve(struct replica *replica, struct pending *request)
{
    node_id to = 0;
    if (!read_goal(request_args(request), &to)) {
        request_fail(replica, request, ERROR_BAD_ARGS, "tidelock.transfer takes nothing, or the id of a member");
    } else if (to == replica->identity.id) {
        end_well(replica, request, to);
    } else if (to != 0 && replica_peer(replica, to) == NULL) {
        fail(replica, request, ERROR_NOT_FOUND, "node %llu is no member of this cluster", to);
    } else if (handover_goes_on(replica)) {
        fail(replica, request, ERROR_CONFLICT, "leadership is being handed to node %llu already", goal(replica));
    } else {
        request->state = REQUEST_HANDOVER;
        request->peer = to;
        uint64_t token = request_token(replica, request);
        step(replica, to);
        request = request_of(replica, token);
        if (request == NULL || request->state != REQUEST_HANDOVER)
            return; /* it has ended already */
        if (replica_leads(replica) && goal(replica) == 0)
            request_fail(replica, request, ERROR_CONFLICT,
                         "there is no other voter that answers: this node leads on");
        else if (replica_leads(replica))
            request->peer = goal(replica);
    }
}

static void end_all(struct replica *replica, enum error_code code, const char *format)
{
    for (uint32_t i = 0; i < replica->requests_capacity; i++)
        if (replica->requests[i].state == REQUEST_HANDOVER)
            fail(replica, &replica->requests[i], code, format, replica->requests[i].peer);
}

void handover_effects(struct replica *replica)
{
    if (replica->effects.transfer == RAFT_TRANSFER_FAILED)
        end_all(replica, ERROR_CONFLICT,
                "node %llu did not take over within an election time-out: the old leader leads on");
    if (replica->effects.transfer != RAFT_TRANSFER_BEGUN)
        replica->route_again = true; /* what waited for it */
}

void handover_leader_known(struct replica *replica)
{
    const node_id leader = replica->effects.leader;
    for (uint32_t i = 0; i < replica->requests_capacity; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state != REQUEST_HANDOVER || goal(replica) != 0)
            continue;
        if (request->peer == leader || request->peer == 0)
            end_well(replica, request, leader);
        else
            fail(replica, request, ERROR_CONFLICT, "another node leads now: node %llu", leader);
    }
}

bool handover_before_end(struct replica *replica)
{
    if (!replica->handed_over && !MUTANT(263)) {
        replica->handed_over = true;
        step(replica, 0);
    }
    return handover_goes_on(replica);
}
