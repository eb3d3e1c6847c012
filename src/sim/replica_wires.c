/* sim/replica_wires.c - connections between replicas: streams of bytes that arrive late, in pieces, or not at all. See
 * sim/replica_world.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/replica_world_private.h"

enum { STALL_MS = 5, SPLIT_PARTS = 125000 };

static uint64_t delay(struct replica_world *world)
{
    return prng_between(&world->prng, 1, world->options.delay_ms_max);
}

static struct world_node *node_of(const struct world_end *end)
{
    return end->node == REPLICA_WORLD_NOBODY ? NULL : &end->wire->world->nodes[end->node];
}

static void add(struct world_end *end, enum world_event_kind kind, uint64_t at, size_t bytes)
{
    end->wire->events++;
    world_event_add(
        end->wire->world,
        (struct world_event){.at = at, .kind = kind, .wire = end->wire, .side = end->side, .bytes = bytes});
}

static struct world_wire *new_wire(struct replica_world *world, uint32_t from, uint32_t to)
{
    struct world_wire *wire = mem_zalloc(1, sizeof *wire);
    wire->world = world;
    wire->number = world->wires_count++;
    wire->next = world->wires;
    world->wires = wire;
    for (uint32_t side = 0; side < 2; side++)
        wire->ends[side] = (struct world_end){.wire = wire, .side = side, .node = side == 0 ? from : to};
    return wire;
}

/* Bytes on their way to `end`. */
static void put(struct world_end *end, const struct slice *parts, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        buffer_append(&end->stream, parts[i].data, parts[i].size);
        bytes += parts[i].size;
    }
    uint64_t at = end->wire->world->now + delay(end->wire->world);
    end->last_at = at > end->last_at ? at : end->last_at;
    add(end, WORLD_BYTES, end->last_at, bytes);
}

/* This side is closed now; the other learns of it after what is on its way. */
static void close_end(struct world_end *end)
{
    if (end->closed)
        return;
    end->closed = true;
    struct link *link = end->link;
    end->link = NULL;
    struct world_node *node = node_of(end);
    if (link != NULL && node != NULL && node->replica != NULL)
        link_closed(node->replica, link, world_time(node));
    struct world_end *other = &end->wire->ends[1 - end->side];
    if (!other->closed)
        add(other, WORLD_END, (other->last_at > end->wire->world->now ? other->last_at : end->wire->world->now) + 1,
            0);
}

/* One whole frame of the core's: its first four bytes are its size, the ninth its type (wire/message.h). */
static bool is_raft(const struct slice *parts, size_t count)
{
    uint32_t size = 0;
    size_t sent = 0;
    for (size_t i = 0; i < count; i++)
        sent += parts[i].size;
    if (parts[0].size < MESSAGE_HEADER_BYTES || parts[0].data[8] != MESSAGE_RAFT)
        return false;
    memcpy(&size, parts[0].data, sizeof size);
    return size == sent;
}

/* What a bad network does to a frame: true if it is not to be put on its way now. Only the core's: it must live with it. */
static bool lose(struct world_end *end, const struct slice *parts, size_t count)
{
    struct replica_world *world = end->wire->world;
    const struct replica_world_loss *loss = &world->loss;
    if (loss->lost + loss->doubled + loss->overtaken == 0)
        return false;
    struct world_node *from = &world->nodes[end->wire->ends[1 - end->side].node];
    if (prng_chance(&world->prng, loss->lost)) {
        world_trace_frames(from, "lose", end->node, parts[0]);
        return true;
    }
    if (end->held.size == 0 && prng_chance(&world->prng, loss->overtaken)) {
        world_trace_frames(from, "hold", end->node, parts[0]);
        for (size_t i = 0; i < count; i++)
            buffer_append(&end->held, parts[i].data, parts[i].size);
        return true;
    }
    put(end, parts, count);
    if (prng_chance(&world->prng, loss->doubled)) {
        world_trace_frames(from, "double", end->node, parts[0]);
        put(end, parts, count);
    }
    if (end->held.size > 0) {
        struct slice held = buffer_slice(&end->held);
        put(end, &held, 1);
        buffer_clear(&end->held);
    }
    return true;
}

bool world_env_send(void *context, struct link *link, const struct slice *parts, size_t parts_count)
{
    struct world_end *end = link_context(link);
    if (end->closed || end->close_asked)
        return false;
    struct message message;
    size_t used = 0;
    struct world_end *other = &end->wire->ends[1 - end->side];
    bool raft = is_raft(parts, parts_count);
    world_trace_frames(context, "send", other->node, parts[0]);
    if (raft && message_decode(parts[0], &message, &used) == STATUS_OK)
        witness_sent(end->wire->world->witness, end->node, &message.raft);
    if (!raft || !lose(other, parts, parts_count))
        put(other, parts, parts_count);
    return true;
}

void world_env_close(void *context, struct link *link)
{
    ((struct world_end *)link_context(link))->close_asked = true;
    ((struct world_node *)context)->close_asked = true;
}

