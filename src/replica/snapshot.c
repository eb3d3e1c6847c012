/* replica/snapshot.c - when snapshots are taken, when they count, and what of the log is cut then. See replica/replica.h.
 *
 * One at a time. It is frozen between two applied ranges: at a multiple of MACHINE_DIGEST_STEP if entries keep coming, so that
 * others can say their digest there for long. A failure costs the attempt alone: the log is kept, and the next attempt waits,
 * twice as long each time.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum {
    RETRY_MS = 1000,
    RETRIES_DOUBLED = 8,  /* then it stays at 256 seconds */
    STRETCH_PARTS = 500,  /* of a threshold, in thousandths, at most */
    DIGESTS_RECENT = 4096 /* as machine/machine.h says of machine_digest_at */
};

void take_submit(struct replica *replica, struct snapshot_job *job)
{
    replica->snapshots.jobs++;
    if (job->type == SNAPSHOT_JOB_TAKE || job->type == SNAPSHOT_JOB_BUILD || job->type == SNAPSHOT_JOB_FREE)
        replica->env.snapshot(replica->env.context, job);
    else
        replica->env.transfer(replica->env.context, job);
}

static struct snapshot_job *new_job(enum snapshot_job_type type)
{
    struct snapshot_job *job = mem_zalloc(1, sizeof *job);
    job->type = type;
    return job;
}

static void remove_file(struct replica *replica, const char *name)
{
    struct snapshot_job *job = new_job(SNAPSHOT_JOB_REMOVE);
    snprintf(job->name, sizeof job->name, "%s", name);
    take_submit(replica, job);
}

static raft_index newest(const struct replica *replica)
{
    return replica->snapshots.files_count > 0 ? replica->snapshots.files[0].index : 0;
}

/* The newest is damaged on this disk: the next one is due, and may be of the same index. */
static bool is_damaged(const struct replica *replica)
{
    return newest(replica) != 0 && replica->snapshots.damaged == newest(replica);
}

/* Whether a snapshot at `index` would be news. */
static bool is_news(const struct replica *replica, raft_index index)
{
    return index > newest(replica) || (is_damaged(replica) && index == newest(replica));
}

/* --- those who asked -------------------------------------------------------------------------------------------------------- */

/* Ends requests for a snapshot: those that a file now satisfies, or with `why` all. */
static void end_requests(struct replica *replica, enum error_code code, const char *why)
{
    const struct snapshots *snapshots = &replica->snapshots;
    struct buffer value = {0};
    for (uint32_t i = 0; i < replica->requests_capacity && replica->requests_count > 0; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state != REQUEST_SNAPSHOT)
            continue;
        if (why != NULL) {
            request_fail(replica, request, code, why);
            continue;
        }
        if (request->read_id > newest(replica))
            continue;
        buffer_clear(&value);
        pack_map(&value, 3);
        pack_text(&value, slice_text("bytes"));
        pack_u64(&value, snapshots->files[0].bytes);
        pack_text(&value, slice_text("index"));
        pack_u64(&value, snapshots->files[0].index);
        pack_text(&value, slice_text("term"));
        pack_u64(&value, snapshots->files[0].term);
        request_end(replica, request, true, true, snapshots->files[0].index, buffer_slice(&value));
    }
    buffer_close(&value);
}

