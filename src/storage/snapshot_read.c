/* storage/snapshot_read.c - reading a snapshot file, whole or in pieces, and receiving one. See storage/snapshot_file.h.
 *
 * A file may come from anywhere: no length in it is believed before it is within its limit and within the file.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "storage/snapshot_private.h"

struct snapshot_reader {
    struct disk *disk;
    struct disk_file *file;
    char name[DISK_NAME_MAX];
    uint64_t file_bytes;
    uint64_t offset; /* of the next chunk */
    uint32_t section;
    struct buffer head;
    struct buffer stored;
    struct buffer plain;
    ZSTD_DCtx *zstd; /* made when first needed */
    struct hasher *chunk;
    struct hasher *whole;
    uint64_t chunks; /* so far */
    uint64_t bytes;
    struct snapshot_seal seal;
    char why[320];
};

/* Says what is wrong at `offset`. */
__attribute__((format(printf, 4, 5))) static enum status say(struct snapshot_reader *reader, enum status status,
                                                             uint64_t offset, const char *format, ...)
{
    int size = snprintf(reader->why, sizeof reader->why, "file %s, offset %llu: ", reader->name,
                        (unsigned long long)offset);
    va_list list;
    va_start(list, format);
    vsnprintf(reader->why + size, sizeof reader->why - (size_t)size, format, list);
    va_end(list);
    return status;
}

static enum status say_disk(struct snapshot_reader *reader, enum status status)
{
    snprintf(reader->why, sizeof reader->why, "%s", reader->disk->error(reader->disk));
    return status;
}

/* Reads exactly `size` bytes at `offset`, which lie in the file. */
static enum status read_exactly(struct snapshot_reader *reader, uint64_t offset, void *at, size_t size)
{
    size_t got = 0;
    enum status status = reader->disk->read_at(reader->disk, reader->file, offset, at, size, &got);
    if (status != STATUS_OK)
        return say_disk(reader, status);
    return got == size ? STATUS_OK : say(reader, STATUS_CORRUPT, offset + got, "the file became shorter");
}

static enum status read_head(struct snapshot_reader *reader)
{
    uint32_t front[SNAPSHOT_FRONT_BYTES / 4];
    if (reader->file_bytes < SNAPSHOT_FRONT_BYTES)
        return say(reader, STATUS_CORRUPT, reader->file_bytes, "the file is cut short");
    enum status status = read_exactly(reader, 0, front, sizeof front);
    if (status != STATUS_OK)
        return status;
    if (front[1] != SNAPSHOT_MAGIC)
        return say(reader, STATUS_CORRUPT, 4, "this is no snapshot");
    if (front[3] > SNAPSHOT_HEAD_BYTES_MAX)
        return say(reader, STATUS_CORRUPT, 12, "a head of %u bytes is longer than the limit", front[3]);
    if (front[3] > reader->file_bytes - SNAPSHOT_FRONT_BYTES)
        return say(reader, STATUS_CORRUPT, reader->file_bytes, "the file is cut short");
    status = read_exactly(reader, SNAPSHOT_FRONT_BYTES, buffer_reserve(&reader->head, front[3]), front[3]);
    if (status != STATUS_OK)
        return status;
    reader->head.size = front[3];
    uint32_t crc = crc32c(0, (const uint8_t *)front + 4, sizeof front - 4);
    if (front[0] != crc32c(crc, reader->head.data, reader->head.size))
        return say(reader, STATUS_CORRUPT, 0, "the head does not agree with its checksum");
    if (front[2] != SNAPSHOT_LAYOUT)
        return say(reader, STATUS_UNSUPPORTED, 8, "layout %u is newer than this tidelock can read: use a newer one",
                   front[2]);
    hasher_add(reader->whole, front, 4);
    reader->offset = SNAPSHOT_FRONT_BYTES + front[3];
    return STATUS_OK;
}

