/* machine/machine.c - see machine/machine.h. */
#include "machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "machine/catalog.h"
#include "machine/format_rows.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "script/bundle.h"
#include "script/sandbox.h"
#include "script/trial.h"
#include "script/vm.h"
#include "wire/error.h"
#include "wire/pack.h"

enum {
    BATCH_MAX = 1000,
    REFUSED_BYTES = 700 /* of the sentence kept */
};

struct machine *machine_new_empty(const struct machine_options *options)
{
    struct machine *machine = mem_zalloc(1, sizeof *machine);
    machine->tree = tree_new();
    machine->vm =
        vm_new(machine->tree, options->lua_bytes_max > 0 ? options->lua_bytes_max : machine_lua_bytes_default);
    machine->maps = VM_MAPS_FIRST;
    machine->invariants = options->invariants;
    machine->digests = mem_zalloc(1, sizeof *machine->digests);
    host_limits_standard(&machine->limits);
    return machine;
}

struct machine *machine_new(const struct machine_options *options)
{
    struct machine *machine = machine_new_empty(options);
    host_limits_put(machine->tree, &machine->limits); /* part of forming the state, the same on every node */
    tree_commit(machine->tree);
    return machine;
}

void machine_free(struct machine *machine)
{
    CHECK_EQ(machine->frozen, 0);
    vm_free(machine->vm);
    tree_free(machine->tree);
    buffer_close(&machine->result);
    buffer_close(&machine->refused);
    buffer_close(&machine->configuration);
    mem_free(machine->digests);
    buffer_close(&machine->broken);
    mem_free(machine);
}

struct hash128 machine_digest_now(const struct machine *machine)
{
    struct hash128 digest = tree_digest(machine->tree);
    digest.lo ^= machine->results_hash;
    return digest;
}

/* --- answers ---------------------------------------------------------------------------------------------------------------- */

static void add_result(struct machine_results *results, raft_index index, bool ok, struct slice value)
{
    if (results->count == results->capacity) {
        results->capacity = results->capacity * 2 + 64;
        results->list = mem_realloc(results->list, results->capacity * sizeof *results->list);
    }
    results->list[results->count++] =
        (struct machine_result){.index = index, .ok = ok, .offset = results->bytes.size, .size = value.size};
    buffer_append(&results->bytes, value.data, value.size);
}

static void park(struct machine *machine, raft_index index, const char *why)
{
    machine->parked_at = index;
    snprintf(machine->parked_why, sizeof machine->parked_why, "%s", why);
    LOG(LOG_ERROR, "machine", "parked at entry %llu: %s; this node stores and votes, and does not answer",
        (unsigned long long)index, why);
}

/* --- entries ---------------------------------------------------------------------------------------------------------------- */

static uint64_t seed_of(const struct machine *machine, raft_index index)
{
    const uint64_t parts[2] = {MUTANT(91) ? (uint64_t)(uintptr_t)machine : machine->cluster_id, index};
    return hash64(parts, sizeof parts);
}

static void begin_entry(struct machine *machine, const struct entry *entry)
{
    const struct vm_entry facts = {.index = entry->index,
                                   .term = entry->term,
                                   .now_ms = machine->now_ms,
                                   .seed = seed_of(machine, entry->index)};
    vm_begin(machine->vm, &facts, &machine->limits);
}

/* Why the module for a mount was refused, if it was. */
static bool find_refused(const struct machine *machine, struct slice mount, struct slice *why)
{
    struct buffer key = {0};
    host_key(&key, HOST_REFUSED, mount, slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), why);
    buffer_close(&key);
    struct pack_reader reader = pack_reader_make(found ? *why : slice_make(NULL, 0));
    return found && pack_read_text(&reader, why) == STATUS_OK;
}

/* For a name whose mount has no code, for it was refused: the error that says so. */
static bool say_refused(const struct machine *machine, struct slice name, struct buffer *result)
{
    const uint8_t *dot = name.size > 0 ? memchr(name.data, '.', name.size) : NULL;
    struct slice why;
    struct slice mount = slice_make(name.data, dot != NULL ? (size_t)(dot - name.data) : 0);
    if (dot == NULL || !find_refused(machine, mount, &why))
        return false;
    char text[900];
    refused_sentence(text, sizeof text, mount, why);
    error_pack(result, ERROR_SCRIPT_ERROR, text);
    return true;
}

