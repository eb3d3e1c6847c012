/* sim/swarm_clients.c - the clients of a seed: what they ask, whom, when; by the workload or by a script of requests. See
 * sim/swarm.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/swarm_private.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { RETRY_MS = 2, ATTEMPTS_MAX = 12, SESSION_TTL_MS_MAX = 8000, SLEEPS_PARTS = 10000 };

uint64_t swarm_now(const struct swarm *swarm)
{
    return replica_world_now(swarm->world);
}

bool swarm_is_up(const struct swarm *swarm, uint32_t node)
{
    struct replica_world_status status;
    replica_world_status(swarm->world, node, &status);
    return status.up && !status.paused;
}

/* A client begins a request, or knows how it ended. */
static void trace_client(struct swarm *swarm, const char *kind, uint32_t number, enum swarm_outcome outcome)
{
    static const char *const outcomes[] = {"ok", "refused", "unknown"};
    struct transcript *t = replica_world_transcript(swarm->world);
    if (!transcript_begin(t, swarm_now(swarm), 0, kind))
        return;
    transcript_number(t, "client", number + 1);
    transcript_number(t, "request", swarm->clients[number].request);
    if (strcmp(kind, "end") == 0)
        transcript_text(t, "outcome", outcomes[outcome]);
    transcript_end(t);
}

/* --- endings ---------------------------------------------------------------------------------------------------------------- */

static bool has_code(const struct replica_world_reply *reply, const char *name)
{
    struct slice code = {0};
    struct slice message = {0};
    struct slice data = {0};
    return !reply->ok && reply->replies > 0 && error_unpack(reply->value, &code, &message, &data) == STATUS_OK &&
           slice_equal(code, slice_text(name));
}

/* For who wonders why nothing was taken. */
static void keep_refusal(struct swarm_report *report, struct slice error)
{
    struct slice code;
    struct slice message;
    struct slice data;
    if (error_unpack(error, &code, &message, &data) == STATUS_OK)
        snprintf(report->refusal, sizeof report->refusal, "%.*s: %.*s", (int)code.size, (const char *)code.data,
                 (int)message.size, (const char *)message.data);
}

/* With a session: what the client knows now, or that it asks again, as tidelock/client.lua does. */
static enum swarm_outcome weigh(struct client *client, const struct replica_world_reply *reply,
                                enum swarm_outcome outcome)
{
    bool expired = has_code(reply, "SESSION_EXPIRED");
    bool passing = has_code(reply, "NO_LEADER") || has_code(reply, "BUSY");
    bool settles = reply->index > 0 && !expired && !passing;
    if (expired)
        client->session_size = 0;
    if (outcome == SWARM_UNKNOWN)
        client->unsure = true;
    if (outcome == SWARM_REFUSED && client->unsure && !settles)
        outcome = SWARM_UNKNOWN;
    client->again = outcome == SWARM_UNKNOWN && !expired && client->attempts < ATTEMPTS_MAX;
    return outcome;
}

/* It has a session, or will ask for one again. */
static void session_opened(struct client *client, const struct replica_world_reply *reply)
{
    struct pack_reader reader = pack_reader_make(reply->value);
    struct slice text;
    client->busy = client->opening = false;
    if (reply->replies == 0 || !reply->ok)
        return;
    CHECK(pack_read_text(&reader, &text) == STATUS_OK && text.size <= sizeof client->session);
    memcpy(client->session, text.data, text.size);
    client->session_size = text.size;
    client->seq = 0;
}

