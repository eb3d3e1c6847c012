/* machine/query.h - queries that take long: begun on the machine's thread, run on threads of their own, over frozen states.
 *
 * Every query is first given a slice of budget and memory on the machine's thread: most are done within it, and nothing is faster.
 * What is not done has changed nothing: it is run again, whole, by a reader on another thread over what machine_share froze.
 * So no query delays the entries behind it by more than a slice. Depends on machine, script, state, base.
 */
#ifndef MACHINE_QUERY_H
#define MACHINE_QUERY_H

#include "machine/machine.h"

struct machine_frozen;
struct reader;

enum {
    QUERY_SLICE = 10000,                 /* instructions of a first look */
    QUERY_SLICE_BYTES = 8 * 1024 * 1024, /* of Lua's memory */
    QUERY_VIEW_BYTES = 512 * 1024 * 1024 /* that views may hold before no more queries are run over them */
};

/* As machine_query, but no longer than a slice; `used` grows by the instructions. False: it takes longer; no answer was added. */
bool machine_query_briefly(struct machine *machine, struct slice name, struct slice args, uint64_t now_ms,
                           uint64_t *used, struct machine_results *results);

/* Makes a reader: a Lua state of its own, with the modules of what it reads, as they were then. One thread. */
struct reader *reader_new(size_t lua_bytes_max);
void reader_free(struct reader *reader);

/* Answers a query as machine_query would have when `frozen` was. Adds one answer. One that fills the memory ends alone. */
void reader_query(struct reader *reader, const struct machine_frozen *frozen, struct slice name, struct slice args,
                  uint64_t now_ms, struct machine_results *results);

#endif
