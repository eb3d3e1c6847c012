/* spec/bench/peers/loadgen/etcd.c - etcd: gRPC over cleartext HTTP/2, as little of it as a unary call needs.
 *
 * Headers go out as literals without indexing, so no table is kept; flow control is obeyed when sending. An answer
 * counts as good when a DATA frame came before the end of the stream: a gRPC error has only trailers. */
#include <arpa/inet.h>
#include <string.h>

#include "base/memory.h"
#include "loadgen.h"

enum {
    DATA = 0,
    HEADERS = 1,
    RST_STREAM = 3,
    SETTINGS = 4,
    PING = 6,
    GOAWAY = 7,
    WINDOW_UPDATE = 8,
    END_STREAM = 1,
    ACK = 1,
    END_HEADERS = 4,
    FRAME_HEAD = 9,
    WINDOW = 65535,       /* what HTTP/2 begins with */
    FRAME_MAX = 16384,    /* likewise */
    UNACKED_MAX = 1 << 20 /* bytes taken before the peer hears of it */
};

/* A request that is not sent whole: its body, and how much of it is gone. */
struct queued {
    uint32_t stream;
    size_t at;
    struct buffer body;
};

/* The sending side of one connection, and what has come of each answer. */
struct http2 {
    struct queued *queue; /* ring */
    size_t first, past;
    int64_t window, stream_window, first_window;
    uint32_t frame_max, stream;
    uint64_t unacked;
    bool *got_data; /* ring, by id */
};

static struct buffer headers;