/* The client has its answer, or knows that none will come. */
static bool client_ends(struct swarm *swarm, uint32_t number)
{
    struct client *client = &swarm->clients[number];
    const struct workload *workload = &swarm->options.workload;
    if (client->again)
        return false;
    struct replica_world_reply reply = replica_world_reply(swarm->world, client->request);
    if (reply.replies == 0 && !reply.node_died)
        return false;
    if (client->limiting) {
        client->busy = client->limiting = false;
        swarm->leases_on = reply.ok;
        return true;
    }
    if (client->opening) {
        session_opened(client, &reply);
        return true;
    }
    enum swarm_outcome outcome = SWARM_UNKNOWN;
    if (reply.replies > 0)
        outcome = reply.ok ? SWARM_OK : reply.definite ? SWARM_REFUSED : SWARM_UNKNOWN;
    else
        reply.at = swarm_now(swarm);
    if (client->ticketed)
        outcome = weigh(client, &reply, outcome);
    if (client->again)
        return false;
    if (client->query && outcome == SWARM_UNKNOWN && reply.replies > 0)
        swarm_broke(swarm, "a query ended unknown");
    swarm->report->ok += outcome == SWARM_OK;
    swarm->report->refused += outcome == SWARM_REFUSED;
    if (outcome == SWARM_REFUSED && reply.index > 0 && swarm->report->refusal[0] == 0)
        keep_refusal(swarm->report, reply.value);
    swarm->report->unknown += outcome == SWARM_UNKNOWN;
    swarm->answers +=
        outcome == SWARM_OK || (workload->refusals_answer && outcome == SWARM_REFUSED && reply.index > 0);
    trace_client(swarm, "end", number, outcome);
    client->busy = false;
    client->unknown = outcome == SWARM_UNKNOWN;
    workload->ended(workload->context, number + 1, client->began, outcome, &reply);
    const char *wrong = workload->wrong != NULL ? workload->wrong(workload->context) : NULL;
    if (wrong != NULL)
        swarm_broke(swarm, wrong);
    return true;
}

/* --- beginnings ------------------------------------------------------------------------------------------------------------- */

static struct swarm_request made_request(const struct swarm *swarm, size_t at)
{
    const struct made *made = &swarm->list[at];
    struct swarm_request request = made->request;
    request.name.data = swarm->made.data + made->name_offset;
    request.args.data = swarm->made.data + made->args_offset;
    return request;
}

static bool is_again(const struct swarm *swarm, const struct swarm_request *request)
{
    const struct client *client = &swarm->clients[request->client - 1];
    if (!client->unknown || client->last == 0)
        return false;
    struct swarm_request last = made_request(swarm, client->last - 1);
    return slice_equal(last.name, request->name) && slice_equal(last.args, request->args);
}

static void keep(struct swarm *swarm, const struct swarm_request *request)
{
    bool again = is_again(swarm, request);
    if (swarm->list_count == swarm->list_capacity) {
        swarm->list_capacity = swarm->list_capacity * 2 + 256;
        swarm->list = mem_realloc(swarm->list, swarm->list_capacity * sizeof *swarm->list);
    }
    struct made *made = &swarm->list[swarm->list_count++];
    *made = (struct made){.request = *request, .name_offset = swarm->made.size};
    made->request.again = again;
    buffer_append(&swarm->made, request->name.data, request->name.size);
    made->args_offset = swarm->made.size;
    buffer_append(&swarm->made, request->args.data, request->args.size);
    swarm->clients[request->client - 1].last = swarm->list_count;
}

/* Sends what the client asks for to a node. */
static void send(struct swarm *swarm, struct client *client, uint32_t node, bool forward)
{
    struct request request = {.name = buffer_slice(&client->name),
                              .args = buffer_slice(&client->args),
                              .timeout_ms = client->timeout_ms,
                              .forward = forward,
                              .query_only = client->query};
    if (swarm->leases_on && client->query && (client - swarm->clients) % 2 == 0)
        request.read = READ_LEASE; /* every second client trusts clocks */
    if (client->ticketed) {
        request.session = slice_make(client->session, client->session_size);
        request.seq = request.done_below = client->seq;
    }
    client->again = false;
    client->attempts++;
    client->request = replica_world_ask(swarm->world, node, &request);
}

/* A command of a session whose end is not known is sent again, to any node that is up. */
static void send_again(struct swarm *swarm, struct client *client)
{
    uint32_t node = (uint32_t)prng_below(&swarm->prng, swarm->field.nodes);
    if (client->again && swarm_is_up(swarm, node))
        send(swarm, client, node, true);
}

static void open_session(struct swarm *swarm, struct client *client, const struct swarm_request *request)
{
    client->ttl_ms = prng_between(&swarm->prng, 300, SESSION_TTL_MS_MAX);
    client->opening = client->busy = true;
    client->query = client->ticketed = false;
    client->timeout_ms = request->timeout_ms;
    buffer_clear(&client->name);
    buffer_clear(&client->args);
    buffer_append(&client->name, "tidelock.session_open", 21);
    pack_array(&client->args, 1);
    pack_u64(&client->args, client->ttl_ms);
    send(swarm, client, request->node, true);
}

