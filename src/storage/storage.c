/* storage/storage.c - the log's writing side, its index in memory, and what opens it all. See storage/storage.h, log.h. */
#include "storage/storage.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "storage/log.h"
#include "storage/tail.h"
#include "storage/vote_file.h"

/* Where the records of one frame are. */
struct place {
    raft_index first;
    raft_index last; /* lowered by a cut */
    uint64_t segment;
    uint64_t offset;
    uint32_t bytes;
};

struct storage {
    struct disk *disk;
    struct vote_file vote;
    struct tail tail; /* the segment that is written to */
    bool marked;
    bool torn;
    bool failed;
    uint8_t *frame; /* aligned; one frame being made */
    size_t frame_capacity;
    struct place *places;
    size_t places_count;
    size_t places_capacity;
    struct raft_run *runs;
    size_t runs_count;
    size_t runs_capacity;
    raft_index last_index;
    uint64_t last_chain;
    char why[640];
};

/* --- the index -------------------------------------------------------------------------------------------------------- */

static raft_term last_term(const struct storage *storage)
{
    return storage->runs_count > 0 ? storage->runs[storage->runs_count - 1].term : 0;
}

static void add_run(struct storage *storage, raft_index index, raft_term term)
{
    if (storage->runs_count > 0 && last_term(storage) == term)
        return;
    if (storage->runs_count == storage->runs_capacity) {
        storage->runs_capacity = storage->runs_capacity * 2 + 16;
        storage->runs = mem_realloc(storage->runs, storage->runs_capacity * sizeof *storage->runs);
    }
    storage->runs[storage->runs_count++] = (struct raft_run){.first = index, .term = term};
}

static void add_place(struct storage *storage, const struct frame *frame, uint64_t segment, uint64_t offset)
{
    if (storage->places_count == storage->places_capacity) {
        storage->places_capacity = storage->places_capacity * 2 + 64;
        storage->places = mem_realloc(storage->places, storage->places_capacity * sizeof *storage->places);
    }
    storage->places[storage->places_count++] = (struct place){
        .first = frame->first, .last = frame->last, .segment = segment, .offset = offset, .bytes = frame->bytes};
}

/* Forgets entries from `from` on. The chain of the new last entry is read back by whoever needs it (chain_of). */
static void forget(struct storage *storage, raft_index from)
{
    while (storage->places_count > 0 && storage->places[storage->places_count - 1].first >= from)
        storage->places_count--;
    if (storage->places_count > 0 && storage->places[storage->places_count - 1].last >= from)
        storage->places[storage->places_count - 1].last = from - 1;
    while (storage->runs_count > 0 && storage->runs[storage->runs_count - 1].first >= from)
        storage->runs_count--;
    storage->last_index = from - 1;
}

/* Reads the chain of the last entry after a cut. */
static enum status reload_chain(struct storage *storage)
{
    storage->last_chain = 0;
    if (storage->last_index == 0)
        return STATUS_OK;
    struct buffer bytes = {0};
    raft_index got = 0;
    struct entry entry;
    enum status status = storage_read(storage, storage->last_index, storage->last_index, 1, &bytes, &got);
    if (status == STATUS_OK)
        status = entry_peek(buffer_slice(&bytes), &entry);
    if (status == STATUS_OK)
        storage->last_chain = entry.chain;
    buffer_close(&bytes);
    return status;
}

/* --- opening ------------------------------------------------------------------------------------------------------------ */

static bool see_frame(void *context, const char *file, uint64_t offset, const struct frame *frame)
{
    (void)file;
    struct storage *storage = context;
    if (frame->type == FRAME_ENTRIES)
        add_place(storage, frame, storage->tail.segment.number, offset);
    if (frame->type == FRAME_CUT) {
        forget(storage, frame->first);
        storage->last_chain = frame->last_chain;
    }
    return true;
}

static bool see_segment(void *context, const char *file, const struct segment *segment)
{
    (void)file;
    struct storage *storage = context;
    storage->tail.segment = *segment;
    return true;
}

