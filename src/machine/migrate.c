/* machine/migrate.c - a module's migrate, in one step or in many, and back. See machine/deploy.h.
 *
 * While a migration goes on, the new module is in force and nobody can call it; what each step changed stands in a journal of
 * host rows, the old bundle among it. A step that fails takes all of it back: the journal is played backwards. Counters are not in
 * it: what they count (numbers of maps, of timers) must not come twice, and others go on counting.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/deploy_private.h"
#include "machine/host_rows.h"
#include "script/due.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

/* --- rows ------------------------------------------------------------------------------------------------------------- */

static void migration_key(struct buffer *key, const char *what)
{
    host_key(key, HOST_MIGRATION, slice_text(what), slice_make(NULL, 0));
}

static void put(struct machine *machine, const char *what, const struct buffer *value)
{
    struct buffer key = {0};
    migration_key(&key, what);
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(value));
    buffer_close(&key);
}

static void del(struct machine *machine, const char *what)
{
    struct buffer key = {0};
    migration_key(&key, what);
    (void)tree_del(machine->tree, buffer_slice(&key));
    buffer_close(&key);
}

static void save(struct machine *machine)
{
    const struct machine_migration *migration = &machine->migration;
    struct buffer value = {0};
    pack_array(&value, 5);
    pack_text(&value, slice_text(migration->mount));
    pack_u64(&value, migration->from_version);
    pack_u64(&value, migration->budget);
    pack_u64(&value, migration->steps);
    pack_u64(&value, migration->journal);
    put(machine, "facts", &value);
    buffer_close(&value);
}

void migration_load(struct machine *machine)
{
    struct machine_migration *migration = &machine->migration;
    struct buffer key = {0};
    struct slice value;
    struct slice mount;
    uint32_t count = 0;
    *migration = (struct machine_migration){0};
    migration_key(&key, "facts");
    if (tree_get(machine->tree, buffer_slice(&key), &value) && !MUTANT(267)) {
        struct pack_reader reader = pack_reader_make(value);
        CHECK(pack_read_array(&reader, &count) == STATUS_OK && count == 5);
        CHECK(pack_read_text(&reader, &mount) == STATUS_OK && mount.size < sizeof migration->mount);
        memcpy(migration->mount, mount.data, mount.size);
        CHECK(pack_read_u64(&reader, &migration->from_version) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &migration->budget) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &migration->steps) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &migration->journal) == STATUS_OK);
        vm_set_busy(machine->vm, mount, true);
    }
    buffer_close(&key);
}

void migration_pack(const struct machine *machine, struct buffer *out)
{
    const struct machine_migration *migration = &machine->migration;
    struct buffer key = {0};
    struct slice value;
    migration_key(&key, "failed");
    if (migration->mount[0] != 0) {
        pack_map(out, 3);
        pack_text(out, slice_text("from"));
        pack_u64(out, migration->from_version);
        pack_text(out, slice_text("mount"));
        pack_text(out, slice_text(migration->mount));
        pack_text(out, slice_text("steps"));
        pack_u64(out, migration->steps);
    } else if (tree_get(machine->tree, buffer_slice(&key), &value)) {
        pack_map(out, 1);
        pack_text(out, slice_text("failed"));
        buffer_append(out, value.data, value.size);
    } else {
        pack_nil(out);
    }
    buffer_close(&key);
}

/* --- maps that the module no longer has ----------------------------------------------------------------------------- */

struct old_maps {
    struct vm_old_map *list;
    char (*names)[HOST_TEXT_BYTES];
    size_t count;
    size_t capacity;
};

static void add_old(struct old_maps *maps, const char *name, uint32_t number)
{
    if (maps->count == maps->capacity) {
        maps->capacity = maps->capacity * 2 + 16;
        maps->list = mem_realloc(maps->list, maps->capacity * sizeof *maps->list);
        maps->names = mem_realloc(maps->names, maps->capacity * sizeof *maps->names);
    }
    snprintf(maps->names[maps->count], HOST_TEXT_BYTES, "%s", name);
    maps->list[maps->count++].number = number;
}