/* Calls one command; `name` may be of any client's making. */
static enum vm_outcome call(struct machine *machine, struct slice name, struct slice args, struct buffer *result)
{
    enum vm_kind kind = vm_find(machine->vm, name);
    if (kind == VM_COMMAND || kind == VM_RAW)
        return vm_call(machine->vm, name, args, false, result);
    if (say_refused(machine, name, result))
        return VM_REFUSED;
    char text[200];
    snprintf(text, sizeof text, kind == VM_QUERY ? "%.*s is a query, not a command" : "there is no command %.*s",
             (int)(name.size < 120 ? name.size : 120), (const char *)name.data);
    error_pack(result, ERROR_UNKNOWN_COMMAND, text);
    return VM_REFUSED;
}

static enum vm_outcome apply_command(struct machine *machine, struct slice payload, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(payload);
    struct slice name;
    if (pack_read_text(&reader, &name) != STATUS_OK) {
        error_pack(result, ERROR_BAD_REQUEST, "an entry without a name");
        return VM_REFUSED;
    }
    return call(machine, name, pack_rest(&reader), result);
}

/* A list of [name, args]: all or nothing, and the list of answers. */
static enum vm_outcome apply_batch(struct machine *machine, struct slice payload, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t count = 0;
    tree_mark mark = tree_savepoint(machine->tree);
    if (pack_read_array(&reader, &count) != STATUS_OK || count > BATCH_MAX) {
        error_pack(result, ERROR_TOO_LARGE, "a batch is a list of at most 1000 commands");
        return VM_REFUSED;
    }
    size_t start = result->size;
    pack_array(result, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t parts = 0;
        struct slice name;
        struct slice args;
        struct buffer one = {0};
        enum vm_outcome outcome = VM_REFUSED;
        if (pack_read_array(&reader, &parts) != STATUS_OK || parts != 2 ||
            pack_read_text(&reader, &name) != STATUS_OK ||
            pack_skip(&reader, PACK_DEPTH_MAX - 2, &args) != STATUS_OK)
            error_pack(&one, ERROR_BAD_REQUEST, "each command of a batch is [name, [arguments]]");
        else
            outcome = call(machine, name, args, &one);
        if (outcome != VM_OK) {
            if (!MUTANT(92))
                tree_rollback(machine->tree, mark);
            result->size = start;
        }
        buffer_append(result, one.data, one.size);
        buffer_close(&one);
        if (outcome != VM_OK)
            return outcome;
    }
    return VM_OK;
}

static uint32_t number_map(void *context, struct slice mount, struct slice map)
{
    struct machine *machine = context;
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, HOST_MAPS, mount, map);
    uint32_t number = machine->maps++;
    pack_u64(&value, number);
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
    return number;
}

static bool has_bundle(const struct machine *machine, struct slice mount)
{
    struct buffer key = {0};
    struct slice value;
    host_key(&key, HOST_BUNDLES, mount, slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), &value);
    buffer_close(&key);
    return found;
}

void machine_list_refused(struct machine *machine, struct slice mount, struct slice packed_why)
{
    pack_text(&machine->refused, mount);
    buffer_append(&machine->refused, packed_why.data, packed_why.size);
    machine->refused_count++;
}

/* The module has no place: that is a fact of the state, so that all nodes say the same, and the others go on. */
static void keep_refused(struct machine *machine, struct slice mount, struct slice why)
{
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, HOST_REFUSED, mount, slice_make(NULL, 0));
    pack_text(&value, slice_make(why.data, why.size < REFUSED_BYTES ? why.size : REFUSED_BYTES));
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    machine_list_refused(machine, mount, buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
    LOG(LOG_ERROR, "machine", "the module for mount %.*s was refused: %.*s", (int)mount.size,
        (const char *)mount.data, (int)why.size, (const char *)why.data);
}