/* --- dialling --------------------------------------------------------------------------------------------------------------- */

static bool has_wire(const struct replica_world *world, uint32_t from, uint32_t to, node_id id)
{
    for (const struct world_wire *wire = world->wires; wire != NULL; wire = wire->next)
        if (wire->ends[0].node == from && wire->ends[1].node == to && wire->to_id == id && !wire->ends[0].closed &&
            !wire->bulk)
            return true;
    return false;
}

static void dial(struct world_node *node, uint32_t to, node_id id)
{
    struct replica_world *world = node->world;
    if (to >= world->options.nodes || world->cut[node->number][to] || world->nodes[to].replica == NULL ||
        has_wire(world, node->number, to, id))
        return;
    struct world_wire *wire = new_wire(world, node->number, to);
    wire->to_id = id;
    wire->ends[1].last_at = world->now + delay(world);
    add(&wire->ends[1], WORLD_ACCEPT, wire->ends[1].last_at, 0);
    wire->ends[0].link = link_opened(node->replica, id, false, &wire->ends[0], world_time(node));
}

/* As asked for by the replica: one attempt. */
void world_wires_dial_bulk(struct world_node *node, node_id peer)
{
    struct replica_world *world = node->world;
    uint32_t to = 0;
    while (to < world->options.nodes && world->nodes[to].id != peer)
        to++;
    if (to == world->options.nodes || world->cut[node->number][to] || world->nodes[to].replica == NULL) {
        link_not_opened(node->replica, peer, world_time(node));
        return;
    }
    struct world_wire *wire = new_wire(world, node->number, to);
    wire->bulk = true;
    wire->ends[1].last_at = world->now + delay(world);
    add(&wire->ends[1], WORLD_ACCEPT, wire->ends[1].last_at, 0);
    wire->ends[0].link = link_opened(node->replica, peer, true, &wire->ends[0], world_time(node));
}

static void free_wire(struct world_wire *wire)
{
    for (size_t side = 0; side < 2; side++) {
        buffer_close(&wire->ends[side].stream);
        buffer_close(&wire->ends[side].input);
        buffer_close(&wire->ends[side].held);
    }
    mem_free(wire);
}

/* Forgets wires that nobody holds an end of; those from outside may still be asked for. */
static void free_dead_wires(struct replica_world *world)
{
    struct world_wire **at = &world->wires;
    while (*at != NULL) {
        struct world_wire *wire = *at;
        if (wire->ends[0].node == REPLICA_WORLD_NOBODY || !wire->ends[0].closed || !wire->ends[1].closed ||
            wire->events > 0) {
            at = &wire->next;
            continue;
        }
        *at = wire->next;
        free_wire(wire);
    }
}

/* A member's port says which node of the world listens there: "h:7300" is node 0. */
void replica_world_line(uint32_t nodes, char line[REPLICA_WORLD_LINE_BYTES])
{
    size_t size = 0;
    CHECK(nodes >= 1);
    CHECK(nodes <= REPLICA_WORLD_NODES_MAX);
    for (uint32_t i = 0; i < nodes; i++)
        size += (size_t)snprintf(line + size, REPLICA_WORLD_LINE_BYTES - size, "%s%u=h:730%u", i > 0 ? "," : "",
                                 i + 1, i);
    CHECK(size < REPLICA_WORLD_LINE_BYTES);
}

/* Dials whom it knows to be a member. */
void world_wires_dial(struct world_node *node)
{
    free_dead_wires(node->world);
    struct identity_member *peers = mem_zalloc(REPLICA_PEERS_MAX, sizeof *peers);
    size_t count = replica_peers(node->replica, peers);
    for (size_t i = 0; i < count; i++) {
        const char *digit = strchr(peers[i].address, 0) - 1;
        dial(node, (uint32_t)(*digit - '0'), peers[i].id);
    }
    mem_free(peers);
}

/* --- arriving --------------------------------------------------------------------------------------------------------------------- */

static bool is_stalled(const struct world_end *end)
{
    uint32_t from = end->wire->ends[1 - end->side].node;
    return from != REPLICA_WORLD_NOBODY && end->node != REPLICA_WORLD_NOBODY &&
           end->wire->world->stalled[from][end->node];
}

static void arrive(struct world_end *end, size_t bytes)
{
    struct world_node *node = node_of(end);
    if (end->closed)
        return;
    if (bytes > end->stream.size)
        bytes = end->stream.size;
    buffer_append(&end->input, end->stream.data, bytes);
    buffer_consume(&end->stream, bytes);
    if (node == NULL || end->link == NULL)
        return;
    if (end->input.size == 0) {
        world_after(node);
        return;
    }
    size_t need = 0;
    bool alive = true;
    world_trace_frames(node, "receive", end->wire->ends[1 - end->side].node, buffer_slice(&end->input));
    size_t used =
        link_receive(node->replica, end->link, buffer_slice(&end->input), world_time(node), &need, &alive);
    CHECK(used <= end->input.size);
    buffer_consume(&end->input, used);
    if (!alive)
        close_end(end);
    world_after(node);
}

