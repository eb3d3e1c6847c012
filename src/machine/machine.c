/* machine/machine.c - see machine/machine.h. */
#include "machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "machine/deploy_private.h"
#include "machine/host_rows.h"
#include "machine/limits.h"
#include "machine/membership_private.h"
#include "machine/session.h"
#include "machine/timer.h"
#include "script/due.h"
#include "script/sandbox.h"
#include "script/trial.h"
#include "script/vm.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { EVENTS_BYTES_MAX = 16 * 1024 * 1024 }; /* of one range: nobody keeps more */

struct machine *machine_new_empty(const struct machine_options *options)
{
    struct machine *machine = mem_zalloc(1, sizeof *machine);
    machine->tree = tree_new();
    tree_count_apart(machine->tree, VM_MAPS_FIRST);
    machine->vm =
        vm_new(machine->tree, options->lua_bytes_max > 0 ? options->lua_bytes_max : machine_lua_bytes_default);
    vm_set_desk(machine->vm, options->desk);
    machine->membership = membership_new();
    machine->invariants = options->invariants;
    machine->digests = mem_zalloc(1, sizeof *machine->digests);
    limits_standard(&machine->limits);
    return machine;
}

struct machine *machine_new(const struct machine_options *options)
{
    struct machine *machine = machine_new_empty(options);
    limits_put(machine->tree, &machine->limits); /* part of forming the state, the same on every node */
    tree_commit(machine->tree);
    return machine;
}

void machine_free(struct machine *machine)
{
    CHECK(machine->frozen == NULL);
    membership_free(machine->membership);
    vm_free(machine->vm);
    tree_free(machine->tree);
    buffer_close(&machine->result);
    buffer_close(&machine->refused);
    buffer_close(&machine->configuration);
    mem_free(machine->digests);
    buffer_close(&machine->broken);
    mem_free(machine->skips);
    mem_free(machine);
}

struct hash128 machine_digest_now(const struct machine *machine)
{
    struct hash128 digest = tree_digest(machine->tree);
    digest.lo ^= machine->results_hash;
    return digest;
}

/* --- answers ---------------------------------------------------------------------------------------------------------------- */

void machine_add_result(struct machine_results *results, raft_index index, bool ok, struct slice value)
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
    if (machine->parked_why[0] == 0)
        snprintf(machine->parked_why, sizeof machine->parked_why, "%s", why);
    LOG(LOG_ERROR, "machine", "parked at entry %llu: %s; this node stores and votes, and does not answer",
        (unsigned long long)index, machine->parked_why);
}

void machine_park(struct machine *machine, const char *why)
{
    if (machine->parked_at != 0)
        return;
    machine->parked_why[0] = 0;
    park(machine, machine->applied > 0 ? machine->applied : 1, why);
}

void machine_note_answer(struct machine *machine, enum vm_outcome outcome, struct slice answer)
{
    const uint64_t parts[3] = {machine->results_hash, (uint64_t)outcome, hash64(answer.data, answer.size)};
    machine->results_hash = hash64(parts, sizeof parts);
}

/* --- commands --------------------------------------------------------------------------------------------------------- */

uint64_t machine_seed(uint64_t cluster_id, raft_index index)
{
    const uint64_t parts[2] = {cluster_id, index};
    return hash64(parts, sizeof parts);
}

void machine_begin(struct machine *machine, const struct entry *entry, uint64_t part, struct slice session)
{
    struct vm_entry facts = {
        .index = entry->index,
        .term = entry->term,
        .now_ms = machine->now_ms,
        .seed = machine_seed(MUTANT(91) ? (uint64_t)(uintptr_t)machine : machine->cluster_id, entry->index),
        .session = session};
    if (part > 0) {
        const uint64_t parts[2] = {facts.seed, part};
        facts.seed = hash64(parts, sizeof parts);
    }
    vm_begin(machine->vm, &facts, &machine->limits);
}

enum vm_outcome machine_call(struct machine *machine, struct slice name, struct slice args, struct buffer *result)
{
    enum vm_kind kind = vm_find(machine->vm, name);
    if (kind == VM_COMMAND || kind == VM_RAW)
        return vm_call(machine->vm, name, args, false, result);
    if (machine_say_refused(machine, name, result))
        return VM_REFUSED;
    char text[200];
    snprintf(text, sizeof text, kind == VM_QUERY ? "%.*s is a query, not a command" : "there is no command %.*s",
             (int)(name.size < 120 ? name.size : 120), (const char *)name.data);
    error_pack(result, ERROR_UNKNOWN_COMMAND, text);
    return VM_REFUSED;
}

