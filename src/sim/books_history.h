/* sim/books_history.h - what clients of lua/tidelock/books.lua did and were told, as a history (sim/history.h).
 *
 * Arguments and answers are taken as they went over the wire. Depends on sim/history.h, wire.
 */
#ifndef SIM_BOOKS_HISTORY_H
#define SIM_BOOKS_HISTORY_H

#include "sim/history.h"

struct books_history;

struct books_history *books_history_new(void);
void books_history_free(struct books_history *books);

/* A client begins an operation. `args`: the MessagePack list that the command takes: [number, key, values...], get: [key].
 * checked: its answer will be that of one command of this kind. Returns its number, for books_history_end. */
uint32_t books_history_begin(struct books_history *books, uint32_t client, uint64_t at_ms, enum history_kind kind,
                             struct slice args, bool checked);

/* It ended so; `value`: the answer, a MessagePack value, looked at if `end` is HISTORY_OK. */
void books_history_end(struct books_history *books, uint32_t number, uint64_t at_ms, enum history_end end,
                       struct slice value);

/* Judges everything, the same everywhere: a bounded number of steps. True: nothing wrong was found (unknown is nothing wrong).
 * False: `why` says what is, with the last events of the shortest prefix that shows it. */
bool books_history_fine(struct books_history *books, char *why, size_t room);

#endif
