/* cli/bind_stage.c - tidelock.stage: a stage of real cores (sim/stage.h) for lua/tidelock/scenario.lua. See cli/bind.h.
 *
 *   stage.new(options) -> s        options: nodes, entry_bytes, start_wait_ms, and the fields of raft_options by name
 *   s:METHOD(id, ...)              as sim/stage.h has them; a node, message or number that cannot be is a Lua error
 *
 * Messages are as in cli/stage_message.h.
 */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/memory.h"
#include "cli/bind.h"
#include "cli/fields.h"
#include "cli/stage_message.h"

#define STAGE_TYPE "tidelock.stage"

static struct stage *check_stage(lua_State *L)
{
    struct stage **box = luaL_checkudata(L, 1, STAGE_TYPE);
    luaL_argcheck(L, *box != NULL, 1, "the stage was closed");
    return *box;
}

static node_id check_node(lua_State *L, struct stage *stage, int at)
{
    uint64_t id = bind_number(L, at);
    luaL_argcheck(L, id >= 1 && id <= stage_nodes(stage), at, "no such node");
    return id;
}

static node_id check_up(lua_State *L, struct stage *stage, int at)
{
    node_id id = check_node(L, stage, at);
    luaL_argcheck(L, stage_node(stage, id)->raft != NULL, at, "the node is down");
    return id;
}

/* --- the stage ---------------------------------------------------------------------------------------------------------- */

/* The list of ids, or of priorities, in field `name` of the table at `at`. */
static size_t take_list(lua_State *L, int at, const char *name, uint64_t *list)
{
    lua_getfield(L, at, name);
    size_t count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    luaL_argcheck(L, count <= RAFT_MEMBERS_MAX, at, name);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        list[i] = bind_number(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return count;
}

/* { voters, learners, priorities } at `at`; the latter by place in voters, those that are not said 0. */
static struct raft_configuration take_configuration(lua_State *L, int at)
{
    uint64_t priorities[RAFT_MEMBERS_MAX];
    struct raft_configuration configuration = {0};
    configuration.voters_count = take_list(L, at, "voters", configuration.voters);
    configuration.learners_count = take_list(L, at, "learners", configuration.learners);
    size_t count = take_list(L, at, "priorities", priorities);
    for (size_t i = 0; i < count; i++) {
        luaL_argcheck(L, priorities[i] <= RAFT_PRIORITY_MAX, at, "priorities");
        configuration.priorities[i] = (uint8_t)priorities[i];
    }
    return configuration;
}

static int stage_lua_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct stage_options options = {
        .nodes = (uint32_t)bind_field(L, 1, "nodes", 3),
        .entry_bytes = (uint32_t)bind_field(L, 1, "entry_bytes", 100),
        .start_wait_ms = (uint32_t)bind_field(L, 1, "start_wait_ms", 0),
        .formed = take_configuration(L, 1),
        .cores = {.election_timeout_ms = (uint32_t)bind_field(L, 1, "election_timeout_ms", 1000),
                  .heartbeat_ms = (uint32_t)bind_field(L, 1, "heartbeat_ms", 100),
                  .window_messages = (uint32_t)bind_field(L, 1, "window_messages", 8),
                  .window_bytes = (uint32_t)bind_field(L, 1, "window_bytes", 100000),
                  .message_bytes_max = (uint32_t)bind_field(L, 1, "message_bytes_max", 10000),
                  .uncommitted_entries_max = bind_field(L, 1, "uncommitted_entries_max", 1000),
                  .lease_drift_ms = (uint32_t)bind_field(L, 1, "lease_drift_ms", 0),
                  .follow_priority = bind_flag(L, 1, "follow_priority"),
                  .no_pre_vote = bind_flag(L, 1, "no_pre_vote"),
                  .no_check_quorum = bind_flag(L, 1, "no_check_quorum"),
                  .no_stickiness = bind_flag(L, 1, "no_stickiness")}};
    luaL_argcheck(L, options.nodes >= 1 && options.nodes <= CORE_NODES_MAX, 1, "nodes");
    luaL_argcheck(L, options.entry_bytes >= 1, 1, "entry_bytes");
    luaL_argcheck(L, options.cores.heartbeat_ms >= 1, 1, "heartbeat_ms");
    luaL_argcheck(L, options.cores.heartbeat_ms < options.cores.election_timeout_ms, 1, "election_timeout_ms");
    luaL_argcheck(L, options.cores.window_messages >= 1 && options.cores.window_messages <= 256, 1,
                  "window_messages");
    struct stage **box = lua_newuserdata(L, sizeof(struct stage *));
    *box = NULL;
    luaL_getmetatable(L, STAGE_TYPE);
    lua_setmetatable(L, -2);
    *box = stage_new(&options);
    return 1;
}

