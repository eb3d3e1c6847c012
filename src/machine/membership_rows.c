/* machine/membership_rows.c - what is kept of membership: facts, invitations, the decision, the history. See
 * machine/membership_private.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "state/key.h"
#include "wire/pack.h"

enum { FACTS_FIELDS = 5, INVITATION_FIELDS = 3, DECISION_FIELDS = 7, LINE_FIELDS = 7 };

/* --- rows ------------------------------------------------------------------------------------------------------------- */

void membership_key(struct buffer *key, const char *what)
{
    host_key(key, HOST_MEMBERSHIP, slice_text(what), slice_make(NULL, 0));
}

bool membership_get(const struct machine *machine, const char *what, struct slice *value)
{
    struct buffer key = {0};
    membership_key(&key, what);
    bool found = tree_get(machine->tree, buffer_slice(&key), value);
    buffer_close(&key);
    return found;
}

void membership_put(struct machine *machine, const char *what, struct slice value)
{
    struct buffer key = {0};
    membership_key(&key, what);
    (void)tree_put(machine->tree, buffer_slice(&key), value);
    buffer_close(&key);
    machine->membership->version++;
}

void membership_drop(struct machine *machine, const char *what)
{
    struct buffer key = {0};
    membership_key(&key, what);
    if (tree_del(machine->tree, buffer_slice(&key)))
        machine->membership->version++;
    buffer_close(&key);
}

bool membership_get_at(const struct machine *machine, const char *what, uint64_t number, struct slice *value)
{
    struct buffer key = {0};
    host_key_numbered(&key, HOST_MEMBERSHIP, slice_text(what), number);
    bool found = tree_get(machine->tree, buffer_slice(&key), value);
    buffer_close(&key);
    return found;
}

void membership_put_at(struct machine *machine, const char *what, uint64_t number, struct slice value)
{
    struct buffer key = {0};
    host_key_numbered(&key, HOST_MEMBERSHIP, slice_text(what), number);
    (void)tree_put(machine->tree, buffer_slice(&key), value);
    buffer_close(&key);
    machine->membership->version++;
}

bool membership_drop_at(struct machine *machine, const char *what, uint64_t number)
{
    struct buffer key = {0};
    host_key_numbered(&key, HOST_MEMBERSHIP, slice_text(what), number);
    bool there = tree_del(machine->tree, buffer_slice(&key));
    buffer_close(&key);
    machine->membership->version += there;
    return there;
}

uint64_t membership_number(const struct machine *machine, const char *what)
{
    struct slice value;
    uint64_t number = 0;
    if (membership_get(machine, what, &value)) {
        struct pack_reader reader = pack_reader_make(value);
        CHECK(pack_read_u64(&reader, &number) == STATUS_OK);
    }
    return number;
}

void membership_set_number(struct machine *machine, const char *what, uint64_t number)
{
    struct buffer value = {0};
    pack_u64(&value, number);
    membership_put(machine, what, buffer_slice(&value));
    buffer_close(&value);
}

/* The bounds of all rows that begin with {what}. */
static void bounds_of(const char *what, struct buffer *lo, struct buffer *hi)
{
    membership_key(lo, what);
    membership_key(hi, what);
    key_after_prefix(hi);
}

void membership_drop_all(struct machine *machine, const char *what)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    bounds_of(what, &lo, &hi);
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value)) {
        struct buffer copy = {0};
        buffer_append(&copy, key.data, key.size);
        (void)tree_del(machine->tree, buffer_slice(&copy));
        buffer_close(&copy);
        machine->membership->version++;
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
}

/* --- facts ------------------------------------------------------------------------------------------------------------ */

struct member_facts membership_facts(const struct machine *machine, node_id id)
{
    struct member_facts facts = {.id = id, .caught_up = true, .steady_since_ms = 1};
    struct slice value;
    uint32_t fields = 0;
    if (!membership_get_at(machine, "facts", id, &value))
        return facts;
    struct pack_reader reader = pack_reader_make(value);
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == FACTS_FIELDS);
    CHECK(pack_read_u64(&reader, &facts.silent_since_ms) == STATUS_OK);
    CHECK(pack_read_u64(&reader, &facts.lag) == STATUS_OK);
    CHECK(pack_read_boolean(&reader, &facts.caught_up) == STATUS_OK);
    CHECK(pack_read_boolean(&reader, &facts.parked) == STATUS_OK);
    CHECK(pack_read_u64(&reader, &facts.steady_since_ms) == STATUS_OK);
    return facts;
}

