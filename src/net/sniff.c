/* net/sniff.c - see net/sniff.h. */
#include "net/sniff.h"

#include <ev.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"
#include "wire/message.h"

static const double SILENCE_SECONDS = 30;

/* A connection that has said nothing yet. */
struct guest {
    struct net *net;
    struct connection *connection;
    bool (*adopt)(void *context, struct connection *connection, enum sniff_protocol protocol);
    void *context;
    ev_timer silence;
};

static size_t on_received(void *owner, struct connection *connection, struct slice bytes, size_t *need,
                          bool *alive);
static void on_closed(void *owner, struct connection *connection, const char *why);

static const struct connection_owner guest_ops = {.received = on_received, .closed = on_closed};

enum sniff_protocol sniff(struct slice bytes)
{
    if (bytes.size == 0)
        return SNIFF_MORE;
    switch (bytes.data[0]) {
    case MESSAGE_MARK:
        return SNIFF_PEER;
    case 0x93:
    case 0x94:
    case 0x95:
    case 0xDC:
    case 0xDD:
        return SNIFF_RPC;
    default:
        return SNIFF_UNKNOWN;
    }
}

static void on_silence(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct guest *guest = watcher->data;
    connection_close(guest->connection, "said nothing");
}

static void guest_free(struct guest *guest)
{
    ev_timer_stop(net_loop(guest->net), &guest->silence);
    mem_free(guest);
}

void sniff_accept(struct net *net, int fd,
                  bool (*adopt)(void *context, struct connection *connection, enum sniff_protocol protocol),
                  void *context)
{
    struct guest *guest = mem_zalloc(1, sizeof *guest);
    guest->net = net;
    guest->adopt = adopt;
    guest->context = context;
    ev_timer_init(&guest->silence, on_silence, SILENCE_SECONDS, 0.);
    guest->silence.data = guest;
    ev_timer_start(net_loop(net), &guest->silence);
    guest->connection = connection_new(net, fd, &guest_ops, guest, NET_INPUT_FREE_BYTES);
}

static size_t on_received(void *owner, struct connection *connection, struct slice bytes, size_t *need, bool *alive)
{
    struct guest *guest = owner;
    enum sniff_protocol protocol = sniff(bytes);
    if (protocol == SNIFF_MORE)
        return 0;
    if (protocol == SNIFF_UNKNOWN) {
        LOG(LOG_DEBUG, "net", "client %s: speaks nothing known (first byte %02x)", connection_name(connection),
            bytes.data[0]);
        *alive = false;
        return bytes.size;
    }
    if (!guest->adopt(guest->context, connection, protocol)) {
        *alive = false;
        return bytes.size;
    }
    guest_free(guest);
    return connection_hand_over(connection, bytes, need, alive);
}

static void on_closed(void *owner, struct connection *connection, const char *why)
{
    LOG(LOG_DEBUG, "net", "client %s: %s", connection_name(connection), why);
    guest_free(owner);
}
