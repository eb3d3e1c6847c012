/* sim/core_world.c - see sim/core_world.h. */
#include "sim/core_world.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "base/prng.h"
#include "sim/core_checks.h"

enum { RUNS_MAX = 64, SENT_MAX = 64 };

enum event_kind { EVENT_WAKE, EVENT_MESSAGE, EVENT_WRITTEN, EVENT_FETCHED };

struct event {
    uint64_t at;
    uint64_t order; /* breaks ties: first made, first run */
    enum event_kind kind;
    uint32_t node;
    uint32_t life; /* of the node when it was made; 0: any */
    struct raft_message message;
    struct raft_run runs[RUNS_MAX];
    size_t runs_count;
    struct core_write write;
    struct core_snapshot snapshot;
};

struct node {
    struct core_node core;
    uint32_t life;
    uint64_t rate;          /* of its clock, in parts in a million of the world's */
    uint64_t written_until; /* writes are done in order */
    struct raft_message *held;
    size_t held_count, held_capacity;
    uint64_t read_id;
    raft_index read_floor[256]; /* by id modulo: what was committed when it began */
};

struct core_world {
    struct core_world_options options;
    struct prng prng;
    uint64_t now;
    uint64_t order;
    struct event **heap;
    size_t count, capacity;
    struct node nodes[CORE_NODES_MAX];
    bool cut[CORE_NODES_MAX][CORE_NODES_MAX];
    struct core_members members;
    struct core_checks *checks;
    uint64_t hash;
    uint64_t reads_answered;
    uint64_t snapshots_taken;
    char broken[256];
};

/* --- the heap -------------------------------------------------------------------------------------------------------------- */

static bool before(const struct event *left, const struct event *right)
{
    return left->at != right->at ? left->at < right->at : left->order < right->order;
}

static struct event *add_event(struct core_world *world, uint64_t at, enum event_kind kind, uint32_t node)
{
    struct event *event = mem_zalloc(1, sizeof *event);
    *event = (struct event){.at = at, .order = world->order++, .kind = kind, .node = node};
    if (world->count == world->capacity) {
        world->capacity = world->capacity * 2 + 64;
        world->heap = mem_realloc(world->heap, world->capacity * sizeof *world->heap);
    }
    size_t place = world->count++;
    while (place > 0 && before(event, world->heap[(place - 1) / 2])) {
        world->heap[place] = world->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    world->heap[place] = event;
    return event;
}

static struct event *take_event(struct core_world *world)
{
    struct event *first = world->heap[0];
    struct event *last = world->heap[--world->count];
    size_t place = 0;
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= world->count)
            break;
        if (child + 1 < world->count && before(world->heap[child + 1], world->heap[child]))
            child++;
        if (!before(world->heap[child], last))
            break;
        world->heap[place] = world->heap[child];
        place = child;
    }
    world->heap[place] = last;
    return first;
}

static void free_event(struct event *event)
{
    mem_free(event->write.terms);
    mem_free(event->snapshot.terms);
    mem_free(event);
}

/* --- clocks: each node has its own ---------------------------------------------------------------------------------------------- */

enum { MILLION = 1000000 };

static uint64_t clock_of(const struct core_world *world, uint32_t at)
{
    return world->now * world->nodes[at].rate / MILLION;
}

/* When it will show `time`, or more. */
static uint64_t world_time(const struct core_world *world, uint32_t at, uint64_t time)
{
    uint64_t rate = world->nodes[at].rate;
    return (time * MILLION + rate - 1) / rate;
}

/* --- carrying out effects ------------------------------------------------------------------------------------------------------- */

static void step(struct core_world *world, uint32_t at, struct raft_event *event,
                 const struct core_snapshot *snapshot);

static void take_write(struct core_world *world, uint32_t at, const struct core_snapshot *snapshot)
{
    struct node *node = &world->nodes[at];
    struct core_write write;
    if (!core_node_take_write(&node->core, snapshot, &write))
        return;
    uint64_t done = world->now + prng_between(&world->prng, 1, world->options.write_ms_max);
    node->written_until = done > node->written_until ? done : node->written_until;
    struct event *event = add_event(world, node->written_until, EVENT_WRITTEN, at);
    event->life = node->life;
    event->write = write;
}

