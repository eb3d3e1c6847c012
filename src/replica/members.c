/* replica/members.c - see replica/members.h. */
#include "replica/members.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

enum { STRANGERS_MAX = REPLICA_PEERS_MAX - 3 * RAFT_MEMBERS_MAX, LOOK_MS = 500, ALONE_ELECTIONS = 10 };

/* --- the configurations ------------------------------------------------------------------------------------------------ */

const struct members *members_now(const struct replica *replica)
{
    const struct membering *all = &replica->membering;
    return all->count > 0 ? all->list[all->count - 1] : NULL;
}

const struct members *members_committed(const struct replica *replica)
{
    return replica->membering.count > 0 ? replica->membering.list[0] : NULL;
}

/* Whether it is this very directory that is a member, and not another one with its id. */
static bool has_self(const struct replica *replica, const struct members *members)
{
    const struct member *self = members != NULL ? members_find(members, replica->identity.id) : NULL;
    return self != NULL && self->incarnation == replica->identity.incarnation;
}

bool members_has_self(const struct replica *replica)
{
    return has_self(replica, members_now(replica));
}

static void push(struct replica *replica, raft_index id, struct slice payload)
{
    struct membering *all = &replica->membering;
    struct members *members = mem_zalloc(1, sizeof *members);
    if (members_unpack(payload, members) != STATUS_OK) {
        mem_free(members);
        all->unreadable = true;
        return;
    }
    members->id = id;
    if (all->count == all->capacity) {
        all->capacity = all->capacity * 2 + 4;
        all->list = mem_realloc(all->list, all->capacity * sizeof *all->list);
    }
    all->list[all->count++] = members;
    all->ever |= has_self(replica, members);
}

/* Drops the first `count`. */
static void forget(struct replica *replica, size_t count)
{
    struct membering *all = &replica->membering;
    for (size_t i = 0; i < count; i++)
        mem_free(all->list[i]);
    all->count -= count;
    if (count > 0 && all->count > 0)
        memmove(all->list, all->list + count, all->count * sizeof *all->list);
}

void members_begin(struct replica *replica, raft_index id, struct slice payload)
{
    if (payload.size > 0)
        push(replica, id, payload);
}

void members_note(struct replica *replica, const struct entry *entry)
{
    if (entry->kind == ENTRY_CONFIGURATION)
        push(replica, entry->index, entry->payload);
}

void members_cut(struct replica *replica, raft_index from)
{
    struct membering *all = &replica->membering;
    while (all->count > 0 && all->list[all->count - 1]->id >= from && !MUTANT(293))
        mem_free(all->list[--all->count]);
}

void members_installed(struct replica *replica, raft_index index, raft_index id, struct slice payload, bool reset)
{
    struct membering *all = &replica->membering;
    size_t gone = 0;
    while (gone < all->count && (all->list[gone]->id <= index || reset) && !MUTANT(294))
        gone++;
    forget(replica, gone);
    push(replica, id, payload);
    struct members *first = all->list[all->count - 1];
    memmove(all->list + 1, all->list, (all->count - 1) * sizeof *all->list);
    all->list[0] = first;
}

void members_restore_raft(struct replica *replica)
{
    struct raft_configuration configuration;
    for (size_t i = 0; i < replica->membering.count; i++) {
        members_to_raft(replica->membering.list[i], &configuration);
        raft_restore_configuration(replica->raft, &configuration);
    }
}

bool members_collect(struct replica *replica, const struct entry *entry, size_t *count)
{
    struct membering *all = &replica->membering;
    if (entry->kind != ENTRY_CONFIGURATION)
        return true;
    struct members *members = mem_zalloc(1, sizeof *members);
    bool good = members_unpack(entry->payload, members) == STATUS_OK;
    members->id = entry->index;
    if (good && *count == all->configurations_capacity) {
        all->configurations_capacity = all->configurations_capacity * 2 + 4;
        all->configurations =
            mem_realloc(all->configurations, all->configurations_capacity * sizeof *all->configurations);
    }
    if (good)
        members_to_raft(members, &all->configurations[(*count)++]);
    mem_free(members);
    return good;
}

/* --- what the core appends ------------------------------------------------------------------------------------------------ */

