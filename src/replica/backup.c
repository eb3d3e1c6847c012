/* replica/backup.c - pieces of a snapshot's file to clients. See replica/replica.h.
 *
 * A client asks for one piece after another. The file it reads stays for as long as it keeps asking: one at a time, so that
 * clients cannot make a node keep every file there ever was.
 */
#include "base/memory.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { JOBS_MAX = 4, HELD_MS = 60 * 1000 };

bool backup_holds(const struct replica *replica, raft_index index)
{
    const struct backup *backup = &replica->snapshots.backup;
    return backup->index == index && replica->now.boot_ms < backup->held_until;
}

static const struct message_snapshot *find_file(const struct replica *replica, raft_index index)
{
    const struct snapshots *snapshots = &replica->snapshots;
    for (size_t i = 0; i < snapshots->files_count; i++)
        if (snapshots->files[i].index == index && snapshots->damaged != index)
            return &snapshots->files[i];
    return NULL;
}

/* The first that comes holds its file until it stops asking. */
static void hold(struct replica *replica, raft_index index)
{
    struct backup *backup = &replica->snapshots.backup;
    if (backup->index != index && replica->now.boot_ms < backup->held_until)
        return;
    backup->index = index;
    backup->held_until = replica->now.boot_ms + HELD_MS;
}

void replica_request_piece(struct replica *replica, uint64_t client, raft_index index, uint64_t offset,
                           uint64_t bytes, uint32_t timeout_ms, struct replica_time now)
{
    replica->now = now;
    const struct request request = {.name = slice_text("tidelock.snapshot_read"), .timeout_ms = timeout_ms};
    uint64_t token = request_add(replica, client, 0, &request, false);
    struct pending *pending = token != 0 ? request_of(replica, token) : NULL;
    if (pending == NULL)
        return;
    const struct message_snapshot *file = find_file(replica, index);
    pending->state = REQUEST_PIECE;
    pending->is_query = true;
    if (file == NULL || offset > file->bytes) {
        request_fail(replica, pending, ERROR_NOT_FOUND,
                     file == NULL ? "this node has no snapshot at that index; begin anew with tidelock.snapshot"
                                  : "the file ends before that offset");
        return;
    }
    if (replica->snapshots.backup.jobs >= JOBS_MAX) {
        request_fail(replica, pending, ERROR_BUSY, "other clients read snapshots; ask again");
        return;
    }
    hold(replica, index);
    struct snapshot_job *job = mem_zalloc(1, sizeof *job);
    job->type = SNAPSHOT_JOB_READ;
    job->file = *file;
    job->number = token;
    job->offset = offset;
    job->size = bytes < REPLICA_PIECE_BYTES ? bytes : REPLICA_PIECE_BYTES;
    replica->snapshots.backup.jobs++;
    take_submit(replica, job);
}

void backup_piece(struct replica *replica, struct snapshot_job *job)
{
    replica->snapshots.backup.jobs--;
    struct pending *request = request_of(replica, job->number);
    if (request == NULL || request->state != REQUEST_PIECE)
        return; /* timed out */
    if (job->status != STATUS_OK) {
        request_fail(replica, request, job->status == STATUS_NOT_FOUND ? ERROR_NOT_FOUND : ERROR_BUSY, job->why);
        return;
    }
    struct buffer value = {0};
    pack_bin(&value, buffer_slice(&job->bytes));
    request_end(replica, request, true, true, job->file.index, buffer_slice(&value));
    buffer_close(&value);
}
