/* sim/replica_threads.c - the snapshot thread and the transfer thread of a modelled node: jobs take time, are run whole at one
 * moment of it, and are known to be done at another. See sim/replica_world.h. */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/replica_world_private.h"
#include "sim/sim_disk.h"

static void submit(struct world_node *node, struct world_thread *thread, struct snapshot_job *job, uint32_t ms_max,
                   enum world_event_kind run_kind, enum world_event_kind done_kind)
{
    struct replica_world *world = node->world;
    CHECK(thread->count < WORLD_JOBS_MAX);
    thread->jobs[thread->count++] = job;
    uint64_t run =
        (thread->until > world->now ? thread->until : world->now) + prng_below(&world->prng, ms_max + 1u);
    thread->until = run + prng_below(&world->prng, ms_max + 1u);
    world_node_event(node, run_kind, run, 0);
    world_node_event(node, done_kind, thread->until, 0);
}

void world_env_snapshot(void *context, struct snapshot_job *job)
{
    struct world_node *node = context;
    submit(node, &node->snapshots, job, node->snapshot_ms_max, WORLD_SNAPSHOT_RUN, WORLD_SNAPSHOT_DONE);
}

void world_env_transfer(void *context, struct snapshot_job *job)
{
    struct world_node *node = context;
    submit(node, &node->transfers, job, node->snapshot_ms_max / 10, WORLD_TRANSFER_RUN, WORLD_TRANSFER_DONE);
}

/* To a reader that has none; it takes longer than the machine would. */
void world_env_view(void *context, struct view_job *job)
{
    struct world_node *node = context;
    uint32_t at = 0;
    while (node->readers[at].job != NULL)
        at++;
    CHECK(at < REPLICA_READERS);
    node->readers[at].job = job;
    world_node_event(node, WORLD_VIEW_DONE,
                     node->world->now + prng_below(&node->world->prng, 4 * node->apply_ms_max + 1u), at);
}

/* Not from inside the replica: a little later. */
void world_env_dial_bulk(void *context, node_id peer)
{
    struct world_node *node = context;
    world_node_event(node, WORLD_BULK, node->world->now + 1, (uint32_t)peer);
}

/* As for the log (replica_world.c): a pause may end early. If the machine died within this, so has the node. */
static void run(struct world_node *node, struct world_thread *thread)
{
    if (thread->ran == thread->count)
        return;
    snapshot_job_run(thread->jobs[thread->ran++], node->disk);
    node->dying |= sim_disk_crashed(node->disk);
}

static void done(struct world_node *node, struct world_thread *thread)
{
    if (thread->ran == 0)
        run(node, thread);
    struct snapshot_job *job = thread->jobs[0];
    thread->count--;
    thread->ran--;
    memmove(thread->jobs, thread->jobs + 1, thread->count * sizeof *thread->jobs);
    if (job->type == SNAPSHOT_JOB_PUBLISH && job->status == STATUS_OK) {
        node->world->taken++;
        world_trace_snapshot(node, "taken", job->file.index);
    }
    replica_snapshot_done(node->replica, job, world_time(node));
}

static void view_done(struct world_node *node, struct world_reader *reader)
{
    struct view_job *job = reader->job;
    if (reader->reader == NULL)
        reader->reader = reader_new(node->world->options.lua_bytes_max);
    view_job_run(job, reader->reader);
    reader->job = NULL;
    replica_view_done(node->replica, job, world_time(node));
}

void world_threads_event(struct world_node *node, const struct world_event *event)
{
    switch (event->kind) {
    case WORLD_SNAPSHOT_RUN:
        run(node, &node->snapshots);
        break;
    case WORLD_TRANSFER_RUN:
        run(node, &node->transfers);
        break;
    case WORLD_SNAPSHOT_DONE:
        done(node, &node->snapshots);
        break;
    case WORLD_TRANSFER_DONE:
        done(node, &node->transfers);
        break;
    case WORLD_VIEW_DONE:
        view_done(node, &node->readers[event->side]);
        break;
    default:
        world_wires_dial_bulk(node, event->side);
        break;
    }
}

static void drop(struct world_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        snapshot_job_free(thread->jobs[i]);
    *thread = (struct world_thread){0};
}

void world_threads_crash(struct world_node *node)
{
    drop(&node->snapshots);
    drop(&node->transfers);
    for (size_t i = 0; i < REPLICA_READERS; i++) {
        if (node->readers[i].job != NULL)
            view_job_free(node->readers[i].job);
        if (node->readers[i].reader != NULL)
            reader_free(node->readers[i].reader);
        node->readers[i] = (struct world_reader){0};
    }
    machine_thaw_all(node->machine);
}
