/* sim/core_members.h - which entries of a world of cores are configurations, and which (§6).
 *
 * Entries are terms there; one that is a configuration is looked up here by index and term, which name an entry wherever it is
 * (log matching). Entry 1 is the set that the cluster was formed with, whatever its term. Depends on raft, base.
 */
#ifndef SIM_CORE_MEMBERS_H
#define SIM_CORE_MEMBERS_H

#include "raft/types.h"

struct core_members {
    struct raft_configuration *list; /* in the order in which they came up; the first is entry 1 */
    raft_term *terms;
    size_t count, capacity;
};

void core_members_init(struct core_members *members, const struct raft_configuration *formed);
void core_members_close(struct core_members *members);

/* Voters 1..nodes, and nobody else. */
struct raft_configuration core_members_all(uint32_t nodes);

/* The entry configuration->id of that term is this. */
void core_members_add(struct core_members *members, raft_term term, const struct raft_configuration *configuration);

/* NULL: that entry is no configuration. */
const struct raft_configuration *core_members_at(const struct core_members *members, raft_index index,
                                                 raft_term term);

/* The newest one among the entries 1..last of a log of those terms (by index); NULL: it is empty. */
const struct raft_configuration *core_members_as_of(const struct core_members *members, const raft_term *terms,
                                                    raft_index last);

/* Those among the entries from `first` to `last`, whose terms the runs say. Owned by the caller: mem_free; NULL if there are
 * none. */
struct raft_configuration *core_members_of_runs(const struct core_members *members, const struct raft_run *runs,
                                                size_t runs_count, raft_index last, size_t *count);

#endif
