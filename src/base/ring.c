/* base/ring.c - see base/ring.h. */
#include "base/ring.h"

#include <stdatomic.h>
#include <stdint.h>

#include "base/check.h"
#include "base/memory.h"

/* The two counters only grow; each is written by one side, and stands on a cache line of its own. */
struct ring {
    size_t mask;
    void **slots;
    _Alignas(64) _Atomic uint64_t pushed;
    _Alignas(64) _Atomic uint64_t popped;
};

struct ring *ring_new(size_t capacity)
{
    CHECK(capacity > 0);
    CHECK((capacity & (capacity - 1)) == 0);
    struct ring *ring = mem_alloc_aligned(64, sizeof *ring);
    ring->mask = capacity - 1;
    ring->slots = mem_zalloc(capacity, sizeof *ring->slots);
    atomic_init(&ring->pushed, 0);
    atomic_init(&ring->popped, 0);
    return ring;
}

void ring_free(struct ring *ring)
{
    mem_free(ring->slots);
    mem_free(ring);
}

bool ring_push(struct ring *ring, void *pointer)
{
    CHECK(pointer != NULL);
    uint64_t pushed = atomic_load_explicit(&ring->pushed, memory_order_relaxed);
    if (pushed - atomic_load_explicit(&ring->popped, memory_order_acquire) > ring->mask)
        return false;
    ring->slots[pushed & ring->mask] = pointer;
    atomic_store_explicit(&ring->pushed, pushed + 1, memory_order_release);
    return true;
}

void *ring_pop(struct ring *ring)
{
    uint64_t popped = atomic_load_explicit(&ring->popped, memory_order_relaxed);
    if (popped == atomic_load_explicit(&ring->pushed, memory_order_acquire))
        return NULL;
    void *pointer = ring->slots[popped & ring->mask];
    atomic_store_explicit(&ring->popped, popped + 1, memory_order_release);
    return pointer;
}

size_t ring_count(const struct ring *ring)
{
    uint64_t popped = atomic_load(&ring->popped);
    return (size_t)(atomic_load(&ring->pushed) - popped);
}
