/* script/due.c - see script/due.h. */
#include "script/due.h"

#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "script/vm.h"
#include "state/key.h"
#include "wire/pack.h"

enum { KEY_BYTES = 4 + 3 * 9, KEY_BEGIN = 4 };

/* --- keys ------------------------------------------------------------------------------------------------------------- */

static void begin_key(struct buffer *key, uint32_t number)
{
    const uint8_t head[KEY_BEGIN] = {0, 0, 0, (uint8_t)number};
    buffer_clear(key);
    buffer_append(key, head, sizeof head);
}

static void due_key(struct buffer *key, const struct due *due)
{
    begin_key(key, VM_ROWS_DUE);
    key_append_number(key, (double)due->kind);
    key_append_number(key, (double)due->deadline_ms);
    key_append_number(key, (double)due->id);
}

/* Bounds of those of a kind that are due by now_ms; DUE_NEVER: of all. */
static void due_bounds(struct buffer *lo, struct buffer *hi, enum due_kind kind, uint64_t now_ms)
{
    begin_key(lo, VM_ROWS_DUE);
    key_append_number(lo, (double)kind);
    buffer_clear(hi);
    buffer_append(hi, lo->data, lo->size);
    if (now_ms < DUE_TIME_MAX)
        key_append_number(hi, (double)(now_ms + 1));
    else
        key_after_prefix(hi);
}

static void read_key(struct slice key, struct due *due)
{
    struct key_reader reader = {.rest = slice_make(key.data + KEY_BEGIN, key.size - KEY_BEGIN)};
    struct key_element elements[3];
    for (size_t i = 0; i < 3; i++)
        CHECK(key_read(&reader, &elements[i]) == STATUS_OK && elements[i].type == KEY_NUMBER);
    *due = (struct due){.kind = (enum due_kind)elements[0].number,
                        .deadline_ms = (uint64_t)elements[1].number,
                        .id = (uint64_t)elements[2].number};
    buffer_close(&reader.scratch);
}

static void counter_key(struct buffer *key)
{
    begin_key(key, VM_ROWS_COUNTERS);
    key_append_text(key, slice_text("due"));
}

static bool get_number(const struct tree *tree, struct slice key, uint64_t *number)
{
    struct slice value;
    if (!tree_get(tree, key, &value))
        return false;
    struct pack_reader reader = pack_reader_make(value);
    CHECK(pack_read_u64(&reader, number) == STATUS_OK);
    return true;
}

static void put_number(struct tree *tree, struct slice key, uint64_t number)
{
    struct buffer value = {0};
    pack_u64(&value, number);
    (void)tree_put(tree, key, buffer_slice(&value));
    buffer_close(&value);
}

/* --- what waits ------------------------------------------------------------------------------------------------------- */

uint64_t due_last_id(const struct tree *tree)
{
    struct buffer key = {0};
    uint64_t id = 0;
    counter_key(&key);
    (void)get_number(tree, buffer_slice(&key), &id);
    buffer_close(&key);
    return id;
}

static uint64_t next_id(struct tree *tree)
{
    struct buffer key = {0};
    uint64_t id = due_last_id(tree) + 1;
    counter_key(&key);
    put_number(tree, buffer_slice(&key), id);
    buffer_close(&key);
    return id;
}

void due_set(struct tree *tree, const struct due *due, struct slice what)
{
    struct buffer key = {0};
    CHECK(due->deadline_ms <= DUE_TIME_MAX);
    due_key(&key, due);
    (void)tree_put(tree, buffer_slice(&key), what);
    buffer_close(&key);
}

uint64_t due_arm(struct tree *tree, enum due_kind kind, uint64_t deadline_ms, struct slice what)
{
    struct due due = {.kind = kind, .deadline_ms = deadline_ms, .id = next_id(tree)};
    due_set(tree, &due, what);
    return due.id;
}