/* Has the cluster allow reads by lease, with as much as clocks may drift apart by the fault of that name: one runs a tenth faster,
 * another a tenth slower. */
static void allow_leases(struct swarm *swarm, struct client *client)
{
    static const char name[] = "lease_drift_ms";
    client->limiting = client->busy = true;
    client->query = client->ticketed = false;
    client->timeout_ms = 1000;
    buffer_clear(&client->name);
    buffer_clear(&client->args);
    buffer_append(&client->name, "tidelock.limits", 15);
    pack_array(&client->args, 2);
    pack_text(&client->args, slice_text(name));
    pack_u64(&client->args, swarm->election_ms / 4 + 2);
    send(swarm, client, (uint32_t)(swarm_now(swarm) % swarm->field.nodes), true);
}

static bool demands_session(const struct swarm *swarm, const struct swarm_request *request)
{
    const struct workload *workload = &swarm->options.workload;
    return !request->query && workload->demands_session != NULL &&
           workload->demands_session(workload->context, request->name);
}

/* True: the client opens a session in place of asking. */
static bool opens_first(struct swarm *swarm, const struct swarm_request *request)
{
    struct client *client = &swarm->clients[request->client - 1];
    if (client->session_size > 0 || !demands_session(swarm, request))
        return false;
    open_session(swarm, client, request);
    return true;
}

static void tell_begun(struct swarm *swarm, const struct swarm_request *request)
{
    const struct client *client = &swarm->clients[request->client - 1];
    const struct workload *workload = &swarm->options.workload;
    struct buffer ticket = {0};
    if (client->ticketed) {
        pack_array(&ticket, 3);
        pack_text(&ticket, slice_make(client->session, client->session_size));
        pack_u64(&ticket, client->seq);
        pack_u64(&ticket, client->seq);
    }
    workload->begun(workload->context, request->client, request->name, request->args, buffer_slice(&ticket),
                    request->query);
    buffer_close(&ticket);
}

static void ask(struct swarm *swarm, const struct swarm_request *request)
{
    struct client *client = &swarm->clients[request->client - 1];
    client->busy = true;
    client->query = request->query;
    client->began = swarm_now(swarm);
    client->timeout_ms = request->timeout_ms;
    client->unsure = false;
    client->attempts = 0;
    client->seq++;
    client->ticketed = client->session_size > 0 && !client->query &&
                       (swarm->options.workload.demands_session == NULL || demands_session(swarm, request));
    if (swarm->options.workload.begun != NULL) {
        tell_begun(swarm, request);
        keep(swarm, request);
    }
    buffer_clear(&client->name);
    buffer_clear(&client->args);
    buffer_append(&client->name, request->name.data, request->name.size);
    buffer_append(&client->args, request->args.data, request->args.size);
    send(swarm, client, request->node, request->forward);
    trace_client(swarm, "begin", request->client - 1, SWARM_OK);
}

static void client_begins(struct swarm *swarm, uint32_t number)
{
    const struct workload *workload = &swarm->options.workload;
    struct swarm_request request = {.at = (uint32_t)(swarm_now(swarm) - swarm->began), .client = number + 1};
    request.node = (uint32_t)prng_below(&swarm->prng, swarm->field.nodes);
    request.timeout_ms = (uint32_t)prng_between(&swarm->prng, 50, 3000);
    request.forward = prng_below(&swarm->prng, 16) > 0;
    buffer_clear(&swarm->name);
    buffer_clear(&swarm->args);
    if (!swarm_is_up(swarm, request.node))
        return;
    if (swarm->sessions && swarm->clients[number].session_size == 0) {
        open_session(swarm, &swarm->clients[number], &request);
        return;
    }
    bool begins = workload->next(workload->context, number + 1, swarm_now(swarm), &swarm->prng, &swarm->name,
                                 &swarm->args, &request.query);
    const char *wrong = workload->wrong != NULL ? workload->wrong(workload->context) : NULL;
    request.name = buffer_slice(&swarm->name);
    request.args = buffer_slice(&swarm->args);
    if (wrong != NULL)
        swarm_broke(swarm, wrong);
    else if (begins && !opens_first(swarm, &request))
        ask(swarm, &request);
}

