/* net/listener.h - addresses, listening, dialling.
 *
 * Depends on base, net/connection.h, libev.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "base/slice.h"
#include "base/status.h"
#include "net/connection.h"

struct listener;
struct dial;

enum {
    NET_PORT = 7301,            /* default */
    NET_HOST_MAX = 256,         /* bytes of a host's name, its zero included */
    NET_CONNECTIONS_MAX = 10000 /* beyond it new ones are closed at once */
};

/* Splits "HOST:PORT", "[V6]:PORT" or "HOST". `host` holds NET_HOST_MAX bytes. OK, INVALID. */
enum status address_split(const char *address, char *host, unsigned *port) MUST_USE;

/* True if every address that `host` names is on this machine's loopback: 127.0.0.0/8, ::1. Blocks while it looks. */
bool address_is_loopback(const char *host);

/* Binds and listens. `accepted` is called with each new connection's socket (non-blocking). OK; or IO, INVALID with a
 * sentence in `why`. */
enum status listener_open(struct net *net, const char *address, void (*accepted)(void *context, int fd),
                          void *context, struct listener **listener, struct buffer *why) MUST_USE;

/* Stops listening. */
void listener_close(struct listener *listener);

/* Begins to connect. `done` is called once with the connected socket (non-blocking), or -1, never before dial_start
 * returns; the dial is gone then. A name is looked up without holding up the loop. Gives up after a second. */
struct dial *dial_start(struct net *net, const char *address, void (*done)(void *context, int fd), void *context);

/* Forgets the attempt; `done` is not called. */
void dial_cancel(struct dial *dial);

#endif
