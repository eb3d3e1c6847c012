/* machine/membership_change.c - changes of members: reading them, and what they would lead to. See machine/membership_private.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "machine/membership_private.h"
#include "wire/pack.h"

enum { CHANGE_FIELDS = 8 };

static const char *const op_names[CHANGE_OPS] = {"add",     "promote", "demote",  "remove",
                                                 "replace", "address", "transfer"};

bool refuse_change(struct refusal *refusal, enum error_code code, const char *format, ...)
{
    va_list list;
    refusal->code = code;
    va_start(list, format);
    vsnprintf(refusal->text, sizeof refusal->text, format, list);
    va_end(list);
    return false;
}

static unsigned long long number(node_id id)
{
    return (unsigned long long)id;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

const char *change_op_name(enum change_op op)
{
    return op_names[op];
}

bool change_op_find(struct slice name, enum change_op *op)
{
    for (size_t i = 0; i < CHANGE_OPS; i++)
        if (slice_equal(name, slice_text(op_names[i]))) {
            *op = (enum change_op)i;
            return true;
        }
    return false;
}

static bool read_change(struct pack_reader *reader, struct change *change, struct refusal *refusal)
{
    uint32_t fields = 0;
    uint64_t priority = 0;
    struct slice op = {0};
    memset(change, 0, sizeof *change);
    if (pack_read_array(reader, &fields) != STATUS_OK || fields != CHANGE_FIELDS ||
        pack_read_text(reader, &op) != STATUS_OK)
        return refuse_change(refusal, ERROR_BAD_ARGS,
                             "a change is [op, id, with, address, incarnation, zone, tags, priority]");
    if (!change_op_find(op, &change->op))
        return refuse_change(refusal, ERROR_BAD_ARGS,
                             "there is no operation %.*s; there are add promote demote remove replace address "
                             "transfer",
                             (int)(op.size < 40 ? op.size : 40), (const char *)op.data);
    if (pack_read_u64(reader, &change->id) != STATUS_OK || change->id == 0 ||
        pack_read_u64(reader, &change->with) != STATUS_OK)
        return refuse_change(refusal, ERROR_BAD_ARGS, "%s: an id is a whole number from 1", op_names[change->op]);
    if (!members_read_text(reader, change->self.address, sizeof change->self.address))
        return refuse_change(refusal, ERROR_BAD_ARGS, "%s %llu: an address is text of at most %d bytes",
                             op_names[change->op], number(change->id), MEMBER_ADDRESS_BYTES - 1);
    if (pack_read_u64(reader, &change->self.incarnation) != STATUS_OK ||
        !members_read_text(reader, change->self.zone, sizeof change->self.zone))
        return refuse_change(refusal, ERROR_BAD_ARGS, "%s %llu: a zone is text of at most %d bytes",
                             op_names[change->op], number(change->id), MEMBER_ZONE_BYTES - 1);
    if (!members_read_tags(reader, &change->self))
        return refuse_change(refusal, ERROR_BAD_ARGS,
                             "%s %llu: tags are at most %d texts by sorted names, of %d bytes in all",
                             op_names[change->op], number(change->id), MEMBER_TAGS_MAX, MEMBER_TAGS_BYTES);
    if (pack_read_u64(reader, &priority) != STATUS_OK || priority > RAFT_PRIORITY_MAX)
        return refuse_change(refusal, ERROR_BAD_ARGS, "%s %llu: a priority is a whole number from 0 to %d",
                             op_names[change->op], number(change->id), RAFT_PRIORITY_MAX);
    change->self.id = change->id;
    change->self.priority = (uint8_t)priority;
    return true;
}

bool changes_read(struct pack_reader *reader, struct changes *changes, struct refusal *refusal)
{
    uint32_t count = 0;
    changes->count = 0;
    if (pack_read_array(reader, &count) != STATUS_OK || count > MEMBERSHIP_CHANGES_MAX)
        return refuse_change(refusal, ERROR_BAD_ARGS, "at most %d changes in a list", MEMBERSHIP_CHANGES_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!read_change(reader, &changes->list[i], refusal))
            return false;
    changes->count = count;
    return true;
}

void changes_pack(const struct changes *changes, struct buffer *out)
{
    pack_array(out, (uint32_t)changes->count);
    for (size_t i = 0; i < changes->count; i++) {
        const struct change *change = &changes->list[i];
        pack_array(out, CHANGE_FIELDS);
        pack_text(out, slice_text(op_names[change->op]));
        pack_u64(out, change->id);
        pack_u64(out, change->with);
        pack_text(out, slice_text(change->self.address));
        pack_u64(out, change->self.incarnation);
        pack_text(out, slice_text(change->self.zone));
        if (change->self.tags_bytes > 0)
            buffer_append(out, change->self.tags, change->self.tags_bytes);
        else
            pack_map(out, 0);
        pack_u64(out, change->self.priority);
    }
}

/* --- members ---------------------------------------------------------------------------------------------------------- */

