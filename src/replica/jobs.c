/* replica/jobs.c - see replica/jobs.h. */
#include "replica/jobs.h"

#include <stdio.h>

#include "base/check.h"
#include "base/memory.h"
#include "replica/cache.h"
#include "replica/replica.h"

static void run_identity(struct log_job *job, struct disk *disk)
{
    job->status = STATUS_OK;
    if (job->put_bundles)
        job->status = storage_put_file(disk, REPLICA_BUNDLES_FILE, buffer_slice(&job->bundles));
    if (job->status == STATUS_OK)
        job->status = identity_save(disk, &job->identity);
    if (job->status == STATUS_OK && job->drop_bundles) {
        enum status removed = disk->remove(disk, REPLICA_BUNDLES_FILE);
        job->status = removed == STATUS_NOT_FOUND ? STATUS_OK : removed;
    }
    if (job->status != STATUS_OK)
        snprintf(job->why, sizeof job->why, "%s", disk->error(disk));
}

void log_job_run(struct log_job *job, struct storage *storage, struct disk *disk)
{
    switch (job->type) {
    case LOG_JOB_WRITE:
        job->status = storage_write(storage, &job->write);
        break;
    case LOG_JOB_READ:
        job->status = storage_read(storage, job->first, job->last, job->bytes_max, &job->records, &job->got);
        break;
    case LOG_JOB_MARK:
        job->status = storage_mark(storage);
        break;
    case LOG_JOB_IDENTITY:
        run_identity(job, disk);
        return;
    default:
        UNREACHABLE();
    }
    if (job->status != STATUS_OK)
        snprintf(job->why, sizeof job->why, "%s", storage_why(storage));
}

void machine_job_run(struct machine_job *job, struct machine *machine)
{
    struct machine_status before;
    machine_get_status(machine, &before);
    if (job->type == MACHINE_JOB_APPLY) {
        job->applied = machine_apply(machine, job->records, job->want_results, &job->results);
    } else {
        for (size_t i = 0; i < job->queries_count && job->results.bytes.size < ANSWERS_BYTES_MAX; i++) {
            const struct machine_query_item *item = &job->queries[i];
            machine_query(machine, slice_make(job->bytes.data + item->name_offset, item->name_size),
                          slice_make(job->bytes.data + item->args_offset, item->args_size), item->now_ms,
                          &job->results);
        }
    }
    machine_get_status(machine, &job->status);
    if (job->status.catalog_version != before.catalog_version) {
        machine_catalog(machine, &job->catalog);
        machine_pack_info(machine, &job->info);
    }
}

void log_job_free(struct log_job *job)
{
    for (size_t i = 0; i < LOG_JOB_PARTS_MAX && job->pinned[i] != NULL; i++)
        chunk_release(job->pinned[i]);
    buffer_close(&job->records);
    buffer_close(&job->bundles);
    mem_free(job);
}

void machine_job_free(struct machine_job *job)
{
    if (job->pinned != NULL)
        chunk_release(job->pinned);
    buffer_close(&job->owned);
    buffer_close(&job->bytes);
    buffer_close(&job->results.bytes);
    buffer_close(&job->catalog);
    buffer_close(&job->info);
    mem_free(job->results.list);
    mem_free(job->queries);
    mem_free(job);
}
