/* storage/storage.c - writing the log, reading it back, giving back what is wanted no more. See storage/storage.h, log.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "storage/storage_private.h"

/* --- asking ----------------------------------------------------------------------------------------------------------- */

void storage_vote(const struct storage *storage, raft_term *term, node_id *voted_for)
{
    *term = storage->vote.term;
    *voted_for = storage->vote.voted_for;
}

struct storage_base storage_base(const struct storage *storage)
{
    return index_base(&storage->index);
}

raft_index storage_last_index(const struct storage *storage)
{
    return storage->index.last.index;
}

raft_term storage_last_term(const struct storage *storage)
{
    return storage->index.last.term;
}

uint64_t storage_last_chain(const struct storage *storage)
{
    return storage->index.last.chain;
}

size_t storage_runs(const struct storage *storage, const struct raft_run **runs)
{
    *runs = storage->index.runs;
    return storage->index.runs_count;
}

uint64_t storage_bytes_after(const struct storage *storage, raft_index index)
{
    return index_bytes_after(&storage->index, index);
}

bool storage_was_torn(const struct storage *storage)
{
    return storage->torn;
}

const char *storage_why(const struct storage *storage)
{
    return storage->why;
}

static enum status fail(struct storage *storage, enum status status)
{
    storage->failed = true;
    if (storage->why[0] == 0)
        snprintf(storage->why, sizeof storage->why, "%s", storage->disk->error(storage->disk));
    return status;
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
        enum status status =
            tail_roll(&storage->tail, space, MUTANT(111) ? &storage->index.last : &storage->written);
        if (status != STATUS_OK)
            return status;
        index_add_segment(&storage->index, &storage->tail.segment);
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
        index_add_place(&storage->index, frame, storage->tail.segment.number, storage->tail.offset);
    storage->tail.number = frame->number;
    storage->tail.offset += space;
    storage->marked = frame->type == FRAME_MARK;
    storage->written =
        (struct storage_base){.index = frame->last, .term = frame->last_term, .chain = frame->last_chain};
    return STATUS_OK;
}

/* A frame without records, after which the log ends with `end`. */
static enum status write_end(struct storage *storage, uint32_t type, const struct storage_base *end)
{
    struct frame frame = {.type = type,
                          .bytes = FRAME_HEADER_BYTES,
                          .first = end->index + 1,
                          .last = end->index,
                          .last_term = end->term,
                          .last_chain = end->chain};
    reserve_frame(storage, DISK_BLOCK_BYTES);
    return write_frame(storage, &frame);
}

static enum status write_cut(struct storage *storage, raft_index from)
{
    CHECK(from > index_base(&storage->index).index);
    if (from > storage->index.last.index)
        return STATUS_OK;
    if (MUTANT(81))
        from = from + 1 <= storage->index.last.index ? from + 1 : from;
    struct storage_base end;
    enum status status = storage_chain_at(storage, from - 1, &end);
    if (status == STATUS_OK && !MUTANT(72))
        status = write_end(storage, FRAME_CUT, &end);
    if (status == STATUS_OK)
        index_cut(&storage->index, &end);
    return status;
}

static enum status write_reset(struct storage *storage, const struct storage_base *base)
{
    enum status status = MUTANT(116) ? STATUS_OK : write_end(storage, FRAME_RESET, base);
    if (status == STATUS_OK)
        index_reset(&storage->index, base);
    return status;
}

/* Ends the frame being made and writes it. */
static enum status flush_frame(struct storage *storage, struct frame *frame)
{
    if (frame->count == 0)
        return STATUS_OK;
    frame->last = frame->first + frame->count - 1;
    frame->last_term = storage->index.last.term;
    frame->last_chain = storage->index.last.chain;
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
    CHECK_EQ(entry.index, storage->index.last.index + 1);
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
    index_add_entry(&storage->index, &entry);
    return STATUS_OK;
}

static enum status write_records(struct storage *storage, const struct storage_write *write)
{
    CHECK_EQ(write->first, storage->index.last.index + 1);
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
    CHECK_EQ(storage->index.last.index, write->last);
    return flush_frame(storage, &frame);
}

