/* sim/sim_disk.c - see sim/sim_disk.h. */
#include "sim/sim_disk.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"
#include "sim/sim_names.h"

enum { FLIPS = 256, SECTOR = 512, WRECKS_MAX = 2, HEADS = 512 };

/* Bytes that the disk promised and did not keep. */
struct wreck {
    struct inode *inode; /* a reference of its own */
    uint64_t offset;
    struct buffer good; /* what should stand there */
};

struct disk_file {
    struct inode *inode;
    bool direct;
};

struct sim_disk {
    struct disk disk;
    struct sim_names names;
    struct prng prng;
    uint64_t operations;
    uint64_t crash_at;
    uint64_t fail_at;
    enum status fail_status;
    uint64_t fail_read;
    bool full;
    bool crashed;
    enum { KEEP, LOSE, MISDIRECT } next_write;
    uint64_t wrong_from;             /* the next write from this operation on */
    struct wreck wrecks[WRECKS_MAX]; /* of this life */
    size_t wrecks_count;
    struct inode *log_inode; /* the last write of frames that was done; NULL: none in this life */
    uint64_t log_offset;
    char error[160];
};

static struct sim_disk *sim(const struct disk *disk)
{
    return (struct sim_disk *)(uintptr_t)disk;
}

/* --- faults ------------------------------------------------------------------------------------------------------------------- */

/* Counts an operation. OK: go on. *torn: it is the one that the crash cuts short. */
static enum status begin(struct disk *disk, const char *name, bool *torn)
{
    struct sim_disk *sim_disk = sim(disk);
    *torn = false;
    snprintf(sim_disk->error, sizeof sim_disk->error, "%s: simulated failure", name);
    if (sim_disk->crashed)
        return STATUS_IO;
    sim_disk->operations++;
    if (sim_disk->operations == sim_disk->fail_at)
        return sim_disk->fail_status;
    if (sim_disk->operations == sim_disk->crash_at) {
        sim_disk->crashed = true;
        *torn = true;
    }
    return STATUS_OK;
}

static enum status no_space(struct sim_disk *disk, const char *name)
{
    snprintf(disk->error, sizeof disk->error, "%s: no space left on the simulated disk", name);
    return disk->crashed ? STATUS_IO : STATUS_NO_SPACE;
}

/* --- what is destroyed ---------------------------------------------------------------------------------------------------------- */

static const char *name_of(const struct sim_disk *disk, const struct inode *inode)
{
    for (size_t i = 0; i < disk->names.now.count; i++)
        if (disk->names.now.names[i].inode == inode)
            return disk->names.now.names[i].text;
    return "";
}

static bool is_segment(const char *name)
{
    return strncmp(name, "log-", 4) == 0 && strlen(name) == 12;
}

static void wreck_add(struct sim_disk *disk, struct inode *inode, uint64_t offset, const void *good, size_t size)
{
    CHECK(disk->wrecks_count < WRECKS_MAX);
    struct wreck *wreck = &disk->wrecks[disk->wrecks_count++];
    *wreck = (struct wreck){.inode = inode, .offset = offset};
    inode->references++;
    buffer_append(&wreck->good, good, size);
}

/* Nobody could tell the last frame of a log from one that was never written: it is not destroyed after all. Anything
 * before it is, and what comes after it shows that. */
static bool stands_last(const struct sim_disk *disk, const struct wreck *wreck)
{
    const char *name = name_of(disk, wreck->inode);
    if (!is_segment(name))
        return false;
    if (disk->log_inode == NULL || wreck->inode == disk->log_inode)
        return disk->log_inode == NULL || wreck->offset + wreck->good.size > disk->log_offset;
    return strcmp(name, name_of(disk, disk->log_inode)) > 0;
}

