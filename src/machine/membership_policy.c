/* machine/membership_policy.c - the policy in force, what it is shown, and what becomes of what it says. See machine/membership.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "script/bundle.h"
#include "state/key.h"
#include "wire/pack.h"

enum { FACTS_FIELDS = 3, ALARM_BYTES = 700, WAIT_MAX_MS = 24 * 3600 * 1000, WAIT_MIN_MS = 100 };

/* --- what is in force ------------------------------------------------------------------------------------------------- */

bool membership_find_policy(const struct machine *machine, struct slice *bundle)
{
    return membership_get(machine, "policy", bundle);
}

static double read_number(struct pack_reader *reader)
{
    struct pack_item item;
    CHECK(pack_read(reader, &item) == STATUS_OK && (item.type == PACK_INT || item.type == PACK_FLOAT));
    return item.type == PACK_INT ? (double)item.integer : item.number;
}

void membership_load_policy(struct machine *machine)
{
    struct membership *membership = machine->membership;
    struct slice facts = {0};
    struct slice bundle = {0};
    struct slice name = {0};
    uint32_t fields = 0;
    membership->policy[0] = 0;
    membership->policy_version = 1;
    membership->every_ms = 0;
    membership->policy_hash = (struct hash128){0};
    membership->alarm = membership_get(machine, "alarm", &name);
    if (!membership_get(machine, "policy_facts", &facts))
        return;
    struct pack_reader reader = pack_reader_make(facts);
    CHECK(membership_find_policy(machine, &bundle));
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == FACTS_FIELDS);
    CHECK(pack_read_text(&reader, &name) == STATUS_OK && name.size < sizeof membership->policy);
    memcpy(membership->policy, name.data, name.size);
    membership->policy[name.size] = 0;
    membership->policy_version = read_number(&reader);
    CHECK(pack_read_u64(&reader, &membership->every_ms) == STATUS_OK);
    membership->policy_hash = bundle_hash(bundle);
}

/* What the keys of its maps' rows begin with. */
static void memory_head(struct buffer *head)
{
    membership_key(head, "memory");
}

/* Removes the rows of maps that the policy (NULL: none) does not have. */
static void forget_maps(struct machine *machine, const struct policy *policy)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct buffer copy = {0};
    struct slice key;
    struct slice value;
    memory_head(&lo);
    memory_head(&hi);
    key_after_prefix(&hi);
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        struct key_reader reader = {.rest = slice_make(key.data + lo.size, key.size - lo.size)};
        struct key_element map;
        CHECK(key_read(&reader, &map) == STATUS_OK && map.type == KEY_TEXT);
        bool kept = policy != NULL && policy_has_map(policy, map.text);
        buffer_close(&reader.scratch);
        if (kept)
            continue;
        buffer_clear(&copy);
        buffer_append(&copy, key.data, key.size);
        (void)tree_del(machine->tree, buffer_slice(&copy));
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    buffer_close(&copy);
}

static enum status open_room(struct machine *machine, struct slice bundle, struct policy **policy,
                             struct buffer *why)
{
    struct buffer head = {0};
    memory_head(&head);
    enum status status = policy_open(bundle, machine->tree, buffer_slice(&head), policy, why);
    buffer_close(&head);
    return status;
}

enum status membership_put_policy(struct machine *machine, struct slice bundle, struct buffer *why)
{
    struct policy *policy = NULL;
    struct buffer facts = {0};
    if (open_room(machine, bundle, &policy, why) != STATUS_OK)
        return STATUS_INVALID;
    pack_array(&facts, FACTS_FIELDS);
    pack_text(&facts, slice_text(policy_name(policy)));
    pack_number(&facts, policy_version(policy));
    pack_u64(&facts, policy_every_ms(policy));
    membership_put(machine, "policy", bundle);
    membership_put(machine, "policy_facts", buffer_slice(&facts));
    membership_drop(machine, "alarm");
    membership_drop(machine, "waiting");
    forget_maps(machine, policy);
    membership_load_policy(machine);
    membership_set_due(machine, machine->now_ms);
    policy_close(policy);
    buffer_close(&facts);
    return STATUS_OK;
}

bool membership_drop_policy(struct machine *machine)
{
    static const char *const rows[] = {"policy", "policy_facts", "alarm", "waiting", "due"};
    bool there = machine->membership->policy[0] != 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        membership_drop(machine, rows[i]);
    forget_maps(machine, NULL);
    membership_load_policy(machine);
    return there;
}

