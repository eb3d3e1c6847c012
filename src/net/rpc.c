/* net/rpc.c - see net/rpc.h. */
#include "net/rpc.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"
#include "wire/pack.h"

struct rpc_client {
    struct rpc *rpc;
    struct connection *connection; /* NULL: gone; the client goes with its last call */
    size_t calls;
    bool held;     /* not read from until half of its calls have ended */
    bool finished; /* sends no more: closed with its last answer */
    bool listened; /* it is told things unasked */
    struct rpc_client *next;
    struct rpc_client *previous;
};

/* A request in progress. Free ones are chained by `next_free`. */
struct rpc_call {
    struct rpc_client *client;
    uint64_t request_id;
    uint32_t generation; /* so that a stale number is noticed */
    uint32_t next_free;
    bool has_options;
};

struct rpc {
    struct net *net;
    struct rpc_owner owner;
    struct rpc_call *calls;
    uint32_t calls_capacity;
    uint32_t free_first; /* UINT32_MAX: none */
    size_t calls_count;
    struct rpc_client *clients;
    size_t held_count;
};

static size_t on_received(void *owner, struct connection *connection, struct slice bytes, size_t *need,
                          bool *alive);
static bool on_finished(void *owner, struct connection *connection);
static void on_closed(void *owner, struct connection *connection, const char *why);

static const struct connection_owner client_ops = {
    .received = on_received, .finished = on_finished, .closed = on_closed};

struct rpc *rpc_new(struct net *net, const struct rpc_owner *owner)
{
    struct rpc *rpc = mem_zalloc(1, sizeof *rpc);
    rpc->net = net;
    rpc->owner = *owner;
    rpc->free_first = UINT32_MAX;
    return rpc;
}

static void free_client(struct rpc_client *client)
{
    struct rpc *rpc = client->rpc;
    if (client->held)
        rpc->held_count--;
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        rpc->clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    mem_free(client);
}

void rpc_free(struct rpc *rpc)
{
    while (rpc->clients != NULL) {
        CHECK(rpc->clients->connection == NULL);
        free_client(rpc->clients);
    }
    mem_free(rpc->calls);
    mem_free(rpc);
}

size_t rpc_calls(const struct rpc *rpc)
{
    return rpc->calls_count;
}

void rpc_adopt(struct rpc *rpc, struct connection *connection)
{
    struct rpc_client *client = mem_zalloc(1, sizeof *client);
    client->rpc = rpc;
    client->connection = connection;
    client->next = rpc->clients;
    if (client->next != NULL)
        client->next->previous = client;
    rpc->clients = client;
    connection_set_owner(connection, &client_ops, client, RPC_OUTPUT_BYTES_MAX);
}

static bool on_finished(void *owner, struct connection *connection)
{
    struct rpc_client *client = owner;
    (void)connection;
    client->finished = true;
    return client->calls > 0; /* who only listens may be gone altogether */
}

static void on_closed(void *owner, struct connection *connection, const char *why)
{
    struct rpc_client *client = owner;
    LOG(LOG_DEBUG, "net", "client %s: %s", connection_name(connection), why);
    client->connection = NULL;
    if (client->listened)
        client->rpc->owner.gone(client->rpc->owner.context, client);
    if (client->calls == 0)
        free_client(client);
}

/* --- calls --------------------------------------------------------------------------------------------------------- */

static void grow_calls(struct rpc *rpc)
{
    uint32_t old = rpc->calls_capacity;
    uint32_t grown = old == 0 ? 256 : old * 2;
    rpc->calls = mem_realloc(rpc->calls, (size_t)grown * sizeof *rpc->calls);
    memset(rpc->calls + old, 0, (size_t)(grown - old) * sizeof *rpc->calls);
    for (uint32_t i = grown; i > old; i--) {
        rpc->calls[i - 1].next_free = rpc->free_first;
        rpc->free_first = i - 1;
    }
    rpc->calls_capacity = grown;
}

static uint64_t begin_call(struct rpc_client *client, const struct request *request)
{
    struct rpc *rpc = client->rpc;
    if (rpc->free_first == UINT32_MAX)
        grow_calls(rpc);
    uint32_t slot = rpc->free_first;
    struct rpc_call *call = &rpc->calls[slot];
    rpc->free_first = call->next_free;
    call->client = client;
    call->request_id = request->id;
    call->has_options = request->has_options;
    call->generation++;
    client->calls++;
    rpc->calls_count++;
    return (uint64_t)call->generation << 32 | slot;
}

