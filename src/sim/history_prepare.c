/* sim/history_prepare.c - what the search wants to know before it begins; see sim/history_search.h. */
#include <stdlib.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "sim/history_search.h"

/* --- lists ------------------------------------------------------------------------------------------------------------------- */

/* Three rings, each through a head of its own: those that ended by begin (`order`, head `count`), those that did not by begin
 * (`order`, head `count` + 1), those that ended by end (`ends`, head `count`). */
static void list_append(struct search_link *links, uint32_t head, uint32_t at)
{
    links[at] = (struct search_link){.next = head, .before = links[head].before};
    links[links[head].before].next = at;
    links[head].before = at;
}

struct by_end {
    uint32_t ended, op;
};

static int compare_ends(const void *left, const void *right)
{
    const struct by_end *a = left;
    const struct by_end *b = right;
    return (a->ended > b->ended) - (a->ended < b->ended);
}

/* A slot for each that ended, free again when it has ended. */
static void give_slots(struct search *search, const struct by_end *ends, uint32_t count)
{
    uint32_t *slots = mem_alloc((count + 1) * sizeof *slots); /* free ones, a stack */
    uint32_t free_slots = 0;
    uint32_t passed = 0;
    search->slots = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        struct search_op *op = &search->ops[i];
        if (op->ended == SEARCH_NEVER)
            continue;
        for (; passed < count && ends[passed].ended < op->began; passed++)
            slots[free_slots++] = search->ops[ends[passed].op].slot;
        op->slot = free_slots > 0 ? slots[--free_slots] : search->slots++;
    }
    mem_free(slots);
}

static void make_lists(struct search *search)
{
    struct by_end *ends = mem_alloc((search->count + 1) * sizeof *ends);
    uint32_t ended = 0;
    if (search->count + 2 > search->lists_capacity) {
        search->lists_capacity = search->count + 2;
        search->order = mem_realloc(search->order, search->lists_capacity * sizeof *search->order);
        search->ends = mem_realloc(search->ends, search->lists_capacity * sizeof *search->ends);
    }
    for (uint32_t head = search->count; head < search->count + 2; head++) {
        search->order[head] = (struct search_link){.next = head, .before = head};
        search->ends[head] = search->order[head];
    }
    search->pending = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        struct search_op *op = &search->ops[i];
        bool pending = op->ended == SEARCH_NEVER;
        list_append(search->order, search->count + (pending ? 1 : 0), i);
        if (pending)
            op->slot = search->pending++;
        else
            ends[ended++] = (struct by_end){.ended = op->ended, .op = i};
    }
    qsort(ends, ended, sizeof *ends, compare_ends);
    for (uint32_t i = 0; i < ended; i++)
        list_append(search->ends, search->count, ends[i].op);
    give_slots(search, ends, ended);
    mem_free(ends);
}

static uint64_t *zeroed(uint64_t *words, uint32_t *capacity, uint32_t count)
{
    if (count > *capacity) {
        *capacity = count;
        words = mem_realloc(words, count * sizeof *words);
    }
    if (count > 0)
        memset(words, 0, count * sizeof *words);
    return words;
}

/* Finds for each operation of unknown outcome the one before it that is alike. */
static void find_twins(struct search *search)
{
    uint32_t size = 16;
    while (size < 2 * search->pending)
        size *= 2;
    uint32_t *latest = mem_zalloc(size, sizeof *latest); /* number + 1 */
    for (uint32_t i = 0; i < search->count; i++) {
        struct search_op *op = &search->ops[i];
        uint64_t alike[4] = {op->kind, op->old, op->value, (uint64_t)op->number};
        if (op->ended != SEARCH_NEVER)
            continue;
        uint32_t at = (uint32_t)hash64(alike, sizeof alike) & (size - 1);
        for (; latest[at] != 0; at = (at + 1) & (size - 1)) {
            const struct search_op *other = &search->ops[latest[at] - 1];
            if (other->kind == op->kind && other->old == op->old && other->value == op->value &&
                other->number == op->number)
                break;
        }
        op->twin = latest[at] != 0 ? latest[at] - 1 : SEARCH_NEVER;
        latest[at] = i + 1;
    }
    mem_free(latest);
}

/* Which values an operation of unknown outcome can go on from, after another one. */
static void find_chains(struct search *search)
{
    mem_free(search->chains);
    search->chains_count = search->values.count + 1;
    search->chains = mem_zalloc(search->chains_count, 1);
    search->chains_any = false;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct search_op *op = &search->ops[i];
        if (op->ended != SEARCH_NEVER)
            continue;
        if (op->kind == HISTORY_CAS)
            search->chains[op->old] = 1;
        search->chains_any = search->chains_any || op->kind == HISTORY_APPEND || op->kind == HISTORY_INCR;
    }
}

/* --- values ------------------------------------------------------------------------------------------------------------------ */

/* Values that no get gave and no cas expects are one value: nobody can tell them apart. Not where append or incr makes others
 * of them. */
static void merge_unseen(struct search *search)
{
    uint8_t *seen = mem_zalloc(search->values.count + 1, 1);
    uint32_t unseen = VALUE_MISSING;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct search_op *op = &search->ops[i];
        seen[op->result] = 1;
        seen[op->old] = 1;
    }
    for (uint32_t i = 0; i < search->count; i++) {
        struct search_op *op = &search->ops[i];
        if ((op->kind != HISTORY_PUT && op->kind != HISTORY_CAS) || seen[op->value] != 0)
            continue;
        if (unseen == VALUE_MISSING)
            unseen = op->value;
        op->value = unseen;
    }
    mem_free(seen);
}

void search_prepare(struct search *search)
{
    if (!search->all_states && search_writes_alone(search))
        merge_unseen(search);
    make_lists(search);
    find_twins(search);
    find_chains(search);
    search->words = (search->slots + 63) / 64;
    search->used_words = (search->pending + 63) / 64;
    search->open = zeroed(search->open, &search->words_capacity, search->words);
    search->used = zeroed(search->used, &search->used_capacity, search->used_words);
    search->ahead = search_longest_read(search);
}
