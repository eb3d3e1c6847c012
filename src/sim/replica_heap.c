/* sim/replica_heap.c - what is to happen in a world, by time, and among equals by order. See sim/replica_world_private.h. */
#include "base/memory.h"
#include "sim/replica_world_private.h"

static bool before(const struct world_event *left, const struct world_event *right)
{
    return left->at != right->at ? left->at < right->at : left->order < right->order;
}

/* Puts an event in its place by its time and its order. */
void world_event_put(struct replica_world *world, struct world_event event)
{
    if (world->count == world->capacity) {
        world->capacity = world->capacity * 2 + 64;
        world->heap = mem_realloc(world->heap, world->capacity * sizeof *world->heap);
    }
    size_t place = world->count++;
    while (place > 0 && before(&event, &world->heap[(place - 1) / 2])) {
        world->heap[place] = world->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    world->heap[place] = event;
}

void world_event_add(struct replica_world *world, struct world_event event)
{
    event.order = world->order++;
    world_event_put(world, event);
}

struct world_event world_event_take(struct replica_world *world)
{
    struct world_event first = world->heap[0];
    struct world_event last = world->heap[--world->count];
    size_t place = 0;
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= world->count)
            break;
        if (child + 1 < world->count && before(&world->heap[child + 1], &world->heap[child]))
            child++;
        if (!before(&world->heap[child], &last))
            break;
        world->heap[place] = world->heap[child];
        place = child;
    }
    world->heap[place] = last;
    return first;
}