enum status machine_note_format(struct machine *machine, struct slice bundle, struct buffer *why)
{
    struct format *format = NULL;
    enum status status = format_open(bundle, machine_lua_bytes_default, &format, why);
    if (status != STATUS_OK)
        return status;
    snprintf(machine->format.name, sizeof machine->format.name, "%s", format_name(format));
    machine->format.version = format_version(format);
    machine->format.hash = bundle_hash(bundle);
    format_close(format);
    return STATUS_OK;
}

/* The module mounts, and its init runs. */
static enum vm_outcome mount_bundle(struct machine *machine, const struct entry *entry, struct slice mount,
                                    struct buffer *why, struct buffer *result)
{
    if (vm_mount(machine->vm, entry->payload, number_map, machine, why) != STATUS_OK) {
        buffer_append_byte(why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why->data);
        return VM_REFUSED;
    }
    struct buffer key = {0};
    host_key(&key, HOST_BUNDLES, mount, slice_make(NULL, 0));
    (void)tree_put(machine->tree, buffer_slice(&key), entry->payload);
    buffer_close(&key);
    begin_entry(machine, entry);
    enum vm_outcome outcome = vm_init(machine->vm, mount, result);
    vm_end(machine->vm);
    if (outcome != VM_OK)
        vm_unmount(machine->vm, mount);
    return outcome;
}

/* The format becomes the one of this state's snapshots. */
static enum vm_outcome take_format(struct machine *machine, struct slice bundle, struct buffer *why,
                                   struct buffer *result)
{
    if (machine_note_format(machine, bundle, why) != STATUS_OK) {
        buffer_append_byte(why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why->data);
        return VM_REFUSED;
    }
    struct buffer key = {0};
    host_key(&key, HOST_FORMAT, slice_text("format"), slice_make(NULL, 0));
    (void)tree_put(machine->tree, buffer_slice(&key), bundle);
    buffer_close(&key);
    pack_nil(result);
    return VM_OK;
}

/* A module takes its place. The same mount again says nothing new: two leaders may both have proposed it. */
static enum vm_outcome apply_bundle(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    enum bundle_kind kind = BUNDLE_MACHINE;
    struct slice mount = {0};
    struct slice known = {0};
    if (bundle_kind(entry->payload, &kind) != STATUS_OK || bundle_mount(entry->payload, &mount) != STATUS_OK) {
        error_pack(result, ERROR_BAD_REQUEST, "not a bundle");
        return VM_REFUSED;
    }
    bool is_format = kind == BUNDLE_FORMAT;
    if (is_format)
        mount = slice_text(HOST_FORMAT_MOUNT);
    if ((is_format ? machine->format.name[0] != 0 : has_bundle(machine, mount)) ||
        find_refused(machine, mount, &known)) {
        pack_nil(result);
        return VM_OK;
    }
    struct buffer why = {0};
    uint32_t maps = machine->maps;
    enum vm_outcome outcome = is_format ? take_format(machine, entry->payload, &why, result)
                                        : mount_bundle(machine, entry, mount, &why, result);
    if (outcome == VM_REFUSED) {
        struct slice code = {0}, message = {0}, data = {0};
        machine->maps = maps;
        tree_rollback(machine->tree, 0);
        CHECK(error_unpack(buffer_slice(result), &code, &message, &data) == STATUS_OK);
        keep_refused(machine, mount, message);
    }
    machine->catalog_version += outcome != VM_PARK;
    buffer_close(&why);
    return outcome;
}

static void hold_invariants(struct machine *machine, const struct entry *entry)
{
    begin_entry(machine, entry);
    bool holds = vm_holds(machine->vm, &machine->broken);
    vm_end(machine->vm);
    CHECK_EQ(tree_savepoint(machine->tree), 0);
    if (holds)
        return;
    buffer_append_byte(&machine->broken, 0);
    machine->broken_at = entry->index;
}

