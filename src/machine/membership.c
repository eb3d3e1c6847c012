/* machine/membership.c - entries that concern membership: configurations, requests, observations. See machine/membership.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/membership_private.h"
#include "wire/pack.h"

enum { WHY_BYTES = 256 };

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
    machine->membership->version++;
}

uint64_t membership_review_due(const struct machine *machine)
{
    (void)machine;
    return UINT64_MAX;
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

/* The next configuration came while a decision waited: it is what was decided, or the decision is over. */
static void settle_decision(struct machine *machine, const struct decision *decision, const struct members *next)
{
    raft_index index = decision->index;
    bool reached = decision->members.size > 0 && are_members(next, decision->members);
    if (!reached)
        membership_end_decision(machine, 0, "another configuration came first");
    else if (members_joint(next))
        membership_end_decision(machine, next->id, NULL);
    else
        membership_end_decision(machine, next->id, "");
    if (reached && members_joint(next))
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
}

/* Facts are of members alone. */
static void settle_facts(struct machine *machine, const struct members *next)
{
    const struct members *before = &machine->membership->members;
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
        }
        if (membership_invitation(machine, member->id, &invitation) && invitation.replaces == 0)
            (void)membership_drop_at(machine, "invited", member->id);
    }
}

void membership_configure(struct machine *machine, const struct entry *entry)
{
    struct membership *membership = machine->membership;
    struct members *next = mem_zalloc(1, sizeof *next);
    static const char *const of_a_cluster[] = {"decision", "doing", "facts", "invited", "leader"};
    if (members_unpack(entry->payload, next) != STATUS_OK)
        next->count = 0;
    next->id = entry->index;
    if (machine->configuration_index == 0) { /* a cluster begins: what is said of another one's nodes is void */
        for (size_t i = 0; i < sizeof of_a_cluster / sizeof of_a_cluster[0]; i++)
            membership_drop_all(machine, of_a_cluster[i]);
        membership->members.count = 0;
    }
    settle(machine, next);
    settle_facts(machine, next);
    membership->members = *next;
    membership->version++;
    mem_free(next);
}

/* --- requests --------------------------------------------------------------------------------------------------------- */

struct asked {
    struct slice by;
    bool force;
    uint64_t expected_id;
    struct changes changes;
    struct slice why;
    const struct entry *entry;
    struct refusal refusal;
};

static bool read_asked(struct asked *asked)
{
    struct pack_reader reader = pack_reader_make(asked->entry->payload);
    uint32_t fields = 0;
    if (pack_read_array(&reader, &fields) != STATUS_OK || fields < 4 || fields > 5 ||
        pack_read_text(&reader, &asked->by) != STATUS_OK ||
        pack_read_boolean(&reader, &asked->force) != STATUS_OK ||
        pack_read_u64(&reader, &asked->expected_id) != STATUS_OK)
        return refuse_change(&asked->refusal, ERROR_BAD_ARGS, "a request is [by, force, expected_id, changes]");
    if (!changes_read(&reader, &asked->changes, &asked->refusal))
        return false;
    if (fields == 5 && (pack_read_text(&reader, &asked->why) != STATUS_OK || asked->why.size > WHY_BYTES))
        return refuse_change(&asked->refusal, ERROR_BAD_ARGS, "why is text of at most %d bytes", WHY_BYTES);
    return true;
}

static enum vm_outcome answer(struct buffer *result, const char *name, uint64_t number)
{
    pack_map(result, 1);
    pack_text(result, slice_text(name));
    pack_u64(result, number);
    return VM_OK;
}

static enum vm_outcome answer_decision(struct buffer *result, uint64_t index, uint64_t configuration)
{
    pack_map(result, 2);
    pack_text(result, slice_text("configuration"));
    pack_u64(result, configuration);
    pack_text(result, slice_text("decision"));
    pack_u64(result, index);
    return VM_OK;
}

static enum vm_outcome refuse(const struct asked *asked, struct buffer *result)
{
    error_pack(result, asked->refusal.code, asked->refusal.text);
    return VM_REFUSED;
}

