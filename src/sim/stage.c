/* sim/stage.c - see sim/stage.h. */
#include "sim/stage.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "sim/stage_private.h"

struct actor *stage_actor(struct stage *stage, node_id id)
{
    CHECK(id >= 1 && id <= stage->options.nodes);
    return &stage->actors[id - 1];
}

const struct core_node *stage_node(const struct stage *stage, node_id id)
{
    CHECK(id >= 1 && id <= stage->options.nodes);
    return &stage->actors[id - 1].core;
}

static bool is_up(const struct stage *stage, node_id id)
{
    return stage_node(stage, id)->raft != NULL;
}

uint32_t stage_nodes(const struct stage *stage)
{
    return stage->options.nodes;
}

/* --- the narrative ---------------------------------------------------------------------------------------------------------- */

static void tell(void *context, const char *text)
{
    const struct trace_context *where = context;
    char line[400];
    int size = snprintf(line, sizeof line, "%llu %s\n", (unsigned long long)where->id, text);
    buffer_append(&where->stage->trace, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
}

const char *stage_trace(struct stage *stage)
{
    struct buffer told = stage->trace;
    stage->trace = stage->told;
    buffer_clear(&stage->trace);
    stage->told = told;
    buffer_append_byte(&stage->told, 0);
    return (const char *)stage->told.data;
}

/* --- queues ------------------------------------------------------------------------------------------------------------------ */

static struct queue *way(struct stage *stage, node_id from, node_id to)
{
    CHECK(from >= 1 && from <= stage->options.nodes);
    CHECK(to <= stage->options.nodes && to != from);
    return &stage->ways[from][to];
}

static void push(struct queue *queue, const struct stage_message *message)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity * 2 + 16;
        queue->messages = mem_realloc(queue->messages, queue->capacity * sizeof *queue->messages);
    }
    queue->messages[queue->count++] = *message;
}

/* The message at `place`, which is in the queue no more. */
static struct stage_message pull(struct queue *queue, size_t place)
{
    CHECK(place < queue->count);
    struct stage_message message = queue->messages[place];
    queue->count--;
    memmove(&queue->messages[place], &queue->messages[place + 1], (queue->count - place) * sizeof *queue->messages);
    return message;
}

size_t stage_count(const struct stage *stage, node_id from, node_id to)
{
    return stage->ways[from][to].count;
}

const struct stage_message *stage_message(const struct stage *stage, node_id from, node_id to, size_t place)
{
    const struct queue *queue = &stage->ways[from][to];
    CHECK(place < queue->count);
    return &queue->messages[place];
}

void stage_drop(struct stage *stage, node_id from, node_id to, size_t place)
{
    struct stage_message message = pull(way(stage, from, to), place);
    mem_free(message.runs);
}

void stage_duplicate(struct stage *stage, node_id from, node_id to, size_t place)
{
    struct stage_message copy = *stage_message(stage, from, to, place);
    struct raft_run *runs = NULL;
    if (copy.runs_count > 0) {
        runs = mem_alloc(copy.runs_count * sizeof *runs);
        memcpy(runs, copy.runs, copy.runs_count * sizeof *runs);
    }
    copy.runs = runs;
    push(way(stage, from, to), &copy);
}

void stage_cut(struct stage *stage, node_id from, node_id to, bool cut)
{
    while (cut && stage_count(stage, from, to) > 0)
        stage_drop(stage, from, to, 0);
    CHECK(from <= stage->options.nodes && to <= stage->options.nodes);
    stage->cut[from][to] = cut;
}

/* --- steps: what a core asks for is done in the order of replica/ -------------------------------------------------------------- */

static void put_on_way(struct stage *stage, node_id id, struct raft_message *message)
{
    const struct core_node *core = stage_node(stage, id);
    node_id to = message->to <= stage->options.nodes ? message->to : 0;
    struct stage_message out = {0};
    core_checks_sent(stage->checks, (uint32_t)id - 1, message);
    if (message->type == RAFT_APPEND_ENTRIES) {
        const struct raft_append_entries *append = &message->append_entries;
        size_t count = (size_t)(append->last_index - append->prev_log_index);
        out.runs = count > 0 ? mem_alloc(count * sizeof *out.runs) : NULL;
        out.runs_count = core_node_runs(core, &message->append_entries, out.runs, count);
    }
    out.message = *message;
    if (stage->cut[id][to])
        mem_free(out.runs);
    else
        push(way(stage, id, to), &out);
}

