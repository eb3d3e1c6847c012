/* machine/limits.c - see machine/limits.h. */
#include "machine/limits.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "machine/deploy_private.h"
#include "machine/host_rows.h"
#include "script/budget.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { MIB = 1024 * 1024 };

static const struct {
    const char *name;
    uint64_t standard;
    uint64_t least;
    uint64_t most;
    size_t offset; /* in struct vm_limits */
} limit_rows[] = {
    {"answer_bytes", 8 * MIB, 1024, 8 * MIB, offsetof(struct vm_limits, answer_bytes)},
    {"args_bytes", MIB, 1024, MIB, offsetof(struct vm_limits, args_bytes)},
    {"batch", 1000, 1, 10 * 1000, offsetof(struct vm_limits, batch)},
    {"budget", BUDGET_INSTRUCTIONS, 100 * 1000, 1000 * 1000 * 1000, offsetof(struct vm_limits, budget)},
    {"depth", BUDGET_DEPTH, 20, BUDGET_DEPTH, offsetof(struct vm_limits, depth)},
    {"event_bytes", 4 * MIB, 1024, 8 * MIB, offsetof(struct vm_limits, event_bytes)},
    {"events", 1000, 0, 100 * 1000, offsetof(struct vm_limits, events)},
    {"key_bytes", KEY_BYTES_MAX, 16, KEY_BYTES_MAX, offsetof(struct vm_limits, key_bytes)},
    {"lease_drift_ms", 0, 0, 10 * 1000, offsetof(struct vm_limits, lease_drift_ms)},
    {"migrate_budget", 10 * BUDGET_INSTRUCTIONS, 100 * 1000, MIGRATE_BUDGET_MAX,
     offsetof(struct vm_limits, migrate_budget)},
    {"quota", 0, 0, (uint64_t)1 << 50, offsetof(struct vm_limits, quota)},
    {"row_bytes", MIB, 64, MIB, offsetof(struct vm_limits, row_bytes)},
    {"session_answers", 1000, 1, 100 * 1000, offsetof(struct vm_limits, session_answers)},
    {"session_bytes", 8 * MIB, 1024, 64 * MIB, offsetof(struct vm_limits, session_bytes)},
    {"sessions", 10 * 1000, 1, 1000 * 1000, offsetof(struct vm_limits, sessions)},
    {"timer_bytes", 64 * 1024, 64, MIB, offsetof(struct vm_limits, timer_bytes)},
    {"timers", 100 * 1000, 0, 10 * 1000 * 1000, offsetof(struct vm_limits, timers)},
};

enum { LIMITS = sizeof limit_rows / sizeof limit_rows[0] };

static uint64_t *limit_of(struct vm_limits *limits, size_t which)
{
    return (uint64_t *)(void *)((char *)limits + limit_rows[which].offset);
}

static uint64_t limit_value(const struct vm_limits *limits, size_t which)
{
    return *(const uint64_t *)(const void *)((const char *)limits + limit_rows[which].offset);
}

/* LIMITS: there is none of that name. */
static size_t find(struct slice name)
{
    size_t which = 0;
    while (which < LIMITS && !slice_equal(slice_text(limit_rows[which].name), name))
        which++;
    return which;
}

void limits_standard(struct vm_limits *limits)
{
    for (size_t i = 0; i < LIMITS; i++)
        *limit_of(limits, i) = limit_rows[i].standard;
}

static void put_row(struct tree *tree, size_t which, uint64_t number)
{
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, HOST_LIMITS, slice_text("limit"), slice_text(limit_rows[which].name));
    pack_u64(&value, number);
    (void)tree_put(tree, buffer_slice(&key), buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
}

void limits_put(struct tree *tree, const struct vm_limits *limits)
{
    for (size_t i = 0; i < LIMITS; i++)
        put_row(tree, i, limit_value(limits, i));
}

bool limits_take(struct slice key, struct slice value, struct vm_limits *limits)
{
    char kind[HOST_TEXT_BYTES];
    char name[HOST_TEXT_BYTES];
    struct pack_reader reader = pack_reader_make(value);
    uint64_t number = 0;
    if (!host_texts(key, kind, name) || pack_read_u64(&reader, &number) != STATUS_OK)
        return false;
    size_t which = find(slice_text(name));
    if (which == LIMITS || number < limit_rows[which].least || number > limit_rows[which].most)
        return false;
    *limit_of(limits, which) = number;
    return true;
}

void limits_pack(const struct vm_limits *limits, struct buffer *out)
{
    pack_map(out, LIMITS);
    for (size_t i = 0; i < LIMITS; i++) {
        pack_text(out, slice_text(limit_rows[i].name));
        pack_u64(out, limit_value(limits, i));
    }
}

void limits_widen(struct vm_limits *limits)
{
    limits->key_bytes = limit_rows[find(slice_text("key_bytes"))].most;
    limits->row_bytes = limit_rows[find(slice_text("row_bytes"))].most;
}

static enum vm_outcome refuse(struct buffer *result, const char *text)
{
    error_pack(result, ERROR_BAD_ARGS, text);
    return VM_REFUSED;
}

static enum vm_outcome refuse_name(struct slice name, struct buffer *result)
{
    char text[400];
    int size = snprintf(text, sizeof text, "there is no limit %.*s; there are",
                        (int)(name.size < 40 ? name.size : 40), (const char *)name.data);
    for (size_t i = 0; i < LIMITS; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, " %s", limit_rows[i].name);
    return refuse(result, text);
}

enum vm_outcome limits_change(struct machine *machine, struct slice payload, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t count = 0;
    uint64_t number = 0;
    struct slice name;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 2 || pack_read_text(&reader, &name) != STATUS_OK)
        return refuse(result, "a limit is changed by [name, value]");
    size_t which = find(name);
    if (which == LIMITS)
        return refuse_name(name, result);
    if (pack_read_u64(&reader, &number) != STATUS_OK || number < limit_rows[which].least ||
        number > limit_rows[which].most) {
        char text[160];
        snprintf(text, sizeof text, "the limit %s must be a whole number from %.0f to %.0f", limit_rows[which].name,
                 (double)limit_rows[which].least, (double)limit_rows[which].most);
        return refuse(result, text);
    }
    pack_u64(result, limit_value(&machine->limits, which));
    put_row(machine->tree, which, number);
    *limit_of(&machine->limits, which) = number;
    machine->catalog_version++; /* what is told of the service is another */
    return VM_OK;
}