/* Why nothing can be decided now; true: it can. */
static bool is_free(const struct machine *machine, struct asked *asked)
{
    struct decision decision;
    if (members_joint(&machine->membership->members))
        return refuse_change(&asked->refusal, ERROR_CONFIG_PENDING,
                             "a change of members goes on (configuration %llu); ask again when it is done",
                             (unsigned long long)machine->membership->members.id);
    if (!asked->force && membership_decision(machine, &decision))
        return refuse_change(&asked->refusal, ERROR_CONFIG_PENDING,
                             "another change was decided (entry %llu) and is not done; ask again when it is",
                             (unsigned long long)decision.index);
    return true;
}

/* Decides: the row is there, for the leader to act on. */
static bool decide(struct machine *machine, const struct entry *entry, const struct changes *changes,
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
        membership_end_decision(machine, 0, "a forced request took its place");
        membership_decide(machine, &decision);
        LOG(LOG_INFO, "machine", "members: %s of node %llu, decided by %.*s at entry %llu: %.*s",
            change_op_name(changes->list[0].op), (unsigned long long)changes->list[0].id, (int)by.size,
            (const char *)by.data, (unsigned long long)entry->index, (int)why.size, (const char *)why.data);
    }
    buffer_close(&packed);
    buffer_close(&members);
    mem_free(target);
    return good;
}

static enum vm_outcome decide_asked(struct machine *machine, struct asked *asked, const char *why,
                                    struct buffer *result)
{
    struct slice reason = asked->why.size > 0 ? asked->why : slice_text(why);
    if (!is_free(machine, asked) ||
        !decide(machine, asked->entry, &asked->changes, asked->by, reason, asked->force, &asked->refusal))
        return refuse(asked, result);
    return answer_decision(result, asked->entry->index, machine->membership->members.id);
}

/* --- invitations ------------------------------------------------------------------------------------------------------ */

static bool address_is_free(const struct machine *machine, node_id id, const char *address, struct refusal *refusal)
{
    const struct members *members = &machine->membership->members;
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    size_t count = membership_invited(machine, list);
    for (size_t i = 0; i < members->count; i++)
        if (members->list[i].id != id && strcmp(members->list[i].address, address) == 0)
            return refuse_change(refusal, ERROR_EXISTS, "%s is the address of node %llu", address,
                                 (unsigned long long)members->list[i].id);
    for (size_t i = 0; i < count; i++)
        if (list[i].id != id && strcmp(list[i].address, address) == 0)
            return refuse_change(refusal, ERROR_EXISTS, "node %llu was invited to join at %s",
                                 (unsigned long long)list[i].id, address);
    return true;
}

/* A node may join, once; in whose place, if in somebody's. */
static bool invite(struct machine *machine, node_id id, const char *address, node_id replaces,
                   struct refusal *refusal)
{
    struct invitation invitation = {.id = id, .replaces = replaces};
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    struct invitation before;
    bool known = membership_invitation(machine, id, &before);
    if (address[0] == 0)
        return refuse_change(refusal, ERROR_BAD_ARGS, "node %llu is no member, and can join if its address is said",
                             (unsigned long long)id);
    if (!address_is_free(machine, id, address, refusal))
        return false;
    if (!known && membership_invited(machine, list) == MEMBERSHIP_INVITED_MAX)
        return refuse_change(refusal, ERROR_CONFLICT,
                             "%d nodes were invited and have not joined; remove one of those first",
                             MEMBERSHIP_INVITED_MAX);
    snprintf(invitation.address, sizeof invitation.address, "%s", address);
    membership_invite(machine, &invitation);
    return true;
}

/* An operator's add: whoever comes with this id and address may join. */
static enum vm_outcome operator_adds(struct machine *machine, struct asked *asked, const struct change *change,
                                     struct buffer *result)
{
    const struct member *member = members_find(&machine->membership->members, change->id);
    if (member != NULL && strcmp(member->address, change->self.address) == 0)
        return answer(result, "member", change->id);
    if (member != NULL) {
        (void)refuse_change(&asked->refusal, ERROR_EXISTS, "node %llu is a member already, at %s",
                            (unsigned long long)change->id, member->address);
        return refuse(asked, result);
    }
    if (!invite(machine, change->id, change->self.address, 0, &asked->refusal))
        return refuse(asked, result);
    return answer(result, "invited", change->id);
}

