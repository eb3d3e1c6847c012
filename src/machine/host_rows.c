/* machine/host_rows.c - see machine/host_rows.h. */
#include "machine/host_rows.h"

#include <stdio.h>

#include "base/check.h"
#include "state/key.h"
#include "wire/pack.h"

static const char *const names[HOST_KINDS] = {
    "export",  "limits", "ids",    "bundles",  "maps",      "refused", "format",   "sessions",
    "answers", "due",    "due_of", "counters", "migration", "journal", "upgrades", "membership"};

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

void host_key_numbered(struct buffer *key, enum host_kind kind, struct slice first, uint64_t second)
{
    host_key(key, kind, first, slice_make(NULL, 0));
    key_append_number(key, (double)second);
}

uint64_t host_counter(const struct tree *tree, const char *name)
{
    struct buffer key = {0};
    struct slice value;
    uint64_t number = 0;
    host_key(&key, HOST_COUNTERS, slice_text(name), slice_make(NULL, 0));
    if (tree_get(tree, buffer_slice(&key), &value)) {
        struct pack_reader reader = pack_reader_make(value);
        CHECK(pack_read_u64(&reader, &number) == STATUS_OK);
    }
    buffer_close(&key);
    return number;
}

void host_counter_set(struct tree *tree, const char *name, uint64_t number)
{
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, HOST_COUNTERS, slice_text(name), slice_make(NULL, 0));
    pack_u64(&value, number);
    (void)tree_put(tree, buffer_slice(&key), buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
}