bool members_joint(const struct members *members)
{
    for (size_t i = 0; i < members->count; i++)
        if ((members->list[i].roles & MEMBER_OLD_VOTER) != 0)
            return true;
    return false;
}

static size_t voters_of(const struct members *members)
{
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++)
        count += (members->list[i].roles & MEMBER_VOTER) != 0;
    return count;
}

size_t members_quorum(const struct members *members)
{
    return voters_of(members) / 2 + 1;
}

size_t members_up(const struct members *members, const struct member_facts *facts)
{
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++)
        count += (members->list[i].roles & MEMBER_VOTER) != 0 && facts[i].silent_since_ms == 0;
    return count;
}

const char *member_role_name(const struct member *member)
{
    return (member->roles & MEMBER_LEARNER) != 0 ? "learner" : "voter";
}

uint64_t member_silent_ms(const struct machine *machine, const struct member_facts *facts)
{
    if (facts->silent_since_ms == 0)
        return 0;
    return machine->now_ms > facts->silent_since_ms ? machine->now_ms - facts->silent_since_ms : 1;
}

uint64_t member_steady_ms(const struct machine *machine, const struct member_facts *facts)
{
    return facts->steady_since_ms > 0 && machine->now_ms > facts->steady_since_ms
               ? machine->now_ms - facts->steady_since_ms
               : 0;
}

void members_without_old(const struct members *members, struct members *after)
{
    after->id = members->id;
    after->count = 0;
    for (size_t i = 0; i < members->count; i++) {
        if (members->list[i].roles == MEMBER_OLD_VOTER)
            continue;
        struct member *member = &after->list[after->count++];
        *member = members->list[i];
        member->roles &= (uint8_t)~MEMBER_OLD_VOTER;
    }
}

/* --- what changes lead to --------------------------------------------------------------------------------------------- */

struct making {
    struct members *target;
    const struct members *now;
    const struct member_facts *facts;
    bool force;
    struct refusal *refusal;
};

static struct member *find(struct making *making, node_id id)
{
    for (size_t i = 0; i < making->target->count; i++)
        if (making->target->list[i].id == id)
            return &making->target->list[i];
    return NULL;
}

static bool refuse_unknown(struct making *making, node_id id)
{
    return refuse_change(making->refusal, ERROR_NOT_FOUND, "node %llu is no member (tidelock members lists them)",
                         number(id));
}

static bool is_silent(const struct making *making, node_id id)
{
    for (size_t i = 0; i < making->now->count; i++)
        if (making->now->list[i].id == id)
            return making->facts[i].silent_since_ms > 0;
    return false;
}

/* Of nobody, or of a node that is silent, or whose place this one takes: who lost its directory comes back where it was, as another. */
static bool address_is_free(struct making *making, const struct change *change)
{
    for (size_t i = 0; i < making->target->count; i++) {
        const struct member *member = &making->target->list[i];
        if (member->id != change->id && member->id != change->with &&
            strcmp(member->address, change->self.address) == 0 && !is_silent(making, member->id))
            return refuse_change(making->refusal, ERROR_EXISTS, "%s is the address of node %llu, which is heard",
                                 change->self.address, number(member->id));
    }
    return true;
}

