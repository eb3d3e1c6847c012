/* raft/membership.c - who votes: configurations in the log, joint consensus, learners (§6, thesis §4).
 *
 * A configuration is in force from when it is in the log, and no more once it is cut (§6). A change of voters goes through a joint
 * one, in which both sets have to agree, so any set can follow any other.
 */
#include <string.h>

#include "base/memory.h"
#include "base/mutant.h"
#include "raft/state.h"

/* --- majorities ----------------------------------------------------------------------------------------------------------- */

static bool in_list(const node_id *list, size_t count, node_id id)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == id)
            return true;
    return false;
}

bool membership_will_vote(const struct raft_configuration *configuration, node_id id)
{
    return in_list(configuration->voters, configuration->voters_count, id);
}

bool membership_votes(const struct raft_configuration *configuration, node_id id)
{
    return membership_will_vote(configuration, id) ||
           in_list(configuration->old_voters, configuration->old_voters_count, id);
}

bool raft_is_voter(const struct raft *raft)
{
    return membership_votes(&raft->configuration, raft->options.id);
}

bool membership_has(const struct raft_configuration *configuration, node_id id)
{
    return membership_votes(configuration, id) ||
           in_list(configuration->learners, configuration->learners_count, id);
}

/* thesis §4.2.2: one that is no voter any more is still needed until that is committed: it may be the only one that holds the entry,
 * and then the others cannot be elected before it. Its own vote does not count. */
bool membership_may_campaign(const struct raft *raft)
{
    size_t count = raft->configurations_count;
    return raft_is_voter(raft) || (count > 1 && raft->configuration.id > raft->commit_index && !MUTANT(206) &&
                                   membership_votes(&raft->configurations[count - 2], raft->options.id));
}

static uint64_t agreed(const struct raft *raft, const node_id *voters, size_t count, membership_value *value)
{
    uint64_t values[RAFT_MEMBERS_MAX];
    for (size_t i = 0; i < count; i++)
        values[i] = value(raft, MUTANT(224) && i == 0 ? raft->options.id : voters[i]);
    return quorum_value(values, count);
}

static uint64_t agreed_by_old(const struct raft *raft, membership_value *value)
{
    return agreed(raft, raft->configuration.old_voters, raft->configuration.old_voters_count, value);
}

uint64_t membership_agreed(const struct raft *raft, membership_value *value)
{
    const struct raft_configuration *now = &raft->configuration;
    if (MUTANT(208) && now->old_voters_count == 0 && now->learners_count > now->voters_count)
        return agreed(raft, now->learners, now->learners_count, value);
    uint64_t by_new = agreed(raft, now->voters, now->voters_count, value);
    if (now->old_voters_count == 0 || MUTANT(200))
        return by_new;
    uint64_t by_old = agreed_by_old(raft, value); /* §6: separate majorities of both */
    return by_old < by_new || MUTANT(201) ? by_old : by_new;
}

uint32_t membership_priorities_above(const struct raft *raft)
{
    const struct raft_configuration *now = &raft->configuration;
    uint8_t own = 0;
    for (size_t i = 0; i < now->voters_count; i++)
        if (now->voters[i] == raft->options.id)
            own = now->priorities[i];
    uint32_t count = 0;
    for (size_t i = 0; i < now->voters_count; i++) {
        bool seen = now->priorities[i] <= own;
        for (size_t j = 0; j < i; j++)
            seen = seen || now->priorities[j] == now->priorities[i];
        count += seen ? 0 : 1;
    }
    return membership_will_vote(now, raft->options.id) ? count : 0;
}

/* --- what a configuration may be ------------------------------------------------------------------------------------------ */

static bool is_sorted(const node_id *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == 0 || (i > 0 && list[i] <= list[i - 1]))
            return false;
    return true;
}

/* Of a configuration whose lists are no longer than they can be. */
static size_t count_members(const struct raft_configuration *configuration)
{
    size_t count = configuration->voters_count;
    for (size_t i = 0; i < configuration->old_voters_count; i++)
        if (!membership_will_vote(configuration, configuration->old_voters[i]))
            count++;
    for (size_t i = 0; i < configuration->learners_count; i++)
        if (!membership_votes(configuration, configuration->learners[i]))
            count++;
    return count;
}

bool membership_is_sound(const struct raft_configuration *configuration)
{
    if (configuration->voters_count == 0 || configuration->voters_count > RAFT_MEMBERS_MAX ||
        configuration->old_voters_count > RAFT_MEMBERS_MAX || configuration->learners_count > RAFT_MEMBERS_MAX)
        return false;
    if (!is_sorted(configuration->voters, configuration->voters_count) ||
        !is_sorted(configuration->old_voters, configuration->old_voters_count) ||
        !is_sorted(configuration->learners, configuration->learners_count))
        return false;
    for (size_t i = 0; i < configuration->learners_count; i++)
        if (membership_will_vote(configuration, configuration->learners[i]))
            return false;
    for (size_t i = 0; i < configuration->voters_count; i++)
        if (configuration->priorities[i] > RAFT_PRIORITY_MAX)
            return false;
    return count_members(configuration) <= RAFT_MEMBERS_MAX;
}