static bool in_list(const node_id *list, size_t count, node_id id)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == id)
            return true;
    return false;
}

static uint8_t roles_in(const struct raft_configuration *configuration, node_id id)
{
    uint8_t roles = 0;
    if (in_list(configuration->voters, configuration->voters_count, id))
        roles |= MEMBER_VOTER;
    if (in_list(configuration->old_voters, configuration->old_voters_count, id))
        roles |= MEMBER_OLD_VOTER;
    if (in_list(configuration->learners, configuration->learners_count, id))
        roles |= MEMBER_LEARNER;
    return roles;
}

/* Adds those of `from` that the configuration has, and that are not there yet; sorted by id. */
static void take_members(struct members *to, const struct members *from,
                         const struct raft_configuration *configuration)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct member *member = &from->list[i];
        uint8_t roles = roles_in(configuration, member->id);
        if (roles == 0 || members_find(to, member->id) != NULL)
            continue;
        size_t at = to->count++;
        for (; at > 0 && to->list[at - 1].id > member->id; at--)
            to->list[at] = to->list[at - 1];
        to->list[at] = *member;
        to->list[at].roles = roles;
    }
}

static bool same_voters(const struct raft_configuration *left, const struct raft_configuration *right)
{
    return left->voters_count == right->voters_count &&
           memcmp(left->voters, right->voters, left->voters_count * sizeof left->voters[0]) == 0;
}

/* The core knows who; who they are is in what was decided, or in the configurations before: in the joint one that ends, or in
 * the one before it, if the change is given up. */
void members_compose(struct replica *replica, raft_index id, struct buffer *payload)
{
    const struct membering *all = &replica->membering;
    struct raft_configuration next;
    struct raft_configuration now;
    struct members *members = mem_zalloc(1, sizeof *members);
    raft_get_configuration(replica->raft, &next);
    CHECK_EQ(next.id, id);
    CHECK(all->count > 0);
    members_to_raft(all->list[all->count - 1], &now);
    if (replica->changing.asked != NULL && !MUTANT(295))
        take_members(members, replica->changing.asked, &next);
    else if (!same_voters(&now, &next) && all->count > 1)
        take_members(members, all->list[all->count - 2], &next);
    take_members(members, all->list[all->count - 1], &next);
    members_pack(members, payload);
    mem_free(members);
}

/* --- peers ---------------------------------------------------------------------------------------------------------------- */

bool members_votes(const struct peer *peer)
{
    return (peer->roles & (MEMBER_VOTER | MEMBER_OLD_VOTER)) != 0;
}

static bool majority_of(const struct replica *replica, uint8_t role, const bool *counts)
{
    size_t voters = 0;
    size_t votes = 0;
    for (size_t i = 0; i < replica->peers_count; i++) {
        if ((replica->peers[i].roles & role) == 0)
            continue;
        voters++;
        votes += counts[i];
    }
    return voters == 0 ? role == MEMBER_OLD_VOTER : votes * 2 > voters;
}

bool members_majority(const struct replica *replica, const bool *counts)
{
    return majority_of(replica, MEMBER_VOTER, counts) && majority_of(replica, MEMBER_OLD_VOTER, counts);
}

/* NULL: there is no room. */
static struct peer *add_peer(struct replica *replica, const struct identity_member *member)
{
    size_t at = 0;
    while (at < replica->peers_count && replica->peers[at].member.id != 0)
        at++;
    if (at == REPLICA_PEERS_MAX)
        return NULL;
    replica->peers_count = at < replica->peers_count ? replica->peers_count : at + 1;
    replica->peers[at] = (struct peer){.member = *member, .heard_at = replica->now.boot_ms};
    return &replica->peers[at];
}

/* Links of an earlier directory of that id are not its. */
static void close_links(struct replica *replica, struct peer *peer)
{
    for (struct link *link = replica->links; link != NULL; link = link->next) {
        if (link->peer != peer->member.id || link->closing)
            continue;
        link->closing = true;
        replica->env.close(replica->env.context, link);
    }
}

