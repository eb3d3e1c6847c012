/* state/cursor.c - loops inside an entry: the tree as it was when the loop began. See state/tree.h.
 *
 * A cursor remembers its place in the undo list. The rows it shows are those of the tree now, less the keys that changed
 * since, plus what those keys held before (the first change of a key since the cursor opened says what). Changed keys that
 * still lie ahead are kept in a small sorted list; those behind do not matter any more, so a loop that changes or deletes
 * what it visits keeps that list empty.
 */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "state/tree_private.h"

/* A key that changed since the cursor opened. */
struct changed {
    const struct row *key;    /* a row that has this key */
    const struct row *before; /* what the key held; NULL: nothing */
};

struct tree_cursor {
    struct tree *tree;
    struct buffer lo;
    struct buffer hi;
    bool reverse;
    bool started;
    bool ended;
    tree_mark opened;
    const struct row *last; /* shown last: alive until the entry ends, for it was there when the cursor opened */
    struct path path;
    uint64_t version;      /* of the tree when `path` was good */
    struct changed *ahead; /* sorted by key */
    size_t ahead_count;
    size_t ahead_capacity;
    tree_mark looked; /* changes up to here are in `ahead` */
    uint64_t rollbacks;
};

struct tree_cursor *tree_cursor_open(struct tree *tree, struct slice lo, struct slice hi, bool reverse)
{
    struct tree_cursor *cursor = mem_zalloc(1, sizeof *cursor);
    cursor->tree = tree;
    buffer_append(&cursor->lo, lo.data, lo.size);
    buffer_append(&cursor->hi, hi.data, hi.size);
    cursor->reverse = reverse;
    cursor->opened = tree->changes_count;
    cursor->looked = tree->changes_count;
    cursor->rollbacks = tree->rollbacks;
    return cursor;
}

void tree_cursor_close(struct tree_cursor *cursor)
{
    buffer_close(&cursor->lo);
    buffer_close(&cursor->hi);
    mem_free(cursor->ahead);
    mem_free(cursor);
}

/* True if `key` has still to be shown. */
static bool lies_ahead(const struct tree_cursor *cursor, struct slice key)
{
    if (cursor->last == NULL)
        return true;
    int order = slice_compare(key, row_key(cursor->last));
    return cursor->reverse ? order < 0 : order > 0;
}

static bool in_bounds(const struct tree_cursor *cursor, struct slice key)
{
    if (cursor->lo.size > 0 && slice_compare(key, buffer_slice(&cursor->lo)) < 0)
        return false;
    return cursor->hi.size == 0 || slice_compare(key, buffer_slice(&cursor->hi)) < 0;
}