/* An operator's replace with a node that is no member: it is invited, and takes the place when it has joined and caught up. */
static enum vm_outcome operator_replaces(struct machine *machine, struct asked *asked, const struct change *change,
                                         struct buffer *result)
{
    const struct members *members = &machine->membership->members;
    bool good = change->with != 0 && change->with != change->id;
    if (!good)
        (void)refuse_change(&asked->refusal, ERROR_BAD_ARGS,
                            "replace %llu: the new node has an id of its own, that no member has",
                            (unsigned long long)change->id);
    else if (members_find(members, change->id) == NULL)
        good =
            refuse_change(&asked->refusal, ERROR_NOT_FOUND, "node %llu is no member (tidelock members lists them)",
                          (unsigned long long)change->id);
    if (!good || !invite(machine, change->with, change->self.address, change->id, &asked->refusal))
        return refuse(asked, result);
    return answer(result, "invited", change->with);
}

/* What an operator asks for alone may be an invitation, or its end. */
static enum vm_outcome ask_as_operator(struct machine *machine, struct asked *asked, struct buffer *result)
{
    const struct members *members = &machine->membership->members;
    const struct change *first = &asked->changes.list[0];
    if (asked->changes.count == 1 && first->op == CHANGE_ADD)
        return operator_adds(machine, asked, first, result);
    if (asked->changes.count == 1 && first->op == CHANGE_REPLACE && members_find(members, first->with) == NULL)
        return operator_replaces(machine, asked, first, result);
    if (asked->changes.count == 1 && first->op == CHANGE_REMOVE && members_find(members, first->id) == NULL &&
        membership_drop_at(machine, "invited", first->id))
        return answer(result, "withdrawn", first->id);
    for (size_t i = 0; i < asked->changes.count; i++)
        if (asked->changes.list[i].op == CHANGE_ADD) {
            (void)refuse_change(&asked->refusal, ERROR_BAD_ARGS,
                                "add comes alone: it invites a node, which then joins by itself");
            return refuse(asked, result);
        }
    return decide_asked(machine, asked, "an operator asked for it", result);
}

/* --- joins ------------------------------------------------------------------------------------------------------------ */

static bool says_the_same(const struct member *member, const struct member *self)
{
    return strcmp(member->address, self->address) == 0 && strcmp(member->zone, self->zone) == 0 &&
           member->priority == self->priority &&
           slice_equal(slice_make(member->tags, member->tags_bytes), slice_make(self->tags, self->tags_bytes));
}

/* A member says again who it is. */
static enum vm_outcome join_again(struct machine *machine, struct asked *asked, const struct member *member,
                                  struct buffer *result)
{
    struct change *change = &asked->changes.list[0];
    if (member->incarnation != change->self.incarnation) {
        (void)refuse_change(
            &asked->refusal, ERROR_EXISTS,
            "node %llu is a member with another data directory. If that one is lost: start this node "
            "with a new id, and run: tidelock members replace %llu NEW=%s",
            (unsigned long long)member->id, (unsigned long long)member->id, change->self.address);
        return refuse(asked, result);
    }
    if (says_the_same(member, &change->self))
        return answer(result, "member", member->id);
    change->op = CHANGE_ADDRESS;
    return decide_asked(machine, asked, "it has another address, zone, tag or priority than before", result);
}

/* Whether it is the add of this node that waits: the join was sent again. */
static bool waits_for(const struct machine *machine, node_id id, uint64_t incarnation, struct decision *decision)
{
    struct changes *changes = mem_alloc(sizeof *changes);
    struct refusal unsaid;
    bool found = membership_decision(machine, decision);
    struct pack_reader reader = pack_reader_make(decision->changes);
    found = found && changes_read(&reader, changes, &unsaid);
    bool same = found && changes->list[0].op == CHANGE_ADD && changes->list[0].id == id &&
                changes->list[0].self.incarnation == incarnation;
    mem_free(changes);
    return same;
}

static bool may_join(struct machine *machine, struct asked *asked, const struct change *change)
{
    struct invitation invitation;
    unsigned long long id = (unsigned long long)change->id;
    if (membership_invitation(machine, change->id, &invitation)) {
        if (strcmp(invitation.address, change->self.address) == 0)
            return true;
        return refuse_change(&asked->refusal, ERROR_DENIED,
                             "node %llu was invited to join at %s, and says it is at %s (--advertise)", id,
                             invitation.address, change->self.address);
    }
    return MUTANT(248) || refuse_change(&asked->refusal, ERROR_DENIED,
                                        "nobody invited node %llu. To let it join: tidelock members add %llu=%s",
                                        id, id, change->self.address);
}