static enum vm_outcome apply_payload(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    enum vm_outcome outcome = VM_OK;
    switch (entry->kind) {
    case ENTRY_NOOP:
        return VM_OK;
    case ENTRY_CONFIGURATION:
        if (machine->cluster_id == 0) /* the entry that forms the cluster */
            machine->cluster_id = hash64(entry->payload.data, entry->payload.size);
        machine->configuration_index = entry->index;
        buffer_clear(&machine->configuration);
        buffer_append(&machine->configuration, entry->payload.data, entry->payload.size);
        return VM_OK;
    case ENTRY_BUNDLE:
        return apply_bundle(machine, entry, result);
    case ENTRY_COMMAND:
    case ENTRY_BATCH:
        begin_entry(machine, entry);
        outcome = entry->kind == ENTRY_COMMAND ? apply_command(machine, entry->payload, result)
                                               : apply_batch(machine, entry->payload, result);
        vm_end(machine->vm);
        return outcome;
    default:
        return VM_PARK;
    }
}

/* Applies one entry; false: parked, and nothing of it is left. */
static bool apply_entry(struct machine *machine, const struct entry *entry, bool want,
                        struct machine_results *results)
{
    CHECK_EQ(entry->index, machine->applied + 1);
    uint64_t before_ms = machine->now_ms;
    if (entry->stamp_ms > machine->now_ms || MUTANT(90))
        machine->now_ms = entry->stamp_ms;
    buffer_clear(&machine->result);
    enum vm_outcome outcome = apply_payload(machine, entry, &machine->result);
    if (outcome == VM_PARK) {
        tree_rollback(machine->tree, 0);
        machine->now_ms = before_ms;
        park(machine, entry->index, entry->kind < ENTRY_KINDS ? vm_why(machine->vm) : "an entry of a newer kind");
        return false;
    }
    tree_commit(machine->tree);
    bool answers = entry->kind == ENTRY_COMMAND || entry->kind == ENTRY_BATCH;
    if (answers && !(MUTANT(93) && !want)) {
        const uint64_t parts[3] = {machine->results_hash, (uint64_t)outcome,
                                   hash64(machine->result.data, machine->result.size)};
        machine->results_hash = hash64(parts, sizeof parts);
    }
    machine->applied = entry->index;
    machine->term = entry->term;
    machine->chain = entry->chain;
    digests_add(machine->digests, entry->index, machine_digest_now(machine));
    if (machine->invariants && machine->broken_at == 0)
        hold_invariants(machine, entry);
    if (answers && want)
        add_result(results, entry->index, outcome == VM_OK, buffer_slice(&machine->result));
    return true;
}

raft_index machine_apply(struct machine *machine, struct slice records, bool want_results,
                         struct machine_results *results)
{
    while (records.size > 0 && machine->parked_at == 0) {
        struct entry entry;
        CHECK(entry_peek(records, &entry) == STATUS_OK);
        if (!apply_entry(machine, &entry, want_results, results))
            break;
        records.data += entry.size;
        records.size -= entry.size;
    }
    return machine->applied;
}

void machine_query(struct machine *machine, struct slice name, struct slice args, uint64_t now_ms,
                   struct machine_results *results)
{
    buffer_clear(&machine->result);
    enum vm_outcome outcome = VM_REFUSED;
    enum vm_kind kind = vm_find(machine->vm, name);
    machine->query_timed = false;
    if (machine->parked_at != 0) {
        error_pack(&machine->result, ERROR_PARKED, "this node is parked; ask another");
    } else if (kind == VM_QUERY || kind == VM_RAW) {
        const struct vm_entry facts = {.index = machine->applied,
                                       .term = machine->term,
                                       .now_ms = now_ms > machine->now_ms ? now_ms : machine->now_ms,
                                       .seed = seed_of(machine, machine->applied)};
        vm_begin(machine->vm, &facts, &machine->limits);
        outcome = vm_call(machine->vm, name, args, true, &machine->result);
        vm_end(machine->vm);
        CHECK_EQ(tree_savepoint(machine->tree), 0);
        machine->query_timed = vm_read_clock(machine->vm);
    } else if (!say_refused(machine, name, &machine->result)) {
        char text[200];
        snprintf(text, sizeof text, kind == VM_COMMAND ? "%.*s is a command: call it" : "there is no query %.*s",
                 (int)(name.size < 120 ? name.size : 120), (const char *)name.data);
        error_pack(&machine->result, ERROR_UNKNOWN_COMMAND, text);
    }
    if (outcome == VM_PARK) {
        /* Nothing was changed, and other nodes did not run it: this query alone ends. */
        buffer_clear(&machine->result);
        error_pack(&machine->result, ERROR_SCRIPT_ERROR, "the query needed more memory than a Lua state may have");
        outcome = VM_REFUSED;
    }
    add_result(results, machine->applied, outcome == VM_OK, buffer_slice(&machine->result));
}

