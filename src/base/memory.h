/* base/memory.h - the only way to the allocator.
 *
 * Memory failure is not an error that callers handle: it stops the process with one clear line (Raft tolerates a stopped
 * node). So none of these return NULL for size > 0. Thread-safe.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/* Allocates `size` bytes, not cleared. size 0 gives a pointer that mem_free takes. The caller owns it. */
void *mem_alloc(size_t size);

/* Allocates `count` * `size` bytes, cleared; the product is checked. */
void *mem_zalloc(size_t count, size_t size);

/* Resizes an allocation (NULL: allocates). The old pointer is gone. */
void *mem_realloc(void *old, size_t size);

/* Allocates at a multiple of `alignment` (a power of two), size a multiple of it. Freed by mem_free. */
void *mem_alloc_aligned(size_t alignment, size_t size);

/* Frees what the functions above gave; NULL is nothing. */
void mem_free(void *pointer);

#endif
