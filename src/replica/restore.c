/* replica/restore.c - a snapshot's file into an empty directory. See replica/restore.h.
 *
 * IDENTITY_RESTORED is a MessagePack list: [version 1, hash hi, hash lo].
 */
#include "replica/restore.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "replica/restore_private.h"
#include "wire/pack.h"

enum { MARK_VERSION = 1, MARK_FIELDS = 3 };

void restore_say(struct buffer *why, const char *text)
{
    buffer_append(why, text, strlen(text));
}

enum status restore_io(struct disk *disk, enum status status, struct buffer *why)
{
    if (status != STATUS_OK)
        restore_say(why, disk->error(disk));
    return status;
}

enum status restore_write(struct machine *machine, struct disk *disk, struct snapshot_progress *progress,
                          struct restore_report *report, struct buffer *why)
{
    const struct snapshot_options options = {0};
    struct snapshot_seal seal = {0};
    machine_begin_anew(machine, SNAPSHOT_ANEW_STEP);
    struct machine_frozen *frozen = machine_freeze(machine);
    const struct snapshot_head *head = machine_frozen_head(frozen);
    report->from = head->index - SNAPSHOT_ANEW_STEP;
    report->index = head->index;
    report->term = head->term;
    report->rows = head->rows;
    report->bytes = head->bytes;
    report->digest = head->digest;
    atomic_store(&progress->rows_done, 0);
    enum status status = snapshot_take(frozen, &options, disk, SNAPSHOT_NEW, progress, &seal, why);
    report->hash = seal.hash;
    machine_thaw(machine, frozen);
    return status;
}

/* --- the directory ---------------------------------------------------------------------------------------------------- */

struct content {
    char found[DISK_NAME_MAX]; /* the first file that a restore does not leave; "" if none */
    char stale[DISK_NAME_MAX]; /* a snapshot that it may have left */
    bool restored;
};

static void note_file(void *context, const char *name)
{
    struct content *content = context;
    if (strcmp(name, IDENTITY_RESTORED) == 0)
        content->restored = true;
    else if (strncmp(name, "snapshot-", 9) == 0)
        snprintf(content->stale, sizeof content->stale, "%s", name);
    else if (strcmp(name, "LOCK") != 0 && strcmp(name, SNAPSHOT_NEW) != 0 &&
             strcmp(name, IDENTITY_RESTORED ".new") != 0 && content->found[0] == 0)
        snprintf(content->found, sizeof content->found, "%s", name);
}

/* Nothing is there, or what a restore left that did not end. */
static enum status check_empty(struct disk *disk, struct buffer *why)
{
    struct content content = {0};
    enum status status = disk->list(disk, note_file, &content);
    if (status != STATUS_OK)
        return restore_io(disk, status, why);
    if (content.found[0] == 0 && !content.restored)
        return STATUS_OK;
    restore_say(why,
                content.found[0] != 0 ? "the directory is not empty: file " : "the directory was restored already");
    restore_say(why, content.found);
    restore_say(why, content.found[0] != 0
                         ? " is there; give --data an empty directory, or one that is not there yet"
                         : ": start it, or give --data another one");
    return STATUS_EXISTS;
}

static enum status remove_stale(struct disk *disk, struct buffer *why)
{
    for (;;) {
        struct content content = {0};
        enum status status = disk->list(disk, note_file, &content);
        if (status == STATUS_OK && content.stale[0] != 0)
            status = disk->remove(disk, content.stale);
        if (status != STATUS_OK || content.stale[0] == 0)
            return restore_io(disk, status, why);
    }
}

/* --- steps ------------------------------------------------------------------------------------------------------------- */

static enum status publish(struct disk *disk, const struct restore_report *report, struct buffer *why)
{
    enum status status = remove_stale(disk, why);
    if (status != STATUS_OK)
        return status;
    status = MUTANT(192) ? STATUS_OK : restore_io(disk, snapshot_publish(disk, SNAPSHOT_NEW, report->index), why);
    if (status != STATUS_OK)
        return status;
    struct buffer mark = {0};
    pack_array(&mark, MARK_FIELDS);
    pack_u64(&mark, MARK_VERSION);
    pack_u64(&mark, report->hash.hi);
    pack_u64(&mark, report->hash.lo);
    status = restore_io(disk, storage_put_file(disk, IDENTITY_RESTORED, buffer_slice(&mark)), why);
    if (MUTANT(192) && status == STATUS_OK)
        status = restore_io(disk, snapshot_publish(disk, SNAPSHOT_NEW, report->index), why);
    buffer_close(&mark);
    return status;
}

enum status restore_file(struct disk *source, const char *name, const struct machine_options *options,
                         struct disk *target, struct snapshot_progress *progress, struct restore_report *report,
                         struct buffer *why)
{
    struct machine *machine = NULL;
    struct snapshot_head head = {0};
    struct buffer configuration = {0};
    *report = (struct restore_report){0};
    enum status status = check_empty(target, why);
    if (status == STATUS_OK)
        status = snapshot_build(source, name, options, progress, &machine, &head, &configuration, why);
    if (status == STATUS_OK) {
        report->old_cluster = head.cluster_id;
        status = restore_write(machine, target, progress, report, why);
        if (status == STATUS_OK)
            CHECK(report->digest.hi == head.digest.hi && report->digest.lo == head.digest.lo);
    }
    if (status == STATUS_OK)
        status = publish(target, report, why);
    if (machine != NULL)
        machine_free(machine);
    buffer_close(&configuration);
    return status;
}

enum status restore_read_mark(struct disk *disk, struct hash128 *hash, struct buffer *why)
{
    struct buffer content = {0};
    uint32_t fields = 0;
    uint64_t version = 0;
    enum status status = storage_get_file(disk, IDENTITY_RESTORED, &content);
    struct pack_reader reader = pack_reader_make(buffer_slice(&content));
    if (status == STATUS_OK &&
        (pack_read_array(&reader, &fields) != STATUS_OK || pack_read_u64(&reader, &version) != STATUS_OK))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK && version != MARK_VERSION) {
        restore_say(why,
                    "file " IDENTITY_RESTORED ": written by a newer version: start this directory with that one");
        status = STATUS_UNSUPPORTED;
    } else if (status == STATUS_OK && (fields < MARK_FIELDS || pack_read_u64(&reader, &hash->hi) != STATUS_OK ||
                                       pack_read_u64(&reader, &hash->lo) != STATUS_OK)) {
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_CORRUPT)
        restore_say(why, "file " IDENTITY_RESTORED " is damaged: restore into an empty directory again");
    else if (status == STATUS_IO)
        restore_say(why, disk->error(disk));
    buffer_close(&content);
    return status;
}
