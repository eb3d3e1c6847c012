/* wire/request.h - MessagePack-RPC: clients' requests and their answers.
 *
 *     [0, id, "mount.command", [args]]            -> [1, id, error, result]
 *     [0, id, "mount.command", [args], {options}] -> [1, id, error, result, index]
 *
 * The fifth element is optional; with it, the answer has a fifth too: the index of the entry, or of the state read.
 * Options: timeout_ms; read: "linearizable" (default), "lease" (the same where the limit lease_drift_ms is 0) or "stale"; forward: false refuses what the node
 * cannot do itself, so commands where it does not lead, with NOT_LEADER; query: true refuses commands; dry_run: true runs a command and takes it back; session, seq and
 * done_below: exactly once (machine/session.h), seq from 1 on, answers below done_below have arrived. Unknown keys are
 * BAD_REQUEST, so that nothing asked for is silently ignored. error is nil or the map {code, message, data, definite, index}.
 * Names that begin with "tidelock." are the host's. Depends on base, wire/pack.h, wire/error.h.
 */
#ifndef WIRE_REQUEST_H
#define WIRE_REQUEST_H

#include "base/slice.h"
#include "base/status.h"
#include "wire/error.h"

enum {
    REQUEST_BYTES_MAX = 2 * 1024 * 1024,        /* a whole request: the limit on arguments and room for names */
    REQUEST_DEPLOY_BYTES_MAX = 9 * 1024 * 1024, /* of tidelock.deploy: the largest bundle, and room */
    REQUEST_NAME_MAX = 256,
    REQUEST_SESSION_MAX = 64,
    REQUEST_TIMEOUT_MS = 5000, /* when the client names none */
    REQUEST_TIMEOUT_MS_MAX = 600 * 1000
};

enum request_read { READ_LINEARIZABLE, READ_LEASE, READ_STALE };

struct request {
    uint64_t id;
    struct slice name; /* borrowed */
    struct slice args; /* one MessagePack value, an array, checked: depth, counts */
    uint32_t args_count;
    uint32_t timeout_ms;
    enum request_read read;
    bool has_options; /* answer with the index */
    bool forward;     /* default true */
    bool query_only;
    bool dry_run;
    struct slice session; /* borrowed; empty: none, and seq and done_below are 0 */
    uint64_t seq;
    uint64_t done_below; /* at most seq */
};

/* A word: "lease". Static memory. */
const char *request_read_name(enum request_read read);

/* Decodes the request at the front of `bytes`. `used` gets its size. OK; INCOMPLETE; TOO_LARGE or INVALID: `why` is a
 * static sentence; if `answerable` is set, `id` and `used` are valid and the connection can go on after an error answer,
 * else close it. */
enum status request_decode(struct slice bytes, struct request *request, size_t *used, const char **why,
                           bool *answerable) MUST_USE;

/* Appends an answer. `value` is one MessagePack value, canonical. */
void response_ok(struct buffer *out, const struct request *request, struct slice value, uint64_t index);

/* Appends an error answer from a map {code, message[, data]} in `error`, with definite and index added. */
void response_error(struct buffer *out, const struct request *request, struct slice error, bool definite,
                    uint64_t index);

#endif
