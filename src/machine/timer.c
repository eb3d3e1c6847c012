/* machine/timer.c - see machine/timer.h. */
#include "machine/timer.h"

#include <stdio.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "machine/session.h"
#include "script/due.h"
#include "wire/error.h"
#include "wire/pack.h"

static void tell_failure(struct machine *machine, const char *what, struct slice error)
{
    struct slice code = {0}, message = {0}, data = {0};
    CHECK(error_unpack(error, &code, &message, &data) == STATUS_OK);
    host_counter_set(machine->tree, "failed", host_counter(machine->tree, "failed") + 1);
    LOG(LOG_WARN, "machine", "%s failed at entry %llu: %.*s: %.*s", what, (unsigned long long)machine->entry->index,
        (int)code.size, (const char *)code.data, (int)message.size, (const char *)message.data);
}

enum vm_outcome timer_run(struct machine *machine, const char *what, timer_call *call, const void *context)
{
    struct buffer result = {0};
    machine->parts++;
    machine_begin(machine, machine->entry, machine->parts, slice_make(NULL, 0));
    enum vm_outcome outcome = call(machine->vm, context, &result);
    vm_end(machine->vm);
    if (outcome != VM_PARK)
        machine_note_answer(machine, outcome, buffer_slice(&result));
    if (outcome == VM_REFUSED) {
        tell_failure(machine, what, buffer_slice(&result));
        outcome = VM_OK;
    }
    buffer_close(&result);
    return outcome;
}

/* --- what is due ------------------------------------------------------------------------------------------------------ */

struct firing {
    struct slice mount; /* of a timer */
    struct slice name;
    struct slice args;
    struct slice key; /* of a row */
    struct slice value;
};

static enum vm_outcome call_timer(struct vm *vm, const void *context, struct buffer *result)
{
    const struct firing *firing = context;
    return vm_fire(vm, firing->mount, firing->name, firing->args, result);
}

static enum vm_outcome call_expire(struct vm *vm, const void *context, struct buffer *result)
{
    const struct firing *firing = context;
    return vm_expire(vm, firing->key, firing->value, result);
}

static enum vm_outcome fire_timer(struct machine *machine, const struct due *due, struct slice what, bool skipped)
{
    struct pack_reader reader = pack_reader_make(what);
    struct firing firing;
    char text[160];
    CHECK(pack_read_text(&reader, &firing.mount) == STATUS_OK);
    CHECK(pack_read_text(&reader, &firing.name) == STATUS_OK);
    firing.args = pack_rest(&reader);
    due_drop_timer(machine->tree, due);
    snprintf(text, sizeof text, "the timer %.*s.%.*s", (int)firing.mount.size, (const char *)firing.mount.data,
             (int)firing.name.size, (const char *)firing.name.data);
    return skipped ? VM_OK : timer_run(machine, text, call_timer, &firing);
}

static enum vm_outcome expire_row(struct machine *machine, const struct due *due, struct slice what, bool skipped)
{
    struct buffer key = {0};
    struct buffer value = {0};
    due_take_row(machine->tree, due, what, &key, &value);
    const struct firing firing = {.key = buffer_slice(&key), .value = buffer_slice(&value)};
    enum vm_outcome outcome = skipped ? VM_OK : timer_run(machine, "on_expire", call_expire, &firing);
    buffer_close(&key);
    buffer_close(&value);
    return outcome;
}

static enum vm_outcome happen(struct machine *machine, const struct due *due, bool skipped)
{
    struct buffer copy = {0};
    struct slice what;
    enum vm_outcome outcome = VM_OK;
    bool waits = due_get(machine->tree, due, &what);
    CHECK(waits);
    buffer_append(&copy, what.data, what.size);
    switch (due->kind) {
    case DUE_TIMER:
        outcome = fire_timer(machine, due, buffer_slice(&copy), skipped);
        break;
    case DUE_ROW:
        outcome = expire_row(machine, due, buffer_slice(&copy), skipped);
        break;
    case DUE_SESSION:
        outcome = session_due(machine, buffer_slice(&copy), skipped);
        break;
    }
    buffer_close(&copy);
    return outcome;
}

/* What is armed meanwhile has a later deadline than all that was due, or the same and a greater id: so it comes last. */
enum vm_outcome timer_apply(struct machine *machine, bool skipped)
{
    const uint64_t last_id = due_last_id(machine->tree);
    struct due due;
    enum vm_outcome outcome = VM_OK;
    for (int i = 0; i < TIMER_DUE_MAX && outcome == VM_OK; i++) {
        struct vm_mark made = vm_savepoint(machine->vm);
        if (!due_first_of_all(machine->tree, &due) || due.deadline_ms > machine->now_ms ||
            (due.id > last_id && !MUTANT(167)))
            break;
        if (made.events > machine->limits.events || made.events_bytes >= machine->limits.event_bytes)
            break; /* the rest waits: an entry's events are bounded */
        outcome = happen(machine, &due, skipped);
    }
    return outcome;
}