static enum vm_outcome refuse(struct buffer *result, enum error_code code, const char *text)
{
    error_pack(result, code, text);
    return VM_REFUSED;
}

enum vm_outcome machine_call_all(struct machine *machine, struct slice list, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(list);
    uint32_t count = 0;
    struct vm_mark mark = vm_savepoint(machine->vm);
    if (pack_read_array(&reader, &count) != STATUS_OK || count > machine->limits.batch) {
        char text[100];
        snprintf(text, sizeof text, "a batch is a list of at most %llu commands",
                 (unsigned long long)machine->limits.batch);
        return refuse(result, ERROR_TOO_LARGE, text);
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
            outcome = machine_call(machine, name, args, &one);
        if (outcome != VM_OK) {
            if (!MUTANT(92))
                vm_rollback(machine->vm, mark);
            result->size = start;
        }
        buffer_append(result, one.data, one.size);
        buffer_close(&one);
        if (outcome != VM_OK)
            return outcome;
    }
    return VM_OK;
}

/* What a COMMAND or BATCH holds: the batch's list is in `args`. False: it makes no sense. */
struct request {
    struct slice name;
    struct slice args;
    struct session_ticket ticket;
};

static bool read_request(const struct entry *entry, struct request *request)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    if (entry->kind == ENTRY_COMMAND && pack_read_text(&reader, &request->name) != STATUS_OK)
        return false;
    return pack_skip(&reader, PACK_SKIP_DEPTH, &request->args) == STATUS_OK &&
           session_read_ticket(pack_rest(&reader), &request->ticket);
}

/* Whether an answer says that a mount is being migrated: the command may be sent again, under the same seq. */
static bool is_busy(const struct buffer *result)
{
    struct slice code = {0}, message = {0}, data = {0};
    return error_unpack(buffer_slice(result), &code, &message, &data) == STATUS_OK &&
           slice_equal(code, slice_text(error_row(ERROR_BUSY)->name));
}

/* A command or batch, once for each (session, seq). */
static enum vm_outcome apply_request(struct machine *machine, const struct entry *entry, bool skipped,
                                     struct buffer *result)
{
    struct request request = {0};
    enum vm_outcome outcome = VM_REFUSED;
    if (!read_request(entry, &request))
        return refuse(result, ERROR_BAD_REQUEST, "the entry is not a name, arguments and a ticket");
    if (session_enter(machine, &request.ticket, &outcome, result) == SESSION_ANSWERED)
        return outcome;
    if (skipped) {
        outcome = refuse(result, ERROR_SKIPPED, "an operator had this entry skipped");
    } else {
        machine_begin(machine, entry, 0, request.ticket.session);
        outcome = entry->kind == ENTRY_COMMAND ? machine_call(machine, request.name, request.args, result)
                                               : machine_call_all(machine, request.args, result);
        vm_end(machine->vm);
    }
    if (outcome != VM_PARK && !(outcome == VM_REFUSED && is_busy(result)))
        session_keep_answer(machine, &request.ticket, outcome, buffer_slice(result));
    return outcome;
}

/* --- skipping --------------------------------------------------------------------------------------------------------- */

/* The row that says that an entry was skipped. */
static void skipped_key(struct buffer *key, raft_index index)
{
    host_key_numbered(key, HOST_COUNTERS, slice_text("skipped"), index);
}

static bool was_skipped(const struct machine *machine, raft_index index)
{
    struct buffer key = {0};
    struct slice value;
    skipped_key(&key, index);
    bool found = tree_get(machine->tree, buffer_slice(&key), &value);
    buffer_close(&key);
    return found;
}

bool machine_skip(struct machine *machine, raft_index index)
{
    if (index <= machine->applied)
        return was_skipped(machine, index);
    for (size_t i = 0; i < machine->skips_count; i++)
        if (machine->skips[i] == index)
            return true;
    machine->skips = mem_realloc(machine->skips, (machine->skips_count + 1) * sizeof *machine->skips);
    machine->skips[machine->skips_count++] = index;
    if (machine->parked_at == index) {
        LOG(LOG_WARN, "machine", "goes on: entry %llu is skipped", (unsigned long long)index);
        machine->parked_at = 0;
        machine->parked_why[0] = 0;
    }
    return true;
}

/* Whether this entry, the next one, is to be skipped: that becomes a fact of the state. */
static bool take_skip(struct machine *machine, raft_index index)
{
    size_t at = 0;
    while (at < machine->skips_count && machine->skips[at] != index)
        at++;
    if (at == machine->skips_count)
        return false;
    struct buffer key = {0};
    struct buffer value = {0};
    skipped_key(&key, index);
    pack_boolean(&value, true);
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
    machine->skips[at] = machine->skips[--machine->skips_count];
    return true;
}

