/* replica/recover.c - see replica/recover.h. */
#include "replica/recover.h"

#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "base/trace.h"

enum { FILES_MAX = 64 };

static void say(struct buffer *why, const char *text)
{
    buffer_append(why, text, strlen(text));
}

/* What a crash may have left: a file that was being written, and such that a newer one stands for. */
static void clean(struct disk *disk, const raft_index *indexes, size_t count)
{
    char name[DISK_NAME_MAX];
    bool removed = disk->remove(disk, SNAPSHOT_NEW) == STATUS_OK;
    removed |= disk->remove(disk, SNAPSHOT_OLD) == STATUS_OK;
    for (size_t i = 1; i < count; i++) {
        snapshot_name(name, indexes[i]);
        removed |= disk->remove(disk, name) == STATUS_OK;
    }
    if (removed)
        (void)disk->sync_directory(disk);
}

static enum status load(struct disk *disk, const struct machine_options *options,
                        struct snapshot_progress *progress, struct replica_recovered *recovered,
                        struct snapshot_head *head, struct buffer *why)
{
    char name[DISK_NAME_MAX];
    struct snapshot_seal seal = {0};
    snapshot_name(name, recovered->file.index);
    LOG(LOG_INFO, "snapshot", "reading file %s", name);
    enum status status = snapshot_find_seal(disk, name, &seal, why);
    if (status == STATUS_OK)
        status = snapshot_hash_head(disk, name, &recovered->file.head_hash, why);
    if (status == STATUS_OK)
        status = snapshot_build(disk, name, options, progress, &recovered->machine, head, &recovered->configuration,
                                why);
    if (status == STATUS_CORRUPT || status == STATUS_INVALID)
        say(why, ": set the data directory aside and let the node join anew");
    if (status != STATUS_OK)
        return status;
    recovered->file.term = head->term;
    recovered->file.bytes = seal.file_bytes;
    recovered->file.hash = seal.hash;
    recovered->cluster_id = head->cluster_id;
    recovered->configuration_index = head->configuration_index;
    recovered->stamp_ms = head->stamp_ms;
    LOG(LOG_INFO, "snapshot", "read: %llu rows, at entry %llu", (unsigned long long)head->rows,
        (unsigned long long)head->index);
    return STATUS_OK;
}

enum status replica_recover(struct disk *disk, struct storage *storage, const struct machine_options *options,
                            struct snapshot_progress *progress, struct replica_recovered *recovered,
                            struct buffer *why)
{
    raft_index indexes[FILES_MAX];
    size_t count = 0;
    bool reset = false;
    struct snapshot_head head = {0};
    *recovered = (struct replica_recovered){0};
    enum status status = snapshot_list(disk, indexes, FILES_MAX, &count);
    if (status != STATUS_OK)
        say(why, disk->error(disk));
    if (status == STATUS_OK && count > 0) {
        recovered->file.index = indexes[0];
        status = load(disk, options, progress, recovered, &head, why);
    }
    const struct storage_base base = {.index = head.index, .term = head.term, .chain = head.chain};
    if (status == STATUS_OK)
        status = storage_settle_snapshot(storage, &base, &reset, why);
    if (status != STATUS_OK) {
        if (recovered->machine != NULL)
            machine_free(recovered->machine);
        replica_recovered_close(recovered);
        return status;
    }
    if (reset)
        LOG(LOG_INFO, "snapshot", "the log begins after the snapshot at entry %llu, which was just installed",
            (unsigned long long)head.index);
    clean(disk, indexes, count);
    if (recovered->machine == NULL)
        recovered->machine = machine_new(options);
    return STATUS_OK;
}

void replica_recovered_close(struct replica_recovered *recovered)
{
    buffer_close(&recovered->configuration);
}
