/* sim/replica_clients.c - who asks nodes of a world, and who watches their events. See sim/replica_world.h. */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "replica/events.h"
#include "sim/replica_world_private.h"
#include "wire/error.h"
#include "wire/pack.h"

/* --- requests --------------------------------------------------------------------------------------------------------------- */

/* The number of a new request to a node, which may be down. */
static uint32_t new_request(struct replica_world *world, const struct world_node *node)
{
    if (world->requests_count == world->requests_capacity) {
        world->requests_capacity = world->requests_capacity * 2 + 64;
        world->requests = mem_realloc(world->requests, world->requests_capacity * sizeof *world->requests);
    }
    uint32_t at = (uint32_t)world->requests_count++;
    world->requests[at] = (struct world_request){.node = node->number, .life = node->life};
    world->requests[at].reply.node_died = node->replica == NULL;
    return at;
}

uint32_t replica_world_ask(struct replica_world *world, uint32_t number, const struct request *request)
{
    struct world_node *node = &world->nodes[number];
    uint32_t at = new_request(world, node);
    if (node->replica == NULL)
        return at;
    world_trace_request(node, at, request);
    replica_request(node->replica, at, request, world_time(node));
    world_after(node);
    return at;
}

uint32_t replica_world_request(struct replica_world *world, uint32_t number, struct slice name, struct slice args,
                               uint32_t timeout_ms, bool stale, bool forward, bool query_only)
{
    const struct request request = {.name = name,
                                    .args = args,
                                    .timeout_ms = timeout_ms,
                                    .read = stale ? READ_STALE : READ_LINEARIZABLE,
                                    .forward = forward,
                                    .query_only = query_only};
    return replica_world_ask(world, number, &request);
}

uint32_t replica_world_snapshot(struct replica_world *world, uint32_t number, uint32_t timeout_ms)
{
    struct world_node *node = &world->nodes[number];
    uint32_t at = new_request(world, node);
    if (node->replica == NULL)
        return at;
    replica_request_snapshot(node->replica, at, timeout_ms, world_time(node));
    world_after(node);
    return at;
}

uint32_t replica_world_rebuild(struct replica_world *world, uint32_t number, uint32_t timeout_ms)
{
    struct world_node *node = &world->nodes[number];
    uint32_t at = new_request(world, node);
    if (node->replica == NULL)
        return at;
    replica_request_rebuild(node->replica, at, timeout_ms, world_time(node));
    world_after(node);
    return at;
}

/* --- events ----------------------------------------------------------------------------------------------------------------- */

struct world_watch {
    uint32_t node;
    uint32_t life;
    char from[EVENTS_ID_BYTES];
    struct event_filter filter;
    struct event_cursor cursor;
};

/* As node/watch.c begins one. */
uint32_t replica_world_watch(struct replica_world *world, uint32_t number, struct slice args, struct buffer *error)
{
    const struct world_node *node = &world->nodes[number];
    struct world_watch watch = {.node = number, .life = node->life};
    struct event_id from = {0};
    struct event_id first = {0};
    bool from_now = false;
    bool compacted = false;
    if (node->replica == NULL || replica_raft(node->replica) == NULL) {
        error_pack(error, ERROR_NO_LEADER, "the node is down, or forms");
        return UINT32_MAX;
    }
    uint64_t cluster_id = replica_identity(node->replica)->cluster_id;
    const char *why = events_read_watch(args, cluster_id, &watch.filter, &from, &from_now, &compacted);
    if (from_now)
        from = (struct event_id){.index = replica_applied(node->replica) + 1};
    if (why != NULL && !compacted) {
        error_pack(error, ERROR_BAD_ARGS, why);
    } else if (replica_parked_at(node->replica) != 0) {
        error_pack(error, ERROR_PARKED, "this node is parked; watch another");
    } else if (compacted || !events_seek(replica_events(node->replica), from, &watch.cursor, &first)) {
        events_pack_compacted("events after this id are no longer here", first, cluster_id, error);
    } else {
        events_print_id(from, cluster_id, watch.from);
        world->watches = mem_realloc(world->watches, (world->watches_count + 1) * sizeof *world->watches);
        world->watches[world->watches_count] = watch;
        return (uint32_t)world->watches_count++;
    }
    return UINT32_MAX;
}

void replica_world_watch_from(const struct replica_world *world, uint32_t number, struct buffer *out)
{
    CHECK(number < world->watches_count);
    buffer_append(out, world->watches[number].from, strlen(world->watches[number].from));
}

enum replica_world_told replica_world_next(struct replica_world *world, uint32_t number, struct buffer *out)
{
    CHECK(number < world->watches_count);
    struct world_watch *watch = &world->watches[number];
    const struct world_node *node = &world->nodes[watch->node];
    struct event event;
    struct event_id first;
    if (node->replica == NULL || node->life != watch->life)
        return REPLICA_WORLD_GONE;
    uint64_t cluster_id = replica_identity(node->replica)->cluster_id;
    if (replica_parked_at(node->replica) != 0) {
        error_pack(out, ERROR_PARKED, "this node is parked; watch another");
        return REPLICA_WORLD_ENDED;
    }
    for (;;) {
        switch (events_next(replica_events(node->replica), &watch->cursor, &event, &first)) {
        case EVENT_NONE:
            return REPLICA_WORLD_NOTHING;
        case EVENT_LOST:
            events_pack_compacted("events are no longer here", first, cluster_id, out);
            return REPLICA_WORLD_ENDED;
        default:
            if (!events_wanted(&watch->filter, &event))
                continue;
            events_pack(&event, cluster_id, out);
            return REPLICA_WORLD_EVENT;
        }
    }
}

uint64_t replica_world_events_told(const struct replica_world *world)
{
    return world->told_events;
}