static void accept_end(struct world_end *end)
{
    struct world_node *node = node_of(end);
    if (node->replica == NULL || end->wire->ends[0].closed) {
        close_end(end);
        return;
    }
    end->link = link_opened(node->replica, 0, false, end, world_time(node));
    arrive(end, 0); /* what a stalled wire let overtake this */
}

void world_wires_event(struct replica_world *world, const struct world_event *event)
{
    struct world_end *end = &event->wire->ends[event->side];
    event->wire->events--;
    if (end->closed)
        return;
    const struct world_node *at = node_of(end);
    if (at != NULL && at->paused_until > world->now) {
        add(end, event->kind, at->paused_until, event->bytes);
        return;
    }
    if (is_stalled(end) || (event->kind == WORLD_END && end->stream.size > 0)) {
        add(end, event->kind, world->now + STALL_MS, event->bytes);
        return;
    }
    if (event->kind == WORLD_ACCEPT) {
        accept_end(end);
    } else if (event->kind == WORLD_BYTES) {
        size_t bytes = event->bytes;
        if (bytes > 1 && prng_chance(&world->prng, SPLIT_PARTS)) {
            bytes = prng_between(&world->prng, 1, bytes - 1);
            end->last_at = end->last_at > world->now + 1 ? end->last_at : world->now + 1;
            add(end, WORLD_BYTES, world->now + 1, event->bytes - bytes);
        }
        arrive(end, bytes);
    } else {
        struct world_node *node = node_of(end);
        close_end(end);
        if (node != NULL)
            world_after(node);
    }
}

/* --- ends --------------------------------------------------------------------------------------------------------------------------- */

/* Closes what the node asked to be closed during its turn. */
void world_wires_close(struct world_node *node)
{
    if (!node->close_asked)
        return;
    node->close_asked = false;
    for (struct world_wire *wire = node->world->wires; wire != NULL; wire = wire->next)
        for (size_t side = 0; side < 2; side++)
            if (wire->ends[side].node == node->number && wire->ends[side].close_asked)
                close_end(&wire->ends[side]);
}

/* The node is about to vanish: its links with it; what it sent may be lost. */
void world_wires_crash(struct world_node *node)
{
    struct replica_world *world = node->world;
    for (struct world_wire *wire = world->wires; wire != NULL; wire = wire->next) {
        for (size_t side = 0; side < 2; side++) {
            struct world_end *end = &wire->ends[side];
            if (end->node != node->number || end->closed)
                continue;
            end->link = NULL; /* freed by replica_abandon */
            if (prng_chance(&world->prng, 500000))
                buffer_clear(&wire->ends[1 - side].stream);
            close_end(end);
        }
    }
}

static void break_wire(struct world_wire *wire)
{
    struct replica_world *world = wire->world;
    for (size_t side = 0; side < 2; side++) {
        buffer_clear(&wire->ends[side].stream);
        if (!wire->ends[side].closed)
            add(&wire->ends[side], WORLD_END, world->now + delay(world), 0);
    }
}

void replica_world_break(struct replica_world *world, uint32_t from, uint32_t to)
{
    for (struct world_wire *wire = world->wires; wire != NULL; wire = wire->next)
        if (wire->ends[0].node == from && wire->ends[1].node == to)
            break_wire(wire);
}

bool replica_world_break_bulk(struct replica_world *world, uint32_t from, uint32_t to)
{
    bool broken = false;
    for (struct world_wire *wire = world->wires; wire != NULL; wire = wire->next) {
        if (!wire->bulk || wire->ends[0].node != from || wire->ends[1].node != to || wire->ends[0].closed)
            continue;
        break_wire(wire);
        broken = true;
    }
    return broken;
}

void replica_world_cut(struct replica_world *world, uint32_t from, uint32_t to, bool cut)
{
    world->cut[from][to] = cut;
    if (cut)
        replica_world_break(world, from, to);
}

void replica_world_stall(struct replica_world *world, uint32_t from, uint32_t to, bool stalled)
{
    world->stalled[from][to] = stalled;
}

/* --- from outside ------------------------------------------------------------------------------------------------------------------- */

uint32_t replica_world_say(struct replica_world *world, uint32_t node, struct slice bytes)
{
    struct world_wire *wire = new_wire(world, REPLICA_WORLD_NOBODY, node);
    add(&wire->ends[1], WORLD_ACCEPT, world->now, 0);
    put(&wire->ends[1], &bytes, 1);
    return wire->number;
}

struct slice replica_world_heard(const struct replica_world *world, uint32_t connection, bool *open)
{
    for (const struct world_wire *wire = world->wires; wire != NULL; wire = wire->next) {
        if (wire->number != connection)
            continue;
        *open = !wire->ends[1].closed;
        return buffer_slice(&wire->ends[0].input);
    }
    UNREACHABLE();
}

void world_wires_free(struct replica_world *world)
{
    while (world->wires != NULL) {
        struct world_wire *next = world->wires->next;
        free_wire(world->wires);
        world->wires = next;
    }
}
