/* machine/membership.c - entries that concern membership: configurations, requests, observations. See machine/membership.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/membership_private.h"
#include "wire/pack.h"

struct membership *membership_new(void)
{
    return mem_zalloc(1, sizeof(struct membership));
}

void membership_free(struct membership *membership)
{
    mem_free(membership);
}

void membership_load(struct machine *machine)
{
    struct members *members = &machine->membership->members;
    if (members_unpack(buffer_slice(&machine->configuration), members) != STATUS_OK)
        members->count = 0; /* a state that is of no cluster yet */
    members->id = machine->configuration_index;
    membership_load_policy(machine);
    machine->membership->version++;
}

bool membership_pending(const struct machine *machine)
{
    struct slice value;
    return members_joint(&machine->membership->members) || membership_get(machine, "decision", &value);
}

/* --- decisions ----------------------------------------------------------------------------------------------------------- */

bool membership_decide(struct machine *machine, const struct entry *entry, const struct changes *changes,
                       struct slice by, struct slice why, bool force, struct refusal *refusal)
{
    struct membership *membership = machine->membership;
    struct members *target = mem_zalloc(1, sizeof *target);
    struct member_facts facts[RAFT_MEMBERS_MAX];
    struct buffer packed = {0};
    struct buffer members = {0};
    membership_all_facts(machine, facts);
    bool good = changes_make(changes, &membership->members, facts, force, target, refusal);
    if (good) {
        changes_pack(changes, &packed);
        if (changes->list[0].op != CHANGE_TRANSFER)
            members_pack(target, &members);
        const struct decision decision = {.index = entry->index,
                                          .configuration = membership->members.id,
                                          .force = force,
                                          .by = by,
                                          .why = why,
                                          .changes = buffer_slice(&packed),
                                          .members = buffer_slice(&members)};
        membership_set_aside(machine);
        membership_put_decision(machine, &decision);
        LOG(LOG_INFO, "machine", "members: %s of node %llu, decided by %.*s at entry %llu: %.*s",
            change_op_name(changes->list[0].op), (unsigned long long)changes->list[0].id, (int)by.size,
            (const char *)by.data, (unsigned long long)entry->index, (int)why.size, (const char *)why.data);
    }
    buffer_close(&packed);
    buffer_close(&members);
    mem_free(target);
    return good;
}

/* --- invitations ------------------------------------------------------------------------------------------------------ */

/* `old` may have it: its place is what is taken. */
static bool address_is_free(const struct machine *machine, node_id id, node_id old, const char *address,
                            struct refusal *refusal)
{
    const struct members *members = &machine->membership->members;
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    size_t count = membership_invited(machine, list);
    for (size_t i = 0; i < members->count; i++)
        if (members->list[i].id != id && members->list[i].id != old &&
            strcmp(members->list[i].address, address) == 0)
            return refuse_change(refusal, ERROR_EXISTS, "%s is the address of node %llu", address,
                                 (unsigned long long)members->list[i].id);
    for (size_t i = 0; i < count; i++)
        if (list[i].id != id && strcmp(list[i].address, address) == 0)
            return refuse_change(refusal, ERROR_EXISTS, "node %llu was invited to join at %s",
                                 (unsigned long long)list[i].id, address);
    return true;
}

bool membership_invite_at(struct machine *machine, node_id id, const char *address, node_id replaces,
                          struct slice why, struct refusal *refusal)
{
    struct invitation invitation = {.id = id, .replaces = replaces};
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    struct invitation before;
    bool known = membership_invitation(machine, id, &before);
    if (address[0] == 0)
        return refuse_change(refusal, ERROR_BAD_ARGS, "node %llu is no member, and can join if its address is said",
                             (unsigned long long)id);
    if (!address_is_free(machine, id, replaces, address, refusal))
        return false;
    if (!known && membership_invited(machine, list) == MEMBERSHIP_INVITED_MAX)
        return refuse_change(refusal, ERROR_CONFLICT,
                             "%d nodes were invited and have not joined; remove one of those first",
                             MEMBERSHIP_INVITED_MAX);
    snprintf(invitation.address, sizeof invitation.address, "%s", address);
    if (why.size > 0 && why.size < sizeof invitation.why)
        memcpy(invitation.why, why.data, why.size);
    membership_invite(machine, &invitation);
    return true;
}

/* --- configurations --------------------------------------------------------------------------------------------------- */

/* Whether these are the members, packed, of what was decided or what a joint configuration leads to. */
static bool are_members(const struct members *members, struct slice packed)
{
    struct buffer bytes = {0};
    struct members after;
    members_without_old(members, &after);
    members_pack(&after, &bytes);
    bool same = slice_equal(buffer_slice(&bytes), packed);
    buffer_close(&bytes);
    return same;
}

/* The next configuration came while a decision waited: it is what was decided, or the decision is over. Then it may be one that was
 * set aside when the leader had begun with it. */
