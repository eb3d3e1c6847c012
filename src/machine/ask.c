/* machine/ask.c - what one node runs alone, and no other: queries, and dry runs of commands. Nothing of it stays. See
 * machine/machine.h.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "machine/deploy_private.h"
#include "machine/limits.h"
#include "machine/machine_private.h"
#include "machine/membership.h"
#include "machine/session.h"
#include "wire/error.h"
#include "wire/pack.h"

enum vm_outcome machine_ask(struct machine *machine, const struct vm_limits *limits, struct slice name,
                            struct slice args, uint64_t now_ms)
{
    const struct vm_entry facts = {.index = machine->applied,
                                   .term = machine->term,
                                   .now_ms = now_ms > machine->now_ms ? now_ms : machine->now_ms,
                                   .seed = machine_seed(machine->cluster_id, machine->applied)};
    vm_begin(machine->vm, &facts, limits);
    enum vm_outcome outcome = vm_call(machine->vm, name, args, true, &machine->result);
    vm_end(machine->vm);
    CHECK_EQ(tree_savepoint(machine->tree), 0);
    machine->query_timed = vm_read_clock(machine->vm);
    return outcome;
}

void machine_say_no_query(enum vm_kind kind, struct slice name, struct buffer *answer)
{
    char text[200];
    snprintf(text, sizeof text, kind == VM_COMMAND ? "%.*s is a command: call it" : "there is no query %.*s",
             (int)(name.size < 120 ? name.size : 120), (const char *)name.data);
    error_pack(answer, ERROR_UNKNOWN_COMMAND, text);
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
    } else if (slice_equal(name, slice_text("tidelock.limits"))) {
        limits_pack(&machine->limits, &machine->result);
        outcome = VM_OK;
    } else if (slice_equal(name, slice_text("tidelock.members"))) {
        const uint64_t stamp_ms = machine->now_ms; /* for how long somebody is silent by now */
        machine->now_ms = now_ms > stamp_ms ? now_ms : stamp_ms;
        machine_pack_membership(machine, &machine->result);
        machine->now_ms = stamp_ms;
        outcome = VM_OK;
    } else if (slice_equal(name, slice_text("tidelock.members_history"))) {
        machine_pack_membership_history(machine, &machine->result);
        outcome = VM_OK;
    } else if (slice_equal(name, slice_text("tidelock.code"))) {
        outcome = deploy_tell_code(machine, args, &machine->result);
    } else if (kind == VM_QUERY || kind == VM_RAW) {
        outcome = machine_ask(machine, &machine->limits, name, args, now_ms);
    } else if (!machine_say_refused(machine, name, &machine->result)) {
        machine_say_no_query(kind, name, &machine->result);
    }
    machine_answer_alone(results, machine->applied, outcome, &machine->result);
}

/* {answer, events} in place of the answer. */
static void show_tried(struct machine *machine)
{
    struct buffer answer = machine->result;
    struct slice events = vm_events(machine->vm);
    struct pack_reader reader = pack_reader_make(events);
    static const uint8_t nil = 0xC0;
    uint32_t count = 0;
    for (struct slice ignored; pack_rest(&reader).size > 0; count++)
        CHECK(pack_skip(&reader, PACK_SKIP_DEPTH, &ignored) == STATUS_OK);
    machine->result = (struct buffer){0};
    pack_map(&machine->result, 2);
    pack_text(&machine->result, slice_text("answer"));
    buffer_append(&machine->result, answer.data, answer.size);
    pack_text(&machine->result, slice_text("events"));
    pack_array(&machine->result, count);
    reader = pack_reader_make(events);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t parts = 0;
        uint64_t id = 0;
        CHECK(pack_read_array(&reader, &parts) == STATUS_OK && parts == 5);
        CHECK(pack_read_u64(&reader, &id) == STATUS_OK && pack_read_u64(&reader, &id) == STATUS_OK);
        struct slice parts_of[3];
        for (uint32_t part = 0; part < 3; part++)
            CHECK(pack_skip(&reader, PACK_SKIP_DEPTH, &parts_of[part]) == STATUS_OK);
        bool bare = parts_of[2].size == 1 && parts_of[2].data[0] == nil;
        pack_array(&machine->result, bare ? 2 : 3);
        for (uint32_t part = 0; part < (bare ? 2u : 3u); part++)
            buffer_append(&machine->result, parts_of[part].data, parts_of[part].size);
    }
    buffer_close(&answer);
}

/* As apply_request does it. */
static enum vm_outcome try_request(struct machine *machine, const struct entry *next, struct slice name,
                                   struct slice args, struct slice ticket)
{
    struct session_ticket from = {0};
    enum vm_outcome outcome = VM_REFUSED;
    if (!session_read_ticket(ticket, &from)) {
        error_pack(&machine->result, ERROR_BAD_REQUEST, "session, seq and done_below make no sense");
        return VM_REFUSED;
    }
    if (session_enter(machine, &from, &outcome, &machine->result) == SESSION_ANSWERED)
        return outcome;
    machine_begin(machine, next, 0, from.session);
    outcome = name.size > 0 ? machine_call(machine, name, args, &machine->result)
                            : machine_call_all(machine, args, &machine->result);
    vm_end(machine->vm);
    return outcome;
}

void machine_try(struct machine *machine, struct slice name, struct slice args, struct slice ticket,
                 uint64_t now_ms, struct machine_results *results)
{
    enum vm_outcome outcome = VM_REFUSED;
    buffer_clear(&machine->result);
    if (machine->parked_at != 0) {
        error_pack(&machine->result, ERROR_PARKED, "this node is parked; ask another");
    } else {
        const struct entry next = {.index = machine->applied + 1, .term = machine->term};
        uint64_t stamp_ms = machine->now_ms;
        machine->now_ms = now_ms > stamp_ms ? now_ms : stamp_ms;
        machine->entry = &next;
        machine->parts = 0;
        vm_events_clear(machine->vm);
        outcome = try_request(machine, &next, name, args, ticket);
        if (outcome == VM_OK)
            show_tried(machine);
        if (!MUTANT(176))
            tree_rollback(machine->tree, 0);
        vm_events_clear(machine->vm);
        machine->now_ms = stamp_ms;
    }
    machine_answer_alone(results, machine->applied, outcome, &machine->result);
}

bool machine_query_timed(const struct machine *machine)
{
    return machine->query_timed;
}
