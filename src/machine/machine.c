/* machine/machine.c - see machine/machine.h.
 *
 * Host rows of the tree, each under its number (four bytes, big-endian) and a key of text elements:
 *    1  {"limit", name} -> number          the replicated limits
 *    2  {mount} -> number                  ctx.id's last (script/ctx.c)
 *    3  {mount} -> bundle bytes            the code in force
 *    4  {mount, map} -> number             the numbers of user maps, from VM_MAPS_FIRST on
 *    5  {mount} -> text                    why the module for it was refused: the others work all the same
 */
#include "machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "machine/catalog.h"
#include "script/budget.h"
#include "script/bundle.h"
#include "script/sandbox.h"
#include "script/trial.h"
#include "script/vm.h"
#include "state/key.h"
#include "state/tree.h"
#include "wire/error.h"
#include "wire/pack.h"

enum {
    ROWS_LIMITS = 1,
    ROWS_BUNDLES = 3,
    ROWS_MAPS = 4,
    ROWS_REFUSED = 5,
    DIGESTS = 4096, /* recent digests kept, by index */
    BATCH_MAX = 1000,
    REFUSED_BYTES = 700 /* of the sentence kept */
};

static const size_t lua_bytes_default = (size_t)1 << 30;

struct machine {
    struct tree *tree;
    struct vm *vm;
    struct vm_limits limits;
    raft_index applied;
    raft_term term;
    uint64_t now_ms;
    uint64_t cluster_id;
    uint64_t results_hash; /* of all answers so far */
    uint64_t catalog_version;
    struct buffer refused; /* pairs: mount, why */
    uint32_t refused_count;
    uint32_t maps; /* user maps numbered so far */
    raft_index parked_at;
    char parked_why[256];
    struct buffer result;
    bool invariants;
    bool query_timed;
    raft_index broken_at; /* 0: the invariants have held */
    struct buffer broken; /* zero-terminated */
    struct hash128 digests[DIGESTS];
};

/* --- limits as rows ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint64_t standard;
    size_t offset; /* in struct vm_limits */
} limit_rows[] = {
    {"budget", BUDGET_INSTRUCTIONS, offsetof(struct vm_limits, budget)},
    {"depth", BUDGET_DEPTH, offsetof(struct vm_limits, depth)},
    {"key_bytes", KEY_BYTES_MAX, offsetof(struct vm_limits, key_bytes)},
    {"row_bytes", 1024 * 1024, offsetof(struct vm_limits, row_bytes)},
    {"args_bytes", 1024 * 1024, offsetof(struct vm_limits, args_bytes)},
    {"answer_bytes", 8 * 1024 * 1024, offsetof(struct vm_limits, answer_bytes)},
};

enum { LIMITS = sizeof limit_rows / sizeof limit_rows[0] };

static void host_key(struct buffer *key, uint8_t rows, struct slice first, struct slice second)
{
    const uint8_t head[4] = {0, 0, 0, rows};
    buffer_clear(key);
    buffer_append(key, head, sizeof head);
    key_append_text(key, first);
    if (second.data != NULL)
        key_append_text(key, second);
}

static uint64_t *limit_of(struct vm_limits *limits, size_t which)
{
    return (uint64_t *)(void *)((char *)limits + limit_rows[which].offset);
}

/* Writes the limits as rows: part of forming the state, the same on every node. */
static void write_limits(struct machine *machine)
{
    struct buffer key = {0};
    struct buffer value = {0};
    for (size_t i = 0; i < LIMITS; i++) {
        host_key(&key, ROWS_LIMITS, slice_text("limit"), slice_text(limit_rows[i].name));
        buffer_clear(&value);
        pack_u64(&value, limit_rows[i].standard);
        (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
        *limit_of(&machine->limits, i) = limit_rows[i].standard;
    }
    tree_commit(machine->tree);
    buffer_close(&key);
    buffer_close(&value);
}

struct machine *machine_new(const struct machine_options *options)
{
    struct machine *machine = mem_zalloc(1, sizeof *machine);
    machine->tree = tree_new();
    machine->vm = vm_new(machine->tree, options->lua_bytes_max > 0 ? options->lua_bytes_max : lua_bytes_default);
    machine->maps = VM_MAPS_FIRST;
    machine->invariants = options->invariants;
    write_limits(machine);
    return machine;
}

void machine_free(struct machine *machine)
{
    vm_free(machine->vm);
    tree_free(machine->tree);
    buffer_close(&machine->result);
    buffer_close(&machine->refused);
    buffer_close(&machine->broken);
    mem_free(machine);
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
    host_key(&key, ROWS_REFUSED, mount, slice_make(NULL, 0));
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
    host_key(&key, ROWS_MAPS, mount, map);
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
    host_key(&key, ROWS_BUNDLES, mount, slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), &value);
    buffer_close(&key);
    return found;
}

