/* node/host_calls.c - see node/host_calls.h. */
#include "node/host_calls.h"

#include <stdio.h>
#include <string.h>

#include "node/state.h"
#include "node/watch.h"
#include "wire/error.h"
#include "wire/pack.h"

static void take_snapshot(struct node *node, uint64_t call, const struct request *request)
{
    replica_request_snapshot(node->replica, call, request->timeout_ms, node_time());
}

/* tidelock.snapshot_read index offset bytes */
static void read_snapshot(struct node *node, uint64_t call, const struct request *request)
{
    struct pack_reader reader = pack_reader_make(request->args);
    uint32_t count = 0;
    uint64_t numbers[3] = {0};
    bool good = pack_read_array(&reader, &count) == STATUS_OK && count == 3;
    for (size_t i = 0; i < 3 && good; i++)
        good = pack_read_u64(&reader, &numbers[i]) == STATUS_OK;
    if (good && numbers[2] > 0) {
        replica_request_piece(node->replica, call, numbers[0], numbers[1], numbers[2], request->timeout_ms,
                              node_time());
        return;
    }
    struct buffer value = {0};
    error_pack(&value, ERROR_BAD_ARGS, "tidelock.snapshot_read takes whole numbers: index, offset, bytes");
    rpc_reply(node->rpc, call, false, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

static void take_status(struct node *node, uint64_t call, const struct request *request)
{
    struct buffer value = {0};
    (void)request;
    replica_pack_status(node->replica, &value);
    rpc_reply(node->rpc, call, true, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

static void rebuild(struct node *node, uint64_t call, const struct request *request)
{
    replica_request_rebuild(node->replica, call, request->timeout_ms, node_time());
}

#if defined MUTANTS || defined DEBUG_INVARIANTS
/* tidelock.tamper rank: memory rots, so that specs can see it found. */
static void tamper(struct node *node, uint64_t call, const struct request *request)
{
    struct pack_reader reader = pack_reader_make(request->args);
    uint32_t count = 0;
    uint64_t rank = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 1 || pack_read_u64(&reader, &rank) != STATUS_OK)
        rank = 0; /* the first row will do */
    replica_request_rot(node->replica, call, rank, node_time());
}
#endif

static const struct host_call {
    const char *name;
    void (*take)(struct node *node, uint64_t call, const struct request *request);
} calls[] = {{"tidelock.rebuild", rebuild},
             {"tidelock.snapshot", take_snapshot},
             {"tidelock.snapshot_read", read_snapshot},
             {"tidelock.status", take_status},
#if defined MUTANTS || defined DEBUG_INVARIANTS
             {"tidelock.tamper", tamper},
#endif
             {"tidelock.watch", watch_begin}};

enum { CALLS = sizeof calls / sizeof calls[0] };

static void refuse(struct node *node, uint64_t call)
{
    struct buffer error = {0};
    char text[400];
    int size = snprintf(text, sizeof text, "of the host there are tidelock.batch");
    for (size_t i = 0; i < CALLS; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, " %s", calls[i].name);
    const char *name = NULL;
    for (size_t i = 0; (name = replica_takes_name(i)) != NULL && size < (int)sizeof text; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, " %s", name);
    error_pack(&error, ERROR_UNKNOWN_COMMAND, text);
    rpc_reply(node->rpc, call, false, true, 0, buffer_slice(&error));
    buffer_close(&error);
}

void host_calls_take(struct node *node, uint64_t call, const struct request *request)
{
    static const char host[] = "tidelock.";
    bool ours = request->name.size > sizeof host - 1 && memcmp(request->name.data, host, sizeof host - 1) == 0;
    if (!ours || slice_equal(request->name, slice_text("tidelock.batch")) || replica_takes(request->name)) {
        replica_request(node->replica, call, request, node_time());
        return;
    }
    for (size_t i = 0; i < CALLS; i++)
        if (slice_equal(request->name, slice_text(calls[i].name))) {
            calls[i].take(node, call, request);
            return;
        }
    refuse(node, call);
}
