/* net/listener.c - see net/listener.h. */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

#include "base/memory.h"
#include "base/trace.h"

enum { BACKLOG = 1024, ACCEPT_PER_TURN = 64 };

static const double DIAL_SECONDS = 1.0;
static const double LOOKUP_POLL_SECONDS = 0.02;
static const double ACCEPT_PAUSE_SECONDS = 0.1;

struct listener {
    struct net *net;
    int fd;
    int spare; /* given up for a moment when descriptors run out, so that a caller can be told by closing */
    ev_io watcher;
    ev_timer pause;
    void (*accepted)(void *context, int fd);
    void *context;
};

enum status address_split(const char *address, char *host, unsigned *port)
{
    const char *colon = strrchr(address, ':');
    const char *from = address;
    const char *to = address + strlen(address);
    *port = NET_PORT;
    if (address[0] == '[') {
        const char *bracket = strchr(address, ']');
        if (bracket == NULL || (bracket[1] != 0 && bracket[1] != ':'))
            return STATUS_INVALID;
        from = address + 1;
        to = bracket;
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
    } else if (colon != NULL) {
        to = colon;
        if (memchr(address, ':', (size_t)(colon - address)) != NULL)
            return STATUS_INVALID; /* a bare IPv6 address: it needs brackets */
    }
    if (colon != NULL) {
        char *rest = NULL;
        errno = 0;
        unsigned long number = strtoul(colon + 1, &rest, 10);
        if (colon[1] < '0' || colon[1] > '9' || *rest != 0 || number > 65535 || errno != 0)
            return STATUS_INVALID;
        *port = (unsigned)number;
    }
    if (to <= from || to - from >= NET_HOST_MAX)
        return STATUS_INVALID;
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    return STATUS_OK;
}

static bool loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0;
    }
    return false;
}

static int look_up(const char *host, unsigned port, int flags, struct addrinfo **list)
{
    char service[16];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    return getaddrinfo(host, service, &hints, list);
}

bool address_is_loopback(const char *host)
{
    struct addrinfo *list = NULL;
    if (look_up(host, 0, 0, &list) != 0)
        return false;
    bool all = list != NULL;
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        all = all && loopback(at->ai_addr);
    freeaddrinfo(list);
    return all;
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

static void refuse_for_want_of_descriptors(struct listener *listener)
{
    if (listener->spare >= 0)
        close(listener->spare);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    LOG(LOG_WARN, "net", "out of file descriptors: a connection was refused; raise the limit (ulimit -n)");
    ev_io_stop(net_loop(listener->net), &listener->watcher);
    ev_timer_again(net_loop(listener->net), &listener->pause);
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct listener *listener = watcher->data;
    for (int i = 0; i < ACCEPT_PER_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                refuse_for_want_of_descriptors(listener);
            return;
        }
        if (net_connections(listener->net) >= NET_CONNECTIONS_MAX)
            close(fd);
        else
            listener->accepted(listener->context, fd);
    }
}

static void on_pause_over(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct listener *listener = watcher->data;
    ev_timer_stop(loop, watcher);
    ev_io_start(loop, &listener->watcher);
}

static int open_socket(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void say(struct buffer *why, const char *address, const char *detail, const char *advice)
{
    char line[NET_HOST_MAX + 256];
    int size = snprintf(line, sizeof line, "cannot listen on %s: %s%s", address, detail, advice);
    size_t length = size < 0 ? 0 : (size_t)size < sizeof line ? (size_t)size : sizeof line - 1;
    buffer_append(why, line, length);
}

enum status listener_open(struct net *net, const char *address, void (*accepted)(void *context, int fd),
                          void *context, struct listener **listener, struct buffer *why)
{
    char host[NET_HOST_MAX];
    unsigned port = 0;
    if (address_split(address, host, &port) != STATUS_OK) {
        say(why, address, "write HOST:PORT, or [IPV6]:PORT", "");
        return STATUS_INVALID;
    }
    struct addrinfo *list = NULL;
    int error = look_up(host, port, AI_PASSIVE, &list);
    if (error != 0) {
        say(why, address, gai_strerror(error), "");
        return STATUS_INVALID;
    }
    int fd = open_socket(list);
    int saved = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        say(why, address, strerror(saved),
            saved == EADDRINUSE ? "; another process has this port: stop it, or give --listen another" : "");
        return STATUS_IO;
    }
    struct listener *made = mem_zalloc(1, sizeof *made);
    made->net = net;
    made->fd = fd;
    made->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    made->accepted = accepted;
    made->context = context;
    ev_io_init(&made->watcher, on_acceptable, fd, EV_READ);
    made->watcher.data = made;
    ev_init(&made->pause, on_pause_over);
    made->pause.repeat = ACCEPT_PAUSE_SECONDS;
    made->pause.data = made;
    ev_io_start(net_loop(net), &made->watcher);
    *listener = made;
    return STATUS_OK;
}

