/* spec/bench/peers/loadgen/main.c - the load generator: options, the two loops, one JSON object.
 *
 *   loadgen -p PROTOCOL -P PORT,... [options]        127.0.0.1 only; ends by -n or -t
 *
 *   -p PROTOCOL   rpc (tidelock), etcd, raw (raftnode.c), resp (Redis)
 *   -P PORTS      connections are dealt over them in turn
 *   -c N -d N     connections, and requests out on each
 *   -t S -n N     seconds, and most requests
 *   -k N -v N     bytes of a key and of a value;  -K N: how many keys;  -q: in sequence, not random;  -b N: from N on
 *   -r N          N requests a second, whatever is answered, instead of -d; a latency begins when its request was due
 *   -l FILE       a line for each answer: when its request was due, sent and answered, in us of the monotonic clock
 *   -a TEXT       rpc: command; etcd: put get sget; raw: w r; resp: words with {k} {v}
 *   -X PID        failover: kill PID (1: nobody), then write to each port every 5 ms; the time of the first success
 *   -E COMMAND    run it while a write goes out each ms; the longest time without an acknowledged one. Give -q, too
 *   -A FILE       for -E: the keys that were acknowledged, a line each
 *
 * Only answers within the run count. TERM ends it early. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "loadgen.h"

enum { EVENTS = 256, CONNECTIONS_MAX = 4096, SECONDS_MAX = 3600 };

static const uint64_t late_ns = 15000000000u; /* an answer that late is given up */

struct options options = {.connections = 1,
                          .depth = 1,
                          .seconds = 5,
                          .requests_max = UINT64_MAX,
                          .key_bytes = 16,
                          .value_bytes = 64,
                          .keys = 100000};
struct counts counts;
struct slice request_key, request_value;
static volatile sig_atomic_t ended;

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void die(const char *text)
{
    fprintf(stderr, "loadgen: %s\n", text);
    exit(1);
}

static void choose_protocol(const char *name)
{
    static const struct protocol *const all[] = {&protocol_rpc, &protocol_etcd, &protocol_raw, &protocol_resp};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0)
            options.protocol = all[i];
    if (options.protocol == NULL)
        die("unknown protocol");
}

static void read_option(int letter)
{
    switch (letter) {
    case 'p':
        choose_protocol(optarg);
        break;
    case 'P':
        for (char *at = strtok(optarg, ","); at != NULL && options.ports_count < PORTS_MAX; at = strtok(NULL, ","))
            options.ports[options.ports_count++] = atoi(at);
        break;
    case 'c':
        options.connections = atoi(optarg);
        break;
    case 'd':
        options.depth = atoi(optarg);
        break;
    case 't':
        options.seconds = atof(optarg);
        break;
    case 'n':
        options.requests_max = strtoull(optarg, NULL, 10);
        break;
    case 'k':
        options.key_bytes = strtoull(optarg, NULL, 10);
        break;
    case 'v':
        options.value_bytes = strtoull(optarg, NULL, 10);
        break;
    case 'K':
        options.keys = strtoull(optarg, NULL, 10);
        break;
    case 'a':
        options.action = optarg;
        break;
    case 'r':
        options.rate = strtoull(optarg, NULL, 10);
        break;
    case 'l':
        options.samples = optarg;
        break;
    case 'q':
        options.in_sequence = true;
        break;
    case 'b':
        options.key_first = strtoull(optarg, NULL, 10);
        break;
    case 'E':
        options.event = optarg;
        break;
    case 'A':
        options.acknowledged = optarg;
        break;
    case 'X':
        options.victim = atoi(optarg);
        break;
    default:
        exit(2);
    }
}

static void read_options(int count, char **words)
{
    int letter;
    while ((letter = getopt(count, words, "p:P:c:d:t:n:k:v:K:b:r:l:a:qX:E:A:")) != -1)
        read_option(letter);
    if (options.protocol == NULL || options.ports_count == 0)
        die("-p and -P are needed");
    if (options.connections < 1 || options.connections > CONNECTIONS_MAX || options.depth < 1 ||
        options.depth > RING / 2 || options.key_bytes < 2 || options.key_bytes > 255 || options.keys < 1 ||
        options.value_bytes > 1 << 24 || options.seconds > SECONDS_MAX || options.rate > 1000000)
        die("an option is out of range");
    if (options.event != NULL && (options.acknowledged == NULL || !options.in_sequence))
        die("-E needs -A and -q");
    if (options.action == NULL)
        options.action = options.protocol->action;
    if (options.protocol->prepare != NULL)
        options.protocol->prepare();
    uint8_t *value = mem_alloc(options.value_bytes + 1);
    for (size_t i = 0; i < options.value_bytes; i++)
        value[i] = (uint8_t)('A' + (i * 7 + i / 61) % 26);
    request_value = slice_make(value, options.value_bytes);
    request_key = slice_make(mem_zalloc(1, options.key_bytes), options.key_bytes);
}

