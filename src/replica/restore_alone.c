/* replica/restore_alone.c - a stopped node's directory becomes that of a cluster of one. See replica/restore.h.
 *
 * IDENTITY_RECOVERING is a MessagePack list: [version 1, index of the new snapshot, [names of the old files]].
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "replica/formation.h"
#include "replica/recover.h"
#include "replica/restore_private.h"
#include "wire/pack.h"

enum { PLAN_VERSION = 1, READ_BYTES = 4 * 1024 * 1024 };

/* --- the old state ----------------------------------------------------------------------------------------------------- */

static enum status say_parked(const struct machine *machine, struct buffer *why)
{
    struct machine_status status;
    char text[400];
    machine_get_status(machine, &status);
    snprintf(text, sizeof text, "entry %llu cannot be applied: %s", (unsigned long long)status.parked_at,
             status.parked_why);
    restore_say(why, text);
    return STATUS_INVALID;
}

/* Applies the log behind the snapshot, to its end: what was not known to be committed too. */
static enum status replay(struct storage *storage, struct machine *machine, raft_index after,
                          struct restore_report *report, struct buffer *why)
{
    const raft_index last = storage_last_index(storage);
    struct machine_results results = {0};
    struct buffer records = {0};
    enum status status = STATUS_OK;
    for (raft_index next = after + 1; status == STATUS_OK && next <= last;) {
        raft_index got = 0;
        buffer_clear(&records);
        status = storage_read(storage, next, last, READ_BYTES, &records, &got);
        if (status != STATUS_OK)
            restore_say(why, storage_why(storage));
        else if (machine_apply(machine, buffer_slice(&records), false, &results) < got)
            status = say_parked(machine, why);
        next = got + 1;
    }
    report->replayed = last > after ? last - after : 0;
    buffer_close(&records);
    return status;
}

/* The state at the end of the log. */
static enum status rebuild(struct disk *disk, const struct machine_options *options, uint64_t seed,
                           struct snapshot_progress *progress, struct machine **machine,
                           struct restore_report *report, struct buffer *why)
{
    const struct storage_options how = {.seed = seed};
    struct storage *storage = NULL;
    struct replica_recovered recovered = {0};
    enum status status = storage_open(disk, &how, &storage, why);
    if (status != STATUS_OK)
        return status;
    status = replica_recover(disk, storage, options, progress, &recovered, why);
    if (status == STATUS_OK && storage_last_index(storage) == 0) {
        restore_say(why, "there is nothing to recover: this node's cluster never formed");
        status = STATUS_NOT_FOUND;
    }
    if (status == STATUS_OK)
        status = replay(storage, recovered.machine, recovered.file.index, report, why);
    storage_close(storage);
    replica_recovered_close(&recovered);
    *machine = recovered.machine;
    return status;
}

/* --- the plan ---------------------------------------------------------------------------------------------------------- */

struct listing {
    struct buffer names; /* packed texts: what belongs to the old node */
    uint32_t count;
    bool aside; /* something is there already */
};

static bool ends_in_new(const char *name)
{
    size_t size = strlen(name);
    return size > 4 && strcmp(name + size - 4, ".new") == 0;
}

static void note_file(void *context, const char *name)
{
    struct listing *listing = context;
    if (strncmp(name, RESTORE_ASIDE, sizeof RESTORE_ASIDE - 1) == 0)
        listing->aside = true;
    else if (strcmp(name, "LOCK") != 0 && strcmp(name, IDENTITY_NEXT) != 0 && !ends_in_new(name) &&
             strlen(name) + sizeof RESTORE_ASIDE <= DISK_NAME_MAX) {
        pack_text(&listing->names, slice_text(name));
        listing->count++;
    }
}

/* The point of no return. */
static enum status put_plan(struct disk *disk, raft_index index, struct buffer *why)
{
    struct listing listing = {0};
    struct buffer plan = {0};
    enum status status = restore_io(disk, disk->list(disk, note_file, &listing), why);
    if (status == STATUS_OK) {
        pack_array(&plan, 3);
        pack_u64(&plan, PLAN_VERSION);
        pack_u64(&plan, index);
        pack_array(&plan, listing.count);
        buffer_append(&plan, listing.names.data, listing.names.size);
        status = restore_io(disk, storage_put_file(disk, IDENTITY_RECOVERING, buffer_slice(&plan)), why);
    }
    buffer_close(&plan);
    buffer_close(&listing.names);
    return status;
}

static bool is_there(struct disk *disk, const char *name)
{
    struct disk_file *file = NULL;
    if (disk->open(disk, name, 0, &file) != STATUS_OK)
        return false;
    disk->close(disk, file);
    return true;
}

bool restore_is_half(struct disk *disk)
{
    return is_there(disk, IDENTITY_RECOVERING);
}

/* Once aside it stays aside: the same name may be a new file's by now. */
static enum status put_aside(struct disk *disk, struct slice name, struct restore_report *report)
{
    char from[DISK_NAME_MAX];
    char to[2 * DISK_NAME_MAX];
    snprintf(from, sizeof from, "%.*s", (int)name.size, (const char *)name.data);
    snprintf(to, sizeof to, RESTORE_ASIDE "%s", from);
    report->aside++;
    return (is_there(disk, to) && !MUTANT(191)) || !is_there(disk, from) ? STATUS_OK : disk->rename(disk, from, to);
}

/* --- from the plan on --------------------------------------------------------------------------------------------------- */