static void tell_sent(struct stage *stage, node_id id, const struct raft_message *message, raft_index last)
{
    const struct raft_append_entries *append = &message->append_entries;
    uint64_t entries = last - append->prev_log_index;
    struct raft_event sent = {.type = RAFT_EVENT_SENT,
                              .sent = {.peer = message->to,
                                       .epoch = append->epoch,
                                       .last = last,
                                       .bytes = (uint32_t)entries * stage->options.entry_bytes}};
    stage_step(stage, id, &sent);
}

/* Entries go along as far as bytes_max lets them, and at least one; the core is told how many. */
static void send_message(struct stage *stage, node_id id, struct raft_message message)
{
    struct raft_append_entries *append = &message.append_entries;
    if (message.type != RAFT_APPEND_ENTRIES || append->last_index == append->prev_log_index) {
        put_on_way(stage, id, &message);
        return;
    }
    if (stage_actor(stage, id)->entries_held && message.to <= stage->options.nodes) {
        stage_actor(stage, id)->wanted[message.to] = message;
        return;
    }
    if (append->prev_log_index < stage_node(stage, id)->base) {
        tell_sent(stage, id, &message, append->prev_log_index); /* compacted while it waited: none can go */
        return;
    }
    uint64_t most = append->bytes_max / stage->options.entry_bytes;
    most = most < 1 ? 1 : most > STAGE_SENT_MAX ? STAGE_SENT_MAX : most;
    if (append->last_index - append->prev_log_index > most)
        append->last_index = append->prev_log_index + most;
    put_on_way(stage, id, &message);
    tell_sent(stage, id, &message, append->last_index);
}

/* Sends what may go; SENT may make the core want more, which comes in behind. */
static void drain(struct stage *stage, node_id id)
{
    struct actor *at = stage_actor(stage, id);
    size_t kept = 0;
    for (size_t i = 0; i < at->outbox_count; i++) {
        struct raft_message message = at->outbox[i];
        if (message.after_write > at->core.persisted && !MUTANT(50))
            at->outbox[kept++] = message;
        else
            send_message(stage, id, message);
    }
    at->outbox_count = kept;
}

static void take_reads(struct stage *stage, node_id id)
{
    const struct raft_effects *effects = &stage_actor(stage, id)->core.effects;
    for (uint32_t i = 1; i <= stage->reads_count; i++) {
        struct read *read = &stage->reads[i];
        if (read->id != id || read->state != STAGE_READ_WAITING)
            continue;
        char text[80];
        if (i <= effects->reads_ready_id || (effects->read_leased && i == stage->reads_count)) {
            read->state = STAGE_READ_ANSWERED;
            read->index = effects->read_index;
            core_checks_read(stage->checks, (uint32_t)id - 1, read->floor, read->index);
            snprintf(text, sizeof text, "answers read %u at %llu", i, (unsigned long long)read->index);
            tell(&stage_actor(stage, id)->context, text);
        } else if (i <= effects->reads_failed_id) {
            read->state = STAGE_READ_REFUSED;
            snprintf(text, sizeof text, "refuses read %u", i);
            tell(&stage_actor(stage, id)->context, text);
        }
    }
}

/* Takes over what the core wants after a step; nothing is sent yet. */
static void take_effects(struct stage *stage, node_id id)
{
    struct actor *at = stage_actor(stage, id);
    const struct raft_effects *effects = &at->core.effects;
    struct core_write write;
    if (core_node_take_write(&at->core, &at->install, &write)) {
        if (at->writes_count == at->writes_capacity) {
            at->writes_capacity = at->writes_capacity * 2 + 16;
            at->writes = mem_realloc(at->writes, at->writes_capacity * sizeof *at->writes);
        }
        at->writes[at->writes_count++] = write;
    }
    if (at->outbox_count + effects->messages_count > at->outbox_capacity) {
        at->outbox_capacity = at->outbox_capacity * 2 + RAFT_MESSAGES_MAX;
        at->outbox = mem_realloc(at->outbox, at->outbox_capacity * sizeof *at->outbox);
    }
    for (size_t i = 0; i < effects->messages_count; i++)
        at->outbox[at->outbox_count++] = effects->messages[i];
    if (effects->transfer != RAFT_TRANSFER_NONE)
        at->transferred = effects->transfer;
    take_reads(stage, id);
    core_checks_stepped(stage->checks, (uint32_t)id - 1);
}