static void put_on_wire(struct core_world *world, uint32_t at, const struct raft_message *message)
{
    struct node *node = &world->nodes[at];
    uint32_t to = (uint32_t)message->to - 1;
    core_checks_sent(world->checks, at, message);
    int copies = prng_chance(&world->prng, world->options.loss) ? 0 : 1;
    copies += prng_chance(&world->prng, world->options.duplication) ? 1 : 0;
    if (world->cut[at][to])
        copies = 0;
    for (int i = 0; i < copies; i++) {
        uint64_t arrives = world->now + prng_between(&world->prng, 1, world->options.delay_ms_max);
        struct event *event = add_event(world, arrives, EVENT_MESSAGE, to);
        event->message = *message;
        if (message->type == RAFT_APPEND_ENTRIES)
            event->runs_count = core_node_runs(&node->core, &event->message.append_entries, event->runs, RUNS_MAX);
    }
}

static void send_now(struct core_world *world, uint32_t at, struct raft_message message)
{
    bool wants = message.type == RAFT_APPEND_ENTRIES &&
                 message.append_entries.last_index > message.append_entries.prev_log_index;
    if (wants && message.append_entries.last_index - message.append_entries.prev_log_index > SENT_MAX)
        message.append_entries.last_index = message.append_entries.prev_log_index + SENT_MAX;
    put_on_wire(world, at, &message);
    if (!wants)
        return;
    struct raft_event event = {
        .type = RAFT_EVENT_SENT,
        .sent = {.peer = message.to,
                 .epoch = message.append_entries.epoch,
                 .last = message.append_entries.last_index,
                 .bytes =
                     (uint32_t)(message.append_entries.last_index - message.append_entries.prev_log_index) * 100}};
    step(world, at, &event, NULL);
}

static void hold(struct node *node, const struct raft_message *message)
{
    if (node->held_count == node->held_capacity) {
        node->held_capacity = node->held_capacity * 2 + 16;
        node->held = mem_realloc(node->held, node->held_capacity * sizeof *node->held);
    }
    node->held[node->held_count++] = *message;
}

static void take_reads(struct core_world *world, uint32_t at)
{
    struct node *node = &world->nodes[at];
    const struct raft_effects *effects = &node->core.effects;
    const uint64_t id = effects->read_leased ? node->read_id : effects->reads_ready_id;
    if (id == 0)
        return;
    world->reads_answered++;
    core_checks_read(world->checks, at, node->read_floor[id % 256], effects->read_index);
}

static void take_effects(struct core_world *world, uint32_t at, const struct core_snapshot *snapshot)
{
    struct node *node = &world->nodes[at];
    take_write(world, at, snapshot);
    take_reads(world, at);
    core_checks_stepped(world->checks, at);
    size_t count = node->core.effects.messages_count;
    struct raft_message messages[RAFT_MESSAGES_MAX];
    memcpy(messages, node->core.effects.messages, count * sizeof messages[0]);
    if (node->core.effects.wake_at != UINT64_MAX) {
        uint64_t wake = world_time(world, at, node->core.effects.wake_at);
        add_event(world, wake > world->now ? wake : world->now + 1, EVENT_WAKE, at)->life = node->life;
    }
    for (size_t i = 0; i < count; i++) {
        if (messages[i].after_write > node->core.persisted && !world->options.ack_before_durable)
            hold(node, &messages[i]);
        else
            send_now(world, at, messages[i]);
    }
}