void membership_all_facts(const struct machine *machine, struct member_facts facts[RAFT_MEMBERS_MAX])
{
    const struct members *members = &machine->membership->members;
    for (size_t i = 0; i < members->count; i++)
        facts[i] = membership_facts(machine, members->list[i].id);
}

void membership_put_facts(struct machine *machine, const struct member_facts *facts)
{
    struct buffer value = {0};
    pack_array(&value, FACTS_FIELDS);
    pack_u64(&value, facts->silent_since_ms);
    pack_u64(&value, facts->lag);
    pack_boolean(&value, facts->caught_up);
    pack_boolean(&value, facts->parked);
    pack_u64(&value, facts->steady_since_ms);
    membership_put_at(machine, "facts", facts->id, buffer_slice(&value));
    buffer_close(&value);
}

/* --- invitations ------------------------------------------------------------------------------------------------------ */

static bool read_invitation(struct slice value, struct invitation *invitation)
{
    struct pack_reader reader = pack_reader_make(value);
    struct slice address;
    uint32_t fields = 0;
    if (pack_read_array(&reader, &fields) != STATUS_OK || fields != INVITATION_FIELDS ||
        pack_read_text(&reader, &address) != STATUS_OK || address.size >= sizeof invitation->address ||
        pack_read_u64(&reader, &invitation->replaces) != STATUS_OK)
        return false;
    struct slice why;
    if (pack_read_text(&reader, &why) != STATUS_OK || why.size >= sizeof invitation->why)
        return false;
    memcpy(invitation->address, address.data, address.size);
    invitation->address[address.size] = 0;
    if (why.size > 0)
        memcpy(invitation->why, why.data, why.size);
    invitation->why[why.size] = 0;
    return true;
}

bool membership_invitation(const struct machine *machine, node_id id, struct invitation *invitation)
{
    struct slice value;
    invitation->id = id;
    if (!membership_get_at(machine, "invited", id, &value))
        return false;
    CHECK(read_invitation(value, invitation));
    return true;
}

void membership_invite(struct machine *machine, const struct invitation *invitation)
{
    struct buffer value = {0};
    pack_array(&value, INVITATION_FIELDS);
    pack_text(&value, slice_text(invitation->address));
    pack_u64(&value, invitation->replaces);
    pack_text(&value, slice_text(invitation->why));
    membership_put_at(machine, "invited", invitation->id, buffer_slice(&value));
    buffer_close(&value);
}

/* The number that a row {what, number} has for its key. */
static uint64_t number_of(struct slice key)
{
    struct key_reader reader = {.rest = slice_make(key.data + ROW_NUMBER_BYTES, key.size - ROW_NUMBER_BYTES)};
    struct key_element element;
    CHECK(key_read(&reader, &element) == STATUS_OK && element.type == KEY_TEXT);
    CHECK(key_read(&reader, &element) == STATUS_OK && element.type == KEY_NUMBER);
    buffer_close(&reader.scratch);
    return (uint64_t)element.number;
}

size_t membership_invited(const struct machine *machine, struct invitation list[MEMBERSHIP_INVITED_MAX])
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    size_t count = 0;
    bounds_of("invited", &lo, &hi);
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (count < MEMBERSHIP_INVITED_MAX && tree_cursor_next(cursor, &key, &value)) {
        list[count].id = number_of(key);
        CHECK(read_invitation(value, &list[count]));
        count++;
    }
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    return count;
}

/* --- decision and history --------------------------------------------------------------------------------------------- */

bool membership_decision(const struct machine *machine, struct decision *decision)
{
    struct slice value;
    uint32_t fields = 0;
    if (!membership_get(machine, "decision", &value))
        return false;
    struct pack_reader reader = pack_reader_make(value);
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == DECISION_FIELDS);
    CHECK(pack_read_u64(&reader, &decision->index) == STATUS_OK);
    CHECK(pack_read_u64(&reader, &decision->configuration) == STATUS_OK);
    CHECK(pack_read_boolean(&reader, &decision->force) == STATUS_OK);
    CHECK(pack_read_text(&reader, &decision->by) == STATUS_OK);
    CHECK(pack_read_text(&reader, &decision->why) == STATUS_OK);
    CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &decision->changes) == STATUS_OK);
    CHECK(pack_read_text(&reader, &decision->members) == STATUS_OK);
    return true;
}

