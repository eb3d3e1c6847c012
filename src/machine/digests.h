/* machine/digests.h - what the digest was at recent indexes, so that nodes can compare theirs. Depends on base. */
#ifndef MACHINE_DIGESTS_H
#define MACHINE_DIGESTS_H

#include <stdbool.h>

#include "base/checksum.h"
#include "raft/types.h"

enum { DIGESTS_KEPT = 4096 };

struct digests_slot {
    raft_index index; /* 0: empty */
    struct hash128 digest;
};

/* Two rings by index: of all, and of the multiples of MACHINE_DIGEST_STEP. A zeroed struct is empty. */
struct digests {
    struct digests_slot recent[DIGESTS_KEPT];
    struct digests_slot steps[DIGESTS_KEPT];
};

void digests_add(struct digests *digests, raft_index index, struct hash128 digest);

/* False: it is no longer there, or was never. */
bool digests_find(const struct digests *digests, raft_index index, struct hash128 *digest);

#endif
