/* state/tree_private.h - what the files of state/ share about a tree. Private to state/. */
#ifndef STATE_TREE_PRIVATE_H
#define STATE_TREE_PRIVATE_H

#include "state/node.h"
#include "state/view.h"

/* One change: `before` was replaced by `after`; NULL: there was, or is, none. */
struct change {
    struct row *before;
    struct row *after;
};

/* A node or row that left the tree while a view may still see it. */
struct retired {
    void *pointer;
    size_t bytes;
    uint64_t born;
    uint64_t died; /* seen by views taken at epochs born .. died - 1 */
};

struct view {
    struct node *root;
    uint64_t epoch;
    struct hash128 digest;
    uint64_t rows;
    uint64_t bytes;
    struct view *next; /* living views, youngest first */
};

struct tree {
    struct node *root; /* a leaf at first; never NULL */
    struct hash128 digest;
    uint64_t rows;
    uint64_t bytes;
    uint64_t bytes_apart; /* of rows whose keys begin with apart_first or more */
    uint32_t apart_first;
    uint64_t epoch;   /* grows with each view */
    uint64_t version; /* grows with each change of shape: a cursor's place is good while it stays */
    uint64_t rollbacks;
    struct change *changes;
    size_t changes_count;
    size_t changes_capacity;
    struct view *views;
    struct retired *retired;
    size_t retired_count;
    size_t retired_capacity;
    uint64_t retired_bytes;
    size_t sweep_at;   /* a sweep has looked at retired[0 .. sweep_at - 1], */
    size_t sweep_kept; /* and kept these, in front */
    bool sweeping;
    bool sweep_again; /* a view came back since it began */
    struct pool pool; /* rows and nodes */
};

/* Whether a row's bytes are counted apart. */
static inline bool tree_is_apart(const struct tree *tree, const struct row *row)
{
    const uint8_t *key = row->bytes;
    if (row->key_size < 4)
        return false;
    return ((uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 | key[3]) >= tree->apart_first;
}

/* Frees, or retires while a view may see it. */
void tree_drop_row(struct tree *tree, struct row *row);

/* A place in a tree or view: path from the root to a row. */
enum { PATH_MAX_DEPTH = 24 };

struct path {
    const struct node *nodes[PATH_MAX_DEPTH];
    uint16_t at[PATH_MAX_DEPTH];
    int depth; /* nodes in the path; 0: off the end */
};

/* Finds the first row with key >= `key` (or > with `after`); an empty key: the first of all. */
void path_seek(struct path *path, const struct node *root, struct slice key, bool after);

/* Finds the last row with key < `key`; an empty key: the last of all. */
void path_seek_back(struct path *path, const struct node *root, struct slice key);

const struct row *path_row(const struct path *path);
void path_next(struct path *path);
void path_previous(struct path *path);

/* Rows with key < `key`. */
uint64_t node_rank(const struct node *root, struct slice key);

#endif