/* What the members' facts are now, for who reads the history. */
static void pack_observed(const struct machine *machine, struct buffer *out)
{
    static const char *const names[] = {"caught_up", "id",   "is_leader", "lag",
                                        "parked",    "role", "silent_ms", "steady_ms"};
    const struct members *members = &machine->membership->members;
    uint64_t leader = membership_number(machine, "leader");
    struct member_facts facts[RAFT_MEMBERS_MAX];
    membership_all_facts(machine, facts);
    pack_array(out, (uint32_t)members->count);
    for (size_t i = 0; i < members->count; i++) {
        const struct member_facts *one = &facts[i];
        size_t at = 0;
        pack_map(out, sizeof names / sizeof names[0]);
        pack_text(out, slice_text(names[at++]));
        pack_boolean(out, one->caught_up);
        pack_text(out, slice_text(names[at++]));
        pack_u64(out, one->id);
        pack_text(out, slice_text(names[at++]));
        pack_boolean(out, one->id == leader);
        pack_text(out, slice_text(names[at++]));
        pack_u64(out, one->lag);
        pack_text(out, slice_text(names[at++]));
        pack_boolean(out, one->parked);
        pack_text(out, slice_text(names[at++]));
        pack_text(out, slice_text(member_role_name(&members->list[i])));
        pack_text(out, slice_text(names[at++]));
        pack_u64(out, member_silent_ms(machine, one));
        pack_text(out, slice_text(names[at++]));
        pack_u64(out, member_steady_ms(machine, one));
    }
}

/* A line of the history: [configuration, done, by, force, why, changes, observed]; done is nil, true or text. The first two are said again
 * when it is known what came of it. */
static void pack_line_head(struct buffer *out, uint64_t configuration, const char *done)
{
    pack_array(out, LINE_FIELDS);
    pack_u64(out, configuration);
    if (done == NULL)
        pack_nil(out);
    else if (done[0] == 0)
        pack_boolean(out, true);
    else
        pack_text(out, slice_text(done));
}

static void bound_history(struct machine *machine)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    uint64_t first = 0;
    bounds_of("history", &lo, &hi);
    if (tree_count(machine->tree, buffer_slice(&lo), buffer_slice(&hi)) > MEMBERSHIP_HISTORY_MAX && !MUTANT(247)) {
        struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
        CHECK(tree_cursor_next(cursor, &key, &value));
        first = number_of(key);
        tree_cursor_close(cursor);
        (void)membership_drop_at(machine, "history", first);
        (void)membership_drop_at(machine, "aside", first);
    }
    buffer_close(&lo);
    buffer_close(&hi);
}

void membership_put_decision(struct machine *machine, const struct decision *decision)
{
    struct buffer value = {0};
    struct buffer line = {0};
    pack_array(&value, DECISION_FIELDS);
    pack_u64(&value, decision->index);
    pack_u64(&value, decision->configuration);
    pack_boolean(&value, decision->force);
    pack_text(&value, decision->by);
    pack_text(&value, decision->why);
    buffer_append(&value, decision->changes.data, decision->changes.size);
    pack_bin(&value, decision->members);
    pack_line_head(&line, 0, NULL);
    pack_text(&line, decision->by);
    pack_boolean(&line, decision->force);
    pack_text(&line, decision->why);
    buffer_append(&line, decision->changes.data, decision->changes.size);
    pack_observed(machine, &line);
    membership_put(machine, "decision", buffer_slice(&value));
    membership_put_at(machine, "history", decision->index, buffer_slice(&line));
    bound_history(machine);
    buffer_close(&value);
    buffer_close(&line);
}

