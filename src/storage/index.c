/* storage/index.c - see storage/index.h. */
#include "storage/index.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"

/* Makes room for one more of `size` bytes in an array. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity * 2 + 16;
    return mem_realloc(array, *capacity * size);
}

void index_close(struct log_index *index)
{
    mem_free(index->places);
    mem_free(index->runs);
    mem_free(index->segments);
    memset(index, 0, sizeof *index);
}

struct storage_base index_base(const struct log_index *index)
{
    return index->segments_count > 0 ? index->segments[0].base : (struct storage_base){0};
}

void index_add_segment(struct log_index *index, const struct segment *segment)
{
    index->segments =
        grow(index->segments, index->segments_count, &index->segments_capacity, sizeof *index->segments);
    if (index->segments_count == 0) {
        index->oldest = segment->number;
        index->last = segment->base;
    }
    CHECK_EQ(segment->number, index->oldest + index->segments_count);
    index->segments[index->segments_count++] =
        (struct held_segment){.bytes = segment->bytes, .base = segment->base};
}

void index_add_entry(struct log_index *index, const struct entry *entry)
{
    CHECK_EQ(entry->index, index->last.index + 1);
    index->last = (struct storage_base){.index = entry->index, .term = entry->term, .chain = entry->chain};
    if (index->runs_count > 0 && index->runs[index->runs_count - 1].term == entry->term)
        return;
    index->runs = grow(index->runs, index->runs_count, &index->runs_capacity, sizeof *index->runs);
    index->runs[index->runs_count++] = (struct raft_run){.first = entry->index, .term = entry->term};
}

static uint64_t bytes_in_all(const struct log_index *index)
{
    if (index->places_count == 0)
        return 0;
    const struct place *last = &index->places[index->places_count - 1];
    return last->before + frame_space(last->bytes);
}

void index_add_place(struct log_index *index, const struct frame *frame, uint64_t segment, uint64_t offset)
{
    uint64_t before = bytes_in_all(index);
    index->places = grow(index->places, index->places_count, &index->places_capacity, sizeof *index->places);
    index->places[index->places_count++] = (struct place){.first = frame->first,
                                                          .last = frame->last,
                                                          .segment = segment,
                                                          .offset = offset,
                                                          .before = before,
                                                          .bytes = frame->bytes};
}

void index_cut(struct log_index *index, const struct storage_base *end)
{
    while (index->places_count > 0 && index->places[index->places_count - 1].first > end->index)
        index->places_count--;
    if (index->places_count > 0 && index->places[index->places_count - 1].last > end->index)
        index->places[index->places_count - 1].last = end->index;
    while (index->runs_count > 0 && index->runs[index->runs_count - 1].first > end->index)
        index->runs_count--;
    for (size_t i = index->segments_count; i-- > 0 && index->segments[i].base.index > end->index;)
        if (!MUTANT(112))
            index->segments[i].base = *end;
    index->last = *end;
}

void index_reset(struct log_index *index, const struct storage_base *base)
{
    index->places_count = 0;
    index->runs_count = 0;
    for (size_t i = 0; i < index->segments_count; i++)
        index->segments[i].base = *base;
    index->last = *base;
}

bool index_may_drop(const struct log_index *index, raft_index wanted_no_more)
{
    if (index->segments_count < 2)
        return false;
    raft_index next = index->segments[1].base.index;
    if (MUTANT(113))
        return index->segments[0].base.index <= wanted_no_more;
    return next <= wanted_no_more || next == index->segments[0].base.index;
}

/* Takes the first `gone` of `count` away; gives how many stay. */
static size_t drop_front(void *array, size_t count, size_t gone, size_t size)
{
    if (gone > 0 && gone < count)
        memmove(array, (uint8_t *)array + gone * size, (count - gone) * size);
    return count - gone;
}

void index_drop(struct log_index *index)
{
    CHECK(index->segments_count > 1);
    struct storage_base base = index->segments[1].base;
    index->segments_count = drop_front(index->segments, index->segments_count, 1, sizeof *index->segments);
    size_t places = 0;
    while (places < index->places_count && index->places[places].segment <= index->oldest)
        places++;
    index->places_count = drop_front(index->places, index->places_count, places, sizeof *index->places);
    index->oldest++;
    size_t runs = 0;
    while (runs + 1 < index->runs_count && index->runs[runs + 1].first <= base.index + 1)
        runs++;
    if (index->last.index == base.index)
        runs = index->runs_count;
    index->runs_count = drop_front(index->runs, index->runs_count, runs, sizeof *index->runs);
    if (index->runs_count > 0 && index->runs[0].first <= base.index)
        index->runs[0].first = base.index + 1;
}

size_t index_find(const struct log_index *index, raft_index entry)
{
    size_t lo = 0;
    size_t hi = index->places_count;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (index->places[middle].first <= entry)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

uint64_t index_bytes_after(const struct log_index *index, raft_index after)
{
    if (after >= index->last.index || index->places_count == 0)
        return 0;
    return bytes_in_all(index) - index->places[index_find(index, after + 1)].before;
}