enum status snapshot_reader_open(struct disk *disk, const char *name, struct snapshot_reader **opened,
                                 struct buffer *why)
{
    struct disk_file *file = NULL;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK) {
        const char *text = status == STATUS_NOT_FOUND ? "is not there" : disk->error(disk);
        buffer_append(why, "file ", 5);
        buffer_append(why, name, strlen(name));
        buffer_append(why, ": ", 2);
        buffer_append(why, text, strlen(text));
        return status;
    }
    struct snapshot_reader *reader = mem_zalloc(1, sizeof *reader);
    reader->disk = disk;
    reader->file = file;
    snprintf(reader->name, sizeof reader->name, "%s", name);
    reader->chunk = hasher_new(0);
    reader->whole = hasher_new(0);
    status = disk->size(disk, file, &reader->file_bytes);
    status = status == STATUS_OK ? read_head(reader) : say_disk(reader, status);
    if (status != STATUS_OK) {
        buffer_append(why, reader->why, strlen(reader->why));
        snapshot_reader_close(reader);
        return status;
    }
    *opened = reader;
    return STATUS_OK;
}

void snapshot_reader_close(struct snapshot_reader *reader)
{
    reader->disk->close(reader->disk, reader->file);
    ZSTD_freeDCtx(reader->zstd);
    hasher_free(reader->chunk);
    hasher_free(reader->whole);
    buffer_close(&reader->head);
    buffer_close(&reader->stored);
    buffer_close(&reader->plain);
    mem_free(reader);
}

struct slice snapshot_reader_head(const struct snapshot_reader *reader)
{
    return buffer_slice(&reader->head);
}

const char *snapshot_reader_why(const struct snapshot_reader *reader)
{
    return reader->why;
}

struct snapshot_seal snapshot_reader_seal(const struct snapshot_reader *reader)
{
    return reader->seal;
}

/* --- chunks ------------------------------------------------------------------------------------------------------------ */

/* NULL, or what no chunk's header can say. */
static const char *wrong_header(const struct snapshot_reader *reader, const struct chunk_header *header)
{
    if (header->section == SECTION_FOOTER)
        return header->stored == FOOTER_STORED_BYTES && header->plain == FOOTER_STORED_BYTES && header->flags == 0
                   ? NULL
                   : "a footer of another size";
    if (header->section < reader->section)
        return "sections are not in order";
    if ((header->flags & ~(uint32_t)CHUNK_ZSTD) != 0)
        return "flags that mean nothing";
    if (header->plain == 0 || header->plain > SNAPSHOT_CHUNK_BYTES_MAX)
        return "a chunk that is empty or larger than the limit";
    if (header->flags == CHUNK_ZSTD ? header->stored >= header->plain : header->stored != header->plain)
        return "a chunk whose sizes do not agree";
    return NULL;
}

/* Reads the chunk at reader->offset into reader->stored, and compares its hash. */
static enum status read_stored(struct snapshot_reader *reader, struct chunk_header *header)
{
    uint8_t bytes[CHUNK_HEADER_BYTES];
    uint64_t left = reader->file_bytes - reader->offset;
    if (left < CHUNK_HEADER_BYTES)
        return say(reader, STATUS_CORRUPT, reader->file_bytes, "the file is cut short");
    enum status status = read_exactly(reader, reader->offset, bytes, sizeof bytes);
    if (status != STATUS_OK)
        return status;
    *header = chunk_header_decode(bytes);
    const char *wrong = wrong_header(reader, header);
    if (wrong != NULL)
        return say(reader, STATUS_CORRUPT, reader->offset, "%s", wrong);
    if (left - CHUNK_HEADER_BYTES < header->stored)
        return say(reader, STATUS_CORRUPT, reader->file_bytes, "the file is cut short");
    buffer_clear(&reader->stored);
    status = read_exactly(reader, reader->offset + CHUNK_HEADER_BYTES,
                          buffer_reserve(&reader->stored, header->stored), header->stored);
    if (status != STATUS_OK)
        return status;
    reader->stored.size = header->stored;
    if (header->hash != chunk_hash(reader->chunk, reader->chunks, bytes, buffer_slice(&reader->stored)) &&
        !MUTANT(120))
        return say(reader, STATUS_CORRUPT, reader->offset, "chunk %llu does not agree with its hash",
                   (unsigned long long)reader->chunks);
    return STATUS_OK;
}

