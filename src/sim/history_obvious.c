/* sim/history_obvious.c - what shows without a search that a history is wrong; see sim/history_search.h.
 *
 * To prove by search that a value came from nowhere, every order of everything before would have to be tried.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "sim/history_search.h"

static bool append_alone(const struct search *search)
{
    for (uint32_t i = 0; i < search->count; i++)
        if (search->ops[i].kind != HISTORY_APPEND && !search->ops[i].changes_nothing)
            return false;
    return true;
}

bool search_writes_alone(const struct search *search)
{
    for (uint32_t i = 0; i < search->count; i++)
        if (search->ops[i].kind == HISTORY_APPEND || search->ops[i].kind == HISTORY_INCR)
            return false;
    return true;
}

uint32_t search_longest_read(const struct search *search)
{
    uint32_t longest = VALUE_MISSING;
    if (!append_alone(search))
        return VALUE_MISSING;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct search_op *op = &search->ops[i];
        if (op->kind == HISTORY_GET &&
            values_size(&search->values, op->result) > values_size(&search->values, longest))
            longest = op->result;
    }
    return longest;
}

struct read {
    uint32_t ended, value;
};

static int compare_reads(const void *left, const void *right)
{
    const struct read *a = left;
    const struct read *b = right;
    return (a->ended > b->ended) - (a->ended < b->ended);
}

static bool begins_with(struct slice whole, struct slice part)
{
    return part.size <= whole.size && (part.size == 0 || memcmp(whole.data, part.data, part.size) == 0);
}

/* Reads in order of end, each held against the longest one before. */
static uint32_t obvious_reads(const struct search *search)
{
    struct read *reads = mem_alloc((search->count + 1) * sizeof *reads);
    uint32_t count = 0;
    uint32_t at = SEARCH_NEVER;
    struct slice longest = {0};
    for (uint32_t i = 0; i < search->count; i++)
        if (search->ops[i].kind == HISTORY_GET && search->ops[i].result != VALUE_MISSING)
            reads[count++] = (struct read){.ended = search->ops[i].ended, .value = search->ops[i].result};
    qsort(reads, count, sizeof *reads, compare_reads);
    for (uint32_t i = 0; i < count && at == SEARCH_NEVER; i++) {
        struct slice text = values_flat(&search->values, reads[i].value);
        if (!begins_with(longest, text) && !begins_with(text, longest))
            at = reads[i].ended;
        if (text.size > longest.size)
            longest = text;
    }
    mem_free(reads);
    return at;
}

/* Where values are what was written, by no append and no incr: each value that was there, and when it was first written. */
static uint32_t obvious_writes(const struct search *search)
{
    uint32_t at = SEARCH_NEVER;
    uint32_t *written = mem_alloc((search->values.count + 1) * sizeof *written); /* by value: the earliest begin */
    memset(written, 0xFF, (search->values.count + 1) * sizeof *written);
    written[VALUE_MISSING] = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct search_op *op = &search->ops[i];
        bool writes = op->kind == HISTORY_PUT || (op->kind == HISTORY_CAS && !op->changes_nothing);
        if (writes && op->began < written[op->value])
            written[op->value] = op->began;
    }
    for (uint32_t i = 0; i < search->count; i++) {
        const struct search_op *op = &search->ops[i];
        bool saw = op->kind == HISTORY_GET || (op->kind == HISTORY_CAS && op->known && op->result_number != 0);
        uint32_t value = op->kind == HISTORY_GET ? op->result : op->old;
        if (saw && written[value] > op->ended && op->ended < at)
            at = op->ended;
    }
    mem_free(written);
    return at;
}

uint32_t search_obvious(const struct search *search)
{
    if (append_alone(search))
        return obvious_reads(search);
    return search_writes_alone(search) ? obvious_writes(search) : SEARCH_NEVER;
}
