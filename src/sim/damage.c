/* sim/damage.c - see sim/damage.h. */
#include "sim/damage.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "storage/log.h"

static const char vote_name[] = "vote"; /* storage/vote_file.h: two blocks, 40 bytes of each mean something */
enum { VOTE_SLOT_BYTES = 40 };

struct place {
    char file[DISK_NAME_MAX];
    uint64_t end; /* of what means something in it */
};

__attribute__((format(printf, 3, 4))) static enum status say(struct buffer *where, enum status status,
                                                             const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    int size = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    buffer_append(where, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
    return status;
}

static bool note_frame(void *context, const char *file, uint64_t offset, const struct frame *frame)
{
    struct place *last = context;
    if (frame->type != FRAME_ENTRIES)
        return true;
    snprintf(last->file, sizeof last->file, "%s", file);
    last->end = offset + frame->bytes;
    return true;
}

/* Where the last entries of the log end. A log that is damaged already is read as far as it goes. */
static void find_tail(struct disk *disk, struct place *last)
{
    struct log_visitor visitor = {.context = last, .frame = note_frame};
    struct log_end end = {0};
    struct buffer why = {0};
    if (log_scan(disk, &visitor, &end, &why) != STATUS_OK)
        buffer_close(&why);
}

static enum status invert(struct disk *disk, const char *name, uint64_t at, size_t bytes, struct buffer *where)
{
    struct disk_file *file = NULL;
    size_t got = 0;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return say(where, status, "%s cannot be opened", name);
    uint8_t *data = mem_alloc(bytes);
    status = disk->read_at(disk, file, at, data, bytes, &got);
    for (size_t i = 0; i < got; i++)
        data[i] ^= 0xFF;
    if (status == STATUS_OK && got == bytes)
        status = disk->write_at(disk, file, at, data, bytes);
    if (status == STATUS_OK)
        status = disk->sync(disk, file);
    disk->close(disk, file);
    mem_free(data);
    if (status != STATUS_OK)
        return say(where, status, "%s: %s", name, disk->error(disk));
    if (got < bytes)
        return say(where, STATUS_INVALID, "%s has no %zu bytes at %llu", name, bytes, (unsigned long long)at);
    return say(where, STATUS_OK, "%s at %llu", name, (unsigned long long)at);
}

static uint64_t size_of(struct disk *disk, const char *name)
{
    struct disk_file *file = NULL;
    uint64_t size = 0;
    if (disk->open(disk, name, 0, &file) != STATUS_OK)
        return 0;
    if (disk->size(disk, file, &size) != STATUS_OK)
        size = 0;
    disk->close(disk, file);
    return size;
}

/* The segment that holds offset *at of all of them; *at becomes that in it. */
static void find_segment(struct disk *disk, char name[DISK_NAME_MAX], uint64_t *at)
{
    for (uint64_t number = 1;; number++) {
        segment_name(name, number);
        uint64_t size = size_of(disk, name);
        if (size == 0 || *at < size)
            return;
        *at -= size;
    }
}

enum status damage_bytes(struct disk *disk, enum damage_file which, uint64_t at, size_t bytes, struct buffer *where)
{
    struct place place = {.file = "", .end = 0};
    if (bytes == 0 || bytes > DAMAGE_BYTES_MAX)
        return say(where, STATUS_INVALID, "bytes must be from 1 to %d", DAMAGE_BYTES_MAX);
    if (which == DAMAGE_VOTE) {
        snprintf(place.file, sizeof place.file, "%s", vote_name);
        place.end = DISK_BLOCK_BYTES + VOTE_SLOT_BYTES;
    } else if (at == DAMAGE_TAIL)
        find_tail(disk, &place);
    else
        find_segment(disk, place.file, &at);
    if (place.file[0] == 0)
        return say(where, STATUS_INVALID, "the log holds no entries");
    if (at == DAMAGE_TAIL) {
        if (place.end < bytes)
            return say(where, STATUS_INVALID, "there are only %llu bytes", (unsigned long long)place.end);
        at = place.end - bytes;
    }
    return invert(disk, place.file, at, bytes, where);
}