bool due_get(const struct tree *tree, const struct due *due, struct slice *what)
{
    struct buffer key = {0};
    due_key(&key, due);
    bool found = tree_get(tree, buffer_slice(&key), what);
    buffer_close(&key);
    return found;
}

bool due_drop(struct tree *tree, const struct due *due)
{
    struct buffer key = {0};
    due_key(&key, due);
    bool found = tree_del(tree, buffer_slice(&key));
    buffer_close(&key);
    return found;
}

bool due_first(struct tree *tree, enum due_kind kind, struct due *due)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    due_bounds(&lo, &hi, kind, DUE_NEVER);
    struct tree_cursor *cursor = tree_cursor_open(tree, buffer_slice(&lo), buffer_slice(&hi), false);
    bool found = tree_cursor_next(cursor, &key, &value);
    if (found)
        read_key(key, due);
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    return found;
}

/* Most states have nothing that waits: that is seen without a cursor. */
static bool is_empty(const struct tree *tree)
{
    static const uint8_t lo[KEY_BEGIN] = {0, 0, 0, VM_ROWS_DUE};
    static const uint8_t hi[KEY_BEGIN] = {0, 0, 0, VM_ROWS_DUE + 1};
    return tree_count(tree, slice_make(lo, sizeof lo), slice_make(hi, sizeof hi)) == 0;
}

bool due_first_of_all(struct tree *tree, struct due *due)
{
    bool found = false;
    if (is_empty(tree))
        return false;
    for (int kind = DUE_TIMER; kind <= DUE_KINDS; kind++) {
        struct due first;
        if (!due_first(tree, (enum due_kind)kind, &first))
            continue;
        if (!found || first.deadline_ms < due->deadline_ms ||
            (first.deadline_ms == due->deadline_ms && first.id < due->id && !MUTANT(166)))
            *due = first;
        found = true;
    }
    return found;
}

uint64_t due_count(const struct tree *tree, enum due_kind kind)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    due_bounds(&lo, &hi, kind, DUE_NEVER);
    uint64_t count = tree_count(tree, buffer_slice(&lo), buffer_slice(&hi));
    buffer_close(&lo);
    buffer_close(&hi);
    return count;
}

/* --- timers ----------------------------------------------------------------------------------------------------------- */

static void timer_key(struct buffer *key, uint64_t id)
{
    begin_key(key, VM_ROWS_DUE_OF);
    key_append_number(key, (double)id);
}

uint64_t due_arm_timer(struct tree *tree, uint64_t deadline_ms, struct slice what)
{
    struct buffer key = {0};
    uint64_t id = due_arm(tree, DUE_TIMER, deadline_ms, what);
    timer_key(&key, id);
    put_number(tree, buffer_slice(&key), deadline_ms);
    buffer_close(&key);
    return id;
}

bool due_find_timer(struct tree *tree, uint64_t id, struct due *due)
{
    struct buffer key = {0};
    *due = (struct due){.kind = DUE_TIMER, .id = id};
    timer_key(&key, id);
    bool found = get_number(tree, buffer_slice(&key), &due->deadline_ms);
    buffer_close(&key);
    return found;
}

void due_drop_timer(struct tree *tree, const struct due *due)
{
    struct buffer key = {0};
    timer_key(&key, due->id);
    bool known = tree_del(tree, buffer_slice(&key));
    bool waited = due_drop(tree, due);
    CHECK(known && waited);
    buffer_close(&key);
}

void due_each_timer(struct tree *tree,
                    void (*each)(void *context, const struct due *due, struct slice mount, struct slice name),
                    void *context)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct buffer what = {0};
    struct slice key;
    struct slice value;
    due_bounds(&lo, &hi, DUE_TIMER, DUE_NEVER);
    struct tree_cursor *cursor = tree_cursor_open(tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        struct slice mount;
        struct slice name;
        struct due due;
        buffer_clear(&what);
        buffer_append(&what, value.data, value.size);
        struct pack_reader reader = pack_reader_make(buffer_slice(&what));
        CHECK(pack_read_text(&reader, &mount) == STATUS_OK);
        CHECK(pack_read_text(&reader, &name) == STATUS_OK);
        read_key(key, &due);
        each(context, &due, mount, name);
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    buffer_close(&what);
}

