/* node/host.c - clients' requests: the service's go to the replica, those named "tidelock." are the node's own. */
#include <string.h>

#include "node/state.h"
#include "wire/pack.h"

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

void node_on_request(void *context, uint64_t call, const struct request *request)
{
    struct node *node = context;
    static const char host[] = "tidelock.";
    bool ours = request->name.size > sizeof host - 1 && memcmp(request->name.data, host, sizeof host - 1) == 0;
    if (!ours || slice_equal(request->name, slice_text("tidelock.batch"))) {
        replica_request(node->replica, call, request, node_time());
        return;
    }
    if (slice_equal(request->name, slice_text("tidelock.snapshot"))) {
        replica_request_snapshot(node->replica, call, request->timeout_ms, node_time());
        return;
    }
    if (slice_equal(request->name, slice_text("tidelock.snapshot_read"))) {
        read_snapshot(node, call, request);
        return;
    }
    struct buffer value = {0};
    bool known = slice_equal(request->name, slice_text("tidelock.status"));
    if (known)
        replica_pack_status(node->replica, &value);
    else
        error_pack(&value, ERROR_UNKNOWN_COMMAND,
                   "there are tidelock.batch, tidelock.snapshot, tidelock.snapshot_read and tidelock.status");
    rpc_reply(node->rpc, call, known, true, 0, buffer_slice(&value));
    buffer_close(&value);
}