/* An entry SKIP: by now the entry that it names must have been skipped, or this state is another than the others'. */
static enum vm_outcome apply_skip(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    uint32_t count = 0;
    uint64_t index = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 1 ||
        pack_read_u64(&reader, &index) != STATUS_OK || index == 0 || index >= entry->index)
        return refuse(result, ERROR_BAD_ARGS, "skip takes the index of an entry before it");
    if (!was_skipped(machine, index) && !MUTANT(160)) {
        snprintf(machine->parked_why, sizeof machine->parked_why,
                 "entry %llu is skipped by entry %llu, and was applied here: rebuild this node",
                 (unsigned long long)index, (unsigned long long)entry->index);
        return VM_PARK;
    }
    pack_boolean(result, true);
    return VM_OK;
}

/* --- entries ---------------------------------------------------------------------------------------------------------- */

static enum vm_outcome take_configuration(struct machine *machine, const struct entry *entry, bool skipped)
{
    if (machine->cluster_id == 0) /* the entry that forms the cluster */
        machine->cluster_id = hash64(entry->payload.data, entry->payload.size);
    membership_configure(machine, entry, skipped);
    machine->configuration_index = entry->index;
    buffer_clear(&machine->configuration);
    buffer_append(&machine->configuration, entry->payload.data, entry->payload.size);
    return VM_OK;
}

static void hold_invariants(struct machine *machine, const struct entry *entry)
{
    machine_begin(machine, entry, 0, slice_make(NULL, 0));
    bool holds = vm_holds(machine->vm, &machine->broken);
    vm_end(machine->vm);
    CHECK_EQ(tree_savepoint(machine->tree), 0);
    if (holds)
        return;
    buffer_append_byte(&machine->broken, 0);
    machine->broken_at = entry->index;
}

static enum vm_outcome apply_payload(struct machine *machine, const struct entry *entry, bool skipped,
                                     struct buffer *result)
{
    switch (entry->kind) {
    case ENTRY_NOOP:
        return VM_OK;
    case ENTRY_CONFIGURATION:
        return take_configuration(machine, entry, skipped);
    case ENTRY_COMMAND:
    case ENTRY_BATCH:
        return apply_request(machine, entry, skipped, result);
    case ENTRY_DUE:
        return machine->migration.mount[0] != 0 ? VM_OK : timer_apply(machine, skipped);
    case ENTRY_MIGRATE:
        return migration_apply(machine, entry, skipped, result);
    case ENTRY_OBSERVATION:
        membership_observe(machine, entry, skipped);
        return VM_OK;
    default:
        break;
    }
    if (skipped)
        return refuse(result, ERROR_SKIPPED, "an operator had this entry skipped");
    switch (entry->kind) {
    case ENTRY_BUNDLE:
        return machine_apply_bundle(machine, entry, result);
    case ENTRY_DEPLOY:
        return deploy_apply(machine, entry, result);
    case ENTRY_SESSION:
        if (machine->migration.mount[0] != 0 && !session_only_keeps(entry->payload))
            return refuse(result, ERROR_BUSY, "a migration goes on, so no session begins or ends; try again");
        return session_apply(machine, entry, result);
    case ENTRY_LIMIT:
        return limits_change(machine, entry->payload, result);
    case ENTRY_SKIP:
        return apply_skip(machine, entry, result);
    case ENTRY_MEMBERSHIP:
        return membership_request(machine, entry, result);
    default:
        snprintf(machine->parked_why, sizeof machine->parked_why, "an entry of a newer kind, %s",
                 entry_kind_name(entry->kind));
        return VM_PARK;
    }
}

/* Whether somebody may wait for what came of an entry. */
static bool has_answer(const struct entry *entry)
{
    return entry->kind >= ENTRY_COMMAND && entry->kind != ENTRY_DUE && entry->kind != ENTRY_OBSERVATION;
}

/* Counts what came of an entry in the digest, and gives it to whoever waits. */
static void give_results(struct machine *machine, const struct entry *entry, enum vm_outcome outcome, bool want,
                         struct machine_results *results)
{
    struct slice events = vm_events(machine->vm);
    bool answers = has_answer(entry);
    if (answers && !(MUTANT(93) && !want))
        machine_note_answer(machine, outcome, buffer_slice(&machine->result));
    if (events.size > 0) {
        machine_note_answer(machine, VM_OK, events);
        buffer_append(&results->events, events.data, events.size);
    }
    if (answers && want)
        machine_add_result(results, entry->index, outcome == VM_OK, buffer_slice(&machine->result));
}

