/* replica/cache.h - recent records in memory: for followers, for the log thread, for the machine.
 *
 * A chunk is what came or was made in one turn: whole records, contiguous, never changed, counted references. The cache is
 * a row of chunks at the end of the log: hundreds of thousands where turns bring one small entry each, so that one is found by
 * halving. One thread. Depends on wire/entry.h, base.
 */
#ifndef REPLICA_CACHE_H
#define REPLICA_CACHE_H

#include "wire/entry.h"

struct chunk {
    uint32_t references;
    raft_index first;
    raft_index last; /* lowered by a cut; the bytes stay for whoever holds the chunk */
    struct buffer bytes;
    uint32_t *offsets; /* of each record, and the end */
};

struct cache {
    struct chunk **ring; /* from `oldest` on, `count` of them */
    size_t capacity;     /* a power of two; 0: there was none yet */
    size_t oldest;
    size_t count;
    size_t bytes;
    size_t bytes_max;
    uint64_t appended; /* bytes that ever came */
};

/* Takes over `bytes`, which are whole records first..last, at the end of the cache. */
struct chunk *cache_append(struct cache *cache, struct buffer *bytes, raft_index first, raft_index last);

/* Drops entries from `from` on. */
void cache_cut(struct cache *cache, raft_index from);

/* Its last entry; 0: it is empty. */
raft_index cache_last(const struct cache *cache);

/* The chunk that holds `index`; NULL. O(log chunks). */
struct chunk *cache_find(const struct cache *cache, raft_index index);

/* Records a..b of a chunk. */
struct slice chunk_records(const struct chunk *chunk, raft_index a, raft_index b);

void chunk_hold(struct chunk *chunk);
void chunk_release(struct chunk *chunk);

/* Empties it; it may be used on. */
void cache_close(struct cache *cache);

#endif
