/* sim/replica_faults.c - what a spec sees of a world of replicas, and does to its disks and clocks. See
 * sim/replica_world.h. */
#include <stdlib.h>

#include <stdio.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/sim_disk.h"
#include "sim/replica_world_private.h"

uint64_t replica_world_now(const struct replica_world *world)
{
    return world->now;
}

uint64_t replica_world_hash(const struct replica_world *world)
{
    return world->hash;
}

uint64_t replica_world_events(const struct replica_world *world)
{
    return world->events;
}

uint64_t replica_world_taken(const struct replica_world *world)
{
    return world->taken;
}

uint64_t replica_world_installed(const struct replica_world *world)
{
    return world->installed;
}

uint64_t replica_world_committed(const struct replica_world *world)
{
    raft_term term = 0;
    return witness_committed(world->witness, &term);
}

struct slice replica_world_log(const struct replica_world *world)
{
    CHECK(world->options.keep_log);
    return buffer_slice(&world->log);
}

bool replica_world_peek(struct replica_world *world, uint32_t node, struct slice name, struct slice args,
                        struct buffer *out)
{
    struct machine_results results = {0};
    CHECK(world->nodes[node].replica != NULL);
    machine_query(world->nodes[node].machine, name, args, 0, &results);
    bool ok = results.list[0].ok;
    buffer_append(out, results.bytes.data + results.list[0].offset, results.list[0].size);
    buffer_close(&results.bytes);
    mem_free(results.list);
    return ok;
}

bool replica_world_rot(struct replica_world *world, uint32_t node, uint64_t rank, struct buffer *what)
{
    CHECK(world->nodes[node].replica != NULL);
    witness_distrusts(world->witness, node);
    return machine_rot(world->nodes[node].machine, rank, what);
}

bool replica_world_starve(struct replica_world *world, uint32_t number)
{
    struct world_node *node = &world->nodes[number];
    struct machine_status status;
    if (node->replica == NULL || node->machine == NULL)
        return false;
    machine_get_status(node->machine, &status);
    if (status.parked_at != 0 || status.applied == 0)
        return false;
    machine_park(node->machine, "out of memory (simulated)");
    witness_starved(world->witness, number);
    return true;
}

const char *replica_world_fatal(const struct replica_world *world, uint32_t node)
{
    return world->nodes[node].fatal;
}

struct replica_world_reply replica_world_reply(const struct replica_world *world, uint32_t request)
{
    CHECK(request < world->requests_count);
    struct replica_world_reply reply = world->requests[request].reply;
    reply.value = buffer_slice(&world->requests[request].value);
    return reply;
}

void replica_world_status(const struct replica_world *world, uint32_t number, struct replica_world_status *status)
{
    const struct world_node *node = &world->nodes[number];
    *status = (struct replica_world_status){.fatal_code = node->fatal_code};
    if (node->replica == NULL)
        return;
    status->up = true;
    status->paused = node->paused_until > world->now;
    struct machine_status machine;
    machine_get_status(node->machine, &machine);
    status->applied = machine.applied;
    status->digest_hi = machine.digest.hi;
    status->digest_lo = machine.digest.lo;
    status->stamp_ms = machine.now_ms;
    status->timers = machine.timers;
    status->parked_at = machine.parked_at;
    raft_index parked_at = 0;
    const char *why = replica_parked(node->replica, &parked_at);
    status->parked = why != NULL;
    if (why != NULL)
        snprintf(status->parked_why, sizeof status->parked_why, "%s", why);
    status->scrubbed = replica_scrubbed(node->replica);
    const struct identity *identity = replica_identity(node->replica);
    status->cluster_id = identity->cluster_id;
    status->incarnation = identity->incarnation;
    status->formation = identity->formation;
    if (replica_raft(node->replica) == NULL)
        return;
    struct raft_status raft;
    raft_get_status(replica_raft(node->replica), &raft);
    status->raft = true;
    status->role = (uint32_t)raft.role;
    status->term = raft.current_term;
    status->leader = raft.leader;
    status->commit = raft.commit_index;
    status->last = raft.last_log_index;
    struct replica_snapshot_status snapshots;
    replica_get_snapshots(node->replica, &snapshots);
    status->base = snapshots.base;
    status->snapshot = snapshots.index;
    status->agreed = snapshots.agreed;
    status->taken = snapshots.taken;
    status->failed = snapshots.failed;
    status->sent = snapshots.sent;
    status->received = snapshots.received;
    status->fetched = snapshots.fetched;
    status->differs = snapshots.differs;
    status->installing = snapshots.installing;
}

void replica_world_pack_status(const struct replica_world *world, uint32_t number, struct buffer *out)
{
    CHECK(world->nodes[number].replica != NULL);
    replica_pack_status(world->nodes[number].replica, out);
}

