/* replica/apply.c - committed entries to the machine, and reads: ReadIndex, then the machine (thesis §6.4). */
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

bool apply_code_ready(const struct replica *replica)
{
    size_t mounts = catalog_mounts(replica->catalog);
    return mounts > 0 && mounts >= replica->bundles_count;
}

static void submit_apply(struct replica *replica, struct machine_job *job, raft_index last)
{
    job->type = MACHINE_JOB_APPLY;
    job->want_results = replica->proposed_count > 0;
    replica->apply_next = last + 1 - (MUTANT(60) && last > 2 && last % 64 == 0 ? 1 : 0);
    replica->machine_jobs++;
    replica->apply_jobs++;
    replica->env.apply(replica->env.context, job);
}

/* Reads back what the cache no longer has. */
static void read_back(struct replica *replica, raft_index commit)
{
    struct log_job *job = mem_zalloc(1, sizeof *job);
    job->type = LOG_JOB_READ;
    job->first = replica->apply_next;
    job->last = commit < replica->persisted_index ? commit : replica->persisted_index;
    job->bytes_max = READ_BYTES_MAX;
    replica->apply_reading = true;
    replica->log_jobs++;
    replica->env.log(replica->env.context, job);
}

void apply_committed(struct replica *replica)
{
    raft_index commit = MUTANT(63) ? replica->last_index : replica->effects.commit_index;
    commit = diverge_limit(replica) < commit ? diverge_limit(replica) : commit;
    raft_index until = UINT64_MAX;
    while (take_before_apply(replica, commit, &until) && replica->machine_jobs < MACHINE_JOBS_MAX &&
           replica->apply_next <= commit && !replica->apply_reading && replica->machine.parked_at == 0 &&
           !skip_waits(replica)) {
        struct chunk *chunk = cache_find(&replica->cache, replica->apply_next);
        if (chunk == NULL) {
            if (replica->apply_next > replica->persisted_index)
                return; /* it will be there once it is written */
            read_back(replica, until < commit ? until : commit);
            return;
        }
        raft_index last = chunk->last < commit ? chunk->last : commit;
        last = last < until ? last : until;
        if (last - replica->apply_next >= APPLY_ENTRIES_MAX)
            last = replica->apply_next + APPLY_ENTRIES_MAX - 1;
        while (last > replica->apply_next && chunk_records(chunk, replica->apply_next, last).size > APPLY_BYTES_MAX)
            last = replica->apply_next + (last - replica->apply_next) / 2;
        struct machine_job *job = mem_zalloc(1, sizeof *job);
        chunk_hold(chunk);
        job->pinned = chunk;
        job->records = chunk_records(chunk, replica->apply_next, last);
        submit_apply(replica, job, last);
    }
}

/* A read for the machine came back. */
void apply_read_back(struct replica *replica, struct log_job *done)
{
    replica->apply_reading = false;
    if (done->first != replica->apply_next || replica->machine.parked_at != 0 || skip_waits(replica) ||
        done->got > diverge_limit(replica))
        return; /* what is still wanted of it is read again */
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->owned = done->records;
    done->records = (struct buffer){0};
    job->records = buffer_slice(&job->owned);
    submit_apply(replica, job, done->got);
}

/* --- reads ------------------------------------------------------------------------------------------------------------------ */

static void add_query(struct machine_job *job, uint64_t token, const struct pending *request, uint64_t now_ms)
{
    struct machine_query_item *item = &job->queries[job->queries_count++];
    *item = (struct machine_query_item){.request = token,
                                        .now_ms = now_ms,
                                        .try = request->dry_run,
                                        .name_offset = job->bytes.size,
                                        .name_size = request->name_size,
                                        .args_offset = job->bytes.size + request->name_size,
                                        .args_size = request->args_size,
                                        .ticket_size = request_ticket(request).size};
    buffer_append(&job->bytes, request->bytes.data, request->bytes.size);
}

/* All that came in before this turn began, by one question of each sort. A lease holds for its own question alone: who does not
 * trust clocks waits for a round. */
static void ask_core(struct replica *replica)
{
    if (replica->raft == NULL)
        return;
    if (replica->reads_new) {
        replica->reads_new = false;
        struct raft_event event = {.type = RAFT_EVENT_READ, .read = {.id = ++replica->read_id}};
        replica_step(replica, &event);
    }
    if (replica->leases_new) {
        replica->leases_new = false;
        struct raft_event event = {.type = RAFT_EVENT_READ, .read = {.id = ++replica->read_id, .lease = true}};
        for (size_t i = 0; i < replica->reads_count; i++)
            if (replica->reads[i].read_id == READ_UNASKED)
                replica->reads[i].read_id = replica->read_id;
        for (size_t i = 0; i < replica->asks_count; i++)
            if (replica->asks[i].read_id == READ_UNASKED)
                replica->asks[i].read_id = replica->read_id;
        replica_step(replica, &event);
    }
}