/* The module has no place: that is a fact of the state, so that all nodes say the same, and the others go on. */
static void keep_refused(struct machine *machine, struct slice mount, struct slice why)
{
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, ROWS_REFUSED, mount, slice_make(NULL, 0));
    pack_text(&value, slice_make(why.data, why.size < REFUSED_BYTES ? why.size : REFUSED_BYTES));
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    pack_text(&machine->refused, mount);
    buffer_append(&machine->refused, value.data, value.size);
    machine->refused_count++;
    buffer_close(&key);
    buffer_close(&value);
    LOG(LOG_ERROR, "machine", "the module for mount %.*s was refused: %.*s", (int)mount.size,
        (const char *)mount.data, (int)why.size, (const char *)why.data);
}

/* A module takes its place. The same mount again says nothing new: two leaders may both have proposed it. */
static enum vm_outcome apply_bundle(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct slice mount = {0};
    if (bundle_mount(entry->payload, &mount) != STATUS_OK) {
        error_pack(result, ERROR_BAD_REQUEST, "not a bundle");
        return VM_REFUSED;
    }
    struct slice known = {0};
    if (has_bundle(machine, mount) || find_refused(machine, mount, &known)) {
        pack_nil(result);
        return VM_OK;
    }
    struct buffer why = {0};
    uint32_t maps = machine->maps;
    enum status status = vm_mount(machine->vm, entry->payload, number_map, machine, &why);
    enum vm_outcome outcome = VM_REFUSED;
    if (status == STATUS_OK) {
        struct buffer key = {0};
        host_key(&key, ROWS_BUNDLES, mount, slice_make(NULL, 0));
        (void)tree_put(machine->tree, buffer_slice(&key), entry->payload);
        buffer_close(&key);
        begin_entry(machine, entry);
        outcome = vm_init(machine->vm, mount, result);
        vm_end(machine->vm);
        if (outcome != VM_OK)
            vm_unmount(machine->vm, mount);
    } else {
        buffer_append_byte(&why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
    }
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
        if (entry->index == 1)
            machine->cluster_id = hash64(entry->payload.data, entry->payload.size);
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
    struct hash128 digest = tree_digest(machine->tree);
    digest.lo ^= machine->results_hash;
    machine->digests[entry->index % DIGESTS] = digest;
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
    status->digest = machine->digests[machine->applied % DIGESTS];
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
    if (index == 0 || index > machine->applied || index + DIGESTS <= machine->applied)
        return false;
    *digest = machine->digests[index % DIGESTS];
    return true;
}

struct listing {
    struct buffer items;
    uint32_t count;
};

static void list_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    struct listing *listing = context;
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
    pack_text(&listing->items, slice_text(mount));
    pack_map(&listing->items, 3);
    pack_text(&listing->items, slice_text("hash"));
    pack_text(&listing->items, slice_text(text));
    pack_text(&listing->items, slice_text("module"));
    pack_text(&listing->items, slice_text(module));
    pack_text(&listing->items, slice_text("version"));
    pack_number(&listing->items, version);
    listing->count++;
}

void machine_pack_info(const struct machine *machine, struct buffer *out)
{
    struct listing listing = {0};
    vm_mounts(machine->vm, list_mount, &listing);
    pack_map(out, 3);
    pack_text(out, slice_text("limits"));
    pack_map(out, LIMITS);
    struct vm_limits limits = machine->limits;
    for (size_t i = 0; i < LIMITS; i++) {
        pack_text(out, slice_text(limit_rows[i].name));
        pack_u64(out, *limit_of(&limits, i));
    }
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
    pack_u64(out, mounts + machine->refused_count);
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
