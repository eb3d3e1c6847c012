/* spec/tsan/ring.c - one thread pushes numbers, another pops them: all come, in order. Run under ThreadSanitizer. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "base/ring.h"

enum { NUMBERS = 300000 };

static void *produce(void *ring)
{
    for (uintptr_t i = 1; i <= NUMBERS;)
        if (ring_push(ring, (void *)i))
            i++;
    return NULL;
}

int main(void)
{
    struct ring *ring = ring_new(64);
    pthread_t thread;
    pthread_create(&thread, NULL, produce, ring);
    for (uintptr_t next = 1; next <= NUMBERS;) {
        void *got = ring_pop(ring);
        if (got == NULL)
            continue;
        if ((uintptr_t)got != next) {
            fprintf(stderr, "ring: got %zu, expected %zu\n", (size_t)(uintptr_t)got, (size_t)next);
            return 1;
        }
        next++;
    }
    pthread_join(thread, NULL);
    ring_free(ring);
    return 0;
}
