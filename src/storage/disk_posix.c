/* storage/disk_posix.c - a real data directory. See storage/disk.h.
 *
 * Direct files are opened O_DIRECT|O_DSYNC; where the file system has no O_DIRECT, plainly, and each write is followed by
 * fdatasync. The only code that names files of a data directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "storage/disk.h"

enum { FLUSH_BYTES = 1024 * 1024 };

struct disk_file {
    int fd;
    bool direct;
    uint64_t flushed; /* of a file that is not: up to here; and written after that, in order */
    uint64_t behind;
    bool sync_each; /* a direct file on a file system without O_DIRECT */
    char name[DISK_NAME_MAX];
};

struct posix_disk {
    struct disk disk;
    int directory;
    int lock; /* -1: not locked */
    char error[512];
    char made[512]; /* its path, if it was made by this opening */
};

static const char lock_name[] = "LOCK";

static struct posix_disk *posix(struct disk *disk)
{
    return (struct posix_disk *)disk;
}

static enum status fail(struct disk *disk, const char *name, const char *what)
{
    int error = errno;
    snprintf(posix(disk)->error, sizeof posix(disk)->error, "%s: %s: %s", name, what, strerror(error));
    switch (error) {
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return STATUS_NO_SPACE;
    default:
        return STATUS_IO;
    }
}

static enum status posix_open(struct disk *disk, const char *name, unsigned flags, struct disk_file **file)
{
    int mode = O_RDWR | O_CLOEXEC;
    if ((flags & DISK_CREATE) != 0)
        mode |= O_CREAT;
    if ((flags & DISK_EXCLUSIVE) != 0)
        mode |= O_EXCL;
    bool sync_each = false;
    int fd = -1;
    if ((flags & DISK_DIRECT) != 0) {
        fd = openat(posix(disk)->directory, name, mode | O_DIRECT | O_DSYNC, 0640);
        sync_each = fd < 0 && errno == EINVAL;
    }
    if ((flags & DISK_DIRECT) == 0 || sync_each)
        fd = openat(posix(disk)->directory, name, mode, 0640);
    if (fd < 0 && (errno == EACCES || errno == EROFS) && (flags & DISK_CREATE) == 0)
        fd = openat(posix(disk)->directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(disk, name, "open");
    struct disk_file *made = mem_zalloc(1, sizeof *made);
    made->fd = fd;
    made->sync_each = sync_each;
    made->direct = (flags & DISK_DIRECT) != 0;
    snprintf(made->name, sizeof made->name, "%s", name);
    *file = made;
    return STATUS_OK;
}

static void posix_close(struct disk *disk, struct disk_file *file)
{
    (void)disk;
    close(file->fd);
    mem_free(file);
}

static enum status posix_read_at(struct disk *disk, struct disk_file *file, uint64_t offset, void *data,
                                 size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t part = pread(file->fd, (uint8_t *)data + *got, size - *got, (off_t)(offset + *got));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return fail(disk, file->name, "read");
        if (part == 0)
            break;
        *got += (size_t)part;
    }
    return STATUS_OK;
}

/* What is written one after the other goes to the disk as it comes. Were it all left to the sync at the end, that would keep
 * synced writes of other files waiting for hundreds of milliseconds. A request to hurry, no more: errors are sync's to tell. */
