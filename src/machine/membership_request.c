/* machine/membership_request.c - what an operator, a node that joins, and the leader ask for (ENTRY_MEMBERSHIP). See
 * machine/membership.h. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/mutant.h"
#include "machine/membership_private.h"

enum {
    WHY_BYTES = MEMBERSHIP_WHY_BYTES,
    AGAIN_MS = 1000 /* until a policy is asked again, after its decision came back */
};

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

/* Whether the changes make sense now: nobody is asked about what does not. */
static bool make_sense(const struct machine *machine, struct asked *asked)
{
    struct members *target = mem_alloc(sizeof *target);
    struct member_facts facts[RAFT_MEMBERS_MAX];
    membership_all_facts(machine, facts);
    bool sense =
        changes_make(&asked->changes, &machine->membership->members, facts, asked->force, target, &asked->refusal);
    mem_free(target);
    return sense;
}

/* The policy's admit, unless the request is forced; under manual an operator may do all. */
static bool is_admitted(struct machine *machine, struct asked *asked)
{
    bool manual = false;
    return asked->force ||
           membership_admits(machine, asked->entry, &asked->changes, asked->by, &manual, &asked->refusal);
}

/* `admitted`: it was admitted before. */
static enum vm_outcome decide_asked(struct machine *machine, struct asked *asked, bool admitted, const char *why,
                                    struct buffer *result)
{
    struct slice reason = asked->why.size > 0 ? asked->why : slice_text(why);
    if (!is_free(machine, asked) || !make_sense(machine, asked) || (!admitted && !is_admitted(machine, asked)) ||
        !membership_decide(machine, asked->entry, &asked->changes, asked->by, reason, asked->force,
                           &asked->refusal))
        return refuse(asked, result);
    return answer_decision(result, asked->entry->index, machine->membership->members.id);
}

/* --- operators -------------------------------------------------------------------------------------------------------- */

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
    if (!is_admitted(machine, asked) ||
        !membership_invite_at(machine, change->id, change->self.address, 0, asked->why, &asked->refusal))
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
    if (!good || !is_admitted(machine, asked) ||
        !membership_invite_at(machine, change->with, change->self.address, change->id, asked->why, &asked->refusal))
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
    return decide_asked(machine, asked, false, "an operator asked for it", result);
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
    if (strcmp(member->address, change->self.address) != 0 &&
        membership_facts(machine, member->id).silent_since_ms == 0 && !MUTANT(301)) {
        (void)refuse_change(
            &asked->refusal, ERROR_BUSY,
            "node %llu is heard, at %s: it must end there before it can be at %s; if this is another "
            "process with a copy of its directory, that must not run",
            (unsigned long long)member->id, member->address, change->self.address);
        return refuse(asked, result);
    }
    change->op = CHANGE_ADDRESS;
    change->all_of_it = true;
    return decide_asked(machine, asked, true, "it has another address, zone, tag or priority than before", result);
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

/* Whom an operator invited, or the policy admits. */
static bool may_join(struct machine *machine, struct asked *asked, const struct change *change)
{
    struct invitation invitation;
    unsigned long long id = (unsigned long long)change->id;
    bool manual = false;
    if (membership_invitation(machine, change->id, &invitation)) {
        if (strcmp(invitation.address, change->self.address) == 0)
            return true;
        return refuse_change(&asked->refusal, ERROR_DENIED,
                             "node %llu was invited to join at %s, and says it is at %s (--advertise)", id,
                             invitation.address, change->self.address);
    }
    if (!membership_admits(machine, asked->entry, &asked->changes, asked->by, &manual, &asked->refusal))
        return false;
    return !manual || MUTANT(248) ||
           refuse_change(&asked->refusal, ERROR_DENIED,
                         "nobody invited node %llu. To let it join: tidelock members add %llu=%s", id, id,
                         change->self.address);
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
    struct invitation invitation;
    if (membership_invitation(machine, change->id, &invitation))
        asked->changes.list[0].with = invitation.replaces;
    if (!is_free(machine, asked) || !make_sense(machine, asked) || !may_join(machine, asked, change))
        return refuse(asked, result);
    const bool said = membership_invitation(machine, change->id, &invitation) && invitation.why[0] != 0;
    return decide_asked(machine, asked, true, said ? invitation.why : "it asked to join", result);
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
    membership_set_due(machine, machine->now_ms + AGAIN_MS);
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
