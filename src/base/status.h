/* base/status.h - the one list of things that can go wrong below the user's view.
 *
 * A function that can fail returns `enum status`; results go through out parameters, last. What a client sees
 * (BUSY, NO_LEADER, ...) is another list: wire/error.h. Depends on nothing.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#define STATUS_MAP(X)                                                                                              \
    X(OK, "ok")                                                                                                    \
    X(INCOMPLETE, "more bytes are needed")                                                                         \
    X(INVALID, "the bytes or the arguments are not valid")                                                         \
    X(TOO_LARGE, "larger than the limit")                                                                          \
    X(TOO_DEEP, "nested deeper than the limit")                                                                    \
    X(CORRUPT, "damaged: a checksum or a number does not agree")                                                   \
    X(MISMATCH, "belongs to something else")                                                                       \
    X(NOT_FOUND, "not found")                                                                                      \
    X(EXISTS, "exists already")                                                                                    \
    X(LOCKED, "in use by another process")                                                                         \
    X(NO_SPACE, "no space left")                                                                                   \
    X(IO, "input or output failed")                                                                                \
    X(CLOSED, "closed")                                                                                            \
    X(REFUSED, "refused")                                                                                          \
    X(UNSUPPORTED, "not supported")                                                                                \
    X(CANCELLED, "cancelled")

#define STATUS_ENUM(name, text) STATUS_##name,
enum status { STATUS_MAP(STATUS_ENUM) STATUS_COUNT };
#undef STATUS_ENUM

/* Gives the sentence of `status`; never NULL, "unknown status" for a number outside the list. Static memory. */
const char *status_text(enum status status);

/* Gives its name, "NO_SPACE"; "?" for a number outside the list. Static memory. */
const char *status_name(enum status status);

#define MUST_USE __attribute__((warn_unused_result))

#endif