static bool see_record(void *context, const char *file, uint64_t offset, const struct entry *entry,
                       struct slice bytes)
{
    struct storage *storage = context;
    if (storage->failed)
        return false;
    uint64_t before = storage->last_chain;
    if (entry->index != storage->last_index + 1) {
        storage->failed = true;
    } else if (entry_chain(bytes, before) != entry->chain) {
        storage->failed = true;
    }
    if (storage->failed) {
        snprintf(storage->why, sizeof storage->why,
                 "file %s, offset %llu: entry %llu does not follow the one before it; the log is damaged: set the "
                 "directory aside and let the node join anew",
                 file, (unsigned long long)offset, (unsigned long long)entry->index);
        return false;
    }
    storage->last_index = entry->index;
    storage->last_chain = entry->chain;
    add_run(storage, entry->index, entry->term);
    return true;
}

static enum status fail(struct storage *storage, enum status status)
{
    storage->failed = true;
    if (storage->why[0] == 0)
        snprintf(storage->why, sizeof storage->why, "%s", storage->disk->error(storage->disk));
    return status;
}

/* After the scan: opens the last segment for writing, and takes away what a crash left half done. */
static enum status settle(struct storage *storage, const struct log_end *end)
{
    struct disk *disk = storage->disk;
    char name[DISK_NAME_MAX];
    enum status status = STATUS_OK;
    storage->tail.number = end->number;
    storage->marked = end->marked;
    if (end->headless && end->next)
        return tail_resume(&storage->tail, end);
    if (end->headless) {
        segment_name(name, end->segment + 1);
        status = disk->remove(disk, name);
        if (status == STATUS_OK)
            status = disk->sync_directory(disk);
    }
    if (status != STATUS_OK || end->segment == 0) {
        storage->tail.segment = (struct segment){0};
        return status == STATUS_OK ? tail_roll(&storage->tail, 0) : status;
    }
    storage->tail.segment = end->last;
    storage->tail.offset = end->offset;
    segment_name(name, end->segment);
    status = disk->open(disk, name, DISK_DIRECT, &storage->tail.file);
    if (status != STATUS_OK || !end->torn || MUTANT(67))
        return status;
    storage->torn = true;
    uint8_t *zeros = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(zeros, 0, DISK_BLOCK_BYTES);
    status = disk->write_at(disk, storage->tail.file, end->offset, zeros, DISK_BLOCK_BYTES);
    mem_free(zeros);
    return status;
}