static enum status put_all_aside(struct disk *disk, struct pack_reader *plan, struct restore_report *report)
{
    uint32_t count = 0;
    enum status status = pack_read_array(plan, &count);
    for (uint32_t i = 0; status == STATUS_OK && i < count; i++) {
        struct slice name;
        status = pack_read_text(plan, &name);
        if (status == STATUS_OK)
            status = put_aside(disk, name, report);
    }
    return status == STATUS_OK ? disk->sync_directory(disk) : status;
}

static enum status put_in_place(struct disk *disk, raft_index index)
{
    enum status status = STATUS_OK;
    if (is_there(disk, SNAPSHOT_NEW))
        status = snapshot_publish(disk, SNAPSHOT_NEW, index);
    if (status == STATUS_OK && is_there(disk, IDENTITY_NEXT))
        status = disk->rename(disk, IDENTITY_NEXT, "identity");
    if (status == STATUS_OK)
        status = disk->sync_directory(disk);
    if (status == STATUS_OK)
        status = disk->remove(disk, IDENTITY_RECOVERING);
    return status == STATUS_OK ? disk->sync_directory(disk) : status;
}

/* Does what the plan says, as far as it was not done. */
static enum status go_on(struct disk *disk, struct restore_report *report, struct buffer *why)
{
    struct buffer content = {0};
    uint32_t fields = 0;
    uint64_t version = 0;
    uint64_t index = 0;
    struct identity identity;
    enum status status = storage_get_file(disk, IDENTITY_RECOVERING, &content);
    struct pack_reader plan = pack_reader_make(buffer_slice(&content));
    if (status == STATUS_OK && (pack_read_array(&plan, &fields) != STATUS_OK || fields < 3 ||
                                pack_read_u64(&plan, &version) != STATUS_OK || version != PLAN_VERSION ||
                                pack_read_u64(&plan, &index) != STATUS_OK))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK) {
        report->index = index;
        report->from = index - SNAPSHOT_ANEW_STEP;
        status = put_all_aside(disk, &plan, report);
    }
    if (status == STATUS_OK)
        status = put_in_place(disk, index);
    buffer_close(&content);
    if (status == STATUS_CORRUPT || status == STATUS_INVALID) {
        restore_say(why,
                    "file " IDENTITY_RECOVERING " is damaged, or of a newer version: the old node's files have "
                    "names that begin with " RESTORE_ASIDE);
        return STATUS_CORRUPT;
    }
    if (status != STATUS_OK)
        return restore_io(disk, status, why);
    status = identity_load(disk, &identity, why);
    report->cluster = identity.cluster_id;
    return status;
}

/* --- before it ----------------------------------------------------------------------------------------------------------- */

/* An identity of a cluster of one that has pinned its set: its start forms it. */
static enum status make_identity(const struct identity *old, const char *address, uint64_t seed,
                                 struct hash128 file, struct identity *identity, struct buffer *why)
{
    char line[300];
    for (size_t i = 0; i < old->members_count && address == NULL; i++)
        if (old->members[i].id == old->id)
            address = old->members[i].address;
    snprintf(line, sizeof line, "%llu=%s", (unsigned long long)old->id, address != NULL ? address : "");
    enum status status = formation_identity(old->id, line, 0, seed, identity, why);
    if (status != STATUS_OK)
        return status;
    struct buffer set = {0};
    formation_pack_set(identity->members, identity->members_count, &set);
    identity->cluster_id = formation_cluster_id(buffer_slice(&set));
    identity->formation = FORMATION_PINNED;
    identity->restored = formation_restored(file);
    buffer_close(&set);
    return STATUS_OK;
}

static enum status check_aside(struct disk *disk, struct buffer *why)
{
    struct listing listing = {0};
    enum status status = restore_io(disk, disk->list(disk, note_file, &listing), why);
    buffer_close(&listing.names);
    if (status != STATUS_OK || !listing.aside)
        return status;
    restore_say(why, "files of an earlier recover are still here, under names that begin with " RESTORE_ASIDE
                     ": move them elsewhere, or remove them");
    return STATUS_EXISTS;
}

static enum status prepare(struct disk *disk, const char *address, const struct machine_options *options,
                           uint64_t seed, struct snapshot_progress *progress, struct restore_report *report,
                           struct buffer *why)
{
    struct identity old;
    struct identity identity;
    struct machine *machine = NULL;
    enum status status = check_aside(disk, why);
    if (status == STATUS_OK)
        status = identity_load(disk, &old, why);
    if (status == STATUS_NOT_FOUND)
        restore_say(why, "no node's data is here (no file identity)");
    if (status != STATUS_OK)
        return status;
    report->old_cluster = old.cluster_id;
    status = make_identity(&old, address, seed, (struct hash128){0}, &identity,
                           why); /* a bad address, before all work */
    if (status == STATUS_OK)
        status = rebuild(disk, options, seed, progress, &machine, report, why);
    if (status == STATUS_OK)
        status = restore_write(machine, disk, progress, report, why);
    if (machine != NULL)
        machine_free(machine);
    if (status == STATUS_OK)
        status = make_identity(&old, address, seed, report->hash, &identity, why);
    if (status == STATUS_OK)
        status = restore_io(disk, identity_save_next(disk, &identity), why);
    return status == STATUS_OK ? put_plan(disk, report->index, why) : status;
}

enum status restore_alone(struct disk *disk, const char *address, const struct machine_options *options,
                          uint64_t seed, struct snapshot_progress *progress, struct restore_report *report,
                          struct buffer *why)
{
    *report = (struct restore_report){0};
    enum status status = STATUS_OK;
    if (!restore_is_half(disk))
        status = prepare(disk, address, options, seed, progress, report, why);
    return status == STATUS_OK ? go_on(disk, report, why) : status;
}
