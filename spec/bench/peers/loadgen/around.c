/* spec/bench/peers/loadgen/around.c - how long nobody's write is acknowledged while something happens to the cluster.
 *
 * Each millisecond one write goes out, to the nodes in turn, whatever is answered; who cannot be reached is passed over and
 * tried again. After a while without anything COMMAND runs. The longest time between two acknowledged writes is taken before
 * it and from its start on, until half a second after a write was acknowledged that began well after the command's end (a
 * killed process may answer what it has just sent). No write is repeated, so each key is written once or never. */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loadgen.h"

static const uint64_t every_ns = 1000000, warm_ns = 100000000, lead_ns = 600000000, well_after_ns = 100000000,
                      tail_ns = 500000000;

static struct connection nodes[PORTS_MAX];
static FILE *list; /* of acknowledged keys */
static char
    list_buffer[1 << 20]; /* for all of them: writing them out in between might wait for the disk */
static uint64_t begin_ns, command_ns, done_ns, over_ns, last_ns, gap_ns, gap_before_ns, pause_ns;

void around_acknowledged(struct slice key, uint64_t sent_ns, uint64_t now)
{
    fprintf(list, "%.*s\n", (int)key.size, (const char *)key.data);
    uint64_t *longest = command_ns > 0 ? &gap_ns : &gap_before_ns;
    if (last_ns >= begin_ns + warm_ns && now - last_ns > *longest)
        *longest = now - last_ns;
    last_ns = now;
    if (over_ns == 0 && done_ns > 0 && sent_ns > done_ns + well_after_ns)
        over_ns = now + tail_ns;
}

static void lost(struct connection *connection)
{
    close(connection->fd);
    connection->up = false;
}

static bool ready(int epoll, int index)
{
    struct connection *connection = &nodes[index];
    if (!connection->up && connection_open(connection, index)) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        (void)epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
    }
    return connection->up && connection->waiting < RING / 2;
}

static void write_one(int epoll)
{
    static int turn;
    for (int i = 0; i < options.ports_count; i++) {
        int index = turn++ % options.ports_count;
        if (!ready(epoll, index))
            continue;
        connection_request(&nodes[index]);
        if (connection_flush(&nodes[index]) >= 0)
            return;
        lost(&nodes[index]);
    }
}

static void take_answers(int epoll)
{
    struct epoll_event events[PORTS_MAX];
    int count = epoll_wait(epoll, events, PORTS_MAX, 1);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (!connection_receive(connection) || !connection->up || connection_flush(connection) < 0)
            lost(connection);
    }
}

static pid_t run_command(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", options.event, (char *)NULL);
        _exit(127);
    }
    if (pid < 0)
        die("cannot fork");
    return pid;
}

int around(int epoll)
{
    pid_t pid = 0;
    int status = -1;
    list = fopen(options.acknowledged, "w");
    if (list == NULL)
        die("cannot write the list of acknowledged keys");
    (void)setvbuf(list, list_buffer, _IOFBF, sizeof list_buffer);
    uint64_t next = begin_ns = now_ns();
    uint64_t looked = begin_ns;
    counts.end_ns = begin_ns + (uint64_t)(options.seconds * 1e9);
    for (uint64_t now = begin_ns; now < counts.end_ns && (over_ns == 0 || now < over_ns); now = now_ns()) {
        pause_ns = now - looked > pause_ns ? now - looked : pause_ns;
        looked = now;
        if (now >= next) {
            next += every_ns;
            write_one(epoll);
        }
        if (command_ns == 0 && now > begin_ns + lead_ns) {
            command_ns = now;
            pid = run_command();
        }
        take_answers(epoll);
        if (pid > 0 && done_ns == 0 && waitpid(pid, &status, WNOHANG) == pid)
            done_ns = now_ns();
    }
    if (fclose(list) != 0)
        die("cannot write the list of acknowledged keys");
    printf(
        "{\"gap_ms\":%.3f,\"before_ms\":%.3f,\"command_ms\":%.3f,\"exit\":%d,\"sent\":%llu,\"acknowledged\":%llu,"
        "\"refused\":%llu,\"pause_ms\":%.3f}\n",
        (double)gap_ns / 1e6, (double)gap_before_ns / 1e6,
        done_ns > 0 ? (double)(done_ns - command_ns) / 1e6 : -1.0, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        (unsigned long long)counts.sent, (unsigned long long)counts.answered, (unsigned long long)counts.refused,
        (double)pause_ns / 1e6);
    return over_ns > 0 ? 0 : 1;
}