static void follow_member(struct replica *replica, const struct member *member)
{
    struct identity_member one = {.id = member->id, .incarnation = member->incarnation};
    memcpy(one.address, member->address, sizeof one.address);
    struct peer *peer = replica_peer(replica, member->id);
    if (peer == NULL)
        peer = add_peer(replica, &one);
    CHECK(peer != NULL); /* those that are no members go first: members_follow */
    if (peer->member.incarnation != one.incarnation && peer->member.incarnation != 0 &&
        member->id != replica->identity.id)
        close_links(replica, peer);
    peer->member = one;
    peer->stranger = false;
}

/* Whose members are peers: the first one, and the last two. Of those that a restart finds between, nobody need be known: whoever leads
 * is in the newest, or says so. */
static bool is_followed(const struct membering *all, size_t place)
{
    return place == 0 || place + 2 >= all->count;
}

static const struct member *find_listed(const struct replica *replica, node_id id)
{
    const struct membering *all = &replica->membering;
    for (size_t i = all->count; i > 0; i--) {
        const struct member *member = is_followed(all, i - 1) ? members_find(all->list[i - 1], id) : NULL;
        if (member != NULL)
            return member;
    }
    return NULL;
}

static bool has_link(const struct replica *replica, node_id id, bool incoming)
{
    for (const struct link *link = replica->links; link != NULL; link = link->next)
        if (link->peer == id && (!incoming || (!link->outgoing && link->agreed && !link->closing)))
            return true;
    return false;
}

static bool is_told(const struct raft_status *status, node_id id)
{
    for (size_t i = 0; i < status->peers_count; i++)
        if (status->peers[i].id == id)
            return true;
    return false;
}

/* Whether a link to it is of use: it is a member, or speaks to this node, or is told by this leader that it is none any more. Who is not in a
 * configuration that it knows of has nothing to say yet: only whoever speaks to it is answered, unless nobody does for long. */
static bool is_wanted(const struct replica *replica, const struct peer *peer, const struct raft_status *status)
{
    const uint64_t alone = replica->now.boot_ms - replica->membering.alone_since;
    const bool may_ask = !replica->identity.joined || replica->membering.ever ||
                         alone > ALONE_ELECTIONS * (uint64_t)replica->raft_options.election_timeout_ms;
    if (replica->raft == NULL || (find_listed(replica, peer->member.id) != NULL && may_ask))
        return true;
    return has_link(replica, peer->member.id, true) || is_told(status, peer->member.id);
}

static void look_at_peers(struct replica *replica)
{
    struct membering *all = &replica->membering;
    struct raft_status status = {0};
    if (replica->raft != NULL)
        raft_get_status(replica->raft, &status);
    all->look_at = replica->now.boot_ms + LOOK_MS;
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        if (peer->member.id == 0 || peer->member.id == replica->identity.id)
            continue;
        const struct member *listed = find_listed(replica, peer->member.id);
        if (listed != NULL && peer->stranger && !has_link(replica, peer->member.id, true))
            follow_member(replica, listed); /* nobody stands by what was said in its name */
        const bool wanted = is_wanted(replica, peer, &status);
        if (wanted != peer->dialled)
            all->version++;
        peer->dialled = wanted;
        if (wanted || listed != NULL || peer->reading || peer->send.reading != 0)
            continue;
        if (has_link(replica, peer->member.id, false))
            close_links(replica, peer);
        else if (!peer->send.dialling)
            *peer = (struct peer){0};
    }
}

void members_follow(struct replica *replica)
{
    struct membering *all = &replica->membering;
    const struct members *now = members_now(replica);
    if (all->count > 1 && all->list[1]->id <= replica->effects.commit_index) {
        size_t gone = 0;
        while (gone + 1 < all->count && all->list[gone + 1]->id <= replica->effects.commit_index)
            gone++;
        forget(replica, gone);
    }
    if (replica->effects.configuration_changed && now != NULL)
        members_sync(replica);
    for (size_t i = 0; now == NULL && i < replica->peers_count; i++)
        replica->peers[i].roles = 0;
}

