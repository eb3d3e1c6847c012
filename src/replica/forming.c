/* replica/forming.c - the steps of a formation (replica/formation.h), as HELLOs come in (link.c) and writes end (log.c). Private to replica/. */
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

static void pin(struct replica *replica)
{
    for (size_t i = 0; i < replica->identity.members_count; i++) {
        if (replica->peers[i].member.incarnation == 0)
            return;
        replica->identity.members[i].incarnation = replica->peers[i].member.incarnation;
    }
    buffer_clear(&replica->set);
    formation_pack_set(replica->identity.members, replica->identity.members_count, &replica->set);
    replica->identity.cluster_id = formation_cluster_id(buffer_slice(&replica->set));
    replica->identity.formation = FORMATION_PINNED;
    LOG(LOG_INFO, "formation", "all %zu members known: cluster %016llx pinned", replica->identity.members_count,
        (unsigned long long)replica->identity.cluster_id);
    log_submit_identity(replica, false);
}

static bool all_pinned(const struct replica *replica)
{
    for (size_t i = 0; i < replica->identity.members_count; i++) {
        const struct peer *peer = &replica->peers[i];
        bool same = peer->set_hash == replica->identity.cluster_id;
        if (peer->member.id != replica->identity.id && same && peer->formation == FORMATION_FORMED)
            return true; /* it knew that all had pinned */
    }
    for (size_t i = 0; i < replica->identity.members_count; i++) {
        const struct peer *peer = &replica->peers[i];
        if (peer->member.id == replica->identity.id)
            continue;
        bool pinned = peer->formation >= FORMATION_PINNED && peer->set_hash == replica->identity.cluster_id;
        if (!pinned && !MUTANT(73))
            return false;
    }
    return true;
}

void formation_progress(struct replica *replica)
{
    if (replica->identity_saving || replica->formation_writing)
        return;
    if (replica->identity.formation == FORMATION_NEW) {
        pin(replica);
        return; /* goes on when the identity is durable */
    }
    if (!replica->told_pinned) {
        replica->told_pinned = true;
        link_hello_all(replica);
    }
    if (replica->identity.formation == FORMATION_PINNED && all_pinned(replica))
        log_write_formation(replica);
    else if (replica->identity.formation == FORMATION_FORMED && !replica->told_formed) {
        replica->told_formed = true;
        link_hello_all(replica);
    }
}