static void flush_behind(struct disk_file *file, uint64_t offset, size_t size)
{
    if (offset != file->flushed + file->behind) {
        file->flushed = offset;
        file->behind = 0;
    }
    file->behind += size;
    if (file->behind < FLUSH_BYTES)
        return;
    (void)sync_file_range(file->fd, (off_t)file->flushed, (off_t)file->behind,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    file->flushed += file->behind;
    file->behind = 0;
}

static enum status posix_write_at(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data,
                                  size_t size)
{
    size_t put = 0;
    while (put < size) {
        ssize_t part = pwrite(file->fd, (const uint8_t *)data + put, size - put, (off_t)(offset + put));
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return fail(disk, file->name, "write");
        put += (size_t)part;
    }
    if (file->sync_each && fdatasync(file->fd) != 0)
        return fail(disk, file->name, "sync");
    if (!file->direct)
        flush_behind(file, offset, size);
    return STATUS_OK;
}

static enum status posix_sync(struct disk *disk, struct disk_file *file)
{
    return fsync(file->fd) == 0 ? STATUS_OK : fail(disk, file->name, "sync");
}

static enum status posix_size(struct disk *disk, struct disk_file *file, uint64_t *bytes)
{
    struct stat info;
    if (fstat(file->fd, &info) != 0)
        return fail(disk, file->name, "stat");
    *bytes = (uint64_t)info.st_size;
    return STATUS_OK;
}

static enum status posix_resize(struct disk *disk, struct disk_file *file, uint64_t bytes)
{
    return ftruncate(file->fd, (off_t)bytes) == 0 ? STATUS_OK : fail(disk, file->name, "resize");
}

static enum status posix_rename(struct disk *disk, const char *from, const char *to)
{
    int directory = posix(disk)->directory;
    return renameat(directory, from, directory, to) == 0 ? STATUS_OK : fail(disk, from, "rename");
}

static enum status posix_remove(struct disk *disk, const char *name)
{
    return unlinkat(posix(disk)->directory, name, 0) == 0 ? STATUS_OK : fail(disk, name, "remove");
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static enum status posix_list(struct disk *disk, void (*each)(void *context, const char *name), void *context)
{
    int fd = openat(posix(disk)->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (directory == NULL)
        return fail(disk, ".", "list");
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= DISK_NAME_MAX)
            continue;
        names = mem_realloc(names, (count + 1) * sizeof *names);
        names[count] = mem_alloc(DISK_NAME_MAX);
        memcpy(names[count++], entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(directory);
    if (count > 0)
        qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        each(context, names[i]);
        mem_free(names[i]);
    }
    mem_free(names);
    return STATUS_OK;
}

static enum status posix_sync_directory(struct disk *disk)
{
    return fsync(posix(disk)->directory) == 0 ? STATUS_OK : fail(disk, ".", "sync");
}

static enum status posix_room(struct disk *disk, uint64_t bytes)
{
    struct statvfs info;
    if (fstatvfs(posix(disk)->directory, &info) != 0)
        return fail(disk, ".", "ask for space");
    uint64_t room = (uint64_t)info.f_bavail * info.f_frsize;
    if (room >= bytes)
        return STATUS_OK;
    snprintf(posix(disk)->error, sizeof posix(disk)->error, "only %llu MiB are free, and %llu are to be left",
             (unsigned long long)(room >> 20), (unsigned long long)(bytes >> 20));
    return STATUS_NO_SPACE;
}

static const char *posix_error(struct disk *disk)
{
    return posix(disk)->error;
}

static void note_file(void *context, const char *name)
{
    if (strcmp(name, lock_name) != 0)
        *(bool *)context = true;
}

/* A directory that was made here, and in which nothing came to be, is not left behind. */
static void unmake(struct disk *disk)
{
    bool used = false;
    if (posix(disk)->made[0] == 0 || posix_list(disk, note_file, &used) != STATUS_OK || used)
        return;
    (void)unlinkat(posix(disk)->directory, lock_name, 0);
    (void)rmdir(posix(disk)->made);
}

static void posix_free(struct disk *disk)
{
    unmake(disk);
    if (posix(disk)->lock >= 0)
        close(posix(disk)->lock);
    close(posix(disk)->directory);
    mem_free(disk);
}

static void say(struct buffer *why, const char *format, const char *path, const char *detail)
{
    char line[1024];
    int size = snprintf(line, sizeof line, format, path, detail);
    buffer_append(why, line, size < 0 ? 0 : (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
}

/* Takes the lock, or says who holds it. */
static enum status take_lock(struct posix_disk *made, const char *path, struct buffer *why)
{
    made->lock = openat(made->directory, lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (made->lock < 0) {
        say(why, "cannot lock data directory %s: %s", path, strerror(errno));
        return STATUS_IO;
    }
    char holder[128] = {0};
    if (flock(made->lock, LOCK_EX | LOCK_NB) != 0) {
        ssize_t size = pread(made->lock, holder, sizeof holder - 1, 0);
        say(why, "data directory %s is in use by %s: stop that node, or give --data another directory", path,
            size > 0 ? holder : "another process");
        return STATUS_LOCKED;
    }
    char host[64] = "this host";
    (void)gethostname(host, sizeof host - 1);
    int size = snprintf(holder, sizeof holder, "pid %ld on %s", (long)getpid(), host);
    if (ftruncate(made->lock, 0) != 0 || pwrite(made->lock, holder, (size_t)size, 0) != size) {
        say(why, "cannot lock data directory %s: %s", path, strerror(errno));
        return errno == ENOSPC ? STATUS_NO_SPACE : STATUS_IO;
    }
    return STATUS_OK;
}

enum status disk_posix_open(const char *path, bool create, bool lock, struct disk **disk, struct buffer *why)
{
    bool new = create &&mkdir(path, 0750) == 0;
    if (create && !new &&errno != EEXIST) {
        bool parent = errno == ENOENT;
        say(why, "cannot make data directory %s: %s", path,
            parent ? "the directory that it is to be in is not there" : strerror(errno));
        return STATUS_NOT_FOUND;
    }
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        say(why, "cannot open data directory %s: %s", path, strerror(errno));
        return STATUS_NOT_FOUND;
    }
    struct posix_disk *made = mem_zalloc(1, sizeof *made);
    made->directory = directory;
    made->lock = -1;
    if (new)
        snprintf(made->made, sizeof made->made, "%s", path);
    made->disk = (struct disk){.open = posix_open,
                               .close = posix_close,
                               .read_at = posix_read_at,
                               .write_at = posix_write_at,
                               .sync = posix_sync,
                               .size = posix_size,
                               .resize = posix_resize,
                               .rename = posix_rename,
                               .remove = posix_remove,
                               .list = posix_list,
                               .sync_directory = posix_sync_directory,
                               .room = posix_room,
                               .error = posix_error,
                               .free = posix_free};
    enum status status = lock ? take_lock(made, path, why) : STATUS_OK;
    if (status != STATUS_OK) {
        posix_free(&made->disk);
        return status;
    }
    *disk = &made->disk;
    return STATUS_OK;
}
