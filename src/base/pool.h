/* base/pool.h - small blocks that come and go at a high rate: rows of the state tree, objects of a Lua state.
 *
 * The general allocator costs more than what is done with such a block. A pool keeps freed blocks in lists by size, in
 * steps of 16 bytes; larger ones go to base/memory.h. Whoever frees a block says its size. What a pool took from the
 * system it keeps until it is closed. One thread at a time uses a pool. Under AddressSanitizer each block is an
 * allocation of its own, so that misuse is seen. Depends on base/memory.h.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

enum { POOL_STEP = 16, POOL_SMALL_MAX = 512, POOL_LISTS = POOL_SMALL_MAX / POOL_STEP };

/* A zeroed struct is an empty pool. */
struct pool {
    void *lists[POOL_LISTS]; /* freed blocks of (i + 1) * POOL_STEP bytes */
    uint8_t *at;             /* the unused part of the newest slab */
    size_t left;
    void *slabs; /* all of them, newest first */
};

/* Allocates `size` > 0 bytes, 16-byte aligned, not cleared. */
void *pool_alloc(struct pool *pool, size_t size);

/* Frees a block that pool_alloc gave for this size. */
void pool_free(struct pool *pool, void *block, size_t size);

/* Gives all slabs back: every small block is gone. Larger blocks must have been freed one by one. */
void pool_close(struct pool *pool);

#endif
