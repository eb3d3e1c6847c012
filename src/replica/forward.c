/* replica/forward.c - requests that another node is to serve: sent to the leader, sent again, answered (DESIGN.md §7 "Requests").
 *
 * Without a session a command is forwarded at most once. With one it is sent again, to whoever leads then, for (session, seq)
 * runs once however often it comes. Once an attempt may have had an effect the request is unsure: a refusal of a later
 * attempt says nothing of that one, unless it is the answer of the log to the same (session, seq). Private to replica/.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

/* It is safe to send it again, whatever became of it. */
static bool may_repeat(const struct pending *request)
{
    return request->is_query || request_ticket(request).size > 0;
}

bool forward_settles(uint64_t index, struct slice error)
{
    struct slice code;
    struct slice message;
    struct slice data;
    if (index == 0 || error_unpack(error, &code, &message, &data) != STATUS_OK)
        return false;
    /* These two are not kept as the answer: the attempt before may have run, or run yet. */
    return !slice_equal(code, slice_text("SESSION_EXPIRED")) && !slice_equal(code, slice_text("BUSY"));
}

void forward_pack_lost(struct slice error, struct buffer *out)
{
    char text[600];
    struct slice code = {0};
    struct slice message = {0};
    struct slice data;
    CHECK(error_unpack(error, &code, &message, &data) == STATUS_OK);
    snprintf(text, sizeof text, "an attempt was lost, and the next one ended %.*s (%.*s): the outcome is unknown",
             (int)(code.size < 64 ? code.size : 64), (const char *)code.data,
             (int)(message.size < 300 ? message.size : 300), (const char *)message.data);
    error_pack(out, ERROR_LOST, text);
}

void forward_refuse(struct replica *replica, struct pending *request, node_id leader)
{
    const struct peer *peer = replica_peer(replica, leader);
    if (request->origin != 0) { /* its client did ask for forwarding */
        request_fail(replica, request, ERROR_NO_LEADER, "the node it was forwarded to no longer leads");
        return;
    }
    struct buffer error = {0};
    pack_map(&error, 3);
    pack_text(&error, slice_text("code"));
    pack_text(&error, slice_text("NOT_LEADER"));
    pack_text(&error, slice_text("data"));
    pack_map(&error, 2);
    pack_text(&error, slice_text("address"));
    pack_text(&error, slice_text(peer != NULL ? peer->member.address : ""));
    pack_text(&error, slice_text("leader"));
    pack_u64(&error, leader);
    pack_text(&error, slice_text("message"));
    pack_text(&error, slice_text("this node does not lead"));
    request_end(replica, request, false, true, 0, buffer_slice(&error));
    buffer_close(&error);
}

void forward_request(struct replica *replica, struct pending *request, node_id leader)
{
    struct message message = {.type = MESSAGE_FORWARD};
    uint64_t left = request->deadline > replica->now.boot_ms ? request->deadline - replica->now.boot_ms : 1;
    message.forward = (struct message_forward){
        .id = request_token(replica, request),
        .timeout_ms = (uint32_t)left,
        .flags = (request->query_only ? FORWARD_QUERY_ONLY : 0u) | (request->batch ? FORWARD_BATCH : 0u) |
                 (request->dry_run ? FORWARD_DRY_RUN : 0u) | (request->lease ? FORWARD_LEASE : 0u),
        .name = request_name(request),
        .args = request_args(request),
        .ticket = request_ticket(request)};
    if (MUTANT(178))
        message.forward.ticket.size = 0;
    if (!link_send_message(replica, leader, &message, NULL, 0)) {
        request_wait(replica, request);
        return;
    }
    request->state = REQUEST_FORWARDED;
    request->peer = leader;
    request->is_query = request->query_only || request->dry_run || host_request_reads(request) ||
                        catalog_find(replica->catalog, request_name(request)) == CATALOG_QUERY;
}

/* The node that was asked does not lead any more, or parked: another will. */
static bool may_end_well(const struct message_forwarded *answer)
{
    struct slice code;
    struct slice message;
    struct slice data;
    if (answer->ok || error_unpack(answer->value, &code, &message, &data) != STATUS_OK)
        return false;
    return slice_equal(code, slice_text("NO_LEADER")) || slice_equal(code, slice_text("LOST"));
}

void request_forwarded(struct replica *replica, struct pending *request, const struct message_forwarded *answer)
{
    if (request_ticket(request).size > 0 && !request->is_query && may_end_well(answer)) {
        request->unsure = request->unsure || !answer->definite;
        request_wait(replica, request);
        return;
    }
    request_end(replica, request, answer->ok, answer->definite, answer->index, answer->value);
}

/* A link to a leader broke: what was sent there may have happened. Queries are asked anew, and commands of sessions. */
void request_link_lost(struct replica *replica, node_id peer)
{
    for (uint32_t i = 0; i < replica->requests_capacity && replica->requests_count > 0; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state != REQUEST_FREE && request->origin == peer)
            request->origin_gone = true; /* as we do here, it gives up over there */
        if (request->state != REQUEST_FORWARDED || request->peer != peer)
            continue;
        if (may_repeat(request) || MUTANT(54)) {
            request->unsure = (request->unsure || !request->is_query) && !MUTANT(170);
            request_wait(replica, request);
        } else {
            request_fail(replica, request, ERROR_LOST, "the link to the leader broke; the outcome is unknown");
        }
    }
    read_lost(replica, peer);
    replica->route_again = true;
}