/* --- rows with a ttl -------------------------------------------------------------------------------------------------- */

uint64_t due_split(struct slice *value)
{
    uint64_t deadline_ms = 0;
    if (value->size <= DUE_PREFIX_BYTES || value->data[0] != DUE_MARK)
        return DUE_NEVER;
    for (size_t i = 1; i < DUE_PREFIX_BYTES; i++)
        deadline_ms = deadline_ms << 8 | value->data[i];
    value->data += DUE_PREFIX_BYTES;
    value->size -= DUE_PREFIX_BYTES;
    return deadline_ms;
}

void due_append_prefix(struct buffer *value, uint64_t deadline_ms)
{
    buffer_append_byte(value, DUE_MARK);
    for (int shift = 56; shift >= 0; shift -= 8)
        buffer_append_byte(value, (uint8_t)(deadline_ms >> shift));
}

static void row_key_of(struct buffer *key, struct slice row)
{
    begin_key(key, VM_ROWS_DUE_OF);
    key_append_text(key, row);
}

void due_arm_row(struct tree *tree, struct slice row, uint64_t deadline_ms)
{
    struct buffer key = {0};
    struct buffer what = {0};
    pack_bin(&what, row);
    row_key_of(&key, row);
    put_number(tree, buffer_slice(&key), due_arm(tree, DUE_ROW, deadline_ms, buffer_slice(&what)));
    buffer_close(&key);
    buffer_close(&what);
}

void due_forget_row(struct tree *tree, struct slice row, struct slice old, uint64_t now_ms)
{
    struct buffer key = {0};
    struct due due = {.kind = DUE_ROW, .deadline_ms = due_split(&old)};
    row_key_of(&key, row);
    CHECK(get_number(tree, buffer_slice(&key), &due.id));
    (void)tree_del(tree, buffer_slice(&key));
    buffer_clear(&key);
    if (due.deadline_ms <= now_ms) {
        pack_bin(&key, row);
        pack_bin(&key, old);
        due_set(tree, &due, buffer_slice(&key));
    } else {
        CHECK(due_drop(tree, &due));
    }
    buffer_close(&key);
}

void due_take_row(struct tree *tree, const struct due *due, struct slice what, struct buffer *key,
                  struct buffer *value)
{
    struct pack_reader reader = pack_reader_make(what);
    struct slice bytes;
    CHECK(pack_read_text(&reader, &bytes) == STATUS_OK);
    buffer_append(key, bytes.data, bytes.size);
    if (pack_rest(&reader).size > 0) {
        CHECK(pack_read_text(&reader, &bytes) == STATUS_OK);
        buffer_append(value, bytes.data, bytes.size);
    } else {
        struct buffer of = {0};
        row_key_of(&of, buffer_slice(key));
        bool known = tree_del(tree, buffer_slice(&of));
        bool there = tree_remove(tree, buffer_slice(key), &bytes);
        CHECK(known && there);
        CHECK_EQ(due_split(&bytes), due->deadline_ms);
        buffer_append(value, bytes.data, bytes.size);
        buffer_close(&of);
    }
    bool waited = due_drop(tree, due);
    CHECK(waited);
}

void due_bounds_of_past(struct buffer *from, struct buffer *to, uint64_t now_ms)
{
    due_bounds(from, to, DUE_ROW, now_ms);
}

bool due_lies_within(struct slice what, struct slice lo, struct slice hi)
{
    struct pack_reader reader = pack_reader_make(what);
    struct slice row;
    CHECK(pack_read_text(&reader, &row) == STATUS_OK);
    if (pack_rest(&reader).size > 0)
        return false; /* another row has taken its place */
    return (lo.size == 0 || slice_compare(row, lo) >= 0) && (hi.size == 0 || slice_compare(row, hi) < 0);
}
