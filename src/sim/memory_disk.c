/* sim/memory_disk.c - see sim/memory_disk.h. */
#include "sim/memory_disk.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"

enum { FILES_MAX = 256 };

/* A file's content; it lives as long as a name or a handle leads to it. */
struct disk_file {
    struct buffer live;
    struct buffer durable;
    bool direct;
    uint32_t handles;
    bool named;
    bool durably_named;
    char name[DISK_NAME_MAX];
    char durable_name[DISK_NAME_MAX];
};

struct memory_disk {
    struct disk disk;
    struct prng prng;
    struct disk_file *files[FILES_MAX];
    size_t count;
    uint64_t steps_left; /* until everything fails */
    char error[160];
};

static struct memory_disk *memory(struct disk *disk)
{
    return (struct memory_disk *)disk;
}

static enum status fail(struct disk *disk, const char *name, const char *what, enum status status)
{
    snprintf(memory(disk)->error, sizeof memory(disk)->error, "%s: %s", name, what);
    return status;
}

/* Takes one step of those that are left; false: the disk is dead. */
static bool step(struct disk *disk)
{
    if (memory(disk)->steps_left == 0)
        return false;
    if (memory(disk)->steps_left != UINT64_MAX)
        memory(disk)->steps_left--;
    return true;
}

static struct disk_file *find(struct disk *disk, const char *name)
{
    struct memory_disk *memory_disk = memory(disk);
    for (size_t i = 0; i < memory_disk->count; i++)
        if (memory_disk->files[i]->named && strcmp(memory_disk->files[i]->name, name) == 0)
            return memory_disk->files[i];
    return NULL;
}

static void free_file(struct disk_file *file)
{
    buffer_close(&file->live);
    buffer_close(&file->durable);
    mem_free(file);
}

/* Drops the files that nothing leads to. */
static void collect(struct memory_disk *disk)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->count; i++) {
        struct disk_file *file = disk->files[i];
        if (file->named || file->durably_named || file->handles > 0)
            disk->files[kept++] = file;
        else
            free_file(file);
    }
    disk->count = kept;
}

static void copy(struct buffer *to, const struct buffer *from)
{
    buffer_clear(to);
    buffer_append(to, from->data, from->size);
}

static void grow(struct buffer *buffer, size_t size)
{
    if (buffer->size >= size)
        return;
    size_t more = size - buffer->size;
    memset(buffer_reserve(buffer, more), 0, more);
    buffer->size = size;
}

static enum status memory_open(struct disk *disk, const char *name, unsigned flags, struct disk_file **file)
{
    struct memory_disk *memory_disk = memory(disk);
    CHECK(strlen(name) < DISK_NAME_MAX);
    struct disk_file *found = find(disk, name);
    if (found != NULL && (flags & DISK_EXCLUSIVE) != 0)
        return fail(disk, name, "it is there already", STATUS_EXISTS);
    if (found == NULL && (flags & DISK_CREATE) == 0)
        return fail(disk, name, "no such file", STATUS_NOT_FOUND);
    if (found == NULL) {
        CHECK(memory_disk->count < FILES_MAX);
        found = mem_zalloc(1, sizeof *found);
        found->named = true;
        snprintf(found->name, sizeof found->name, "%s", name);
        memory_disk->files[memory_disk->count++] = found;
    }
    found->direct = (flags & DISK_DIRECT) != 0;
    found->handles++;
    *file = found;
    return STATUS_OK;
}

static void memory_close(struct disk *disk, struct disk_file *file)
{
    CHECK(file->handles > 0);
    file->handles--;
    collect(memory(disk));
}

static enum status memory_read_at(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                                  size_t *got)
{
    (void)disk;
    *got = 0;
    if (offset >= file->live.size)
        return STATUS_OK;
    size_t left = file->live.size - (size_t)offset;
    *got = size < left ? size : left;
    memcpy(data, file->live.data + offset, *got);
    return STATUS_OK;
}

static enum status memory_write_at(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    if (!step(disk))
        return fail(disk, file->name, "the disk takes no writes", STATUS_IO);
    if (size == 0)
        return STATUS_OK;
    grow(&file->live, (size_t)offset + size);
    memcpy(file->live.data + offset, data, size);
    if (file->direct) {
        grow(&file->durable, (size_t)offset + size);
        memcpy(file->durable.data + offset, data, size);
    }
    return STATUS_OK;
}

static enum status memory_sync(struct disk *disk, struct disk_file *file)
{
    if (!step(disk))
        return fail(disk, file->name, "the disk takes no writes", STATUS_IO);
    copy(&file->durable, &file->live);
    return STATUS_OK;
}

static enum status memory_size(struct disk *disk, struct disk_file *file, uint64_t *bytes)
{
    (void)disk;
    *bytes = file->live.size;
    return STATUS_OK;
}

static enum status memory_resize(struct disk *disk, struct disk_file *file, uint64_t bytes)
{
    (void)disk;
    grow(&file->live, (size_t)bytes);
    file->live.size = (size_t)bytes;
    return STATUS_OK;
}