void apply_queries(struct replica *replica)
{
    ask_core(replica);
    read_send(replica);
    if (replica->reads_count == 0 || replica->query_out || replica->machine_jobs >= MACHINE_JOBS_MAX ||
        replica->snapshots.receive.state == RECEIVE_READY)
        return;
    struct machine_job *job = NULL;
    size_t kept = 0;
    uint64_t now_ms = replica_leads(replica) ? clock_stamp(replica) : 0;
    for (size_t i = 0; i < replica->reads_count; i++) {
        struct read_wait *wait = &replica->reads[i];
        struct pending *request = request_of(replica, wait->token);
        if (request == NULL || request->state != REQUEST_READING)
            continue; /* timed out, or asked anew */
        bool full = job != NULL && (job->queries_count == QUERIES_MAX || job->bytes.size > APPLY_BYTES_MAX);
        if (full || wait->index == 0 ||
            (wait->index > replica->applied && !MUTANT(56) && !(MUTANT(182) && wait->leader != 0))) {
            replica->reads[kept++] = *wait;
            continue;
        }
        if (request->snapshot) {
            take_asked(replica, request);
            continue;
        }
        if (job == NULL) {
            job = mem_zalloc(1, sizeof *job);
            job->type = MACHINE_JOB_QUERY;
            size_t left = replica->reads_count - i;
            job->queries = mem_alloc((left < QUERIES_MAX ? left : QUERIES_MAX) * sizeof *job->queries);
        }
        add_query(job, wait->token, request, request->stale ? 0 : wait->leader != 0 ? wait->now_ms : now_ms);
        request->state = REQUEST_QUERYING;
    }
    replica->reads_count = kept;
    if (job == NULL)
        return;
    replica->query_out = true;
    replica->machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

/* What the core says of reads. */
void apply_read_effects(struct replica *replica)
{
    const struct raft_effects *effects = &replica->effects;
    for (size_t i = 0; i < replica->reads_count; i++) {
        struct read_wait *wait = &replica->reads[i];
        if (wait->read_id == 0 || wait->index != 0 || wait->leader != 0)
            continue;
        if (wait->read_id == READ_UNASKED)
            continue;
        if ((effects->reads_ready_id != 0 && wait->read_id <= effects->reads_ready_id) ||
            (effects->read_leased && wait->read_id == replica->read_id)) {
            wait->index = effects->read_index;
        } else if (effects->reads_failed_id != 0 && wait->read_id <= effects->reads_failed_id) {
            struct pending *request = request_of(replica, wait->token);
            wait->token = UINT64_MAX; /* nobody's */
            if (request != NULL && request->state == REQUEST_READING)
                request_wait(replica, request);
        }
    }
    read_confirmed(replica);
}

/* --- what comes back --------------------------------------------------------------------------------------------------------- */

void apply_catalog(struct replica *replica, const struct machine_job *job)
{
    if (job->catalog.size == 0)
        return;
    catalog_free(replica->catalog);
    replica->catalog = catalog_new(buffer_slice(&job->catalog));
    buffer_clear(&replica->info);
    buffer_append(&replica->info, job->info.data, job->info.size);
    replica->route_again = true;
    if (apply_code_ready(replica) && replica->bundles_count > 0 && !replica->bundles_dropped) {
        replica->bundles_dropped = true;
        log_submit_identity(replica, true);
    }
}

/* The machine cannot go on, or its state is not to be trusted: consensus does, without it (DESIGN.md §1). */
void apply_step_aside(struct replica *replica)
{
    if (replica->reluctant)
        return;
    replica->reluctant = true;
    struct raft_event reluctant = {.type = RAFT_EVENT_RELUCTANT, .reluctant = {.on = true}};
    replica_step(replica, &reluctant);
    struct raft_event down = {.type = RAFT_EVENT_STEP_DOWN, .step_down = {.why = "parked"}};
    replica_step(replica, &down);
    replica->route_again = true;
    for (uint32_t i = 0; i < replica->requests_capacity && replica->proposed_count > 0; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state == REQUEST_PROPOSED && request->index > 0)
            request_fail(replica, request, ERROR_LOST,
                         "this node parked before it could answer; the outcome is unknown");
    }
    for (uint32_t i = 0; i < replica->requests_capacity && replica->requests_count > 0; i++)
        if (replica->requests[i].state == REQUEST_SNAPSHOT)
            request_fail(replica, &replica->requests[i], ERROR_PARKED, "this node has parked; ask another");
    for (size_t i = 0; i < replica->reads_count; i++) {
        struct pending *request = request_of(replica, replica->reads[i].token);
        if (request != NULL && request->state == REQUEST_READING)
            request_fail(replica, request, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
    }
    replica->reads_count = 0;
}

static void take_parking(struct replica *replica)
{
    if (replica->machine.parked_at != 0)
        apply_step_aside(replica);
}

/* Jobs of snapshots. */
static void aside(struct replica *replica, struct machine_job *job)
{
    replica->snapshots.machine_jobs--;
    switch (job->type) {
    case MACHINE_JOB_LOOK:
        replica->digests.looking = false;
        digest_at(replica, job->index, job->found ? &job->digest : NULL);
        break;
    case MACHINE_JOB_SKIP:
        skip_told(replica);
        break;
    case MACHINE_JOB_FREEZE:
        take_frozen(replica, job);
        break;
    case MACHINE_JOB_SHARE:
        if (job->number == SHARE_SCRUB)
            scrub_shared(replica, job);
        else
            diverge_shared(replica, job);
        break;
    case MACHINE_JOB_ROT:
        diverge_rotted(replica, job);
        break;
    case MACHINE_JOB_SWAP:
        receive_swapped(replica, job);
        break;
    default:
        break;
    }
}

/* Queries that were not reached are asked again, before the others. */
static void ask_again(struct replica *replica, const struct machine_job *job)
{
    size_t capacity = job->queries_count - job->reached + replica->reads_count;
    if (job->reached == job->queries_count)
        return;
    struct read_wait *reads = mem_alloc(capacity * sizeof *reads);
    size_t count = 0;
    for (size_t i = job->reached; i < job->queries_count; i++) {
        struct pending *request = request_of(replica, job->queries[i].request);
        if (request == NULL || request->state != REQUEST_QUERYING)
            continue;
        request->state = REQUEST_READING;
        reads[count++] =
            (struct read_wait){.token = job->queries[i].request, .index = 1}; /* what it needs is applied */
    }
    if (replica->reads_count > 0)
        memcpy(reads + count, replica->reads, replica->reads_count * sizeof *reads);
    mem_free(replica->reads);
    replica->reads = reads;
    replica->reads_count += count;
    replica->reads_capacity = capacity;
}

static void answer_queries(struct replica *replica, const struct machine_job *job)
{
    size_t answers = 0;
    CHECK(job->reached <= job->queries_count);
    for (size_t i = 0; i < job->reached; i++) {
        if (job->queries[i].later) {
            query_later(replica, &job->queries[i]);
            continue;
        }
        struct pending *request = request_of(replica, job->queries[i].request);
        const struct machine_result *result = &job->results.list[answers++];
        if (request != NULL && request->state == REQUEST_QUERYING && replica_is_parked(replica))
            request_fail(replica, request, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
        else if (request != NULL && request->state == REQUEST_QUERYING)
            request_end(replica, request, result->ok, true, result->index,
                        slice_make(job->results.bytes.data + result->offset, result->size));
    }
}

void replica_machine_done(struct replica *replica, struct machine_job *job, struct replica_time now)
{
    replica->now = now;
    replica->machine = job->status;
    change_heard(replica, buffer_slice(&job->membership));
    if (job->type != MACHINE_JOB_APPLY && job->type != MACHINE_JOB_QUERY) {
        aside(replica, job);
        take_parking(replica);
        machine_job_free(job);
        return;
    }
    replica->machine_jobs--;
    if (job->type == MACHINE_JOB_APPLY) {
        raft_index first = replica->applied + 1;
        replica->apply_jobs--;
        replica->applied = job->applied;
        events_add(replica->events, buffer_slice(&job->results.events), job->results.events_lost);
        apply_catalog(replica, job);
        digest_at(replica, job->applied, &job->status.digest);
        requests_applied(replica, first, job->status.parked_at == 0 ? job->applied : replica->apply_next - 1, job);
        if (replica->waiting_count > 0)
            replica->route_again = true; /* a name may be there now */
    } else {
        replica->query_out = false;
        answer_queries(replica, job);
        ask_again(replica, job);
    }
    take_parking(replica);
    machine_job_free(job);
}
