/* sim/history_text.h - histories as text, "lin1": one event a line.
 *
 *   TIME CLIENT inv  OPID OP KEY [ARG...]     OP: get, put V, append V, cas OLD NEW, incr N, del; OLD: nil or =V
 *   TIME CLIENT ok   OPID [RESULT]            get: nil or =V; cas, del: 0 or 1; incr: the new number; ? or nothing: unchecked
 *   TIME CLIENT fail OPID                     it certainly had no effect
 *   TIME CLIENT info OPID                     it may take effect at any later time, or never
 *
 * Words are separated by blanks; one that begins with # begins a comment. TIME is a number without sign, with up to 9
 * digits after a point; lines may come in any order of it (files of several clients, one after the other); at equal TIME
 * a begin counts as before an end, else lines count as they stand. OPIDs are unique in a text and name an operation from
 * its begin to its end: a client may have several under way. Words have no control bytes; CLIENT, OPID and KEY at most
 * HISTORY_NAME_MAX bytes; a line at most HISTORY_LINE_MAX, a text HISTORY_TEXT_MAX and HISTORY_EVENTS_MAX events.
 *
 * Depends on sim/history.h.
 */
#ifndef SIM_HISTORY_TEXT_H
#define SIM_HISTORY_TEXT_H

#include "sim/history.h"

enum {
    HISTORY_NAME_MAX = 1024,
    HISTORY_LINE_MAX = 1 << 20,
    HISTORY_TEXT_MAX = 1 << 29,
    HISTORY_EVENTS_MAX = 10000000
};

struct history_text;

struct history_error {
    uint32_t line; /* from 1 */
    char text[400];
};

/* Reads a text, which must stay as long as what is returned. NULL: error says which line is wrong, how, and what is
 * expected. Bytes from outside in it are escaped. */
struct history_text *history_text_read(struct slice text, struct history_error *error);
void history_text_free(struct history_text *lines);

/* Its history: the events of the text in their order. Lives as long as `lines`. */
struct history *history_text_history(struct history_text *lines);

/* Where event `at` stands: its line, from 1; the bytes of that line, without its end. */
uint32_t history_text_line(const struct history_text *lines, uint32_t at);
struct slice history_text_bytes(const struct history_text *lines, uint32_t at);

/* The name of an operation. */
struct slice history_text_opid(const struct history_text *lines, uint32_t op);

#endif
