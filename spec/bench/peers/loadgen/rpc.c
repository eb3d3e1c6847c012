/* spec/bench/peers/loadgen/rpc.c - tidelock: MessagePack-RPC.
 *
 * Request: [0, id, command, [key, value]]. Answer: [1, id, error, result]. Depends on libcore's wire floor. */
#include <stdio.h>

#include "loadgen.h"
#include "wire/pack.h"

static void request(struct connection *connection)
{
    pack_array(&connection->out, 4);
    pack_u64(&connection->out, 0);
    pack_u64(&connection->out, connection->next_id);
    pack_text(&connection->out, slice_text(options.action));
    pack_array(&connection->out, 2);
    pack_text(&connection->out, request_key);
    pack_text(&connection->out, request_value);
}

static void take(struct connection *connection, struct slice answer)
{
    struct pack_reader reader = pack_reader_make(answer);
    struct pack_item error;
    uint32_t count = 0;
    uint64_t type = 0;
    uint64_t id = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count < 4 || pack_read_u64(&reader, &type) != STATUS_OK ||
        type != 1 || pack_read_u64(&reader, &id) != STATUS_OK || pack_read(&reader, &error) != STATUS_OK)
        die("an answer that is none");
    if (error.type != PACK_NIL && options.event == NULL && counts.refused < 3)
        fprintf(stderr, "refused: an error of MessagePack type %d\n", (int)error.type);
    connection_answered(connection, (uint32_t)id, error.type == PACK_NIL);
}

static size_t answers(struct connection *connection, struct slice in)
{
    struct pack_reader reader = pack_reader_make(in);
    struct slice answer;
    enum status status;
    while ((status = pack_skip(&reader, PACK_DEPTH_MAX, &answer)) == STATUS_OK)
        take(connection, answer);
    if (status != STATUS_INCOMPLETE)
        die("an answer that is not MessagePack");
    return in.size - pack_rest(&reader).size;
}

const struct protocol protocol_rpc = {.name = "rpc", .action = "kv.set", .request = request, .answers = answers};