/* Applies one entry; false: parked, and nothing of it is left. */
static bool apply_entry(struct machine *machine, const struct entry *entry, bool want,
                        struct machine_results *results)
{
    CHECK_EQ(entry->index, machine->applied + 1);
    uint64_t before_ms = machine->now_ms;
    uint64_t results_hash = machine->results_hash;
    if (entry->stamp_ms > machine->now_ms || MUTANT(90))
        machine->now_ms = entry->stamp_ms;
    buffer_clear(&machine->result);
    vm_events_clear(machine->vm);
    machine->entry = entry;
    machine->parts = 0;
    machine->parked_why[0] = 0;
    if (entry->term > machine->term) {
        session_grant(machine);
        membership_new_term(machine);
    }
    bool skipped = take_skip(machine, entry->index);
    enum vm_outcome outcome = apply_payload(machine, entry, skipped, &machine->result);
    if (outcome == VM_PARK) {
        tree_rollback(machine->tree, 0);
        migration_load(machine);
        membership_load(machine);
        machine->now_ms = before_ms;
        machine->results_hash = results_hash;
        park(machine, entry->index, vm_why(machine->vm));
        return false;
    }
    tree_commit(machine->tree);
    machine->applied = entry->index;
    machine->term = entry->term;
    machine->chain = entry->chain;
    give_results(machine, entry, outcome, want, results);
    digests_add(machine->digests, entry->index, machine_digest_now(machine));
    if (machine->invariants && machine->broken_at == 0)
        hold_invariants(machine, entry);
    return true;
}

raft_index machine_apply(struct machine *machine, struct slice records, bool want_results,
                         struct machine_results *results)
{
    while (records.size > 0 && machine->parked_at == 0) {
        struct entry entry;
        CHECK(entry_peek(records, &entry) == STATUS_OK);
        if (results->events.size > EVENTS_BYTES_MAX) {
            results->events_lost = machine->applied;
            buffer_clear(&results->events);
        }
        if (!apply_entry(machine, &entry, want_results, results))
            break;
        records.data += entry.size;
        records.size -= entry.size;
    }
    return machine->applied;
}

void machine_answer_alone(struct machine_results *results, raft_index index, enum vm_outcome outcome,
                          struct buffer *answer)
{
    if (outcome == VM_PARK) {
        buffer_clear(answer);
        error_pack(answer, ERROR_SCRIPT_ERROR, "the query needed more memory than a Lua state may have");
    }
    machine_add_result(results, index, outcome == VM_OK, buffer_slice(answer));
}

/* --- telling ------------------------------------------------------------------------------------------------------------------ */

void machine_get_status(const struct machine *machine, struct machine_status *status)
{
    struct due due;
    memset(status, 0, sizeof *status);
    status->applied = machine->applied;
    (void)digests_find(machine->digests, machine->applied, &status->digest);
    status->now_ms = machine->now_ms;
    status->rows = tree_rows(machine->tree);
    status->bytes = tree_bytes(machine->tree);
    status->quota_bytes = tree_bytes_apart(machine->tree);
    status->migrating = machine->migration.mount[0] != 0;
    memcpy(status->migrating_mount, machine->migration.mount, sizeof status->migrating_mount);
    status->next_due_ms = !status->migrating && due_first_of_all(machine->tree, &due) ? due.deadline_ms : DUE_NEVER;
    status->sessions = session_count(machine->tree);
    status->timers = due_count(machine->tree, DUE_TIMER);
    status->timers_failed = host_counter(machine->tree, "failed");
    status->lua_bytes = vm_lua_bytes(machine->vm);
    status->spent = vm_spent(machine->vm);
    status->lease_drift_ms = machine->limits.lease_drift_ms;
    status->catalog_version = machine->catalog_version;
    status->membership_version = machine->membership->version;
    status->review_due_ms = membership_review_due(machine);
    status->parked_at = machine->parked_at;
    memcpy(status->parked_why, machine->parked_why, sizeof status->parked_why);
}

const char *machine_broken(const struct machine *machine, raft_index *index)
{
    *index = machine->broken_at;
    return machine->broken_at != 0 ? (const char *)machine->broken.data : NULL;
}

bool machine_digest_at(const struct machine *machine, raft_index index, struct hash128 *digest)
{
    return digests_find(machine->digests, index, digest);
}

uint64_t machine_fingerprint(void)
{
    return sandbox_fingerprint();
}
