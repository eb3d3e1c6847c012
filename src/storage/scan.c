/* storage/scan.c - reading the log: its formats, and recovery's rule of torn or damaged. See storage/log.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "storage/log.h"

enum { SEGMENT_MAGIC = 0x32474553, SEGMENT_CRC_BYTES = 72 };

void segment_name(char name[DISK_NAME_MAX], uint64_t number)
{
    snprintf(name, DISK_NAME_MAX, "log-%08llx", (unsigned long long)number);
}

static void put(uint8_t *at, const void *value, size_t size)
{
    memcpy(at, value, size);
}

void segment_encode(uint8_t block[DISK_BLOCK_BYTES], const struct segment *segment)
{
    memset(block, 0, DISK_BLOCK_BYTES);
    uint32_t magic = SEGMENT_MAGIC;
    put(block + 4, &magic, 4);
    put(block + 8, &segment->number, 8);
    put(block + 16, &segment->salt, 8);
    put(block + 24, &segment->bytes, 8);
    put(block + 32, &segment->before, 8);
    put(block + 40, &segment->base.index, 8);
    put(block + 48, &segment->base.term, 8);
    put(block + 56, &segment->base.chain, 8);
    block[64] = segment->reused;
    uint32_t crc = crc32c(0, block + 4, SEGMENT_CRC_BYTES - 4);
    put(block, &crc, 4);
}

static bool segment_decode(const uint8_t *at, struct segment *segment)
{
    uint32_t crc = 0;
    uint32_t magic = 0;
    memcpy(&crc, at, 4);
    memcpy(&magic, at + 4, 4);
    if (magic != SEGMENT_MAGIC || crc != crc32c(0, at + 4, SEGMENT_CRC_BYTES - 4))
        return false;
    memcpy(&segment->number, at + 8, 8);
    memcpy(&segment->salt, at + 16, 8);
    memcpy(&segment->bytes, at + 24, 8);
    memcpy(&segment->before, at + 32, 8);
    memcpy(&segment->base.index, at + 40, 8);
    memcpy(&segment->base.term, at + 48, 8);
    memcpy(&segment->base.chain, at + 56, 8);
    segment->reused = at[64] != 0;
    return true;
}

void frame_encode(uint8_t header[FRAME_HEADER_BYTES], const struct frame *frame)
{
    put(header + 4, &frame->type, 4);
    put(header + 8, &frame->salt, 8);
    put(header + 16, &frame->number, 8);
    put(header + 24, &frame->synced, 8);
    put(header + 32, &frame->bytes, 4);
    put(header + 36, &frame->count, 4);
    put(header + 40, &frame->first, 8);
    put(header + 48, &frame->last, 8);
    put(header + 56, &frame->last_term, 8);
    put(header + 64, &frame->last_chain, 8);
    uint32_t crc = crc32c(0, header + 4, FRAME_HEADER_BYTES - 4);
    put(header, &crc, 4);
}

bool frame_decode(const uint8_t *at, struct frame *frame)
{
    uint32_t crc = 0;
    memcpy(&crc, at, 4);
    if (crc != crc32c(0, at + 4, FRAME_HEADER_BYTES - 4))
        return false;
    memcpy(&frame->type, at + 4, 4);
    memcpy(&frame->salt, at + 8, 8);
    memcpy(&frame->number, at + 16, 8);
    memcpy(&frame->synced, at + 24, 8);
    memcpy(&frame->bytes, at + 32, 4);
    memcpy(&frame->count, at + 36, 4);
    memcpy(&frame->first, at + 40, 8);
    memcpy(&frame->last, at + 48, 8);
    memcpy(&frame->last_term, at + 56, 8);
    memcpy(&frame->last_chain, at + 64, 8);
    return frame->type >= FRAME_ENTRIES && frame->type <= FRAME_RESET && frame->bytes >= FRAME_HEADER_BYTES;
}

uint64_t frame_space(uint64_t bytes)
{
    return (bytes + DISK_BLOCK_BYTES - 1) / DISK_BLOCK_BYTES * DISK_BLOCK_BYTES;
}

/* --- the scan ---------------------------------------------------------------------------------------------------------- */

struct scan {
    struct disk *disk;
    const struct log_visitor *visitor;
    struct log_end *end;
    struct buffer *why;
    char file[DISK_NAME_MAX];
    uint8_t *bytes; /* the segment, whole */
    uint64_t size;
    struct segment segment;
    bool stopped;
};

/* The numbers of the segments that are there. */
struct numbers {
    uint64_t *list;
    size_t count;
};