static void frame(struct buffer *out, size_t size, uint8_t type, uint8_t flags, uint32_t stream)
{
    uint8_t head[FRAME_HEAD] = {
        (uint8_t)(size >> 16),   (uint8_t)(size >> 8),    (uint8_t)size,          type,           flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    buffer_append(out, head, sizeof head);
}

static void append_u32(struct buffer *out, uint32_t number)
{
    number = htonl(number);
    buffer_append(out, &number, 4);
}

static uint32_t read_u32(const uint8_t *at)
{
    uint32_t number;
    memcpy(&number, at, 4);
    return ntohl(number);
}

static void header_text(const char *text)
{
    buffer_append_byte(&headers, (uint8_t)strlen(text));
    buffer_append(&headers, text, strlen(text));
}

/* A header that is not to be indexed; `known` is the name's place in HPACK's static table, 0 if it has none. */
static void header(uint8_t known, const char *name, const char *value)
{
    buffer_append_byte(&headers, known > 14 ? 15 : known);
    if (known > 14)
        buffer_append_byte(&headers, (uint8_t)(known - 15));
    if (known == 0)
        header_text(name);
    header_text(value);
}

static void prepare(void)
{
    bool put = strcmp(options.action, "put") == 0;
    buffer_append(&headers, "\x83\x86", 2); /* :method POST, :scheme http */
    header(4, ":path", put ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range");
    header(1, ":authority", "127.0.0.1");
    header(31, "content-type", "application/grpc");
    header(0, "te", "trailers");
}

static void hello(struct connection *connection)
{
    struct http2 *http2 = connection->http2;
    if (http2 == NULL) {
        http2 = connection->http2 = mem_zalloc(1, sizeof *http2);
        http2->queue = mem_zalloc(RING, sizeof *http2->queue);
        http2->got_data = mem_zalloc(RING, sizeof *http2->got_data);
    }
    http2->first = http2->past = 0;
    http2->window = http2->first_window = WINDOW;
    http2->frame_max = FRAME_MAX;
    http2->stream = 0;
    http2->unacked = 0;
    struct buffer *out = &connection->out;
    buffer_append(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    frame(out, 6, SETTINGS, 0, 0);
    buffer_append(out, "\x00\x04\x7f\xff\xff\xff", 6); /* streams may send us 2^31 - 1 bytes */
    frame(out, 4, WINDOW_UPDATE, 0, 0);
    append_u32(out, 0x7fffffff - WINDOW);
}

static int64_t smallest(int64_t a, int64_t b, int64_t c)
{
    int64_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Sends what the peer's windows allow of the requests in the queue. */
static void pump(struct connection *connection)
{
    struct http2 *http2 = connection->http2;
    for (; http2->first != http2->past; http2->first++) {
        struct queued *queued = &http2->queue[http2->first % RING];
        if (http2->stream != queued->stream) {
            http2->stream = queued->stream;
            http2->stream_window = http2->first_window;
            frame(&connection->out, headers.size, HEADERS, END_HEADERS, queued->stream);
            buffer_append(&connection->out, headers.data, headers.size);
        }
        while (queued->at < queued->body.size) {
            size_t left = queued->body.size - queued->at;
            int64_t size = smallest((int64_t)left, http2->window, http2->stream_window);
            size = size > (int64_t)http2->frame_max ? (int64_t)http2->frame_max : size;
            if (size <= 0)
                return;
            frame(&connection->out, (size_t)size, DATA, (size_t)size == left ? END_STREAM : 0, queued->stream);
            buffer_append(&connection->out, queued->body.data + queued->at, (size_t)size);
            queued->at += (size_t)size;
            http2->window -= size;
            http2->stream_window -= size;
        }
    }
}

static void protobuf_bytes(struct buffer *out, uint8_t tag, struct slice bytes)
{
    buffer_append_byte(out, tag);
    size_t size = bytes.size;
    for (; size > 127; size >>= 7)
        buffer_append_byte(out, (uint8_t)(size | 128));
    buffer_append_byte(out, (uint8_t)size);
    buffer_append(out, bytes.data, bytes.size);
}

static void request(struct connection *connection)
{
    struct http2 *http2 = connection->http2;
    struct queued *queued = &http2->queue[http2->past++ % RING];
    struct buffer *body = &queued->body;
    buffer_clear(body);
    queued->at = 0;
    queued->stream = connection->next_id * 2 + 1;
    buffer_append(body, "\0\0\0\0\0", 5); /* gRPC: not compressed, size */
    protobuf_bytes(body, 0x0a, request_key);
    if (strcmp(options.action, "put") == 0)
        protobuf_bytes(body, 0x12, request_value);
    else if (strcmp(options.action, "sget") == 0)
        buffer_append(body, "\x38\x01", 2); /* serializable: any node, what it has */
    uint32_t size = htonl((uint32_t)(body->size - 5));
    memcpy(body->data + 1, &size, 4);
    http2->got_data[connection->next_id % RING] = false;
    pump(connection);
}

static void take_settings(struct connection *connection, struct slice settings)
{
    struct http2 *http2 = connection->http2;
    for (size_t i = 0; i + 6 <= settings.size; i += 6) {
        uint32_t value = read_u32(settings.data + i + 2);
        if (settings.data[i + 1] == 4) {
            http2->stream_window += (int64_t)value - http2->first_window;
            http2->first_window = value;
        }
        if (settings.data[i + 1] == 5)
            http2->frame_max = value;
    }
    frame(&connection->out, 0, SETTINGS, ACK, 0);
    pump(connection);
}

static void take_data(struct connection *connection, uint32_t stream, size_t size)
{
    struct http2 *http2 = connection->http2;
    http2->got_data[stream / 2 % RING] = true;
    http2->unacked += size;
    if (http2->unacked > UNACKED_MAX) {
        frame(&connection->out, 4, WINDOW_UPDATE, 0, 0);
        append_u32(&connection->out, (uint32_t)http2->unacked);
        http2->unacked = 0;
    }
}

static void take_window(struct connection *connection, uint32_t stream, uint32_t more)
{
    if (stream == 0)
        connection->http2->window += more;
    else if (stream == connection->http2->stream)
        connection->http2->stream_window += more;
    pump(connection);
}

static void take_frame(struct connection *connection, uint8_t type, uint8_t flags, uint32_t stream,
                       struct slice body)
{
    uint32_t id = stream / 2;
    switch (type) {
    case DATA:
        take_data(connection, stream, body.size);
        break;
    case HEADERS:
        if ((flags & END_STREAM) != 0)
            connection_answered(connection, id, connection->http2->got_data[id % RING]);
        break;
    case RST_STREAM:
        connection_answered(connection, id, false);
        break;
    case SETTINGS:
        if ((flags & ACK) == 0)
            take_settings(connection, body);
        break;
    case PING:
        if ((flags & ACK) == 0) {
            frame(&connection->out, body.size, PING, ACK, 0);
            buffer_append(&connection->out, body.data, body.size);
        }
        break;
    case GOAWAY:
        if (options.victim == 0 && options.event == NULL)
            die("GOAWAY");
        connection->up = false;
        break;
    case WINDOW_UPDATE:
        take_window(connection, stream, read_u32(body.data) & 0x7fffffff);
        break;
    default:
        break;
    }
}

static size_t answers(struct connection *connection, struct slice in)
{
    size_t used = 0;
    while (in.size - used >= FRAME_HEAD) {
        const uint8_t *at = in.data + used;
        size_t size = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (in.size - used < FRAME_HEAD + size)
            break;
        used += FRAME_HEAD + size;
        take_frame(connection, at[3], at[4], read_u32(at + 5) & 0x7fffffff, slice_make(at + FRAME_HEAD, size));
    }
    return used;
}

const struct protocol protocol_etcd = {
    .name = "etcd", .action = "put", .prepare = prepare, .hello = hello, .request = request, .answers = answers};