/* --- the history: the committed configuration, and those after it ---------------------------------------------------------- */

static void put_in_force(struct raft *raft)
{
    size_t count = raft->configurations_count;
    raft->configuration = count > 0 ? raft->configurations[count - 1] : (struct raft_configuration){0};
    if (raft->effects != NULL)
        raft->effects->configuration_changed = true;
    RAFT_TRACE(raft, "configuration %llu: %llu voters, %llu old, %llu learners",
               (unsigned long long)raft->configuration.id, (unsigned long long)raft->configuration.voters_count,
               (unsigned long long)raft->configuration.old_voters_count,
               (unsigned long long)raft->configuration.learners_count);
}

static void push(struct raft *raft, const struct raft_configuration *configuration)
{
    if (raft->configurations_count == raft->configurations_capacity) {
        raft->configurations_capacity = raft->configurations_capacity * 2 + 4;
        raft->configurations =
            mem_realloc(raft->configurations, raft->configurations_capacity * sizeof *raft->configurations);
    }
    raft->configurations[raft->configurations_count++] = *configuration;
}

/* Drops the first `count`. */
static void forget(struct raft *raft, size_t count)
{
    raft->configurations_count -= count;
    if (count > 0 && raft->configurations_count > 0)
        memmove(raft->configurations, raft->configurations + count,
                raft->configurations_count * sizeof *raft->configurations);
}

void raft_restore_configuration(struct raft *raft, const struct raft_configuration *configuration)
{
    CHECK(membership_is_sound(configuration));
    CHECK(raft->configurations_count == 0 || configuration->id > raft->configuration.id);
    if (MUTANT(217) && raft->configurations_count > 0)
        return;
    push(raft, configuration);
    raft->configuration = *configuration;
}

void membership_append(struct raft *raft, const struct raft_configuration *configurations, size_t count,
                       raft_index from)
{
    size_t before = raft->configurations_count;
    for (size_t i = 0; i < count; i++)
        if (configurations[i].id >= from)
            push(raft, &configurations[i]);
    if (raft->configurations_count > before)
        put_in_force(raft);
}

void membership_cut(struct raft *raft, raft_index from)
{
    size_t count = raft->configurations_count;
    while (count > 0 && raft->configurations[count - 1].id >= from)
        count--;
    if (count == raft->configurations_count || MUTANT(202))
        return;
    raft->configurations_count = count;
    put_in_force(raft);
}

static bool is_same_list(const node_id *left, size_t left_count, const node_id *right, size_t right_count)
{
    return left_count == right_count && memcmp(left, right, left_count * sizeof *left) == 0;
}

static bool is_same(const struct raft_configuration *left, const struct raft_configuration *right)
{
    return left->id == right->id &&
           is_same_list(left->voters, left->voters_count, right->voters, right->voters_count) &&
           memcmp(left->priorities, right->priorities, left->voters_count) == 0 &&
           is_same_list(left->old_voters, left->old_voters_count, right->old_voters, right->old_voters_count) &&
           is_same_list(left->learners, left->learners_count, right->learners, right->learners_count);
}

void membership_installed(struct raft *raft, const struct raft_configuration *configuration, raft_index index,
                          bool held)
{
    CHECK(membership_is_sound(configuration));
    CHECK(configuration->id <= index);
    size_t gone = 0;
    while (gone < raft->configurations_count && (raft->configurations[gone].id <= index || !held))
        gone++;
    forget(raft, gone);
    push(raft, configuration);
    size_t count = raft->configurations_count;
    memmove(raft->configurations + 1, raft->configurations, (count - 1) * sizeof *raft->configurations);
    raft->configurations[0] = *configuration;
    /* The id alone says nothing: it is an index, and the entry there may have been another. */
    if (!is_same(&raft->configuration, &raft->configurations[count - 1]) && !MUTANT(216))
        put_in_force(raft);
}

void membership_commit_moved(struct raft *raft)
{
    size_t gone = 0;
    while (gone + 1 < raft->configurations_count && raft->configurations[gone + 1].id <= raft->commit_index)
        gone++;
    forget(raft, gone);
}

void raft_get_configuration(const struct raft *raft, struct raft_configuration *configuration)
{
    *configuration = raft->configuration;
}

/* --- the leader: changes ---------------------------------------------------------------------------------------------------- */

static bool is_joint(const struct raft *raft)
{
    return raft->configuration.old_voters_count > 0;
}

static bool is_committed(const struct raft *raft)
{
    return raft->configuration.id <= raft->commit_index;
}

