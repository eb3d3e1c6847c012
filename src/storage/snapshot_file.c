/* storage/snapshot_file.c - writing a snapshot, giving it its name, finding those that count. See storage/snapshot_file.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "storage/snapshot_private.h"

enum { ZSTD_LEVEL = 1 }; /* rows that repeat are what it finds; higher levels cost more time than disk */

struct snapshot_writer {
    struct disk *disk;
    struct disk_file *file;
    char name[DISK_NAME_MAX];
    uint32_t chunk_bytes;
    uint32_t section;     /* of what waits */
    struct buffer plain;  /* waits to be a chunk */
    struct buffer stored; /* the chunk as it is written: header, bytes */
    ZSTD_CCtx *zstd;      /* NULL: not compressed */
    struct hasher *chunk; /* of one chunk */
    struct hasher *whole;
    struct snapshot_seal seal; /* so far */
    uint64_t synced;           /* bytes of the file */
    bool sealed;
    bool failed;
};

static const char name_prefix[] = "snapshot-";

void snapshot_name(char name[DISK_NAME_MAX], raft_index index)
{
    snprintf(name, DISK_NAME_MAX, "%s%016llx", name_prefix, (unsigned long long)index);
}

/* --- those that count -------------------------------------------------------------------------------------------------- */

struct found {
    raft_index *indexes;
    size_t max;
    size_t count;
};

/* Names come in rising order of their indexes: the newest `max` stay. */
static void note_snapshot(void *context, const char *name)
{
    struct found *found = context;
    size_t prefix = sizeof name_prefix - 1;
    char *rest = NULL;
    if (strncmp(name, name_prefix, prefix) != 0 || strlen(name) != prefix + 16)
        return;
    raft_index index = strtoull(name + prefix, &rest, 16);
    if (*rest != 0 || index == 0 || found->max == 0)
        return;
    size_t keep = found->count < found->max ? found->count++ : found->max - 1;
    memmove(found->indexes + 1, found->indexes, keep * sizeof *found->indexes);
    found->indexes[0] = index;
}

enum status snapshot_list(struct disk *disk, raft_index *indexes, size_t max, size_t *count)
{
    struct found found = {.indexes = indexes, .max = max};
    enum status status = disk->list(disk, note_snapshot, &found);
    *count = found.count;
    return status;
}

enum { REMOVE_STEP = 2 * 1024 * 1024 };

enum status snapshot_remove(struct disk *disk, const char *name)
{
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status == STATUS_NOT_FOUND ? STATUS_OK : status;
    status = disk->size(disk, file, &bytes);
    if (status != STATUS_OK || bytes <= REMOVE_STEP) {
        disk->close(disk, file);
        return status == STATUS_OK ? disk->remove(disk, name) : status;
    }
    status = disk->rename(disk, name, SNAPSHOT_OLD);
    if (status == STATUS_OK)
        status = disk->sync_directory(disk); /* before it is less than it was */
    for (; status == STATUS_OK && bytes > REMOVE_STEP; bytes -= REMOVE_STEP)
        status = disk->resize(disk, file, bytes - REMOVE_STEP);
    disk->close(disk, file);
    return status == STATUS_OK ? disk->remove(disk, SNAPSHOT_OLD) : status;
}

enum status snapshot_publish(struct disk *disk, const char *name, raft_index index)
{
    char final[DISK_NAME_MAX];
    struct disk_file *file = NULL;
    snapshot_name(final, index);
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status;
    if (!MUTANT(118))
        status = disk->sync(disk, file);
    disk->close(disk, file);
    if (status == STATUS_OK)
        status = disk->rename(disk, name, final);
    if (status == STATUS_OK && !MUTANT(119))
        status = disk->sync_directory(disk);
    return status;
}

/* --- the layout's parts ------------------------------------------------------------------------------------------------ */

uint64_t chunk_hash(struct hasher *hasher, uint64_t number, const uint8_t header[CHUNK_HASHED_BYTES],
                    struct slice stored)
{
    hasher_reset(hasher, number);
    hasher_add(hasher, header, CHUNK_HASHED_BYTES);
    hasher_add(hasher, stored.data, stored.size);
    return hasher_sum64(hasher);
}

void chunk_header_encode(uint8_t at[CHUNK_HEADER_BYTES], const struct chunk_header *header)
{
    memcpy(at, &header->section, 4);
    memcpy(at + 4, &header->flags, 4);
    memcpy(at + 8, &header->stored, 4);
    memcpy(at + 12, &header->plain, 4);
    memcpy(at + 16, &header->hash, 8);
}