static void note_name(void *context, const char *name)
{
    struct numbers *numbers = context;
    char *rest = NULL;
    if (strncmp(name, "log-", 4) != 0 || strlen(name) != 12)
        return;
    uint64_t number = strtoull(name + 4, &rest, 16);
    if (*rest != 0 || number == 0)
        return;
    numbers->list = mem_realloc(numbers->list, (numbers->count + 1) * sizeof *numbers->list);
    numbers->list[numbers->count++] = number;
}

static enum status damaged(struct scan *scan, uint64_t offset, const char *what)
{
    char line[512];
    int size =
        snprintf(line, sizeof line,
                 "file %s, offset %llu: %s; the log is damaged, so this node must not vote with it: restore the "
                 "file, or set the directory aside and let the node join anew",
                 scan->file, (unsigned long long)offset, what);
    buffer_append(scan->why, line, (size_t)size);
    return STATUS_CORRUPT;
}

/* Checks the records of a frame and shows them. NULL, or what is wrong, with its offset in the file. */
static const char *scan_records(struct scan *scan, uint64_t offset, const struct frame *frame, bool show,
                                uint64_t *bad)
{
    uint64_t at = offset + FRAME_HEADER_BYTES;
    uint64_t end = offset + frame->bytes;
    for (uint32_t i = 0; i < frame->count; i++) {
        struct entry entry;
        struct slice rest = slice_make(scan->bytes + at, (size_t)(end - at));
        *bad = at;
        if ((MUTANT(76) ? entry_peek(rest, &entry) : entry_decode(rest, &entry)) != STATUS_OK ||
            entry.index != frame->first + i)
            return "a record does not agree with its checksum";
        rest.size = entry.size;
        if (show && scan->visitor->record != NULL &&
            !scan->visitor->record(scan->visitor->context, scan->file, at, &entry, rest))
            scan->stopped = true;
        if (scan->stopped)
            return NULL;
        at += entry.size;
    }
    *bad = at;
    if (at != end)
        return "a frame is longer than its records";
    for (; at < offset + frame_space(frame->bytes); at++)
        if (scan->bytes[at] != 0)
            return "the padding of a frame is not zero";
    return NULL;
}

static bool fits(const struct scan *scan, uint64_t offset, const struct frame *frame)
{
    return frame->salt == scan->segment.salt && offset + frame_space(frame->bytes) <= scan->size;
}

/* True if a frame stands somewhere from `offset` on, with a number above `number`: of this life of the segment; of any, if
 * what `salt` says is gone (a file that is used again holds lower numbers only). */
static bool frames_follow(const struct scan *scan, uint64_t offset, uint64_t number, const uint64_t *salt)
{
    struct frame frame;
    for (; offset + DISK_BLOCK_BYTES <= scan->size; offset += DISK_BLOCK_BYTES)
        if (frame_decode(scan->bytes + offset, &frame) && (salt == NULL || frame.salt == *salt) &&
            frame.number > number)
            return true;
    return false;
}

static bool all_zero(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != 0)
            return false;
    return true;
}

/* What stands at `offset` is not the next frame: the end, a torn frame, or damage. */
static enum status at_the_end(struct scan *scan, uint64_t offset, uint64_t bad, const char *what)
{
    struct log_end *end = scan->end;
    if (!MUTANT(83) && frames_follow(scan, offset, end->number + 1, &scan->segment.salt))
        return damaged(scan, bad, what);
    /* If a segment follows, its `before` shows whether anything is missing here. */
    end->offset = offset;
    struct frame frame;
    bool header = frame_decode(scan->bytes + offset, &frame);
    bool past = header && (frame.salt != scan->segment.salt || frame.number <= end->number);
    end->dirty = !past && !all_zero(scan->bytes + offset, DISK_BLOCK_BYTES);
    end->torn = end->dirty && (header || !scan->segment.reused);
    return STATUS_OK;
}

static enum status scan_frames(struct scan *scan)
{
    struct log_end *end = scan->end;
    uint64_t offset = DISK_BLOCK_BYTES;
    while (offset + DISK_BLOCK_BYTES <= scan->size && !scan->stopped) {
        struct frame frame;
        uint64_t bad = offset;
        const char *what = "a frame's header does not agree with its checksum";
        if (!frame_decode(scan->bytes + offset, &frame) || !fits(scan, offset, &frame) ||
            frame.number != end->number + 1)
            return at_the_end(scan, offset, bad, what);
        what = scan_records(scan, offset, &frame, false, &bad);
        if (what != NULL)
            return at_the_end(scan, offset, bad, what);
        if (scan->visitor->frame != NULL &&
            !scan->visitor->frame(scan->visitor->context, scan->file, offset, &frame))
            scan->stopped = true;
        if (!scan->stopped)
            (void)scan_records(scan, offset, &frame, true, &bad);
        end->number = frame.number;
        end->marked = frame.type == FRAME_MARK;
        end->next = frame.type == FRAME_NEXT;
        end->next_salt = frame.first;
        offset += frame_space(frame.bytes);
    }
    end->offset = offset;
    end->dirty = end->torn = false;
    return STATUS_OK;
}

