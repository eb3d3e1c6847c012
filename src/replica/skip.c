/* replica/skip.c - the way past an entry that parks nodes: an operator's entry SKIP (DESIGN.md §6).
 *
 * A parked node applies nothing, yet stores and counts what comes; so a SKIP that names the entry at which it parked must be
 * seen ahead of the place where it stands. Every SKIP is noted when it comes into the log, or when the log is read at the start, and
 * told to the machine once it is committed and before what it names is applied: so a node that was down meanwhile skips too.
 * Private to replica/.
 */
#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

bool skip_read(struct slice payload, raft_index *index)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t count = 0;
    return pack_read_array(&reader, &count) == STATUS_OK && count == 1 &&
           pack_read_u64(&reader, index) == STATUS_OK && *index > 0;
}

void skip_note(struct replica *replica, const struct entry *entry)
{
    struct skip skip = {.at = entry->index};
    if (entry->kind != ENTRY_SKIP || !skip_read(entry->payload, &skip.names))
        return;
    if (replica->skips_count == replica->skips_capacity) {
        replica->skips_capacity = replica->skips_capacity * 2 + 4;
        replica->skips = mem_realloc(replica->skips, replica->skips_capacity * sizeof *replica->skips);
    }
    replica->skips[replica->skips_count++] = skip;
}

void skip_cut(struct replica *replica, raft_index from)
{
    while (replica->skips_count > 0 && replica->skips[replica->skips_count - 1].at >= from)
        replica->skips_count--;
}

static bool is_due(const struct replica *replica, const struct skip *skip)
{
    return !skip->told && skip->at <= replica->effects.commit_index;
}

void skip_turn(struct replica *replica)
{
    size_t gone = 0;
    while (gone < replica->skips_count && replica->skips[gone].at <= replica->applied)
        gone++;
    for (size_t i = gone; i < replica->skips_count; i++)
        replica->skips[i - gone] = replica->skips[i];
    replica->skips_count -= gone;
    for (size_t i = 0; i < replica->skips_count; i++) {
        struct skip *skip = &replica->skips[i];
        if (!is_due(replica, skip) || replica->apply_jobs > 0 || replica->skip_out)
            continue;
        struct machine_job *job = mem_zalloc(1, sizeof *job);
        job->type = MACHINE_JOB_SKIP;
        job->index = skip->names;
        skip->told = true;
        replica->skip_out = true;
        replica->snapshots.machine_jobs++;
        replica->env.apply(replica->env.context, job);
    }
}

/* A machine that goes on must not find what was meant for it while it was parked, with a gap before it. */
bool skip_waits(const struct replica *replica)
{
    bool waits = replica->skip_out;
    for (size_t i = 0; i < replica->skips_count && !waits; i++)
        waits = is_due(replica, &replica->skips[i]);
    return waits;
}

void skip_told(struct replica *replica)
{
    replica->skip_out = false;
    if (!replica->reluctant || replica_is_parked(replica))
        return;
    replica->reluctant = false;
    struct raft_event event = {.type = RAFT_EVENT_RELUCTANT, .reluctant = {.on = false}};
    replica_step(replica, &event);
    if (!MUTANT(180))
        replica->apply_next = replica->applied + 1; /* what was handed to the parked machine it did not apply */
    replica->route_again = true;
    LOG(LOG_WARN, "replica", "goes on after entry %llu", (unsigned long long)replica->applied);
}

bool skip_is_way_out(const struct replica *replica, const struct pending *request)
{
    raft_index index = 0;
    return request->host != NULL && request->host->kind == ENTRY_SKIP && skip_read(request_args(request), &index) &&
           index == replica->machine.parked_at;
}
