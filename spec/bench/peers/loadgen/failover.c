/* spec/bench/peers/loadgen/failover.c - how long nobody answers.
 *
 * The leader is killed, then every survivor gets writes until one says yes. */
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVERY_NS = 5000000, WAITING_MAX = 20000 };

static struct connection survivors[PORTS_MAX];

static void watch(int epoll, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    (void)epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
}

static void lost(struct connection *connection)
{
    close(connection->fd);
    connection->up = false;
}

/* One write to each survivor; those that went away are tried anew. */
static void write_to_all(int epoll)
{
    for (int i = 0; i < options.ports_count; i++) {
        struct connection *connection = &survivors[i];
        if (!connection->up && connection_open(connection, i))
            watch(epoll, connection);
        if (connection->up && connection->waiting < WAITING_MAX)
            connection_request(connection);
        if (connection->up && connection_flush(connection) < 0)
            lost(connection);
    }
}

int failover(int epoll)
{
    for (int i = 0; i < options.ports_count; i++) {
        if (!connection_open(&survivors[i], i))
            die("cannot connect to a survivor");
        (void)connection_flush(&survivors[i]);
        watch(epoll, &survivors[i]);
    }
    usleep(50000);
    if (options.victim > 1 && kill(options.victim, SIGKILL) != 0)
        die("cannot kill the victim");
    uint64_t start = now_ns();
    uint64_t next = start;
    counts.end_ns = start + (uint64_t)(options.seconds * 1e9);
    while (counts.first_port == 0 && now_ns() < counts.end_ns) {
        if (now_ns() >= next) {
            next += EVERY_NS;
            write_to_all(epoll);
        }
        struct epoll_event events[PORTS_MAX];
        int ready = epoll_wait(epoll, events, PORTS_MAX, 1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->up && (!connection_receive(connection) || connection_flush(connection) < 0))
                lost(connection);
        }
    }
    bool found = counts.first_port != 0;
    printf("{\"failover_ms\":%.1f,\"port\":%d,\"rejected\":%llu}\n",
           found ? (double)(counts.first_ns - start) / 1e6 : -1.0, counts.first_port,
           (unsigned long long)counts.refused);
    return found ? 0 : 1;
}