void listener_close(struct listener *listener)
{
    ev_io_stop(net_loop(listener->net), &listener->watcher);
    ev_timer_stop(net_loop(listener->net), &listener->pause);
    close(listener->fd);
    if (listener->spare >= 0)
        close(listener->spare);
    mem_free(listener);
}

/* --- dialling ----------------------------------------------------------------------------------------------------- */

/* The look-up belongs to glibc while it runs, so it may outlive a cancelled dial. */
struct lookup {
    struct gaicb request;
    struct addrinfo hints;
    char host[NET_HOST_MAX];
    char service[16];
};

struct dial {
    struct net *net;
    int fd;
    struct lookup *lookup;
    ev_io watcher;
    ev_timer deadline;
    ev_timer poll;
    void (*done)(void *context, int fd);
    void *context;
};

static void dial_end(struct dial *dial, bool good)
{
    void (*done)(void *context, int fd) = dial->done;
    void *context = dial->context;
    int fd = good ? dial->fd : -1;
    if (good)
        dial->fd = -1;
    dial_cancel(dial);
    done(context, fd);
}

static void on_connected(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct dial *dial = watcher->data;
    int error = 0;
    socklen_t size = sizeof error;
    dial_end(dial, getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0);
}

/* Begins to connect to the first address; failures show up through the watcher or the deadline. */
static void dial_connect(struct dial *dial, const struct addrinfo *address)
{
    dial->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0)
        return;
    (void)connect(dial->fd, address->ai_addr, address->ai_addrlen);
    ev_io_init(&dial->watcher, on_connected, dial->fd, EV_WRITE);
    dial->watcher.data = dial;
    ev_io_start(net_loop(dial->net), &dial->watcher);
}

static void on_lookup_poll(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct dial *dial = watcher->data;
    int error = gai_error(&dial->lookup->request);
    if (error == EAI_INPROGRESS)
        return;
    ev_timer_stop(loop, watcher);
    if (error == 0)
        dial_connect(dial, dial->lookup->request.ar_result);
    if (dial->fd < 0)
        dial_end(dial, false);
}

static void on_dial_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    dial_end(watcher->data, false);
}

static void start_lookup(struct dial *dial, const char *host, unsigned port)
{
    struct lookup *lookup = mem_zalloc(1, sizeof *lookup);
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    snprintf(lookup->service, sizeof lookup->service, "%u", port);
    lookup->hints =
        (struct addrinfo){.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    lookup->request =
        (struct gaicb){.ar_name = lookup->host, .ar_service = lookup->service, .ar_request = &lookup->hints};
    struct gaicb *list[1] = {&lookup->request};
    if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) != 0) {
        mem_free(lookup); /* the deadline reports it */
        return;
    }
    dial->lookup = lookup;
    dial->poll.repeat = LOOKUP_POLL_SECONDS;
    ev_timer_again(net_loop(dial->net), &dial->poll);
}

struct dial *dial_start(struct net *net, const char *address, void (*done)(void *context, int fd), void *context)
{
    struct dial *dial = mem_zalloc(1, sizeof *dial);
    dial->net = net;
    dial->fd = -1;
    dial->done = done;
    dial->context = context;
    ev_init(&dial->watcher, on_connected);
    ev_init(&dial->poll, on_lookup_poll);
    dial->poll.data = dial;
    ev_timer_init(&dial->deadline, on_dial_deadline, DIAL_SECONDS, 0.);
    dial->deadline.data = dial;
    ev_timer_start(net_loop(net), &dial->deadline);
    char host[NET_HOST_MAX];
    unsigned port = 0;
    if (address_split(address, host, &port) != STATUS_OK)
        return dial; /* the deadline reports it */
    struct addrinfo *list = NULL;
    if (look_up(host, port, AI_NUMERICHOST, &list) == 0) {
        dial_connect(dial, list);
        freeaddrinfo(list);
    } else {
        start_lookup(dial, host, port);
    }
    return dial;
}

void dial_cancel(struct dial *dial)
{
    struct ev_loop *loop = net_loop(dial->net);
    ev_io_stop(loop, &dial->watcher);
    ev_timer_stop(loop, &dial->deadline);
    ev_timer_stop(loop, &dial->poll);
    if (dial->fd >= 0)
        close(dial->fd);
    if (dial->lookup != NULL && gai_cancel(&dial->lookup->request) != EAI_NOTCANCELED) {
        if (dial->lookup->request.ar_result != NULL)
            freeaddrinfo(dial->lookup->request.ar_result);
        mem_free(dial->lookup);
    } /* else glibc still works on it, and those few bytes are left to it */
    mem_free(dial);
}