static int stage_lua_close(lua_State *L)
{
    struct stage **box = luaL_checkudata(L, 1, STAGE_TYPE);
    if (*box != NULL)
        stage_free(*box);
    *box = NULL;
    return 0;
}

static int stage_lua_broken(lua_State *L)
{
    lua_pushstring(L, stage_broken(check_stage(L))); /* NULL: nil */
    return 1;
}

static int stage_lua_trace(lua_State *L)
{
    lua_pushstring(L, stage_trace(check_stage(L)));
    return 1;
}

static int stage_lua_committed(lua_State *L)
{
    lua_pushnumber(L, (double)stage_committed(check_stage(L)));
    return 1;
}

/* --- nodes -------------------------------------------------------------------------------------------------------------- */

/* set_disk(id, term, voted_for, {terms}, base) */
static int stage_lua_set_disk(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    raft_term term = bind_number(L, 3);
    node_id voted_for = bind_number(L, 4);
    luaL_checktype(L, 5, LUA_TTABLE);
    luaL_argcheck(L, stage_node(stage, id)->raft == NULL, 2, "the node is up");
    size_t count = lua_objlen(L, 5);
    luaL_argcheck(L, count < CORE_LOG_MAX, 5, "too long");
    raft_term *terms = lua_newuserdata(L, (count + 1) * sizeof *terms);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 5, (int)i + 1);
        terms[i] = bind_number(L, lua_gettop(L));
        lua_pop(L, 1);
        luaL_argcheck(L, terms[i] >= 1 && terms[i] <= term && (i == 0 || terms[i] >= terms[i - 1]), 5,
                      "terms must not fall, nor be above the node's");
    }
    raft_index base = bind_number(L, 6);
    luaL_argcheck(L, base <= count, 6, "beyond the log");
    stage_set_disk(stage, id, term, voted_for, terms, count, base);
    return 0;
}

/* start(id, committed, again) */
static int stage_lua_start(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    raft_index committed = bind_number(L, 3);
    luaL_argcheck(L, stage_node(stage, id)->raft == NULL, 2, "the node is up");
    luaL_argcheck(L, committed <= stage_node(stage, id)->disk_last, 3, "beyond the log");
    stage_start(stage, id, committed, lua_toboolean(L, 4) != 0);
    return 0;
}

static int stage_lua_crash(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_crash(stage, check_up(L, stage, 2), (size_t)bind_number(L, 3));
    return 0;
}

static void set_terms(lua_State *L, const char *name, const raft_term *terms, raft_index last)
{
    lua_createtable(L, (int)last, 0);
    for (raft_index index = 1; index <= last; index++) {
        lua_pushnumber(L, (double)terms[index]);
        lua_rawseti(L, -2, (int)index);
    }
    lua_setfield(L, -2, name);
}

static void set_peers(lua_State *L, const struct raft_status *status)
{
    lua_newtable(L);
    for (size_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        lua_newtable(L);
        bind_set_number(L, "next", peer->next_index);
        bind_set_number(L, "match", peer->match_index);
        bind_set_text(L, "state", peer->replicating ? "replicates" : peer->snapshot ? "snapshots" : "probes");
        bind_set_number(L, "inflight", peer->inflight_messages);
        bind_set_number(L, "window", peer->window_messages);
        bind_set_flag(L, "caught_up", peer->caught_up);
        bind_set_flag(L, "voter", peer->voter);
        lua_rawseti(L, -2, (int)peer->id);
    }
    lua_setfield(L, -2, "peers");
}