static void step(struct core_world *world, uint32_t at, struct raft_event *event,
                 const struct core_snapshot *snapshot)
{
    struct node *node = &world->nodes[at];
    struct raft_digest before_step;
    event->now = clock_of(world, at);
    raft_get_digest(node->core.raft, &before_step);
    raft_step(node->core.raft, event, &node->core.effects);
    const char *wrong = raft_invariants(node->core.raft, &before_step);
    if (wrong != NULL)
        core_checks_break(world->checks, at, wrong, 0);
    world->snapshots_taken += node->core.effects.snapshot_taken ? 1 : 0;
    const uint64_t parts[6] = {
        world->hash, world->now, at, node->core.effects.term, node->core.effects.commit_index, node->core.base};
    world->hash = hash64(parts, sizeof parts);
    take_effects(world, at, snapshot);
}

/* --- running ---------------------------------------------------------------------------------------------------------------------- */

static void written(struct core_world *world, const struct event *done)
{
    struct node *node = &world->nodes[done->node];
    core_node_written(&node->core, &done->write);
    node->core.persisted = done->write.write.number;
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persisted = {.write_number = node->core.persisted}};
    step(world, done->node, &event, NULL);
    size_t kept = 0;
    size_t count = node->held_count;
    for (size_t i = 0; i < count; i++) {
        struct raft_message message = node->held[i];
        if (message.after_write > node->core.persisted)
            node->held[kept++] = message;
        else
            put_on_wire(world, done->node, &message); /* none of them wants entries */
    }
    node->held_count = kept;
}

/* An offer came: the snapshot, or the newest that the leader has by then, arrives much later, or never. */
static void fetch(struct core_world *world, uint32_t at, const struct raft_message *message)
{
    struct node *node = &world->nodes[at];
    const struct core_node *leader = &world->nodes[message->from - 1].core;
    raft_index index = message->install_snapshot.last_included_index;
    bool newer = leader->disk_snapshot > index && prng_chance(&world->prng, 500000);
    if (prng_chance(&world->prng, world->options.fetch_loss))
        return;
    struct event *event = add_event(world, world->now + prng_between(&world->prng, 1, world->options.fetch_ms_max),
                                    EVENT_FETCHED, at);
    event->life = node->life;
    event->snapshot = core_node_snapshot(leader, newer ? leader->disk_snapshot : index);
    event->snapshot.terms[index] = message->install_snapshot.last_included_term;
}

static void fetched(struct core_world *world, const struct event *event)
{
    const struct raft_configuration *configuration =
        core_members_as_of(&world->members, event->snapshot.terms, event->snapshot.index);
    struct raft_event raft = {.type = RAFT_EVENT_SNAPSHOT_READY,
                              .snapshot_ready = {.index = event->snapshot.index,
                                                 .term = event->snapshot.terms[event->snapshot.index],
                                                 .configuration = configuration}};
    step(world, event->node, &raft, &event->snapshot);
}

static void run_event(struct core_world *world, const struct event *event)
{
    struct node *node = &world->nodes[event->node];
    struct raft_event raft = {.type = RAFT_EVENT_TIMEOUT};
    if (node->core.raft == NULL || (event->life != 0 && event->life != node->life))
        return;
    if (event->kind == EVENT_WRITTEN) {
        written(world, event);
        return;
    }
    if (event->kind == EVENT_FETCHED) {
        fetched(world, event);
        return;
    }
    struct raft_configuration *configurations = NULL;
    if (event->kind == EVENT_MESSAGE) {
        if (event->message.type == RAFT_APPEND_ENTRIES)
            configurations =
                core_members_of_runs(&world->members, event->runs, event->runs_count,
                                     event->message.append_entries.last_index, &raft.message.configurations_count);
        raft.message.configurations = configurations;
        raft.type = RAFT_EVENT_MESSAGE;
        raft.message.message = &event->message;
        raft.message.runs = event->runs;
        raft.message.runs_count = event->runs_count;
    } else if (clock_of(world, event->node) < node->core.effects.wake_at) {
        return; /* an older wake-up */
    }
    step(world, event->node, &raft, NULL);
    mem_free(configurations);
    if (event->kind == EVENT_MESSAGE && node->core.effects.snapshot_offered)
        fetch(world, event->node, &event->message);
}