/* --- telling ------------------------------------------------------------------------------------------------------------------ */

void machine_get_status(const struct machine *machine, struct machine_status *status)
{
    memset(status, 0, sizeof *status);
    status->applied = machine->applied;
    (void)digests_find(machine->digests, machine->applied, &status->digest);
    status->now_ms = machine->now_ms;
    status->rows = tree_rows(machine->tree);
    status->bytes = tree_bytes(machine->tree);
    status->lua_bytes = vm_lua_bytes(machine->vm);
    status->catalog_version = machine->catalog_version;
    status->parked_at = machine->parked_at;
    memcpy(status->parked_why, machine->parked_why, sizeof status->parked_why);
}

const char *machine_broken(const struct machine *machine, raft_index *index)
{
    *index = machine->broken_at;
    return machine->broken_at != 0 ? (const char *)machine->broken.data : NULL;
}

bool machine_query_timed(const struct machine *machine)
{
    return machine->query_timed;
}

bool machine_digest_at(const struct machine *machine, raft_index index, struct hash128 *digest)
{
    return digests_find(machine->digests, index, digest);
}

struct listing {
    struct buffer items;
    uint32_t count;
};

/* Appends {hash, module or name, version}. */
static void pack_code(struct buffer *out, const char *name_field, const char *name, double version,
                      struct hash128 hash)
{
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
    pack_map(out, 3);
    pack_text(out, slice_text("hash"));
    pack_text(out, slice_text(text));
    pack_text(out, slice_text(name_field));
    pack_text(out, slice_text(name));
    pack_text(out, slice_text("version"));
    pack_number(out, version);
}

static void list_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    struct listing *listing = context;
    pack_text(&listing->items, slice_text(mount));
    pack_code(&listing->items, "module", module, version, hash);
    listing->count++;
}

void machine_pack_info(const struct machine *machine, struct buffer *out)
{
    struct listing listing = {0};
    const struct machine_format *format = &machine->format;
    vm_mounts(machine->vm, list_mount, &listing);
    pack_map(out, 4);
    pack_text(out, slice_text("format"));
    pack_code(out, "name", format->name[0] != 0 ? format->name : FORMAT_ROWS_NAME,
              format->name[0] != 0 ? format->version : FORMAT_ROWS_VERSION, format->hash);
    pack_text(out, slice_text("limits"));
    host_limits_pack(&machine->limits, out);
    pack_text(out, slice_text("mounts"));
    pack_map(out, listing.count);
    buffer_append(out, listing.items.data, listing.items.size);
    buffer_close(&listing.items);
    pack_text(out, slice_text("refused"));
    pack_map(out, machine->refused_count);
    buffer_append(out, machine->refused.data, machine->refused.size);
}

static void list_name(void *context, const char *name, enum vm_kind kind)
{
    struct listing *listing = context;
    pack_text(&listing->items, slice_text(name));
    pack_u64(&listing->items, kind); /* VM_COMMAND, VM_QUERY, VM_RAW stand for the same numbers of the catalog */
    listing->count++;
}

static void count_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    (void)mount;
    (void)module;
    (void)version;
    (void)hash;
    (*(uint64_t *)context)++;
}

void machine_catalog(const struct machine *machine, struct buffer *out)
{
    struct listing listing = {0};
    uint64_t mounts = 0;
    vm_mounts(machine->vm, count_mount, &mounts);
    vm_names(machine->vm, list_name, &listing);
    pack_u64(out, mounts + (machine->format.name[0] != 0) + machine->refused_count);
    pack_array(out, listing.count);
    buffer_append(out, listing.items.data, listing.items.size);
    pack_array(out, machine->refused_count * 2);
    buffer_append(out, machine->refused.data, machine->refused.size);
    buffer_close(&listing.items);
}

uint64_t machine_fingerprint(void)
{
    return sandbox_fingerprint();
}