/* A later write is right where it is, also in the middle of a wreck. */
static void wrecks_learn(struct sim_disk *disk, const struct inode *inode, uint64_t offset, const uint8_t *data,
                         size_t size)
{
    for (size_t i = 0; i < disk->wrecks_count; i++) {
        struct wreck *wreck = &disk->wrecks[i];
        uint64_t from = offset > wreck->offset ? offset : wreck->offset;
        uint64_t to = wreck->offset + wreck->good.size;
        to = offset + size < to ? offset + size : to;
        if (wreck->inode == inode && from < to)
            memcpy(wreck->good.data + (from - wreck->offset), data + (from - offset), (size_t)(to - from));
    }
}

/* The last write of frames that was done. */
static void log_went_on(struct sim_disk *disk, struct inode *inode, uint64_t offset)
{
    if (inode != NULL)
        inode->references++;
    if (disk->log_inode != NULL)
        inode_release(disk->log_inode);
    disk->log_inode = inode;
    disk->log_offset = offset;
}

/* At the end of a life: what stands last is as it should be, the rest stays destroyed. */
static void settle_wrecks(struct sim_disk *disk)
{
    for (size_t i = disk->wrecks_count; i-- > 0;) { /* the youngest first: they may overlap */
        struct wreck *wreck = &disk->wrecks[i];
        if (stands_last(disk, wreck)) {
            inode_set_bytes(&wreck->inode->durable, wreck->offset, wreck->good.data, wreck->good.size);
            inode_set_bytes(&wreck->inode->now, wreck->offset, wreck->good.data, wreck->good.size);
        }
        buffer_close(&wreck->good);
        inode_release(wreck->inode);
    }
    disk->wrecks_count = 0;
    log_went_on(disk, NULL, 0);
    disk->next_write = KEEP;
}

bool sim_disk_flip(struct disk *disk, uint64_t which)
{
    struct sim_disk *sim_disk = sim(disk);
    struct directory *names = &sim_disk->names.durable;
    if (names->count == 0 || sim_disk->wrecks_count > 0)
        return false;
    struct inode *inode = names->names[which % names->count].inode;
    if (inode->extent == 0 || inode->extent > inode->durable.size || inode->extent > inode->now.size)
        return false;
    uint64_t bit = which / FLIPS / 2 % (inode->extent * 8);
    uint64_t at = bit / 8;
    if (which / FLIPS % 2 == 0) /* every other one hits what is not just padding */
        while (at + 1 < inode->extent && inode->durable.data[at] == 0)
            at++;
    at += which / FLIPS % 4 == 0 && at + which % HEADS < inode->extent ? which % HEADS : 0;
    wreck_add(sim_disk, inode, at, inode->durable.data + at, 1);
    inode->durable.data[at] ^= (uint8_t)(1u << bit % 8);
    inode->now.data[at] ^= (uint8_t)(1u << bit % 8);
    return true;
}

void sim_disk_lose_write(struct disk *disk, uint64_t operation)
{
    sim(disk)->next_write = LOSE;
    sim(disk)->wrong_from = operation;
}

void sim_disk_misdirect_write(struct disk *disk, uint64_t operation)
{
    sim(disk)->next_write = MISDIRECT;
    sim(disk)->wrong_from = operation;
}

/* True: this write was told to go wrong, and did. *offset: where it goes instead; SIZE_MAX: nowhere. */
static bool goes_wrong(struct sim_disk *disk, const struct disk_file *file, uint64_t *offset, const uint8_t *data,
                       size_t size)
{
    struct inode *inode = file->inode;
    bool segment = is_segment(name_of(disk, inode));
    bool vote = strcmp(name_of(disk, inode), "vote") == 0;
    if (disk->next_write == KEEP || disk->operations < disk->wrong_from || !file->direct ||
        disk->wrecks_count > 0 || !(segment || vote))
        return false;
    if (disk->next_write == LOSE) {
        wreck_add(disk, inode, *offset, data, size);
        *offset = UINT64_MAX;
    } else {
        uint64_t blocks = inode->now.size < size || !segment ? 0 : (inode->now.size - size) / DISK_BLOCK_BYTES;
        uint64_t elsewhere = blocks == 0 ? *offset : prng_below(&disk->prng, blocks + 1) * DISK_BLOCK_BYTES;
        if (elsewhere == *offset)
            return false;
        wreck_add(disk, inode, *offset, data, size);
        wreck_add(disk, inode, elsewhere, inode->now.data + elsewhere, size);
        *offset = elsewhere;
    }
    disk->next_write = KEEP;
    return true;
}