const char *core_world_run(struct core_world *world, uint64_t ms)
{
    uint64_t until = world->now + ms;
    while (core_checks_broken(world->checks) == NULL && world->count > 0 && world->heap[0]->at <= until) {
        struct event *event = take_event(world);
        world->now = event->at > world->now ? event->at : world->now;
        run_event(world, event);
        free_event(event);
    }
    world->now = until;
    const char *broken = core_checks_broken(world->checks);
    if (broken == NULL)
        return NULL;
    snprintf(world->broken, sizeof world->broken, "seed %llu, %llu ms, %s", (unsigned long long)world->options.seed,
             (unsigned long long)world->now, broken);
    return world->broken;
}

bool core_world_propose(struct core_world *world, uint32_t at, uint64_t count)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL || node->core.last + count >= CORE_LOG_MAX)
        return false;
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE, .propose = {.count = count}};
    step(world, at, &event, NULL);
    return !node->core.effects.proposal_refused;
}

void core_world_read(struct core_world *world, uint32_t at)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL)
        return;
    node->read_floor[++node->read_id % 256] = core_checks_committed(world->checks);
    struct raft_event event = {.type = RAFT_EVENT_READ,
                               .read = {.id = node->read_id, .lease = world->options.lease_drift_ms > 0}};
    step(world, at, &event, NULL);
}

void core_world_compact(struct core_world *world, uint32_t at, uint64_t keep)
{
    struct node *node = &world->nodes[at];
    struct raft_status status;
    if (node->core.raft == NULL)
        return;
    raft_get_status(node->core.raft, &status);
    raft_index index = status.commit_index < status.durable_index ? status.commit_index : status.durable_index;
    raft_index base = index > keep ? index - keep : 0;
    core_node_compact(&node->core, index, base);
    struct raft_event event = {.type = RAFT_EVENT_COMPACTED, .compacted = {.index = base}};
    step(world, at, &event, NULL);
}

enum raft_change core_world_change(struct core_world *world, uint32_t at,
                                   const struct raft_configuration *configuration, bool force)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL || node->core.last + 4 >= CORE_LOG_MAX)
        return RAFT_CHANGE_NOT_LEADER;
    struct raft_event event = {.type = RAFT_EVENT_CHANGE,
                               .change = {.configuration = configuration,
                                          .expected_id = node->core.effects.configuration_id,
                                          .force = force}};
    step(world, at, &event, NULL);
    return node->core.effects.change;
}

enum raft_change core_world_abort_change(struct core_world *world, uint32_t at)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL)
        return RAFT_CHANGE_NOT_LEADER;
    struct raft_event event = {.type = RAFT_EVENT_ABORT_CHANGE};
    step(world, at, &event, NULL);
    return node->core.effects.change;
}

enum raft_transfer core_world_transfer(struct core_world *world, uint32_t at, node_id to)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL)
        return RAFT_TRANSFER_REFUSED;
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .transfer = {.to = to}};
    step(world, at, &event, NULL);
    return node->core.effects.transfer;
}

void core_world_configuration(const struct core_world *world, uint32_t at, struct raft_configuration *configuration)
{
    CHECK(world->nodes[at].core.raft != NULL);
    raft_get_configuration(world->nodes[at].core.raft, configuration);
}

void core_world_crash(struct core_world *world, uint32_t at)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft == NULL)
        return;
    core_node_crash(&node->core);
    node->life++;
    node->held_count = 0;
}

static void start(struct core_world *world, uint32_t at, bool again)
{
    struct node *node = &world->nodes[at];
    if (node->core.raft != NULL)
        return;
    struct raft_options options = {.id = at + 1,
                                   .seed = prng_next(&world->prng),
                                   .election_timeout_ms = world->options.election_ms,
                                   .heartbeat_ms = world->options.heartbeat_ms,
                                   .window_messages = 8,
                                   .window_bytes = 100000,
                                   .message_bytes_max = 10000,
                                   .uncommitted_entries_max = 1000,
                                   .lease_drift_ms = world->options.lease_drift_ms,
                                   .follow_priority = world->options.follow_priority};
    if (world->options.lease_drift_ms > 0 && again)
        options.start_wait_ms = world->options.election_ms + world->options.lease_drift_ms;
    if (world->options.forget_vote)
        node->core.disk_vote = 0;
    node->written_until = world->now;
    node->read_id = 0;
    core_node_start(&node->core, &options, clock_of(world, at), node->core.disk_last > 0 ? 1 : 0);
    core_checks_started(world->checks, at);
    take_effects(world, at, NULL);
}