static enum vm_outcome ask_to_join(struct machine *machine, struct asked *asked, struct buffer *result)
{
    const struct change *change = &asked->changes.list[0];
    struct decision decision = {0};
    if (asked->changes.count != 1 || change->op != CHANGE_ADD) {
        (void)refuse_change(&asked->refusal, ERROR_BAD_ARGS,
                            "a node that joins asks to be added, and for nothing else");
        return refuse(asked, result);
    }
    const struct member *member = members_find(&machine->membership->members, change->id);
    if (member != NULL)
        return join_again(machine, asked, member, result);
    if (waits_for(machine, change->id, change->self.incarnation, &decision))
        return answer_decision(result, decision.index, decision.configuration);
    asked->force = false;
    if (!may_join(machine, asked, change))
        return refuse(asked, result);
    return decide_asked(machine, asked, "it asked to join", result);
}

/* The leader cannot carry the decision out. */
static enum vm_outcome take_back(struct machine *machine, struct asked *asked, struct buffer *result)
{
    struct decision decision;
    char why[WHY_BYTES + 1];
    snprintf(why, sizeof why, "%.*s", (int)asked->why.size, (const char *)asked->why.data);
    if (!membership_decision(machine, &decision) || decision.index != asked->expected_id) {
        (void)refuse_change(&asked->refusal, ERROR_NOT_FOUND, "this decision does not wait any more");
        return refuse(asked, result);
    }
    membership_end_decision(machine, 0, why[0] != 0 ? why : "the leader could not carry it out");
    return answer(result, "withdrawn", asked->expected_id);
}

static enum vm_outcome ask(struct machine *machine, struct asked *asked, struct buffer *result)
{
    const uint64_t id = machine->membership->members.id;
    if (!read_asked(asked))
        return refuse(asked, result);
    if (slice_equal(asked->by, slice_text("leader")))
        return take_back(machine, asked, result);
    if (asked->expected_id != 0 && asked->expected_id != id && !MUTANT(249)) {
        (void)refuse_change(&asked->refusal, ERROR_STALE_CONFIG,
                            "configuration %llu is in force, not %llu: look at it, and ask again",
                            (unsigned long long)id, (unsigned long long)asked->expected_id);
        return refuse(asked, result);
    }
    if (asked->changes.count == 0) {
        (void)refuse_change(&asked->refusal, ERROR_BAD_ARGS, "no change is asked for");
        return refuse(asked, result);
    }
    if (slice_equal(asked->by, slice_text("join")))
        return ask_to_join(machine, asked, result);
    if (slice_equal(asked->by, slice_text("operator")))
        return ask_as_operator(machine, asked, result);
    (void)refuse_change(&asked->refusal, ERROR_BAD_ARGS, "by is operator, join or leader");
    return refuse(asked, result);
}

enum vm_outcome membership_request(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct asked *asked = mem_zalloc(1, sizeof *asked);
    asked->entry = entry;
    enum vm_outcome outcome = ask(machine, asked, result);
    mem_free(asked);
    return outcome;
}

/* --- observations ----------------------------------------------------------------------------------------------------- */

/* Takes what is said of one member. False: it makes no sense. */
static bool observe_one(struct machine *machine, struct pack_reader *reader)
{
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
            decide(machine, entry, changes, slice_text("operator"),
                   slice_text("an operator asked for it, and the new node has caught up"), false, &refusal);
        mem_free(changes);
        if (decided)
            return;
    }
}

void membership_observe(struct machine *machine, const struct entry *entry, bool skipped)
{
    struct pack_reader reader = pack_reader_make(entry->payload);
    struct decision decision;
    uint32_t parts = 0;
    uint32_t count = 0;
    uint64_t leader = 0;
    (void)skipped;
    if (pack_read_array(&reader, &parts) != STATUS_OK || parts != 2 ||
        pack_read_u64(&reader, &leader) != STATUS_OK || pack_read_array(&reader, &count) != STATUS_OK)
        return;
    take_leader(machine, leader);
    for (uint32_t i = 0; i < count && observe_one(machine, &reader); i++)
        continue;
    if (!membership_decision(machine, &decision) && !members_joint(&machine->membership->members))
        replace_invited(machine, entry);
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