/* The footer agrees with all that was read, and is the end. */
static enum status check_footer(struct snapshot_reader *reader)
{
    const struct snapshot_seal seal = footer_decode(reader->stored.data);
    const struct hash128 hash = hasher_sum128(reader->whole);
    uint64_t end = reader->offset + FOOTER_BYTES;
    if (seal.chunks != reader->chunks || seal.bytes != reader->bytes || seal.file_bytes != end)
        return say(reader, STATUS_CORRUPT, reader->offset, "the footer does not agree with the chunks before it");
    if (seal.hash.lo != hash.lo || seal.hash.hi != hash.hi)
        return say(reader, STATUS_CORRUPT, reader->offset, "the hash of all does not agree");
    if (reader->file_bytes != end)
        return say(reader, STATUS_CORRUPT, end, "something stands behind the footer");
    reader->seal = seal;
    return STATUS_OK;
}

static enum status unpack(struct snapshot_reader *reader, const struct chunk_header *header, struct slice *bytes)
{
    *bytes = buffer_slice(&reader->stored);
    if (header->flags != CHUNK_ZSTD)
        return STATUS_OK;
    if (reader->zstd == NULL)
        reader->zstd = ZSTD_createDCtx();
    CHECK(reader->zstd != NULL);
    buffer_clear(&reader->plain);
    size_t size = ZSTD_decompressDCtx(reader->zstd, buffer_reserve(&reader->plain, header->plain), header->plain,
                                      reader->stored.data, reader->stored.size);
    if (ZSTD_isError(size) || size != header->plain)
        return say(reader, STATUS_CORRUPT, reader->offset, "chunk %llu cannot be unpacked",
                   (unsigned long long)reader->chunks);
    reader->plain.size = size;
    *bytes = buffer_slice(&reader->plain);
    return STATUS_OK;
}

enum status snapshot_reader_next(struct snapshot_reader *reader, uint32_t *section, struct slice *bytes, bool *end)
{
    struct chunk_header header;
    *end = false;
    enum status status = read_stored(reader, &header);
    if (status != STATUS_OK)
        return status;
    *section = header.section;
    *bytes = slice_make(NULL, 0);
    *end = header.section == SECTION_FOOTER;
    status = *end ? check_footer(reader) : unpack(reader, &header, bytes);
    if (status != STATUS_OK || *end)
        return status;
    hasher_add(reader->whole, &header.hash, sizeof header.hash);
    reader->section = header.section;
    reader->chunks++;
    reader->bytes += header.plain;
    reader->offset += CHUNK_HEADER_BYTES + header.stored;
    return STATUS_OK;
}

enum status snapshot_read_seal(struct disk *disk, const char *name, struct snapshot_seal *seal)
{
    struct disk_file *file = NULL;
    uint8_t bytes[FOOTER_BYTES];
    uint64_t size = 0;
    size_t got = 0;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status;
    status = disk->size(disk, file, &size);
    if (status == STATUS_OK && size >= FOOTER_BYTES)
        status = disk->read_at(disk, file, size - FOOTER_BYTES, bytes, sizeof bytes, &got);
    disk->close(disk, file);
    if (status != STATUS_OK)
        return status;
    if (got != FOOTER_BYTES)
        return STATUS_CORRUPT;
    const struct chunk_header header = chunk_header_decode(bytes);
    *seal = footer_decode(bytes + CHUNK_HEADER_BYTES);
    struct hasher *hasher = hasher_new(0);
    uint64_t hash =
        chunk_hash(hasher, seal->chunks, bytes, slice_make(bytes + CHUNK_HEADER_BYTES, FOOTER_STORED_BYTES));
    hasher_free(hasher);
    bool whole = header.section == SECTION_FOOTER && header.hash == hash && seal->file_bytes == size;
    return whole ? STATUS_OK : STATUS_CORRUPT;
}