void stage_step(struct stage *stage, node_id id, struct raft_event *event)
{
    struct actor *at = stage_actor(stage, id);
    struct raft_digest before;
    CHECK(at->core.raft != NULL);
    event->now = stage->now + at->ahead_ms;
    raft_get_digest(at->core.raft, &before);
    raft_step(at->core.raft, event, &at->core.effects);
    const char *wrong = raft_invariants(at->core.raft, &before);
    if (wrong != NULL)
        core_checks_break(stage->checks, (uint32_t)id - 1, wrong, 0);
    take_effects(stage, id);
}

/* Takes the first `count` writes off the queue, onto the disk if `durable`. */
static void finish_writes(struct actor *at, size_t count, bool durable)
{
    for (size_t i = 0; i < count; i++) {
        if (durable)
            core_node_written(&at->core, &at->writes[i]);
        mem_free(at->writes[i].terms);
    }
    at->writes_count -= count;
    if (at->writes_count > 0)
        memmove(at->writes, at->writes + count, at->writes_count * sizeof *at->writes);
}

static size_t persist(struct stage *stage, node_id id, size_t count)
{
    struct actor *at = stage_actor(stage, id);
    count = count < at->writes_count ? count : at->writes_count;
    if (count == 0)
        return 0;
    if (at->disk_fails) {
        tell(&at->context, "its disk fails -> ends");
        stage_crash(stage, id, 0);
        return 0;
    }
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED,
                               .persisted = {.write_number = at->writes[count - 1].write.number}};
    finish_writes(at, count, true);
    at->core.persisted = event.persisted.write_number;
    stage_step(stage, id, &event);
    drain(stage, id);
    return count;
}

void stage_settle(struct stage *stage, node_id id)
{
    const struct actor *at = stage_actor(stage, id);
    drain(stage, id);
    while (!at->disk_held && at->writes_count > 0)
        (void)persist(stage, id, at->writes_count);
}

/* --- nodes ----------------------------------------------------------------------------------------------------------------------- */

void stage_set_disk(struct stage *stage, node_id id, raft_term term, node_id voted_for, const raft_term *terms,
                    raft_index last, raft_index base)
{
    CHECK(!is_up(stage, id));
    CHECK(last < CORE_LOG_MAX);
    CHECK(base <= last);
    struct core_node *core = &stage_actor(stage, id)->core;
    for (raft_index index = 1; index <= last; index++) {
        CHECK(terms[index - 1] >= core->disk_terms[index - 1] && terms[index - 1] <= term);
        core->disk_terms[index] = terms[index - 1];
    }
    core->disk_base = base;
    core->disk_snapshot = base;
    core->disk_last = last;
    core->disk_term = term;
    core->disk_vote = voted_for;
}

void stage_start(struct stage *stage, node_id id, raft_index committed, bool again)
{
    struct actor *at = stage_actor(stage, id);
    struct raft_options options = stage->options.cores;
    options.id = id;
    options.seed = id + 16 * at->lives++;
    options.trace = (struct trace_sink){.line = tell, .context = &at->context};
    options.start_wait_ms = again ? stage->options.start_wait_ms : 0;
    core_node_start(&at->core, &options, stage->now + at->ahead_ms, committed);
    core_checks_started(stage->checks, (uint32_t)id - 1);
    take_effects(stage, id);
    stage_settle(stage, id);
}

void stage_crash(struct stage *stage, node_id id, size_t kept)
{
    CHECK(is_up(stage, id));
    struct actor *at = stage_actor(stage, id);
    finish_writes(at, kept < at->writes_count ? kept : at->writes_count, true);
    finish_writes(at, at->writes_count, false);
    at->outbox_count = 0;
    memset(at->wanted, 0, sizeof at->wanted);
    at->disk_fails = false;
    stage_forget_offer(at);
    core_node_crash(&at->core);
    for (uint32_t i = 1; i <= stage->reads_count; i++)
        if (stage->reads[i].id == id && stage->reads[i].state == STAGE_READ_WAITING)
            stage->reads[i].state = STAGE_READ_LOST;
}

/* --- events ------------------------------------------------------------------------------------------------------------------------ */

