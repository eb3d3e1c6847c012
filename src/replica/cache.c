/* replica/cache.c - see replica/cache.h. */
#include "replica/cache.h"

#include "base/check.h"
#include "base/memory.h"

void chunk_hold(struct chunk *chunk)
{
    chunk->references++;
}

void chunk_release(struct chunk *chunk)
{
    CHECK(chunk->references > 0);
    if (--chunk->references > 0)
        return;
    buffer_close(&chunk->bytes);
    mem_free(chunk->offsets);
    mem_free(chunk);
}

static void drop_oldest(struct cache *cache)
{
    struct chunk *chunk = cache->oldest;
    cache->oldest = chunk->next;
    if (cache->oldest == NULL)
        cache->youngest = NULL;
    cache->bytes -= chunk->bytes.size;
    chunk_release(chunk);
}

struct chunk *cache_append(struct cache *cache, struct buffer *bytes, raft_index first, raft_index last)
{
    CHECK(last >= first);
    CHECK(cache->youngest == NULL || cache->youngest->last + 1 == first);
    struct chunk *chunk = mem_zalloc(1, sizeof *chunk);
    chunk->references = 1;
    chunk->first = first;
    chunk->last = last;
    chunk->bytes = *bytes;
    *bytes = (struct buffer){0};
    chunk->offsets = mem_alloc((size_t)(last - first + 2) * sizeof *chunk->offsets);
    uint32_t offset = 0;
    for (raft_index index = first; index <= last; index++) {
        struct entry entry;
        CHECK(entry_peek(slice_make(chunk->bytes.data + offset, chunk->bytes.size - offset), &entry) == STATUS_OK);
        CHECK_EQ(entry.index, index);
        chunk->offsets[index - first] = offset;
        offset += entry.size;
    }
    chunk->offsets[last - first + 1] = offset;
    CHECK_EQ(offset, chunk->bytes.size);
    if (cache->youngest != NULL)
        cache->youngest->next = chunk;
    else
        cache->oldest = chunk;
    cache->youngest = chunk;
    cache->bytes += chunk->bytes.size;
    cache->appended += chunk->bytes.size;
    while (cache->bytes > cache->bytes_max && cache->oldest != chunk)
        drop_oldest(cache);
    return chunk;
}

void cache_cut(struct cache *cache, raft_index from)
{
    struct chunk *kept = NULL;
    struct chunk *chunk = cache->oldest;
    while (chunk != NULL && chunk->first < from) {
        kept = chunk;
        chunk = chunk->next;
    }
    while (chunk != NULL) {
        struct chunk *next = chunk->next;
        cache->bytes -= chunk->bytes.size;
        chunk_release(chunk);
        chunk = next;
    }
    cache->youngest = kept;
    if (kept == NULL) {
        cache->oldest = NULL;
        return;
    }
    kept->next = NULL;
    if (kept->last >= from)
        kept->last = from - 1;
}

struct chunk *cache_find(const struct cache *cache, raft_index index)
{
    if (cache->youngest != NULL && index >= cache->youngest->first)
        return index <= cache->youngest->last ? cache->youngest : NULL;
    for (struct chunk *chunk = cache->oldest; chunk != NULL; chunk = chunk->next)
        if (index >= chunk->first && index <= chunk->last)
            return chunk;
    return NULL;
}

struct slice chunk_records(const struct chunk *chunk, raft_index a, raft_index b)
{
    CHECK(a >= chunk->first);
    CHECK(b >= a);
    CHECK(b <= chunk->last);
    uint32_t start = chunk->offsets[a - chunk->first];
    return slice_make(chunk->bytes.data + start, chunk->offsets[b - chunk->first + 1] - start);
}

void cache_close(struct cache *cache)
{
    while (cache->oldest != NULL)
        drop_oldest(cache);
}