/* The mount's maps that its module does not name. */
static void find_old(struct machine *machine, struct slice mount, struct old_maps *maps)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    host_key(&lo, HOST_MAPS, mount, slice_make(NULL, 0));
    host_key(&hi, HOST_MAPS, mount, slice_make(NULL, 0));
    key_after_prefix(&hi);
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        char first[HOST_TEXT_BYTES];
        char name[HOST_TEXT_BYTES];
        struct pack_reader reader = pack_reader_make(value);
        uint64_t number = 0;
        CHECK(host_texts(key, first, name) && pack_read_u64(&reader, &number) == STATUS_OK);
        if (!vm_has_map(machine->vm, mount, slice_text(name)))
            add_old(maps, name, (uint32_t)number);
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    for (size_t i = 0; i < maps->count; i++)
        maps->list[i].name = maps->names[i];
}

static void close_old(struct old_maps *maps)
{
    mem_free(maps->list);
    mem_free(maps->names);
}

static void drop_rows(struct tree *tree, uint32_t number)
{
    const uint8_t lo[ROW_NUMBER_BYTES] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                                          (uint8_t)number};
    struct buffer hi = {0};
    struct buffer copy = {0};
    struct slice key;
    struct slice value;
    buffer_append(&hi, lo, sizeof lo);
    key_after_prefix(&hi);
    struct tree_cursor *cursor = tree_cursor_open(tree, slice_make(lo, sizeof lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        struct slice old;
        buffer_clear(&copy);
        buffer_append(&copy, key.data, key.size);
        CHECK(tree_remove(tree, buffer_slice(&copy), &old));
        struct slice rest = old;
        if (due_split(&rest) != DUE_NEVER)
            due_forget_row(tree, buffer_slice(&copy), old, 0); /* nobody is told of it: the map is gone */
    }
    tree_cursor_close(cursor);
    buffer_close(&copy);
    buffer_close(&hi);
}

void migration_drop_maps(struct machine *machine, struct slice mount)
{
    struct old_maps maps = {0};
    find_old(machine, mount, &maps);
    for (size_t i = 0; i < maps.count; i++) {
        struct buffer key = {0};
        host_key(&key, HOST_MAPS, mount, slice_text(maps.list[i].name));
        (void)tree_del(machine->tree, buffer_slice(&key));
        buffer_close(&key);
        drop_rows(machine->tree, maps.list[i].number);
    }
    close_old(&maps);
}

/* --- rows of older versions ------------------------------------------------------------------------------------------- */

void migration_load_upgrade(struct machine *machine, struct slice mount)
{
    struct buffer key = {0};
    struct slice value;
    uint64_t base = 0;
    host_key(&key, HOST_UPGRADES, mount, slice_make(NULL, 0));
    if (tree_get(machine->tree, buffer_slice(&key), &value)) {
        struct pack_reader reader = pack_reader_make(value);
        CHECK(pack_read_u64(&reader, &base) == STATUS_OK);
    }
    vm_set_upgrade(machine->vm, mount, base);
    buffer_close(&key);
}

bool migration_begin_upgrade(struct machine *machine, struct slice mount, uint64_t from_version)
{
    struct buffer key = {0};
    struct buffer value = {0};
    struct slice old;
    host_key(&key, HOST_UPGRADES, mount, slice_make(NULL, 0));
    bool on = tree_get(machine->tree, buffer_slice(&key), &old);
    bool good = vm_has_upgrade_row(machine->vm, mount) || !on;
    if (good && !on && vm_has_upgrade_row(machine->vm, mount)) {
        pack_u64(&value, from_version);
        (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    }
    buffer_close(&key);
    buffer_close(&value);
    if (good)
        migration_load_upgrade(machine, mount);
    return good;
}

/* --- the journal ------------------------------------------------------------------------------------------------------ */

static void journal_key(struct buffer *key, uint64_t n)
{
    host_key_numbered(key, HOST_JOURNAL, slice_text("row"), n);
}

/* Writes down what the rows were that have been changed since `mark`. */
static void write_journal(struct machine *machine, tree_mark mark)
{
    struct buffer key = {0};
    struct buffer line = {0};
    tree_mark end = tree_savepoint(machine->tree);
    for (tree_mark at = mark; at < end; at++) {
        struct slice changed;
        struct slice before;
        bool was = tree_change(machine->tree, at, &changed, &before);
        uint32_t kind = row_number(changed);
        if (kind == HOST_COUNTERS || kind == HOST_MIGRATION || (MUTANT(146) && kind == HOST_BUNDLES))
            continue;
        buffer_clear(&line);
        pack_bin(&line, changed);
        if (was)
            pack_bin(&line, before);
        journal_key(&key, machine->migration.journal++);
        (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&line));
    }
    buffer_close(&key);
    buffer_close(&line);
}

