/* script/rows.h - where a state's maps read: the tree that commands change, or a frozen view of it.
 *
 * One branch an operation, so that a format's `write` has the methods of ctx.db's maps and none of their code twice.
 * Depends on state. Private to script/.
 */
#ifndef SCRIPT_ROWS_H
#define SCRIPT_ROWS_H

#include "state/tree.h"
#include "state/view.h"

struct rows {
    struct tree *tree;       /* what is written to */
    const struct view *view; /* not NULL: all reading is from it */
};

/* As tree_get, tree_count. */
bool rows_get(const struct rows *rows, struct slice key, struct slice *value);
uint64_t rows_count(const struct rows *rows, struct slice lo, struct slice hi);

/* As the cursors of the tree and of a view; zeroed: none is open. */
struct rows_cursor {
    struct tree_cursor *tree;
    struct view_cursor *view;
};

struct rows_cursor rows_open(const struct rows *rows, struct slice lo, struct slice hi, bool reverse);
bool rows_next(struct rows_cursor *cursor, struct slice *key, struct slice *value);
bool rows_is_open(const struct rows_cursor *cursor);
void rows_close(struct rows_cursor *cursor);

#endif