/* First place in `ahead` with a key >= key. */
static size_t ahead_place(const struct tree_cursor *cursor, struct slice key)
{
    size_t lo = 0;
    size_t hi = cursor->ahead_count;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (slice_compare(row_key(cursor->ahead[middle].key), key) < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

static bool ahead_has(const struct tree_cursor *cursor, struct slice key)
{
    size_t at = ahead_place(cursor, key);
    return at < cursor->ahead_count && slice_equal(row_key(cursor->ahead[at].key), key);
}

static void note_change(struct tree_cursor *cursor, const struct change *change)
{
    const struct row *keyed = change->before != NULL ? change->before : change->after;
    struct slice key = row_key(keyed);
    if (!lies_ahead(cursor, key) || !in_bounds(cursor, key))
        return;
    size_t at = ahead_place(cursor, key);
    if (at < cursor->ahead_count && slice_equal(row_key(cursor->ahead[at].key), key))
        return; /* its first change since the opening counts */
    if (cursor->ahead_count == cursor->ahead_capacity) {
        cursor->ahead_capacity = cursor->ahead_capacity * 2 + 16;
        cursor->ahead = mem_realloc(cursor->ahead, cursor->ahead_capacity * sizeof *cursor->ahead);
    }
    memmove(cursor->ahead + at + 1, cursor->ahead + at, (cursor->ahead_count - at) * sizeof *cursor->ahead);
    cursor->ahead[at] = (struct changed){.key = keyed, .before = change->before};
    cursor->ahead_count++;
}

/* Takes in what changed since the last look. */
static void look(struct tree_cursor *cursor)
{
    const struct tree *tree = cursor->tree;
    CHECK(tree->changes_count >= cursor->opened);
    if (tree->rollbacks != cursor->rollbacks) {
        cursor->ahead_count = 0;
        cursor->looked = cursor->opened;
        cursor->rollbacks = tree->rollbacks;
    }
    for (; cursor->looked < tree->changes_count; cursor->looked++)
        note_change(cursor, &tree->changes[cursor->looked]);
}

/* Puts the path on the next row of the tree that lies ahead. */
static void find_place(struct tree_cursor *cursor)
{
    const struct node *root = cursor->tree->root;
    struct slice from = cursor->reverse ? buffer_slice(&cursor->hi) : buffer_slice(&cursor->lo);
    if (cursor->last != NULL)
        from = row_key(cursor->last);
    if (cursor->reverse)
        path_seek_back(&cursor->path, root, from);
    else
        path_seek(&cursor->path, root, from, cursor->last != NULL);
    cursor->version = cursor->tree->version;
    cursor->started = true;
}

static void move(struct tree_cursor *cursor)
{
    if (cursor->reverse)
        path_previous(&cursor->path);
    else
        path_next(&cursor->path);
}

/* The next row ahead in the tree that did not change since the opening. */
static const struct row *next_unchanged(struct tree_cursor *cursor)
{
    for (const struct row *row = path_row(&cursor->path); row != NULL; row = path_row(&cursor->path)) {
        if (!in_bounds(cursor, row_key(row)))
            return NULL;
        if (cursor->ahead_count == 0 || !ahead_has(cursor, row_key(row)))
            return row;
        move(cursor);
    }
    return NULL;
}

/* The next row ahead among those that changed, as it was. */
static const struct row *next_changed(struct tree_cursor *cursor)
{
    while (cursor->ahead_count > 0) {
        size_t at = cursor->reverse ? cursor->ahead_count - 1 : 0;
        const struct changed *changed = &cursor->ahead[at];
        if (changed->before != NULL && lies_ahead(cursor, row_key(changed->key)))
            return changed->before;
        if (changed->before == NULL && lies_ahead(cursor, row_key(changed->key)))
            break; /* born since: stays in the list, so that it is passed over in the tree */
        cursor->ahead_count--;
        if (at == 0)
            memmove(cursor->ahead, cursor->ahead + 1, cursor->ahead_count * sizeof *cursor->ahead);
    }
    /* The nearest one was born since; look for the next that held something. */
    for (size_t i = 0; i < cursor->ahead_count; i++) {
        const struct changed *changed = &cursor->ahead[cursor->reverse ? cursor->ahead_count - 1 - i : i];
        if (changed->before != NULL)
            return changed->before;
    }
    return NULL;
}

bool tree_cursor_next(struct tree_cursor *cursor, struct slice *key, struct slice *value)
{
    if (cursor->ended)
        return false;
    look(cursor);
    if (!cursor->started || cursor->version != cursor->tree->version)
        find_place(cursor);
    const struct row *here = next_unchanged(cursor);
    const struct row *changed = next_changed(cursor);
    const struct row *row = here != NULL ? here : changed;
    if (here != NULL && changed != NULL) {
        int order = slice_compare(row_key(changed), row_key(here));
        if (cursor->reverse ? order > 0 : order < 0)
            row = changed;
    }
    if (row == NULL) {
        cursor->ended = true;
        return false;
    }
    if (row == here)
        move(cursor);
    cursor->last = row;
    *key = row_key(row);
    *value = row_value(row);
    return true;
}