static void settle_decision(struct machine *machine, const struct decision *decision, const struct members *next)
{
    const char *done = members_joint(next) ? NULL : "";
    raft_index index = decision->index;
    if (decision->members.size > 0 && are_members(next, decision->members)) {
        membership_end_decision(machine, next->id, done);
    } else {
        struct buffer packed = {0};
        struct members after;
        members_without_old(next, &after);
        members_pack(&after, &packed);
        membership_end_decision(machine, 0, "another configuration came first");
        index = membership_find_aside(machine, buffer_slice(&packed));
        if (index > 0)
            membership_note_done(machine, index, next->id, done);
        buffer_close(&packed);
    }
    if (index > 0 && done == NULL)
        membership_set_number(machine, "doing", index);
}

/* What follows a joint configuration: the same without the old voters, or it was given up. */
static void settle_joint(struct machine *machine, raft_index index, const struct members *next)
{
    struct buffer packed = {0};
    struct members after;
    members_without_old(&machine->membership->members, &after);
    members_pack(&after, &packed);
    bool reached = are_members(next, buffer_slice(&packed));
    membership_note_done(machine, index, next->id,
                         reached ? "" : "the new voters did not answer, and it was undone");
    membership_drop(machine, "doing");
    buffer_close(&packed);
}

static void settle(struct machine *machine, const struct members *next)
{
    struct decision decision;
    uint64_t doing = membership_number(machine, "doing");
    if (doing > 0)
        settle_joint(machine, doing, next);
    if (membership_decision(machine, &decision))
        settle_decision(machine, &decision, next);
    membership_drop_all(machine, "aside");
}

/* Whose place was to be taken is gone, and who was to take it has joined. */
static void drop_settled(struct machine *machine)
{
    const struct members *members = &machine->membership->members;
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    const size_t count = membership_invited(machine, list);
    for (size_t i = 0; i < count; i++)
        if (list[i].replaces != 0 && members_find(members, list[i].replaces) == NULL &&
            members_find(members, list[i].id) != NULL)
            (void)membership_drop_at(machine, "invited", list[i].id);
}

/* Facts are of members alone. */
static void settle_facts(struct machine *machine, const struct members *before, struct membership_events *events)
{
    const struct members *next = &machine->membership->members;
    struct invitation invitation;
    for (size_t i = 0; i < before->count; i++)
        if (members_find(next, before->list[i].id) == NULL)
            (void)membership_drop_at(machine, "facts", before->list[i].id);
    for (size_t i = 0; i < next->count; i++) {
        const struct member *member = &next->list[i];
        if (members_find(before, member->id) != NULL)
            continue;
        if (before->count > 0) { /* else: those that formed the cluster, of whom nothing is known but good */
            const struct member_facts facts = {.id = member->id};
            membership_put_facts(machine, &facts);
            membership_event(machine, events, "joined", member->id, NULL, slice_make(NULL, 0));
        }
        if (membership_invitation(machine, member->id, &invitation) && invitation.replaces == 0)
            (void)membership_drop_at(machine, "invited", member->id);
    }
    drop_settled(machine);
}

void membership_configure(struct machine *machine, const struct entry *entry, bool skipped)
{
    struct membership_events events = {0};
    struct membership *membership = machine->membership;
    struct members *next = mem_zalloc(1, sizeof *next);
    static const char *const of_a_cluster[] = {"aside", "decision", "doing", "facts", "invited", "leader"};
    if (members_unpack(entry->payload, next) != STATUS_OK)
        next->count = 0;
    next->id = entry->index;
    if (machine->configuration_index == 0) { /* a cluster begins: what is said of another one's nodes is void */
        for (size_t i = 0; i < sizeof of_a_cluster / sizeof of_a_cluster[0]; i++)
            membership_drop_all(machine, of_a_cluster[i]);
        membership->members.count = 0;
    }
    settle(machine, next);
    struct members *before = mem_alloc(sizeof *before);
    *before = membership->members;
    membership->members = *next;
    settle_facts(machine, before, &events);
    membership->version++;
    membership_set_due(machine, machine->now_ms);
    if (events.count > 0)
        membership_ask_policy(machine, entry, &events, false, skipped);
    buffer_close(&events.list);
    mem_free(before);
    mem_free(next);
}

/* --- observations ----------------------------------------------------------------------------------------------------- */

