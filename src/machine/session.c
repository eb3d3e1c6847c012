/* machine/session.c - see machine/session.h. */
#include "machine/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "machine/timer.h"
#include "script/due.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { FACTS = 7, MOUNTS_STEP = 16 };

/* --- rows ------------------------------------------------------------------------------------------------------------- */

/* The facts in the order of their row. */
static void list_facts(struct session_facts *facts, uint64_t *list[FACTS])
{
    uint64_t *const all[FACTS] = {&facts->ttl_ms,     &facts->seen_ms, &facts->id,      &facts->due_ms,
                                  &facts->done_below, &facts->bytes,   &facts->ended_ms};
    memcpy(list, all, sizeof all);
}

static bool load(const struct tree *tree, struct slice session, struct session_facts *facts)
{
    struct buffer key = {0};
    struct slice value;
    host_key(&key, HOST_SESSIONS, session, slice_make(NULL, 0));
    bool found = tree_get(tree, buffer_slice(&key), &value);
    buffer_close(&key);
    if (!found)
        return false;
    struct pack_reader reader = pack_reader_make(value);
    uint64_t *list[FACTS];
    uint32_t count = 0;
    list_facts(facts, list);
    CHECK(pack_read_array(&reader, &count) == STATUS_OK && count == FACTS);
    for (size_t i = 0; i < FACTS; i++)
        CHECK(pack_read_u64(&reader, list[i]) == STATUS_OK);
    return true;
}

static void save(struct tree *tree, struct slice session, const struct session_facts *facts)
{
    struct session_facts copy = *facts;
    struct buffer key = {0};
    struct buffer value = {0};
    uint64_t *list[FACTS];
    list_facts(&copy, list);
    pack_array(&value, FACTS);
    for (size_t i = 0; i < FACTS; i++)
        pack_u64(&value, *list[i]);
    host_key(&key, HOST_SESSIONS, session, slice_make(NULL, 0));
    (void)tree_put(tree, buffer_slice(&key), buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
}

static void rows_of(struct buffer *lo, struct buffer *hi, enum host_kind kind)
{
    const uint8_t head[ROW_NUMBER_BYTES] = {0, 0, 0, (uint8_t)kind};
    buffer_append(lo, head, sizeof head);
    buffer_append(hi, head, sizeof head);
    key_after_prefix(hi);
}

uint64_t session_count(const struct tree *tree)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    rows_of(&lo, &hi, HOST_SESSIONS);
    uint64_t count = tree_count(tree, buffer_slice(&lo), buffer_slice(&hi));
    buffer_close(&lo);
    buffer_close(&hi);
    return count;
}

/* When the session is out of time. */
static uint64_t end_of(const struct machine *machine, const struct session_facts *facts)
{
    uint64_t granted_ms = MUTANT(161) ? 0 : host_counter(machine->tree, "grant");
    if (facts->ended_ms != 0)
        return facts->ended_ms;
    uint64_t since_ms = facts->seen_ms > granted_ms ? facts->seen_ms : granted_ms;
    return since_ms + facts->ttl_ms < DUE_TIME_MAX ? since_ms + facts->ttl_ms : DUE_TIME_MAX;
}

/* --- answers ---------------------------------------------------------------------------------------------------------- */

/* Bounds of the answers with from <= seq < below. */
static void answer_bounds(struct buffer *lo, struct buffer *hi, struct slice session, uint64_t from, uint64_t below)
{
    host_key_numbered(lo, HOST_ANSWERS, session, from);
    host_key_numbered(hi, HOST_ANSWERS, session, below);
}

/* Lets go of the answers below `below`. */
static void drop_answers(struct tree *tree, struct slice session, struct session_facts *facts, uint64_t below)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    answer_bounds(&lo, &hi, session, 0, below);
    struct tree_cursor *cursor = tree_cursor_open(tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        facts->bytes -= value.size;
        buffer_clear(&lo);
        buffer_append(&lo, key.data, key.size); /* the cursor copied its bounds */
        (void)tree_del(tree, buffer_slice(&lo));
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
}

/* Gives the answer that is kept for a seq. */
static bool find_answer(const struct tree *tree, const struct session_ticket *ticket, enum vm_outcome *outcome,
                        struct buffer *result)
{
    struct buffer key = {0};
    struct slice value;
    bool ok = false;
    host_key_numbered(&key, HOST_ANSWERS, ticket->session, ticket->seq);
    bool found = tree_get(tree, buffer_slice(&key), &value);
    buffer_close(&key);
    if (!found)
        return false;
    struct pack_reader reader = pack_reader_make(value);
    CHECK(pack_read_boolean(&reader, &ok) == STATUS_OK);
    struct slice answer = pack_rest(&reader);
    buffer_append(result, answer.data, answer.size);
    *outcome = ok ? VM_OK : VM_REFUSED;
    return true;
}

