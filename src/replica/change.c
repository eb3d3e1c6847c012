/* replica/change.c - the leader does what the machine decided about members (machine/membership.h): another configuration, or a
 * transfer. Private to replica/, see replica/members.h.
 *
 * It acts once it has applied its term's first entry, through compare-and-set, and goes on trying while what is in the way can pass
 * (a new voter that has to catch up, a change that is not done). What cannot be, or is in the way for long, is given back as an entry, for
 * nothing else is decided before.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { PATIENCE_ELECTIONS = 20 };

/* --- what the machine says -------------------------------------------------------------------------------------------------- */

static bool is_text(struct slice name, const char *text)
{
    return slice_equal(name, slice_text(text));
}

/* [[op, id, ...], ...]: of a transfer the only one. */
static void read_changes(struct changing *all, struct slice value)
{
    struct pack_reader reader = pack_reader_make(value);
    struct slice op;
    uint32_t count = 0;
    uint32_t fields = 0;
    CHECK(pack_read_array(&reader, &count) == STATUS_OK && count > 0);
    CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields > 1);
    CHECK(pack_read_text(&reader, &op) == STATUS_OK);
    if (is_text(op, "transfer"))
        CHECK(pack_read_u64(&reader, &all->transfer_to) == STATUS_OK);
}

static void read_goal(struct changing *all, struct slice value)
{
    struct pack_reader reader = pack_reader_make(value);
    struct slice payload;
    if (pack_read_text(&reader, &payload) != STATUS_OK)
        return; /* nil: a transfer */
    all->goal = mem_zalloc(1, sizeof *all->goal);
    CHECK(members_unpack(payload, all->goal) == STATUS_OK);
}

static void read_decision(struct changing *all, struct slice value)
{
    struct pack_reader reader = pack_reader_make(value);
    uint32_t count = 0;
    raft_index before = all->decision;
    mem_free(all->goal);
    all->goal = NULL;
    all->transfer_to = 0;
    all->decision = 0;
    if (pack_read_map(&reader, &count) != STATUS_OK)
        return; /* nil */
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        struct slice part;
        CHECK(pack_read_text(&reader, &name) == STATUS_OK);
        CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &part) == STATUS_OK);
        struct pack_reader inside = pack_reader_make(part);
        if (is_text(name, "index"))
            CHECK(pack_read_u64(&inside, &all->decision) == STATUS_OK);
        else if (is_text(name, "configuration"))
            CHECK(pack_read_u64(&inside, &all->expected) == STATUS_OK);
        else if (is_text(name, "force"))
            CHECK(pack_read_boolean(&inside, &all->force) == STATUS_OK);
        else if (is_text(name, "changes"))
            read_changes(all, part);
        else if (is_text(name, "members"))
            read_goal(all, part);
    }
    if (all->decision == before)
        return;
    all->since = all->try_at = 0;
    all->transferring = false;
}

static void read_observed(struct observing *all, struct slice value)
{
    struct pack_reader reader = pack_reader_make(value);
    uint32_t count = 0;
    CHECK(pack_read_array(&reader, &count) == STATUS_OK && count <= RAFT_MEMBERS_MAX);
    all->seen_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct seen *seen = &all->seen[i];
        uint32_t fields = 0;
        CHECK(pack_read_array(&reader, &fields) == STATUS_OK && fields == 5);
        CHECK(pack_read_u64(&reader, &seen->id) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &seen->silent_since_ms) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &seen->lag) == STATUS_OK);
        CHECK(pack_read_boolean(&reader, &seen->caught_up) == STATUS_OK);
        CHECK(pack_read_boolean(&reader, &seen->parked) == STATUS_OK);
    }
}

void change_heard(struct replica *replica, struct slice packed)
{
    struct observing *observing = &replica->observing;
    struct pack_reader reader = pack_reader_make(packed);
    uint32_t count = 0;
    bool manual = true;
    bool invited = false;
    bool handing = false;
    if (packed.size == 0)
        return;
    CHECK(pack_read_map(&reader, &count) == STATUS_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        struct slice value;
        CHECK(pack_read_text(&reader, &name) == STATUS_OK);
        CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &value) == STATUS_OK);
        struct pack_reader inside = pack_reader_make(value);
        struct slice text;
        uint32_t entries = 0;
        if (is_text(name, "decision"))
            read_decision(&replica->changing, value);
        else if (is_text(name, "observed"))
            read_observed(observing, value);
        else if (is_text(name, "leader"))
            CHECK(pack_read_u64(&inside, &observing->observer) == STATUS_OK);
        else if (is_text(name, "policy"))
            manual = pack_read_text(&inside, &text) == STATUS_OK && is_text(text, "manual");
        else if (is_text(name, "invited"))
            invited = pack_read_array(&inside, &entries) == STATUS_OK && entries > 0;
        else if (is_text(name, "handing"))
            CHECK(pack_read_boolean(&inside, &handing) == STATUS_OK);
    }
    observing->wanted = !manual || invited || handing;
}