/* Keeps `depth` requests out until the time is over. */
static void fill(struct connection *connection)
{
    while (connection->waiting < options.depth && counts.sent < options.requests_max && now_ns() < counts.end_ns &&
           !ended)
        connection_request(connection);
}

static int flush_and_watch(int epoll, int change, struct connection *connection)
{
    int left = connection_flush(connection);
    if (left < 0)
        die("a connection broke while sending");
    bool blocked = left > 0;
    if (change == EPOLL_CTL_MOD && blocked == connection->blocked)
        return connection->waiting;
    connection->blocked = blocked;
    struct epoll_event event = {.events = EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0), .data.ptr = connection};
    (void)epoll_ctl(epoll, change, connection->fd, &event);
    return connection->waiting;
}

/* -> requests that nobody answered */
static int closed_loop(int epoll, struct connection *connections)
{
    int waiting = 0;
    for (int i = 0; i < options.connections; i++) {
        fill(&connections[i]);
        waiting += flush_and_watch(epoll, EPOLL_CTL_ADD, &connections[i]);
    }
    while (waiting > 0 && now_ns() < counts.end_ns + late_ns) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            waiting -= connection->waiting;
            if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !connection_receive(connection))
                die("a connection was closed by the peer");
            fill(connection);
            waiting += flush_and_watch(epoll, EPOLL_CTL_MOD, connection);
        }
    }
    return waiting;
}

/* What one connection said, if it said something. */
static void take_answers(int epoll)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, 0);
    for (int i = 0; i < ready; i++) {
        struct connection *connection = events[i].data.ptr;
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !connection_receive(connection))
            die("a connection was closed by the peer");
        (void)flush_and_watch(epoll, EPOLL_CTL_MOD, connection);
    }
}

/* Requests go out when they are due, over the connections in turn. -> requests that nobody answered */
static int open_loop(int epoll, struct connection *connections)
{
    int waiting = 0;
    (void)prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < options.connections; i++)
        (void)flush_and_watch(epoll, EPOLL_CTL_ADD, &connections[i]);
    for (bool over = false; !over || waiting > 0;) {
        uint64_t now = now_ns();
        while (!over && due_ns(counts.sent) <= now) {
            struct connection *connection = &connections[counts.sent % (uint64_t)options.connections];
            over = ended || due_ns(counts.sent) >= counts.end_ns || counts.sent >= options.requests_max;
            if (over)
                break;
            if (connection->waiting >= RING / 2)
                die("answers are too far behind");
            connection_request(connection);
            (void)flush_and_watch(epoll, EPOLL_CTL_MOD, connection);
        }
        uint64_t wait_ns = over ? 1000000 : due_ns(counts.sent) > now ? due_ns(counts.sent) - now : 0;
        struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000u), .tv_nsec = (long)(wait_ns % 1000000000u)};
        struct pollfd ready = {.fd = epoll, .events = POLLIN};
        if (ppoll(&ready, 1, &wait, NULL) > 0)
            take_answers(epoll);
        waiting = 0;
        for (int i = 0; i < options.connections; i++)
            waiting += connections[i].waiting;
        if (over && now > due_ns(counts.sent) + late_ns)
            break;
    }
    return waiting;
}

static void on_term(int number)
{
    (void)number;
    ended = 1;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void print_result(uint64_t start, int unanswered)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double spent = (double)((counts.last_ns > start ? counts.last_ns : now_ns()) - start) / 1e9;
    printf("{\"ops\":%llu,\"secs\":%.3f,\"ops_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
           "\"max_us\":%.1f,\"errors\":%llu,\"unanswered\":%d,\"client_cpu\":%.2f}\n",
           (unsigned long long)counts.answered, spent, (double)counts.answered / spent, latency_us(.5),
           latency_us(.99), latency_us(.999), latency_max_us(), (unsigned long long)counts.refused, unanswered,
           (seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime)) / spent);
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    read_options(count, words);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (options.victim > 0)
        return failover(epoll);
    if (options.event != NULL)
        return around(epoll);
    struct connection *connections = mem_zalloc((size_t)options.connections, sizeof *connections);
    for (int i = 0; i < options.connections; i++)
        if (!connection_open(&connections[i], i))
            die("cannot connect");
    signal(SIGTERM, on_term);
    counts.start_ns = now_ns();
    counts.end_ns = counts.start_ns + (uint64_t)(options.seconds * 1e9);
    int unanswered = options.rate > 0 ? open_loop(epoll, connections) : closed_loop(epoll, connections);
    print_result(counts.start_ns, unanswered);
    return samples_save() ? 0 : 1;
}
