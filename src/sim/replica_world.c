/* sim/replica_world.c - see sim/replica_world.h. The wires are in replica_wires.c. */
#include "sim/replica_world.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "replica/restore.h"
#include "sim/sim_disk.h"
#include "sim/replica_world_private.h"
#include "wire/pack.h"

enum {
    WALL_START_MS_LOW = 1000,
    DIAL_MS = 20,
    COMPARE_EVENTS = 1000,
    SEGMENT_BYTES = 256 * 1024,
    MILLION = 1000000
};
static const uint64_t wall_start_ms = 1700000000000u;

void world_node_event(struct world_node *node, enum world_event_kind kind, uint64_t at, uint32_t side)
{
    world_event_add(
        node->world,
        (struct world_event){.at = at, .kind = kind, .node = node->number, .life = node->life, .side = side});
}

static void add_node_event(struct world_node *node, enum world_event_kind kind, uint64_t at)
{
    world_node_event(node, kind, at, 0);
}

/* --- what a replica asks for ------------------------------------------------------------------------------------------------ */

struct replica_time world_time(const struct world_node *node)
{
    uint64_t since = node->world->now - node->boot_since;
    int64_t drift = (int64_t)since * node->drift_ppm / MILLION;
    return (struct replica_time){.boot_ms = node->boot_base + since + (uint64_t)drift,
                                 .wall_ms = wall_start_ms + node->world->now + (uint64_t)node->skew};
}

void world_break(struct replica_world *world, const char *what, uint64_t a, uint64_t b)
{
    witness_break(world->witness, what, a, b);
}

static void env_log(void *context, struct log_job *job)
{
    struct world_node *node = context;
    struct replica_world *world = node->world;
    CHECK(node->log_count < WORLD_JOBS_MAX);
    node->log_jobs[node->log_count++] = job;
    witness_submitted(world->witness, node->number, job);
    world_trace_log_job(node, job, false);
    uint64_t begin = node->log_until > world->now ? node->log_until : world->now;
    if (node->hang_until > begin)
        begin = node->hang_until;
    uint64_t run = begin + prng_below(&world->prng, node->write_ms_max + 1u);
    node->log_until = run + prng_below(&world->prng, node->write_ms_max + 1u);
    add_node_event(node, WORLD_LOG_RUN, run);
    add_node_event(node, WORLD_LOG_DONE, node->log_until);
}

static void env_apply(void *context, struct machine_job *job)
{
    struct world_node *node = context;
    struct replica_world *world = node->world;
    CHECK(node->machine_count < WORLD_JOBS_MAX);
    node->machine_jobs[node->machine_count++] = job;
    uint64_t begin = node->machine_until > world->now ? node->machine_until : world->now;
    node->machine_until = begin + prng_below(&world->prng, node->apply_ms_max + 1u);
    add_node_event(node, WORLD_MACHINE_DONE, node->machine_until);
}

static void env_reply(void *context, uint64_t client, const struct replica_reply *reply)
{
    struct world_node *node = context;
    struct replica_world *world = node->world;
    CHECK(client < world->requests_count);
    struct world_request *request = &world->requests[client];
    if (request->node != node->number || request->life != node->life)
        world_break(world, "a reply to somebody else's request", client, node->number);
    if (++request->reply.replies > 1)
        world_break(world, "a request has two replies", client, node->number);
    request->reply.ok = reply->ok;
    request->reply.definite = reply->definite;
    request->reply.index = reply->index;
    request->reply.at = world->now;
    buffer_append(&request->value, reply->value.data, reply->value.size);
    world_trace_reply(node, client, reply);
    world_hash_in(world, client * 4 + (reply->ok ? 2u : 0u) + (reply->definite ? 1u : 0u));
}

static void env_fatal(void *context, int exit_code, const char *sentence)
{
    struct world_node *node = context;
    node->fatal_code = exit_code;
    snprintf(node->fatal, sizeof node->fatal, "%s", sentence);
    node->dying = true;
}

void world_hash_in(struct replica_world *world, uint64_t value)
{
    const uint64_t both[2] = {world->hash, value};
    world->hash = hash64(both, sizeof both);
}

/* --- lives ---------------------------------------------------------------------------------------------------------------------- */

static bool refuse(struct world_node *node, int code, const struct buffer *why)
{
    node->fatal_code = code;
    snprintf(node->fatal, sizeof node->fatal, "%.*s", (int)(why->size < 900 ? why->size : 900),
             (const char *)why->data);
    return false;
}

