/* node/host.c - clients' requests: the service's go to the replica, those named "tidelock." are the node's own. */
#include <string.h>

#include "node/state.h"
#include "wire/pack.h"

static void refuse(struct node *node, uint64_t call, enum error_code code, const char *why)
{
    struct buffer value = {0};
    error_pack(&value, code, why);
    rpc_reply(node->rpc, call, false, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

/* The list of whole numbers that the arguments are. */
static bool read_numbers(const struct request *request, uint64_t *numbers, uint32_t wanted)
{
    struct pack_reader reader = pack_reader_make(request->args);
    uint32_t count = 0;
    bool good = pack_read_array(&reader, &count) == STATUS_OK && count == wanted;
    for (uint32_t i = 0; i < wanted && good; i++)
        good = pack_read_u64(&reader, &numbers[i]) == STATUS_OK;
    return good;
}

static void on_batch(struct node *node, uint64_t call, const struct request *request)
{
    replica_request(node->replica, call, request, node_time());
}

static void on_snapshot(struct node *node, uint64_t call, const struct request *request)
{
    replica_request_snapshot(node->replica, call, request->timeout_ms, node_time());
}

/* tidelock.snapshot_read index offset bytes */
static void on_snapshot_read(struct node *node, uint64_t call, const struct request *request)
{
    uint64_t numbers[3] = {0};
    if (read_numbers(request, numbers, 3) && numbers[2] > 0)
        replica_request_piece(node->replica, call, numbers[0], numbers[1], numbers[2], request->timeout_ms,
                              node_time());
    else
        refuse(node, call, ERROR_BAD_ARGS, "tidelock.snapshot_read takes whole numbers: index, offset, bytes");
}

static void on_status(struct node *node, uint64_t call, const struct request *request)
{
    struct buffer value = {0};
    (void)request;
    replica_pack_status(node->replica, &value);
    rpc_reply(node->rpc, call, true, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

static void on_rebuild(struct node *node, uint64_t call, const struct request *request)
{
    replica_request_rebuild(node->replica, call, request->timeout_ms, node_time());
}

#if defined MUTANTS || defined DEBUG_INVARIANTS
/* tidelock.tamper rank: memory rots, so that specs can see it found. */
static void on_tamper(struct node *node, uint64_t call, const struct request *request)
{
    uint64_t rank = 0;
    if (read_numbers(request, &rank, 1))
        replica_request_rot(node->replica, call, rank, node_time());
    else
        refuse(node, call, ERROR_BAD_ARGS, "tidelock.tamper takes a whole number: the rank of a row");
}
#endif

static const struct host_row {
    const char *name; /* after "tidelock." */
    void (*on)(struct node *node, uint64_t call, const struct request *request);
} rows[] = {
    {"batch", on_batch},   {"rebuild", on_rebuild}, {"snapshot", on_snapshot}, {"snapshot_read", on_snapshot_read},
    {"status", on_status},
#if defined MUTANTS || defined DEBUG_INVARIANTS
    {"tamper", on_tamper},
#endif
};

void node_on_request(void *context, uint64_t call, const struct request *request)
{
    static const char host[] = "tidelock.";
    const size_t size = sizeof host - 1;
    struct node *node = context;
    if (request->name.size <= size || memcmp(request->name.data, host, size) != 0) {
        replica_request(node->replica, call, request, node_time());
        return;
    }
    const struct slice name = slice_make(request->name.data + size, request->name.size - size);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (slice_equal(name, slice_text(rows[i].name))) {
            rows[i].on(node, call, request);
            return;
        }
    }
    refuse(node, call, ERROR_UNKNOWN_COMMAND,
           "there are tidelock.batch, .rebuild, .snapshot, .snapshot_read and .status");
}
