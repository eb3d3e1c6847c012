/* spec/bench/peers/loadgen/raw.c - raftnode.c: the smallest framing there can be.
 *
 * Request: u32 size of what follows the id, u32 id, 'w' or 'r', u8 size of the key, key, value. Answer: u32 id, u32
 * status, 0 for ok. Numbers in the machine's order. */
#include <string.h>

#include "loadgen.h"

static void request(struct connection *connection)
{
    bool write = options.action[0] == 'w';
    uint32_t size = (uint32_t)(2 + request_key.size + (write ? request_value.size : 0));
    buffer_append(&connection->out, &size, 4);
    buffer_append(&connection->out, &connection->next_id, 4);
    buffer_append_byte(&connection->out, (uint8_t)options.action[0]);
    buffer_append_byte(&connection->out, (uint8_t)request_key.size);
    buffer_append(&connection->out, request_key.data, request_key.size);
    if (write)
        buffer_append(&connection->out, request_value.data, request_value.size);
}

static size_t answers(struct connection *connection, struct slice in)
{
    size_t used = 0;
    for (; in.size - used >= 8; used += 8) {
        uint32_t id_and_status[2];
        memcpy(id_and_status, in.data + used, 8);
        connection_answered(connection, id_and_status[0], id_and_status[1] == 0);
    }
    return used;
}

const struct protocol protocol_raw = {.name = "raw", .action = "w", .request = request, .answers = answers};
