/* script/rows.h - where a state's maps read: the tree that commands change, or a frozen view of it; and what of it is there.
 *
 * One branch an operation, so that a format's `write` has the methods of ctx.db's maps and none of their code twice. A row
 * whose ttl has passed at now_ms is not there, though it lies in the tree (script/due.h). Depends on state. Private to script/.
 */
#ifndef SCRIPT_ROWS_H
#define SCRIPT_ROWS_H

#include "state/tree.h"
#include "state/view.h"

struct rows {
    struct tree *tree;       /* what is written to */
    const struct view *view; /* not NULL: all reading is from it */
    uint64_t now_ms;
    bool all;     /* of a format: rows whose time has come are there */
    bool timed;   /* a row with a ttl was met: what was read depends on the clock */
    bool counted; /* rows were counted: it does if there are any with a ttl */
};

/* Finds a row: its value, and its deadline (DUE_NEVER: none). */
bool rows_get(struct rows *rows, struct slice key, struct slice *value, uint64_t *deadline_ms);

/* Rows with lo <= key < hi that are there. `looked`: how many were looked at for it, beyond a few steps. */
uint64_t rows_count(struct rows *rows, struct slice lo, struct slice hi, uint64_t *looked);

/* As the cursors of the tree and of a view; zeroed: none is open. */
struct rows_cursor {
    struct rows *rows;
    struct tree_cursor *tree;
    struct view_cursor *view;
    uint64_t passed; /* rows that were not there: whoever steps charges for them */
};

struct rows_cursor rows_open(struct rows *rows, struct slice lo, struct slice hi, bool reverse);
bool rows_next(struct rows_cursor *cursor, struct slice *key, struct slice *value, uint64_t *deadline_ms);
bool rows_is_open(const struct rows_cursor *cursor);
void rows_close(struct rows_cursor *cursor);

#endif