void replica_request_snapshot(struct replica *replica, uint64_t client, uint32_t timeout_ms,
                              struct replica_time now)
{
    replica->now = now;
    const struct request request = {.name = slice_text("tidelock.snapshot"), .timeout_ms = timeout_ms};
    uint64_t token = request_add(replica, client, 0, &request, false);
    struct pending *pending = token != 0 ? request_of(replica, token) : NULL;
    if (pending == NULL)
        return;
    pending->is_query = true;
    pending->snapshot = true;
    if (replica_is_parked(replica))
        request_fail(replica, pending, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
    else if (replica->applied == 0)
        request_fail(replica, pending, ERROR_NO_LEADER, "nothing is applied yet");
    else
        request_route(replica, token);
}

void take_asked(struct replica *replica, struct pending *request)
{
    struct taking *take = &replica->snapshots.take;
    request->state = REQUEST_SNAPSHOT;
    request->is_query = false;
    request->read_id = replica->applied;
    if (replica->applied > take->asked_for)
        take->asked_for = replica->applied;
    take->not_before = 0; /* who asks does not wait for what failed before */
    end_requests(replica, ERROR_BUSY, NULL);
}

/* --- when ------------------------------------------------------------------------------------------------------------------- */

static uint64_t stretched(const struct replica *replica, uint64_t threshold)
{
    return threshold + threshold / 1000 * replica->snapshots.take.stretch +
           threshold % 1000 * replica->snapshots.take.stretch / 1000;
}

static void draw_stretch(struct replica *replica)
{
    replica->snapshots.take.stretch = (uint32_t)prng_below(&replica->prng, STRETCH_PARTS + 1);
}

static uint64_t every_at(const struct replica *replica)
{
    const struct snapshots *snapshots = &replica->snapshots;
    return snapshots->counted_at + stretched(replica, snapshots->policy.every_ms);
}

/* Whether the policy, or somebody, wants one now. */
static bool is_due(const struct replica *replica)
{
    const struct snapshots *snapshots = &replica->snapshots;
    const struct replica_snapshots *policy = &snapshots->policy;
    const raft_index entries = replica->applied - newest(replica);
    const uint64_t bytes = replica->cache.appended - snapshots->log_bytes + snapshots->log_before;
    if (snapshots->take.asked_for > newest(replica) || is_damaged(replica))
        return true;
    if (!apply_code_ready(replica))
        return false; /* the first entries of all */
    if (policy->bytes != 0 && bytes >= stretched(replica, policy->bytes) &&
        (snapshots->files_count == 0 || bytes >= stretched(replica, snapshots->files[0].bytes)))
        return true;
    if (policy->entries != 0 && entries >= stretched(replica, policy->entries))
        return true;
    return policy->every_ms != 0 && replica->now.boot_ms >= every_at(replica);
}

static bool may_take(const struct replica *replica)
{
    return replica->raft != NULL && is_news(replica, replica->applied) && !replica_is_parked(replica) &&
           !replica->stopping && !receive_installs(replica) && replica->applied > 0;
}

uint64_t take_wake_at(const struct replica *replica)
{
    const struct snapshots *snapshots = &replica->snapshots;
    const struct taking *take = &snapshots->take;
    uint64_t quiet_at = take->wanted_at + replica->raft_options.heartbeat_ms;
    if (take->state == TAKE_WANTED) /* after that, entries that are applied bring a good index */
        return quiet_at > replica->now.boot_ms ? quiet_at : UINT64_MAX;
    if (take->state != TAKE_IDLE || !may_take(replica))
        return UINT64_MAX;
    uint64_t at = UINT64_MAX;
    if (snapshots->policy.every_ms != 0 && apply_code_ready(replica))
        at = every_at(replica);
    if (is_due(replica))
        at = 0;
    return at < take->not_before ? take->not_before : at;
}

/* --- failing ---------------------------------------------------------------------------------------------------------------- */

static void fail(struct replica *replica, enum error_code code, const char *why)
{
    struct snapshots *snapshots = &replica->snapshots;
    struct taking *take = &snapshots->take;
    uint64_t wait = (uint64_t)RETRY_MS << (take->failures < RETRIES_DOUBLED ? take->failures : RETRIES_DOUBLED);
    take->failures++;
    take->drop = false;
    take->blame = NULL;
    take->not_before = replica->now.boot_ms + wait + prng_below(&replica->prng, wait / 4 + 1);
    take->state = TAKE_IDLE;
    take->asked_for = 0;
    snapshots->failed++;
    snprintf(snapshots->why, sizeof snapshots->why, "%s", why);
    LOG(LOG_WARN, "snapshot", "not taken: %s; the log is kept", why);
    end_requests(replica, code, snapshots->why);
}

/* Given up without blame: another state is about to be here, or the node ends. */
static void give_up(struct replica *replica)
{
    replica->snapshots.take.state = TAKE_IDLE;
    replica->snapshots.take.drop = false;
}

void take_drop(struct replica *replica)
{
    struct taking *take = &replica->snapshots.take;
    take->drop = take->state != TAKE_IDLE && take->state != TAKE_WANTED;
    atomic_store(&take->progress.cancel, true);
    digest_want(replica, 0, (struct hash128){0});
    if (take->state == TAKE_WAITING) {
        remove_file(replica, SNAPSHOT_NEW);
        take->drop = false;
        take->state = TAKE_IDLE;
    } else if (take->state == TAKE_WANTED) {
        take->state = TAKE_IDLE;
    }
}

/* --- freezing --------------------------------------------------------------------------------------------------------------- */

static void freeze(struct replica *replica)
{
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_FREEZE;
    replica->snapshots.take.state = TAKE_FREEZING;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

bool take_before_apply(struct replica *replica, raft_index commit, raft_index *last)
{
    struct taking *take = &replica->snapshots.take;
    const raft_index given = replica->apply_next - 1;
    *last = UINT64_MAX;
    if (receive_installs(replica))
        return false;
    if (take->state != TAKE_WANTED)
        return true;
    bool quiet =
        given >= commit && replica->now.boot_ms >= take->wanted_at + (uint64_t)replica->raft_options.heartbeat_ms;
    if (is_news(replica, given) && (quiet || given % MACHINE_DIGEST_STEP == 0))
        freeze(replica);
    else
        *last = given - given % MACHINE_DIGEST_STEP + MACHINE_DIGEST_STEP;
    return true;
}

void take_frozen(struct replica *replica, struct machine_job *job)
{
    struct snapshots *snapshots = &replica->snapshots;
    struct taking *take = &snapshots->take;
    take->frozen = job->frozen;
    job->frozen = NULL;
    if (take->frozen == NULL) {
        give_up(replica);
        return;
    }
    const struct snapshot_head *head = machine_frozen_head(take->frozen);
    take->file = (struct message_snapshot){.index = head->index, .term = head->term};
    take->digest = head->digest;
    take->stamp_ms = head->stamp_ms;
    take->log_bytes = replica->cache.appended;
    take->state = TAKE_WRITING;
    atomic_store(&take->progress.cancel, take->drop);
    atomic_store(&take->progress.rows_done, 0);
    atomic_store(&take->progress.rows, head->rows);
    struct snapshot_job *write = new_job(SNAPSHOT_JOB_TAKE);
    write->frozen = take->frozen;
    write->progress = &take->progress;
    write->options =
        (struct snapshot_options){.chunk_bytes = snapshots->policy.chunk_bytes, .zstd = snapshots->policy.zstd};
    take_submit(replica, write);
    if (!take->drop)
        digest_want(replica, take->file.index, take->digest);
}

static void thaw(struct replica *replica)
{
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_THAW;
    job->frozen = replica->snapshots.take.frozen;
    replica->snapshots.take.frozen = NULL;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

static void taken(struct replica *replica, const struct snapshot_job *job)
{
    struct taking *take = &replica->snapshots.take;
    thaw(replica);
    if (job->status != STATUS_OK || take->drop) {
        digest_want(replica, 0, (struct hash128){0});
        if (job->status == STATUS_OK)
            remove_file(replica, SNAPSHOT_NEW);
        if (take->drop && take->blame != NULL)
            fail(replica, ERROR_BUSY, take->blame);
        else if (take->drop)
            give_up(replica);
        else
            fail(replica, job->status == STATUS_INVALID ? ERROR_SCRIPT_ERROR : ERROR_BUSY, job->why);
        return;
    }
    take->file = job->file;
    take->state = TAKE_WAITING;
}

/* --- counting --------------------------------------------------------------------------------------------------------------- */

void take_agreed(struct replica *replica, struct hash128 digest)
{
    struct taking *take = &replica->snapshots.take;
    if (take->digest.lo == digest.lo && take->digest.hi == digest.hi)
        return;
    LOG(LOG_ERROR, "snapshot", "the snapshot at entry %llu is not of the majority's state, and is dropped",
        (unsigned long long)take->file.index);
    take->blame = "this node's state is not the majority's";
    take_drop(replica);
    if (take->state == TAKE_IDLE)
        fail(replica, ERROR_BUSY, take->blame);
}

/* No voter can say its digest at that index any more. */
static bool is_forgotten(const struct replica *replica)
{
    const struct taking *take = &replica->snapshots.take;
    uint64_t recent = DIGESTS_RECENT;
    if (take->file.index % MACHINE_DIGEST_STEP == 0)
        recent *= MACHINE_DIGEST_STEP;
    return replica->applied > take->file.index + recent;
}

/* It was written and read back, a majority has its digest, the own log is durable up to it. */
static void publish(struct replica *replica)
{
    struct taking *take = &replica->snapshots.take;
    if (replica->digests.wanted.index != 0 && is_forgotten(replica)) {
        take_drop(replica);
        fail(replica, ERROR_BUSY, "no majority could say in time whether it has the same state");
        return;
    }
    if ((replica->digests.wanted.index != 0 && !MUTANT(141)) || replica->persisted_index < take->file.index)
        return;
    struct snapshot_job *job = new_job(SNAPSHOT_JOB_PUBLISH);
    job->file = take->file;
    take->state = TAKE_PUBLISHING;
    take_submit(replica, job);
}

/* Removes files that are neither the newest nor being sent. */
void take_clean(struct replica *replica)
{
    struct snapshots *snapshots = &replica->snapshots;
    size_t kept = snapshots->files_count > 0 ? 1 : 0;
    for (size_t i = 1; i < snapshots->files_count; i++) {
        if (send_holds(replica, snapshots->files[i].index) || backup_holds(replica, snapshots->files[i].index)) {
            snapshots->files[kept++] = snapshots->files[i];
            continue;
        }
        char name[DISK_NAME_MAX];
        snapshot_name(name, snapshots->files[i].index);
        remove_file(replica, name);
    }
    snapshots->files_count = kept;
}

void take_counts(struct replica *replica, const struct message_snapshot *file, uint64_t stamp_ms)
{
    struct snapshots *snapshots = &replica->snapshots;
    take_clean(replica);
    if (snapshots->files_count == SNAPSHOT_FILES_MAX) {
        /* More transfers of more files than anyone has seen: the oldest begins anew. */
        char name[DISK_NAME_MAX];
        snapshot_name(name, snapshots->files[--snapshots->files_count].index);
        remove_file(replica, name);
    }
    if (newest(replica) != file->index) {
        memmove(snapshots->files + 1, snapshots->files, snapshots->files_count * sizeof *snapshots->files);
        snapshots->files_count++;
    }
    snapshots->files[0] = *file;
    snapshots->damaged = 0;
    snapshots->stamp_ms = stamp_ms;
    snapshots->counted_at = replica->now.boot_ms;
    take_clean(replica);
    draw_stretch(replica);
    end_requests(replica, ERROR_BUSY, NULL);
}

static void published(struct replica *replica, const struct snapshot_job *job)
{
    struct snapshots *snapshots = &replica->snapshots;
    struct taking *take = &snapshots->take;
    if (job->status != STATUS_OK) {
        fail(replica, ERROR_BUSY, job->why);
        return;
    }
    take->state = TAKE_IDLE;
    take->drop = false;
    take->failures = 0;
    snapshots->taken++;
    snapshots->why[0] = 0;
    LOG(LOG_INFO, "snapshot", "taken at entry %llu: %llu bytes", (unsigned long long)take->file.index,
        (unsigned long long)take->file.bytes);
    if (is_news(replica, take->file.index)) {
        if (take->file.index > newest(replica))
            snapshots->entry_bytes = (take->log_bytes - snapshots->log_bytes + snapshots->log_before) /
                                         (take->file.index - newest(replica)) +
                                     1;
        snapshots->log_bytes = take->log_bytes;
        snapshots->log_before = 0;
        take_counts(replica, &take->file, take->stamp_ms);
    } else if (take->file.index < newest(replica)) { /* a leader's newer one was installed meanwhile */
        char name[DISK_NAME_MAX];
        snapshot_name(name, take->file.index);
        remove_file(replica, name);
    }
}

/* --- the log behind it ------------------------------------------------------------------------------------------------------ */

/* Entries that stay behind the snapshot: as many as the policy says, or as fit into its bytes, by the size of late ones. */
static uint64_t entries_kept(const struct replica *replica)
{
    const struct snapshots *snapshots = &replica->snapshots;
    uint64_t keep = snapshots->policy.keep;
    if (snapshots->policy.keep_bytes != 0 && snapshots->entry_bytes != 0 &&
        snapshots->policy.keep_bytes / snapshots->entry_bytes < keep)
        keep = snapshots->policy.keep_bytes / snapshots->entry_bytes;
    return keep;
}

static void submit_compact(struct replica *replica)
{
    struct log_job *job = mem_zalloc(1, sizeof *job);
    job->type = LOG_JOB_COMPACT;
    job->last = replica->snapshots.compacted;
    replica->snapshots.compacting = true;
    replica->log_jobs++;
    replica->env.log(replica->env.context, job);
}

/* First the core is told, so that nobody asks for what is about to go; then the log gives it back, a little at a time. */
static void compact(struct replica *replica)
{
    struct snapshots *snapshots = &replica->snapshots;
    uint64_t keep = entries_kept(replica);
    raft_index index = newest(replica) > keep ? newest(replica) - keep : 0;
    index = send_pin(replica, index);
    if (MUTANT(143))
        index = newest(replica);
    if (index <= snapshots->compacted || snapshots->compacting || receive_installs(replica) ||
        index > replica->persisted_index)
        return;
    snapshots->compacted = index;
    struct raft_event event = {.type = RAFT_EVENT_COMPACTED, .compacted = {.index = index}};
    replica_step(replica, &event);
    submit_compact(replica);
}

/* A snapshot was installed: the core begins its log after it already. */
void take_installed(struct replica *replica, raft_index index)
{
    struct snapshots *snapshots = &replica->snapshots;
    snapshots->log_bytes = replica->cache.appended;
    snapshots->log_before = 0;
    if (index <= snapshots->compacted)
        return;
    snapshots->compacted = index;
    if (!snapshots->compacting)
        submit_compact(replica);
}

void take_compacted(struct replica *replica, const struct log_job *job)
{
    replica->snapshots.compacting = false;
    if (job->status != STATUS_OK)
        LOG(LOG_WARN, "snapshot", "the log could not be made shorter: %s; it stays", job->why);
    else if (job->more)
        submit_compact(replica);
}

/* --- the turn --------------------------------------------------------------------------------------------------------------- */

void take_turn(struct replica *replica)
{
    struct taking *take = &replica->snapshots.take;
    if (replica->stopping && take->state != TAKE_IDLE)
        take_drop(replica);
    if (take->state == TAKE_IDLE && may_take(replica) && replica->now.boot_ms >= take->not_before &&
        is_due(replica)) {
        take->state = TAKE_WANTED;
        take->drop = false;
        take->blame = NULL;
        take->wanted_at = replica->now.boot_ms;
    }
    if (take->state == TAKE_WAITING)
        publish(replica);
    if (replica->raft != NULL)
        compact(replica);
}

void replica_snapshot_done(struct replica *replica, struct snapshot_job *job, struct replica_time now)
{
    replica->now = now;
    replica->snapshots.jobs--;
    switch (job->type) {
    case SNAPSHOT_JOB_TAKE:
        taken(replica, job);
        break;
    case SNAPSHOT_JOB_PUBLISH:
        published(replica, job);
        break;
    case SNAPSHOT_JOB_CHECK:
        send_checked(replica, job);
        break;
    case SNAPSHOT_JOB_READ:
        if (job->peer != 0)
            send_piece(replica, job);
        else
            backup_piece(replica, job);
        break;
    case SNAPSHOT_JOB_BUILD:
    case SNAPSHOT_JOB_WRITE:
    case SNAPSHOT_JOB_RESUME:
        receive_done(replica, job);
        break;
    default:
        if (job->status != STATUS_OK)
            LOG(LOG_WARN, "snapshot", "a file could not be removed: %s", job->why);
        break;
    }
    snapshot_job_free(job);
}