static void close_all(struct storage *storage)
{
    struct disk *disk = storage->disk;
    if (storage->vote.file != NULL)
        vote_file_close(disk, &storage->vote);
    tail_close(&storage->tail);
    mem_free(storage->frame);
    mem_free(storage->places);
    mem_free(storage->runs);
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

/* --- asking ----------------------------------------------------------------------------------------------------------- */

void storage_vote(const struct storage *storage, raft_term *term, node_id *voted_for)
{
    *term = storage->vote.term;
    *voted_for = storage->vote.voted_for;
}


raft_index storage_last_index(const struct storage *storage)
{
    return storage->last_index;
}

raft_term storage_last_term(const struct storage *storage)
{
    return last_term(storage);
}

uint64_t storage_last_chain(const struct storage *storage)
{
    return storage->last_chain;
}

size_t storage_runs(const struct storage *storage, const struct raft_run **runs)
{
    *runs = storage->runs;
    return storage->runs_count;
}

bool storage_was_torn(const struct storage *storage)
{
    return storage->torn;
}

const char *storage_why(const struct storage *storage)
{
    return storage->why;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

static void reserve_frame(struct storage *storage, size_t space)
{
    if (space <= storage->frame_capacity)
        return;
    mem_free(storage->frame);
    storage->frame_capacity = space + space / 2;
    storage->frame_capacity += DISK_BLOCK_BYTES - storage->frame_capacity % DISK_BLOCK_BYTES;
    storage->frame = mem_alloc_aligned(DISK_BLOCK_BYTES, storage->frame_capacity);
}

/* Writes the frame whose records lie in storage->frame already. Durable when it returns. */
static enum status write_frame(struct storage *storage, struct frame *frame)
{
    uint64_t space = frame_space(frame->bytes);
    reserve_frame(storage, (size_t)space);
    if (storage->tail.offset + space + DISK_BLOCK_BYTES >
        storage->tail.segment.bytes) { /* a next frame must fit behind it */
        enum status status = tail_roll(&storage->tail, space);
        if (status != STATUS_OK)
            return status;
    }
    frame->salt = storage->tail.segment.salt;
    frame->number = storage->tail.number + 1;
    frame->synced = storage->tail.number;
    frame_encode(storage->frame, frame);
    memset(storage->frame + frame->bytes, 0, (size_t)(space - frame->bytes));
    enum status status = storage->disk->write_at(storage->disk, storage->tail.file, storage->tail.offset,
                                                 storage->frame, (size_t)space);
    if (status != STATUS_OK)
        return status;
    if (frame->type == FRAME_ENTRIES)
        add_place(storage, frame, storage->tail.segment.number, storage->tail.offset);
    storage->tail.number = frame->number;
    storage->tail.offset += space;
    storage->marked = frame->type == FRAME_MARK;
    return STATUS_OK;
}

static enum status write_cut(struct storage *storage, raft_index from)
{
    CHECK(from > 0);
    if (from > storage->last_index)
        return STATUS_OK;
    if (MUTANT(81))
        from = from + 1 <= storage->last_index ? from + 1 : from;
    forget(storage, from);
    enum status status = reload_chain(storage);
    if (status != STATUS_OK)
        return status;
    struct frame frame = {.type = FRAME_CUT,
                          .bytes = FRAME_HEADER_BYTES,
                          .first = from,
                          .last = storage->last_index,
                          .last_term = last_term(storage),
                          .last_chain = storage->last_chain};
    reserve_frame(storage, DISK_BLOCK_BYTES);
    return MUTANT(72) ? STATUS_OK : write_frame(storage, &frame);
}

/* Ends the frame being made and writes it. */
static enum status flush_frame(struct storage *storage, struct frame *frame)
{
    if (frame->count == 0)
        return STATUS_OK;
    frame->last = frame->first + frame->count - 1;
    frame->last_term = last_term(storage);
    frame->last_chain = storage->last_chain;
    enum status status = write_frame(storage, frame);
    *frame = (struct frame){.type = FRAME_ENTRIES, .bytes = FRAME_HEADER_BYTES, .first = frame->last + 1};
    return status;
}

/* Puts one record into the frame being made. */
static enum status add_record(struct storage *storage, struct frame *frame, struct slice bytes)
{
    struct entry entry;
    CHECK(entry_peek(bytes, &entry) == STATUS_OK);
    CHECK_EQ(entry.size, bytes.size);
    CHECK_EQ(entry.index, storage->last_index + 1);
    if (frame->count > 0 && frame->bytes + bytes.size > FRAME_BYTES_MAX) {
        enum status status = flush_frame(storage, frame);
        if (status != STATUS_OK)
            return status;
    }
    if (frame->bytes + bytes.size > storage->frame_capacity) {
        uint8_t *old = storage->frame;
        storage->frame = NULL;
        storage->frame_capacity = 0;
        reserve_frame(storage, (size_t)frame_space((frame->bytes + bytes.size) * 2));
        if (old != NULL)
            memcpy(storage->frame, old, frame->bytes);
        mem_free(old);
    }
    memcpy(storage->frame + frame->bytes, bytes.data, bytes.size);
    frame->bytes += (uint32_t)bytes.size;
    frame->count++;
    storage->last_index = entry.index;
    storage->last_chain = entry.chain;
    add_run(storage, entry.index, entry.term);
    return STATUS_OK;
}

static enum status write_records(struct storage *storage, const struct storage_write *write)
{
    CHECK_EQ(write->first, storage->last_index + 1);
    struct frame frame = {.type = FRAME_ENTRIES, .bytes = FRAME_HEADER_BYTES, .first = write->first};
    for (size_t part = 0; part < write->records_count; part++) {
        struct slice rest = write->records[part];
        while (rest.size > 0) {
            struct entry entry;
            CHECK(entry_peek(rest, &entry) == STATUS_OK);
            enum status status = add_record(storage, &frame, slice_make(rest.data, entry.size));
            if (status != STATUS_OK)
                return status;
            rest.data += entry.size;
            rest.size -= entry.size;
        }
    }
    CHECK_EQ(storage->last_index, write->last);
    return flush_frame(storage, &frame);
}

enum status storage_write(struct storage *storage, const struct storage_write *write)
{
    CHECK(!storage->failed);
    enum status status = STATUS_OK;
    if (write->vote && !(MUTANT(80) && write->records_count > 0))
        status = vote_file_write(storage->disk, &storage->vote, write->term, write->voted_for);
    if (status == STATUS_OK && write->cut_from > 0)
        status = write_cut(storage, write->cut_from);
    if (status == STATUS_OK && write->records_count > 0)
        status = write_records(storage, write);
    if (MUTANT(82) && status == STATUS_NO_SPACE)
        return STATUS_OK;
    return status == STATUS_OK ? status : fail(storage, status);
}

enum status storage_mark(struct storage *storage)
{
    CHECK(!storage->failed);
    if (storage->marked || storage->last_index == 0)
        return STATUS_OK;
    struct frame frame = {.type = FRAME_MARK,
                          .bytes = FRAME_HEADER_BYTES,
                          .first = storage->last_index + 1,
                          .last = storage->last_index,
                          .last_term = last_term(storage),
                          .last_chain = storage->last_chain};
    reserve_frame(storage, DISK_BLOCK_BYTES);
    enum status status = write_frame(storage, &frame);
    return status == STATUS_OK ? status : fail(storage, status);
}

bool storage_prepare(struct storage *storage)
{
    bool more = false;
    /* A failure here is no failure of the log: whoever needs the segment meets it again. */
    return !storage->failed && !storage->tail.spare_failed &&
           tail_prepare(&storage->tail, storage->tail.segment_bytes, &more) == STATUS_OK && more;
}

/* --- reading back -------------------------------------------------------------------------------------------------------- */

static size_t find_place(const struct storage *storage, raft_index index)
{
    size_t lo = 0;
    size_t hi = storage->places_count;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (storage->places[middle].first <= index)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

/* Reads the frame at `place` whole into `frame`. */
static enum status read_frame(struct storage *storage, const struct place *place, uint8_t *frame, size_t space)
{
    struct disk *disk = storage->disk;
    char name[DISK_NAME_MAX];
    size_t got = 0;
    segment_name(name, place->segment);
    bool other = place->segment != storage->tail.segment.number;
    struct disk_file *file = other ? NULL : storage->tail.file;
    enum status status = other ? disk->open(disk, name, DISK_DIRECT, &file) : STATUS_OK;
    if (status == STATUS_OK)
        status = disk->read_at(disk, file, place->offset, frame, space, &got);
    if (status != STATUS_OK)
        snprintf(storage->why, sizeof storage->why, "%s", disk->error(disk));
    if (other && file != NULL)
        disk->close(disk, file);
    struct frame header;
    if (status == STATUS_OK && (got != space || !frame_decode(frame, &header) || header.first != place->first)) {
        snprintf(storage->why, sizeof storage->why, "file %s, offset %llu: the frame is damaged", name,
                 (unsigned long long)place->offset);
        status = STATUS_CORRUPT;
    }
    return status;
}

enum status storage_read(struct storage *storage, raft_index first, raft_index last, size_t bytes_max,
                         struct buffer *records, raft_index *got)
{
    CHECK(first > 0);
    CHECK(first <= last);
    CHECK(last <= storage->last_index);
    size_t start = records->size;
    *got = first - 1;
    for (size_t at = find_place(storage, first); at < storage->places_count && *got < last; at++) {
        const struct place *place = &storage->places[at];
        size_t space = (size_t)frame_space(place->bytes);
        uint8_t *frame = mem_alloc_aligned(DISK_BLOCK_BYTES, space);
        enum status status = read_frame(storage, place, frame, space);
        size_t offset = FRAME_HEADER_BYTES;
        for (raft_index index = place->first; status == STATUS_OK && index <= place->last && index <= last;
             index++) {
            struct entry entry;
            struct slice rest = slice_make(frame + offset, place->bytes - offset);
            if ((MUTANT(85) ? entry_peek(rest, &entry) : entry_decode(rest, &entry)) != STATUS_OK ||
                entry.index != index) {
                snprintf(storage->why, sizeof storage->why, "file log-%08llx, offset %llu: entry %llu is damaged",
                         (unsigned long long)place->segment, (unsigned long long)(place->offset + offset),
                         (unsigned long long)index);
                status = STATUS_CORRUPT;
                break;
            }
            offset += entry.size;
            if (index < first)
                continue;
            if (*got >= first && records->size - start + entry.size > bytes_max) {
                mem_free(frame);
                return STATUS_OK;
            }
            buffer_append(records, rest.data, entry.size);
            *got = index;
        }
        mem_free(frame);
        if (status != STATUS_OK)
            return status;
    }
    CHECK(*got >= first);
    return STATUS_OK;
}