static uint64_t count_answers(const struct tree *tree, struct slice session)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    answer_bounds(&lo, &hi, session, 0, 2 * DUE_TIME_MAX);
    uint64_t count = tree_count(tree, buffer_slice(&lo), buffer_slice(&hi));
    buffer_close(&lo);
    buffer_close(&hi);
    return count;
}

/* --- refusals --------------------------------------------------------------------------------------------------------- */

static enum vm_outcome refuse(struct buffer *result, enum error_code code, const char *text)
{
    error_pack(result, code, text);
    return VM_REFUSED;
}

/* Loads a session that lives; else says why there is none. */
static bool load_alive(struct machine *machine, struct slice session, struct session_facts *facts,
                       struct buffer *result)
{
    char text[160];
    int size = (int)(session.size < SESSION_TEXT_MAX ? session.size : SESSION_TEXT_MAX);
    if (!load(machine->tree, session, facts)) {
        snprintf(text, sizeof text, "there is no session %.*s, or it has ended: open another", size,
                 (const char *)session.data);
        error_pack(result, ERROR_SESSION_EXPIRED, text);
        return false;
    }
    uint64_t end_ms = end_of(machine, facts);
    if (machine->now_ms < end_ms || MUTANT(162))
        return true;
    if (!MUTANT(163)) {
        facts->ended_ms = end_ms; /* its client was told: from now on it stays so */
        save(machine->tree, session, facts);
    }
    snprintf(text, sizeof text, "the session %.*s was not used for its ttl of %llu ms: open another", size,
             (const char *)session.data, (unsigned long long)facts->ttl_ms);
    error_pack(result, ERROR_SESSION_EXPIRED, text);
    return false;
}

/* --- commands --------------------------------------------------------------------------------------------------------- */

bool session_read_ticket(struct slice rest, struct session_ticket *ticket)
{
    struct pack_reader reader = pack_reader_make(rest);
    uint32_t count = 0;
    *ticket = (struct session_ticket){0};
    if (rest.size == 0)
        return true;
    return pack_read_array(&reader, &count) == STATUS_OK && count == 3 &&
           pack_read_text(&reader, &ticket->session) == STATUS_OK && ticket->session.size > 0 &&
           ticket->session.size <= SESSION_TEXT_MAX && pack_read_u64(&reader, &ticket->seq) == STATUS_OK &&
           pack_read_u64(&reader, &ticket->done_below) == STATUS_OK && ticket->seq > 0 &&
           ticket->seq <= DUE_TIME_MAX && ticket->done_below <= ticket->seq && pack_rest(&reader).size == 0;
}

/* Whether a seq that comes for the first time may run. */
static bool has_room(const struct machine *machine, const struct session_ticket *ticket, struct buffer *result)
{
    char text[200];
    uint64_t count = count_answers(machine->tree, ticket->session);
    if (count < machine->limits.session_answers && ticket->facts.bytes < machine->limits.session_bytes)
        return true;
    snprintf(text, sizeof text,
             "%llu answers of %llu bytes are kept for this session: say with done_below which have arrived",
             (unsigned long long)count, (unsigned long long)ticket->facts.bytes);
    error_pack(result, ERROR_BUSY, text);
    return false;
}

/* The session was heard of: everything but whether the command runs. */
static enum session_verdict judge(struct machine *machine, struct session_ticket *ticket, enum vm_outcome *outcome,
                                  struct buffer *result)
{
    struct session_facts *facts = &ticket->facts;
    if (ticket->done_below > facts->done_below) {
        drop_answers(machine->tree, ticket->session, facts, ticket->done_below);
        facts->done_below = ticket->done_below;
    }
    if (ticket->seq < facts->done_below && !MUTANT(164)) {
        char text[160];
        snprintf(text, sizeof text, "seq %llu is below done_below, %llu: its answer has arrived, the client said",
                 (unsigned long long)ticket->seq, (unsigned long long)facts->done_below);
        *outcome = refuse(result, ERROR_SESSION_EXPIRED, text);
        return SESSION_ANSWERED;
    }
    if (find_answer(machine->tree, ticket, outcome, result))
        return SESSION_ANSWERED;
    return has_room(machine, ticket, result) ? SESSION_RUN : SESSION_ANSWERED;
}