/* --- the table ------------------------------------------------------------------------------------------------------------------ */

static enum status sim_open(struct disk *disk, const char *text, unsigned flags, struct disk_file **file)
{
    struct sim_disk *sim_disk = sim(disk);
    struct name *name = directory_find(&sim_disk->names.now, text);
    if (sim_disk->crashed)
        return STATUS_IO;
    if (name != NULL && (flags & DISK_EXCLUSIVE) != 0)
        return STATUS_EXISTS;
    if (name == NULL) {
        bool torn = false;
        if ((flags & DISK_CREATE) == 0)
            return STATUS_NOT_FOUND;
        enum status status = sim_disk->full ? no_space(sim_disk, text) : begin(disk, text, &torn);
        if (status != STATUS_OK)
            return status;
        struct inode *inode = mem_zalloc(1, sizeof *inode);
        directory_set(&sim_disk->names.now, text, inode);
        names_note(&sim_disk->names, NAME_MADE, text, text, inode);
        if (torn)
            return STATUS_IO;
        name = directory_find(&sim_disk->names.now, text);
    }
    struct disk_file *made = mem_zalloc(1, sizeof *made);
    made->inode = name->inode;
    made->inode->references++;
    made->direct = (flags & DISK_DIRECT) != 0;
    *file = made;
    return STATUS_OK;
}

static void sim_close(struct disk *disk, struct disk_file *file)
{
    (void)disk;
    inode_release(file->inode);
    mem_free(file);
}

