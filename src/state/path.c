/* state/path.c - walking rows in order, in a tree or in a view, and counting them. Private to state/. */
#include "base/check.h"
#include "state/tree_private.h"

/* Goes down from nodes[depth - 1] to its first, or last, row. */
static void descend(struct path *path, bool last)
{
    while (!path->nodes[path->depth - 1]->leaf) {
        const struct node *node = path->nodes[path->depth - 1];
        const struct node *child = node->children[path->at[path->depth - 1]];
        CHECK(path->depth < PATH_MAX_DEPTH);
        path->nodes[path->depth] = child;
        path->at[path->depth] = last && child->count > 0 ? (uint16_t)(child->count - 1) : 0;
        path->depth++;
    }
}

const struct row *path_row(const struct path *path)
{
    if (path->depth == 0)
        return NULL;
    const struct node *leaf = path->nodes[path->depth - 1];
    return leaf->rows[path->at[path->depth - 1]];
}

/* The place in the leaf is one past its end: goes on to the next leaf. */
static void step_right(struct path *path)
{
    while (path->depth > 0) {
        const struct node *node = path->nodes[path->depth - 1];
        if (path->at[path->depth - 1] < node->count) {
            descend(path, false);
            return;
        }
        path->depth--;
        if (path->depth > 0)
            path->at[path->depth - 1]++;
    }
}

void path_next(struct path *path)
{
    CHECK(path->depth > 0);
    path->at[path->depth - 1]++;
    step_right(path);
}

void path_previous(struct path *path)
{
    CHECK(path->depth > 0);
    while (path->depth > 0 && path->at[path->depth - 1] == 0)
        path->depth--;
    if (path->depth == 0)
        return;
    path->at[path->depth - 1]--;
    descend(path, true);
}

/* Goes to the place where `key` is or would be; the place may be one past a leaf's end. */
static void path_find(struct path *path, const struct node *root, struct slice key, bool *equal)
{
    path->nodes[0] = root;
    path->depth = 1;
    while (!path->nodes[path->depth - 1]->leaf) {
        const struct node *node = path->nodes[path->depth - 1];
        size_t child = node_child(node, key);
        CHECK(path->depth < PATH_MAX_DEPTH);
        path->at[path->depth - 1] = (uint16_t)child;
        path->nodes[path->depth] = node->children[child];
        path->depth++;
    }
    path->at[path->depth - 1] = (uint16_t)node_search(path->nodes[path->depth - 1], key, equal);
}

void path_seek(struct path *path, const struct node *root, struct slice key, bool after)
{
    bool equal = false;
    if (key.size == 0) {
        path->nodes[0] = root;
        path->at[0] = 0;
        path->depth = root->count > 0 ? 1 : 0;
        if (path->depth > 0)
            descend(path, false);
        return;
    }
    path_find(path, root, key, &equal);
    if (equal && after)
        path->at[path->depth - 1]++;
    step_right(path);
}

void path_seek_back(struct path *path, const struct node *root, struct slice key)
{
    bool equal = false;
    if (root->count == 0) {
        path->depth = 0;
        return;
    }
    if (key.size == 0) {
        path->nodes[0] = root;
        path->at[0] = (uint16_t)(root->count - 1);
        path->depth = 1;
        descend(path, true);
        return;
    }
    path_find(path, root, key, &equal);
    path_previous(path);
}

uint64_t node_rank(const struct node *node, struct slice key)
{
    uint64_t rank = 0;
    while (!node->leaf) {
        size_t child = node_child(node, key);
        const uint64_t *counts = node_counts_const(node);
        for (size_t i = 0; i < child; i++)
            rank += counts[i];
        node = node->children[child];
    }
    bool equal = false;
    return rank + node_search(node, key, &equal);
}