void members_sync(struct replica *replica)
{
    struct membering *all = &replica->membering;
    const struct members *now = members_now(replica);
    CHECK_EQ(now->id, replica->effects.configuration_id);
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        const struct member *member = members_find(now, peer->member.id);
        peer->roles = member != NULL ? member->roles : 0;
    }
    look_at_peers(replica);
    for (size_t i = 0; i < all->count; i++)
        for (size_t m = 0; m < all->list[i]->count && is_followed(all, i); m++)
            follow_member(replica, &all->list[i]->list[m]);
    for (size_t m = 0; m < now->count; m++)
        replica_peer(replica, now->list[m].id)->roles = now->list[m].roles;
    look_at_peers(replica);
    all->version++;
    replica->route_again = true;
    LOG(LOG_INFO, "members", "configuration %llu is in force: %zu members", (unsigned long long)now->id,
        now->count);
}

static size_t count_strangers(const struct replica *replica)
{
    size_t count = 0;
    for (size_t i = 0; i < replica->peers_count; i++)
        count += replica->peers[i].stranger;
    return count;
}

struct peer *members_adopt(struct replica *replica, const struct message_hello *hello)
{
    struct identity_member one = {.id = hello->from, .incarnation = hello->incarnation};
    struct peer *peer = replica_peer(replica, hello->from);
    if (hello->address.size == 0 || hello->address.size >= sizeof one.address ||
        (peer == NULL && count_strangers(replica) >= STRANGERS_MAX))
        return NULL;
    memcpy(one.address, hello->address.data, hello->address.size);
    if (peer == NULL)
        peer = add_peer(replica, &one);
    if (peer == NULL)
        return NULL;
    peer->member = one;
    peer->stranger = true;
    peer->dialled = true;
    replica->membering.version++;
    return peer;
}

bool members_was_removed(const struct replica *replica, const struct message_hello *hello)
{
    const struct members *committed = members_committed(replica);
    if (replica->effects.leader == 0) /* what it knows may be old */
        return false;
    if (committed == NULL || hello->cluster_id != replica->identity.cluster_id || hello->incarnation == 0 ||
        hello->from == replica->identity.id || hello->to != replica->identity.id ||
        committed->id > replica->effects.commit_index || hello->configuration > committed->id)
        return false;
    for (size_t i = 0; i < replica->membering.count; i++) {
        const struct member *member = members_find(replica->membering.list[i], hello->from);
        if (member != NULL && member->incarnation == hello->incarnation)
            return false;
    }
    return true;
}

bool members_may_end(const struct replica *replica)
{
    return !replica->identity.joined || replica->membering.ever;
}

/* --- the turn ------------------------------------------------------------------------------------------------------------- */

/* This node is in no configuration any more, that is committed, and nothing that is says otherwise: it may have been let in again. */
static bool is_removed(const struct replica *replica)
{
    const struct members *now = members_now(replica);
    return now != NULL && replica->membering.ever && !members_has_self(replica) &&
           now->id <= replica->effects.commit_index && !replica_leads(replica) &&
           replica->membering.told_commit <= replica->last_index && !MUTANT(291);
}

/* What it has said, and answered, goes out first; and whoever is to lead hears that it shall. */
static bool may_leave(const struct replica *replica)
{
    const uint64_t since = replica->now.boot_ms - replica->membering.removed_at;
    const bool led_on = replica->effects.leader != 0 && replica->effects.leader != replica->identity.id;
    return since > replica->raft_options.election_timeout_ms ||
           (led_on && since >= replica->raft_options.heartbeat_ms && replica->requests_count == 0);
}

void members_turn(struct replica *replica)
{
    struct membering *all = &replica->membering;
    char why[256];
    if (replica->effects.leader != 0)
        all->alone_since = replica->now.boot_ms;
    if (!is_removed(replica))
        all->removed_at = 0;
    else if (all->removed_at == 0)
        all->removed_at = replica->now.boot_ms;
    if (all->removed_at != 0 && may_leave(replica)) {
        snprintf(
            why, sizeof why,
            "this node was removed from the cluster by the configuration at entry %llu; to have it back, set its "
            "data directory aside and let it join anew",
            (unsigned long long)members_now(replica)->id);
        replica->env.fatal(replica->env.context, 78, why);
        return;
    }
    if (replica->now.boot_ms >= all->look_at)
        look_at_peers(replica);
}

void members_free(struct replica *replica)
{
    struct membering *all = &replica->membering;
    forget(replica, all->count);
    mem_free(all->list);
    mem_free(all->configurations);
    mem_free(replica->changing.goal);
}