/* As the node does it: the bundles, then the identity, durable before a word is said. */
static bool open_identity(struct world_node *node, struct identity *identity, struct buffer *bundles,
                          struct buffer *why)
{
    uint64_t code_hash = hash64(node->bundles.data, node->bundles.size);
    struct hash128 file;
    enum status status = identity_load(node->disk, identity, why);
    if (status == STATUS_NOT_FOUND && node->line[0] == 0) {
        buffer_append(why, "it was not let in yet", 21);
        return refuse(node, 78, why);
    }
    if (status == STATUS_OK && identity->joined && identity->cluster_id == 0) {
        buffer_append(why, "it was not let in yet", 21);
        return refuse(node, 78, why);
    }
    if (status == STATUS_NOT_FOUND) {
        if (formation_identity(node->id, node->line, code_hash, prng_next(&node->world->prng), identity, why) !=
            STATUS_OK)
            return refuse(node, 78, why);
        status = restore_read_mark(node->disk, &file, why);
        const bool restored = status == STATUS_OK;
        if (!restored && status != STATUS_NOT_FOUND)
            return refuse(node, 1, why);
        identity->restored = restored ? formation_restored(file) : 0;
        identity->code_hash = restored ? 0 : code_hash;
        if ((!restored &&
             storage_put_file(node->disk, REPLICA_BUNDLES_FILE, buffer_slice(&node->bundles)) != STATUS_OK) ||
            identity_save(node->disk, identity) != STATUS_OK) {
            buffer_append(why, "the disk takes no writes", 24);
            return refuse(node, 1, why);
        }
    } else if (status != STATUS_OK || formation_check(identity, node->id, node->line[0] != 0 ? node->line : NULL,
                                                      code_hash, why) != STATUS_OK) {
        return refuse(node, 78, why);
    }
    status = storage_get_file(node->disk, REPLICA_BUNDLES_FILE, bundles);
    const char *text = status == STATUS_IO ? node->disk->error(node->disk) : REPLICA_BUNDLES_DAMAGED;
    if (status == STATUS_OK || status == STATUS_NOT_FOUND)
        return true;
    buffer_append(why, text, strlen(text));
    return refuse(node, status == STATUS_IO ? 1 : 78, why);
}

static struct machine_options machine_options(const struct replica_world_options *options)
{
    return (struct machine_options){.lua_bytes_max = options->lua_bytes_max, .invariants = options->invariants};
}

static void make_replica(struct world_node *node, const struct identity *identity, const struct buffer *bundles,
                         const struct replica_recovered *recovered)
{
    const struct replica_world_options *options = &node->world->options;
    const struct replica_env env = {.context = node,
                                    .send = world_env_send,
                                    .close = world_env_close,
                                    .log = env_log,
                                    .apply = env_apply,
                                    .snapshot = world_env_snapshot,
                                    .transfer = world_env_transfer,
                                    .view = world_env_view,
                                    .dial_bulk = world_env_dial_bulk,
                                    .reply = env_reply,
                                    .fatal = env_fatal};
    char address[REPLICA_WORLD_ADDRESS_BYTES];
    replica_world_address(node->number, address);
    const struct replica_options how = {.seed = prng_next(&node->world->prng),
                                        .election_timeout_ms = options->election_ms,
                                        .heartbeat_ms = options->heartbeat_ms,
                                        .address = address,
                                        .identity = *identity,
                                        .bundles = buffer_slice(bundles),
                                        .fingerprint = node->runtime + 1,
                                        .cache_bytes = options->cache_bytes,
                                        .events_bytes = options->events_bytes,
                                        .snapshots = options->snapshots,
                                        .machine = machine_options(options),
                                        .scrub_rate = options->scrub_rate,
                                        .recovered = recovered};
    node->machine = recovered->machine;
    node->replica = replica_new(&how, &env, node->storage);
    node->boot_base = 5000 * (node->number + 1) + node->world->now;
    node->boot_since = node->world->now;
    node->log_until = node->machine_until = 0;
    node->wake_at = UINT64_MAX;
    node->dying = node->stopping = false;
}

