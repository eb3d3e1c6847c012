/* raft/trail.c - see raft/trail.h (§5.3). */
#include "raft/trail.h"

#include "base/check.h"
#include "base/memory.h"

void trail_init(struct raft_trail *trail)
{
    *trail = (struct raft_trail){.first = 1};
}

void trail_close(struct raft_trail *trail)
{
    mem_free(trail->runs);
    *trail = (struct raft_trail){.first = 1};
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
    CHECK(index >= trail->first);
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

raft_term trail_term(const struct raft_trail *trail, raft_index index)
{
    if (index < trail->first || index > trail->last || trail->count == 0)
        return 0;
    const struct raft_run *last = &trail->runs[trail->count - 1];
    if (index >= last->first)
        return last->term;
    return trail->runs[find_run(trail, index)].term;
}

raft_term trail_last_term(const struct raft_trail *trail)
{
    return trail->count > 0 ? trail->runs[trail->count - 1].term : 0;
}

raft_index trail_find_term(const struct raft_trail *trail, raft_index index, raft_term term)
{
    if (index > trail->last)
        index = trail->last;
    if (index < trail->first || trail->count == 0)
        return 0;
    size_t run = find_run(trail, index);
    while (trail->runs[run].term > term) {
        if (run == 0)
            return 0;
        index = trail->runs[run].first - 1;
        run--;
    }
    return index;
}
