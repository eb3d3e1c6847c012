/* net/rpc.h - MessagePack-RPC clients (wire/request.h) on one loop.
 *
 * Decodes requests and hands them up under a call number; takes the answer under that number, whenever it comes, in any
 * order. A client with too much in progress is not read from until some of it ended; one that does not read its answers
 * is closed. A client may be told things unasked: whoever does so listens to it, and hears when it is gone. Depends on base, wire/request.h, net/connection.h.
 */
#ifndef NET_RPC_H
#define NET_RPC_H

#include "net/connection.h"
#include "wire/request.h"

struct rpc;
struct rpc_client;

enum {
    RPC_CALLS_MAX = 8192,                   /* in progress for one client; then it is not read from */
    RPC_OUTPUT_BYTES_MAX = 32 * 1024 * 1024 /* of answers that a client did not read; then it is closed */
};

struct rpc_owner {
    /* Called for each request; what it points to is borrowed for the call. Exactly one rpc_reply answers `call`, during the
     * call or later. */
    void (*request)(void *context, uint64_t call, const struct request *request);
    /* A client that was listened to (rpc_listen) is gone; it must not be told anything any more. */
    void (*gone)(void *context, struct rpc_client *client);
    void *context;
};

struct rpc *rpc_new(struct net *net, const struct rpc_owner *owner);

/* All connections must be gone. */
void rpc_free(struct rpc *rpc);

/* Takes over a connection whose first bytes look like requests: the owner to give it. */
void rpc_adopt(struct rpc *rpc, struct connection *connection);

/* Ends a call. `value`: the MessagePack value, or the error map. A call whose client is gone is forgotten. */
void rpc_reply(struct rpc *rpc, uint64_t call, bool ok, bool definite, uint64_t index, struct slice value);

/* The client of a call that is in progress, which stays even if it asks for nothing more; NULL: it is gone. */
struct rpc_client *rpc_listen(struct rpc *rpc, uint64_t call);

/* Tells it something: one whole message. */
void rpc_tell(struct rpc_client *client, struct slice message);

/* Bytes that wait to go to it. */
size_t rpc_pending(const struct rpc_client *client);

/* Ends its connection after what was told went out; `gone` follows. `why` is static. */
void rpc_end(struct rpc_client *client, const char *why);

/* Reads again from clients that were held back and may go on. Once a turn. */
void rpc_resume(struct rpc *rpc);

/* Calls in progress. */
size_t rpc_calls(const struct rpc *rpc);

/* Ends every client after its answers went out. */
void rpc_close_all(struct rpc *rpc);

#endif