/* --- in pieces --------------------------------------------------------------------------------------------------------- */

enum status snapshot_read_piece(struct disk *disk, const char *name, uint64_t offset, size_t size,
                                struct buffer *bytes)
{
    struct disk_file *file = NULL;
    size_t got = 0;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status;
    status = disk->read_at(disk, file, offset, buffer_reserve(bytes, size), size, &got);
    disk->close(disk, file);
    if (status == STATUS_OK)
        bytes->size += got;
    return status;
}

/* Opens SNAPSHOT_IN for a piece at `offset`. */
static enum status open_in(struct disk *disk, uint64_t offset, struct disk_file **file)
{
    if (offset > 0)
        return disk->open(disk, SNAPSHOT_IN, 0, file);
    /* A new file: after a crash nothing of another transfer can stand in it. */
    enum status status = disk->remove(disk, SNAPSHOT_IN);
    return status == STATUS_OK || status == STATUS_NOT_FOUND
               ? disk->open(disk, SNAPSHOT_IN, DISK_CREATE | DISK_EXCLUSIVE, file)
               : status;
}

enum status snapshot_write_piece(struct disk *disk, uint64_t offset, struct slice bytes)
{
    struct disk_file *file = NULL;
    uint64_t size = 0;
    enum status status = open_in(disk, offset, &file);
    if (status != STATUS_OK)
        return status == STATUS_NOT_FOUND ? STATUS_INVALID : status;
    status = disk->size(disk, file, &size);
    if (status == STATUS_OK && size != offset)
        status = STATUS_INVALID;
    /* Nobody remembers what was synced: each stretch of SNAPSHOT_DIRTY_BYTES is, when the next one is begun. */
    uint64_t synced = offset > 0 ? (offset - 1) / SNAPSHOT_DIRTY_BYTES * SNAPSHOT_DIRTY_BYTES : 0;
    bool written = false;
    if (status == STATUS_OK)
        status = snapshot_sync_steadily(disk, file, &synced, offset, bytes.size);
    if (status == STATUS_OK) {
        status = disk->write_at(disk, file, offset, bytes.data, bytes.size);
        written = true;
    }
    if (status != STATUS_OK && written)
        (void)disk->resize(disk, file, offset); /* if that fails too: snapshot_resume_at cuts it */
    disk->close(disk, file);
    return status;
}

enum status snapshot_resume_at(struct disk *disk, uint64_t *offset, struct buffer *head)
{
    struct snapshot_reader *reader = NULL;
    struct buffer why = {0};
    *offset = 0;
    enum status status = snapshot_reader_open(disk, SNAPSHOT_IN, &reader, &why);
    buffer_close(&why);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status == STATUS_CORRUPT || status == STATUS_UNSUPPORTED)
        return disk->remove(disk, SNAPSHOT_IN);
    if (status != STATUS_OK)
        return status;
    bool end = false;
    uint32_t section = 0;
    struct slice bytes;
    while (status == STATUS_OK && !end)
        status = snapshot_reader_next(reader, &section, &bytes, &end);
    if (status == STATUS_OK || status == STATUS_CORRUPT) {
        *offset = end && status == STATUS_OK ? reader->file_bytes : reader->offset;
        if (MUTANT(121))
            *offset = reader->file_bytes;
        buffer_append(head, reader->head.data, reader->head.size);
        status = *offset < reader->file_bytes ? disk->resize(disk, reader->file, *offset) : STATUS_OK;
    }
    snapshot_reader_close(reader);
    return status;
}
