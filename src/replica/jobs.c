/* replica/jobs.c - see replica/jobs.h. */
#include "replica/jobs.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "machine/membership.h"
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

enum { COMPACT_SEGMENTS = 2 }; /* given back in one job: writes wait behind it */

/* First the snapshot counts, then the log may begin after it: whatever a crash leaves, one of the two is whole. */
static void run_write(struct log_job *job, struct storage *storage, struct disk *disk)
{
    const struct storage_write *write = &job->write;
    job->status = STATUS_OK;
    if (job->publish != 0) {
        job->status = snapshot_publish(disk, SNAPSHOT_IN, job->publish);
        if (job->status != STATUS_OK) {
            snprintf(job->why, sizeof job->why, "%s", disk->error(disk));
            return;
        }
    }
    if (!write->vote && write->cut_from == 0 && !write->reset && write->records_count == 0)
        return;
    job->status = storage_write(storage, write);
    if (job->status != STATUS_OK)
        snprintf(job->why, sizeof job->why, "%s", storage_why(storage));
}

void log_job_run(struct log_job *job, struct storage *storage, struct disk *disk)
{
    switch (job->type) {
    case LOG_JOB_WRITE:
        run_write(job, storage, disk);
        return;
    case LOG_JOB_COMPACT:
        job->status = storage_compact(storage, job->last, COMPACT_SEGMENTS, &job->more);
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

/* A command that is only tried; or a query, which has its slice: one that wants more is run over a view, shared with others. */
static void run_query(struct machine_job *job, struct machine_query_item *item, uint64_t *used,
                      struct machine *machine)
{
    struct slice name = slice_make(job->bytes.data + item->name_offset, item->name_size);
    struct slice args = slice_make(job->bytes.data + item->args_offset, item->args_size);
    struct slice ticket = slice_make(args.data + args.size, item->ticket_size);
    if (item->try) {
        machine_try(machine, name, args, ticket, item->now_ms, &job->results);
        return;
    }
    item->later = !machine_query_briefly(machine, name, args, item->now_ms, used, &job->results);
    if (item->later && machine_frozen_bytes(machine) <= QUERY_VIEW_BYTES)
        item->frozen = machine_share(machine);
}

static void run_queries(struct machine_job *job, struct machine *machine)
{
    uint64_t used = 0;
    while (job->reached < job->queries_count && job->results.bytes.size < ANSWERS_BYTES_MAX &&
           used < QUERIES_WORK_MAX)
        run_query(job, &job->queries[job->reached++], &used, machine);
}

static void thaw(struct machine_job *job, struct machine *machine)
{
    struct machine_frozen *frozen = NULL;
    if (job->frozen != NULL)
        machine_thaw(machine, job->frozen);
    job->frozen = NULL;
    for (size_t at = 0; at < job->thaw.size; at += sizeof frozen) {
        memcpy(&frozen, job->thaw.data + at, sizeof frozen);
        machine_thaw(machine, frozen);
    }
}

void machine_job_run(struct machine_job *job, struct machine *machine)
{
    struct machine_status before;
    machine_get_status(machine, &before);
    switch (job->type) {
    case MACHINE_JOB_APPLY:
        job->applied = machine_apply(machine, job->records, job->want_results, &job->results);
        break;
    case MACHINE_JOB_LOOK:
        job->found = machine_digest_at(machine, job->index, &job->digest);
        break;
    case MACHINE_JOB_SKIP:
        (void)machine_skip(machine, job->index);
        break;
    case MACHINE_JOB_FREEZE:
        if (before.parked_at == 0)
            job->frozen = machine_freeze(machine);
        break;
    case MACHINE_JOB_THAW:
        thaw(job, machine);
        break;
    case MACHINE_JOB_SHARE:
        if (before.parked_at == 0)
            job->frozen = machine_share(machine);
        break;
    case MACHINE_JOB_PARK:
        machine_park(machine, (const char *)job->bytes.data);
        break;
    case MACHINE_JOB_ROT:
        job->found = machine_rot(machine, job->number, &job->bytes);
        break;
    case MACHINE_JOB_SWAP:
        machine_swap(machine, job->built);
        break;
    default:
        run_queries(job, machine);
        break;
    }
    (void)machine_sweep(machine); /* also where jobs leave it no idle moment */
    machine_get_status(machine, &job->status);
    if (job->status.catalog_version != before.catalog_version || job->type == MACHINE_JOB_SWAP) {
        machine_catalog(machine, &job->catalog);
        machine_pack_info(machine, &job->info);
    }
    if (job->status.membership_version != before.membership_version)
        machine_pack_membership(machine, &job->membership);
}

enum status snapshot_hash_head(struct disk *disk, const char *name, uint64_t *hash, struct buffer *why)
{
    struct snapshot_reader *reader = NULL;
    enum status status = snapshot_reader_open(disk, name, &reader, why);
    if (status != STATUS_OK)
        return status;
    const struct slice head = snapshot_reader_head(reader);
    *hash = hash64(head.data, head.size);
    snapshot_reader_close(reader);
    return STATUS_OK;
}

enum status snapshot_find_seal(struct disk *disk, const char *name, struct snapshot_seal *seal, struct buffer *why)
{
    enum status status = snapshot_read_seal(disk, name, seal);
    if (status == STATUS_OK)
        return status;
    char text[640];
    const char *what = status == STATUS_IO ? disk->error(disk) : status_text(status);
    snprintf(text, sizeof text, "file %s: its end cannot be read: %s", name, what);
    buffer_append(why, text, strlen(text));
    return status;
}

static void run_take(struct snapshot_job *job, struct disk *disk, struct buffer *why)
{
    struct snapshot_seal seal = {0};
    const struct snapshot_head *head = machine_frozen_head(job->frozen);
    job->file.index = head->index;
    job->file.term = head->term;
    job->status = snapshot_take(job->frozen, &job->options, disk, SNAPSHOT_NEW, job->progress, &seal, why);
    if (job->status != STATUS_OK)
        return;
    job->file.bytes = seal.file_bytes;
    job->file.hash = seal.hash;
    job->status = snapshot_hash_head(disk, SNAPSHOT_NEW, &job->file.head_hash, why);
}

static void run_build(struct snapshot_job *job, struct disk *disk, struct buffer *why)
{
    struct snapshot_seal seal = {0};
    job->status = snapshot_find_seal(disk, SNAPSHOT_IN, &seal, why);
    if (job->status != STATUS_OK)
        return;
    if (seal.file_bytes != job->file.bytes || seal.hash.hi != job->file.hash.hi ||
        seal.hash.lo != job->file.hash.lo) {
        static const char other[] = "file " SNAPSHOT_IN " is not the snapshot that was offered";
        buffer_append(why, other, sizeof other - 1);
        job->status = STATUS_CORRUPT;
        return;
    }
    job->status = snapshot_build(disk, SNAPSHOT_IN, &job->machine_options, job->progress, &job->machine, &job->head,
                                 &job->configuration, why);
}

/* Goes on with what is there only if its head is the offered file's; else from the beginning. */
static void run_resume(struct snapshot_job *job, struct disk *disk)
{
    struct buffer head = {0};
    job->offset = 0;
    job->status = snapshot_resume_at(disk, &job->offset, &head);
    if (job->status == STATUS_OK && hash64(head.data, head.size) != job->file.head_hash && !MUTANT(142))
        job->offset = 0;
    buffer_close(&head);
}

static enum status run_check(const struct snapshot_job *job, struct disk *disk, struct buffer *why)
{
    char name[DISK_NAME_MAX];
    struct snapshot_reader *reader = NULL;
    uint32_t section = 0;
    struct slice bytes = {0};
    bool end = false;
    snapshot_name(name, job->file.index);
    enum status status = snapshot_reader_open(disk, name, &reader, why);
    if (status != STATUS_OK)
        return status;
    while (status == STATUS_OK && !end)
        status = snapshot_reader_next(reader, &section, &bytes, &end);
    if (status != STATUS_OK)
        buffer_append(why, snapshot_reader_why(reader), strlen(snapshot_reader_why(reader)));
    snapshot_reader_close(reader);
    return status;
}

void snapshot_job_run(struct snapshot_job *job, struct disk *disk)
{
    struct buffer why = {0};
    char name[DISK_NAME_MAX];
    switch (job->type) {
    case SNAPSHOT_JOB_TAKE:
        run_take(job, disk, &why);
        break;
    case SNAPSHOT_JOB_BUILD:
        run_build(job, disk, &why);
        break;
    case SNAPSHOT_JOB_FREE:
        machine_free(job->machine);
        job->machine = NULL;
        job->status = STATUS_OK;
        break;
    case SNAPSHOT_JOB_PUBLISH:
        job->status = snapshot_publish(disk, SNAPSHOT_NEW, job->file.index);
        break;
    case SNAPSHOT_JOB_REMOVE:
        job->status = snapshot_remove(disk, job->name);
        break;
    case SNAPSHOT_JOB_CHECK:
        job->status = run_check(job, disk, &why);
        break;
    case SNAPSHOT_JOB_READ:
        snapshot_name(name, job->file.index);
        job->status = snapshot_read_piece(disk, name, job->offset, (size_t)job->size, &job->bytes);
        break;
    case SNAPSHOT_JOB_WRITE:
        job->status = snapshot_write_piece(disk, job->offset, buffer_slice(&job->bytes));
        break;
    case SNAPSHOT_JOB_RESUME:
        run_resume(job, disk);
        break;
    default:
        UNREACHABLE();
    }
    if (job->status != STATUS_OK) {
        const size_t size = why.size < sizeof job->why - 1 ? why.size : sizeof job->why - 1;
        if (size > 0)
            snprintf(job->why, sizeof job->why, "%.*s", (int)size, (const char *)why.data);
        else
            snprintf(job->why, sizeof job->why, "%s (%s)", disk->error(disk), status_text(job->status));
    }
    buffer_close(&why);
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
    buffer_close(&job->thaw);
    buffer_close(&job->bytes);
    buffer_close(&job->results.bytes);
    buffer_close(&job->results.events);
    buffer_close(&job->catalog);
    buffer_close(&job->info);
    buffer_close(&job->membership);
    mem_free(job->results.list);
    mem_free(job->queries);
    if (job->built != NULL)
        machine_free(job->built);
    mem_free(job);
}

static void read_query(struct view_job *job, struct reader *reader)
{
    const uint8_t *args = job->bytes.data + job->name_size;
    reader_query(reader, job->frozen, slice_make(job->bytes.data, job->name_size), slice_make(args, job->args_size),
                 job->now_ms, &job->results);
}

void view_job_run(struct view_job *job, struct reader *reader)
{
    switch (job->type) {
    case VIEW_JOB_QUERY:
        read_query(job, reader);
        break;
    case VIEW_JOB_TELL:
        compare_tell(job->frozen, buffer_slice(&job->lo), buffer_slice(&job->hi), &job->told);
        break;
    case VIEW_JOB_COMPARE:
        job->verdict = compare_with(job->frozen, &job->lo, &job->hi, buffer_slice(&job->told), &job->what);
        break;
    default:
        job->verdict = compare_self(job->frozen, &job->lo, job->bytes_max, &job->what) ? COMPARE_SAME : COMPARE_ROW;
        break;
    }
}

void view_job_free(struct view_job *job)
{
    buffer_close(&job->lo);
    buffer_close(&job->hi);
    buffer_close(&job->told);
    buffer_close(&job->what);
    buffer_close(&job->bytes);
    buffer_close(&job->results.bytes);
    buffer_close(&job->results.events);
    mem_free(job->results.list);
    mem_free(job);
}

void snapshot_job_free(struct snapshot_job *job)
{
    if (job->machine != NULL)
        machine_free(job->machine);
    buffer_close(&job->configuration);
    buffer_close(&job->bytes);
    mem_free(job);
}
