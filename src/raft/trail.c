/* raft/trail.c - see raft/trail.h (§5.3, §7). */
#include "raft/trail.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"

void trail_init(struct raft_trail *trail)
{
    *trail = (struct raft_trail){0};
}

void trail_close(struct raft_trail *trail)
{
    mem_free(trail->runs);
    *trail = (struct raft_trail){0};
}

void trail_append(struct raft_trail *trail, uint64_t count, raft_term term)
{
    CHECK(count > 0);
    CHECK(term >= trail_last_term(trail));
    if (trail->count == 0 || trail->runs[trail->count - 1].term != term) {
        if (trail->count == trail->capacity) {
            trail->capacity = trail->capacity * 2 + 16;
            trail->runs = mem_realloc(trail->runs, trail->capacity * sizeof *trail->runs);
        }
        trail->runs[trail->count++] = (struct raft_run){.first = trail->last + 1, .term = term};
    }
    trail->last += count;
}

void trail_cut(struct raft_trail *trail, raft_index index)
{
    CHECK(index > trail->base);
    if (index > trail->last)
        return;
    trail->last = index - 1;
    while (trail->count > 0 && trail->runs[trail->count - 1].first >= index)
        trail->count--;
}

/* The run that holds `index`, which is in the trail. */
static size_t find_run(const struct raft_trail *trail, raft_index index)
{
    size_t lo = 0;
    size_t hi = trail->count;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (trail->runs[middle].first <= index)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

void trail_forget(struct raft_trail *trail, raft_index index)
{
    CHECK(index >= trail->base);
    CHECK(index <= trail->last);
    raft_term term = MUTANT(103) ? 0 : trail_term(trail, index);
    size_t gone = 0;
    while (gone + 1 < trail->count && trail->runs[gone + 1].first <= index + 1)
        gone++;
    if (index == trail->last)
        gone = trail->count;
    trail->count -= gone;
    if (gone > 0 && trail->count > 0)
        memmove(trail->runs, trail->runs + gone, trail->count * sizeof *trail->runs);
    if (trail->count > 0)
        trail->runs[0].first = index + 1;
    trail->base = index;
    trail->base_term = term;
}

void trail_reset(struct raft_trail *trail, raft_index base, raft_term base_term)
{
    trail->count = 0;
    trail->base = base;
    trail->base_term = base_term;
    trail->last = base;
}

raft_term trail_term(const struct raft_trail *trail, raft_index index)
{
    if (index == trail->base)
        return trail->base_term;
    if (index < trail->base || index > trail->last)
        return 0;
    const struct raft_run *last = &trail->runs[trail->count - 1];
    if (index >= last->first)
        return last->term;
    return trail->runs[find_run(trail, index)].term;
}

raft_term trail_last_term(const struct raft_trail *trail)
{
    return trail->count > 0 ? trail->runs[trail->count - 1].term : trail->base_term;
}

raft_index trail_find_term(const struct raft_trail *trail, raft_index index, raft_term term)
{
    if (index > trail->last)
        index = trail->last;
    if (index < trail->base)
        return 0;
    if (index > trail->base) {
        size_t run = find_run(trail, index);
        while (trail->runs[run].term > term && run > 0)
            index = trail->runs[run--].first - 1;
        if (trail->runs[run].term <= term)
            return index;
    }
    return trail->base_term <= term ? trail->base : 0;
}