bool stage_propose(struct stage *stage, node_id id, uint64_t count)
{
    struct actor *at = stage_actor(stage, id);
    if (at->core.last + count >= CORE_LOG_MAX)
        return false;
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE, .propose = {.count = count}};
    stage_step(stage, id, &event);
    bool refused = at->core.effects.proposal_refused;
    stage_settle(stage, id);
    return !refused;
}

uint32_t stage_read(struct stage *stage, node_id id, bool lease)
{
    if (stage->reads_count == STAGE_READS_MAX)
        return 0;
    uint32_t number = ++stage->reads_count;
    stage->reads[number] =
        (struct read){.state = STAGE_READ_WAITING, .id = id, .floor = core_checks_committed(stage->checks)};
    struct raft_event event = {.type = RAFT_EVENT_READ, .read = {.id = number, .lease = lease}};
    stage_step(stage, id, &event);
    stage_settle(stage, id);
    return number;
}

enum stage_read stage_read_state(const struct stage *stage, uint32_t read, raft_index *index)
{
    if (read == 0 || read > stage->reads_count)
        return STAGE_READ_NONE;
    *index = stage->reads[read].index;
    return stage->reads[read].state;
}

void stage_link(struct stage *stage, node_id id, node_id peer, bool up)
{
    struct raft_event event = {.type = up ? RAFT_EVENT_PEER_UP : RAFT_EVENT_PEER_DOWN, .peer = {.peer = peer}};
    stage_step(stage, id, &event);
    stage_settle(stage, id);
}

void stage_step_down(struct stage *stage, node_id id, const char *why)
{
    struct raft_event event = {.type = RAFT_EVENT_STEP_DOWN, .step_down = {.why = why}};
    stage_step(stage, id, &event);
    stage_settle(stage, id);
}

enum raft_change stage_change(struct stage *stage, node_id id, const struct raft_configuration *configuration,
                              uint64_t expected_id, bool force)
{
    struct raft_event event = {
        .type = RAFT_EVENT_CHANGE,
        .change = {.configuration = configuration, .expected_id = expected_id, .force = force}};
    stage_step(stage, id, &event);
    enum raft_change change = stage_actor(stage, id)->core.effects.change;
    stage_settle(stage, id);
    return change;
}

enum raft_change stage_abort_change(struct stage *stage, node_id id)
{
    struct raft_event event = {.type = RAFT_EVENT_ABORT_CHANGE};
    stage_step(stage, id, &event);
    enum raft_change change = stage_actor(stage, id)->core.effects.change;
    stage_settle(stage, id);
    return change;
}

enum raft_transfer stage_transfer(struct stage *stage, node_id id, node_id to)
{
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .transfer = {.to = to}};
    stage_step(stage, id, &event);
    enum raft_transfer transfer = stage_actor(stage, id)->core.effects.transfer;
    stage_settle(stage, id);
    return transfer;
}

void stage_campaign(struct stage *stage, node_id id)
{
    struct raft_event event = {.type = RAFT_EVENT_CAMPAIGN};
    stage_step(stage, id, &event);
    stage_settle(stage, id);
}

enum raft_transfer stage_transferred(const struct stage *stage, node_id id)
{
    CHECK(id >= 1 && id <= stage->options.nodes);
    return stage->actors[id - 1].transferred;
}

bool stage_has_lease(const struct stage *stage, node_id id)
{
    struct raft_status status;
    raft_get_status(stage_node(stage, id)->raft, &status);
    return stage->now + stage->actors[id - 1].ahead_ms < status.lease_until;
}

void stage_receive(struct stage *stage, const struct raft_message *message, const struct raft_run *runs,
                   size_t runs_count)
{
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE,
                               .message = {.message = message, .runs = runs, .runs_count = runs_count}};
    struct raft_configuration *configurations = NULL;
    if (message->type == RAFT_APPEND_ENTRIES)
        configurations = core_members_of_runs(&stage->members, runs, runs_count, message->append_entries.last_index,
                                              &event.message.configurations_count);
    event.message.configurations = configurations;
    stage_step(stage, message->to, &event);
    mem_free(configurations);
    stage_note_offer(stage, message->to, message);
    stage_settle(stage, message->to);
}

bool stage_deliver(struct stage *stage, node_id from, node_id to, size_t place)
{
    struct stage_message message = pull(way(stage, from, to), place);
    bool up = to != 0 && is_up(stage, to);
    if (up)
        stage_receive(stage, &message.message, message.runs, message.runs_count);
    mem_free(message.runs);
    return up;
}