/* The log, and the newest snapshot before it. */
static bool open_state(struct world_node *node, struct replica_recovered *recovered, struct buffer *why)
{
    const struct replica_world_options *options = &node->world->options;
    const struct machine_options machine = machine_options(options);
    const struct storage_options how = {.segment_bytes =
                                            options->segment_bytes > 0 ? options->segment_bytes : SEGMENT_BYTES,
                                        .seed = prng_next(&node->world->prng)};
    if (storage_open(node->disk, &how, &node->storage, why) != STATUS_OK)
        return refuse(node, 78, why);
    struct snapshot_progress progress = {0};
    if (replica_recover(node->disk, node->storage, &machine, &progress, recovered, why) == STATUS_OK)
        return true;
    storage_close(node->storage);
    node->storage = NULL;
    return refuse(node, 78, why);
}

bool replica_world_start(struct replica_world *world, uint32_t number)
{
    struct world_node *node = &world->nodes[number];
    CHECK(node->replica == NULL);
    struct identity identity;
    struct buffer bundles = {0};
    struct buffer why = {0};
    struct replica_recovered recovered = {0};
    node->life++;
    node->fatal[0] = 0;
    node->fatal_code = 0;
    bool started = open_identity(node, &identity, &bundles, &why);
    started = started && open_state(node, &recovered, &why);
    world_trace_start(node, started);
    if (started) {
        witness_started(world->witness, number, node->storage, &recovered);
        make_replica(node, &identity, &bundles, &recovered);
        replica_start(node->replica, world_time(node));
        add_node_event(node, WORLD_DIAL, world->now);
        world_after(node);
    } else {
        sim_disk_restart(node->disk, prng_next(&world->prng));
    }
    buffer_close(&bundles);
    buffer_close(&why);
    replica_recovered_close(&recovered);
    return node->replica != NULL;
}

static void end_requests(struct world_node *node)
{
    struct replica_world *world = node->world;
    for (size_t i = 0; i < world->requests_count; i++) {
        struct world_request *request = &world->requests[i];
        if (request->node == node->number && request->life == node->life && request->reply.replies == 0)
            request->reply.node_died = true;
    }
}

void replica_world_crash(struct replica_world *world, uint32_t number)
{
    struct world_node *node = &world->nodes[number];
    if (node->replica == NULL)
        return;
    world_trace_end(node);
    end_requests(node);
    witness_ended(world->witness, number);
    world_wires_crash(node);
    world_threads_crash(node);
    for (size_t i = 0; i < node->log_count; i++)
        log_job_free(node->log_jobs[i]);
    for (size_t i = 0; i < node->machine_count; i++)
        machine_job_free(node->machine_jobs[i]);
    node->log_count = node->log_ran = node->machine_count = 0;
    replica_abandon(node->replica);
    node->replica = NULL;
    machine_free(node->machine);
    node->machine = NULL;
    sim_disk_crash(node->disk);
    storage_close(node->storage);
    node->storage = NULL;
    sim_disk_restart(node->disk, prng_next(&world->prng));
    node->life++;
    node->paused_until = 0;
}

void replica_world_stop(struct replica_world *world, uint32_t number)
{
    struct world_node *node = &world->nodes[number];
    CHECK(node->replica != NULL);
    node->stopping = true;
    if (world_tells(node, "stop"))
        transcript_end(&world->transcript);
    replica_stop(node->replica, world_time(node));
    world_after(node);
}

/* When the node's boot clock shows this; the next millisecond if it has. */
static uint64_t when(const struct world_node *node, uint64_t boot_ms)
{
    uint64_t soonest = node->world->now + 1;
    if (boot_ms <= node->boot_base)
        return soonest;
    uint64_t after = (boot_ms - node->boot_base) * MILLION;
    uint64_t rate = (uint64_t)(MILLION + node->drift_ppm);
    uint64_t at = node->boot_since + (after + rate - 1) / rate;
    return at < soonest ? soonest : at;
}

/* After anything that touched a node: its turn, its next wake-up, its end. */
void world_after(struct world_node *node)
{
    if (node->replica == NULL)
        return;
    if (!node->dying)
        replica_turn(node->replica, world_time(node));
    witness_looked(node->world->witness, node->number, replica_raft(node->replica));
    world_trace_state(node);
    world_wires_close(node);
    if (node->dying || (node->stopping && replica_stopped(node->replica))) {
        replica_world_crash(node->world, node->number);
        return;
    }
    uint64_t at = replica_wake_at(node->replica);
    if (at != UINT64_MAX)
        at = when(node, at);
    if (at == UINT64_MAX || at >= node->wake_at)
        return;
    node->wake_at = at;
    add_node_event(node, WORLD_WAKE, at);
}

