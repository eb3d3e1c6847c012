/* raft/quorum.c - see raft/quorum.h (§5.2, §5.3). */
#include "raft/quorum.h"

#include "base/check.h"
#include "base/mutant.h"

size_t quorum_size(size_t voters)
{
    CHECK(voters > 0);
    return voters / 2 + 1;
}

raft_index quorum_index(raft_index *match, size_t count)
{
    CHECK(count > 0);
    CHECK(count <= RAFT_MEMBERS_MAX);
    for (size_t i = 1; i < count; i++) {
        raft_index value = match[i];
        size_t at = i;
        for (; at > 0 && match[at - 1] < value; at--)
            match[at] = match[at - 1];
        match[at] = value;
    }
    return match[quorum_size(count) - 1 -
                 (MUTANT(19) && count > 1 ? 1
                                          : 0)]; /* descending: this one, and all before it, are at least as high */
}
