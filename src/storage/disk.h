/* storage/disk.h - the only way to files: a seam.
 *
 * The real disk (disk_posix.c) and the simulator's implement the same table. A disk is one data directory; names are
 * plain file names in it. All calls block. One thread uses a disk, and its `error`, at a time; other threads open the same
 * directory as disks of their own, without the lock, and work on other files. Depends on base.
 */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include "base/slice.h"
#include "base/status.h"

enum {
    DISK_BLOCK_BYTES = 4096, /* direct files: offsets, sizes and addresses are multiples */
    DISK_NAME_MAX = 64
};

enum disk_flags {
    DISK_CREATE = 1,    /* make it if it is not there */
    DISK_EXCLUSIVE = 2, /* with CREATE: EXISTS if it is there */
    DISK_DIRECT = 4     /* past the page cache; write_at is durable on return (data, and metadata it needs) */
};

struct disk_file;

struct disk {
    /* Opens for reading and writing. OK, NOT_FOUND, EXISTS, IO. */
    enum status (*open)(struct disk *disk, const char *name, unsigned flags, struct disk_file **file);
    void (*close)(struct disk *disk, struct disk_file *file);
    /* Reads up to `size` bytes; `got` is less only at the end of the file. */
    enum status (*read_at)(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                           size_t *got);
    /* Writes all of it. OK, NO_SPACE, IO: then nothing is known of the range. */
    enum status (*write_at)(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data,
                            size_t size);
    /* Makes everything written to the file durable. After an error the file is not to be trusted again. */
    enum status (*sync)(struct disk *disk, struct disk_file *file);
    enum status (*size)(struct disk *disk, struct disk_file *file, uint64_t *bytes);
    enum status (*resize)(struct disk *disk, struct disk_file *file, uint64_t bytes);
    enum status (*rename)(struct disk *disk, const char *from, const char *to);
    enum status (*remove)(struct disk *disk, const char *name);
    /* Calls `each` for every file name, in byte order. */
    enum status (*list)(struct disk *disk, void (*each)(void *context, const char *name), void *context);
    /* Makes creations, renames and removals durable. */
    enum status (*sync_directory)(struct disk *disk);
    /* OK if so many bytes are free: what a snapshot leaves for the log (storage/snapshot_file.h). NO_SPACE, IO. */
    enum status (*room)(struct disk *disk, uint64_t bytes);
    /* Says what last went wrong, with name and system error: "log-00000001: No space left on device". */
    const char *(*error)(struct disk *disk);
    /* Gives up the lock and all memory; no file may be open. */
    void (*free)(struct disk *disk);
};

/* Opens a real directory, made if `create` (its parent must exist; taken away again when it is freed with nothing but the
 * lock in it), and takes its lock (file LOCK: who holds it). OK;
 * NOT_FOUND; LOCKED; IO. On failure `why` gets a whole sentence that says what to do. `lock` false: for looking only. */
enum status disk_posix_open(const char *path, bool create, bool lock, struct disk **disk,
                            struct buffer *why) MUST_USE;

#endif