static enum status read_segment(struct scan *scan)
{
    struct disk_file *file = NULL;
    enum status status = scan->disk->open(scan->disk, scan->file, DISK_DIRECT, &file);
    if (status != STATUS_OK)
        return status;
    status = scan->disk->size(scan->disk, file, &scan->size);
    scan->size -= scan->size % DISK_BLOCK_BYTES;
    size_t got = 0;
    if (status == STATUS_OK && scan->size > 0) {
        scan->bytes = mem_alloc_aligned(DISK_BLOCK_BYTES, (size_t)scan->size);
        status = scan->disk->read_at(scan->disk, file, 0, scan->bytes, (size_t)scan->size, &got);
        scan->size = got - got % DISK_BLOCK_BYTES;
    }
    scan->disk->close(scan->disk, file);
    return status;
}

/* True if the last segment's header was never written, so that nothing was ever acknowledged in it. If it was lost, frames
 * stand behind it: with the salt that the next frame told, or of any in the first segment of all. (If both that frame and
 * the header were lost, that is two faults.) */
static bool is_headless(const struct scan *scan, uint64_t number)
{
    const struct log_end *end = scan->end;
    if (end->segment == 0 && number != 1)
        return false;
    if (scan->size < DISK_BLOCK_BYTES)
        return true;
    if (!all_zero(scan->bytes, DISK_BLOCK_BYTES))
        return false;
    if (MUTANT(84) || (end->segment != 0 && !end->next))
        return true;
    return !frames_follow(scan, 0, end->number, end->next ? &end->next_salt : NULL);
}

static enum status scan_segment(struct scan *scan, uint64_t number, bool last_segment)
{
    struct log_end *end = scan->end;
    enum status status = read_segment(scan);
    if (status != STATUS_OK) {
        buffer_append(scan->why, scan->disk->error(scan->disk), strlen(scan->disk->error(scan->disk)));
        return status;
    }
    bool whole = scan->size >= DISK_BLOCK_BYTES && segment_decode(scan->bytes, &scan->segment);
    if (!whole && last_segment && is_headless(scan, number)) {
        end->headless = true;
        return STATUS_OK;
    }
    if (!whole || scan->segment.number != number)
        return damaged(scan, 0, "the segment's header does not agree with its checksum");
    if (end->segment == 0 && number > 1)
        end->number = scan->segment.before; /* what came before was compacted away */
    if (scan->segment.before != end->number)
        return damaged(scan, 0, "frames are missing before this segment");
    if (scan->size < scan->segment.bytes)
        return damaged(scan, scan->size, "the file is shorter than its header says");
    end->next = false;
    if (scan->visitor->segment != NULL &&
        !scan->visitor->segment(scan->visitor->context, scan->file, &scan->segment))
        scan->stopped = true;
    end->segment = number;
    end->last = scan->segment;
    return scan_frames(scan);
}

enum status log_scan(struct disk *disk, const struct log_visitor *visitor, struct log_end *end, struct buffer *why)
{
    struct numbers numbers = {0};
    memset(end, 0, sizeof *end);
    enum status status = disk->list(disk, note_name, &numbers);
    struct scan scan = {.disk = disk, .visitor = visitor, .end = end, .why = why};
    for (size_t i = 0; i < numbers.count && status == STATUS_OK && !scan.stopped; i++) {
        segment_name(scan.file, numbers.list[i]);
        if (numbers.list[i] != numbers.list[0] + i)
            status = damaged(&scan, 0, "a segment before this one is missing");
        else
            status = scan_segment(&scan, numbers.list[i], i + 1 == numbers.count);
        mem_free(scan.bytes);
        scan.bytes = NULL;
    }
    if (status == STATUS_OK && !scan.stopped && end->next && !end->headless) {
        segment_name(scan.file, end->segment + 1);
        status = damaged(&scan, 0, "the log goes on in this file, and it is missing");
    }
    mem_free(numbers.list);
    return status;
}