void core_world_start(struct core_world *world, uint32_t at)
{
    start(world, at, true);
}

bool core_world_is_up(const struct core_world *world, uint32_t at)
{
    return world->nodes[at].core.raft != NULL;
}

void core_world_cut(struct core_world *world, uint32_t from, uint32_t to, bool cut)
{
    world->cut[from][to] = cut;
}

void core_world_heal(struct core_world *world)
{
    memset(world->cut, 0, sizeof world->cut);
    world->options.loss = 0;
    world->options.duplication = 0;
    world->options.fetch_loss = 0;
    uint32_t bearable = world->options.election_ms / 10;
    if (world->options.delay_ms_max > bearable)
        world->options.delay_ms_max = bearable;
    if (world->options.write_ms_max > bearable)
        world->options.write_ms_max = bearable;
    for (uint32_t i = 0; i < world->options.nodes; i++)
        core_world_start(world, i);
}

uint32_t core_world_leader(const struct core_world *world)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        const struct raft_effects *effects = &world->nodes[i].core.effects;
        if (world->nodes[i].core.raft != NULL && effects->role == RAFT_LEADER &&
            (best == UINT32_MAX || effects->term > world->nodes[best].core.effects.term))
            best = i;
    }
    return best;
}

void core_world_status(const struct core_world *world, uint32_t at, struct raft_status *status)
{
    CHECK(world->nodes[at].core.raft != NULL);
    raft_get_status(world->nodes[at].core.raft, status);
}

uint64_t core_world_now(const struct core_world *world)
{
    return world->now;
}

uint64_t core_world_snapshots_taken(const struct core_world *world)
{
    return world->snapshots_taken;
}

uint64_t core_world_reads_answered(const struct core_world *world)
{
    return world->reads_answered;
}

uint64_t core_world_hash(const struct core_world *world)
{
    return world->hash;
}

struct core_world *core_world_new(const struct core_world_options *options)
{
    CHECK(options->nodes >= 1 && options->nodes <= CORE_NODES_MAX);
    CHECK(options->election_ms >= 10);
    CHECK(options->drift < MILLION / 2);
    struct core_world *world = mem_zalloc(1, sizeof *world);
    world->options = *options;
    world->now = 1;
    prng_seed(&world->prng, options->seed);
    const struct core_node *nodes[CORE_NODES_MAX];
    uint32_t voters = options->voters > 0 ? options->voters : options->nodes;
    struct raft_configuration formed = core_members_all(voters);
    core_members_init(&world->members, &formed);
    for (uint32_t i = 0; i < options->nodes; i++) {
        struct node *node = &world->nodes[i];
        core_node_init(&node->core, &world->members);
        if (i < voters) {
            node->core.disk_terms[1] = 1; /* the set that the cluster was formed with */
            node->core.disk_last = 1;
            node->core.disk_term = 1;
        }
        node->life = 1;
        node->rate = MILLION - options->drift + prng_below(&world->prng, 2 * (uint64_t)options->drift + 1);
        nodes[i] = &node->core;
    }
    world->checks = core_checks_new(nodes, options->nodes, false);
    for (uint32_t i = 0; i < options->nodes; i++)
        start(world, i, false);
    return world;
}

void core_world_free(struct core_world *world)
{
    while (world->count > 0)
        free_event(take_event(world));
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        struct node *node = &world->nodes[i];
        core_node_close(&node->core);
        mem_free(node->held);
    }
    core_checks_free(world->checks);
    core_members_close(&world->members);
    mem_free(world->heap);
    mem_free(world);
}