static bool is_asked(const struct machine *machine)
{
    return machine->membership->policy[0] != 0 && (!machine->membership->alarm || MUTANT(251));
}

void membership_set_due(struct machine *machine, uint64_t at_ms)
{
    if (is_asked(machine))
        membership_set_number(machine, "due", at_ms);
}

uint64_t membership_review_due(const struct machine *machine)
{
    struct slice value;
    if (!is_asked(machine) || membership_pending(machine) || !membership_get(machine, "due", &value))
        return UINT64_MAX;
    return membership_number(machine, "due");
}

static void raise_alarm(struct machine *machine, const struct entry *entry, struct slice why)
{
    struct buffer text = {0};
    pack_text(&text, slice_make(why.data, why.size < ALARM_BYTES ? why.size : ALARM_BYTES));
    membership_put(machine, "alarm", buffer_slice(&text));
    membership_drop(machine, "waiting");
    membership_drop(machine, "due");
    machine->membership->alarm = true;
    machine->catalog_version++; /* what is told of the service is another */
    LOG(LOG_WARN, "machine", "the policy %s failed at entry %llu, and is not asked any more: %.*s",
        machine->membership->policy, (unsigned long long)entry->index, (int)why.size, (const char *)why.data);
    buffer_close(&text);
}

/* --- what it is shown ------------------------------------------------------------------------------------------------- */

static void pack_tags(const struct member *member, struct buffer *out)
{
    if (member->tags_bytes > 0)
        buffer_append(out, member->tags, member->tags_bytes);
    else
        pack_map(out, 0);
}

/* The view of review and admit, of replicated facts alone. */
static void pack_view(const struct machine *machine, struct buffer *out)
{
    const struct members *members = &machine->membership->members;
    const uint64_t leader = membership_number(machine, "leader");
    struct member_facts facts[RAFT_MEMBERS_MAX];
    membership_all_facts(machine, facts);
    pack_map(out, 7);
    pack_text(out, slice_text("config_id"));
    pack_u64(out, members->id);
    pack_text(out, slice_text("leader"));
    if (leader > 0)
        pack_u64(out, leader);
    else
        pack_nil(out);
    pack_text(out, slice_text("members"));
    pack_array(out, (uint32_t)members->count);
    for (size_t i = 0; i < members->count; i++)
        membership_pack_member(machine, &members->list[i], &facts[i], members->list[i].id == leader, out);
    pack_text(out, slice_text("now"));
    pack_u64(out, machine->now_ms);
    pack_text(out, slice_text("pending"));
    pack_boolean(out, membership_pending(machine));
    pack_text(out, slice_text("quorum"));
    pack_u64(out, members_quorum(members));
    pack_text(out, slice_text("voters_up"));
    pack_u64(out, members_up(members, facts));
}

/* A change as admit and observe see it. */
static void pack_change(const struct change *change, struct slice by, struct buffer *out)
{
    pack_map(out, 7);
    pack_text(out, slice_text("address"));
    pack_text(out, slice_text(change->self.address));
    pack_text(out, slice_text("by"));
    pack_text(out, by);
    pack_text(out, slice_text("id"));
    pack_u64(out, change->id);
    pack_text(out, slice_text("op"));
    pack_text(out, slice_text(change_op_name(change->op)));
    pack_text(out, slice_text("tags"));
    pack_tags(&change->self, out);
    pack_text(out, slice_text("with"));
    if (change->with != 0)
        pack_u64(out, change->with);
    else
        pack_nil(out);
    pack_text(out, slice_text("zone"));
    pack_text(out, slice_text(change->self.zone));
}

void membership_event(const struct machine *machine, struct membership_events *events, const char *kind, node_id id,
                      const struct change *change, struct slice by)
{
    const struct member *member = members_find(&machine->membership->members, id);
    struct buffer *out = &events->list;
    pack_map(out, change != NULL ? 5 : 4);
    pack_text(out, slice_text("at"));
    pack_u64(out, machine->now_ms);
    if (change != NULL) {
        pack_text(out, slice_text("change"));
        pack_change(change, by, out);
    }
    pack_text(out, slice_text("id"));
    pack_u64(out, id);
    pack_text(out, slice_text("kind"));
    pack_text(out, slice_text(kind));
    pack_text(out, slice_text("zone"));
    pack_text(out, slice_text(member != NULL ? member->zone : change != NULL ? change->self.zone : ""));
    events->count++;
}

/* --- a room for an entry ---------------------------------------------------------------------------------------------- */

