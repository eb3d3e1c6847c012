/* script/rows.c - see script/rows.h. */
#include "script/rows.h"

#include "base/mutant.h"
#include "script/due.h"

static bool is_there(struct rows *rows, uint64_t deadline_ms)
{
    rows->timed = rows->timed || deadline_ms != DUE_NEVER;
    return deadline_ms > rows->now_ms || rows->all;
}

bool rows_get(struct rows *rows, struct slice key, struct slice *value, uint64_t *deadline_ms)
{
    bool found = rows->view != NULL ? view_get(rows->view, key, value) : tree_get(rows->tree, key, value);
    if (!found)
        return false;
    *deadline_ms = due_split(value);
    return is_there(rows, *deadline_ms);
}

static bool step(struct rows_cursor *cursor, struct slice *key, struct slice *value)
{
    return cursor->view != NULL ? view_cursor_next(cursor->view, key, value)
                                : tree_cursor_next(cursor->tree, key, value);
}

static uint64_t count_all(const struct rows *rows, struct slice lo, struct slice hi)
{
    return rows->view != NULL ? view_count(rows->view, lo, hi) : tree_count(rows->tree, lo, hi);
}

uint64_t rows_count(struct rows *rows, struct slice lo, struct slice hi, uint64_t *looked)
{
    struct buffer from = {0};
    struct buffer to = {0};
    uint64_t count = count_all(rows, lo, hi);
    rows->counted = true;
    *looked = 0;
    if (count > 0 && !rows->all) {
        due_bounds_of_past(&from, &to, rows->now_ms);
        *looked = count_all(rows, buffer_slice(&from), buffer_slice(&to));
    }
    if (*looked > 0 && !MUTANT(155)) {
        struct rows_cursor cursor = rows_open(rows, buffer_slice(&from), buffer_slice(&to), false);
        struct slice key;
        struct slice what;
        while (step(&cursor, &key, &what))
            count -= due_lies_within(what, lo, hi);
        rows_close(&cursor);
    }
    buffer_close(&from);
    buffer_close(&to);
    return count;
}

struct rows_cursor rows_open(struct rows *rows, struct slice lo, struct slice hi, bool reverse)
{
    struct rows_cursor cursor = {.rows = rows};
    if (rows->view != NULL)
        cursor.view = view_cursor_open(rows->view, lo, hi, reverse);
    else
        cursor.tree = tree_cursor_open(rows->tree, lo, hi, reverse);
    return cursor;
}

bool rows_next(struct rows_cursor *cursor, struct slice *key, struct slice *value, uint64_t *deadline_ms)
{
    while (step(cursor, key, value)) {
        *deadline_ms = due_split(value);
        if (is_there(cursor->rows, *deadline_ms))
            return true;
        cursor->passed++;
    }
    return false;
}

bool rows_is_open(const struct rows_cursor *cursor)
{
    return cursor->view != NULL || cursor->tree != NULL;
}

void rows_close(struct rows_cursor *cursor)
{
    if (cursor->view != NULL)
        view_cursor_close(cursor->view);
    if (cursor->tree != NULL)
        tree_cursor_close(cursor->tree);
    *cursor = (struct rows_cursor){0};
}
