/* net/connection.c - see net/connection.h. */
#include "net/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <ev.h>

#include "base/check.h"
#include "base/memory.h"

enum {
    PARTS_MAX = 64,               /* of one connection_send that goes out without a copy */
    OUTPUT_KEEP_BYTES = 64 * 1024 /* an empty output buffer larger than this is freed */
};

struct net {
    struct ev_loop *loop;
    uint8_t *scratch;
    size_t input_bytes; /* kept by all connections */
    size_t connections;
    struct connection *dirty; /* have output to write, or are to be ended, at the next flush */
    struct connection *all;
};

struct connection {
    struct net *net;
    int fd;
    const struct connection_owner *ops;
    void *owner;
    size_t queue_max;
    struct buffer input; /* unfinished frame */
    size_t need;         /* bytes the unfinished frame has in all; 0: not known */
    struct buffer output;
    size_t written; /* of output */
    ev_io reader;
    ev_io writer;
    ev_timer stall;
    bool paused;
    bool closing;   /* to be ended once the output is out */
    bool ended;     /* to be ended at the next flush */
    bool receiving; /* inside ops->received */
    bool is_dirty;
    const char *why;
    struct connection *dirty_next;
    struct connection *next; /* of all */
    struct connection *previous;
    char name[64];
};

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events);
static void on_writable(struct ev_loop *loop, ev_io *watcher, int events);
static void on_stall(struct ev_loop *loop, ev_timer *watcher, int events);

struct net *net_new(struct ev_loop *loop)
{
    CHECK(loop != NULL);
    struct net *net = mem_zalloc(1, sizeof *net);
    net->loop = loop;
    net->scratch = mem_alloc(NET_READ_BYTES);
    return net;
}

void net_free(struct net *net)
{
    CHECK_EQ(net->connections, 0);
    mem_free(net->scratch);
    mem_free(net);
}

struct ev_loop *net_loop(const struct net *net)
{
    return net->loop;
}

size_t net_connections(const struct net *net)
{
    return net->connections;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void name_connection(struct connection *connection)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (getpeername(connection->fd, (struct sockaddr *)&address, &size) == 0) {
        if (address.ss_family == AF_INET) {
            const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
            inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
            port = ntohs(v4->sin_port);
        } else if (address.ss_family == AF_INET6) {
            const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
            inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
            port = ntohs(v6->sin6_port);
        }
    }
    snprintf(connection->name, sizeof connection->name, "%s:%u", host, port);
}

