/* machine/host_rows.c - see machine/host_rows.h. */
#include "machine/host_rows.h"

#include <stddef.h>
#include <stdio.h>

#include "script/budget.h"
#include "state/key.h"
#include "wire/pack.h"

static const char *const names[HOST_KINDS] = {"export", "limits", "ids", "bundles", "maps", "refused", "format"};

uint32_t row_number(struct slice key)
{
    if (key.size < ROW_NUMBER_BYTES)
        return UINT32_MAX;
    return (uint32_t)key.data[0] << 24 | (uint32_t)key.data[1] << 16 | (uint32_t)key.data[2] << 8 | key.data[3];
}

const char *host_name(uint32_t kind)
{
    return kind < HOST_KINDS ? names[kind] : NULL;
}

void host_key(struct buffer *key, enum host_kind kind, struct slice first, struct slice second)
{
    const uint8_t head[ROW_NUMBER_BYTES] = {0, 0, 0, (uint8_t)kind};
    buffer_clear(key);
    buffer_append(key, head, sizeof head);
    key_append_text(key, first);
    if (second.data != NULL)
        key_append_text(key, second);
}

bool host_texts(struct slice key, char first[HOST_TEXT_BYTES], char second[HOST_TEXT_BYTES])
{
    char *const into[2] = {first, second};
    struct key_reader reader = {.rest = slice_make(key.data + ROW_NUMBER_BYTES, key.size - ROW_NUMBER_BYTES)};
    struct key_element element;
    enum status status = STATUS_OK;
    size_t count = 0;
    first[0] = second[0] = 0;
    while ((status = key_read(&reader, &element)) == STATUS_OK && count < 2 && element.type == KEY_TEXT &&
           element.text.size < HOST_TEXT_BYTES) {
        snprintf(into[count++], HOST_TEXT_BYTES, "%.*s", (int)element.text.size, (const char *)element.text.data);
    }
    buffer_close(&reader.scratch);
    return status == STATUS_INCOMPLETE && count > 0;
}

/* --- limits ----------------------------------------------------------------------------------------------------------- */

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

static uint64_t *limit_of(struct vm_limits *limits, size_t which)
{
    return (uint64_t *)(void *)((char *)limits + limit_rows[which].offset);
}

static uint64_t limit_value(const struct vm_limits *limits, size_t which)
{
    return *(const uint64_t *)(const void *)((const char *)limits + limit_rows[which].offset);
}

void host_limits_standard(struct vm_limits *limits)
{
    for (size_t i = 0; i < LIMITS; i++)
        *limit_of(limits, i) = limit_rows[i].standard;
}

void host_limits_put(struct tree *tree, const struct vm_limits *limits)
{
    struct buffer key = {0};
    struct buffer value = {0};
    for (size_t i = 0; i < LIMITS; i++) {
        host_key(&key, HOST_LIMITS, slice_text("limit"), slice_text(limit_rows[i].name));
        buffer_clear(&value);
        pack_u64(&value, limit_value(limits, i));
        (void)tree_put(tree, buffer_slice(&key), buffer_slice(&value));
    }
    buffer_close(&key);
    buffer_close(&value);
}

bool host_limit_take(struct slice key, struct slice value, struct vm_limits *limits)
{
    char kind[HOST_TEXT_BYTES];
    char name[HOST_TEXT_BYTES];
    struct pack_reader reader = pack_reader_make(value);
    uint64_t number = 0;
    if (!host_texts(key, kind, name) || pack_read_u64(&reader, &number) != STATUS_OK)
        return false;
    for (size_t i = 0; i < LIMITS; i++) {
        if (strcmp(name, limit_rows[i].name) != 0)
            continue;
        *limit_of(limits, i) = number;
        return true;
    }
    return false;
}

void host_limits_pack(const struct vm_limits *limits, struct buffer *out)
{
    pack_map(out, LIMITS);
    for (size_t i = 0; i < LIMITS; i++) {
        pack_text(out, slice_text(limit_rows[i].name));
        pack_u64(out, limit_value(limits, i));
    }
}