struct chunk_header chunk_header_decode(const uint8_t at[CHUNK_HEADER_BYTES])
{
    struct chunk_header header;
    memcpy(&header.section, at, 4);
    memcpy(&header.flags, at + 4, 4);
    memcpy(&header.stored, at + 8, 4);
    memcpy(&header.plain, at + 12, 4);
    memcpy(&header.hash, at + 16, 8);
    return header;
}

void footer_encode(uint8_t at[FOOTER_STORED_BYTES], const struct snapshot_seal *seal)
{
    uint64_t before = seal->file_bytes - FOOTER_BYTES;
    memcpy(at, &seal->chunks, 8);
    memcpy(at + 8, &before, 8);
    memcpy(at + 16, &seal->bytes, 8);
    memcpy(at + 24, &seal->hash.lo, 8);
    memcpy(at + 32, &seal->hash.hi, 8);
}

struct snapshot_seal footer_decode(const uint8_t at[FOOTER_STORED_BYTES])
{
    struct snapshot_seal seal;
    memcpy(&seal.chunks, at, 8);
    memcpy(&seal.file_bytes, at + 8, 8);
    memcpy(&seal.bytes, at + 16, 8);
    memcpy(&seal.hash.lo, at + 24, 8);
    memcpy(&seal.hash.hi, at + 32, 8);
    seal.file_bytes += FOOTER_BYTES;
    return seal;
}

enum status snapshot_sync_steadily(struct disk *disk, struct disk_file *file, uint64_t *synced, uint64_t written,
                                   uint64_t more)
{
    if (written > 0 && written + more - *synced <= SNAPSHOT_DIRTY_BYTES)
        return STATUS_OK;
    enum status status = disk->room(disk, SNAPSHOT_SPACE_BYTES + more);
    if (status == STATUS_OK && written > 0)
        status = disk->sync(disk, file);
    *synced = written;
    return status;
}

/* --- the writer -------------------------------------------------------------------------------------------------------- */

/* Appends to the file. */
static enum status put(struct snapshot_writer *writer, const void *data, size_t size)
{
    enum status status =
        snapshot_sync_steadily(writer->disk, writer->file, &writer->synced, writer->seal.file_bytes, size);
    if (status == STATUS_OK)
        status = writer->disk->write_at(writer->disk, writer->file, writer->seal.file_bytes, data, size);
    if (status == STATUS_OK)
        writer->seal.file_bytes += size;
    writer->failed = writer->failed || status != STATUS_OK;
    return status;
}

static enum status put_head(struct snapshot_writer *writer, struct slice head)
{
    uint32_t front[4] = {0, SNAPSHOT_MAGIC, SNAPSHOT_LAYOUT, (uint32_t)head.size};
    struct buffer bytes = {0};
    buffer_append(&bytes, front, sizeof front);
    buffer_append(&bytes, head.data, head.size);
    uint32_t crc = crc32c(0, bytes.data + 4, bytes.size - 4);
    memcpy(bytes.data, &crc, 4);
    hasher_add(writer->whole, &crc, 4);
    enum status status = put(writer, bytes.data, bytes.size);
    buffer_close(&bytes);
    return status;
}

enum status snapshot_writer_open(struct disk *disk, const char *name, struct slice head, uint32_t chunk_bytes,
                                 bool zstd, struct snapshot_writer **opened)
{
    CHECK(head.size <= SNAPSHOT_HEAD_BYTES_MAX);
    CHECK(chunk_bytes <= SNAPSHOT_CHUNK_BYTES_MAX);
    /* A new file, not an old one written over: after a crash nothing of another snapshot can stand in it. */
    enum status status = disk->remove(disk, name);
    struct disk_file *file = NULL;
    if (status == STATUS_OK || status == STATUS_NOT_FOUND)
        status = disk->open(disk, name, DISK_CREATE | DISK_EXCLUSIVE, &file);
    if (status != STATUS_OK)
        return status;
    struct snapshot_writer *writer = mem_zalloc(1, sizeof *writer);
    writer->disk = disk;
    writer->file = file;
    snprintf(writer->name, sizeof writer->name, "%s", name);
    writer->chunk_bytes = chunk_bytes > 0 ? chunk_bytes : SNAPSHOT_CHUNK_BYTES;
    writer->chunk = hasher_new(0);
    writer->whole = hasher_new(0);
    if (zstd) {
        writer->zstd = ZSTD_createCCtx();
        CHECK(writer->zstd != NULL);
    }
    status = put_head(writer, head);
    if (status != STATUS_OK) {
        snapshot_writer_close(writer);
        return status;
    }
    *opened = writer;
    return STATUS_OK;
}

