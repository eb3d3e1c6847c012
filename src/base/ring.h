/* base/ring.h - a bounded queue of pointers between exactly one producing and one consuming thread, without locks.
 *
 * The bell that wakes the other side is not here (node/ rings it). Depends on base/memory.h.
 */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring;

/* Makes a ring that holds `capacity` pointers, a power of two. */
struct ring *ring_new(size_t capacity);

/* Frees the ring, not what it holds. Both threads must be done with it. */
void ring_free(struct ring *ring);

/* Producer: adds; false when full. `pointer` is not NULL. */
bool ring_push(struct ring *ring, void *pointer);

/* Consumer: takes the oldest; NULL when empty. */
void *ring_pop(struct ring *ring);

/* Either side: how many are inside, as far as this thread can know. */
size_t ring_count(const struct ring *ring);

#endif