struct room {
    struct machine *machine;
    const struct entry *entry;
    struct policy *policy; /* NULL: it could not be opened */
    struct buffer why;     /* not empty: it failed, and is not asked any more */
};

static void enter(struct room *room, struct machine *machine, const struct entry *entry)
{
    const struct vm_entry facts = {.index = entry->index,
                                   .term = entry->term,
                                   .now_ms = machine->now_ms,
                                   .seed = machine_seed(machine->cluster_id, entry->index)};
    struct slice bundle;
    *room = (struct room){.machine = machine, .entry = entry};
    CHECK(membership_find_policy(machine, &bundle));
    if (open_room(machine, bundle, &room->policy, &room->why) == STATUS_OK)
        policy_begin(room->policy, &facts, &machine->limits);
}

/* A failure raises the alarm. */
static void leave(struct room *room)
{
    if (room->policy != NULL)
        policy_end(room->policy);
    policy_close(room->policy);
    if (room->why.size > 0)
        raise_alarm(room->machine, room->entry, buffer_slice(&room->why));
    buffer_close(&room->why);
}

/* Asks one function, if it has it and nothing failed before. `args`: a MessagePack list. */
static bool ask(struct room *room, enum policy_function function, const struct buffer *args, struct buffer *result)
{
    return room->why.size == 0 && policy_has(room->policy, function) &&
           policy_ask(room->policy, function, buffer_slice(args), result, &room->why) == STATUS_OK;
}

static void tell_events(struct room *room, const struct membership_events *events)
{
    struct pack_reader reader = pack_reader_make(buffer_slice(&events->list));
    struct buffer args = {0};
    struct buffer unused = {0};
    for (size_t i = 0; i < events->count && room->why.size == 0; i++) {
        struct slice event;
        CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &event) == STATUS_OK);
        buffer_clear(&args);
        pack_array(&args, 1);
        buffer_append(&args, event.data, event.size);
        (void)ask(room, POLICY_OBSERVE, &args, &unused);
    }
    buffer_close(&args);
    buffer_close(&unused);
}

/* --- review ----------------------------------------------------------------------------------------------------------- */

/* What review is silent about: when it is asked again. */
static void set_wait(struct machine *machine, uint64_t wait_ms, struct slice why)
{
    struct buffer row = {0};
    if (wait_ms > 0)
        wait_ms = wait_ms < WAIT_MIN_MS ? WAIT_MIN_MS : wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms;
    uint64_t next_ms = wait_ms > 0 ? wait_ms : machine->membership->every_ms;
    if (wait_ms > 0) {
        pack_map(&row, 2);
        pack_text(&row, slice_text("until"));
        pack_u64(&row, machine->now_ms + wait_ms);
        pack_text(&row, slice_text("why"));
        pack_text(&row, why);
        membership_put(machine, "waiting", buffer_slice(&row));
    } else {
        membership_drop(machine, "waiting");
    }
    if (next_ms > 0)
        membership_set_due(machine, machine->now_ms + next_ms);
    else if (!MUTANT(254))
        membership_drop(machine, "due");
    buffer_close(&row);
}

/* An add of a policy's is an invitation, for only the node itself knows who it is. */
static bool take_operations(struct machine *machine, const struct entry *entry, const struct changes *changes,
                            struct slice why, struct refusal *refusal)
{
    const struct change *first = &changes->list[0];
    bool adds = false;
    for (size_t i = 0; i < changes->count; i++)
        adds = adds || changes->list[i].op == CHANGE_ADD;
    if (!adds)
        return membership_decide(machine, entry, changes, slice_text("policy"), why, false, refusal);
    if (changes->count > 1)
        return refuse_change(refusal, ERROR_BAD_ARGS,
                             "add comes alone: it invites a node, which then joins by itself");
    if (members_find(&machine->membership->members, first->id) != NULL)
        return refuse_change(refusal, ERROR_EXISTS, "node %llu is a member already", (unsigned long long)first->id);
    return membership_invite_at(machine, first->id, first->self.address, 0, slice_make(NULL, 0), refusal);
}

