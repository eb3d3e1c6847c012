/* cli/bind_files.c - tidelock.files: what an operator does with snapshots' files. See cli/bind.h.
 *
 * A function that fails returns nil, a sentence, and the name of its status ("EXISTS").
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/trace.h"
#include "cli/bind.h"
#include "cli/fields.h"
#include "node/teller.h"
#include "replica/restore.h"

enum { PATH_BYTES = 4096 };

static int fail(lua_State *L, enum status status, struct buffer *why)
{
    lua_pushnil(L);
    if (why->size > 0)
        lua_pushlstring(L, (const char *)why->data, why->size);
    else
        lua_pushstring(L, status_text(status));
    lua_pushstring(L, status_name(status));
    buffer_close(why);
    return 3;
}

/* The directory of a path as a disk, without its lock; *name: the rest of the path. */
static enum status open_beside(const char *path, struct disk **disk, const char **name, struct buffer *why)
{
    char directory[PATH_BYTES] = ".";
    const char *slash = strrchr(path, '/');
    *name = slash != NULL ? slash + 1 : path;
    if (slash != NULL)
        snprintf(directory, sizeof directory, "%.*s", slash > path ? (int)(slash - path) : 1, path);
    return disk_posix_open(directory, false, false, disk, why);
}

static enum status say_io(struct disk *disk, enum status status, struct buffer *why)
{
    if (status != STATUS_OK && why->size == 0)
        buffer_append(why, disk->error(disk), strlen(disk->error(disk)));
    return status;
}

/* inspect(path) -> a MessagePack map: what machine/snapshot.h's snapshot_inspect says */
static int files_inspect(lua_State *L)
{
    struct disk *disk = NULL;
    const char *name = NULL;
    struct buffer why = {0};
    struct buffer out = {0};
    enum status status = open_beside(luaL_checkstring(L, 1), &disk, &name, &why);
    if (status == STATUS_OK) {
        status = snapshot_inspect(disk, name, &out, &why);
        disk->free(disk);
    }
    if (status != STATUS_OK)
        return fail(L, status, &why);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_close(&out);
    buffer_close(&why);
    return 1;
}

/* Reads a file to its end; with `out`, writes what the service's section is there. */
static enum status read_whole(struct disk *disk, const char *name, FILE *out, struct buffer *why)
{
    struct snapshot_reader *reader = NULL;
    uint32_t section = 0;
    struct slice bytes = {0};
    bool end = false;
    enum status status = snapshot_reader_open(disk, name, &reader, why);
    if (status != STATUS_OK)
        return status;
    while (status == STATUS_OK && !end) {
        status = snapshot_reader_next(reader, &section, &bytes, &end);
        if (status != STATUS_OK)
            buffer_append(why, snapshot_reader_why(reader), strlen(snapshot_reader_why(reader)));
        else if (!end && section == SNAPSHOT_SECTION_SERVICE && out != NULL &&
                 fwrite(bytes.data, 1, bytes.size, out) != bytes.size)
            status = STATUS_IO;
    }
    snapshot_reader_close(reader);
    if (status == STATUS_IO && why->size == 0)
        buffer_append(why, "standard output cannot be written", 33);
    return status;
}

/* raw(path) -> true: the service's section went to standard output */
static int files_raw(lua_State *L)
{
    struct disk *disk = NULL;
    const char *name = NULL;
    struct buffer why = {0};
    enum status status = open_beside(luaL_checkstring(L, 1), &disk, &name, &why);
    if (status == STATUS_OK) {
        status = read_whole(disk, name, stdout, &why);
        disk->free(disk);
    }
    if (status != STATUS_OK)
        return fail(L, status, &why);
    lua_pushboolean(L, 1);
    return 1;
}

static enum status sync_file(struct disk *disk, const char *name)
{
    struct disk_file *file = NULL;
    enum status status = disk->open(disk, name, 0, &file);
    if (status != STATUS_OK)
        return status;
    status = disk->sync(disk, file);
    disk->close(disk, file);
    return status;
}

