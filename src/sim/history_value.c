/* sim/history_value.c - see sim/history_value.h. */
#include "sim/history_value.h"

#include <stdio.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"

enum { HEADS_MIN = 256, HEADS_KEPT = 65536, NUMBER_SIZE_MAX = 20, NUMBER_ROOM = 32 };

/* A hash of which that of two texts together can be computed: a polynomial over a prime field. */
static const uint64_t PRIME = (1ull << 61) - 1;
static const uint64_t BASE = 0x1d3a5b7c9e2f4681ull;

struct value_node {
    uint64_t hash;
    uint64_t power; /* BASE to the power of size */
    uint64_t size;
    const uint8_t *data; /* NULL: it is parent, then piece */
    uint32_t parent, piece;
    uint32_t next; /* of the same head */
    enum { NUMBER_UNTRIED, NUMBER_NO, NUMBER_YES } number_is;
    int64_t number;
};

struct value_edge {
    uint32_t state, piece; /* state VALUE_MISSING: free */
    uint32_t to;
};

/* --- numbers ------------------------------------------------------------------------------------------------------------ */

bool value_parse_number(struct slice text, int64_t *number)
{
    bool minus = text.size > 0 && text.data[0] == '-';
    size_t at = minus ? 1 : 0;
    uint64_t magnitude = 0;
    uint64_t most = (uint64_t)INT64_MAX + (minus ? 1 : 0);
    if (at == text.size || text.size - at > NUMBER_SIZE_MAX)
        return false;
    if (text.data[at] == '0' && text.size > 1)
        return false;
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9')
            return false;
        uint64_t digit = text.data[at] - (uint64_t)'0';
        if (magnitude > (most - digit) / 10)
            return false;
        magnitude = magnitude * 10 + digit;
    }
    *number = minus ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
    return true;
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

static uint64_t times(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    uint64_t sum = (uint64_t)(product & PRIME) + (uint64_t)(product >> 61);
    return sum >= PRIME ? sum - PRIME : sum;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;
    return sum >= PRIME ? sum - PRIME : sum;
}

static void hash_text(struct slice text, struct value_node *node)
{
    node->size = text.size;
    node->power = 1;
    for (size_t i = 0; i < text.size; i++) {
        node->hash = plus(times(node->hash, BASE), text.data[i] + 1u);
        node->power = times(node->power, BASE);
    }
}

static void count_bytes(struct values *values)
{
    values->bytes = (size_t)values->capacity * sizeof *values->nodes +
                    (size_t)values->heads_size * sizeof *values->heads +
                    (size_t)values->edges_size * sizeof *values->edges;
}

void values_reset(struct values *values)
{
    if (values->heads_size > HEADS_KEPT)
        values_close(values);
    pool_close(&values->pool);
    if (values->heads_size > 0)
        memset(values->heads, 0, values->heads_size * sizeof *values->heads);
    if (values->edges_size > 0)
        memset(values->edges, 0, values->edges_size * sizeof *values->edges);
    values->count = 0;
    values->edges_count = 0;
}

void values_close(struct values *values)
{
    pool_close(&values->pool);
    mem_free(values->nodes);
    mem_free(values->heads);
    mem_free(values->edges);
    *values = (struct values){0};
}

static void link_node(struct values *values, uint32_t number)
{
    uint32_t *head = &values->heads[values->nodes[number].hash & (values->heads_size - 1)];
    values->nodes[number].next = *head;
    *head = number;
}

static void grow_heads(struct values *values)
{
    values->heads_size = values->heads_size == 0 ? HEADS_MIN : values->heads_size * 2;
    mem_free(values->heads);
    values->heads = mem_zalloc(values->heads_size, sizeof *values->heads);
    for (uint32_t i = 1; i < values->count; i++)
        link_node(values, i);
}

static uint32_t add_node(struct values *values, const struct value_node *node)
{
    if (values->count == 0)
        values->count = 1; /* VALUE_MISSING */
    if (values->count >= values->capacity) {
        values->capacity = values->capacity * 2 + 64;
        values->nodes = mem_realloc(values->nodes, values->capacity * sizeof *values->nodes);
    }
    values->nodes[values->count] = *node;
    if (values->count >= values->heads_size)
        grow_heads(values);
    link_node(values, values->count);
    count_bytes(values);
    return values->count++;
}

/* --- comparing ------------------------------------------------------------------------------------------------------------ */

/* A text from its end to its beginning, a piece at a time. */
struct backward {
    struct slice piece; /* what is left of the last one */
    uint32_t before;    /* what comes before it; VALUE_MISSING: nothing */
};

static struct backward backward_of(const struct values *values, uint32_t value)
{
    const struct value_node *node = &values->nodes[value];
    if (node->data != NULL)
        return (struct backward){.piece = slice_make(node->data, node->size)};
    const struct value_node *piece = &values->nodes[node->piece];
    return (struct backward){.piece = slice_make(piece->data, piece->size), .before = node->parent};
}

/* Texts of one length. Where both come to the end of a piece, the numbers of what is before decide. */
static bool same_text(const struct values *values, struct backward a, struct backward b)
{
    while (true) {
        size_t size = a.piece.size < b.piece.size ? a.piece.size : b.piece.size;
        a.piece.size -= size;
        b.piece.size -= size;
        if (size > 0 && memcmp(a.piece.data + a.piece.size, b.piece.data + b.piece.size, size) != 0)
            return false;
        if (a.piece.size == 0 && b.piece.size == 0 && (a.before == b.before || (a.before != 0 && b.before != 0)))
            return a.before == b.before;
        if (a.piece.size == 0 && a.before == VALUE_MISSING)
            return true;
        if (b.piece.size == 0 && b.before == VALUE_MISSING)
            return true;
        if (a.piece.size == 0)
            a = backward_of(values, a.before);
        if (b.piece.size == 0)
            b = backward_of(values, b.before);
    }
}