static bool add(struct making *making, const struct change *change)
{
    struct members *target = making->target;
    size_t at = 0;
    if (find(making, change->id) != NULL)
        return refuse_change(making->refusal, ERROR_EXISTS, "node %llu is a member already", number(change->id));
    if (change->self.address[0] == 0)
        return refuse_change(making->refusal, ERROR_BAD_ARGS, "add %llu: it has no address", number(change->id));
    if (!address_is_free(making, change))
        return false;
    if (target->count == RAFT_MEMBERS_MAX)
        return refuse_change(making->refusal, ERROR_CONFLICT, "there are %d members, and no more can be",
                             RAFT_MEMBERS_MAX);
    while (at < target->count && target->list[at].id < change->id)
        at++;
    memmove(&target->list[at + 1], &target->list[at], (target->count - at) * sizeof target->list[0]);
    target->list[at] = change->self;
    target->list[at].roles = MEMBER_LEARNER;
    target->count++;
    return true;
}

static void drop(struct making *making, struct member *member)
{
    struct members *target = making->target;
    size_t at = (size_t)(member - target->list);
    memmove(member, member + 1, (target->count - at - 1) * sizeof target->list[0]);
    target->count--;
}

static bool has_caught_up(const struct making *making, node_id id)
{
    for (size_t i = 0; i < making->now->count; i++)
        if (making->now->list[i].id == id)
            return making->facts[i].caught_up && making->facts[i].silent_since_ms == 0;
    return false;
}

static bool make_voter(struct making *making, struct member *member)
{
    if (!making->force && !has_caught_up(making, member->id) && !MUTANT(245))
        return refuse_change(making->refusal, ERROR_CONFLICT,
                             "node %llu has not caught up, and would be missed as a voter: wait until it has",
                             number(member->id));
    member->roles = MEMBER_VOTER;
    return true;
}

static bool promote(struct making *making, struct member *member)
{
    if (member->roles == MEMBER_VOTER)
        return refuse_change(making->refusal, ERROR_CONFLICT, "node %llu is a voter already", number(member->id));
    return make_voter(making, member);
}

static bool replace(struct making *making, const struct change *change, struct member *member)
{
    struct member *with = find(making, change->with);
    uint8_t roles = member->roles;
    if (with == NULL)
        return refuse_unknown(making, change->with);
    if (with == member || with->roles != MEMBER_LEARNER)
        return refuse_change(making->refusal, ERROR_CONFLICT,
                             "replace %llu: node %llu is to take its place, and is no learner", number(change->id),
                             number(change->with));
    if (roles == MEMBER_VOTER && !make_voter(making, with))
        return false;
    drop(making, member);
    return true;
}

static bool set_address(struct making *making, const struct change *change, struct member *member)
{
    struct member self = *member;
    if (change->all_of_it)
        self = change->self;
    memcpy(self.address, change->self.address, sizeof self.address);
    if (self.address[0] == 0)
        return refuse_change(making->refusal, ERROR_BAD_ARGS, "address %llu: it has none", number(change->id));
    if (!address_is_free(making, change))
        return false;
    self.incarnation = member->incarnation;
    self.roles = member->roles;
    *member = self;
    return true;
}

static bool make_one(struct making *making, const struct change *change)
{
    if (change->op == CHANGE_ADD)
        return add(making, change);
    struct member *member = find(making, change->id);
    if (member == NULL)
        return refuse_unknown(making, change->id);
    switch (change->op) {
    case CHANGE_PROMOTE:
        return promote(making, member);
    case CHANGE_DEMOTE:
        if (member->roles != MEMBER_VOTER)
            return refuse_change(making->refusal, ERROR_CONFLICT, "node %llu is no voter", number(change->id));
        member->roles = MEMBER_LEARNER;
        return true;
    case CHANGE_REMOVE:
        drop(making, member);
        return true;
    case CHANGE_REPLACE:
        return replace(making, change, member);
    case CHANGE_ADDRESS:
        return set_address(making, change, member);
    default:
        return true;
    }
}

