/* storage/recover.c - opening: reads what the log holds, takes away what a crash left half done, and settles log and snapshot.
 * See storage/storage.h, log.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "storage/storage_private.h"

/* --- what a scan shows ---------------------------------------------------------------------------------------------------- */

static bool see_frame(void *context, const char *file, uint64_t offset, const struct frame *frame)
{
    (void)file;
    struct storage *storage = context;
    const struct storage_base end = {.index = frame->last, .term = frame->last_term, .chain = frame->last_chain};
    if (frame->type == FRAME_ENTRIES)
        index_add_place(&storage->index, frame, storage->tail.segment.number, offset);
    if (frame->type == FRAME_CUT)
        index_cut(&storage->index, &end);
    if (frame->type == FRAME_RESET)
        index_reset(&storage->index, &end);
    return true;
}

static bool same_base(const struct storage_base *left, const struct storage_base *right)
{
    return left->index == right->index && left->term == right->term && left->chain == right->chain;
}

static bool see_segment(void *context, const char *file, const struct segment *segment)
{
    struct storage *storage = context;
    if (storage->index.segments_count > 0 && !same_base(&segment->base, &storage->index.last)) {
        storage->failed = true;
        snprintf(storage->why, sizeof storage->why,
                 "file %s, offset 0: the segment does not follow entry %llu; the log is damaged: set the directory "
                 "aside and let the node join anew",
                 file, (unsigned long long)storage->index.last.index);
        return false;
    }
    index_add_segment(&storage->index, segment);
    storage->tail.segment = *segment;
    return true;
}

static bool see_record(void *context, const char *file, uint64_t offset, const struct entry *entry,
                       struct slice bytes)
{
    struct storage *storage = context;
    if (storage->failed)
        return false;
    const struct storage_base *last = &storage->index.last;
    storage->failed = entry->index != last->index + 1 || entry_chain(bytes, last->chain) != entry->chain;
    if (storage->failed) {
        snprintf(storage->why, sizeof storage->why,
                 "file %s, offset %llu: entry %llu does not follow the one before it; the log is damaged: set the "
                 "directory aside and let the node join anew",
                 file, (unsigned long long)offset, (unsigned long long)entry->index);
        return false;
    }
    index_add_entry(&storage->index, entry);
    return true;
}

/* Opens a segment that no frame was written to yet. */
static enum status begin(struct storage *storage, const struct log_end *end)
{
    enum status status = end->headless && end->next ? tail_resume(&storage->tail, end, &storage->written)
                                                    : tail_roll(&storage->tail, 0, &storage->written);
    if (status == STATUS_OK)
        index_add_segment(&storage->index, &storage->tail.segment);
    return status;
}

/* After the scan: opens the last segment for writing, and takes away what a crash left half done. */
static enum status settle(struct storage *storage, const struct log_end *end)
{
    struct disk *disk = storage->disk;
    char name[DISK_NAME_MAX];
    enum status status = tail_find_free(&storage->tail);
    storage->tail.number = end->number;
    storage->marked = end->marked;
    storage->written = storage->index.last;
    if (status == STATUS_OK && end->headless && end->next)
        return begin(storage, end);
    if (status == STATUS_OK && end->headless) {
        segment_name(name, end->segment + 1);
        status = disk->remove(disk, name);
        if (status == STATUS_OK)
            status = disk->sync_directory(disk);
    }
    if (status != STATUS_OK || end->segment == 0) {
        storage->tail.segment = (struct segment){0};
        return status == STATUS_OK ? begin(storage, end) : status;
    }
    storage->tail.segment = end->last;
    storage->tail.offset = end->offset;
    segment_name(name, end->segment);
    status = disk->open(disk, name, DISK_DIRECT, &storage->tail.file);
    if (status != STATUS_OK || !end->dirty || MUTANT(67))
        return status;
    storage->torn = end->torn;
    return tail_zero_block(disk, storage->tail.file, end->offset);
}

static void close_all(struct storage *storage)
{
    struct disk *disk = storage->disk;
    if (storage->vote.file != NULL)
        vote_file_close(disk, &storage->vote);
    tail_close(&storage->tail);
    index_close(&storage->index);
    mem_free(storage->frame);
    mem_free(storage);
}