/* Takes what is said of one member. False: it makes no sense. */
static bool observe_one(struct machine *machine, struct pack_reader *reader, struct membership_events *events)
{
    const struct slice nobody = slice_make(NULL, 0);
    struct member_facts said = {0};
    uint32_t fields = 0;
    if (pack_read_array(reader, &fields) != STATUS_OK || fields != 5 ||
        pack_read_u64(reader, &said.id) != STATUS_OK || pack_read_u64(reader, &said.silent_since_ms) != STATUS_OK ||
        pack_read_u64(reader, &said.lag) != STATUS_OK || pack_read_boolean(reader, &said.caught_up) != STATUS_OK ||
        pack_read_boolean(reader, &said.parked) != STATUS_OK)
        return false;
    if (members_find(&machine->membership->members, said.id) == NULL)
        return true; /* it was removed meanwhile */
    const struct member_facts before = membership_facts(machine, said.id);
    if (said.silent_since_ms > machine->now_ms)
        said.silent_since_ms = machine->now_ms;
    if (said.silent_since_ms > 0 && before.silent_since_ms > 0 && before.silent_since_ms < said.silent_since_ms)
        said.silent_since_ms = before.silent_since_ms;
    bool steady = said.silent_since_ms == 0 && said.caught_up && !said.parked;
    said.steady_since_ms = !steady ? 0 : before.steady_since_ms > 0 ? before.steady_since_ms : machine->now_ms;
    membership_put_facts(machine, &said);
    if ((said.silent_since_ms > 0) != (before.silent_since_ms > 0))
        membership_event(machine, events, said.silent_since_ms > 0 ? "silent" : "back", said.id, NULL, nobody);
    if (said.caught_up && !before.caught_up)
        membership_event(machine, events, "caught_up", said.id, NULL, nobody);
    if (said.parked && !before.parked)
        membership_event(machine, events, "parked", said.id, NULL, nobody);
    return true;
}

static void take_leader(struct machine *machine, uint64_t leader)
{
    struct slice value;
    uint64_t to = 0;
    uint64_t index = 0;
    if (membership_number(machine, "leader") != leader)
        membership_set_number(machine, "leader", leader);
    if (!membership_get(machine, "handing", &value))
        return;
    struct pack_reader reader = pack_reader_make(value);
    uint32_t fields = 0;
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == 2);
    CHECK(pack_read_u64(&reader, &index) == STATUS_OK && pack_read_u64(&reader, &to) == STATUS_OK);
    membership_note_done(machine, index, 0, to == leader ? "" : "another node became leader");
    membership_drop(machine, "handing");
}

static const char replaced_why[] = "an operator asked for it, and the new node has caught up";

/* A node that was to replace another has joined and caught up. */
static void replace_invited(struct machine *machine, const struct entry *entry)
{
    const struct members *members = &machine->membership->members;
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    size_t count = membership_invited(machine, list);
    for (size_t i = 0; i < count; i++) {
        const struct invitation *one = &list[i];
        const struct member *joined = members_find(members, one->id);
        if (one->replaces == 0 || joined == NULL)
            continue;
        if (members_find(members, one->replaces) == NULL || joined->roles != MEMBER_LEARNER) {
            (void)membership_drop_at(machine, "invited", one->id);
            continue;
        }
        struct member_facts facts = membership_facts(machine, one->id);
        struct changes *changes = mem_zalloc(1, sizeof *changes);
        struct refusal refusal;
        changes->count = 1;
        changes->list[0] = (struct change){.op = CHANGE_REPLACE, .id = one->replaces, .with = one->id};
        bool decided =
            facts.caught_up && facts.silent_since_ms == 0 &&
            membership_decide(machine, entry, changes, slice_text("operator"),
                              one->why[0] != 0 ? slice_text(one->why) : slice_text(replaced_why), false, &refusal);
        mem_free(changes);
        if (decided)
            return;
    }
}

void membership_observe(struct machine *machine, const struct entry *entry, bool skipped)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    struct membership_events events = {0};
    uint32_t parts = 0;
    uint32_t count = 0;
    uint64_t leader = 0;
    if (pack_read_array(&reader, &parts) != STATUS_OK || parts != 2 ||
        pack_read_u64(&reader, &leader) != STATUS_OK || pack_read_array(&reader, &count) != STATUS_OK)
        return;
    take_leader(machine, leader);
    for (uint32_t i = 0; i < count && observe_one(machine, &reader, &events); i++)
        continue;
    if (!membership_pending(machine))
        replace_invited(machine, entry);
    membership_ask_policy(machine, entry, &events, true, skipped);
    buffer_close(&events.list);
}

void membership_new_term(struct machine *machine)
{
    struct decision decision;
    struct buffer value = {0};
    struct changes *changes = NULL;
    struct refusal unsaid;
    if (!membership_decision(machine, &decision) || decision.members.size > 0)
        return;
    changes = mem_alloc(sizeof *changes);
    struct pack_reader reader = pack_reader_make(decision.changes);
    CHECK(changes_read(&reader, changes, &unsaid));
    pack_array(&value, 2);
    pack_u64(&value, decision.index);
    pack_u64(&value, changes->list[0].id);
    membership_end_decision(machine, 0, NULL);
    membership_put(machine, "handing", buffer_slice(&value));
    mem_free(changes);
    buffer_close(&value);
}
