/* replica/snapshot_recv.c - a leader's snapshot: fetched, verified, taken. See replica/replica.h.
 *
 * The follower pulls: after each piece it wrote, and whenever the offer is repeated, it says how far it is. Only the file of
 * the offer is fetched; what is there of it already, from before a restart or of another leader, is gone on with. Nothing of
 * this node changes until the whole file has become a machine whose digest is right. Then the core is asked; if it takes the
 * snapshot, one log job makes the file count and the log begin after it, and the machines are exchanged.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

enum {
    WRITES_MAX = 64, /* pieces at the transfer thread */
    RETRY_MS = 1000,
    RETRIES_DOUBLED = 9 /* then it stays at 512 seconds */
};

static struct snapshot_job *new_job(struct replica *replica, enum snapshot_job_type type)
{
    struct snapshot_job *job = mem_zalloc(1, sizeof *job);
    job->type = type;
    job->file = replica->snapshots.receive.file;
    job->number = replica->snapshots.receive.number;
    return job;
}

static bool same_file(const struct message_snapshot *left, const struct message_snapshot *right)
{
    return left->index == right->index && left->bytes == right->bytes && left->hash.lo == right->hash.lo &&
           left->hash.hi == right->hash.hi;
}

bool receive_installs(const struct replica *replica)
{
    enum receive_state state = replica->snapshots.receive.state;
    return state == RECEIVE_WRITING || state == RECEIVE_SWAPPING;
}

/* --- ends of an attempt --------------------------------------------------------------------------------------------------- */

static void remove_file(struct replica *replica)
{
    struct snapshot_job *job = new_job(replica, SNAPSHOT_JOB_REMOVE);
    snprintf(job->name, sizeof job->name, "%s", SNAPSHOT_IN);
    take_submit(replica, job);
}

/* The next offer is not looked at for a while, which doubles. */
static void fail(struct replica *replica, const char *why)
{
    struct snapshots *snapshots = &replica->snapshots;
    struct receiving *receive = &snapshots->receive;
    uint64_t wait =
        (uint64_t)RETRY_MS << (receive->failures < RETRIES_DOUBLED ? receive->failures : RETRIES_DOUBLED);
    receive->failures++;
    receive->not_before = replica->now.boot_ms + wait + prng_below(&replica->prng, wait / 4 + 1);
    receive->state = RECEIVE_IDLE;
    snapshots->failed++;
    snprintf(snapshots->why, sizeof snapshots->why, "%s", why);
    LOG(LOG_ERROR, "snapshot", "the one at entry %llu was not installed: %s; nothing was changed",
        (unsigned long long)receive->file.index, why);
}

static void free_machine(struct replica *replica, struct machine *machine)
{
    struct snapshot_job *job = new_job(replica, SNAPSHOT_JOB_FREE);
    job->machine = machine;
    take_submit(replica, job);
}

/* --- fetching ----------------------------------------------------------------------------------------------------------------- */

static void pull(struct replica *replica, bool again)
{
    struct receiving *receive = &replica->snapshots.receive;
    struct message message = {.type = MESSAGE_SNAPSHOT_PULL};
    message.pull = (struct message_pull){.index = receive->file.index,
                                         .hash = receive->file.hash,
                                         .offset = receive->offset,
                                         .progress = receive->offset + atomic_load(&receive->progress.rows_done),
                                         .again = again};
    (void)link_send_message(replica, receive->from, &message, NULL,
                            0); /* no link: the next offer has it said again */
}

/* What was fetched is damaged: the sender looks whether it is so there. */
static void say_bad(struct replica *replica)
{
    const struct receiving *receive = &replica->snapshots.receive;
    struct message message = {.type = MESSAGE_SNAPSHOT_PULL};
    message.pull = (struct message_pull){.index = receive->file.index, .hash = receive->file.hash, .bad = true};
    (void)link_send_message(replica, receive->from, &message, NULL, 0);
}

static void resume(struct replica *replica)
{
    struct receiving *receive = &replica->snapshots.receive;
    receive->state = RECEIVE_RESUMING;
    receive->number++; /* pieces that are still being written belong to what was before */
    atomic_store(&receive->progress.rows_done, 0);
    take_submit(replica, new_job(replica, SNAPSHOT_JOB_RESUME));
}

