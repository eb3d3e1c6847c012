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

/* The chunk in place `at`, counted from the oldest. */
static struct chunk **place(const struct cache *cache, size_t at)
{
    return &cache->ring[(cache->oldest + at) & (cache->capacity - 1)];
}

static void drop_oldest(struct cache *cache)
{
    struct chunk *chunk = *place(cache, 0);
    cache->oldest++;
    cache->count--;
    cache->bytes -= chunk->bytes.size;
    chunk_release(chunk);
}

static void drop_youngest(struct cache *cache)
{
    struct chunk *chunk = *place(cache, --cache->count);
    cache->bytes -= chunk->bytes.size;
    chunk_release(chunk);
}

static void add_youngest(struct cache *cache, struct chunk *chunk)
{
    if (cache->count == cache->capacity) {
        struct cache grown = *cache;
        grown.capacity = cache->capacity > 0 ? cache->capacity * 2 : 64;
        grown.ring = mem_alloc(grown.capacity * sizeof *grown.ring);
        grown.oldest = 0;
        for (size_t i = 0; i < cache->count; i++)
            *place(&grown, i) = *place(cache, i);
        mem_free(cache->ring);
        *cache = grown;
    }
    *place(cache, cache->count++) = chunk;
}

/* How many chunks begin at or before `index`: it is in the last of them, if in any. */
static size_t begun_by(const struct cache *cache, raft_index index)
{
    size_t from = 0;
    for (size_t left = cache->count; left > 0;) {
        size_t half = (left + 1) / 2;
        from += (*place(cache, from + half - 1))->first <= index ? half : 0;
        left -= half;
    }
    return from;
}

struct chunk *cache_append(struct cache *cache, struct buffer *bytes, raft_index first, raft_index last)
{
    CHECK(last >= first);
    CHECK(cache->count == 0 || cache_last(cache) + 1 == first);
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
    add_youngest(cache, chunk);
    cache->bytes += chunk->bytes.size;
    cache->appended += chunk->bytes.size;
    while (cache->bytes > cache->bytes_max && cache->count > 1)
        drop_oldest(cache);
    return chunk;
}

void cache_cut(struct cache *cache, raft_index from)
{
    while (cache->count > 0 && (*place(cache, cache->count - 1))->first >= from)
        drop_youngest(cache);
    if (cache->count == 0)
        return;
    struct chunk *kept = *place(cache, cache->count - 1);
    if (kept->last >= from)
        kept->last = from - 1;
}

raft_index cache_last(const struct cache *cache)
{
    return cache->count > 0 ? (*place(cache, cache->count - 1))->last : 0;
}

struct chunk *cache_find(const struct cache *cache, raft_index index)
{
    size_t begun = begun_by(cache, index);
    struct chunk *chunk = begun > 0 ? *place(cache, begun - 1) : NULL;
    return chunk != NULL && index <= chunk->last ? chunk : NULL;
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
    while (cache->count > 0)
        drop_oldest(cache);
    mem_free(cache->ring);
    cache->ring = NULL;
    cache->capacity = 0;
    cache->oldest = 0;
}
