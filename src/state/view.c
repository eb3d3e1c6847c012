/* state/view.c - see state/view.h. */
#include "state/view.h"

#include "base/check.h"
#include "base/memory.h"
#include "state/tree_private.h"

struct view_cursor {
    struct buffer lo;
    struct buffer hi;
    bool reverse;
    struct path path;
};

bool view_get(const struct view *view, struct slice key, struct slice *value)
{
    const struct node *node = view->root;
    while (!node->leaf)
        node = node->children[node_child(node, key)];
    bool equal = false;
    size_t at = node_search(node, key, &equal);
    if (equal)
        *value = row_value(node->rows[at]);
    return equal;
}

uint64_t view_count(const struct view *view, struct slice lo, struct slice hi)
{
    uint64_t below = lo.size > 0 ? node_rank(view->root, lo) : 0;
    uint64_t upto = hi.size > 0 ? node_rank(view->root, hi) : view->rows;
    return upto > below ? upto - below : 0;
}

struct hash128 view_digest(const struct view *view)
{
    return view->digest;
}

uint64_t view_rows(const struct view *view)
{
    return view->rows;
}

uint64_t view_bytes(const struct view *view)
{
    return view->bytes;
}

struct view_cursor *view_cursor_open(const struct view *view, struct slice lo, struct slice hi, bool reverse)
{
    struct view_cursor *cursor = mem_zalloc(1, sizeof *cursor);
    buffer_append(&cursor->lo, lo.data, lo.size);
    buffer_append(&cursor->hi, hi.data, hi.size);
    cursor->reverse = reverse;
    if (reverse)
        path_seek_back(&cursor->path, view->root, hi);
    else
        path_seek(&cursor->path, view->root, lo, false);
    return cursor;
}

bool view_cursor_next_kept(struct view_cursor *cursor, struct slice *key, struct slice *value, struct hash128 *kept)
{
    const struct row *row = path_row(&cursor->path);
    if (row != NULL)
        *kept = row->hash;
    return view_cursor_next(cursor, key, value);
}

bool view_cursor_next(struct view_cursor *cursor, struct slice *key, struct slice *value)
{
    const struct row *row = path_row(&cursor->path);
    if (row == NULL)
        return false;
    *key = row_key(row);
    *value = row_value(row);
    if (cursor->reverse ? cursor->lo.size > 0 && slice_compare(*key, buffer_slice(&cursor->lo)) < 0
                        : cursor->hi.size > 0 && slice_compare(*key, buffer_slice(&cursor->hi)) >= 0) {
        cursor->path.depth = 0;
        return false;
    }
    if (cursor->reverse)
        path_previous(&cursor->path);
    else
        path_next(&cursor->path);
    return true;
}

void view_cursor_close(struct view_cursor *cursor)
{
    buffer_close(&cursor->lo);
    buffer_close(&cursor->hi);
    mem_free(cursor);
}

/* --- sums and beliefs ------------------------------------------------------------------------------------------------- */

struct sums {
    unsigned __int128 digest;
    uint64_t rows;
    uint64_t bytes;
    uint64_t bytes_apart;
    const struct tree *tree; /* NULL: nothing is counted apart */
    const struct row *last;
    const char *broken;
};

static void add_row(struct sums *sums, const struct row *row)
{
    struct hash128 hash = tree_row_hash(row_key(row), row_value(row));
    sums->digest += (unsigned __int128)hash.hi << 64 | hash.lo;
    sums->rows++;
    sums->bytes += (uint64_t)row->key_size + row->value_size;
    if (sums->tree != NULL && tree_is_apart(sums->tree, row))
        sums->bytes_apart += (uint64_t)row->key_size + row->value_size;
    if (hash.lo != row->hash.lo || hash.hi != row->hash.hi)
        sums->broken = "a row's hash is not its row's";
    if (sums->last != NULL && slice_compare(row_key(sums->last), row_key(row)) >= 0)
        sums->broken = "rows are out of order";
    sums->last = row;
}

static void add_node(struct sums *sums, const struct node *node, int depth)
{
    if (depth >= PATH_MAX_DEPTH)
        sums->broken = "deeper than a path";
    for (size_t i = 0; i < node->count; i++) {
        struct slice key = row_key(node->rows[i]);
        bool equal = false;
        if (node_search(node, key, &equal) != i || !equal)
            sums->broken = "a node does not find its own key";
        if (node->leaf) {
            add_row(sums, node->rows[i]);
            continue;
        }
        const struct node *child = node->children[i];
        if (node_total(child) != node_counts_const(node)[i])
            sums->broken = "a count of rows is wrong";
        if (child->count == 0)
            sums->broken = "an empty node";
        if (child->count > 0 && i > 0 && slice_compare(key, row_key(child->rows[0])) > 0)
            sums->broken = "a child begins below its key";
        add_node(sums, child, depth + 1);
        if (i + 1 < node->count && sums->last != NULL &&
            slice_compare(row_key(sums->last), row_key(node->rows[i + 1])) >= 0)
            sums->broken = "a child ends above the next one's key";
    }
}

struct hash128 view_rehash(const struct view *view)
{
    struct sums sums = {0};
    add_node(&sums, view->root, 0);
    return (struct hash128){.lo = (uint64_t)sums.digest, .hi = (uint64_t)(sums.digest >> 64)};
}

const char *tree_invariants(const struct tree *tree)
{
    struct sums sums = {.tree = tree};
    add_node(&sums, tree->root, 0);
    if (sums.broken != NULL)
        return sums.broken;
    if (sums.rows != tree->rows)
        return "the number of rows is wrong";
    if (sums.bytes != tree->bytes)
        return "the number of bytes is wrong";
    if (sums.bytes_apart != tree->bytes_apart)
        return "the number of bytes that are counted apart is wrong";
    if ((uint64_t)sums.digest != tree->digest.lo || (uint64_t)(sums.digest >> 64) != tree->digest.hi)
        return "the digest is not the sum of its rows";
    return NULL;
}