/* Takes line n away; `back`: its row is put back. */
static void end_line(struct machine *machine, uint64_t n, bool back)
{
    struct buffer key = {0};
    struct slice line;
    journal_key(&key, n);
    CHECK(tree_remove(machine->tree, buffer_slice(&key), &line));
    struct pack_reader reader = pack_reader_make(line);
    struct slice row;
    struct slice value;
    CHECK(pack_read_text(&reader, &row) == STATUS_OK);
    if (!back)
        ;
    else if (pack_rest(&reader).size == 0)
        (void)tree_del(machine->tree, row);
    else if (pack_read_text(&reader, &value) == STATUS_OK)
        (void)tree_put(machine->tree, row, value);
    buffer_close(&key);
}

static void end_journal(struct machine *machine, bool back)
{
    for (uint64_t n = machine->migration.journal; n > 0; n--)
        end_line(machine, n - 1, back && !MUTANT(148));
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

/* Runs migrate once. `more`: it wants to go on. */
static enum vm_outcome run_step(struct machine *machine, const struct entry *entry, bool *more,
                                struct buffer *result)
{
    static const uint8_t word[] = {0xA4, 'm', 'o', 'r', 'e'};
    struct machine_migration *migration = &machine->migration;
    struct vm_limits limits = machine->limits;
    struct old_maps maps = {0};
    struct buffer answer = {0};
    struct vm_mark mark = vm_savepoint(machine->vm);
    find_old(machine, slice_text(migration->mount), &maps);
    machine->limits.budget = migration->budget;
    machine_begin(machine, entry, 0, slice_make(NULL, 0));
    machine->limits = limits;
    enum vm_outcome outcome = vm_migrate(machine->vm, slice_text(migration->mount), (double)migration->from_version,
                                         maps.list, maps.count, &answer);
    vm_end(machine->vm);
    close_old(&maps);
    migration->steps++;
    *more = outcome == VM_OK && slice_equal(buffer_slice(&answer), slice_make(word, sizeof word));
    if (outcome != VM_OK)
        buffer_append(result, answer.data, answer.size);
    buffer_close(&answer);
    bool idle = tree_savepoint(machine->tree) == mark.rows;
    if (!*more || (!idle && migration->steps < DEPLOY_MORE_MAX))
        return outcome;
    vm_rollback(machine->vm, mark);
    error_pack(result, ERROR_SCRIPT_ERROR,
               idle ? "migrate returned 'more' and changed nothing: it would never come to an end"
                    : "migrate returned 'more' a million times");
    return VM_REFUSED;
}

/* What a good step leaves. */
static void end_step(struct machine *machine, bool more, tree_mark mark)
{
    struct machine_migration *migration = &machine->migration;
    if (more) {
        write_journal(machine, mark);
        save(machine);
        vm_set_busy(machine->vm, slice_text(migration->mount), true);
        return;
    }
    migration_drop_maps(machine, slice_text(migration->mount));
    end_journal(machine, false);
    del(machine, "facts");
    vm_set_busy(machine->vm, slice_text(migration->mount), false);
    *migration = (struct machine_migration){0};
}

enum vm_outcome migration_begin(struct machine *machine, const struct entry *entry, struct slice mount,
                                uint64_t from_version, uint64_t budget, tree_mark mark, struct buffer *result)
{
    struct machine_migration *migration = &machine->migration;
    bool more = false;
    *migration = (struct machine_migration){.from_version = from_version, .budget = budget};
    CHECK(mount.size < sizeof migration->mount);
    memcpy(migration->mount, mount.data, mount.size);
    del(machine, "failed");
    enum vm_outcome outcome = vm_has_migrate(machine->vm, mount) ? run_step(machine, entry, &more, result) : VM_OK;
    if (outcome == VM_OK)
        end_step(machine, more, mark);
    else
        *migration = (struct machine_migration){0};
    return outcome;
}

enum vm_outcome migration_take_back(struct machine *machine)
{
    struct slice mount = slice_text(machine->migration.mount);
    struct buffer key = {0};
    struct buffer why = {0};
    struct slice bundle;
    end_journal(machine, true);
    host_key(&key, HOST_BUNDLES, mount, slice_make(NULL, 0));
    CHECK(tree_get(machine->tree, buffer_slice(&key), &bundle));
    struct buffer copy = {0};
    buffer_append(&copy, bundle.data, bundle.size);
    struct vm_aside *aside = vm_set_aside(machine->vm, mount);
    enum vm_outcome outcome = VM_OK;
    if (vm_mount(machine->vm, buffer_slice(&copy), machine_number_map, machine, &why) != STATUS_OK) {
        /* It was in force: what is missing now is memory. */
        vm_put_back(machine->vm, aside);
        snprintf(machine->parked_why, sizeof machine->parked_why,
                 "the module before a migration cannot be loaded: %.*s", (int)(why.size < 150 ? why.size : 150),
                 (const char *)why.data);
        outcome = VM_PARK;
    } else {
        vm_aside_free(machine->vm, aside);
        migration_load_upgrade(machine, mount);
        del(machine, "facts");
        machine->migration = (struct machine_migration){0};
        machine->catalog_version++;
    }
    buffer_close(&copy);
    buffer_close(&key);
    buffer_close(&why);
    return outcome;
}

/* Notes why, for status, and logs it. */
static void note_failed(struct machine *machine, const struct machine_migration *migration, struct slice error)
{
    struct slice code = {0}, message = {0}, data = {0};
    struct buffer value = {0};
    CHECK(error_unpack(error, &code, &message, &data) == STATUS_OK);
    pack_map(&value, 4);
    pack_text(&value, slice_text("code"));
    pack_text(&value, code);
    pack_text(&value, slice_text("message"));
    pack_text(&value, message);
    pack_text(&value, slice_text("mount"));
    pack_text(&value, slice_text(migration->mount));
    pack_text(&value, slice_text("steps"));
    pack_u64(&value, migration->steps);
    put(machine, "failed", &value);
    LOG(LOG_WARN, "machine", "the migration of mount %s failed in step %llu and was taken back: %.*s: %.*s",
        migration->mount, (unsigned long long)migration->steps, (int)code.size, (const char *)code.data,
        (int)message.size, (const char *)message.data);
    buffer_close(&value);
}

enum vm_outcome migration_apply(struct machine *machine, const struct entry *entry, bool skipped,
                                struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    struct slice mount;
    if (pack_read_text(&reader, &mount) != STATUS_OK || !slice_equal(mount, slice_text(machine->migration.mount)) ||
        mount.size == 0) {
        pack_nil(result); /* two leaders may both have proposed the last step */
        return VM_OK;
    }
    bool more = false;
    tree_mark mark = tree_savepoint(machine->tree);
    enum vm_outcome outcome = VM_REFUSED;
    if (skipped)
        error_pack(result, ERROR_SKIPPED, "an operator had this entry skipped");
    else
        outcome = run_step(machine, entry, &more, result);
    if (outcome == VM_OK) {
        end_step(machine, more, mark);
        machine->catalog_version++; /* for status */
        pack_boolean(result, more);
        return VM_OK;
    }
    const struct machine_migration failed = machine->migration;
    tree_rollback(machine->tree, mark);
    migration_load(machine);
    if (outcome == VM_PARK)
        return outcome;
    if (migration_take_back(machine) == VM_PARK)
        return VM_PARK;
    note_failed(machine, &failed, buffer_slice(result));
    return VM_REFUSED;
}
