/* storage/tail.c - see storage/tail.h. */
#include "storage/tail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/mutant.h"

enum { PREPARE_BYTES = 1024 * 1024 };

static const char spare_name[] = "log-spare";
static const char free_prefix[] = "log-free-";

static void free_name(char name[DISK_NAME_MAX], uint64_t number)
{
    snprintf(name, DISK_NAME_MAX, "%s%08llx", free_prefix, (unsigned long long)number);
}

/* A full disk has better uses for what the spare has taken. */
static enum status give_spare_up(struct tail *tail, enum status status)
{
    tail->disk->close(tail->disk, tail->spare);
    tail->spare = NULL;
    tail->spare_failed = true;
    (void)tail->disk->remove(tail->disk, spare_name); /* if that fails too: the next spare is written over it */
    return status;
}

/* Makes a free file the spare. Its old frames are told by their salt and numbers; its old header must go. */
static enum status reuse(struct tail *tail)
{
    struct disk *disk = tail->disk;
    char name[DISK_NAME_MAX];
    uint64_t bytes = 0;
    free_name(name, tail->free[--tail->free_count]); /* whatever happens: it is not tried again in this life */
    enum status status = disk->rename(disk, name, spare_name);
    if (status == STATUS_OK)
        status = disk->open(disk, spare_name, DISK_DIRECT, &tail->spare);
    if (status != STATUS_OK)
        return status;
    status = disk->size(disk, tail->spare, &bytes);
    if (status == STATUS_OK && !MUTANT(114))
        status = tail_zero_block(disk, tail->spare, 0);
    if (status != STATUS_OK)
        return give_spare_up(tail, status);
    tail->spare_bytes = bytes - bytes % DISK_BLOCK_BYTES;
    tail->spare_reused = true;
    return STATUS_OK;
}

enum status tail_zero_block(struct disk *disk, struct disk_file *file, uint64_t offset)
{
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(block, 0, DISK_BLOCK_BYTES);
    enum status status = disk->write_at(disk, file, offset, block, DISK_BLOCK_BYTES);
    mem_free(block);
    return status;
}

enum status tail_prepare(struct tail *tail, uint64_t bytes, bool *more)
{
    struct disk *disk = tail->disk;
    *more = false;
    while (tail->spare == NULL && tail->free_count > 0)
        if (reuse(tail) != STATUS_OK)
            tail->spare_failed = false; /* another free one, or zeros */
    if (tail->spare == NULL) {
        enum status status = disk->open(disk, spare_name, DISK_CREATE | DISK_DIRECT, &tail->spare);
        if (status != STATUS_OK)
            return status;
        tail->spare_bytes = 0; /* whatever a crash left is written over: it may be anything */
        tail->spare_reused = false;
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
static enum status write_next(struct tail *tail, uint64_t next_salt)
{
    const struct frame frame = {.type = FRAME_NEXT,
                                .salt = tail->segment.salt,
                                .number = tail->number + 1,
                                .synced = tail->number,
                                .first = next_salt,
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

/* Makes `file`, which has no header, the segment that is written to. */
static enum status begin_segment(struct tail *tail, struct disk_file *file, const struct segment *segment)
{
    if (tail->file != NULL)
        tail->disk->close(tail->disk, tail->file);
    tail->file = file;
    tail->segment = *segment;
    tail->offset = DISK_BLOCK_BYTES;
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    segment_encode(block, &tail->segment);
    enum status status = tail->disk->write_at(tail->disk, tail->file, 0, block, DISK_BLOCK_BYTES);
    mem_free(block);
    return status;
}

enum status tail_roll(struct tail *tail, uint64_t need, const struct storage_base *base)
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
    struct segment next = {.number = tail->segment.number + 1,
                           .salt = prng_next(&tail->prng),
                           .bytes = tail->spare_bytes,
                           .base = *base,
                           .reused = tail->spare_reused};
    segment_name(name, next.number);
    status = disk->rename(disk, spare_name, name);
    if (status == STATUS_OK && !MUTANT(77))
        status = disk->sync_directory(disk);
    if (status == STATUS_OK && tail->file != NULL)
        status = write_next(tail, next.salt);
    if (status != STATUS_OK)
        return status;
    next.before = tail->number;
    struct disk_file *file = tail->spare;
    tail->spare = NULL;
    tail->spare_failed = false;
    return begin_segment(tail, file, &next);
}

enum status tail_resume(struct tail *tail, const struct log_end *end, const struct storage_base *base)
{
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    char name[DISK_NAME_MAX];
    segment_name(name, end->segment + 1);
    enum status status = tail->disk->open(tail->disk, name, DISK_DIRECT, &file);
    if (status != STATUS_OK)
        return status;
    status = tail->disk->size(tail->disk, file, &bytes);
    if (status != STATUS_OK) {
        tail->disk->close(tail->disk, file);
        return status;
    }
    const struct segment next = {.number = end->segment + 1,
                                 .salt = end->next_salt,
                                 .bytes = bytes - bytes % DISK_BLOCK_BYTES,
                                 .before = tail->number,
                                 .base = *base,
                                 .reused = true}; /* it may be */
    return begin_segment(tail, file, &next);
}

static void note_free(void *context, const char *name)
{
    struct tail *tail = context;
    size_t prefix = sizeof free_prefix - 1;
    char *rest = NULL;
    if (tail->free_count == TAIL_FREE_FOUND_MAX || strncmp(name, free_prefix, prefix) != 0 ||
        strlen(name) != prefix + 8)
        return;
    uint64_t number = strtoull(name + prefix, &rest, 16);
    if (*rest == 0)
        tail->free[tail->free_count++] = number;
}

enum status tail_find_free(struct tail *tail)
{
    enum status status = tail->disk->list(tail->disk, note_free, tail);
    while (tail->free_count > TAIL_FREE_MAX) {
        char name[DISK_NAME_MAX];
        free_name(name, tail->free[--tail->free_count]);
        (void)tail->disk->remove(tail->disk, name); /* if that fails, the next start tries again */
    }
    return status;
}

enum status tail_give_back(struct tail *tail, uint64_t number, uint64_t bytes, bool *gone)
{
    struct disk *disk = tail->disk;
    char name[DISK_NAME_MAX];
    char other[DISK_NAME_MAX];
    segment_name(name, number);
    free_name(other, number);
    /* One of another size was made for a record of that size, or by other settings. */
    bool keep = tail->free_count < TAIL_FREE_MAX && bytes == tail->segment_bytes &&
                disk->rename(disk, name, other) == STATUS_OK;
    enum status status = keep ? STATUS_OK : disk->remove(disk, name);
    *gone = status == STATUS_OK;
    if (status == STATUS_OK && !MUTANT(115))
        status = disk->sync_directory(disk);
    if (status == STATUS_OK && keep)
        tail->free[tail->free_count++] = number;
    return status;
}

void tail_close(struct tail *tail)
{
    if (tail->file != NULL)
        tail->disk->close(tail->disk, tail->file);
    if (tail->spare != NULL)
        tail->disk->close(tail->disk, tail->spare);
    tail->file = tail->spare = NULL;
}