static void take_review(struct room *room, struct slice said)
{
    struct changes *changes = mem_zalloc(1, sizeof *changes);
    struct pack_reader reader = pack_reader_make(said);
    struct refusal refusal = {.text = ""};
    struct slice why = {0};
    uint64_t wait_ms = 0;
    uint32_t parts = 0;
    CHECK(pack_read_array(&reader, &parts) == STATUS_OK && parts == 3);
    if (changes_read(&reader, changes, &refusal)) {
        CHECK(pack_read_text(&reader, &why) == STATUS_OK && pack_read_u64(&reader, &wait_ms) == STATUS_OK);
        set_wait(room->machine, wait_ms, why);
        if (changes->count > 0)
            (void)take_operations(room->machine, room->entry, changes, why, &refusal);
    }
    if (refusal.text[0] != 0) {
        static const char head[] = "review asks for what makes no sense: ";
        buffer_append(&room->why, head, sizeof head - 1);
        buffer_append(&room->why, refusal.text, strlen(refusal.text));
    }
    mem_free(changes);
}

/* Asks review; what it did to the memory is undone where what it asked for makes no sense. */
static void review(struct room *room)
{
    struct buffer args = {0};
    struct buffer said = {0};
    const tree_mark mark = tree_savepoint(room->machine->tree);
    pack_array(&args, 1);
    pack_view(room->machine, &args);
    if (room->why.size == 0 && !policy_has(room->policy, POLICY_REVIEW))
        set_wait(room->machine, 0, slice_make(NULL, 0));
    else if (ask(room, POLICY_REVIEW, &args, &said))
        take_review(room, buffer_slice(&said));
    if (room->why.size > 0 && !MUTANT(252))
        tree_rollback(room->machine->tree, mark);
    buffer_close(&args);
    buffer_close(&said);
}

void membership_ask_policy(struct machine *machine, const struct entry *entry,
                           const struct membership_events *events, bool with_review, bool skipped)
{
    struct room room;
    bool pending = membership_pending(machine) && !MUTANT(253);
    if (!is_asked(machine))
        return;
    if (skipped) {
        raise_alarm(machine, entry,
                    slice_text("an operator had the entry skipped in which it would have been asked"));
        return;
    }
    if (events->count == 0 && (!with_review || pending))
        return;
    enter(&room, machine, entry);
    tell_events(&room, events);
    if (with_review && !pending)
        review(&room);
    leave(&room);
}

/* --- admit ------------------------------------------------------------------------------------------------------------ */

/* What admit said of one change: [whether, why not]. */
static bool is_yes(const struct machine *machine, struct slice said, struct refusal *refusal)
{
    struct pack_reader reader = pack_reader_make(said);
    struct slice why = {0};
    uint32_t parts = 0;
    bool yes = false;
    CHECK(pack_read_array(&reader, &parts) == STATUS_OK && parts == 2);
    CHECK(pack_read_boolean(&reader, &yes) == STATUS_OK && pack_read_text(&reader, &why) == STATUS_OK);
    return yes || refuse_change(refusal, ERROR_DENIED, "the policy %s says no%s%.*s", machine->membership->policy,
                                why.size > 0 ? ": " : "", (int)why.size, (const char *)why.data);
}

static bool admit_all(struct room *room, const struct changes *changes, struct slice by, struct refusal *refusal)
{
    struct buffer args = {0};
    struct buffer said = {0};
    bool yes = true;
    for (size_t i = 0; i < changes->count && yes; i++) {
        buffer_clear(&args);
        buffer_clear(&said);
        pack_array(&args, 2);
        pack_view(room->machine, &args);
        pack_change(&changes->list[i], by, &args);
        yes = ask(room, POLICY_ADMIT, &args, &said) && is_yes(room->machine, buffer_slice(&said), refusal);
    }
    buffer_close(&args);
    buffer_close(&said);
    return yes;
}

bool membership_admits(struct machine *machine, const struct entry *entry, const struct changes *changes,
                       struct slice by, bool *manual, struct refusal *refusal)
{
    struct room room;
    struct membership_events events = {0};
    *manual = true;
    if (!is_asked(machine))
        return true;
    for (size_t i = 0; i < changes->count; i++)
        membership_event(machine, &events, "requested", changes->list[i].id, &changes->list[i], by);
    enter(&room, machine, entry);
    tell_events(&room, &events);
    *manual = room.why.size == 0 && !policy_has(room.policy, POLICY_ADMIT);
    bool yes = *manual || admit_all(&room, changes, by, refusal);
    if (room.why.size > 0)
        yes = refuse_change(refusal, ERROR_DENIED,
                            "the policy %s failed, and is not asked any more (from now on it is as manual): %.*s",
                            machine->membership->policy, (int)(room.why.size < 200 ? room.why.size : 200),
                            (const char *)room.why.data);
    leave(&room);
    buffer_close(&events.list);
    return yes;
}