/* --- carrying it out -------------------------------------------------------------------------------------------------------- */

static void give_back(struct replica *replica, const char *why)
{
    struct changing *all = &replica->changing;
    struct buffer payload = {0};
    pack_array(&payload, 5);
    pack_text(&payload, slice_text("leader"));
    pack_boolean(&payload, false);
    pack_u64(&payload, all->decision);
    pack_array(&payload, 0);
    pack_text(&payload, slice_text(why));
    requests_propose_own(replica, ENTRY_MEMBERSHIP, buffer_slice(&payload));
    buffer_close(&payload);
    all->try_at = replica->now.boot_ms + PATIENCE_ELECTIONS * (uint64_t)replica->raft_options.election_timeout_ms;
    LOG(LOG_WARN, "members", "what was decided at entry %llu cannot be done: %s", (unsigned long long)all->decision,
        why);
}

static void again_later(struct replica *replica, const char *why)
{
    const struct changing *all = &replica->changing;
    if (replica->now.boot_ms - all->since >
        PATIENCE_ELECTIONS * (uint64_t)replica->raft_options.election_timeout_ms)
        give_back(replica, why);
}

static void change(struct replica *replica)
{
    struct changing *all = &replica->changing;
    const struct members *now = members_now(replica);
    struct raft_configuration goal;
    if (now == NULL || now->id != all->expected)
        return; /* it is under way, or the next one that is applied ends this */
    members_to_raft(all->goal, &goal);
    struct raft_event event = {
        .type = RAFT_EVENT_CHANGE,
        .change = {.configuration = &goal, .expected_id = all->expected, .force = all->force}};
    all->asked = all->goal;
    replica_step(replica, &event);
    all->asked = NULL;
    switch (replica->effects.change) {
    case RAFT_CHANGE_TAKEN:
        LOG(LOG_INFO, "members", "carries out what was decided at entry %llu", (unsigned long long)all->decision);
        break;
    case RAFT_CHANGE_TOO_EARLY:
    case RAFT_CHANGE_PENDING:
    case RAFT_CHANGE_TRANSFERRING:
        again_later(replica, "another change, or a transfer, was not done for long");
        break;
    case RAFT_CHANGE_BEHIND:
        again_later(replica, "a new voter did not catch up");
        break;
    case RAFT_CHANGE_NO_VOTERS:
    case RAFT_CHANGE_UNSOUND:
    case RAFT_CHANGE_TOO_MANY:
        give_back(replica, "no such configuration can be: no voters, too many members, or a priority");
        break;
    default:
        break;
    }
}

static void transfer(struct replica *replica)
{
    struct changing *all = &replica->changing;
    if (all->transferring || handover_goes_on(replica))
        return;
    if (all->transfer_to == replica->identity.id) {
        give_back(replica, "that node leads already");
        return;
    }
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .transfer = {.to = all->transfer_to}};
    replica_step(replica, &event);
    if (replica->effects.transfer == RAFT_TRANSFER_BEGUN)
        all->transferring = true;
    else if (replica->effects.transfer == RAFT_TRANSFER_REFUSED)
        again_later(replica, "that node is no voter that answers");
}

void change_transfer_ended(struct replica *replica)
{
    struct changing *all = &replica->changing;
    if (!all->transferring || replica->effects.transfer != RAFT_TRANSFER_FAILED)
        return;
    all->transferring = false;
    give_back(replica, "that node did not take over within an election time-out");
}

void change_turn(struct replica *replica)
{
    struct changing *all = &replica->changing;
    if (!replica_leads(replica) || all->decision == 0) {
        all->since = all->try_at = 0;
        all->transferring = false;
        return;
    }
    if (replica_is_parked(replica) || replica->stopping || replica->now.boot_ms < all->try_at ||
        raft_term_at(replica->raft, replica->applied) != replica->effects.term)
        return;
    if (all->since == 0)
        all->since = replica->now.boot_ms;
    all->try_at = replica->now.boot_ms + replica->raft_options.heartbeat_ms;
    if (all->transfer_to != 0)
        transfer(replica);
    else if (all->goal != NULL)
        change(replica);
}