static enum status sim_read_at(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                               size_t *got)
{
    const struct buffer *now = &file->inode->now;
    if (sim(disk)->crashed || (sim(disk)->fail_read > 0 && --sim(disk)->fail_read == 0)) {
        snprintf(sim(disk)->error, sizeof sim(disk)->error, "%s: read: simulated failure",
                 name_of(sim(disk), file->inode));
        return STATUS_IO;
    }
    *got = offset >= now->size ? 0 : now->size - offset < size ? (size_t)(now->size - offset) : size;
    if (*got > 0)
        memcpy(data, now->data + offset, *got);
    return STATUS_OK;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static enum status sim_write_at(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data,
                                size_t size)
{
    bool torn = false;
    bool grows = offset + size > file->inode->now.size;
    enum status status = grows && sim(disk)->full ? no_space(sim(disk), "file") : begin(disk, "file", &torn);
    if (status != STATUS_OK)
        return status;
    CHECK(!file->direct || (offset % DISK_BLOCK_BYTES == 0 && size % DISK_BLOCK_BYTES == 0));
    bool zeros = is_zero(data, size);
    bool wrong = !torn && !zeros && goes_wrong(sim(disk), file, &offset, data, size);
    if (offset == UINT64_MAX)
        return STATUS_OK;
    if (!zeros && offset + size > file->inode->extent)
        file->inode->extent = offset + size;
    if (!torn && !wrong && !zeros && is_segment(name_of(sim(disk), file->inode))) {
        log_went_on(sim(disk), file->inode, offset);
    }
    if (!wrong && !torn)
        wrecks_learn(sim(disk), file->inode, offset, data, size);
    for (size_t at = 0; at < size; at += SECTOR) {
        size_t part = size - at < SECTOR ? size - at : SECTOR;
        if (torn && prng_below(&sim(disk)->prng, 2) == 0)
            continue;
        inode_set_bytes(&file->inode->now, offset + at, (const uint8_t *)data + at, part);
        if (file->direct)
            inode_set_bytes(&file->inode->durable, offset + at, (const uint8_t *)data + at, part);
    }
    return torn ? STATUS_IO : STATUS_OK;
}

static enum status sim_sync(struct disk *disk, struct disk_file *file)
{
    bool torn = false;
    enum status status = begin(disk, "sync", &torn);
    if (status != STATUS_OK || torn)
        return status != STATUS_OK ? status : STATUS_IO;
    buffer_clear(&file->inode->durable);
    buffer_append(&file->inode->durable, file->inode->now.data, file->inode->now.size);
    return STATUS_OK;
}

static enum status sim_size(struct disk *disk, struct disk_file *file, uint64_t *bytes)
{
    *bytes = file->inode->now.size;
    return sim(disk)->crashed ? STATUS_IO : STATUS_OK;
}

static enum status sim_resize(struct disk *disk, struct disk_file *file, uint64_t bytes)
{
    bool torn = false;
    bool grows = bytes > file->inode->now.size;
    enum status status = grows && sim(disk)->full ? no_space(sim(disk), "file") : begin(disk, "resize", &torn);
    if (status != STATUS_OK || torn)
        return status != STATUS_OK ? status : STATUS_IO;
    inode_set_bytes(&file->inode->now, bytes, NULL, 0);
    file->inode->now.size = (size_t)bytes;
    return STATUS_OK;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct sim_disk *sim_disk = sim(disk);
    struct name *name = directory_find(&sim_disk->names.now, from);
    bool torn = false;
    enum status status = name == NULL ? STATUS_NOT_FOUND : begin(disk, from, &torn);
    if (status != STATUS_OK)
        return status;
    names_note(&sim_disk->names, NAME_RENAMED, from, to, name->inode);
    directory_set(&sim_disk->names.now, to, name->inode);
    directory_drop(&sim_disk->names.now, directory_find(&sim_disk->names.now, from));
    return torn ? STATUS_IO : STATUS_OK;
}

static enum status sim_remove(struct disk *disk, const char *text)
{
    struct name *name = directory_find(&sim(disk)->names.now, text);
    bool torn = false;
    enum status status = name == NULL ? STATUS_NOT_FOUND : begin(disk, text, &torn);
    if (status == STATUS_OK) {
        names_note(&sim(disk)->names, NAME_REMOVED, text, text, name->inode);
        directory_drop(&sim(disk)->names.now, name);
    }
    return status == STATUS_OK && torn ? STATUS_IO : status;
}

static enum status sim_list(struct disk *disk, void (*each)(void *context, const char *name), void *context)
{
    const struct directory *now = &sim(disk)->names.now;
    const char *last = "";
    for (size_t round = 0; round < now->count; round++) {
        const char *next = NULL;
        for (size_t i = 0; i < now->count; i++)
            if (strcmp(now->names[i].text, last) > 0 && (next == NULL || strcmp(now->names[i].text, next) < 0))
                next = now->names[i].text;
        each(context, next);
        last = next;
    }
    return sim(disk)->crashed ? STATUS_IO : STATUS_OK;
}

static enum status sim_sync_directory(struct disk *disk)
{
    bool torn = false;
    enum status status = begin(disk, "directory", &torn);
    if (status != STATUS_OK || torn)
        return status != STATUS_OK ? status : STATUS_IO;
    directory_copy(&sim(disk)->names.durable, &sim(disk)->names.now);
    names_forget(&sim(disk)->names);
    return STATUS_OK;
}

static enum status sim_room(struct disk *disk, uint64_t bytes)
{
    (void)bytes;
    return sim(disk)->full ? no_space(sim(disk), ".") : sim(disk)->crashed ? STATUS_IO : STATUS_OK;
}

static const char *sim_error(struct disk *disk)
{
    return sim(disk)->error;
}

static void sim_free(struct disk *disk)
{
    settle_wrecks(sim(disk));
    directory_close(&sim(disk)->names.now);
    directory_close(&sim(disk)->names.durable);
    names_forget(&sim(disk)->names);
    mem_free(sim(disk)->names.changes);
    mem_free(disk);
}

struct disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *made = mem_zalloc(1, sizeof *made);
    made->disk = (struct disk){.open = sim_open,
                               .close = sim_close,
                               .read_at = sim_read_at,
                               .write_at = sim_write_at,
                               .sync = sim_sync,
                               .size = sim_size,
                               .resize = sim_resize,
                               .rename = sim_rename,
                               .remove = sim_remove,
                               .list = sim_list,
                               .sync_directory = sim_sync_directory,
                               .room = sim_room,
                               .error = sim_error,
                               .free = sim_free};
    prng_seed(&made->prng, seed);
    return &made->disk;
}