void membership_note_done(struct machine *machine, raft_index index, uint64_t configuration, const char *done)
{
    struct buffer line = {0};
    struct slice value;
    struct slice skipped;
    uint32_t fields = 0;
    if (!membership_get_at(machine, "history", index, &value))
        return;
    struct pack_reader reader = pack_reader_make(value);
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == LINE_FIELDS);
    CHECK(pack_skip(&reader, 1, &skipped) == STATUS_OK && pack_skip(&reader, 1, &skipped) == STATUS_OK);
    pack_line_head(&line, configuration, done);
    struct slice rest = pack_rest(&reader);
    buffer_append(&line, rest.data, rest.size);
    membership_put_at(machine, "history", index, buffer_slice(&line));
    buffer_close(&line);
}

void membership_end_decision(struct machine *machine, uint64_t configuration, const char *done)
{
    struct decision decision;
    if (!membership_decision(machine, &decision))
        return;
    membership_note_done(machine, decision.index, configuration, done);
    membership_drop(machine, "decision");
}

void membership_set_aside(struct machine *machine)
{
    struct decision decision;
    struct buffer members = {0};
    if (!membership_decision(machine, &decision))
        return;
    buffer_append(&members, decision.members.data, decision.members.size); /* the tree is about to change */
    if (members.size > 0)
        membership_put_at(machine, "aside", decision.index, buffer_slice(&members));
    membership_end_decision(machine, 0, "a forced request took its place");
    buffer_close(&members);
}

raft_index membership_find_aside(const struct machine *machine, struct slice members)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    raft_index found = 0;
    bounds_of("aside", &lo, &hi);
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (found == 0 && tree_cursor_next(cursor, &key, &value))
        if (slice_equal(value, members) && !MUTANT(288))
            found = number_of(key);
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    return found;
}

/* --- telling ---------------------------------------------------------------------------------------------------------- */

static void pack_decision(const struct machine *machine, struct buffer *out)
{
    struct decision decision;
    if (!membership_decision(machine, &decision)) {
        pack_nil(out);
        return;
    }
    pack_map(out, 7);
    pack_text(out, slice_text("by"));
    pack_text(out, decision.by);
    pack_text(out, slice_text("changes"));
    buffer_append(out, decision.changes.data, decision.changes.size);
    pack_text(out, slice_text("configuration"));
    pack_u64(out, decision.configuration);
    pack_text(out, slice_text("force"));
    pack_boolean(out, decision.force);
    pack_text(out, slice_text("index"));
    pack_u64(out, decision.index);
    pack_text(out, slice_text("members"));
    if (decision.members.size > 0)
        pack_bin(out, decision.members);
    else
        pack_nil(out);
    pack_text(out, slice_text("why"));
    pack_text(out, decision.why);
}

static void pack_invited(const struct machine *machine, struct buffer *out)
{
    struct invitation list[MEMBERSHIP_INVITED_MAX];
    size_t count = membership_invited(machine, list);
    pack_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pack_map(out, 3);
        pack_text(out, slice_text("address"));
        pack_text(out, slice_text(list[i].address));
        pack_text(out, slice_text("id"));
        pack_u64(out, list[i].id);
        pack_text(out, slice_text("replaces"));
        pack_u64(out, list[i].replaces);
    }
}

static void pack_facts(const struct machine *machine, struct buffer *out)
{
    const struct members *members = &machine->membership->members;
    struct member_facts facts[RAFT_MEMBERS_MAX];
    membership_all_facts(machine, facts);
    pack_array(out, (uint32_t)members->count);
    for (size_t i = 0; i < members->count; i++) {
        pack_array(out, 5);
        pack_u64(out, facts[i].id);
        pack_u64(out, facts[i].silent_since_ms);
        pack_u64(out, facts[i].lag);
        pack_boolean(out, facts[i].caught_up);
        pack_boolean(out, facts[i].parked);
    }
}

/* A row that is a whole value, or nil. */
static void pack_row(const struct machine *machine, const char *what, struct buffer *out)
{
    struct slice value;
    if (membership_get(machine, what, &value))
        buffer_append(out, value.data, value.size);
    else
        pack_nil(out);
}

static void pack_name(struct buffer *out, const char *name)
{
    pack_text(out, slice_text(name));
}

