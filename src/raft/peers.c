/* raft/peers.c - whom a leader replicates to: the members, and for a while those that are none any more (§6, thesis §4.2.3). */
#include <string.h>

#include "base/mutant.h"
#include "raft/state.h"

/* The place of the first peer whose id is not below `id`. */
static size_t place_of(const struct raft *raft, node_id id)
{
    size_t place = 0;
    while (place < raft->peers_count && raft->peers[place].id < id)
        place++;
    return place;
}

const struct progress *peers_look(const struct raft *raft, node_id id)
{
    size_t place = place_of(raft, id);
    return place < raft->peers_count && raft->peers[place].id == id ? &raft->peers[place] : NULL;
}

struct progress *peers_find(struct raft *raft, node_id id)
{
    const struct progress *peer = peers_look(raft, id);
    return peer != NULL ? &raft->peers[peer - raft->peers] : NULL;
}

static void drop(struct raft *raft, size_t place)
{
    if (raft->epochs_gone < raft->peers[place].epoch)
        raft->epochs_gone = raft->peers[place].epoch;
    raft->peers_count--;
    memmove(&raft->peers[place], &raft->peers[place + 1], (raft->peers_count - place) * sizeof raft->peers[0]);
}

static void add(struct raft *raft, node_id id, raft_index last)
{
    size_t place = place_of(raft, id);
    if (id == raft->options.id || (place < raft->peers_count && raft->peers[place].id == id))
        return;
    CHECK(raft->peers_count < RAFT_MEMBERS_MAX);
    memmove(&raft->peers[place + 1], &raft->peers[place], (raft->peers_count - place) * sizeof raft->peers[0]);
    raft->peers_count++;
    memset(&raft->peers[place], 0, sizeof raft->peers[place]);
    raft->peers[place].epoch =
        MUTANT(219) ? 0 : raft->epochs_gone; /* what an earlier life of it answers is known by that */
    progress_init(&raft->peers[place], id, last, raft->options.window_messages, raft->now);
}

/* All members are peers. What is in the log after `last` is news to those that come in now. */
static void add_members(struct raft *raft, raft_index last)
{
    const struct raft_configuration *now = &raft->configuration;
    for (size_t i = 0; i < now->voters_count; i++)
        add(raft, now->voters[i], last);
    for (size_t i = 0; i < now->old_voters_count; i++)
        add(raft, now->old_voters[i], last);
    for (size_t i = 0; i < now->learners_count; i++)
        add(raft, now->learners[i], last);
}

void peers_begin_term(struct raft *raft)
{
    for (size_t i = raft->peers_count; i > 0; i--) {
        struct progress *peer = &raft->peers[i - 1];
        if (membership_has(&raft->configuration, peer->id))
            progress_init(peer, peer->id, raft->trail.last, raft->options.window_messages, raft->now);
        else
            drop(raft, i - 1);
    }
    add_members(raft, raft->trail.last);
}

void peers_follow_configuration(struct raft *raft)
{
    size_t members = 0;
    for (size_t i = 0; i < raft->peers_count; i++) {
        struct progress *peer = &raft->peers[i];
        const bool stays = membership_has(&raft->configuration, peer->id);
        if (peer->leaving && stays &&
            !MUTANT(302)) /* let in again, perhaps with another directory: nothing is known of it */
            progress_init(peer, peer->id, raft->trail.last - 1, raft->options.window_messages, raft->now);
        peer->leaving = !stays;
        members += raft->peers[i].leaving ? 0 : 1;
    }
    /* The members come first: at the most that many come in, and these have room. */
    const struct raft_configuration *now = &raft->configuration;
    size_t wanted = now->voters_count + now->old_voters_count + now->learners_count;
    for (size_t i = raft->peers_count; i > 0 && raft->peers_count - members + wanted > RAFT_MEMBERS_MAX; i--)
        if (raft->peers[i - 1].leaving)
            drop(raft, i - 1);
    add_members(raft, raft->trail.last - 1);
}

/* --- those that leave ------------------------------------------------------------------------------------------------------- */

/* It is told when its log has the configuration without it, and that is committed. Should it not hear the latter, it asks. */
void peers_drop_told(struct raft *raft, node_id id)
{
    struct progress *peer = peers_find(raft, id);
    raft_index at = raft->configuration.id;
    if (peer != NULL && peer->leaving && at <= raft->commit_index && peer->match_index >= at &&
        peer->commit_sent >= at)
        drop(raft, (size_t)(peer - raft->peers));
}

void peers_drop_silent(struct raft *raft)
{
    if (raft->configuration.id > raft->commit_index)
        return;
    for (size_t i = raft->peers_count; i > 0; i--)
        if (raft->peers[i - 1].leaving &&
            raft->now - raft->peers[i - 1].contact > raft->options.election_timeout_ms)
            drop(raft, i - 1);
}

/* thesis §4.2.3: a server that is no member, and does not know it, asks for votes. Telling it ends that. One whose term is above
 * ours would not listen. */
void peers_asked(struct raft *raft, const struct raft_message *message)
{
    raft_term own = message->request_vote.pre_vote && message->term > 0 ? message->term - 1 : message->term;
    if (MUTANT(223))
        return;
    if (raft->role != RAFT_LEADER || raft->configuration.id > raft->commit_index || own > raft->current_term ||
        membership_has(&raft->configuration, message->from) || peers_find(raft, message->from) != NULL ||
        raft->peers_count == RAFT_MEMBERS_MAX)
        return;
    RAFT_TRACE(raft, "%llu is no member, and asks for votes -> tell it", (unsigned long long)message->from);
    add(raft, message->from, raft->trail.last);
    struct progress *peer = peers_find(raft, message->from);
    peer->leaving = true;
    replication_heartbeat(raft, peer);
}

/* --- those that come -------------------------------------------------------------------------------------------------------- */

bool peers_caught_up(const struct raft *raft, node_id id)
{
    raft_time limit = raft->options.election_timeout_ms;
    const struct progress *peer = peers_look(raft, id);
    if (peer == NULL)
        return id == raft->options.id;
    return peer->caught_up && !peer->leaving && raft->now - peer->contact <= limit &&
           (peer->match_index >= peer->catch_target || raft->now - peer->catch_began < limit);
}