uint64_t sim_disk_operations(const struct disk *disk)
{
    return sim(disk)->operations;
}

void sim_disk_crash_at(struct disk *disk, uint64_t operation)
{
    sim(disk)->crash_at = operation;
}

void sim_disk_fail_at(struct disk *disk, uint64_t operation, enum status status)
{
    sim(disk)->fail_at = operation;
    sim(disk)->fail_status = status;
}

void sim_disk_fail_read(struct disk *disk, uint64_t reads)
{
    sim(disk)->fail_read = reads;
}

void sim_disk_calm(struct disk *disk)
{
    sim(disk)->crash_at = 0;
    sim(disk)->fail_at = 0;
    sim(disk)->fail_read = 0;
    sim(disk)->next_write = KEEP;
}

void sim_disk_full(struct disk *disk, bool full)
{
    sim(disk)->full = full;
}

void sim_disk_crash(struct disk *disk)
{
    sim(disk)->crashed = true;
}

bool sim_disk_crashed(const struct disk *disk)
{
    return sim(disk)->crashed;
}

/* What was not synced survives sector by sector. */
static void settle(struct sim_disk *disk, struct inode *inode)
{
    struct buffer *durable = &inode->durable;
    struct buffer *now = &inode->now;
    size_t size = prng_below(&disk->prng, 2) == 0 || now->size < durable->size ? durable->size : now->size;
    for (size_t at = 0; at < size && at < now->size; at += SECTOR) {
        size_t part = now->size - at < SECTOR ? now->size - at : SECTOR;
        if (prng_below(&disk->prng, 2) == 0)
            inode_set_bytes(durable, at, now->data + at, part);
    }
    inode_set_bytes(durable, size, NULL, 0);
    buffer_clear(now);
    buffer_append(now, durable->data, durable->size);
}

void sim_disk_restart(struct disk *disk, uint64_t seed)
{
    struct sim_disk *sim_disk = sim(disk);
    prng_seed(&sim_disk->prng, seed);
    names_settle(&sim_disk->names, &sim_disk->prng);
    for (size_t i = 0; i < sim_disk->names.now.count; i++)
        settle(sim_disk, sim_disk->names.now.names[i].inode);
    settle_wrecks(sim_disk);
    sim_disk->crashed = false;
    sim_disk_calm(disk);
}

void sim_disk_wipe(struct disk *disk)
{
    const struct directory none = {0};
    directory_copy(&sim(disk)->names.now, &none);
    directory_copy(&sim(disk)->names.durable, &none);
    names_forget(&sim(disk)->names);
}

/* A file of its own with the durable bytes of `from`. */
static void copy_inode(struct sim_disk *to, const char *text, const struct inode *from)
{
    struct inode *made = mem_zalloc(1, sizeof *made);
    buffer_append(&made->durable, from->durable.data, from->durable.size);
    buffer_append(&made->now, from->durable.data, from->durable.size);
    directory_set(&to->names.now, text, made);
    directory_set(&to->names.durable, text, made);
}

void sim_disk_copy(struct disk *to, const struct disk *from)
{
    const struct directory *names = &sim(from)->names.durable;
    sim_disk_wipe(to);
    for (size_t i = 0; i < names->count; i++)
        copy_inode(sim(to), names->names[i].text, names->names[i].inode);
}

void sim_disk_copy_file(struct disk *to, const struct disk *from, const char *text)
{
    const struct name *name = directory_find(&sim(from)->names.durable, text);
    CHECK(name != NULL);
    copy_inode(sim(to), text, name->inode);
}