/* Puts what is stored for `plain` behind the room for a header: packed if it may be, and is smaller then. Gives the flags. */
static uint32_t pack(struct snapshot_writer *writer, struct slice plain, bool may)
{
    buffer_clear(&writer->stored);
    buffer_reserve(&writer->stored, CHUNK_HEADER_BYTES + plain.size);
    writer->stored.size = CHUNK_HEADER_BYTES;
    if (may && plain.size > 1) {
        size_t size = ZSTD_compressCCtx(writer->zstd, writer->stored.data + CHUNK_HEADER_BYTES, plain.size - 1,
                                        plain.data, plain.size, ZSTD_LEVEL);
        if (!ZSTD_isError(size)) {
            writer->stored.size += size;
            return CHUNK_ZSTD;
        }
        CHECK(ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall); /* any other would make another file */
    }
    buffer_append(&writer->stored, plain.data, plain.size);
    return 0;
}

static enum status put_chunk(struct snapshot_writer *writer, uint32_t section, struct slice plain)
{
    uint32_t flags = pack(writer, plain, writer->zstd != NULL && section != SECTION_FOOTER);
    struct chunk_header header = {.section = section,
                                  .flags = flags,
                                  .stored = (uint32_t)(writer->stored.size - CHUNK_HEADER_BYTES),
                                  .plain = (uint32_t)plain.size};
    struct slice stored = slice_make(writer->stored.data + CHUNK_HEADER_BYTES, header.stored);
    chunk_header_encode(writer->stored.data, &header);
    header.hash = chunk_hash(writer->chunk, writer->seal.chunks, writer->stored.data, stored);
    chunk_header_encode(writer->stored.data, &header);
    enum status status = put(writer, writer->stored.data, writer->stored.size);
    if (status != STATUS_OK || section == SECTION_FOOTER)
        return status;
    hasher_add(writer->whole, &header.hash, sizeof header.hash);
    writer->seal.chunks++;
    writer->seal.bytes += plain.size;
    return STATUS_OK;
}

/* Makes what waits a chunk. */
static enum status flush(struct snapshot_writer *writer)
{
    if (writer->plain.size == 0)
        return STATUS_OK;
    enum status status = put_chunk(writer, writer->section, buffer_slice(&writer->plain));
    buffer_clear(&writer->plain);
    return status;
}

enum status snapshot_writer_append(struct snapshot_writer *writer, uint32_t section, struct slice bytes)
{
    CHECK(!writer->failed && !writer->sealed);
    CHECK(section >= writer->section && section < SECTION_FOOTER);
    enum status status = STATUS_OK;
    if (section != writer->section || writer->plain.size + bytes.size > writer->chunk_bytes)
        status = flush(writer);
    writer->section = section;
    while (status == STATUS_OK && bytes.size > SNAPSHOT_CHUNK_BYTES_MAX) {
        status = put_chunk(writer, section, slice_make(bytes.data, SNAPSHOT_CHUNK_BYTES_MAX));
        bytes = slice_make(bytes.data + SNAPSHOT_CHUNK_BYTES_MAX, bytes.size - SNAPSHOT_CHUNK_BYTES_MAX);
    }
    if (status == STATUS_OK)
        buffer_append(&writer->plain, bytes.data, bytes.size);
    return status;
}

enum status snapshot_writer_seal(struct snapshot_writer *writer, struct snapshot_seal *seal)
{
    CHECK(!writer->failed && !writer->sealed);
    enum status status = flush(writer);
    if (status != STATUS_OK)
        return status;
    uint8_t footer[FOOTER_STORED_BYTES];
    struct snapshot_seal made = writer->seal;
    made.file_bytes += FOOTER_BYTES;
    made.hash = hasher_sum128(writer->whole);
    footer_encode(footer, &made);
    status = put_chunk(writer, SECTION_FOOTER, slice_make(footer, sizeof footer));
    if (status == STATUS_OK)
        status = writer->disk->sync(writer->disk, writer->file);
    writer->failed = writer->failed || status != STATUS_OK;
    if (status != STATUS_OK)
        return status;
    writer->sealed = true;
    *seal = made;
    return STATUS_OK;
}

void snapshot_writer_close(struct snapshot_writer *writer)
{
    writer->disk->close(writer->disk, writer->file);
    if (!writer->sealed)
        (void)writer->disk->remove(writer->disk, writer->name); /* it does not count, and a start removes it */
    ZSTD_freeCCtx(writer->zstd);
    hasher_free(writer->chunk);
    hasher_free(writer->whole);
    buffer_close(&writer->plain);
    buffer_close(&writer->stored);
    mem_free(writer);
}
