/* net/sniff.h - one port: the first bytes decide the protocol (CONTRACT.md §4).
 *
 * Depends on base, net/connection.h, wire/message.h.
 */
#ifndef NET_SNIFF_H
#define NET_SNIFF_H

#include "net/connection.h"

enum sniff_protocol {
    SNIFF_MORE, /* more bytes are needed */
    SNIFF_PEER, /* C1: a peer link */
    SNIFF_RPC,  /* 93 94 95 DC DD: MessagePack-RPC */
    SNIFF_UNKNOWN
};

/* Looks at the first bytes of a connection. */
enum sniff_protocol sniff(struct slice bytes);

/* Takes a new client socket. Once its first bytes tell what it speaks, `adopt` gives the connection its owner
 * (connection_set_owner) or refuses it with false; the bytes go to that owner at once. */
void sniff_accept(struct net *net, int fd,
                  bool (*adopt)(void *context, struct connection *connection, enum sniff_protocol protocol),
                  void *context);

#endif
