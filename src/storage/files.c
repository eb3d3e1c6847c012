/* storage/files.c - whole small files: written beside, synced, renamed, directory synced.
 *
 *   0 u32 crc32c of the rest   4 u32 0x31464C54 ("TLF1")   8 u64 bytes of content   16 content
 *
 * A crash leaves the old file or the new one, and perhaps NAME.new, which nobody reads.
 */
#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/mutant.h"
#include "storage/storage.h"

enum { FILE_MAGIC = 0x31464C54, FILE_HEADER_BYTES = 16, FILE_BYTES_MAX = 1 << 30 };

enum status storage_put_file(struct disk *disk, const char *name, struct slice content)
{
    char beside[DISK_NAME_MAX];
    snprintf(beside, sizeof beside, "%s.new", name);
    struct buffer bytes = {0};
    uint32_t head[4] = {0, FILE_MAGIC, 0, 0};
    uint64_t size = content.size;
    memcpy(&head[2], &size, 8);
    buffer_append(&bytes, head, sizeof head);
    buffer_append(&bytes, content.data, content.size);
    uint32_t crc = crc32c(0, bytes.data + 4, bytes.size - 4);
    memcpy(bytes.data, &crc, 4);

    struct disk_file *file = NULL;
    enum status status = disk->open(disk, beside, DISK_CREATE, &file);
    if (status == STATUS_OK) {
        status = disk->resize(disk, file, 0);
        if (status == STATUS_OK)
            status = disk->write_at(disk, file, 0, bytes.data, bytes.size);
        if (status == STATUS_OK)
            status = MUTANT(79) ? STATUS_OK : disk->sync(disk, file);
        disk->close(disk, file);
    }
    if (status == STATUS_OK)
        status = disk->rename(disk, beside, name);
    if (status == STATUS_OK)
        status = disk->sync_directory(disk);
    buffer_close(&bytes);
    return status;
}

enum status storage_get_file(struct disk *disk, const char *name, struct buffer *content)
{
    struct disk_file *file = NULL;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status;
    uint64_t size = 0;
    size_t got = 0;
    buffer_clear(content);
    status = disk->size(disk, file, &size);
    if (status == STATUS_OK && (size < FILE_HEADER_BYTES || size > FILE_BYTES_MAX))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        status = disk->read_at(disk, file, 0, buffer_reserve(content, (size_t)size), (size_t)size, &got);
    disk->close(disk, file);
    if (status != STATUS_OK)
        return status;
    content->size = got;
    uint32_t head[2];
    uint64_t bytes = 0;
    memcpy(head, content->data, sizeof head);
    memcpy(&bytes, content->data + 8, 8);
    if (got != size || head[1] != FILE_MAGIC || bytes != size - FILE_HEADER_BYTES ||
        head[0] != crc32c(0, content->data + 4, got - 4))
        return STATUS_CORRUPT;
    buffer_consume(content, FILE_HEADER_BYTES);
    return STATUS_OK;
}
