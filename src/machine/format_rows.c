/* machine/format_rows.c - see machine/format_rows.h. */
#include "machine/format_rows.h"

#include <stdio.h>

#include "machine/host_rows.h"
#include "script/due.h"
#include "state/key.h"
#include "wire/pack.h"

enum { FLUSH_BYTES = 64 * 1024 };

/* --- writing ---------------------------------------------------------------------------------------------------------- */

static void put_number(struct buffer *key, uint32_t number)
{
    const uint8_t head[ROW_NUMBER_BYTES] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16),
                                            (uint8_t)(number >> 8), (uint8_t)number};
    buffer_clear(key);
    buffer_append(key, head, sizeof head);
}

static enum status flush(const struct format_writing *writing, struct buffer *out)
{
    enum status status = writing->append(writing->context, buffer_slice(out));
    buffer_clear(out);
    return status;
}

static enum status write_map(const struct format_writing *writing, const struct format_map *map, struct slice lo,
                             struct slice hi, struct buffer *out)
{
    uint64_t count = view_count(writing->view, lo, hi);
    if (count == 0)
        return STATUS_OK;
    pack_array(out, 3);
    pack_text(out, slice_text(map->mount));
    pack_text(out, slice_text(map->name));
    pack_u64(out, count);
    struct view_cursor *cursor = view_cursor_open(writing->view, lo, hi, false);
    struct slice key;
    struct slice value;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && view_cursor_next(cursor, &key, &value)) {
        uint64_t deadline_ms = due_split(&value);
        if (deadline_ms != DUE_NEVER)
            pack_u64(out, deadline_ms);
        pack_bin(out, slice_make(key.data + ROW_NUMBER_BYTES, key.size - ROW_NUMBER_BYTES));
        buffer_append(out, value.data, value.size);
        status = writing->row(writing->context);
        if (status == STATUS_OK && out->size >= FLUSH_BYTES)
            status = flush(writing, out);
    }
    view_cursor_close(cursor);
    return status;
}

enum status format_rows_write(const struct format_writing *writing)
{
    struct buffer out = {0};
    struct buffer lo = {0};
    struct buffer hi = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < writing->maps->count && status == STATUS_OK; i++) {
        const struct format_map *map = &writing->maps->list[i];
        put_number(&lo, map->number);
        put_number(&hi, map->number);
        key_after_prefix(&hi);
        status = write_map(writing, map, buffer_slice(&lo), buffer_slice(&hi), &out);
    }
    if (status == STATUS_OK && out.size > 0)
        status = flush(writing, &out);
    buffer_close(&out);
    buffer_close(&lo);
    buffer_close(&hi);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

struct reading {
    const struct format_reading *from;
    struct buffer *why;
    uint64_t left;       /* rows of the map at hand */
    struct buffer key;   /* begins with the number of that map */
    struct buffer value; /* of a row that expires */
};

static enum status wrong(struct reading *reading, const char *what)
{
    buffer_append(reading->why, what, strlen(what));
    return STATUS_INVALID;
}

/* Takes [mount, map, count]. */
static enum status take_map(struct reading *reading, struct pack_reader *reader)
{
    const struct format_maps *maps = reading->from->maps;
    struct pack_reader at = *reader;
    struct slice mount;
    struct slice name;
    uint32_t parts = 0;
    enum status status = pack_read_array(&at, &parts);
    if (status == STATUS_OK && parts != 3)
        status = STATUS_INVALID;
    if (status == STATUS_OK)
        status = pack_read_text(&at, &mount);
    if (status == STATUS_OK)
        status = pack_read_text(&at, &name);
    if (status == STATUS_OK)
        status = pack_read_u64(&at, &reading->left);
    if (status == STATUS_INVALID)
        return wrong(reading, "a list [mount, map, count] is expected");
    if (status != STATUS_OK)
        return status;
    *reader = at;
    for (size_t i = 0; i < maps->count; i++)
        if (slice_equal(slice_text(maps->list[i].mount), mount) &&
            slice_equal(slice_text(maps->list[i].name), name)) {
            put_number(&reading->key, maps->list[i].number);
            return STATUS_OK;
        }
    return wrong(reading, "rows of a map that the state has not");
}

static enum status take_row(struct reading *reading, struct pack_reader *reader)
{
    struct pack_reader at = *reader;
    struct pack_item item;
    struct slice value;
    uint64_t deadline_ms = DUE_NEVER;
    enum status status = pack_read(&at, &item);
    if (status == STATUS_OK && item.type == PACK_INT && item.integer >= 0) {
        deadline_ms = (uint64_t)item.integer;
        status = pack_read(&at, &item);
    }
    if (status == STATUS_OK && item.type != PACK_BIN)
        status = STATUS_INVALID;
    if (status == STATUS_OK)
        status = pack_skip(&at, PACK_DEPTH_MAX, &value);
    if (status == STATUS_INCOMPLETE)
        return status;
    if (status != STATUS_OK)
        return wrong(reading, "a key and a value are expected");
    *reader = at;
    reading->left--;
    reading->key.size = ROW_NUMBER_BYTES;
    buffer_append(&reading->key, item.bytes.data, item.bytes.size);
    if (deadline_ms != DUE_NEVER) {
        buffer_clear(&reading->value);
        due_append_prefix(&reading->value, deadline_ms);
        buffer_append(&reading->value, value.data, value.size);
        value = buffer_slice(&reading->value);
    }
    return reading->from->put(reading->from->context, buffer_slice(&reading->key), value, reading->why);
}

enum status format_rows_read(const struct format_reading *from, struct buffer *why)
{
    struct reading reading = {.from = from, .why = why};
    struct buffer held = {0};
    bool end = false;
    enum status status = STATUS_OK;
    while (!end && status == STATUS_OK) {
        struct slice piece = {0};
        status = from->next(from->context, &piece, &end);
        if (status != STATUS_OK || end)
            break;
        buffer_append(&held, piece.data, piece.size);
        struct pack_reader reader = pack_reader_make(buffer_slice(&held));
        while (status == STATUS_OK && pack_rest(&reader).size > 0)
            status = reading.left > 0 ? take_row(&reading, &reader) : take_map(&reading, &reader);
        if (status == STATUS_INCOMPLETE)
            status = STATUS_OK; /* the rest is in the next piece */
        buffer_consume(&held, (size_t)(reader.at - held.data));
    }
    if (status == STATUS_OK && (held.size > 0 || reading.left > 0))
        status = wrong(&reading, "the bytes end in the midst of the rows");
    buffer_close(&held);
    buffer_close(&reading.key);
    buffer_close(&reading.value);
    return status;
}
