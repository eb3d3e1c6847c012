/* storage/tail.c - see storage/tail.h. */
#include "storage/tail.h"

#include <string.h>

#include "base/memory.h"
#include "base/mutant.h"

enum { PREPARE_BYTES = 1024 * 1024 };

static const char spare_name[] = "log-spare";

/* A full disk has better uses for what the spare has taken. */
static enum status give_spare_up(struct tail *tail, enum status status)
{
    tail->disk->close(tail->disk, tail->spare);
    tail->spare = NULL;
    tail->spare_failed = true;
    (void)tail->disk->remove(tail->disk, spare_name); /* if that fails too: the next spare is written over it */
    return status;
}

enum status tail_prepare(struct tail *tail, uint64_t bytes, bool *more)
{
    struct disk *disk = tail->disk;
    *more = false;
    if (tail->spare == NULL) {
        enum status status = disk->open(disk, spare_name, DISK_CREATE | DISK_DIRECT, &tail->spare);
        if (status != STATUS_OK)
            return status;
        tail->spare_bytes = 0; /* whatever a crash left is written over: it may be anything */
    }
    if (tail->spare_bytes >= bytes)
        return STATUS_OK;
    size_t size = PREPARE_BYTES;
    if (bytes - tail->spare_bytes < size)
        size = (size_t)(bytes - tail->spare_bytes);
    uint8_t *zeros = mem_alloc_aligned(DISK_BLOCK_BYTES, size);
    memset(zeros, 0, size);
    enum status status = disk->write_at(disk, tail->spare, tail->spare_bytes, zeros, size);
    mem_free(zeros);
    if (status != STATUS_OK)
        return give_spare_up(tail, status);
    tail->spare_bytes += size;
    *more = tail->spare_bytes < bytes;
    return STATUS_OK;
}

/* Says in the segment that is full that the next one's file is there; room for it is kept. */
static enum status write_next(struct tail *tail)
{
    const struct frame frame = {.type = FRAME_NEXT,
                                .salt = tail->segment.salt,
                                .number = tail->number + 1,
                                .synced = tail->number,
                                .bytes = FRAME_HEADER_BYTES};
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(block, 0, DISK_BLOCK_BYTES);
    frame_encode(block, &frame);
    enum status status = tail->disk->write_at(tail->disk, tail->file, tail->offset, block, DISK_BLOCK_BYTES);
    mem_free(block);
    if (status == STATUS_OK)
        tail->number = frame.number;
    return status;
}

/* Makes `file`, of zeros, the segment that is written to. */
static enum status begin_segment(struct tail *tail, struct disk_file *file, uint64_t bytes)
{
    if (tail->file != NULL)
        tail->disk->close(tail->disk, tail->file);
    tail->file = file;
    tail->segment = (struct segment){
        .number = tail->segment.number + 1, .salt = prng_next(&tail->prng), .bytes = bytes, .before = tail->number};
    tail->offset = DISK_BLOCK_BYTES;
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    segment_encode(block, &tail->segment);
    enum status status = tail->disk->write_at(tail->disk, tail->file, 0, block, DISK_BLOCK_BYTES);
    mem_free(block);
    return status;
}

enum status tail_roll(struct tail *tail, uint64_t need)
{
    struct disk *disk = tail->disk;
    char name[DISK_NAME_MAX];
    bool more = true;
    enum status status = STATUS_OK;
    uint64_t bytes = need + 2 * DISK_BLOCK_BYTES; /* header, next frame */
    if (bytes < tail->segment_bytes)
        bytes = tail->segment_bytes;
    while (more && status == STATUS_OK)
        status = tail_prepare(tail, bytes, &more);
    if (status != STATUS_OK)
        return status;
    segment_name(name, tail->segment.number + 1);
    status = disk->rename(disk, spare_name, name);
    if (status == STATUS_OK && !MUTANT(77))
        status = disk->sync_directory(disk);
    if (status == STATUS_OK && tail->file != NULL)
        status = write_next(tail);
    if (status != STATUS_OK)
        return status;
    struct disk_file *file = tail->spare;
    tail->spare = NULL;
    tail->spare_failed = false;
    return begin_segment(tail, file, tail->spare_bytes);
}

enum status tail_resume(struct tail *tail, const struct log_end *end)
{
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    char name[DISK_NAME_MAX];
    segment_name(name, end->segment + 1);
    tail->segment = end->last;
    enum status status = tail->disk->open(tail->disk, name, DISK_DIRECT, &file);
    if (status != STATUS_OK)
        return status;
    status = tail->disk->size(tail->disk, file, &bytes);
    if (status != STATUS_OK) {
        tail->disk->close(tail->disk, file);
        return status;
    }
    return begin_segment(tail, file, bytes);
}

void tail_close(struct tail *tail)
{
    if (tail->file != NULL)
        tail->disk->close(tail->disk, tail->file);
    if (tail->spare != NULL)
        tail->disk->close(tail->disk, tail->spare);
    tail->file = tail->spare = NULL;
}
