/* replica/observe.c - what the leader sees of the members becomes entries, for policies to decide by. Private to replica/, see
 * replica/members.h.
 *
 * Only what changed, at most so often, and only where somebody uses it: a policy that is not manual, an invitation, a decision, a learner;
 * and before an operator's request is put. So a group that nobody changes stays idle. A new leader says that it leads, for what
 * is waited for is measured anew.
 */
#include "base/mutant.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { LAG_NEWS = 1024 }; /* entries: less is no news, more is when it has doubled or halved */

static const struct seen *find_seen(const struct observing *all, node_id id)
{
    for (size_t i = 0; i < all->seen_count; i++)
        if (all->seen[i].id == id)
            return &all->seen[i];
    return NULL;
}

/* As this leader sees it now. */
static struct seen look(const struct replica *replica, const struct raft_status *status, node_id id, uint64_t stamp)
{
    struct seen seen = {.id = id, .caught_up = id == replica->identity.id};
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct peer *peer = &replica->peers[i];
        if (peer->member.id != id || id == replica->identity.id)
            continue;
        uint64_t from = peer->heard_at > replica->observing.led_at ? peer->heard_at : replica->observing.led_at;
        uint64_t silent = replica->now.boot_ms - from;
        if (silent > replica->raft_options.election_timeout_ms && !MUTANT(297))
            seen.silent_since_ms = stamp > silent ? stamp - silent : 1;
        seen.parked = peer->parked;
    }
    for (size_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        if (peer->id != id)
            continue;
        seen.lag = status->last_log_index > peer->match_index ? status->last_log_index - peer->match_index : 0;
        seen.caught_up = peer->caught_up;
    }
    return seen;
}

static bool is_news(const struct seen *now, const struct seen *before)
{
    if (before == NULL)
        return true;
    const uint64_t most = now->lag > before->lag ? now->lag : before->lag;
    const uint64_t least = now->lag > before->lag ? before->lag : now->lag;
    return (now->silent_since_ms > 0) != (before->silent_since_ms > 0) || now->caught_up != before->caught_up ||
           now->parked != before->parked || (most > LAG_NEWS && most / 2 >= least);
}

static void pack_seen(struct buffer *out, const struct seen *seen)
{
    pack_array(out, 5);
    pack_u64(out, seen->id);
    pack_u64(out, seen->silent_since_ms);
    pack_u64(out, seen->lag);
    pack_boolean(out, seen->caught_up);
    pack_boolean(out, seen->parked);
}

/* Appends what is news; how many there are. */
static uint32_t pack_news(struct replica *replica, struct buffer *out)
{
    const struct observing *all = &replica->observing;
    const struct members *now = members_now(replica);
    const uint64_t stamp = clock_look(replica);
    struct raft_status status;
    uint32_t count = 0;
    raft_get_status(replica->raft, &status);
    for (size_t i = 0; i < now->count; i++) {
        const struct member *member = &now->list[i];
        const bool voter = (member->roles & MEMBER_VOTER) != 0;
        const struct seen *before = find_seen(all, member->id);
        struct seen seen = look(replica, &status, member->id, stamp);
        if (voter && before != NULL)
            seen.caught_up |= before->caught_up; /* its rounds may not be measured */
        if (!is_news(&seen, before))
            continue;
        pack_seen(out, &seen);
        count++;
    }
    return count;
}

static bool has_learner(const struct members *members)
{
    for (size_t i = 0; i < members->count; i++)
        if (members->list[i].roles & MEMBER_LEARNER)
            return true;
    return false;
}

static bool may_observe(const struct replica *replica)
{
    const struct observing *all = &replica->observing;
    return replica_leads(replica) && !replica_is_parked(replica) && !replica->stopping &&
           members_now(replica) != NULL && raft_term_at(replica->raft, replica->applied) == replica->effects.term &&
           (all->brought_in != replica->effects.term || replica->applied >= all->brought);
}

static void bring(struct replica *replica, bool always)
{
    struct observing *all = &replica->observing;
    struct buffer news = {0};
    struct buffer payload = {0};
    const uint32_t count = pack_news(replica, &news);
    if (count > 0 || always || all->observer != replica->identity.id) {
        pack_array(&payload, 2);
        pack_u64(&payload, replica->identity.id);
        pack_array(&payload, count);
        buffer_append(&payload, news.data, news.size);
        requests_propose_own(replica, ENTRY_OBSERVATION, buffer_slice(&payload));
        all->look_at = replica->now.boot_ms + replica->raft_options.election_timeout_ms / 4;
    }
    buffer_close(&news);
    buffer_close(&payload);
}

void observe_before_request(struct replica *replica)
{
    if (may_observe(replica))
        bring(replica, false);
}

void observe_turn(struct replica *replica)
{
    struct observing *all = &replica->observing;
    const uint64_t now = replica->now.boot_ms;
    if (!replica_leads(replica)) {
        all->led_at = 0;
        return;
    }
    if (all->led_at == 0) {
        all->led_at = now;
        all->look_at = 0;
    }
    if (now < all->look_at || !may_observe(replica))
        return;
    const struct members *members = members_now(replica);
    if (!all->wanted && replica->changing.decision == 0 && !has_learner(members))
        return;
    all->look_at = now + replica->raft_options.heartbeat_ms;
    const uint64_t due = replica->machine.review_due_ms;
    const uint64_t stamp = clock_look(replica);
    const bool pending = replica->changing.decision != 0 || members->id > replica->applied;
    const bool review = due <= stamp && !pending && !MUTANT(290);
    if (due != UINT64_MAX && due > stamp && !pending) {
        const uint64_t at = now + (due - stamp) + 1;
        replica->due_at = at < replica->due_at ? at : replica->due_at;
    }
    bring(replica, review);
    if (all->look_at < replica->due_at && !pending && due <= stamp)
        replica->due_at = all->look_at;
}