enum status storage_open(struct disk *disk, const struct storage_options *options, struct storage **opened,
                         struct buffer *why)
{
    struct storage *storage = mem_zalloc(1, sizeof *storage);
    storage->disk = disk;
    storage->tail.disk = disk;
    storage->tail.segment_bytes = options->segment_bytes > 0 ? options->segment_bytes : STORAGE_SEGMENT_BYTES;
    CHECK(storage->tail.segment_bytes % DISK_BLOCK_BYTES == 0);
    CHECK(storage->tail.segment_bytes >= 4 * DISK_BLOCK_BYTES);
    prng_seed(&storage->tail.prng, options->seed);
    const struct log_visitor visitor = {
        .context = storage, .segment = see_segment, .frame = see_frame, .record = see_record};
    struct log_end end;
    enum status status = log_scan(disk, &visitor, &end, why);
    if (status == STATUS_OK && storage->failed) {
        buffer_append(why, storage->why, strlen(storage->why));
        status = STATUS_CORRUPT;
    }
    /* A log that has no segment has promised nothing yet; beside one, the vote must be there. */
    if (status == STATUS_OK)
        status = vote_file_open(disk, end.segment == 0, &storage->vote, why);
    if (status == STATUS_OK) {
        status = settle(storage, &end);
        if (status != STATUS_OK)
            buffer_append(why, disk->error(disk), strlen(disk->error(disk)));
    } else if (why->size == 0) {
        buffer_append(why, disk->error(disk), strlen(disk->error(disk)));
    }
    if (status != STATUS_OK) {
        close_all(storage);
        return status;
    }
    *opened = storage;
    return STATUS_OK;
}

void storage_close(struct storage *storage)
{
    if (!storage->failed && storage_mark(storage) != STATUS_OK)
        storage->failed = true; /* nothing is lost: the next start takes the end as it finds it */
    close_all(storage);
}

/* --- log and snapshot ---------------------------------------------------------------------------------------------------- */

static void say(struct buffer *why, const char *format, uint64_t first, uint64_t second)
{
    char line[512];
    int size = snprintf(line, sizeof line, format, (unsigned long long)first, (unsigned long long)second);
    buffer_append(why, line, (size_t)size);
}

/* True if the log holds the snapshot's last entry, or stands right behind it. False: the log has another history there, or
 * ends before. Damage has a status. */
static enum status holds(struct storage *storage, const struct storage_base *snapshot, bool *held,
                         struct buffer *why)
{
    *held = false;
    if (storage->index.last.index < snapshot->index)
        return STATUS_OK;
    struct storage_base at;
    enum status status = storage_chain_at(storage, snapshot->index, &at);
    if (status != STATUS_OK) {
        buffer_append(why, storage->why, strlen(storage->why));
        return status;
    }
    *held = same_base(&at, snapshot) || MUTANT(117);
    if (!*held && (at.term == snapshot->term || at.index == index_base(&storage->index).index)) {
        say(why,
            "entry %llu of the log is not the one that the snapshot at %llu includes, though only one can be "
            "right: "
            "one of them is damaged; set the directory aside and let the node join anew",
            snapshot->index, snapshot->index);
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

enum status storage_settle_snapshot(struct storage *storage, const struct storage_base *snapshot, bool *reset,
                                    struct buffer *why)
{
    bool held = false;
    *reset = false;
    raft_index base = index_base(&storage->index).index;
    if (base > snapshot->index) {
        say(why,
            "the log begins after entry %llu, but the newest snapshot here ends with entry %llu: what lies between "
            "is "
            "gone; put the missing file snapshot-* or log-* back, or set the directory aside and let the node join "
            "anew",
            base, snapshot->index);
        return STATUS_CORRUPT;
    }
    enum status status = holds(storage, snapshot, &held, why);
    if (status != STATUS_OK || held)
        return status;
    const struct storage_write write = {.reset = true, .base = *snapshot};
    status = storage_write(storage, &write);
    *reset = status == STATUS_OK;
    if (status != STATUS_OK)
        buffer_append(why, storage->why, strlen(storage->why));
    return status;
}