static enum status memory_rename(struct disk *disk, const char *from, const char *to)
{
    if (!step(disk))
        return fail(disk, from, "the disk takes no writes", STATUS_IO);
    struct disk_file *file = find(disk, from);
    if (file == NULL)
        return fail(disk, from, "no such file", STATUS_NOT_FOUND);
    struct disk_file *replaced = find(disk, to);
    if (replaced != NULL && replaced != file)
        replaced->named = false;
    snprintf(file->name, sizeof file->name, "%s", to);
    collect(memory(disk));
    return STATUS_OK;
}

static enum status memory_remove(struct disk *disk, const char *name)
{
    if (!step(disk))
        return fail(disk, name, "the disk takes no writes", STATUS_IO);
    struct disk_file *file = find(disk, name);
    if (file == NULL)
        return fail(disk, name, "no such file", STATUS_NOT_FOUND);
    file->named = false;
    collect(memory(disk));
    return STATUS_OK;
}

static enum status memory_list(struct disk *disk, void (*each)(void *context, const char *name), void *context)
{
    const char *last = "";
    for (;;) {
        const char *next = NULL;
        for (size_t i = 0; i < memory(disk)->count; i++) {
            const struct disk_file *file = memory(disk)->files[i];
            if (file->named && strcmp(file->name, last) > 0 && (next == NULL || strcmp(file->name, next) < 0))
                next = file->name;
        }
        if (next == NULL)
            return STATUS_OK;
        each(context, next);
        last = next;
    }
}

static void keep_names(struct memory_disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        struct disk_file *file = disk->files[i];
        file->durably_named = file->named;
        memcpy(file->durable_name, file->name, sizeof file->name);
    }
    collect(disk);
}

static enum status memory_sync_directory(struct disk *disk)
{
    if (!step(disk))
        return fail(disk, ".", "the disk takes no writes", STATUS_IO);
    keep_names(memory(disk));
    return STATUS_OK;
}

static const char *memory_error(struct disk *disk)
{
    return memory(disk)->error;
}

static void memory_free(struct disk *disk)
{
    for (size_t i = 0; i < memory(disk)->count; i++)
        free_file(memory(disk)->files[i]);
    mem_free(memory(disk));
}

struct disk *memory_disk_new(uint64_t seed)
{
    struct memory_disk *made = mem_zalloc(1, sizeof *made);
    made->disk = (struct disk){.open = memory_open,
                               .close = memory_close,
                               .read_at = memory_read_at,
                               .write_at = memory_write_at,
                               .sync = memory_sync,
                               .size = memory_size,
                               .resize = memory_resize,
                               .rename = memory_rename,
                               .remove = memory_remove,
                               .list = memory_list,
                               .sync_directory = memory_sync_directory,
                               .error = memory_error,
                               .free = memory_free};
    made->steps_left = UINT64_MAX;
    prng_seed(&made->prng, seed);
    return &made->disk;
}

void memory_disk_crash(struct disk *disk)
{
    struct memory_disk *memory_disk = memory(disk);
    memory_disk->steps_left = UINT64_MAX;
    if (prng_chance(&memory_disk->prng, 500000))
        keep_names(memory_disk);
    for (size_t i = 0; i < memory_disk->count; i++) {
        struct disk_file *file = memory_disk->files[i];
        file->handles = 0;
        file->named = file->durably_named;
        memcpy(file->name, file->durable_name, sizeof file->name);
        if (prng_chance(&memory_disk->prng, 500000))
            copy(&file->durable, &file->live);
        else
            copy(&file->live, &file->durable);
    }
    collect(memory_disk);
}

void memory_disk_wipe(struct disk *disk)
{
    for (size_t i = 0; i < memory(disk)->count; i++) {
        CHECK_EQ(memory(disk)->files[i]->handles, 0);
        free_file(memory(disk)->files[i]);
    }
    memory(disk)->count = 0;
}

static void copy_file(struct disk *to, const struct disk_file *file)
{
    struct disk_file *made = mem_zalloc(1, sizeof *made);
    made->named = made->durably_named = true;
    memcpy(made->name, file->durable_name, sizeof made->name);
    memcpy(made->durable_name, file->durable_name, sizeof made->name);
    copy(&made->live, &file->durable);
    copy(&made->durable, &file->durable);
    CHECK(memory(to)->count < FILES_MAX);
    memory(to)->files[memory(to)->count++] = made;
}

void memory_disk_copy(struct disk *to, const struct disk *from)
{
    const struct memory_disk *source = (const struct memory_disk *)from;
    memory_disk_wipe(to);
    for (size_t i = 0; i < source->count; i++)
        if (source->files[i]->durably_named)
            copy_file(to, source->files[i]);
}

void memory_disk_take_file(struct disk *to, const struct disk *from, const char *name)
{
    const struct memory_disk *source = (const struct memory_disk *)from;
    struct disk_file *old = find(to, name);
    if (old != NULL)
        old->named = old->durably_named = false;
    collect(memory(to));
    for (size_t i = 0; i < source->count; i++)
        if (source->files[i]->durably_named && strcmp(source->files[i]->durable_name, name) == 0)
            copy_file(to, source->files[i]);
}

void memory_disk_fail_after(struct disk *disk, uint64_t steps)
{
    memory(disk)->steps_left = steps;
}
