/* script/rows.c - see script/rows.h. */
#include "script/rows.h"

bool rows_get(const struct rows *rows, struct slice key, struct slice *value)
{
    return rows->view != NULL ? view_get(rows->view, key, value) : tree_get(rows->tree, key, value);
}

uint64_t rows_count(const struct rows *rows, struct slice lo, struct slice hi)
{
    return rows->view != NULL ? view_count(rows->view, lo, hi) : tree_count(rows->tree, lo, hi);
}

struct rows_cursor rows_open(const struct rows *rows, struct slice lo, struct slice hi, bool reverse)
{
    struct rows_cursor cursor = {0};
    if (rows->view != NULL)
        cursor.view = view_cursor_open(rows->view, lo, hi, reverse);
    else
        cursor.tree = tree_cursor_open(rows->tree, lo, hi, reverse);
    return cursor;
}

bool rows_next(struct rows_cursor *cursor, struct slice *key, struct slice *value)
{
    return cursor->view != NULL ? view_cursor_next(cursor->view, key, value)
                                : tree_cursor_next(cursor->tree, key, value);
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