/* --- time ---------------------------------------------------------------------------------------------------------------------------- */

uint64_t stage_wake_in(const struct stage *stage, node_id id)
{
    const struct core_node *core = stage_node(stage, id);
    uint64_t now = stage->now + stage->actors[id - 1].ahead_ms;
    if (core->raft == NULL || core->effects.wake_at == UINT64_MAX)
        return UINT64_MAX;
    return core->effects.wake_at > now ? core->effects.wake_at - now : 0;
}

void stage_pass(struct stage *stage, node_id id, uint64_t ms)
{
    if (id == 0)
        stage->now += ms;
    else
        stage_actor(stage, id)->ahead_ms += ms;
    for (node_id i = 1; i <= stage->options.nodes; i++) {
        if ((id != 0 && i != id) || stage_wake_in(stage, i) != 0)
            continue;
        struct raft_event event = {.type = RAFT_EVENT_TIMEOUT};
        stage_step(stage, i, &event);
        stage_settle(stage, i);
    }
}

/* --- disks ---------------------------------------------------------------------------------------------------------------------------- */

void stage_hold_disk(struct stage *stage, node_id id, bool held)
{
    stage_actor(stage, id)->disk_held = held;
    if (is_up(stage, id))
        stage_settle(stage, id);
}

size_t stage_persist(struct stage *stage, node_id id, size_t count)
{
    return persist(stage, id, count);
}

size_t stage_waiting(const struct stage *stage, node_id id)
{
    CHECK(id >= 1 && id <= stage->options.nodes);
    return stage->actors[id - 1].writes_count;
}

void stage_fail_disk(struct stage *stage, node_id id)
{
    stage_actor(stage, id)->disk_fails = true;
}

void stage_hold_entries(struct stage *stage, node_id id, bool held)
{
    struct actor *at = stage_actor(stage, id);
    at->entries_held = held;
    for (node_id peer = 1; !held && peer <= stage->options.nodes; peer++) {
        struct raft_message wanted = at->wanted[peer];
        at->wanted[peer] = (struct raft_message){0};
        if (wanted.to != 0 && at->core.effects.role == RAFT_LEADER && at->core.effects.term == wanted.term)
            send_message(stage, id, wanted);
    }
    if (is_up(stage, id))
        stage_settle(stage, id);
}

/* --- the stage -------------------------------------------------------------------------------------------------------------------------- */

const char *stage_broken(const struct stage *stage)
{
    return core_checks_broken(stage->checks);
}

raft_index stage_committed(const struct stage *stage)
{
    return core_checks_committed(stage->checks);
}

struct stage *stage_new(const struct stage_options *options)
{
    CHECK(options->nodes >= 1 && options->nodes <= CORE_NODES_MAX);
    CHECK(options->entry_bytes > 0);
    struct stage *stage = mem_zalloc(1, sizeof *stage);
    const struct core_node *cores[CORE_NODES_MAX];
    stage->options = *options;
    if (stage->options.formed.voters_count == 0)
        stage->options.formed = core_members_all(options->nodes);
    core_members_init(&stage->members, &stage->options.formed);
    stage->now = 1000000; /* clocks begin far from nothing */
    for (uint32_t i = 0; i < options->nodes; i++) {
        stage->actors[i].context = (struct trace_context){.stage = stage, .id = i + 1};
        core_node_init(&stage->actors[i].core, &stage->members);
        cores[i] = &stage->actors[i].core;
    }
    stage->checks = core_checks_new(cores, options->nodes, true);
    return stage;
}

void stage_free(struct stage *stage)
{
    for (node_id from = 1; from <= stage->options.nodes; from++) {
        for (node_id to = 0; to <= stage->options.nodes; to++) {
            while (stage_count(stage, from, to) > 0)
                stage_drop(stage, from, to, 0);
            mem_free(stage->ways[from][to].messages);
        }
        struct actor *at = stage_actor(stage, from);
        finish_writes(at, at->writes_count, false);
        core_node_close(&at->core);
        stage_forget_offer(at);
        mem_free(at->writes);
        mem_free(at->outbox);
    }
    core_checks_free(stage->checks);
    core_members_close(&stage->members);
    buffer_close(&stage->trace);
    buffer_close(&stage->told);
    mem_free(stage);
}