void membership_pack_member(const struct machine *machine, const struct member *member,
                            const struct member_facts *facts, bool leads, struct buffer *out)
{
    pack_map(out, 13);
    pack_name(out, "address");
    pack_name(out, member->address);
    pack_name(out, "caught_up");
    pack_boolean(out, facts->caught_up);
    pack_name(out, "id");
    pack_u64(out, member->id);
    pack_name(out, "is_leader");
    pack_boolean(out, leads);
    pack_name(out, "lag");
    pack_u64(out, facts->lag);
    pack_name(out, "old"); /* while it is joint: it voted before, and will not */
    pack_boolean(out, (member->roles & MEMBER_OLD_VOTER) != 0 && (member->roles & MEMBER_VOTER) == 0);
    pack_name(out, "parked");
    pack_boolean(out, facts->parked);
    pack_name(out, "priority");
    pack_u64(out, member->priority);
    pack_name(out, "role");
    pack_name(out, member_role_name(member));
    pack_name(out, "silent_ms");
    pack_u64(out, member_silent_ms(machine, facts));
    pack_name(out, "steady_ms");
    pack_u64(out, member_steady_ms(machine, facts));
    pack_name(out, "tags");
    if (member->tags_bytes > 0)
        buffer_append(out, member->tags, member->tags_bytes);
    else
        pack_map(out, 0);
    pack_name(out, "zone");
    pack_name(out, member->zone);
}

static void pack_members(const struct machine *machine, struct buffer *out)
{
    const struct members *members = &machine->membership->members;
    const uint64_t leader = membership_number(machine, "leader");
    struct member_facts facts[RAFT_MEMBERS_MAX];
    membership_all_facts(machine, facts);
    pack_array(out, (uint32_t)members->count);
    for (size_t i = 0; i < members->count; i++)
        membership_pack_member(machine, &members->list[i], &facts[i], members->list[i].id == leader, out);
}

void machine_pack_membership(const struct machine *machine, struct buffer *out)
{
    struct slice handing;
    pack_map(out, 11);
    pack_text(out, slice_text("alarm"));
    pack_row(machine, "alarm", out);
    pack_text(out, slice_text("configuration"));
    pack_u64(out, machine->membership->members.id);
    pack_text(out, slice_text("decision"));
    pack_decision(machine, out);
    pack_text(out, slice_text("handing"));
    pack_boolean(out, membership_get(machine, "handing", &handing));
    pack_text(out, slice_text("invited"));
    pack_invited(machine, out);
    pack_text(out, slice_text("joint"));
    pack_boolean(out, members_joint(&machine->membership->members));
    pack_text(out, slice_text("leader"));
    pack_u64(out, membership_number(machine, "leader"));
    pack_text(out, slice_text("members"));
    pack_members(machine, out);
    pack_text(out, slice_text("observed"));
    pack_facts(machine, out);
    pack_text(out, slice_text("policy"));
    pack_text(out, slice_text(machine->membership->policy[0] != 0 ? machine->membership->policy : "manual"));
    pack_text(out, slice_text("waiting"));
    pack_row(machine, "waiting", out);
}

static void pack_line(struct slice value, uint64_t index, struct buffer *out)
{
    static const char *const names[LINE_FIELDS] = {"configuration", "done",    "by",      "force",
                                                   "why",           "changes", "observed"};
    struct slice parts[LINE_FIELDS];
    static const size_t sorted[LINE_FIELDS] = {2, 5, 0, 1, 3, 6, 4}; /* the map's names: index comes behind force */
    struct pack_reader reader = pack_reader_make(value);
    uint32_t fields = 0;
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == LINE_FIELDS);
    for (size_t i = 0; i < LINE_FIELDS; i++)
        CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &parts[i]) == STATUS_OK);
    pack_map(out, LINE_FIELDS + 1);
    for (size_t i = 0; i < LINE_FIELDS; i++) {
        if (i == 5) {
            pack_text(out, slice_text("index"));
            pack_u64(out, index);
        }
        pack_text(out, slice_text(names[sorted[i]]));
        buffer_append(out, parts[sorted[i]].data, parts[sorted[i]].size);
    }
}

void machine_pack_membership_history(const struct machine *machine, struct buffer *out)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    bounds_of("history", &lo, &hi);
    pack_array(out, (uint32_t)tree_count(machine->tree, buffer_slice(&lo), buffer_slice(&hi)));
    struct tree_cursor *cursor = tree_cursor_open(machine->tree, buffer_slice(&lo), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value))
        pack_line(value, number_of(key), out);
    tree_cursor_close(cursor);
    buffer_close(&lo);
    buffer_close(&hi);
}