struct connection *connection_new(struct net *net, int fd, const struct connection_owner *ops, void *owner,
                                  size_t queue_max)
{
    CHECK(fd >= 0);
    struct connection *connection = mem_zalloc(1, sizeof *connection);
    connection->net = net;
    connection->fd = fd;
    connection_set_owner(connection, ops, owner, queue_max);
    int one = 1;
    /* Every socket here sends whole turns; Nagle's algorithm would hold them back. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    name_connection(connection);
    ev_io_init(&connection->reader, on_readable, fd, EV_READ);
    ev_io_init(&connection->writer, on_writable, fd, EV_WRITE);
    ev_init(&connection->stall, on_stall);
    connection->stall.repeat = NET_STALL_SECONDS;
    connection->reader.data = connection;
    connection->writer.data = connection;
    connection->stall.data = connection;
    ev_io_start(net->loop, &connection->reader);
    connection->next = net->all;
    if (connection->next != NULL)
        connection->next->previous = connection;
    net->all = connection;
    net->connections++;
    return connection;
}

void connection_set_owner(struct connection *connection, const struct connection_owner *ops, void *owner,
                          size_t queue_max)
{
    CHECK(ops != NULL);
    connection->ops = ops;
    connection->owner = owner;
    connection->queue_max = queue_max;
}

const char *connection_name(const struct connection *connection)
{
    return connection->name;
}

static void mark_dirty(struct connection *connection)
{
    if (connection->is_dirty)
        return;
    connection->is_dirty = true;
    connection->dirty_next = connection->net->dirty;
    connection->net->dirty = connection;
}

/* Takes note that the connection is over; the next flush ends it, so no owner is surprised inside its own call. */
static void break_connection(struct connection *connection, const char *why)
{
    if (connection->ended)
        return;
    connection->ended = true;
    if (connection->why == NULL)
        connection->why = why;
    ev_io_stop(connection->net->loop, &connection->reader);
    ev_io_stop(connection->net->loop, &connection->writer);
    mark_dirty(connection);
}

static void end_connection(struct connection *connection)
{
    struct net *net = connection->net;
    ev_io_stop(net->loop, &connection->reader);
    ev_io_stop(net->loop, &connection->writer);
    ev_timer_stop(net->loop, &connection->stall);
    connection->ended = true;
    connection->ops->closed(connection->owner, connection, connection->why != NULL ? connection->why : "closed");
    close(connection->fd);
    CHECK(net->input_bytes >= connection->input.size);
    net->input_bytes -= connection->input.size;
    net->connections--;
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        net->all = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    buffer_close(&connection->input);
    buffer_close(&connection->output);
    mem_free(connection);
}

static void unlink_dirty(struct connection *connection)
{
    struct connection **at = &connection->net->dirty;
    while (*at != NULL && *at != connection)
        at = &(*at)->dirty_next;
    if (*at != NULL)
        *at = connection->dirty_next;
    connection->is_dirty = false;
}

void connection_abort(struct connection *connection, const char *why)
{
    CHECK(!connection->receiving);
    if (connection->why == NULL)
        connection->why = why;
    if (connection->is_dirty)
        unlink_dirty(connection);
    end_connection(connection);
}

void net_close_all(struct net *net, const char *why)
{
    while (net->all != NULL)
        connection_abort(net->all, why);
}

void connection_close(struct connection *connection, const char *why)
{
    if (connection->closing || connection->ended)
        return;
    connection->closing = true;
    connection->why = why;
    ev_io_stop(connection->net->loop, &connection->reader);
    ev_timer_again(connection->net->loop, &connection->stall);
    mark_dirty(connection);
}

/* --- in --------------------------------------------------------------------------------------------------------- */

/* Lets the owner use bytes; closes if it says so. Returns how many were used. */
static size_t deliver(struct connection *connection, struct slice bytes)
{
    bool alive = true;
    connection->need = 0;
    connection->receiving = true;
    size_t used = connection->ops->received(connection->owner, connection, bytes, &connection->need, &alive);
    connection->receiving = false;
    CHECK(used <= bytes.size);
    if (!alive)
        connection_close(connection, "refused");
    return used;
}

size_t connection_hand_over(struct connection *connection, struct slice bytes, size_t *need, bool *alive)
{
    CHECK(connection->receiving);
    return connection->ops->received(connection->owner, connection, bytes, need, alive);
}

static void watch_stall(struct connection *connection)
{
    bool unfinished = (connection->input.size > 0 && !connection->paused) || connection_pending(connection) > 0 ||
                      connection->closing;
    if (!unfinished || connection->ended)
        ev_timer_stop(connection->net->loop, &connection->stall);
    else if (!ev_is_active(&connection->stall))
        ev_timer_again(connection->net->loop, &connection->stall);
}

/* Keeps what the owner left. */
static void keep_rest(struct connection *connection, struct slice rest)
{
    struct net *net = connection->net;
    if (rest.size == 0)
        return;
    if (net->input_bytes + rest.size > NET_INPUT_BYTES_MAX && rest.size > NET_INPUT_FREE_BYTES) {
        break_connection(connection, "too many unfinished requests in all");
        return;
    }
    buffer_append(&connection->input, rest.data, rest.size);
    net->input_bytes += rest.size;
}

/* Delivers what is kept, and drops what was used of it. */
static void deliver_kept(struct connection *connection)
{
    size_t used = deliver(connection, buffer_slice(&connection->input));
    connection->net->input_bytes -= used;
    buffer_consume(&connection->input, used);
    if (connection->input.size == 0 && connection->input.capacity > NET_INPUT_FREE_BYTES)
        buffer_close(&connection->input);
    if (used > 0)
        ev_timer_stop(connection->net->loop, &connection->stall);
}

/* Reads behind what is kept; an unfinished frame whose size is known gets no more than it needs. */
static ssize_t read_kept(struct connection *connection)
{
    struct net *net = connection->net;
    size_t room = NET_READ_BYTES;
    if (connection->need > connection->input.size && connection->need - connection->input.size < room)
        room = connection->need - connection->input.size;
    if (net->input_bytes + room > NET_INPUT_BYTES_MAX && connection->input.size > NET_INPUT_FREE_BYTES) {
        break_connection(connection, "too many unfinished requests in all");
        return 0;
    }
    uint8_t *at = buffer_reserve(&connection->input, room);
    ssize_t got = recv(connection->fd, at, room, 0);
    if (got > 0) {
        connection->input.size += (size_t)got;
        net->input_bytes += (size_t)got;
    }
    return got;
}

static void take_end(struct connection *connection)
{
    ev_io_stop(connection->net->loop, &connection->reader);
    if (connection->ops->finished != NULL && connection->ops->finished(connection->owner, connection))
        return;
    connection_close(connection, "closed by the other side");
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct connection *connection = watcher->data;
    if (connection->ended || connection->closing || connection->paused)
        return;
    bool kept = connection->input.size > 0;
    ssize_t got = kept ? read_kept(connection) : recv(connection->fd, connection->net->scratch, NET_READ_BYTES, 0);
    if (connection->ended)
        return;
    if (got == 0) {
        take_end(connection);
        return;
    }
    if (got < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            break_connection(connection, "broken");
        return;
    }
    if (kept) {
        if (connection->need <= connection->input.size)
            deliver_kept(connection);
    } else {
        struct slice bytes = slice_make(connection->net->scratch, (size_t)got);
        size_t used = deliver(connection, bytes);
        if (!connection->closing)
            keep_rest(connection, slice_make(bytes.data + used, bytes.size - used));
    }
    watch_stall(connection);
}

void connection_pause(struct connection *connection, bool paused)
{
    if (connection->paused == paused || connection->ended || connection->closing)
        return;
    connection->paused = paused;
    if (paused) {
        ev_io_stop(connection->net->loop, &connection->reader);
        return;
    }
    ev_io_start(connection->net->loop, &connection->reader);
    if (connection->input.size > 0 && !connection->receiving)
        deliver_kept(connection);
    watch_stall(connection);
}

static void on_stall(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct connection *connection = watcher->data;
    ev_timer_stop(loop, watcher);
    break_connection(connection, connection_pending(connection) > 0 ? "does not read what it is sent"
                                                                    : "did not finish what it began to send");
}

/* --- out -------------------------------------------------------------------------------------------------------- */

size_t connection_pending(const struct connection *connection)
{
    return connection->output.size - connection->written;
}

struct buffer *connection_output(struct connection *connection)
{
    return &connection->output;
}

void connection_queued(struct connection *connection)
{
    if (connection_pending(connection) > connection->queue_max)
        break_connection(connection, "does not read what it is sent");
    mark_dirty(connection);
}

/* Forgets output that is out, so that the buffer does not grow for ever. */
static void trim_output(struct connection *connection)
{
    if (connection_pending(connection) == 0) {
        connection->written = 0;
        buffer_clear(&connection->output);
        if (connection->output.capacity > OUTPUT_KEEP_BYTES)
            buffer_close(&connection->output);
    } else if (connection->written >= connection->output.size / 2) {
        buffer_consume(&connection->output, connection->written);
        connection->written = 0;
    }
}

/* Writes what is queued. */
static void write_output(struct connection *connection)
{
    while (connection_pending(connection) > 0) {
        ssize_t put = send(connection->fd, connection->output.data + connection->written,
                           connection_pending(connection), MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (put < 0) {
            break_connection(connection, "broken");
            return;
        }
        connection->written += (size_t)put;
        ev_timer_stop(connection->net->loop, &connection->stall);
    }
    trim_output(connection);
    if (connection_pending(connection) > 0)
        ev_io_start(connection->net->loop, &connection->writer);
    else
        ev_io_stop(connection->net->loop, &connection->writer);
    if (connection->closing && connection_pending(connection) == 0)
        break_connection(connection, connection->why);
    watch_stall(connection);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct connection *connection = watcher->data;
    if (!connection->ended)
        write_output(connection);
}

/* Writes parts straight from where they lie; returns bytes written. */
static size_t write_parts(struct connection *connection, const struct slice *parts, size_t parts_count)
{
    struct iovec vector[PARTS_MAX];
    for (size_t i = 0; i < parts_count; i++) {
        vector[i].iov_base = (void *)(uintptr_t)parts[i].data;
        vector[i].iov_len = parts[i].size;
    }
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = parts_count};
    ssize_t put = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
    if (put < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            break_connection(connection, "broken");
        return 0;
    }
    return (size_t)put;
}

bool connection_send(struct connection *connection, const struct slice *parts, size_t parts_count)
{
    size_t size = 0;
    for (size_t i = 0; i < parts_count; i++)
        size += parts[i].size;
    if (connection->ended || connection->closing || connection_pending(connection) + size > connection->queue_max)
        return false;
    size_t put = 0;
    if (connection_pending(connection) == 0 && parts_count <= PARTS_MAX)
        put = write_parts(connection, parts, parts_count);
    if (connection->ended)
        return false;
    for (size_t i = 0; i < parts_count; i++) {
        size_t skip = put < parts[i].size ? put : parts[i].size;
        buffer_append(&connection->output, parts[i].data + skip, parts[i].size - skip);
        put -= skip;
    }
    if (connection_pending(connection) > 0)
        mark_dirty(connection);
    return true;
}

void net_flush(struct net *net)
{
    /* Ending a connection may make others dirty: go on until there is none. */
    while (net->dirty != NULL) {
        struct connection *connection = net->dirty;
        net->dirty = connection->dirty_next;
        connection->is_dirty = false;
        if (!connection->ended)
            write_output(connection);
        if (connection->ended) {
            if (connection->is_dirty)
                unlink_dirty(connection);
            end_connection(connection);
        }
    }
}