enum session_verdict session_enter(struct machine *machine, struct session_ticket *ticket, enum vm_outcome *outcome,
                                   struct buffer *result)
{
    *outcome = VM_REFUSED;
    if (ticket->session.data == NULL)
        return SESSION_RUN;
    if (!load_alive(machine, ticket->session, &ticket->facts, result))
        return SESSION_ANSWERED;
    ticket->facts.seen_ms = machine->now_ms;
    enum session_verdict verdict = judge(machine, ticket, outcome, result);
    if (verdict == SESSION_ANSWERED)
        save(machine->tree, ticket->session, &ticket->facts);
    return verdict;
}

void session_keep_answer(struct machine *machine, const struct session_ticket *ticket, enum vm_outcome outcome,
                         struct slice answer)
{
    struct buffer key = {0};
    struct buffer value = {0};
    struct session_facts facts = ticket->facts;
    if (ticket->session.data == NULL)
        return;
    pack_boolean(&value, outcome == VM_OK);
    buffer_append(&value, answer.data, answer.size);
    host_key_numbered(&key, HOST_ANSWERS, ticket->session, ticket->seq);
    if (outcome == VM_OK || !MUTANT(165))
        (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    facts.bytes += value.size;
    save(machine->tree, ticket->session, &facts);
    buffer_close(&key);
    buffer_close(&value);
}

/* --- ending ----------------------------------------------------------------------------------------------------------- */

struct ending {
    struct slice mount;
    struct slice session;
};

static enum vm_outcome call_session_end(struct vm *vm, const void *context, struct buffer *result)
{
    const struct ending *ending = context;
    return vm_session_end(vm, ending->mount, ending->session, result);
}

struct mount_names {
    const char **list;
    size_t count;
};

static void add_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    struct mount_names *names = context;
    (void)module;
    (void)version;
    (void)hash;
    if (names->count % MOUNTS_STEP == 0)
        names->list = mem_realloc(names->list, (names->count + MOUNTS_STEP) * sizeof *names->list);
    names->list[names->count++] = mount;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Runs on_session_end of all mounts, by their names: the order in which they were mounted is nothing that a state keeps. */
static enum vm_outcome tell_mounts(struct machine *machine, struct slice session)
{
    struct mount_names names = {0};
    enum vm_outcome outcome = VM_OK;
    vm_mounts(machine->vm, add_mount, &names);
    if (names.count > 0)
        qsort(names.list, names.count, sizeof *names.list, by_name);
    for (size_t i = 0; i < names.count && outcome == VM_OK; i++) {
        const struct ending ending = {.mount = slice_text(names.list[i]), .session = session};
        char what[100];
        snprintf(what, sizeof what, "on_session_end of %.64s", names.list[i]);
        outcome = timer_run(machine, what, call_session_end, &ending);
    }
    mem_free(names.list);
    return outcome;
}

/* Takes a session away. `session` may lie in the rows that go. */
static enum vm_outcome end(struct machine *machine, struct slice session, struct session_facts *facts, bool skipped)
{
    struct buffer key = {0};
    struct buffer text = {0};
    const struct due due = {.kind = DUE_SESSION, .deadline_ms = facts->due_ms, .id = facts->id};
    buffer_append(&text, session.data, session.size);
    drop_answers(machine->tree, buffer_slice(&text), facts, 2 * DUE_TIME_MAX);
    host_key(&key, HOST_SESSIONS, buffer_slice(&text), slice_make(NULL, 0));
    (void)tree_del(machine->tree, buffer_slice(&key));
    bool waited = due_drop(machine->tree, &due);
    CHECK(waited);
    enum vm_outcome outcome = skipped ? VM_OK : tell_mounts(machine, buffer_slice(&text));
    buffer_close(&key);
    buffer_close(&text);
    return outcome;
}

/* What waited for the end of a session has come, or is the first to come. One that was used since waits again, at its end. Sets
 * *ended if it has come to that. */
static enum vm_outcome come(struct machine *machine, struct slice session, bool skipped, bool *ended)
{
    struct session_facts facts;
    bool known = load(machine->tree, session, &facts);
    CHECK(known);
    struct due due = {.kind = DUE_SESSION, .deadline_ms = facts.due_ms, .id = facts.id};
    uint64_t end_ms = end_of(machine, &facts);
    *ended = end_ms <= facts.due_ms;
    if (*ended)
        return end(machine, session, &facts, skipped);
    (void)due_drop(machine->tree, &due);
    due.deadline_ms = facts.due_ms = end_ms;
    due_set(machine->tree, &due, session);
    save(machine->tree, session, &facts);
    return VM_OK;
}

enum vm_outcome session_due(struct machine *machine, struct slice session, bool skipped)
{
    bool ended = false;
    return come(machine, session, skipped, &ended);
}

/* Ends the session that would be out of time first. */
static enum vm_outcome make_room(struct machine *machine)
{
    struct buffer session = {0};
    enum vm_outcome outcome = VM_OK;
    for (bool ended = false; !ended && outcome == VM_OK;) {
        struct due due;
        struct slice what;
        bool waits = due_first(machine->tree, DUE_SESSION, &due) && due_get(machine->tree, &due, &what);
        CHECK(waits);
        buffer_clear(&session);
        buffer_append(&session, what.data, what.size);
        outcome = come(machine, buffer_slice(&session), false, &ended);
    }
    buffer_close(&session);
    return outcome;
}

/* --- entries ---------------------------------------------------------------------------------------------------------- */

static enum vm_outcome open_session(struct machine *machine, const struct entry *entry, uint64_t ttl_ms,
                                    struct buffer *result)
{
    char text[SESSION_TEXT_MAX];
    const uint64_t parts[2] = {machine->cluster_id, entry->index};
    if (ttl_ms < SESSION_TTL_MIN_MS || ttl_ms > SESSION_TTL_MAX_MS)
        return refuse(result, ERROR_BAD_ARGS, "ttl_ms must be a whole number from 100 to 604800000, seven days");
    while (session_count(machine->tree) >= machine->limits.sessions)
        if (make_room(machine) == VM_PARK)
            return VM_PARK;
    snprintf(text, sizeof text, "%llx-%08x", (unsigned long long)entry->index,
             (unsigned)hash64(parts, sizeof parts));
    struct session_facts facts = {.ttl_ms = ttl_ms, .seen_ms = machine->now_ms};
    facts.due_ms = end_of(machine, &facts);
    facts.id = due_arm(machine->tree, DUE_SESSION, facts.due_ms, slice_text(text));
    save(machine->tree, slice_text(text), &facts);
    pack_text(result, slice_text(text));
    return VM_OK;
}

static enum vm_outcome keep_or_end(struct machine *machine, struct slice session, bool ends, struct buffer *result)
{
    struct session_facts facts;
    if (!load_alive(machine, session, &facts, result))
        return VM_REFUSED;
    facts.seen_ms = machine->now_ms;
    if (!ends)
        save(machine->tree, session, &facts);
    else if (end(machine, session, &facts, false) == VM_PARK)
        return VM_PARK;
    pack_boolean(result, true);
    return VM_OK;
}

bool session_only_keeps(struct slice payload)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t count = 0;
    struct slice verb;
    return pack_read_array(&reader, &count) == STATUS_OK && count > 0 &&
           pack_read_text(&reader, &verb) == STATUS_OK && slice_equal(verb, slice_text("keep"));
}

enum vm_outcome session_apply(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    uint32_t count = 0;
    struct slice verb = {0};
    struct slice session = {0};
    uint64_t ttl_ms = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 2 || pack_read_text(&reader, &verb) != STATUS_OK)
        return refuse(result, ERROR_BAD_ARGS, "a session's entry is [verb, session or ttl_ms]");
    if (slice_equal(verb, slice_text("open"))) {
        if (pack_read_u64(&reader, &ttl_ms) != STATUS_OK)
            ttl_ms = 0;
        return open_session(machine, entry, ttl_ms, result);
    }
    bool ends = slice_equal(verb, slice_text("end"));
    if (!ends && !slice_equal(verb, slice_text("keep")))
        return refuse(result, ERROR_BAD_ARGS, "the verb of a session is open, keep or end");
    if (pack_read_text(&reader, &session) != STATUS_OK || session.size == 0 || session.size > SESSION_TEXT_MAX)
        return refuse(result, ERROR_BAD_ARGS, "the session is the text that open gave");
    return keep_or_end(machine, session, ends, result);
}

void session_grant(struct machine *machine)
{
    if (session_count(machine->tree) > 0) /* one that is opened later has more than that */
        host_counter_set(machine->tree, "grant", machine->now_ms);
}
