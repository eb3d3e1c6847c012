/* sim/core_members.c - see sim/core_members.h. */
#include "sim/core_members.h"

#include "base/check.h"
#include "base/memory.h"

static void push(struct core_members *members, raft_term term, const struct raft_configuration *configuration)
{
    if (members->count == members->capacity) {
        members->capacity = members->capacity * 2 + 8;
        members->list = mem_realloc(members->list, members->capacity * sizeof *members->list);
        members->terms = mem_realloc(members->terms, members->capacity * sizeof *members->terms);
    }
    members->list[members->count] = *configuration;
    members->terms[members->count++] = term;
}

void core_members_init(struct core_members *members, const struct raft_configuration *formed)
{
    struct raft_configuration first = *formed;
    first.id = 1;
    *members = (struct core_members){0};
    push(members, 0, &first);
}

void core_members_close(struct core_members *members)
{
    mem_free(members->list);
    mem_free(members->terms);
}

struct raft_configuration core_members_all(uint32_t nodes)
{
    struct raft_configuration configuration = {.id = 1, .voters_count = nodes};
    for (uint32_t i = 0; i < nodes; i++)
        configuration.voters[i] = i + 1;
    return configuration;
}

void core_members_add(struct core_members *members, raft_term term, const struct raft_configuration *configuration)
{
    CHECK(configuration->id > 1);
    CHECK(core_members_at(members, configuration->id, term) == NULL);
    push(members, term, configuration);
}

const struct raft_configuration *core_members_at(const struct core_members *members, raft_index index,
                                                 raft_term term)
{
    if (index == 1)
        return &members->list[0];
    for (size_t i = members->count; i > 1; i--)
        if (members->list[i - 1].id == index && members->terms[i - 1] == term)
            return &members->list[i - 1];
    return NULL;
}

const struct raft_configuration *core_members_as_of(const struct core_members *members, const raft_term *terms,
                                                    raft_index last)
{
    const struct raft_configuration *newest = NULL;
    for (size_t i = 0; i < members->count; i++) {
        const struct raft_configuration *one = &members->list[i];
        if (one->id <= last && (i == 0 || terms[one->id] == members->terms[i]) &&
            (newest == NULL || one->id > newest->id))
            newest = one;
    }
    return newest;
}

struct raft_configuration *core_members_of_runs(const struct core_members *members, const struct raft_run *runs,
                                                size_t runs_count, raft_index last, size_t *count)
{
    struct raft_configuration *found = NULL;
    *count = 0;
    for (size_t run = 0; run < runs_count; run++) {
        raft_index end = run + 1 < runs_count ? runs[run + 1].first : last + 1;
        /* A message made by hand may say that it carries any number of entries: ask who is there instead. */
        for (size_t i = 0; i < members->count; i++) {
            const struct raft_configuration *one = &members->list[i];
            if (one->id < runs[run].first || one->id >= end || (i > 0 && members->terms[i] != runs[run].term))
                continue;
            found = mem_realloc(found, (*count + 1) * sizeof *found);
            size_t at = (*count)++;
            for (; at > 0 && found[at - 1].id > one->id; at--)
                found[at] = found[at - 1];
            found[at] = *one;
        }
    }
    return found;
}