void receive_offered(struct replica *replica, node_id from, const struct message_snapshot *file)
{
    struct receiving *receive = &replica->snapshots.receive;
    bool same = same_file(file, &receive->file);
    bool fetching = receive->state == RECEIVE_RESUMING || receive->state == RECEIVE_PULLING;
    if (file->index == 0 || replica->stopping || (!fetching && receive->state > RECEIVE_BUILDING))
        return;
    if (receive->state == RECEIVE_BUILDING) {
        receive->from = same ? from : receive->from;
        if (same)
            pull(replica, false); /* it gets on */
        return;
    }
    if (!fetching && replica->now.boot_ms < receive->not_before)
        return;
    bool other = receive->from != from;
    receive->from = from;
    if (fetching && same) {
        if (receive->state == RECEIVE_PULLING)
            pull(replica, other);
        return;
    }
    receive->file = *file;
    LOG(LOG_INFO, "snapshot", "node %llu offers the one at entry %llu: %llu bytes", (unsigned long long)from,
        (unsigned long long)file->index, (unsigned long long)file->bytes);
    resume(replica);
}

static void build(struct replica *replica)
{
    struct receiving *receive = &replica->snapshots.receive;
    struct snapshot_job *job = new_job(replica, SNAPSHOT_JOB_BUILD);
    receive->state = RECEIVE_BUILDING;
    atomic_store(&receive->progress.cancel, false);
    atomic_store(&receive->progress.rows_done, 0);
    job->progress = &receive->progress;
    job->machine_options = replica->snapshots.machine;
    take_submit(replica, job);
}

/* False: the link is not to be trusted. What does not come next is passed over: it is sent again if it is asked for. */
bool receive_piece(struct replica *replica, const struct message *message)
{
    struct receiving *receive = &replica->snapshots.receive;
    const struct message_piece *piece = &message->piece;
    const struct slice bytes = message->records;
    if (crc32c(0, bytes.data, bytes.size) != piece->crc)
        return false;
    if (receive->state != RECEIVE_PULLING || replica->stopping || piece->index != receive->file.index ||
        piece->hash.lo != receive->file.hash.lo || piece->hash.hi != receive->file.hash.hi ||
        piece->offset != receive->expected || bytes.size == 0 ||
        bytes.size > receive->file.bytes - receive->expected || receive->writes >= WRITES_MAX)
        return true;
    struct snapshot_job *job = new_job(replica, SNAPSHOT_JOB_WRITE);
    job->offset = piece->offset;
    buffer_append(&job->bytes, bytes.data, bytes.size);
    receive->expected += bytes.size;
    receive->writes++;
    take_submit(replica, job);
    return true;
}

static void piece_written(struct replica *replica, const struct snapshot_job *job)
{
    struct receiving *receive = &replica->snapshots.receive;
    receive->writes--;
    if (job->number != receive->number || receive->state != RECEIVE_PULLING)
        return;
    if (job->status != STATUS_OK) {
        receive->number++; /* those behind it fail, too */
        fail(replica, job->why);
        return;
    }
    receive->offset = job->offset + job->bytes.size;
    replica->snapshots.fetched += job->bytes.size;
    if (receive->offset == receive->file.bytes)
        build(replica);
    else
        pull(replica, false);
}

static void resumed(struct replica *replica, const struct snapshot_job *job)
{
    struct receiving *receive = &replica->snapshots.receive;
    if (job->number != receive->number || receive->state != RECEIVE_RESUMING)
        return;
    if (job->status != STATUS_OK) {
        fail(replica, job->why);
        return;
    }
    receive->offset = receive->expected = job->offset <= receive->file.bytes ? job->offset : 0;
    receive->state = RECEIVE_PULLING;
    if (receive->offset > 0)
        LOG(LOG_INFO, "snapshot", "goes on with the one at entry %llu from byte %llu",
            (unsigned long long)receive->file.index, (unsigned long long)receive->offset);
    if (receive->offset == receive->file.bytes)
        build(replica);
    else
        pull(replica, true);
}

/* --- installing --------------------------------------------------------------------------------------------------------------- */

static bool has_members(const struct snapshot_job *job)
{
    struct members *members = mem_zalloc(1, sizeof *members);
    bool good = members_unpack(buffer_slice(&job->configuration), members) == STATUS_OK;
    mem_free(members);
    return good;
}

static void built(struct replica *replica, struct snapshot_job *job)
{
    struct receiving *receive = &replica->snapshots.receive;
    const char *why = job->why;
    CHECK(receive->state == RECEIVE_BUILDING);
    if (job->status == STATUS_OK && job->head.cluster_id != replica->identity.cluster_id)
        why = "it is of another cluster";
    else if (job->status == STATUS_OK && !has_members(job))
        why = "it says of no members";
    else if (job->status == STATUS_OK &&
             (job->head.index != receive->file.index || job->head.term != receive->file.term))
        why = "its head is of another entry than the offer";
    else if (job->status == STATUS_OK) {
        receive->built = job->machine;
        job->machine = NULL;
        receive->head = job->head;
        buffer_clear(&receive->configuration);
        buffer_append(&receive->configuration, job->configuration.data, job->configuration.size);
        receive->state = RECEIVE_READY;
        return;
    }
    if (job->status == STATUS_CANCELLED) {
        receive->state = RECEIVE_IDLE;
        return;
    }
    if (job->machine != NULL) {
        free_machine(replica, job->machine);
        job->machine = NULL;
    }
    if (job->status != STATUS_IO && job->status != STATUS_UNSUPPORTED)
        remove_file(replica); /* what another version could read stays, and need not be fetched again */
    if (job->status == STATUS_CORRUPT)
        say_bad(replica);
    fail(replica, why);
}