/* --- running ----------------------------------------------------------------------------------------------------------------------- */

/* A pause that ends early lets what comes after it overtake what it put off: then a job is run when it is to be done. */
static void log_run(struct world_node *node)
{
    if (node->log_ran == node->log_count)
        return;
    struct log_job *job = node->log_jobs[node->log_ran++];
    log_job_run(job, node->storage, node->disk);
    witness_written(node->world->witness, node->number, job);
    world_trace_log_job(node, job, true);
}

static void log_done(struct world_node *node)
{
    if (node->log_ran == 0)
        log_run(node);
    struct log_job *job = node->log_jobs[0];
    node->log_count--;
    node->log_ran--;
    memmove(node->log_jobs, node->log_jobs + 1, node->log_count * sizeof *node->log_jobs);
    replica_log_done(node->replica, job, world_time(node));
}

static void keep_log(struct replica_world *world, const struct machine_job *job)
{
    struct slice rest = job->records;
    struct entry entry;
    for (; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        if (entry.index != world->log_last + 1 || entry.index > job->applied)
            continue;
        buffer_append(&world->log, rest.data, entry.size);
        world->log_last = entry.index;
    }
}

/* What was applied: the same everywhere, and as the modules want it. */
static void look_at_applied(struct world_node *node, const struct machine_job *job)
{
    struct replica_world *world = node->world;
    raft_index index = 0;
    witness_applied(world->witness, node->number, &job->status);
    witness_told(world->witness, buffer_slice(&job->results.events));
    world_trace_applied(node, job);
    world_hash_in(world, job->status.digest.lo);
    if (world->options.keep_log)
        keep_log(world, job);
    const char *broken = machine_broken(node->machine, &index);
    char what[500];
    if (world->options.invariants && job->status.parked_at != 0) {
        snprintf(what, sizeof what, "the machine of node %u is parked at entry %llu: %s", node->number + 1,
                 (unsigned long long)job->status.parked_at, job->status.parked_why);
        witness_break_text(world->witness, what);
    }
    if (broken == NULL)
        return;
    snprintf(what, sizeof what, "%s (node %u, after entry %llu)", broken, node->number + 1,
             (unsigned long long)index);
    witness_break_text(world->witness, what);
}

static void machine_done(struct world_node *node)
{
    struct machine_job *job = node->machine_jobs[0];
    node->machine_count--;
    memmove(node->machine_jobs, node->machine_jobs + 1, node->machine_count * sizeof *node->machine_jobs);
    machine_job_run(job, node->machine);
    if (job->type == MACHINE_JOB_SWAP) {
        node->world->installed++;
        witness_installed(node->world->witness, node->number, &job->status);
        world_trace_snapshot(node, "installed", job->status.applied);
    }
    if (job->type == MACHINE_JOB_PARK)
        witness_distrusts(node->world->witness, node->number);
    if (job->type == MACHINE_JOB_APPLY) {
        look_at_applied(node, job);
        node->world->told_events += job->results.events.size > 0;
    }
    replica_machine_done(node->replica, job, world_time(node));
}

static void run_event(struct replica_world *world, const struct world_event *event)
{
    if (event->kind >= WORLD_ACCEPT) {
        world_wires_event(world, event);
        return;
    }
    struct world_node *node = &world->nodes[event->node];
    if (node->life != event->life || node->replica == NULL)
        return;
    if (node->paused_until > world->now) {
        struct world_event later = *event;
        later.at = node->paused_until;
        if (later.kind == WORLD_WAKE && event->at == node->wake_at)
            node->wake_at = later.at;
        world_event_put(world, later); /* in its old order: what was to come after it still does */
        return;
    }
    switch (event->kind) {
    case WORLD_WAKE:
        if (event->at == node->wake_at)
            node->wake_at = UINT64_MAX;
        break;
    case WORLD_DIAL:
        world_wires_dial(node);
        add_node_event(node, WORLD_DIAL, world->now + DIAL_MS);
        break;
    case WORLD_LOG_RUN:
        log_run(node);
        break;
    case WORLD_LOG_DONE:
        log_done(node);
        break;
    case WORLD_MACHINE_DONE:
        machine_done(node);
        break;
    default:
        world_threads_event(node, event);
        break;
    }
    world_after(node);
}

