/* state/tree.c - changing the tree: put, delete, undo; retiring what views may see. See state/tree.h. */
#include "state/tree.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "state/tree_private.h"

struct tree *tree_new(void)
{
    struct tree *tree = mem_zalloc(1, sizeof *tree);
    tree->epoch = 1;
    tree->root = node_new(&tree->pool, true, tree->epoch);
    return tree;
}

static void free_node(struct tree *tree, struct node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        if (!node->leaf)
            free_node(tree, node->children[i]);
        pool_free(&tree->pool, node->rows[i], row_bytes(node->rows[i]));
    }
    pool_free(&tree->pool, node, node_bytes(node));
}

void tree_free(struct tree *tree)
{
    CHECK(tree->views == NULL);
    tree_commit(tree);
    while (tree_sweep(tree, SIZE_MAX))
        continue;
    CHECK_EQ(tree->retired_count, 0);
    free_node(tree, tree->root);
    pool_close(&tree->pool);
    mem_free(tree->changes);
    mem_free(tree->retired);
    mem_free(tree);
}

uint64_t tree_rows(const struct tree *tree)
{
    return tree->rows;
}

uint64_t tree_bytes(const struct tree *tree)
{
    return tree->bytes;
}

void tree_count_apart(struct tree *tree, uint32_t first)
{
    CHECK_EQ(tree->rows, 0);
    tree->apart_first = first;
}

uint64_t tree_bytes_apart(const struct tree *tree)
{
    return tree->bytes_apart;
}

struct hash128 tree_digest(const struct tree *tree)
{
    return tree->digest;
}

/* --- what views may see --------------------------------------------------------------------------------------------- */

static bool seen_by_a_view(const struct tree *tree, uint64_t born)
{
    return tree->views != NULL && born <= tree->views->epoch;
}

static void retire(struct tree *tree, void *pointer, size_t bytes, uint64_t born)
{
    if (!seen_by_a_view(tree, born)) {
        pool_free(&tree->pool, pointer, bytes);
        return;
    }
    if (tree->retired_count == tree->retired_capacity) {
        tree->retired_capacity = tree->retired_capacity * 2 + 64;
        tree->retired = mem_realloc(tree->retired, tree->retired_capacity * sizeof *tree->retired);
    }
    tree->retired[tree->retired_count++] =
        (struct retired){.pointer = pointer, .bytes = bytes, .born = born, .died = tree->epoch};
    tree->retired_bytes += bytes;
}

void tree_drop_row(struct tree *tree, struct row *row)
{
    retire(tree, row, row_bytes(row), row->born);
}

static void drop_node(struct tree *tree, struct node *node)
{
    if (!node->leaf)
        for (size_t i = 0; i < node->count; i++)
            tree_drop_row(tree, node->firsts[i]);
    retire(tree, node, node_bytes(node), node->born);
}

/* A node that may be changed in place: itself, or a copy. */
static struct node *own(struct tree *tree, struct node *node)
{
    if (!seen_by_a_view(tree, node->born))
        return node;
    struct node *copy = node_copy(&tree->pool, node, tree->epoch);
    drop_node(tree, node);
    return copy;
}

struct view *tree_view(struct tree *tree)
{
    CHECK_EQ(tree->changes_count, 0);
    struct view *view = mem_zalloc(1, sizeof *view);
    *view = (struct view){.root = tree->root,
                          .epoch = tree->epoch,
                          .digest = tree->digest,
                          .rows = tree->rows,
                          .bytes = tree->bytes,
                          .next = tree->views};
    tree->views = view;
    tree->epoch++;
    return view;
}

static bool still_seen(const struct tree *tree, const struct retired *retired)
{
    for (const struct view *view = tree->views; view != NULL; view = view->next)
        if (view->epoch >= retired->born && view->epoch < retired->died)
            return true;
    return false;
}

void tree_view_release(struct tree *tree, struct view *view)
{
    struct view **at = &tree->views;
    while (*at != view) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = view->next;
    mem_free(view);
    tree->sweep_again = tree->sweeping;
    tree->sweeping = true;
}

/* All was looked at: what was kept is what there is. */
static void end_sweep(struct tree *tree)
{
    tree->retired_count = tree->sweep_kept;
    tree->sweep_at = 0;
    tree->sweep_kept = 0;
    tree->sweeping = tree->sweep_again;
    tree->sweep_again = false;
    if (tree->retired_count > 0)
        return;
    mem_free(tree->retired);
    tree->retired = NULL;
    tree->retired_capacity = 0;
}

