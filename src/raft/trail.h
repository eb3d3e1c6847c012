/* raft/trail.h - index -> term, as runs: all that the core keeps of the log (§5.3).
 *
 * Payloads never come here. A log of a million entries of three terms is three runs. Depends on base, raft/types.h.
 */
#ifndef RAFT_TRAIL_H
#define RAFT_TRAIL_H

#include "raft/types.h"

struct raft_trail {
    struct raft_run *runs; /* by index; each goes up to the next one's first, the last one to `last` */
    size_t count;
    size_t capacity;
    raft_index first; /* 1 until logs are compacted */
    raft_index last;  /* 0: empty */
};

void trail_init(struct raft_trail *trail);
void trail_close(struct raft_trail *trail);

/* Appends `count` entries of `term`, which is not below the last one's. */
void trail_append(struct raft_trail *trail, uint64_t count, raft_term term);

/* Drops the entries from `index` on. */
void trail_cut(struct raft_trail *trail, raft_index index);

/* Term of an entry; 0 if it is not here. */
raft_term trail_term(const struct raft_trail *trail, raft_index index);

raft_term trail_last_term(const struct raft_trail *trail);

/* The highest index <= `index` whose term is <= `term`; 0 if there is none. */
raft_index trail_find_term(const struct raft_trail *trail, raft_index index, raft_term term);

#endif
