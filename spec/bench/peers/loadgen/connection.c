/* spec/bench/peers/loadgen/connection.c - one connection: requests go out, answers come in and are counted. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "loadgen.h"

static uint64_t random_state = 88172645463325252u, key_number;

static void write_key(uint64_t number)
{
    uint8_t *key = (uint8_t *)(uintptr_t)request_key.data;
    for (size_t i = request_key.size - 1; i > 0; i--, number /= 10)
        key[i] = (uint8_t)('0' + number % 10);
    key[0] = 'k';
}

/* Makes request_key and request_value -> the key's number; the value changes a little, so that no peer stores the same twice. */
static uint64_t next_key(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    uint64_t number = options.in_sequence ? options.key_first + key_number++ : random_state % options.keys;
    write_key(number);
    uint64_t letters = (random_state & 0x0f0f0f0f0f0f0f0fu) | 0x4040404040404040u;
    if (request_value.size >= sizeof letters)
        memcpy((uint8_t *)(uintptr_t)request_value.data, &letters, sizeof letters);
    return number;
}

uint64_t due_ns(uint64_t number)
{
    return counts.start_ns + number * 1000000000u / options.rate;
}

bool connection_open(struct connection *connection, int index)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    connection->index = index;
    to.sin_port = htons((uint16_t)options.ports[index % options.ports_count]);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(connection->fd);
        return false;
    }
    if (connection->sent_ns == NULL) {
        connection->sent_ns = mem_zalloc(RING, sizeof *connection->sent_ns);
        connection->keys = mem_zalloc(RING, sizeof *connection->keys);
    }
    buffer_clear(&connection->in);
    buffer_clear(&connection->out);
    connection->written = 0;
    connection->next_id = 0;
    connection->oldest_id = 0;
    connection->waiting = 0;
    if (options.protocol->hello != NULL)
        options.protocol->hello(connection);
    (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->up = true;
    return true;
}

void connection_request(struct connection *connection)
{
    connection->keys[connection->next_id % RING] = next_key();
    connection->sent_ns[connection->next_id % RING] = now_ns();
    options.protocol->request(connection);
    connection->next_id++;
    connection->waiting++;
    counts.sent++;
}

int connection_flush(struct connection *connection)
{
    while (connection->written < connection->out.size) {
        ssize_t put = write(connection->fd, connection->out.data + connection->written,
                            connection->out.size - connection->written);
        if (put < 0)
            return errno == EAGAIN ? 1 : -1;
        connection->written += (size_t)put;
    }
    buffer_clear(&connection->out);
    connection->written = 0;
    return 0;
}

bool connection_receive(struct connection *connection)
{
    for (int i = 0; i < 16; i++) {
        ssize_t got = read(connection->fd, buffer_reserve(&connection->in, INPUT), INPUT);
        if (got < 0)
            return errno == EAGAIN;
        if (got == 0)
            return false;
        connection->in.size += (size_t)got;
        size_t used = options.protocol->answers(connection, buffer_slice(&connection->in));
        buffer_consume(&connection->in, used);
        if (got < INPUT)
            break;
    }
    return true;
}

void connection_answered(struct connection *connection, uint32_t id, bool ok)
{
    uint64_t now = now_ns();
    connection->waiting--;
    if (!ok) {
        counts.refused++;
        return;
    }
    if (options.victim > 0 && counts.first_port == 0) {
        counts.first_port = options.ports[connection->index % options.ports_count];
        counts.first_ns = now;
    }
    if (now > counts.end_ns)
        return;
    counts.answered++;
    counts.last_ns = now;
    uint64_t sent = connection->sent_ns[id % RING];
    if (options.event != NULL) {
        write_key(connection->keys[id % RING]);
        around_acknowledged(request_key, sent, now);
    }
    uint64_t number = (uint64_t)id * (uint64_t)options.connections + (uint64_t)connection->index;
    uint64_t due = options.rate > 0 ? due_ns(number) : sent;
    latency_add(now - due);
    if (options.samples != NULL)
        sample_add(due, sent, now);
}
