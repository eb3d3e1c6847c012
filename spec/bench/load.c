/* spec/bench/load.c - a load client over MessagePack-RPC: closed loop, one thread.
 *
 *   load ADDRESS,... CONNECTIONS DEPTH SECONDS VALUE_BYTES [KEYS]
 *
 * Each connection keeps DEPTH requests kv.set out. Counts only answers within the run; prints one line of JSON: operations a
 * second, latency percentiles in us, errors. Addresses are taken in turn. Depends on libcore's wire floor. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"
#include "wire/pack.h"

enum { CONNECTIONS_MAX = 256, DEPTH_MAX = 8192, LATENCIES = 1 << 22, INPUT = 1 << 20 };

struct connection {
    int fd;
    struct buffer out;
    size_t written;
    uint8_t *in;
    size_t in_size;
    uint64_t *sent_ns; /* by id modulo DEPTH_MAX */
    uint32_t next_id;
};

static struct connection connections[CONNECTIONS_MAX];
static uint32_t *latencies_us;
static uint64_t answers, errors;
static struct prng prng;
static uint64_t keys = 100000;
static size_t value_bytes;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_request(struct connection *c, uint64_t now)
{
    char key[32];
    static char value[65536];
    uint32_t id = c->next_id++ % DEPTH_MAX;
    snprintf(key, sizeof key, "key-%012llu", (unsigned long long)prng_below(&prng, keys));
    memset(value, 'v', value_bytes);
    pack_array(&c->out, 4);
    pack_u64(&c->out, 0);
    pack_u64(&c->out, id);
    pack_text(&c->out, slice_text("kv.set"));
    pack_array(&c->out, 2);
    pack_text(&c->out, slice_text(key));
    pack_text(&c->out, slice_make(value, value_bytes));
    c->sent_ns[id] = now;
}

static void flush(struct connection *c)
{
    while (c->written < c->out.size) {
        ssize_t put = send(c->fd, c->out.data + c->written, c->out.size - c->written, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN)
            return;
        if (put < 0) {
            fprintf(stderr, "send: %s\n", strerror(errno));
            exit(1);
        }
        c->written += (size_t)put;
    }
    c->written = 0;
    buffer_clear(&c->out);
}

static void take_answers(struct connection *c)
{
    ssize_t got = recv(c->fd, c->in + c->in_size, INPUT - c->in_size, 0);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN)
            return;
        fprintf(stderr, "the connection was closed\n");
        exit(1);
    }
    c->in_size += (size_t)got;
    struct pack_reader reader = pack_reader_make(slice_make(c->in, c->in_size));
    struct slice answer;
    uint64_t now = now_ns();
    while (pack_skip(&reader, PACK_DEPTH_MAX, &answer) == STATUS_OK) {
        struct pack_reader inside = pack_reader_make(answer);
        struct pack_item error;
        uint32_t count = 0;
        uint64_t type = 0;
        uint64_t id = 0;
        CHECK(pack_read_array(&inside, &count) == STATUS_OK && pack_read_u64(&inside, &type) == STATUS_OK &&
              pack_read_u64(&inside, &id) == STATUS_OK && pack_read(&inside, &error) == STATUS_OK);
        errors += error.type != PACK_NIL;
        if (answers < LATENCIES)
            latencies_us[answers] = (uint32_t)((now - c->sent_ns[id]) / 1000);
        answers++;
        add_request(c, now);
    }
    size_t rest = (size_t)(reader.end - reader.at);
    memmove(c->in, reader.at, rest);
    c->in_size = rest;
}

static int by_value(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void open_connection(struct connection *c, const char *address)
{
    char host[64];
    int port = 0;
    CHECK(sscanf(address, "%63[^:]:%d", host, &port) == 2);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK(inet_pton(AF_INET, host, &to.sin_addr) == 1);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        fprintf(stderr, "%s: %s\n", address, strerror(errno));
        exit(1);
    }
    int one = 1;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->in = mem_alloc(INPUT);
    c->sent_ns = mem_zalloc(DEPTH_MAX, sizeof *c->sent_ns);
}

int main(int count, char **words)
{
    if (count < 6) {
        fprintf(stderr, "load ADDRESS,... CONNECTIONS DEPTH SECONDS VALUE_BYTES [KEYS]\n");
        return 2;
    }
    int conns = atoi(words[2]);
    int depth = atoi(words[3]);
    double seconds = atof(words[4]);
    value_bytes = (size_t)atoi(words[5]);
    keys = count > 6 ? strtoull(words[6], NULL, 10) : keys;
    CHECK(conns >= 1 && conns <= CONNECTIONS_MAX && depth >= 1 && depth <= DEPTH_MAX && value_bytes <= 65536);
    prng_seed(&prng, 1);
    latencies_us = mem_alloc(LATENCIES * sizeof *latencies_us);
    struct pollfd polls[CONNECTIONS_MAX];
    char *list[16];
    int addresses = 0;
    for (char *at = strtok(words[1], ","); at != NULL && addresses < 16; at = strtok(NULL, ","))
        list[addresses++] = at;
    uint64_t start = now_ns();
    for (int i = 0; i < conns; i++) {
        open_connection(&connections[i], list[i % addresses]);
        for (int d = 0; d < depth; d++)
            add_request(&connections[i], now_ns());
        flush(&connections[i]);
        polls[i] = (struct pollfd){.fd = connections[i].fd};
    }
    start = now_ns();
    answers = 0;
    while (now_ns() - start < (uint64_t)(seconds * 1e9)) {
        for (int i = 0; i < conns; i++)
            polls[i].events = (short)(POLLIN | (connections[i].out.size > 0 ? POLLOUT : 0));
        (void)poll(polls, (nfds_t)conns, 100);
        for (int i = 0; i < conns; i++) {
            if ((polls[i].revents & POLLIN) != 0)
                take_answers(&connections[i]);
            if (connections[i].out.size > 0)
                flush(&connections[i]);
        }
    }
    double spent = (double)(now_ns() - start) / 1e9;
    size_t kept = answers < LATENCIES ? (size_t)answers : LATENCIES;
    qsort(latencies_us, kept, sizeof *latencies_us, by_value);
    printf("{\"outstanding\":%d,\"ops_s\":%.0f,\"p50_us\":%u,\"p99_us\":%u,\"errors\":%llu}\n", conns * depth,
           (double)answers / spent, kept > 0 ? latencies_us[kept / 2] : 0, kept > 0 ? latencies_us[kept * 99 / 100] : 0,
           (unsigned long long)errors);
    return 0;
}