static void set_list(lua_State *L, const char *name, const node_id *list, size_t count)
{
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        lua_pushnumber(L, (double)list[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, name);
}

static const char *const change_names[] = {"none",    "taken",        "not-leader", "too-early",
                                           "pending", "transferring", "stale",      "no-voters",
                                           "unsound", "too-many",     "behind",     "no-abort"};
static const char *const transfer_names[] = {"none", "begun", "refused", "failed", "over"};

/* configuration = { id, voters, old_voters, learners, priorities }, transfer_to, transferred, lease */
static void set_members(lua_State *L, struct stage *stage, node_id id, const struct raft_status *status)
{
    struct raft_configuration now;
    node_id priorities[RAFT_MEMBERS_MAX];
    raft_get_configuration(stage_node(stage, id)->raft, &now);
    for (size_t i = 0; i < now.voters_count; i++)
        priorities[i] = now.priorities[i];
    lua_newtable(L);
    bind_set_number(L, "id", now.id);
    set_list(L, "voters", now.voters, now.voters_count);
    set_list(L, "old_voters", now.old_voters, now.old_voters_count);
    set_list(L, "learners", now.learners, now.learners_count);
    set_list(L, "priorities", priorities, now.voters_count);
    lua_setfield(L, -2, "configuration");
    bind_set_number(L, "transfer_to", status->transfer_to);
    bind_set_text(L, "transferred", transfer_names[stage_transferred(stage, id)]);
    bind_set_flag(L, "lease", stage_has_lease(stage, id));
}

/* status(id) -> { up, disk = { term, voted, base, log }, waiting, and if it is up: role, term, voted, leader, commit, durable, base,
 * log, offered, peers, and what set_members says }; a log is all terms, those up to base in a snapshot; offered: { first, last }, or nothing */
static int stage_lua_status(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    const struct core_node *node = stage_node(stage, id);
    lua_newtable(L);
    bind_set_flag(L, "up", node->raft != NULL);
    bind_set_number(L, "waiting", stage_waiting(stage, id));
    lua_newtable(L);
    bind_set_number(L, "term", node->disk_term);
    bind_set_number(L, "voted", node->disk_vote);
    bind_set_number(L, "base", node->disk_base);
    set_terms(L, "log", node->disk_terms, node->disk_last);
    lua_setfield(L, -2, "disk");
    if (node->raft == NULL)
        return 1;
    struct raft_status status;
    raft_get_status(node->raft, &status);
    bind_set_text(L, "role", raft_role_name(status.role));
    bind_set_number(L, "term", status.current_term);
    bind_set_number(L, "voted", status.voted_for);
    bind_set_number(L, "leader", status.leader);
    bind_set_number(L, "commit", status.commit_index);
    bind_set_number(L, "durable", status.durable_index);
    bind_set_number(L, "base", node->base);
    set_terms(L, "log", node->terms, node->last);
    raft_index first;
    raft_index last;
    if (stage_offered(stage, id, &first, &last)) {
        lua_newtable(L);
        bind_set_number(L, "first", first);
        bind_set_number(L, "last", last);
        lua_setfield(L, -2, "offered");
    }
    set_peers(L, &status);
    set_members(L, stage, id, &status);
    return 1;
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

/* propose(id, count) -> taken */
static int stage_lua_propose(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_up(L, stage, 2);
    uint64_t count = bind_number(L, 3);
    luaL_argcheck(L, count >= 1 && count < CORE_LOG_MAX, 3, "a count");
    lua_pushboolean(L, stage_propose(stage, id, count));
    return 1;
}

/* read(id, lease) -> number */
static int stage_lua_read(lua_State *L)
{
    struct stage *stage = check_stage(L);
    lua_pushnumber(L, stage_read(stage, check_up(L, stage, 2), lua_toboolean(L, 3) != 0));
    return 1;
}

/* read_state(number) -> 'none', 'waiting', 'answered', 'refused' or 'lost', and the index */
static int stage_lua_read_state(lua_State *L)
{
    static const char *const names[] = {"none", "waiting", "answered", "refused", "lost"};
    raft_index index = 0;
    uint64_t read = bind_number(L, 2);
    lua_pushstring(L, names[stage_read_state(check_stage(L), read > STAGE_READS_MAX ? 0 : (uint32_t)read, &index)]);
    lua_pushnumber(L, (double)index);
    return 2;
}

/* link(id, peer, up) */
static int stage_lua_link(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_link(stage, check_up(L, stage, 2), check_node(L, stage, 3), lua_toboolean(L, 4) != 0);
    return 0;
}

/* step_down(id, why) */
static int stage_lua_step_down(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_step_down(stage, check_up(L, stage, 2), luaL_checkstring(L, 3));
    return 0;
}

/* change(id, { voters, learners, priorities }, expected id, force) -> what became of it */
static int stage_lua_change(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_up(L, stage, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    struct raft_configuration configuration = take_configuration(L, 3);
    uint64_t expected = bind_number(L, 4);
    lua_pushstring(L, change_names[stage_change(stage, id, &configuration, expected, lua_toboolean(L, 5) != 0)]);
    return 1;
}

/* abort_change(id) -> what became of it */
static int stage_lua_abort_change(lua_State *L)
{
    struct stage *stage = check_stage(L);
    lua_pushstring(L, change_names[stage_abort_change(stage, check_up(L, stage, 2))]);
    return 1;
}

/* transfer(id, to or 0) -> what became of it */
static int stage_lua_transfer(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_up(L, stage, 2);
    lua_pushstring(L, transfer_names[stage_transfer(stage, id, bind_number(L, 3))]);
    return 1;
}

/* campaign(id) */
static int stage_lua_campaign(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_campaign(stage, check_up(L, stage, 2));
    return 0;
}

/* compact(id, index, base) -> false if not all up to index is committed and durable */
static int stage_lua_compact(lua_State *L)
{
    struct stage *stage = check_stage(L);
    raft_index index = bind_number(L, 3);
    raft_index base = bind_number(L, 4);
    luaL_argcheck(L, base <= index, 4, "above the index");
    lua_pushboolean(L, stage_compact(stage, check_up(L, stage, 2), index, base));
    return 1;
}

/* install(id, index or 0) -> taken */
static int stage_lua_install(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_up(L, stage, 2);
    raft_index index = bind_number(L, 3);
    raft_index first;
    raft_index last;
    bool offered = stage_offered(stage, id, &first, &last);
    luaL_argcheck(L, offered && (index == 0 || (index >= first && index <= last)), 3, "was not offered");
    lua_pushboolean(L, stage_install(stage, id, index));
    return 1;
}

/* wake_in(id) -> ms, or nothing */
static int stage_lua_wake_in(lua_State *L)
{
    struct stage *stage = check_stage(L);
    uint64_t ms = stage_wake_in(stage, check_node(L, stage, 2));
    if (ms == UINT64_MAX)
        return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

/* pass(id or 0, ms) */
static int stage_lua_pass(lua_State *L)
{
    struct stage *stage = check_stage(L);
    uint64_t id = bind_number(L, 2);
    stage_pass(stage, id == 0 ? 0 : check_node(L, stage, 2), bind_number(L, 3));
    return 0;
}

/* --- messages ----------------------------------------------------------------------------------------------------------- */

/* receive(message): made by hand */
static int stage_lua_receive(lua_State *L)
{
    struct stage *stage = check_stage(L);
    struct stage_message made;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "to");
    node_id to = check_up(L, stage, lua_gettop(L));
    stage_message_take(L, 2, &made);
    made.message.to = to;
    stage_receive(stage, &made.message, made.runs, made.runs_count);
    return 0;
}

/* A way, at 2 and 3; `to` may be 0 if `outside`. */
static void check_way(lua_State *L, struct stage *stage, bool outside, node_id *from, node_id *to)
{
    *from = check_node(L, stage, 2);
    *to = outside && bind_number(L, 3) == 0 ? 0 : check_node(L, stage, 3);
    luaL_argcheck(L, *from != *to, 3, "a way to itself");
}

/* A way and the place of a message on it, 1 the oldest, at 4. */
static size_t check_message(lua_State *L, struct stage *stage, node_id *from, node_id *to)
{
    check_way(L, stage, true, from, to);
    uint64_t place = bind_number(L, 4);
    luaL_argcheck(L, place >= 1 && place <= stage_count(stage, *from, *to), 4, "no such message");
    return (size_t)place - 1;
}

/* count(from, to) -> how many are on the way */
static int stage_lua_count(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    check_way(L, stage, true, &from, &to);
    lua_pushnumber(L, (double)stage_count(stage, from, to));
    return 1;
}

/* message(from, to, place) -> table */
static int stage_lua_message(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    size_t place = check_message(L, stage, &from, &to);
    stage_message_push(L, stage_message(stage, from, to, place));
    return 1;
}

/* deliver(from, to, place) -> false if the receiver is down */
static int stage_lua_deliver(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    size_t place = check_message(L, stage, &from, &to);
    lua_pushboolean(L, stage_deliver(stage, from, to, place));
    return 1;
}

/* drop(from, to, place), duplicate(from, to, place) */
static int stage_lua_drop(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    size_t place = check_message(L, stage, &from, &to);
    stage_drop(stage, from, to, place);
    return 0;
}

static int stage_lua_duplicate(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    size_t place = check_message(L, stage, &from, &to);
    stage_duplicate(stage, from, to, place);
    return 0;
}

/* cut(from, to, on) */
static int stage_lua_cut(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id from;
    node_id to;
    check_way(L, stage, false, &from, &to);
    stage_cut(stage, from, to, lua_toboolean(L, 4) != 0);
    return 0;
}

/* --- disks -------------------------------------------------------------------------------------------------------------- */

/* hold_disk(id, on) */
static int stage_lua_hold_disk(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_hold_disk(stage, check_node(L, stage, 2), lua_toboolean(L, 3) != 0);
    return 0;
}

/* hold_entries(id, on) */
static int stage_lua_hold_entries(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_hold_entries(stage, check_node(L, stage, 2), lua_toboolean(L, 3) != 0);
    return 0;
}

/* persist(id, count) -> how many */
static int stage_lua_persist(lua_State *L)
{
    struct stage *stage = check_stage(L);
    lua_pushnumber(L, (double)stage_persist(stage, check_up(L, stage, 2), (size_t)bind_number(L, 3)));
    return 1;
}

static int stage_lua_fail_disk(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_fail_disk(stage, check_up(L, stage, 2));
    return 0;
}

int bind_stage(lua_State *L)
{
    static const luaL_Reg methods[] = {{"close", stage_lua_close},
                                       {"broken", stage_lua_broken},
                                       {"trace", stage_lua_trace},
                                       {"committed", stage_lua_committed},
                                       {"set_disk", stage_lua_set_disk},
                                       {"start", stage_lua_start},
                                       {"crash", stage_lua_crash},
                                       {"status", stage_lua_status},
                                       {"propose", stage_lua_propose},
                                       {"read", stage_lua_read},
                                       {"read_state", stage_lua_read_state},
                                       {"link", stage_lua_link},
                                       {"step_down", stage_lua_step_down},
                                       {"change", stage_lua_change},
                                       {"abort_change", stage_lua_abort_change},
                                       {"transfer", stage_lua_transfer},
                                       {"campaign", stage_lua_campaign},
                                       {"wake_in", stage_lua_wake_in},
                                       {"pass", stage_lua_pass},
                                       {"compact", stage_lua_compact},
                                       {"install", stage_lua_install},
                                       {"receive", stage_lua_receive},
                                       {"count", stage_lua_count},
                                       {"message", stage_lua_message},
                                       {"deliver", stage_lua_deliver},
                                       {"drop", stage_lua_drop},
                                       {"duplicate", stage_lua_duplicate},
                                       {"cut", stage_lua_cut},
                                       {"hold_disk", stage_lua_hold_disk},
                                       {"persist", stage_lua_persist},
                                       {"fail_disk", stage_lua_fail_disk},
                                       {"hold_entries", stage_lua_hold_entries},
                                       {NULL, NULL}};
    luaL_newmetatable(L, STAGE_TYPE);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, stage_lua_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, stage_lua_new);
    lua_setfield(L, -2, "new");
    return 1;
}