/* Durable, then under its name; what has that name already stays. */
static enum status put_in_place(struct disk *disk, const char *from, const char *to, struct buffer *why)
{
    struct disk_file *file = NULL;
    if (disk->open(disk, to, 0, &file) == STATUS_OK) {
        disk->close(disk, file);
        buffer_append(why, to, strlen(to));
        buffer_append(why, " is there already", 17);
        return STATUS_EXISTS;
    }
    enum status status = sync_file(disk, from);
    if (status == STATUS_OK)
        status = disk->rename(disk, from, to);
    if (status == STATUS_OK)
        status = disk->sync_directory(disk);
    return say_io(disk, status, why);
}

/* begin(part) -> true: an empty file, which only those may read who may read a data directory's */
static int files_begin(lua_State *L)
{
    struct disk *disk = NULL;
    struct disk_file *file = NULL;
    const char *part = NULL;
    struct buffer why = {0};
    enum status status = open_beside(luaL_checkstring(L, 1), &disk, &part, &why);
    if (status == STATUS_OK) {
        (void)disk->remove(disk, part);
        status = say_io(disk, disk->open(disk, part, DISK_CREATE | DISK_EXCLUSIVE, &file), &why);
        if (status == STATUS_OK)
            disk->close(disk, file);
        disk->free(disk);
    }
    if (status != STATUS_OK)
        return fail(L, status, &why);
    lua_pushboolean(L, 1);
    return 1;
}

/* keep(part, name of the file beside it) -> true: the part is whole, durable, and has its name */
static int files_keep(lua_State *L)
{
    struct disk *disk = NULL;
    const char *part = NULL;
    struct buffer why = {0};
    const char *to = luaL_checkstring(L, 2);
    enum status status = open_beside(luaL_checkstring(L, 1), &disk, &part, &why);
    if (status == STATUS_OK) {
        status = read_whole(disk, part, NULL, &why);
        if (status == STATUS_OK)
            status = put_in_place(disk, part, to, &why);
        disk->free(disk);
    }
    if (status != STATUS_OK)
        return fail(L, status, &why);
    lua_pushboolean(L, 1);
    return 1;
}

/* Writes the state in another format: read back, or if that loses something, as an export that says so; `lost` gets what. */
static enum status write_export(struct machine *machine, struct slice format, struct disk *disk, const char *name,
                                struct snapshot_progress *progress, struct buffer *lost, struct buffer *why)
{
    struct snapshot_options options = {.format = format};
    struct snapshot_seal seal = {0};
    struct machine_frozen *frozen = machine_freeze(machine);
    atomic_store(&progress->rows_done, 0);
    enum status status = snapshot_take(frozen, &options, disk, name, progress, &seal, lost);
    if (status == STATUS_INVALID) {
        options.lossy = true;
        atomic_store(&progress->rows_done, 0);
        status = snapshot_take(frozen, &options, disk, name, progress, &seal, why);
    } else if (status != STATUS_OK) {
        buffer_append(why, lost->data, lost->size);
    }
    machine_thaw(machine, frozen);
    return status;
}

/* export(part, name of the file beside it, format's bundle) -> true, what the format loses or "" */
static int files_export(lua_State *L)
{
    struct disk *disk = NULL;
    struct machine *machine = NULL;
    const struct machine_options how = {0};
    struct snapshot_progress progress = {0};
    struct buffer why = {0};
    struct buffer lost = {0};
    struct buffer configuration = {0};
    const char *part = NULL;
    const char *to = luaL_checkstring(L, 2);
    struct slice format = {0};
    char made[PATH_BYTES];
    format.data = (const uint8_t *)luaL_checklstring(L, 3, &format.size);
    snprintf(made, sizeof made, "%s.new", to);
    enum status status = open_beside(luaL_checkstring(L, 1), &disk, &part, &why);
    if (status != STATUS_OK)
        return fail(L, status, &why);
    struct teller *teller = teller_start(TELLER_PEOPLE, "rewriting", &progress);
    status = snapshot_build(disk, part, &how, &progress, &machine, NULL, &configuration, &why);
    if (status == STATUS_OK)
        status = write_export(machine, format, disk, made, &progress, &lost, &why);
    if (status == STATUS_OK)
        status = put_in_place(disk, made, to, &why);
    teller_stop(teller);
    if (status != STATUS_OK)
        (void)disk->remove(disk, made);
    if (machine != NULL)
        machine_free(machine);
    disk->free(disk);
    buffer_close(&configuration);
    if (status != STATUS_OK) {
        buffer_close(&lost);
        return fail(L, status, &why);
    }
    lua_pushboolean(L, 1);
    lua_pushlstring(L, (const char *)lost.data, lost.size);
    buffer_close(&lost);
    buffer_close(&why);
    return 2;
}

