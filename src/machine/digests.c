/* machine/digests.c - see machine/digests.h. */
#include "machine/digests.h"

#include "machine/machine.h"

void digests_add(struct digests *digests, raft_index index, struct hash128 digest)
{
    const struct digests_slot slot = {.index = index, .digest = digest};
    digests->recent[index % DIGESTS_KEPT] = slot;
    if (index % MACHINE_DIGEST_STEP == 0)
        digests->steps[index / MACHINE_DIGEST_STEP % DIGESTS_KEPT] = slot;
}

bool digests_find(const struct digests *digests, raft_index index, struct hash128 *digest)
{
    const struct digests_slot *slot = &digests->recent[index % DIGESTS_KEPT];
    if (slot->index != index && index % MACHINE_DIGEST_STEP == 0)
        slot = &digests->steps[index / MACHINE_DIGEST_STEP % DIGESTS_KEPT];
    if (index == 0 || slot->index != index)
        return false;
    *digest = slot->digest;
    return true;
}
