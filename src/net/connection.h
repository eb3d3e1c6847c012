/* net/connection.h - one stream socket: bytes in, bytes out, both bounded.
 *
 * Reading goes through one scratch buffer of the loop; only what the owner could not use yet is kept by the connection.
 * Writing is gathered: what is queued in a turn goes out with one system call when the turn ends (net_flush), except that
 * connection_send tries at once when nothing is queued. A connection is closed, never left half dead: by its owner, by the
 * other side, by an error, or because a bound was broken. Depends on base and libev.
 */
#ifndef NET_CONNECTION_H
#define NET_CONNECTION_H

#include "base/slice.h"

struct ev_loop;
struct connection;

enum {
    NET_READ_BYTES = 256 * 1024,             /* read at most, per readiness */
    NET_INPUT_BYTES_MAX = 256 * 1024 * 1024, /* kept for all connections together: unfinished frames */
    NET_INPUT_FREE_BYTES = 64 * 1024,        /* each connection may keep this much even then */
    NET_STALL_SECONDS = 30                   /* an unfinished frame, or unread output, may stand this long */
};

/* What the owner of a connection does. */
struct connection_owner {
    /* Takes bytes; returns how many were used. *need: bytes that the unfinished rest needs in all, 0 if not known.
     * *alive false: close after what was queued went out. */
    size_t (*received)(void *owner, struct connection *connection, struct slice bytes, size_t *need, bool *alive);
    /* The other side sends no more, and may still read (shutdown, `nc -N`). True: answers are still to come, the owner closes
     * when they are out. False, or NULL: it ends after what was queued went out. */
    bool (*finished)(void *owner, struct connection *connection);
    /* The connection is gone; its memory goes after the call. Called once, only from net_flush or connection_abort.
     * `why` is a short sentence. */
    void (*closed)(void *owner, struct connection *connection, const char *why);
};

/* What all connections of a loop share. */
struct net;

struct net *net_new(struct ev_loop *loop);
void net_free(struct net *net);
struct ev_loop *net_loop(const struct net *net);

/* Writes out what was queued in this turn, and ends connections that were to be ended. Once a turn. */
void net_flush(struct net *net);

/* Open connections. */
size_t net_connections(const struct net *net);

/* Takes over a connected, non-blocking socket. More than `queue_max` bytes of unsent output end the connection, unless
 * connection_send refused them. */
struct connection *connection_new(struct net *net, int fd, const struct connection_owner *ops, void *owner,
                                  size_t queue_max);

/* Gives the connection to another owner (after the first bytes told who it is). */
void connection_set_owner(struct connection *connection, const struct connection_owner *ops, void *owner,
                          size_t queue_max);

/* From inside `received`: lets the owner that the connection was just given to use the bytes. Returns what it returns. */
size_t connection_hand_over(struct connection *connection, struct slice bytes, size_t *need, bool *alive);

/* Ends all connections now, e.g. before net_free. */
void net_close_all(struct net *net, const char *why);

/* Sends parts in order: writes at once what it can, copies the rest. False, nothing sent, if they would not fit the queue
 * or the connection is ending. */
bool connection_send(struct connection *connection, const struct slice *parts, size_t parts_count);

/* Where to append output; call connection_queued after. */
struct buffer *connection_output(struct connection *connection);
void connection_queued(struct connection *connection);

/* Bytes that wait to go out. */
size_t connection_pending(const struct connection *connection);

/* Stops or goes on reading: back-pressure on a client that has too much in progress. Goes on with kept bytes too. */
void connection_pause(struct connection *connection, bool paused);

/* Ends the connection after what is queued went out (at most NET_STALL_SECONDS). `why` is static. */
void connection_close(struct connection *connection, const char *why);

/* Ends it now: `closed` is called before this returns. Not from inside `received`. */
void connection_abort(struct connection *connection, const char *why);

/* "127.0.0.1:40112", of the other side; valid as long as the connection. */
const char *connection_name(const struct connection *connection);

#endif
