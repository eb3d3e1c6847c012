/* replica/scrub.c - does memory still hold what was put there? (DESIGN.md §5)
 *
 * A reader looks at a few rows of a frozen state at a time, at a rate of bytes a second, and holds each against the hash that it was
 * put with; a state that fits into one look is also held against its digest. So rot in memory is found within a pass even of
 * rows that no command reads. A node that finds some parks: its state is not what was agreed on.
 */
#include <stdio.h>

#include "base/memory.h"
#include "replica/state.h"

enum {
    SLICES_A_SECOND = 4,
    SLICE_BYTES_MAX = 4 * 1024 * 1024,
    SLICE_BYTES_MIN = 16 * 1024,
    PASS_MS = 10000 /* between the beginnings of two passes, at least */
};

static uint64_t slice_bytes(const struct replica *replica)
{
    uint64_t bytes = replica->scrubbing.rate / SLICES_A_SECOND;
    return bytes < SLICE_BYTES_MIN ? SLICE_BYTES_MIN : bytes < SLICE_BYTES_MAX ? bytes : SLICE_BYTES_MAX;
}

static bool may_scrub(const struct replica *replica)
{
    return replica->scrubbing.rate != 0 && replica->applied > 0 && !replica_is_parked(replica) &&
           !replica->scrubbing.busy && !replica->stopping && replica->snapshots.receive.state != RECEIVE_READY;
}

uint64_t replica_scrubbed(const struct replica *replica)
{
    return replica->scrubbing.passes;
}

uint64_t scrub_wake_at(const struct replica *replica)
{
    return may_scrub(replica) && !replica->views.looking ? replica->scrubbing.next_at : UINT64_MAX;
}

void scrub_turn(struct replica *replica)
{
    struct scrubbing *scrub = &replica->scrubbing;
    if (!may_scrub(replica) || replica->views.looking || replica->now.boot_ms < scrub->next_at)
        return;
    if (scrub->from.size == 0)
        scrub->began_at = replica->now.boot_ms;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_SHARE;
    job->number = SHARE_SCRUB;
    scrub->busy = true;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

void scrub_shared(struct replica *replica, struct machine_job *shared)
{
    struct scrubbing *scrub = &replica->scrubbing;
    struct machine_frozen *frozen = shared->frozen;
    shared->frozen = NULL;
    if (frozen == NULL || replica->views.looking) { /* parked; or somebody was quicker */
        if (frozen != NULL) {
            view_took(replica);
            view_give_back(replica, frozen);
        }
        scrub->busy = false;
        scrub->next_at = replica->now.boot_ms + 1000 / SLICES_A_SECOND;
        return;
    }
    view_took(replica);
    struct view_job *job = mem_zalloc(1, sizeof *job);
    job->type = VIEW_JOB_SCRUB;
    job->frozen = frozen;
    job->bytes_max = slice_bytes(replica);
    buffer_append(&job->lo, scrub->from.data, scrub->from.size);
    view_submit(replica, job);
}

void scrub_looked(struct replica *replica, struct view_job *job)
{
    struct scrubbing *scrub = &replica->scrubbing;
    const raft_index index = machine_frozen_head(job->frozen)->index;
    view_give_back(replica, job->frozen);
    buffer_close(&scrub->from);
    scrub->from = job->lo;
    job->lo = (struct buffer){0};
    scrub->busy = false;
    scrub->next_at = replica->now.boot_ms + job->bytes_max * 1000 / scrub->rate;
    if (scrub->from.size == 0) {
        scrub->passes++;
        if (scrub->next_at < scrub->began_at + PASS_MS)
            scrub->next_at = scrub->began_at + PASS_MS;
    }
    if (job->verdict == COMPARE_SAME)
        return;
    buffer_append_byte(&job->what, 0);
    diverge_park(replica, index, (const char *)job->what.data);
}
