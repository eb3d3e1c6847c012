/* replica/cache.h - recent records in memory: for followers, for the log thread, for the machine.
 *
 * A chunk is what came or was made in one turn: whole records, contiguous, never changed, counted references. The cache is
 * a row of chunks at the end of the log. One thread. Depends on wire/entry.h, base.
 */
#ifndef REPLICA_CACHE_H
#define REPLICA_CACHE_H

#include "wire/entry.h"

struct chunk {
    uint32_t references;
    raft_index first;
    raft_index last; /* lowered by a cut; the bytes stay for whoever holds the chunk */
    struct buffer bytes;
    uint32_t *offsets;  /* of each record, and the end */
    struct chunk *next; /* younger */
};

struct cache {
    struct chunk *oldest;
    struct chunk *youngest;
    size_t bytes;
    size_t bytes_max;
    uint64_t appended; /* bytes that ever came */
};

/* Takes over `bytes`, which are whole records first..last, at the end of the cache. */
struct chunk *cache_append(struct cache *cache, struct buffer *bytes, raft_index first, raft_index last);

/* Drops entries from `from` on. */
void cache_cut(struct cache *cache, raft_index from);

/* The chunk that holds `index`; NULL. */
struct chunk *cache_find(const struct cache *cache, raft_index index);

/* Records a..b of a chunk. */
struct slice chunk_records(const struct chunk *chunk, raft_index a, raft_index b);

void chunk_hold(struct chunk *chunk);
void chunk_release(struct chunk *chunk);
void cache_close(struct cache *cache);

#endif