static void append(struct raft *raft, const struct raft_configuration *configuration)
{
    struct raft_configuration next = *configuration;
    trail_append(&raft->trail, 1, raft->current_term);
    next.id = raft->trail.last;
    raft_write_entries(raft, RAFT_APPEND_CONFIGURATION, next.id, next.id, raft->current_term);
    push(raft, &next);
    put_in_force(raft); /* §6: as soon as it is in the log */
    peers_follow_configuration(raft);
    replication_send_all(raft);
    read_acknowledged(raft); /* fewer may have to confirm it now, or nobody */
}

static bool has_new_voter_behind(const struct raft *raft, const struct raft_configuration *wanted)
{
    for (size_t i = 0; i < wanted->voters_count; i++)
        if (!membership_votes(&raft->configuration, wanted->voters[i]) && !peers_caught_up(raft, wanted->voters[i]))
            return true;
    return false;
}

static enum raft_change why_no_change(const struct raft *raft, const struct raft_configuration *wanted,
                                      uint64_t expected_id)
{
    if (raft->role != RAFT_LEADER)
        return RAFT_CHANGE_NOT_LEADER;
    if (raft->commit_index < raft->term_start && !MUTANT(203))
        return RAFT_CHANGE_TOO_EARLY;
    if ((is_joint(raft) || !is_committed(raft)) && !MUTANT(204))
        return RAFT_CHANGE_PENDING;
    if (raft->transfer_to != 0)
        return RAFT_CHANGE_TRANSFERRING;
    if (raft->configuration.id != expected_id && !MUTANT(222))
        return RAFT_CHANGE_STALE;
    if (wanted->voters_count == 0)
        return RAFT_CHANGE_NO_VOTERS;
    if (wanted->voters_count > RAFT_MEMBERS_MAX || wanted->learners_count > RAFT_MEMBERS_MAX)
        return RAFT_CHANGE_TOO_MANY;
    return RAFT_CHANGE_TAKEN;
}

enum raft_change membership_change(struct raft *raft, const struct raft_configuration *wanted, uint64_t expected_id,
                                   bool force)
{
    const struct raft_configuration *now = &raft->configuration;
    enum raft_change answer = why_no_change(raft, wanted, expected_id);
    if (answer != RAFT_CHANGE_TAKEN)
        return answer;
    struct raft_configuration next = *wanted;
    next.old_voters_count = 0;
    if (count_members(&next) <= RAFT_MEMBERS_MAX && !membership_is_sound(&next))
        return RAFT_CHANGE_UNSOUND;
    if (!is_same_list(next.voters, next.voters_count, now->voters, now->voters_count)) {
        next.old_voters_count = now->voters_count;
        memcpy(next.old_voters, now->voters, sizeof next.old_voters);
    }
    if (count_members(&next) > RAFT_MEMBERS_MAX)
        return RAFT_CHANGE_TOO_MANY;
    if (!force && has_new_voter_behind(raft, &next) && !MUTANT(221))
        return RAFT_CHANGE_BEHIND;
    append(raft, &next);
    return RAFT_CHANGE_TAKEN;
}

void membership_committed(struct raft *raft)
{
    if (!is_committed(raft) && !(MUTANT(205) && is_joint(raft)))
        return;
    if (MUTANT(218) && is_joint(raft) && raft->configuration.id < raft->term_start)
        return;
    if (is_joint(raft)) {
        if (raft->transfer_to != 0)
            return; /* whoever takes over would lack the entry; it appends its own, or this leader does when that has failed */
        struct raft_configuration next = raft->configuration; /* §6: C_new */
        next.old_voters_count = 0;
        append(raft, &next);
    } else if (!raft_is_voter(raft) && raft->transfer_to == 0 && !MUTANT(209)) {
        RAFT_TRACE(raft, "votes no more in configuration %llu", (unsigned long long)raft->configuration.id);
        transfer_begin(raft, 0); /* thesis §4.2.2: leads no longer than until it is committed */
    }
}

/* Nobody can have left the joint configuration for the new one: whoever does must have committed it first, and only this leader
 * could have, in its term. From now on it needs the old voters alone, and so does whoever is elected without the joint entry;
 * whoever is elected with it needs a majority of the old ones, too. */
static bool may_abort(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && is_joint(raft) && !is_committed(raft) && raft->configurations_count > 1 &&
           (trail_term(&raft->trail, raft->configuration.id) == raft->current_term || MUTANT(207));
}

enum raft_change membership_abort(struct raft *raft)
{
    if (raft->role != RAFT_LEADER)
        return RAFT_CHANGE_NOT_LEADER;
    if (!may_abort(raft))
        return RAFT_CHANGE_NO_ABORT;
    RAFT_TRACE(raft, "gives up the change to configuration %llu", (unsigned long long)raft->configuration.id);
    struct raft_configuration old = raft->configurations[raft->configurations_count - 2];
    append(raft, &old);
    return RAFT_CHANGE_TAKEN;
}

bool membership_abort_without(struct raft *raft, membership_value *value, uint64_t least)
{
    if (!may_abort(raft) || agreed_by_old(raft, value) < least)
        return false;
    return membership_abort(raft) == RAFT_CHANGE_TAKEN;
}