/* Appends the answer to what the client is sent. */
static void answer(struct connection *connection, const struct request *request, bool ok, bool definite,
                   uint64_t index, struct slice value)
{
    if (ok)
        response_ok(connection_output(connection), request, value, index);
    else
        response_error(connection_output(connection), request, value, definite, index);
    connection_queued(connection);
}

void rpc_reply(struct rpc *rpc, uint64_t call_number, bool ok, bool definite, uint64_t index, struct slice value)
{
    uint32_t slot = (uint32_t)call_number;
    CHECK(slot < rpc->calls_capacity);
    struct rpc_call *call = &rpc->calls[slot];
    CHECK_EQ(call->generation, call_number >> 32);
    struct rpc_client *client = call->client;
    CHECK(client != NULL);
    struct request request = {.id = call->request_id, .has_options = call->has_options};
    call->client = NULL;
    call->next_free = rpc->free_first;
    rpc->free_first = slot;
    client->calls--;
    rpc->calls_count--;
    if (client->connection == NULL) {
        if (client->calls == 0)
            free_client(client);
        return;
    }
    answer(client->connection, &request, ok, definite, index, value);
    if (client->finished && client->calls == 0)
        connection_close(client->connection, "closed by the other side");
}

/* --- telling unasked ------------------------------------------------------------------------------------------------ */

struct rpc_client *rpc_listen(struct rpc *rpc, uint64_t call_number)
{
    uint32_t slot = (uint32_t)call_number;
    CHECK(slot < rpc->calls_capacity);
    CHECK_EQ(rpc->calls[slot].generation, call_number >> 32);
    struct rpc_client *client = rpc->calls[slot].client;
    CHECK(client != NULL);
    if (client->connection == NULL)
        return NULL;
    client->listened = true;
    return client;
}

void rpc_tell(struct rpc_client *client, struct slice message)
{
    CHECK(client->connection != NULL);
    buffer_append(connection_output(client->connection), message.data, message.size);
    connection_queued(client->connection);
}

size_t rpc_pending(const struct rpc_client *client)
{
    CHECK(client->connection != NULL);
    return connection_pending(client->connection);
}

void rpc_end(struct rpc_client *client, const char *why)
{
    CHECK(client->connection != NULL);
    connection_close(client->connection, why);
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static void answer_bad(struct rpc_client *client, const struct request *request, enum status status,
                       const char *why)
{
    struct buffer error = {0};
    error_pack(&error, status == STATUS_TOO_LARGE ? ERROR_TOO_LARGE : ERROR_BAD_REQUEST, why);
    answer(client->connection, request, false, true, 0, buffer_slice(&error));
    buffer_close(&error);
}

static void hold(struct rpc_client *client)
{
    if (client->held)
        return;
    client->held = true;
    client->rpc->held_count++;
    connection_pause(client->connection, true);
}

static size_t on_received(void *owner, struct connection *connection, struct slice bytes, size_t *need, bool *alive)
{
    struct rpc_client *client = owner;
    size_t used = 0;
    while (used < bytes.size) {
        if (client->calls >= RPC_CALLS_MAX || connection_pending(connection) > RPC_OUTPUT_BYTES_MAX / 2) {
            hold(client);
            break;
        }
        struct request request;
        size_t size = 0;
        const char *why = NULL;
        bool answerable = false;
        enum status status =
            request_decode(slice_make(bytes.data + used, bytes.size - used), &request, &size, &why, &answerable);
        if (status == STATUS_INCOMPLETE) {
            *need = size;
            break;
        }
        if (status == STATUS_OK) {
            client->rpc->owner.request(client->rpc->owner.context, begin_call(client, &request), &request);
        } else {
            LOG(LOG_DEBUG, "net", "client %s: bad request: %s", connection_name(connection), why);
            if (!answerable)
                memset(&request, 0, sizeof request);
            answer_bad(client, &request, status, why);
            if (!answerable) {
                *alive = false;
                return bytes.size;
            }
        }
        used += size;
    }
    return used;
}

void rpc_resume(struct rpc *rpc)
{
    if (rpc->held_count == 0)
        return;
    struct rpc_client *next = NULL;
    for (struct rpc_client *client = rpc->clients; client != NULL; client = next) {
        next = client->next;
        if (!client->held || client->connection == NULL || client->calls > RPC_CALLS_MAX / 2 ||
            connection_pending(client->connection) > RPC_OUTPUT_BYTES_MAX / 4)
            continue;
        client->held = false;
        rpc->held_count--;
        connection_pause(client->connection, false);
    }
}

void rpc_close_all(struct rpc *rpc)
{
    for (struct rpc_client *client = rpc->clients; client != NULL; client = client->next)
        if (client->connection != NULL)
            connection_close(client->connection, "this node ends");
}
