/* raft/quorum.c - see raft/quorum.h (§5.2, §5.3). */
#include "raft/quorum.h"

#include "base/check.h"
#include "base/mutant.h"

uint64_t quorum_value(uint64_t *values, size_t count)
{
    CHECK(count > 0);
    CHECK(count <= RAFT_MEMBERS_MAX);
    for (size_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        size_t at = i;
        for (; at > 0 && values[at - 1] < value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
    size_t majority = count / 2 + 1;
    if (MUTANT(19) && count > 1)
        majority--;
    return values[majority - 1]; /* descending: this one, and all before it, are at least as high */
}