bool tree_sweep(struct tree *tree, size_t most)
{
    if (!tree->sweeping)
        return false;
    for (; most > 0 && tree->sweep_at < tree->retired_count; most--) {
        const struct retired retired = tree->retired[tree->sweep_at++];
        if (still_seen(tree, &retired)) {
            tree->retired[tree->sweep_kept++] = retired;
        } else {
            tree->retired_bytes -= retired.bytes;
            pool_free(&tree->pool, retired.pointer, retired.bytes);
        }
    }
    if (tree->sweep_at == tree->retired_count)
        end_sweep(tree);
    return tree->sweeping;
}

uint64_t tree_view_bytes(const struct tree *tree)
{
    return tree->retired_bytes;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static const struct node *find_leaf(const struct node *node, struct slice key)
{
    while (!node->leaf) {
        node = node->children[node_child(node, key)];
        node_prefetch(node);
    }
    return node;
}

static struct row **find_in(const struct node *node, struct slice key)
{
    bool equal = false;
    size_t at = node_search(node, key, &equal);
    return equal ? (struct row **)(uintptr_t)&node->rows[at] : NULL;
}

bool tree_get(const struct tree *tree, struct slice key, struct slice *value)
{
    struct row **row = find_in(find_leaf(tree->root, key), key);
    if (row == NULL)
        return false;
    *value = row_value(*row);
    return true;
}

bool tree_rot(struct tree *tree, struct slice key, uint8_t bit)
{
    struct row **row = find_in(find_leaf(tree->root, key), key);
    if (row == NULL || (*row)->value_size == 0)
        return false;
    (*row)->bytes[(*row)->key_size + (*row)->value_size - 1] ^= (uint8_t)(1u << bit);
    return true;
}

uint64_t tree_count(const struct tree *tree, struct slice lo, struct slice hi)
{
    uint64_t below = lo.size > 0 ? node_rank(tree->root, lo) : 0;
    uint64_t upto = hi.size > 0 ? node_rank(tree->root, hi) : tree->rows;
    return upto > below ? upto - below : 0;
}

/* --- changing: rows -------------------------------------------------------------------------------------------------- */

/* The node's row or child at `at` goes out, or a place for one comes in. */
static void close_gap(struct node *node, size_t at)
{
    size_t after = (size_t)node->count - at - 1;
    memmove(node->rows + at, node->rows + at + 1, after * sizeof *node->rows);
    memmove(node->words + at, node->words + at + 1, after * sizeof *node->words);
    if (!node->leaf) {
        memmove(node->children + at, node->children + at + 1, after * sizeof *node->children);
        memmove(node_counts(node) + at, node_counts(node) + at + 1, after * sizeof(uint64_t));
    }
    node->count--;
}

static void open_gap(struct node *node, size_t at)
{
    CHECK(node->count < NODE_MAX);
    size_t after = (size_t)node->count - at;
    memmove(node->rows + at + 1, node->rows + at, after * sizeof *node->rows);
    memmove(node->words + at + 1, node->words + at, after * sizeof *node->words);
    if (!node->leaf) {
        memmove(node->children + at + 1, node->children + at, after * sizeof *node->children);
        memmove(node_counts(node) + at + 1, node_counts(node) + at, after * sizeof(uint64_t));
    }
    node->count++;
}

/* Moves the upper half of a full node to a new one, from place `at` on. */
static struct node *split(struct tree *tree, struct node *node, size_t at)
{
    struct node *right = node_new(&tree->pool, node->leaf, tree->epoch);
    right->count = (uint16_t)(node->count - at);
    memcpy(right->rows, node->rows + at, right->count * sizeof *node->rows);
    if (!node->leaf) {
        memcpy(right->children, node->children + at, right->count * sizeof *node->children);
        memcpy(node_counts(right), node_counts(node) + at, right->count * sizeof(uint64_t));
    }
    node->count = (uint16_t)at;
    node_reword(node);
    node_reword(right);
    return right;
}

/* Appends what `right` holds to `left`. */
static void merge(struct tree *tree, struct node *left, struct node *right)
{
    CHECK(left->count + right->count <= NODE_MAX);
    memcpy(left->rows + left->count, right->rows, right->count * sizeof *left->rows);
    if (!left->leaf) {
        memcpy(left->children + left->count, right->children, right->count * sizeof *left->children);
        memcpy(node_counts(left) + left->count, node_counts(right), right->count * sizeof(uint64_t));
    }
    left->count = (uint16_t)(left->count + right->count);
    node_reword(left);
    right->count = 0; /* its keys moved: drop the shell alone */
    drop_node(tree, right);
}

/* Where a full node is split when something comes in at `at`: at its end when rows come in order, else in the middle. */
static size_t split_place(const struct node *node, size_t at)
{
    return at == node->count ? (size_t)node->count - NODE_MIN : (size_t)node->count / 2;
}

/* Puts `row` where there is none with its key. Returns the node that stands in place of `node`; *right: a new one after
 * it, or NULL. */
static struct node *insert(struct tree *tree, struct node *node, struct row *row, struct node **right)
{
    node = own(tree, node);
    *right = NULL;
    if (node->leaf) {
        bool equal = false;
        size_t at = node_search(node, row_key(row), &equal);
        CHECK(!equal);
        struct node *to = node;
        if (node->count == NODE_MAX) {
            size_t middle = split_place(node, at);
            *right = split(tree, node, middle);
            if (at >= middle) {
                to = *right;
                at -= middle;
            }
        }
        open_gap(to, at);
        node_set(to, at, row);
        return node;
    }
    size_t child = node_child(node, row_key(row));
    struct node *sibling = NULL;
    node->children[child] = insert(tree, node->children[child], row, &sibling);
    node_counts(node)[child] = node_total(node->children[child]);
    if (sibling == NULL)
        return node;
    if (child == 0) {
        /* What is below all keys goes to child 0, so its key may stand too high: lower it, or the next would be below. */
        struct row *old = node->firsts[0];
        node_set(node, 0,
                 row_new(&tree->pool, row_key(node->children[0]->rows[0]), slice_make(NULL, 0), tree->epoch));
        tree_drop_row(tree, old);
    }
    struct node *to = node;
    size_t at = child + 1;
    if (node->count == NODE_MAX) {
        size_t middle = split_place(node, at);
        *right = split(tree, node, middle);
        if (at >= middle) {
            to = *right;
            at -= middle;
        }
    }
    open_gap(to, at);
    to->children[at] = sibling;
    node_counts(to)[at] = node_total(sibling);
    const struct row *first = sibling->rows[0];
    node_set(to, at, row_new(&tree->pool, row_key(first), slice_make(NULL, 0), tree->epoch));
    return node;
}

static void insert_row(struct tree *tree, struct row *row)
{
    struct node *right = NULL;
    struct node *left = insert(tree, tree->root, row, &right);
    tree->root = left;
    if (right == NULL)
        return;
    struct node *root = node_new(&tree->pool, false, tree->epoch);
    root->count = 2;
    struct node *halves[2] = {left, right};
    for (size_t i = 0; i < 2; i++) {
        root->children[i] = halves[i];
        node_counts(root)[i] = node_total(halves[i]);
        root->firsts[i] = row_new(&tree->pool, row_key(halves[i]->rows[0]), slice_make(NULL, 0), tree->epoch);
    }
    node_reword(root);
    tree->root = root;
}

/* Joins child `at` with a neighbour if both fit into one. */
static void tidy_child(struct tree *tree, struct node *node, size_t at)
{
    if (node->children[at]->count == 0) {
        drop_node(tree, node->children[at]);
        tree_drop_row(tree, node->firsts[at]);
        close_gap(node, at);
        return;
    }
    if (node->count < 2)
        return;
    size_t left = at + 1 < node->count ? at : at - 1;
    if (node->children[left]->count + node->children[left + 1]->count > NODE_MAX * 3 / 4)
        return;
    struct node *into = own(tree, node->children[left]);
    struct node *from = own(tree, node->children[left + 1]);
    struct row *first = node->firsts[left + 1];
    if (!from->leaf) {
        /* What is below its first key went to its first child as well, so that key may stand too high: it was nothing while
         * no child was before it. The node's own key is right for both. */
        struct row *high = from->firsts[0];
        node_set(from, 0, first);
        first = high;
    }
    merge(tree, into, from);
    node->children[left] = into;
    node_counts(node)[left] += node_counts(node)[left + 1];
    tree_drop_row(tree, first);
    close_gap(node, left + 1);
}

/* Takes out the row with `key`, which is there. */
static struct node *take_out(struct tree *tree, struct node *node, struct slice key, struct row **out)
{
    node = own(tree, node);
    if (node->leaf) {
        bool equal = false;
        size_t at = node_search(node, key, &equal);
        CHECK(equal);
        *out = node->rows[at];
        close_gap(node, at);
        return node;
    }
    size_t child = node_child(node, key);
    node->children[child] = take_out(tree, node->children[child], key, out);
    node_counts(node)[child]--;
    if (node->children[child]->count < NODE_MIN)
        tidy_child(tree, node, child);
    return node;
}

static struct row *take_out_row(struct tree *tree, struct slice key)
{
    struct row *out = NULL;
    tree->root = take_out(tree, tree->root, key, &out);
    while (!tree->root->leaf && tree->root->count <= 1) {
        struct node *old = tree->root;
        tree->root = old->count == 1 ? old->children[0] : node_new(&tree->pool, true, tree->epoch);
        drop_node(tree, old);
    }
    return out;
}

/* Puts `row` in the place of the one with the same key; nodes on the way are made our own. */
static struct row *replace_row(struct tree *tree, struct row *row)
{
    struct node **link = &tree->root;
    for (;;) {
        *link = own(tree, *link);
        struct node *node = *link;
        if (!node->leaf) {
            link = &node->children[node_child(node, row_key(row))];
            continue;
        }
        bool equal = false;
        size_t at = node_search(node, row_key(row), &equal);
        CHECK(equal);
        struct row *old = node->rows[at];
        node->rows[at] = row;
        return old;
    }
}

/* --- changing: accounts and undo --------------------------------------------------------------------------------------- */

static void account(struct tree *tree, const struct row *row, bool in)
{
    uint64_t bytes = (uint64_t)row->key_size + row->value_size;
    unsigned __int128 sum = (unsigned __int128)tree->digest.hi << 64 | tree->digest.lo;
    unsigned __int128 hash = (unsigned __int128)row->hash.hi << 64 | row->hash.lo;
    sum = in ? sum + hash : sum - hash;
    tree->digest = (struct hash128){.lo = (uint64_t)sum, .hi = (uint64_t)(sum >> 64)};
    tree->rows += in ? 1 : (uint64_t)-1;
    tree->bytes += in ? bytes : (uint64_t)0 - bytes;
    if (tree_is_apart(tree, row))
        tree->bytes_apart += in ? bytes : (uint64_t)0 - bytes;
}

static void remember(struct tree *tree, struct row *before, struct row *after)
{
    if (tree->changes_count == tree->changes_capacity) {
        tree->changes_capacity = tree->changes_capacity * 2 + 64;
        tree->changes = mem_realloc(tree->changes, tree->changes_capacity * sizeof *tree->changes);
    }
    tree->changes[tree->changes_count++] = (struct change){.before = before, .after = after};
}

/* What a change takes away lives on in the undo list. */
static bool give_old(const struct row *before, struct slice *old)
{
    if (before != NULL)
        *old = row_value(before);
    return before != NULL;
}

bool tree_replace(struct tree *tree, struct slice key, struct slice value, struct slice *old)
{
    const struct node *leaf = find_leaf(tree->root, key);
    node_prefetch_row(leaf, key); /* it arrives while the new one is made */
    struct row *row = row_new(&tree->pool, key, value, tree->epoch);
    struct row **place = find_in(leaf, row_key(row));
    struct row *before = NULL;
    if (place == NULL) {
        insert_row(tree, row);
        tree->version++;
    } else if (tree->views == NULL) {
        before = *place; /* no node can be shared: change it where it was found */
        *place = row;
        account(tree, before, false);
    } else {
        before = replace_row(tree, row);
        tree->version++;
        account(tree, before, false);
    }
    account(tree, row, true);
    remember(tree, before, row);
    return give_old(before, old);
}

bool tree_put(struct tree *tree, struct slice key, struct slice value)
{
    struct slice old;
    return tree_replace(tree, key, value, &old);
}

bool tree_remove(struct tree *tree, struct slice key, struct slice *old)
{
    if (find_in(find_leaf(tree->root, key), key) == NULL)
        return false;
    struct row *before = take_out_row(tree, key);
    tree->version++;
    account(tree, before, false);
    remember(tree, before, NULL);
    return give_old(before, old);
}

bool tree_del(struct tree *tree, struct slice key)
{
    struct slice old;
    return tree_remove(tree, key, &old);
}

tree_mark tree_savepoint(const struct tree *tree)
{
    return tree->changes_count;
}

bool tree_change(const struct tree *tree, tree_mark at, struct slice *key, struct slice *before)
{
    CHECK(at < tree->changes_count);
    const struct change *change = &tree->changes[at];
    *key = row_key(change->before != NULL ? change->before : change->after);
    return give_old(change->before, before);
}

void tree_rollback(struct tree *tree, tree_mark mark)
{
    CHECK(mark <= tree->changes_count);
    if (mark == tree->changes_count)
        return;
    while (tree->changes_count > mark) {
        struct change *change = &tree->changes[--tree->changes_count];
        if (change->after == NULL) {
            insert_row(tree, change->before);
        } else if (change->before == NULL) {
            struct row *out = take_out_row(tree, row_key(change->after));
            CHECK(out == change->after);
        } else {
            CHECK(replace_row(tree, change->before) == change->after);
        }
        if (change->after != NULL)
            account(tree, change->after, false);
        if (change->before != NULL)
            account(tree, change->before, true);
        if (change->after != NULL)
            pool_free(&tree->pool, change->after,
                      row_bytes(change->after)); /* younger than any view: views are taken between entries */
    }
    tree->version++;
    tree->rollbacks++;
}

void tree_commit(struct tree *tree)
{
    for (size_t i = 0; i < tree->changes_count; i++)
        if (tree->changes[i].before != NULL)
            tree_drop_row(tree, tree->changes[i].before);
    tree->changes_count = 0;
}