/* Who is named by two changes of one list cannot have meant both. */
static bool named_once(const struct changes *changes, struct refusal *refusal)
{
    node_id named[2 * MEMBERSHIP_CHANGES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < changes->count; i++) {
        const struct change *change = &changes->list[i];
        const node_id ids[2] = {change->id, change->op == CHANGE_REPLACE ? change->with : 0};
        for (size_t k = 0; k < 2; k++) {
            for (size_t j = 0; j < count && ids[k] != 0; j++)
                if (named[j] == ids[k])
                    return refuse_change(refusal, ERROR_CONFLICT, "node %llu is named twice in one change",
                                         number(ids[k]));
            named[count++] = ids[k];
        }
    }
    return true;
}

static bool transfer(const struct changes *changes, const struct members *now, struct refusal *refusal)
{
    const struct member *to = members_find(now, changes->list[0].id);
    if (changes->count > 1)
        return refuse_change(refusal, ERROR_CONFLICT, "a transfer comes alone, with no other change");
    if (to == NULL)
        return refuse_change(refusal, ERROR_NOT_FOUND, "node %llu is no member (tidelock members lists them)",
                             number(changes->list[0].id));
    if ((to->roles & MEMBER_VOTER) == 0)
        return refuse_change(refusal, ERROR_CONFLICT, "node %llu is no voter, and cannot lead", number(to->id));
    return true;
}

/* Of whom a majority must answer, or nothing is ever decided again. */
static bool majority_is_up(const struct making *making)
{
    struct member_facts facts[RAFT_MEMBERS_MAX] = {0};
    for (size_t i = 0; i < making->target->count; i++)
        for (size_t j = 0; j < making->now->count; j++)
            if (making->now->list[j].id == making->target->list[i].id)
                facts[i] = making->facts[j];
    size_t up = members_up(making->target, facts);
    if (up >= members_quorum(making->target) || MUTANT(246))
        return true;
    return refuse_change(making->refusal, ERROR_CONFLICT,
                         "of the %zu voters that it would leave, %zu are heard, and no majority",
                         voters_of(making->target), up);
}

/* The members of both, while it is joint. */
static size_t count_joint(const struct members *now, const struct members *target)
{
    size_t count = target->count;
    for (size_t i = 0; i < now->count; i++)
        count += (now->list[i].roles & MEMBER_VOTER) != 0 && members_find(target, now->list[i].id) == NULL;
    return count;
}

bool changes_make(const struct changes *changes, const struct members *now, const struct member_facts *facts,
                  bool force, struct members *target, struct refusal *refusal)
{
    struct making making = {.target = target, .now = now, .facts = facts, .force = force, .refusal = refusal};
    if (changes->count == 0)
        return refuse_change(refusal, ERROR_BAD_ARGS, "no change is asked for");
    for (size_t i = 0; i < changes->count; i++)
        if (changes->list[i].op == CHANGE_TRANSFER && (i > 0 || !transfer(changes, now, refusal)))
            return i > 0 ? refuse_change(refusal, ERROR_CONFLICT, "a transfer comes alone, with no other change")
                         : false;
    if (!named_once(changes, refusal))
        return false;
    *target = *now;
    for (size_t i = 0; i < changes->count; i++)
        if (!make_one(&making, &changes->list[i]))
            return false;
    if (voters_of(target) == 0)
        return refuse_change(refusal, ERROR_CONFLICT, "it would leave no voter");
    if (count_joint(now, target) > RAFT_MEMBERS_MAX)
        return refuse_change(refusal, ERROR_CONFLICT, "old and new members together are more than %d",
                             RAFT_MEMBERS_MAX);
    return force || majority_is_up(&making);
}