enum status storage_write(struct storage *storage, const struct storage_write *write)
{
    CHECK(!storage->failed);
    enum status status = STATUS_OK;
    storage->why[0] = 0; /* whatever a read said */
    if (write->vote && !(MUTANT(80) && write->records_count > 0))
        status = vote_file_write(storage->disk, &storage->vote, write->term, write->voted_for);
    if (status == STATUS_OK && write->cut_from > 0)
        status = write_cut(storage, write->cut_from);
    if (status == STATUS_OK && write->reset)
        status = write_reset(storage, &write->base);
    if (status == STATUS_OK && write->records_count > 0)
        status = write_records(storage, write);
    if (MUTANT(82) && status == STATUS_NO_SPACE)
        return STATUS_OK;
    return status == STATUS_OK ? status : fail(storage, status);
}

enum status storage_mark(struct storage *storage)
{
    CHECK(!storage->failed);
    if (storage->marked || storage->index.last.index == 0)
        return STATUS_OK;
    storage->why[0] = 0;
    const struct storage_base end = storage->index.last;
    enum status status = write_end(storage, FRAME_MARK, &end);
    return status == STATUS_OK ? status : fail(storage, status);
}

bool storage_prepare(struct storage *storage)
{
    struct tail *tail = &storage->tail;
    bool more = false;
    /* Not before half of the segment is used: after a restart votes and a leader's first entries have the disk to themselves. */
    if (storage->failed || tail->spare_failed || (tail->file != NULL && tail->offset < tail->segment.bytes / 2))
        return false;
    /* A failure here is no failure of the log: whoever needs the segment meets it again. */
    return tail_prepare(tail, tail->segment_bytes, &more) == STATUS_OK && more;
}

/* --- reading back -------------------------------------------------------------------------------------------------------- */

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
    CHECK(last <= storage->index.last.index);
    raft_index base = index_base(&storage->index).index;
    if (first <= base) {
        snprintf(storage->why, sizeof storage->why,
                 "entry %llu is not in the log any more: it begins after entry %llu", (unsigned long long)first,
                 (unsigned long long)base);
        return STATUS_NOT_FOUND;
    }
    size_t start = records->size;
    *got = first - 1;
    for (size_t at = index_find(&storage->index, first); at < storage->index.places_count && *got < last; at++) {
        const struct place *place = &storage->index.places[at];
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

enum status storage_chain_at(struct storage *storage, raft_index index, struct storage_base *at)
{
    *at = index_base(&storage->index);
    if (index == at->index)
        return STATUS_OK;
    struct buffer bytes = {0};
    raft_index got = 0;
    struct entry entry;
    enum status status = storage_read(storage, index, index, 1, &bytes, &got);
    if (status == STATUS_OK)
        status = entry_peek(buffer_slice(&bytes), &entry);
    if (status == STATUS_OK)
        *at = (struct storage_base){.index = index, .term = entry.term, .chain = entry.chain};
    buffer_close(&bytes);
    return status;
}

/* --- giving back ---------------------------------------------------------------------------------------------------------- */

static enum status give_back_oldest(struct storage *storage)
{
    struct log_index *index = &storage->index;
    bool gone = false;
    enum status status = tail_give_back(&storage->tail, index->oldest, index->segments[0].bytes, &gone);
    if (status != STATUS_OK)
        snprintf(storage->why, sizeof storage->why, "%s", storage->disk->error(storage->disk));
    if (gone)
        index_drop(index);
    storage->kept = gone && status != STATUS_OK;
    return status;
}

enum status storage_compact(struct storage *storage, raft_index index, size_t segments_max, bool *more)
{
    CHECK(!storage->failed);
    *more = false;
    if (storage->kept) {
        snprintf(storage->why, sizeof storage->why,
                 "the log is not compacted until the node is started anew: its directory could not be synced");
        return STATUS_IO;
    }
    for (size_t i = 0; i < segments_max && index_may_drop(&storage->index, index); i++) {
        enum status status = give_back_oldest(storage);
        if (status != STATUS_OK)
            return status;
    }
    *more = index_may_drop(&storage->index, index);
    return STATUS_OK;
}