/* From time to time: the whole log, and what follows what. */
static void compare_node(struct world_node *node)
{
    struct replica_world_status status;
    witness_compare_all(node->world->witness, node->number, replica_raft(node->replica));
    replica_world_status(node->world, node->number, &status);
    if (status.raft && !status.installing && (status.base > status.snapshot || status.snapshot > status.applied))
        world_break(node->world, "a log begins after its snapshot, or this after what is applied: base, snapshot",
                    status.base, status.snapshot);
    if (status.raft && (status.applied > status.commit || status.commit > status.last))
        world_break(node->world, "applied, commit and last are out of order: applied, commit", status.applied,
                    status.commit);
}

static void compare_all(struct replica_world *world)
{
    for (uint32_t i = 0; i < world->options.nodes; i++)
        if (world->nodes[i].replica != NULL)
            compare_node(&world->nodes[i]);
    if (transcript_begin(&world->transcript, world->now, 0, "check")) {
        transcript_number(&world->transcript, "events", world->events);
        transcript_end(&world->transcript);
    }
}

static void keep_broken(struct replica_world *world, const char *what)
{
    snprintf(world->broken, sizeof world->broken, "at %llu ms: %s", (unsigned long long)world->now, what);
    if (transcript_begin(&world->transcript, world->now, 0, "broken")) {
        transcript_text(&world->transcript, "what", what);
        transcript_end(&world->transcript);
    }
}

const char *replica_world_run(struct replica_world *world, uint64_t ms)
{
    uint64_t until = world->now + ms;
    while (world->count > 0 && world->heap[0].at <= until && witness_broken(world->witness) == NULL) {
        struct world_event event = world_event_take(world);
        world->now = event.at;
        world_hash_in(world, event.at << 8 | (uint64_t)event.kind << 4 | event.node);
        run_event(world, &event);
        if (++world->events % COMPARE_EVENTS == 0)
            compare_all(world);
    }
    const char *broken = witness_broken(world->witness);
    if (broken == NULL)
        world->now = until;
    else if (world->broken[0] == 0)
        keep_broken(world, broken);
    return broken == NULL ? NULL : world->broken;
}

/* --- making it ----------------------------------------------------------------------------------------------------------------------- */

struct replica_world *replica_world_new(const struct replica_world_options *options, const char *line,
                                        struct slice bundles)
{
    CHECK(options->nodes >= 1);
    CHECK(options->nodes <= REPLICA_WORLD_NODES_MAX);
    struct replica_world *world = mem_zalloc(1, sizeof *world);
    world->options = *options;
    world->now = WALL_START_MS_LOW;
    prng_seed(&world->prng, options->seed);
    world->witness = witness_new(options->nodes);
    for (uint32_t i = 0; i < options->nodes; i++) {
        struct world_node *node = &world->nodes[i];
        node->world = world;
        node->number = i;
        node->disk = sim_disk_new(prng_next(&world->prng));
        node->write_ms_max = options->write_ms_max;
        node->apply_ms_max = options->apply_ms_max;
        node->snapshot_ms_max = options->snapshot_ms_max;
        replica_world_flags(world, i, i + 1, line, bundles);
    }
    return world;
}

void replica_world_flags(struct replica_world *world, uint32_t number, uint64_t id, const char *line,
                         struct slice bundles)
{
    struct world_node *node = &world->nodes[number];
    node->id = id;
    witness_named(world->witness, number, id);
    snprintf(node->line, sizeof node->line, "%s", line);
    buffer_clear(&node->bundles);
    buffer_append(&node->bundles, bundles.data, bundles.size);
}

void replica_world_runtime(struct replica_world *world, uint32_t number, uint64_t version)
{
    world->nodes[number].runtime = version;
}

void replica_world_free(struct replica_world *world)
{
    transcript_close(&world->transcript);
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        replica_world_crash(world, i);
        world->nodes[i].disk->free(world->nodes[i].disk);
        buffer_close(&world->nodes[i].bundles);
    }
    world_wires_free(world);
    for (size_t i = 0; i < world->requests_count; i++)
        buffer_close(&world->requests[i].value);
    mem_free(world->requests);
    mem_free(world->watches);
    buffer_close(&world->log);
    witness_free(world->witness);
    mem_free(world->heap);
    mem_free(world);
}
