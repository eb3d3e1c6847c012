/* raft/trail.h - index -> term, as runs: all that the core keeps of the log (§5.3).
 *
 * Payloads never come here. A log of a million entries of three terms is three runs. A trail begins after its base, the entry
 * that a snapshot ends with (§7): of what is below it nothing is known. Depends on base, raft/types.h.
 */
#ifndef RAFT_TRAIL_H
#define RAFT_TRAIL_H

#include "raft/types.h"

struct raft_trail {
    struct raft_run *runs; /* by index; each goes up to the next one's first, the last one to `last` */
    size_t count;
    size_t capacity;
    raft_index base; /* what the first entry follows; 0 and term 0 until logs are compacted */
    raft_term base_term;
    raft_index last; /* the base's: empty */
};

void trail_init(struct raft_trail *trail);
void trail_close(struct raft_trail *trail);

/* Appends `count` entries of `term`, which is not below the last one's. */
void trail_append(struct raft_trail *trail, uint64_t count, raft_term term);

/* Drops the entries from `index` on, which is above the base. */
void trail_cut(struct raft_trail *trail, raft_index index);

/* Forgets the entries up to `index`, which is here: it is the base now. */
void trail_forget(struct raft_trail *trail, raft_index index);

/* Drops every entry: the trail is empty, after an entry of that index and term. */
void trail_reset(struct raft_trail *trail, raft_index base, raft_term base_term);

/* Term of an entry, or of the base; 0 if it is not here. */
raft_term trail_term(const struct raft_trail *trail, raft_index index);

/* Of the last entry, or of the base. */
raft_term trail_last_term(const struct raft_trail *trail);

/* The highest index <= `index` whose term is <= `term`, the base included; 0 if none is known. */
raft_index trail_find_term(const struct raft_trail *trail, raft_index index, raft_term term);

#endif
