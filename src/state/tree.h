/* state/tree.h - the one ordered tree that holds everything replicated.
 *
 * A B+tree of rows (key bytes -> value bytes). Inner nodes count rows, so counting a range is O(log n). One thread, the
 * owner, writes; other threads read views (state/view.h). Nodes carry an epoch: a node younger than the youngest view is
 * changed in place, an older one is copied first. Within an entry every change is in the undo list, so a savepoint can
 * be rolled back exactly: rows, digest, counts. The digest is a 128-bit sum over row hashes (add on put, subtract on
 * delete), so it is the same whatever the order of changes and costs O(1) a write. Keys here are raw bytes: the caller
 * puts a map's number before state/key.h's code. Depends on base, state/digest.h.
 */
#ifndef STATE_TREE_H
#define STATE_TREE_H

#include "base/checksum.h"
#include "base/slice.h"

struct tree;
struct view;

/* A place in the undo list. */
typedef size_t tree_mark;

/* Makes an empty tree. */
struct tree *tree_new(void);

/* Frees the tree and its rows. All views must have come back. */
void tree_free(struct tree *tree);

/* Finds a row; false if there is none. The value is borrowed until the next change of the tree. */
bool tree_get(const struct tree *tree, struct slice key, struct slice *value);

/* Puts a row, new or in place of the old one. Copies both. The key is not empty. `key`, `value` may point into the
 * tree itself. Returns true if there was a row before. */
bool tree_put(struct tree *tree, struct slice key, struct slice value);

/* Removes a row; false if there was none. */
bool tree_del(struct tree *tree, struct slice key);

/* As tree_put and tree_del; `old` gets the value that was there (untouched if there was none), borrowed until the entry ends
 * or is rolled back to before this. */
bool tree_replace(struct tree *tree, struct slice key, struct slice value, struct slice *old);
bool tree_remove(struct tree *tree, struct slice key, struct slice *old);

/* Rows with lo <= key < hi; an empty lo or hi is open. O(log n). */
uint64_t tree_count(const struct tree *tree, struct slice lo, struct slice hi);

/* The sum over row hashes. */
struct hash128 tree_digest(const struct tree *tree);

/* Rows, and bytes of all keys and values, exactly. */
uint64_t tree_rows(const struct tree *tree);
uint64_t tree_bytes(const struct tree *tree);

/* Counts bytes of the rows apart, too, whose keys begin with a number (four bytes, big-endian) from `first` on: of an empty tree. */
void tree_count_apart(struct tree *tree, uint32_t first);
uint64_t tree_bytes_apart(const struct tree *tree);

/* The hash of one row, the same everywhere and for ever: it is in snapshots and compared between nodes. */
struct hash128 tree_row_hash(struct slice key, struct slice value);

/* --- undo ------------------------------------------------------------------------------------------------------- */

/* The place of the undo list now: give it to tree_rollback to put back everything changed since. */
tree_mark tree_savepoint(const struct tree *tree);

/* Puts back all rows, the digest and the counts as they were at `mark`. */
void tree_rollback(struct tree *tree, tree_mark mark);

/* The change at a place of the undo list before tree_savepoint's: the row's key, and the value that it had before; false: there
 * was none. Borrowed until the entry ends or is rolled back. */
bool tree_change(const struct tree *tree, tree_mark at, struct slice *key, struct slice *before);

/* Ends an entry: forgets the undo list; what was changed stays. No cursor may be open. */
void tree_commit(struct tree *tree);

/* --- cursors: loops inside an entry ------------------------------------------------------------------------------ */

/* Walks rows with lo <= key < hi, as they were when it was opened, whatever changes meanwhile (also through rollback to
 * a mark that is not before its opening). Bounds are copied. Many may be open, nested or not. */
struct tree_cursor;

/* Opens a cursor over the tree. Empty lo, hi: open. `reverse`: from the end. */
struct tree_cursor *tree_cursor_open(struct tree *tree, struct slice lo, struct slice hi, bool reverse);

/* The next row; false at the end. The slices are borrowed until the next call on this cursor or change of the tree. */
bool tree_cursor_next(struct tree_cursor *cursor, struct slice *key, struct slice *value);

/* Frees the cursor. Also right after tree_commit or tree_rollback, when a script abandoned its loop. */
void tree_cursor_close(struct tree_cursor *cursor);

/* --- views: frozen, readable from other threads ------------------------------------------------------------------ */

/* Freezes the tree as it is: the undo list must be empty. Cheap: O(1). The owner's thread only. */
struct view *tree_view(struct tree *tree);

/* Gives a view back: O(views). What it alone held is freed by tree_sweep. The owner's thread only (others send it home). */
void tree_view_release(struct tree *tree, struct view *view);

/* Looks at `most` of the rows and nodes that views may have held, and frees those that none holds any more. A view that was out
 * for long has held millions: freed in one go they would stop the owner for as long as it takes. True: there is more to look
 * at. The owner's thread only. */
bool tree_sweep(struct tree *tree, size_t most);

/* Bytes of nodes that only views hold, or held and are not swept yet. */
uint64_t tree_view_bytes(const struct tree *tree);

/* Flips a bit of a row's last byte where it lies, as memory that rots would: neither digest nor hash knows. For proofs that
 * it is found. False: there is no such row, or it has no value. */
bool tree_rot(struct tree *tree, struct slice key, uint8_t bit);

/* Checks everything we believe about the tree's shape, counts, bytes and digest; NULL, or a static sentence. O(n). */
const char *tree_invariants(const struct tree *tree);

#endif
