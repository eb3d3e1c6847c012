/* state/view.h - reading a frozen tree, from any thread.
 *
 * A view never changes. Any number of threads may read one at once, each through cursors of its own. Taken by
 * tree_view, given back by tree_view_release on the tree's thread. Depends on base and state/tree.h.
 */
#ifndef STATE_VIEW_H
#define STATE_VIEW_H

#include "state/tree.h"

/* As the functions of state/tree.h; slices are borrowed until the view is released. */
bool view_get(const struct view *view, struct slice key, struct slice *value);
uint64_t view_count(const struct view *view, struct slice lo, struct slice hi);
struct hash128 view_digest(const struct view *view);
uint64_t view_rows(const struct view *view);
uint64_t view_bytes(const struct view *view);

struct view_cursor;

struct view_cursor *view_cursor_open(const struct view *view, struct slice lo, struct slice hi, bool reverse);
bool view_cursor_next(struct view_cursor *cursor, struct slice *key, struct slice *value);

/* As view_cursor_next, with the hash that the row was put with: tree_row_hash of it, unless memory rotted. */
bool view_cursor_next_kept(struct view_cursor *cursor, struct slice *key, struct slice *value,
                           struct hash128 *kept);

void view_cursor_close(struct view_cursor *cursor);

/* Sums the row hashes anew, for the scrub: equals view_digest unless memory rotted. O(n). */
struct hash128 view_rehash(const struct view *view);

#endif
