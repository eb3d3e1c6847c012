/* state/node.c - see state/node.h. */
#include "state/node.h"

#include <string.h>

#include "base/check.h"
#include "state/tree.h"

struct hash128 tree_row_hash(struct slice key, struct slice value)
{
    /* The value is hashed under a seed made from the key, so bytes cannot move from one to the other unnoticed. */
    struct hash128 k = hash128(key.data, key.size, key.size);
    struct hash128 v = hash128(value.data, value.size, k.lo);
    return (struct hash128){.lo = v.lo ^ (k.hi << 1 | k.hi >> 63), .hi = v.hi + k.hi};
}

struct row *row_new(struct pool *pool, struct slice key, struct slice value, uint64_t born)
{
    CHECK(key.size > 0);
    CHECK(key.size + value.size < UINT32_MAX);
    struct row *row = pool_alloc(pool, sizeof *row + key.size + value.size);
    row->born = born;
    row->key_size = (uint32_t)key.size;
    row->value_size = (uint32_t)value.size;
    memcpy(row->bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(row->bytes + key.size, value.data, value.size);
    row->hash = tree_row_hash(row_key(row), row_value(row));
    return row;
}

size_t node_bytes(const struct node *node)
{
    return sizeof *node + (node->leaf ? 0 : NODE_MAX * (sizeof(struct node *) + sizeof(uint64_t)));
}

struct node *node_new(struct pool *pool, bool leaf, uint64_t born)
{
    struct node probe = {.leaf = leaf};
    struct node *node = pool_alloc(pool, node_bytes(&probe));
    node->born = born;
    node->count = 0;
    node->common = 0;
    node->leaf = leaf;
    return node;
}

struct node *node_copy(struct pool *pool, const struct node *node, uint64_t born)
{
    struct node *copy = pool_alloc(pool, node_bytes(node));
    memcpy(copy, node, node_bytes(node));
    copy->born = born;
    if (!node->leaf)
        for (size_t i = 0; i < node->count; i++)
            copy->firsts[i] = row_new(pool, row_key(node->firsts[i]), slice_make(NULL, 0), born);
    return copy;
}

uint64_t *node_counts(struct node *node)
{
    return (uint64_t *)(void *)(node->children + NODE_MAX);
}

const uint64_t *node_counts_const(const struct node *node)
{
    return (const uint64_t *)(const void *)(node->children + NODE_MAX);
}

uint64_t node_total(const struct node *node)
{
    if (node->leaf)
        return node->count;
    uint64_t total = 0;
    const uint64_t *counts = node_counts_const(node);
    for (size_t i = 0; i < node->count; i++)
        total += counts[i];
    return total;
}

/* Eight bytes of the key from `from` on, as a number that orders as they do; missing bytes are zero. */
static uint64_t word_at(struct slice key, size_t from)
{
    if (key.size <= from)
        return 0;
    uint64_t word = 0;
    size_t size = key.size - from;
    memcpy(&word, key.data + from, size < 8 ? size : 8);
    return __builtin_bswap64(word);
}

static size_t shared(struct slice left, const uint8_t *right, size_t most)
{
    size_t limit = left.size < most ? left.size : most;
    size_t size = 0;
    while (size < limit && left.data[size] == right[size])
        size++;
    return size;
}

void node_reword(struct node *node)
{
    if (node->count == 0) {
        node->common = 0;
        return;
    }
    /* Keys are sorted: what the first and the last share, all share. */
    struct slice first = row_key(node->rows[0]);
    struct slice last = row_key(node->rows[node->count - 1]);
    size_t most = last.size < NODE_COMMON_MAX ? last.size : NODE_COMMON_MAX;
    node->common = (uint16_t)shared(first, last.data, most);
    memcpy(node->common_bytes, first.data, node->common);
    for (size_t i = 0; i < node->count; i++)
        node->words[i] = word_at(row_key(node->rows[i]), node->common);
}

void node_set(struct node *node, size_t at, struct row *row)
{
    node->rows[at] = row;
    struct slice key = row_key(row);
    if (node->count == 1 || shared(key, node->common_bytes, node->common) < node->common)
        node_reword(node);
    else
        node->words[at] = word_at(key, node->common);
}

/* First place whose word is >= word. */
static size_t lower(const struct node *node, uint64_t word)
{
    size_t lo = 0;
    for (size_t left = node->count; left > 0;) { /* without branches: where a key lies is not predictable */
        size_t half = (left + 1) / 2;
        lo += node->words[lo + half - 1] < word ? half : 0;
        left -= half;
    }
    return lo;
}

void node_prefetch_row(const struct node *node, struct slice key)
{
    size_t at = lower(node, word_at(key, node->common));
    if (at < node->count)
        __builtin_prefetch(node->rows[at]);
}

size_t node_search(const struct node *node, struct slice key, bool *equal)
{
    *equal = false;
    if (key.size < node->common || memcmp(key.data, node->common_bytes, node->common) != 0) {
        size_t same = shared(key, node->common_bytes, node->common);
        bool below = same == key.size || key.data[same] < node->common_bytes[same];
        return below ? 0 : node->count;
    }
    uint64_t word = word_at(key, node->common);
    size_t lo = lower(node, word);
    for (; lo < node->count && node->words[lo] == word; lo++) {
        int order = slice_compare(row_key(node->rows[lo]), key);
        if (order >= 0) {
            *equal = order == 0;
            return lo;
        }
    }
    return lo;
}

size_t node_child(const struct node *node, struct slice key)
{
    bool equal = false;
    size_t at = node_search(node, key, &equal);
    return equal || at == 0 ? at : at - 1;
}