/* --- by script ------------------------------------------------------------------------------------------------------------------ */

static bool is_scripted(const struct swarm *swarm)
{
    return swarm->options.requests != NULL;
}

/* Finds the client's next request, from this one on, and when it begins. */
static void find_scripted(struct swarm *swarm, uint32_t number, size_t from)
{
    struct client *client = &swarm->clients[number];
    while (from < swarm->options.requests_count && swarm->options.requests[from].client != number + 1)
        from++;
    bool none = from == swarm->options.requests_count;
    client->scripted = from;
    client->next_at = none ? UINT64_MAX : swarm->began + swarm->options.requests[from].at;
}

static void step_scripted(struct swarm *swarm, uint32_t number)
{
    struct client *client = &swarm->clients[number];
    size_t at = client->scripted;
    if (client->busy || at == swarm->options.requests_count ||
        swarm->began + swarm->options.requests[at].at > swarm_now(swarm))
        return;
    const struct swarm_request *request = &swarm->options.requests[at];
    bool asks = swarm_is_up(swarm, request->node) && (!request->again || client->unknown);
    if (asks && opens_first(swarm, request))
        return;
    find_scripted(swarm, number, at + 1);
    if (asks)
        ask(swarm, request);
}

void swarm_clients_begin(struct swarm *swarm)
{
    for (uint32_t i = 0; is_scripted(swarm) && i < swarm->options.clients; i++)
        find_scripted(swarm, i, 0);
}

/* When a busy client is looked at again: soon, and when its script says that it begins something. */
static uint64_t look_again(const struct swarm *swarm, const struct client *client)
{
    uint64_t at = swarm_now(swarm) + RETRY_MS;
    if (!is_scripted(swarm) || client->scripted == swarm->options.requests_count)
        return at;
    uint64_t begins = swarm->began + swarm->options.requests[client->scripted].at;
    return begins > swarm_now(swarm) && begins < at ? begins : at;
}

void swarm_client_step(struct swarm *swarm, uint32_t number, bool may_begin)
{
    struct client *client = &swarm->clients[number];
    uint64_t think = 2u * 1000u * swarm->options.clients / swarm->options.commands_per_second;
    if (client->busy && !client_ends(swarm, number)) {
        send_again(swarm, client);
        client->next_at = look_again(swarm, client);
        return;
    }
    if (is_scripted(swarm)) {
        find_scripted(swarm, number, client->scripted);
        step_scripted(swarm, number);
        if (client->busy)
            client->next_at = look_again(swarm, client);
        return;
    }
    if (may_begin && number == 0 && swarm->leases && !swarm->leases_on)
        allow_leases(swarm, client);
    else if (may_begin)
        client_begins(swarm, number);
    client->next_at = swarm_now(swarm) + 1 + prng_below(&swarm->prng, think + 1);
    if (client->session_size > 0 && prng_chance(&swarm->prng, SLEEPS_PARTS))
        client->next_at += client->ttl_ms + prng_below(&swarm->prng, client->ttl_ms); /* its session may run out */
}

bool swarm_clients_busy(const struct swarm *swarm)
{
    for (uint32_t i = 0; i < swarm->options.clients; i++)
        if (swarm->clients[i].busy ||
            (is_scripted(swarm) && swarm->clients[i].scripted < swarm->options.requests_count))
            return true;
    return false;
}

/* --- what was asked --------------------------------------------------------------------------------------------------------------- */

const struct swarm_request *swarm_requests(struct swarm *swarm, size_t *count)
{
    *count = swarm->list_count;
    swarm->requests = mem_realloc(swarm->requests, (swarm->list_count + 1) * sizeof *swarm->requests);
    for (size_t i = 0; i < swarm->list_count; i++)
        swarm->requests[i] = made_request(swarm, i);
    return swarm->requests;
}

void swarm_clients_free(struct swarm *swarm)
{
    for (size_t i = 0; i < SWARM_CLIENTS_MAX; i++) {
        buffer_close(&swarm->clients[i].name);
        buffer_close(&swarm->clients[i].args);
    }
    buffer_close(&swarm->name);
    buffer_close(&swarm->args);
    buffer_close(&swarm->made);
    mem_free(swarm->list);
    mem_free(swarm->requests);
}
