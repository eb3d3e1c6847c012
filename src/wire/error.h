/* wire/error.h - what a client can be told: the one table of codes, for every door.
 *
 * Definite means: this attempt certainly had no effect. Depends on base.
 */
#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include "base/slice.h"
#include "base/status.h"

/*  name             definite  exit  http  resp */
#define ERROR_MAP(X)                                                                                               \
    X(BAD_REQUEST, true, 2, 400, "ERR")                                                                            \
    X(BAD_ARGS, true, 2, 400, "ERR")                                                                               \
    X(TOO_LARGE, true, 2, 413, "ERR")                                                                              \
    X(UNKNOWN_COMMAND, true, 2, 404, "ERR")                                                                        \
    X(NOT_FOUND, true, 5, 404, "NOTFOUND")                                                                         \
    X(EXISTS, true, 6, 409, "EXISTS")                                                                              \
    X(CONFLICT, true, 6, 412, "CONFLICT")                                                                          \
    X(CONFIG_PENDING, true, 6, 409, "CONFLICT")                                                                    \
    X(STALE_CONFIG, true, 6, 409, "CONFLICT")                                                                      \
    X(NO_SESSION, true, 6, 409, "NOSESSION")                                                                       \
    X(SESSION_EXPIRED, true, 6, 409, "NOSESSION")                                                                  \
    X(COMPACTED, true, 6, 410, "COMPACTED")                                                                        \
    X(WRONG_CLUSTER, true, 3, 503, "CLUSTERDOWN")                                                                  \
    X(PARKED, true, 3, 503, "CLUSTERDOWN")                                                                         \
    X(SCRIPT_ERROR, true, 1, 500, "SCRIPT")                                                                        \
    X(BUDGET, true, 1, 500, "SCRIPT")                                                                              \
    X(DEPTH, true, 1, 500, "SCRIPT")                                                                               \
    X(QUOTA, true, 1, 500, "SCRIPT")                                                                               \
    X(SKIPPED, true, 1, 500, "SCRIPT")                                                                             \
    X(NOT_LEADER, true, 3, 307, "MOVED")                                                                           \
    X(NO_LEADER, true, 3, 503, "CLUSTERDOWN")                                                                      \
    X(BUSY, true, 3, 503, "BUSY")                                                                                  \
    X(TIMEOUT, false, 4, 504, "UNKNOWN")                                                                           \
    X(LOST, false, 4, 504, "UNKNOWN")                                                                              \
    X(DENIED, true, 7, 403, "NOPERM")

#define ERROR_ENUM(name, definite, exit_code, http, resp) ERROR_##name,
enum error_code { ERROR_MAP(ERROR_ENUM) ERROR_CODES };
#undef ERROR_ENUM

/* One row. A query's TIMEOUT and LOST are definite and exit 3: error_row_of_query. */
struct error_row {
    const char *name;
    bool definite;
    int exit_code;
    int http_status;
    const char *resp_prefix;
};

const struct error_row *error_row(enum error_code code);

/* Finds a code by name; a service's own code gives NULL (definite, exit 1, HTTP 422). */
const struct error_row *error_row_named(const char *name, unsigned long size);

/* True for a code that a service may raise itself: NOT_FOUND EXISTS CONFLICT BAD_ARGS DENIED, or any
 * [A-Z][A-Z0-9_]* up to 64 bytes that is not in the table. */
bool error_code_of_service(const char *name, unsigned long size);

/* Appends the map {code, message}: text only. `message` is cut at 1 KiB. */
void error_pack(struct buffer *out, enum error_code code, const char *message);

/* Splits an error map. INVALID if it is none. data is empty when there is none. */
enum status error_unpack(struct slice error, struct slice *code, struct slice *message,
                         struct slice *data) MUST_USE;

#endif