uint32_t replica_world_leader(const struct replica_world *world)
{
    uint32_t leader = REPLICA_WORLD_NOBODY;
    uint64_t term = 0;
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        struct replica_world_status status;
        replica_world_status(world, i, &status);
        if (status.raft && status.role == RAFT_LEADER && status.term > term) {
            leader = i;
            term = status.term;
        }
    }
    return leader;
}

void replica_world_hang(struct replica_world *world, uint32_t node, uint64_t ms)
{
    world->nodes[node].hang_until = world->now + ms;
}

void replica_world_slow(struct replica_world *world, uint32_t node, uint32_t write_ms_max, uint32_t apply_ms_max)
{
    world->nodes[node].write_ms_max = write_ms_max;
    world->nodes[node].apply_ms_max = apply_ms_max;
}

void replica_world_slow_snapshots(struct replica_world *world, uint32_t node, uint32_t snapshot_ms_max)
{
    world->nodes[node].snapshot_ms_max = snapshot_ms_max;
}

struct sum {
    struct disk *disk;
    uint64_t bytes;
};

static void add_file(void *context, const char *name)
{
    struct sum *sum = context;
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    if (sum->disk->open(sum->disk, name, 0, &file) != STATUS_OK)
        return;
    if (sum->disk->size(sum->disk, file, &bytes) == STATUS_OK)
        sum->bytes += bytes;
    sum->disk->close(sum->disk, file);
}

uint64_t replica_world_disk_bytes(struct replica_world *world, uint32_t node)
{
    struct sum sum = {.disk = world->nodes[node].disk};
    (void)sum.disk->list(sum.disk, add_file, &sum);
    return sum.bytes;
}

void replica_world_pause(struct replica_world *world, uint32_t node, uint64_t ms)
{
    uint64_t until = world->now + ms;
    if (until > world->nodes[node].paused_until)
        world->nodes[node].paused_until = until;
}

static int by_time(const void *left, const void *right)
{
    const struct world_event *a = left;
    const struct world_event *b = right;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

void replica_world_resume(struct replica_world *world, uint32_t number)
{
    struct world_node *node = &world->nodes[number];
    uint64_t until = node->paused_until;
    if (until <= world->now)
        return;
    node->paused_until = world->now;
    for (size_t i = 0; i < world->count; i++) {
        struct world_event *event = &world->heap[i];
        bool wires = event->kind >= WORLD_ACCEPT;
        if (event->at != until || (wires ? event->wire->ends[event->side].node : event->node) != number)
            continue;
        event->at = world->now;
        if (event->kind == WORLD_WAKE && event->life == node->life && node->wake_at == until)
            node->wake_at = world->now;
    }
    qsort(world->heap, world->count, sizeof *world->heap, by_time); /* what is sorted is a heap */
}

void replica_world_drift(struct replica_world *world, uint32_t number, int32_t ppm)
{
    struct world_node *node = &world->nodes[number];
    node->boot_base = world_time(node).boot_ms;
    node->boot_since = world->now;
    node->drift_ppm = ppm;
}

struct disk *replica_world_disk(struct replica_world *world, uint32_t node)
{
    return world->nodes[node].disk;
}

void replica_world_damaged(struct replica_world *world, uint32_t node)
{
    witness_damaged(world->witness, node);
}

void replica_world_lose(struct replica_world *world, struct replica_world_loss loss)
{
    world->loss = loss;
}

void replica_world_delay(struct replica_world *world, uint32_t delay_ms_max)
{
    world->options.delay_ms_max = delay_ms_max;
}

void replica_world_fail_disk(struct replica_world *world, uint32_t node, uint64_t steps)
{
    struct disk *disk = world->nodes[node].disk;
    sim_disk_crash_at(disk, sim_disk_operations(disk) + steps + 1);
}

void replica_world_wipe(struct replica_world *world, uint32_t node)
{
    CHECK(world->nodes[node].replica == NULL);
    sim_disk_wipe(world->nodes[node].disk);
    witness_damaged(world->witness, node);
}

void replica_world_copy_disk(struct replica_world *world, uint32_t from, uint32_t to)
{
    CHECK(world->nodes[to].replica == NULL);
    sim_disk_copy(world->nodes[to].disk, world->nodes[from].disk);
    witness_damaged(world->witness, to);
}

void replica_world_take_file(struct replica_world *world, uint32_t node, const struct replica_world *other,
                             uint32_t from, const char *name)
{
    CHECK(world->nodes[node].replica == NULL);
    sim_disk_copy_file(world->nodes[node].disk, other->nodes[from].disk, name);
    witness_damaged(world->witness, node);
}

void replica_world_skew(struct replica_world *world, uint32_t node, int64_t ms)
{
    world->nodes[node].skew = ms;
}