static uint32_t find_node(const struct values *values, const struct value_node *node, struct backward text)
{
    if (values->heads_size == 0)
        return VALUE_MISSING;
    for (uint32_t i = values->heads[node->hash & (values->heads_size - 1)]; i != 0; i = values->nodes[i].next)
        if (values->nodes[i].hash == node->hash && values->nodes[i].size == node->size &&
            same_text(values, text, backward_of(values, i)))
            return i;
    return VALUE_MISSING;
}

uint32_t values_intern(struct values *values, struct slice text)
{
    static const uint8_t nothing[1];
    struct value_node node = {.data = text.data != NULL ? text.data : nothing};
    hash_text(text, &node);
    struct backward whole = {.piece = slice_make(node.data, text.size)};
    uint32_t found = find_node(values, &node, whole);
    return found != VALUE_MISSING ? found : add_node(values, &node);
}

/* --- append and add --------------------------------------------------------------------------------------------------------- */

static struct value_edge *find_edge(const struct values *values, uint32_t state, uint32_t piece)
{
    uint64_t pair[2] = {state, piece};
    uint32_t at = (uint32_t)hash64(pair, sizeof pair) & (values->edges_size - 1);
    while (values->edges[at].state != VALUE_MISSING &&
           (values->edges[at].state != state || values->edges[at].piece != piece))
        at = (at + 1) & (values->edges_size - 1);
    return &values->edges[at];
}

static void grow_edges(struct values *values)
{
    struct value_edge *old = values->edges;
    uint32_t old_size = values->edges_size;
    values->edges_size = old_size == 0 ? HEADS_MIN : old_size * 2;
    values->edges = mem_zalloc(values->edges_size, sizeof *values->edges);
    for (uint32_t i = 0; i < old_size; i++)
        if (old[i].state != VALUE_MISSING)
            *find_edge(values, old[i].state, old[i].piece) = old[i];
    mem_free(old);
}

uint32_t values_append(struct values *values, uint32_t state, uint32_t piece)
{
    if (state == VALUE_MISSING || values->nodes[state].size == 0)
        return piece;
    if (values->nodes[piece].size == 0)
        return state;
    if (values->edges_count * 2 >= values->edges_size)
        grow_edges(values);
    struct value_edge *edge = find_edge(values, state, piece);
    if (edge->state != VALUE_MISSING)
        return edge->to;
    const struct value_node *head = &values->nodes[state];
    const struct value_node *tail = &values->nodes[piece];
    struct value_node node = {.hash = plus(times(head->hash, tail->power), tail->hash),
                              .power = times(head->power, tail->power),
                              .size = head->size + tail->size,
                              .parent = state,
                              .piece = piece};
    struct backward text = {.piece = slice_make(tail->data, tail->size), .before = state};
    uint32_t to = find_node(values, &node, text);
    *edge = (struct value_edge){.state = state, .piece = piece, .to = to != 0 ? to : add_node(values, &node)};
    values->edges_count++;
    return edge->to;
}

static bool read_number(struct values *values, uint32_t value, int64_t *number)
{
    struct value_node *node = &values->nodes[value];
    char text[NUMBER_ROOM];
    *number = 0;
    if (value == VALUE_MISSING)
        return true;
    if (node->number_is == NUMBER_UNTRIED) {
        bool is =
            node->size <= NUMBER_SIZE_MAX &&
            value_parse_number(slice_make(text, values_copy(values, value, text, sizeof text)), &node->number);
        node->number_is = is ? NUMBER_YES : NUMBER_NO;
    }
    *number = node->number;
    return node->number_is == NUMBER_YES;
}

bool values_add(struct values *values, uint32_t state, int64_t n, uint32_t *next, int64_t *sum)
{
    char text[NUMBER_ROOM];
    int64_t number = 0;
    if (!read_number(values, state, &number) || __builtin_add_overflow(number, n, sum))
        return false;
    size_t size = (size_t)snprintf(text, sizeof text, "%lld", (long long)*sum);
    struct value_node node = {.data = (const uint8_t *)text};
    hash_text(slice_make(text, size), &node);
    *next = find_node(values, &node, (struct backward){.piece = slice_make(text, size)});
    if (*next != VALUE_MISSING)
        return true;
    void *kept = pool_alloc(&values->pool, NUMBER_ROOM);
    memcpy(kept, text, size);
    node.data = kept;
    *next = add_node(values, &node);
    return true;
}

uint64_t values_size(const struct values *values, uint32_t value)
{
    return value == VALUE_MISSING ? 0 : values->nodes[value].size;
}

struct slice values_flat(const struct values *values, uint32_t value)
{
    CHECK(value != VALUE_MISSING && values->nodes[value].data != NULL);
    return slice_make(values->nodes[value].data, values->nodes[value].size);
}

size_t values_copy(const struct values *values, uint32_t value, char *out, size_t room)
{
    uint64_t size = values_size(values, value);
    uint64_t end = size; /* of the piece at hand */
    struct backward text = {.before = value};
    while (text.before != VALUE_MISSING) {
        text = backward_of(values, text.before);
        uint64_t begin = end - text.piece.size;
        if (begin < room)
            memcpy(out + begin, text.piece.data, end < room ? text.piece.size : room - (size_t)begin);
        end = begin;
    }
    return size < room ? (size_t)size : room;
}
