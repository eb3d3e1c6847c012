/* base/pool.c - see base/pool.h. */
#include "base/pool.h"

#include <stdbool.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_PASSES true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_PASSES true
#endif
#endif
#ifndef POOL_PASSES
#define POOL_PASSES false
#endif

enum { SLAB_BYTES = 64 * 1024 };

/* The next of a slab or of a list lies in its first bytes. */
static void *next_of(const void *block)
{
    void *next = NULL;
    memcpy(&next, block, sizeof next);
    return next;
}

static void link_to(void *block, void *next)
{
    memcpy(block, &next, sizeof next);
}

static void *cut(struct pool *pool, size_t bytes)
{
    if (pool->left < bytes) {
        /* The rest of the old slab is lost: less than one small block. */
        uint8_t *slab = mem_alloc_aligned(POOL_STEP, SLAB_BYTES);
        link_to(slab, pool->slabs);
        pool->slabs = slab;
        pool->at = slab + POOL_STEP;
        pool->left = SLAB_BYTES - POOL_STEP;
    }
    void *block = pool->at;
    pool->at += bytes;
    pool->left -= bytes;
    return block;
}

void *pool_alloc(struct pool *pool, size_t size)
{
    CHECK(size > 0);
    if (POOL_PASSES || size > POOL_SMALL_MAX)
        return mem_alloc(size);
    size_t list = (size - 1) / POOL_STEP;
    void *block = pool->lists[list];
    if (block == NULL)
        return cut(pool, (list + 1) * POOL_STEP);
    pool->lists[list] = next_of(block);
    return block;
}

void pool_free(struct pool *pool, void *block, size_t size)
{
    CHECK(size > 0);
    if (POOL_PASSES || size > POOL_SMALL_MAX) {
        mem_free(block);
        return;
    }
    size_t list = (size - 1) / POOL_STEP;
    link_to(block, pool->lists[list]);
    pool->lists[list] = block;
}

void pool_close(struct pool *pool)
{
    while (pool->slabs != NULL) {
        void *next = next_of(pool->slabs);
        mem_free(pool->slabs);
        pool->slabs = next;
    }
    *pool = (struct pool){0};
}