/* --- whole directories ------------------------------------------------------------------------------------------------------- */

static void set_hex(lua_State *L, const char *name, struct hash128 hash)
{
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_id(lua_State *L, const char *name, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static int push_report(lua_State *L, const struct restore_report *report)
{
    lua_newtable(L);
    bind_set_number(L, "from", report->from);
    bind_set_number(L, "index", report->index);
    bind_set_number(L, "term", report->term);
    bind_set_number(L, "rows", report->rows);
    bind_set_number(L, "bytes", report->bytes);
    bind_set_number(L, "replayed", report->replayed);
    bind_set_number(L, "aside", report->aside);
    set_hex(L, "digest", report->digest);
    set_hex(L, "hash", report->hash);
    set_id(L, "old_cluster", report->old_cluster);
    set_id(L, "cluster", report->cluster);
    return 1;
}

/* restore(path, directory, format's bundle or nil) -> report (replica/restore.h) */
static int files_restore(lua_State *L)
{
    struct disk *source = NULL;
    struct disk *target = NULL;
    struct machine_options how = {0};
    struct snapshot_progress progress = {0};
    struct restore_report report = {0};
    struct buffer why = {0};
    const char *name = NULL;
    how.format.data = (const uint8_t *)luaL_optlstring(L, 3, "", &how.format.size);
    enum status status = open_beside(luaL_checkstring(L, 1), &source, &name, &why);
    if (status == STATUS_OK)
        status = disk_posix_open(luaL_checkstring(L, 2), true, true, &target, &why);
    if (status == STATUS_OK) {
        struct teller *teller = teller_start(TELLER_PEOPLE, "restoring", &progress);
        status = restore_file(source, name, &how, target, &progress, &report, &why);
        teller_stop(teller);
    }
    if (target != NULL)
        target->free(target);
    if (source != NULL)
        source->free(source);
    if (status != STATUS_OK)
        return fail(L, status, &why);
    buffer_close(&why);
    return push_report(L, &report);
}

/* recover(directory, HOST:PORT or nil) -> report */
static int files_recover(lua_State *L)
{
    struct disk *disk = NULL;
    const struct machine_options how = {0};
    struct snapshot_progress progress = {0};
    struct restore_report report = {0};
    struct buffer why = {0};
    uint64_t seed = 0;
    log_setup(LOG_WARN, LOG_TEXT);
    CHECK(getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed);
    enum status status = disk_posix_open(luaL_checkstring(L, 1), false, true, &disk, &why);
    if (status == STATUS_OK) {
        struct teller *teller = teller_start(TELLER_PEOPLE, "recovering", &progress);
        status = restore_alone(disk, luaL_optstring(L, 2, NULL), &how, seed, &progress, &report, &why);
        teller_stop(teller);
        disk->free(disk);
    }
    if (status != STATUS_OK)
        return fail(L, status, &why);
    buffer_close(&why);
    return push_report(L, &report);
}

/* who(directory) -> { id, address, cluster, half: a recover did not end } of a directory that may be in use */
static int files_who(lua_State *L)
{
    struct disk *disk = NULL;
    struct identity identity;
    struct buffer why = {0};
    enum status status = disk_posix_open(luaL_checkstring(L, 1), false, false, &disk, &why);
    if (status != STATUS_OK)
        return fail(L, status, &why);
    bool half = restore_is_half(disk);
    if (!half)
        status = identity_load(disk, &identity, &why);
    disk->free(disk);
    if (status != STATUS_OK)
        return fail(L, status, &why);
    lua_newtable(L);
    lua_pushboolean(L, half);
    lua_setfield(L, -2, "half");
    if (half)
        return 1;
    bind_set_number(L, "id", identity.id);
    set_id(L, "cluster", identity.cluster_id);
    for (size_t i = 0; i < identity.members_count; i++)
        if (identity.members[i].id == identity.id) {
            lua_pushstring(L, identity.members[i].address);
            lua_setfield(L, -2, "address");
        }
    return 1;
}

int bind_files(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"inspect", files_inspect}, {"raw", files_raw},       {"begin", files_begin},
        {"keep", files_keep},       {"export", files_export}, {"restore", files_restore},
        {"recover", files_recover}, {"who", files_who},       {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