/* The core is asked once no view of the old state is out, and none can come. */
static void offer_to_core(struct replica *replica)
{
    struct receiving *receive = &replica->snapshots.receive;
    const struct taking *take = &replica->snapshots.take;
    if (take->state != TAKE_IDLE && take->state != TAKE_PUBLISHING)
        take_drop(replica);
    if (take->frozen != NULL || take->state == TAKE_FREEZING || !view_none_out(replica))
        return;
    struct members *members = mem_zalloc(1, sizeof *members);
    struct raft_configuration configuration;
    CHECK(members_unpack(buffer_slice(&receive->configuration), members) == STATUS_OK);
    members->id = receive->head.configuration_index;
    members_to_raft(members, &configuration);
    mem_free(members);
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_READY,
                               .snapshot_ready = {.index = receive->head.index,
                                                  .term = receive->head.term,
                                                  .configuration = &configuration}};
    receive->state = RECEIVE_WRITING;
    replica_step(replica, &event);
    if (replica->effects.snapshot_taken) {
        replica->apply_next = receive->head.index + 1;
        return;
    }
    if (rebuild_fits(replica, &receive->head)) {
        replica->apply_next = receive->head.index + 1;
        receive->apart = true;
        receive_written(replica);
        return;
    }
    LOG(LOG_INFO, "snapshot", "the one at entry %llu brings nothing any more",
        (unsigned long long)receive->file.index);
    receive->state = RECEIVE_IDLE;
    free_machine(replica, receive->built);
    receive->built = NULL;
    remove_file(replica);
}

/* The file counts and the log fits it, durably: now the state. */
void receive_written(struct replica *replica)
{
    struct receiving *receive = &replica->snapshots.receive;
    CHECK(receive->state == RECEIVE_WRITING);
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_SWAP;
    job->built = receive->built;
    receive->built = NULL;
    receive->state = RECEIVE_SWAPPING;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

/* Requests whose entries the snapshot stands for: they were applied, elsewhere. */
static void end_covered(struct replica *replica, raft_index index)
{
    for (uint32_t i = 0; i < replica->requests_capacity && replica->proposed_count > 0; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state == REQUEST_PROPOSED && request->index > 0 && request->index <= index)
            request_fail(replica, request, ERROR_LOST,
                         "this node took a snapshot in place of the entry; the outcome is unknown");
    }
}

void receive_swapped(struct replica *replica, struct machine_job *job)
{
    struct receiving *receive = &replica->snapshots.receive;
    free_machine(replica, job->built);
    job->built = NULL;
    receive->state = RECEIVE_IDLE;
    receive->failures = 0;
    receive->not_before = 0;
    replica->snapshots.received++;
    replica->snapshots.why[0] = 0;
    replica->applied = receive->head.index;
    if (!MUTANT(179))
        events_reset(replica->events, replica->applied);
    if (receive->head.stamp_ms > replica->stamp)
        replica->stamp = receive->head.stamp_ms;
    end_covered(replica, receive->head.index);
    apply_catalog(replica, job);
    digest_swapped(replica);
    if (receive->apart) {
        remove_file(replica);
    } else {
        take_counts(replica, &receive->file, receive->head.stamp_ms);
        take_installed(replica, receive->head.index);
    }
    receive->apart = false;
    diverge_reset(replica);
    rebuild_swapped(replica);
    LOG(LOG_INFO, "snapshot", "installed the one at entry %llu", (unsigned long long)receive->head.index);
    if (replica->reluctant && !replica_is_parked(replica)) {
        replica->reluctant = false;
        struct raft_event event = {.type = RAFT_EVENT_RELUCTANT, .reluctant = {.on = false}};
        replica_step(replica, &event);
    }
    replica->route_again = true;
}

void receive_turn(struct replica *replica)
{
    struct receiving *receive = &replica->snapshots.receive;
    if (replica->stopping)
        atomic_store(&receive->progress.cancel, true);
    if (receive->state == RECEIVE_READY)
        offer_to_core(replica);
}

void receive_done(struct replica *replica, struct snapshot_job *job)
{
    if (job->type == SNAPSHOT_JOB_WRITE)
        piece_written(replica, job);
    else if (job->type == SNAPSHOT_JOB_RESUME)
        resumed(replica, job);
    else
        built(replica, job);
}
