/* state/node.h - rows and nodes of the tree: their shape, and searching in them. Private to state/.
 *
 * A row is one block: header, key, value. A leaf holds pointers to rows; beside each stands a word, eight bytes of the key
 * from where the keys of that node begin to differ, so that a search touches the node alone until it has found its
 * place. Nodes and rows know the epoch they were born in: what a view may see (born at or before the youngest view) is
 * never changed, but copied, and retired (tree.c) until no view can see it. Depends on base.
 */
#ifndef STATE_NODE_H
#define STATE_NODE_H

#include "base/checksum.h"
#include "base/pool.h"
#include "base/slice.h"

#ifndef TREE_NODE_BYTES
#define TREE_NODE_BYTES 2048 /* about; small in builds that look for bugs, so that nodes split and merge often */
#endif

enum {
    NODE_MAX = TREE_NODE_BYTES / 32, /* rows of a leaf, children of an inner node */
    NODE_MIN = NODE_MAX / 4,         /* below it a node looks for a neighbour to merge with */
    NODE_COMMON_MAX = 40             /* bytes of the keys' common beginning that a node remembers */
};

struct row {
    struct hash128 hash;
    uint64_t born;
    uint32_t key_size;
    uint32_t value_size;
    uint8_t bytes[];
};

struct node {
    uint64_t born;
    uint16_t count;  /* rows, or children */
    uint16_t common; /* bytes in common_bytes: every key here begins with them */
    bool leaf;
    uint8_t common_bytes[NODE_COMMON_MAX];
    uint64_t words[NODE_MAX];
    union {
        struct row *rows[NODE_MAX];   /* leaf */
        struct row *firsts[NODE_MAX]; /* inner: a key at or below all of child i, above all of child i - 1; a row
                                          * without value, owned by this node; firsts[0] is the least of the node */
    };
    struct node *children[]; /* inner: NODE_MAX children, then NODE_MAX counts */
};

struct row *row_new(struct pool *pool, struct slice key, struct slice value, uint64_t born);

static inline struct slice row_key(const struct row *row)
{
    return slice_make(row->bytes, row->key_size);
}

static inline struct slice row_value(const struct row *row)
{
    return slice_make(row->bytes + row->key_size, row->value_size);
}

static inline size_t row_bytes(const struct row *row)
{
    return sizeof *row + row->key_size + row->value_size;
}

/* Asks for what a search in the node will read, all at once: its parts would be waited for one after the other. */
static inline void node_prefetch(const struct node *node)
{
    for (size_t at = 0; at < offsetof(struct node, rows); at += 64)
        __builtin_prefetch((const char *)node + at);
}

struct node *node_new(struct pool *pool, bool leaf, uint64_t born);
struct node *node_copy(struct pool *pool, const struct node *node, uint64_t born);
size_t node_bytes(const struct node *node);

/* Rows below child i of an inner node. */
uint64_t *node_counts(struct node *node);
const uint64_t *node_counts_const(const struct node *node);
uint64_t node_total(const struct node *node);

/* Computes `common` and all words anew from the keys. */
void node_reword(struct node *node);

/* Sets rows[at] (and its word); the common part shrinks if the key does not share it. `count` already counts it. */
void node_set(struct node *node, size_t at, struct row *row);

/* Asks for the row of a leaf that may have this key. */
void node_prefetch_row(const struct node *node, struct slice key);

/* First place whose key is >= key; *equal: it is that key. */
size_t node_search(const struct node *node, struct slice key, bool *equal);

/* The child of an inner node that holds `key`, or would. */
size_t node_child(const struct node *node, struct slice key);

#endif
