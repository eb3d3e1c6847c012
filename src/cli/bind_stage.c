/* cli/bind_stage.c - tidelock.stage: a stage of real cores (sim/stage.h) for lua/tidelock/scenario.lua. See cli/bind.h.
 *
 *   stage.new(options) -> s        options: nodes, entry_bytes, start_wait_ms, and the fields of raft_options by name
 *   s:METHOD(id, ...)              as sim/stage.h has them; a node, message or number that cannot be is a Lua error
 *
 * A message is a table: type, from, to, term and the fields of its type, under the paper's names where it has them.
 */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/memory.h"
#include "cli/bind.h"
#include "sim/stage.h"

#define STAGE_TYPE "tidelock.stage"

/* Whole numbers that a double holds exactly. */
static const double NUMBER_MAX = 9007199254740992.0;

static struct stage *check_stage(lua_State *L)
{
    struct stage **box = luaL_checkudata(L, 1, STAGE_TYPE);
    luaL_argcheck(L, *box != NULL, 1, "the stage was closed");
    return *box;
}

static uint64_t check_number(lua_State *L, int at)
{
    double number = luaL_checknumber(L, at);
    luaL_argcheck(L, number >= 0 && number <= NUMBER_MAX && number == (double)(uint64_t)number, at,
                  "must be a whole number");
    return (uint64_t)number;
}

/* A number of the table at `at`, `otherwise` if it has none by that name. */
static uint64_t field(lua_State *L, int at, const char *name, uint64_t otherwise)
{
    lua_getfield(L, at, name);
    uint64_t number = lua_isnil(L, -1) ? otherwise : check_number(L, lua_gettop(L));
    lua_pop(L, 1);
    return number;
}

static bool flag(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    bool on = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return on;
}

static node_id check_node(lua_State *L, struct stage *stage, int at)
{
    uint64_t id = check_number(L, at);
    luaL_argcheck(L, id >= 1 && id <= stage_nodes(stage), at, "no such node");
    return id;
}

static node_id check_up(lua_State *L, struct stage *stage, int at)
{
    node_id id = check_node(L, stage, at);
    luaL_argcheck(L, stage_node(stage, id)->raft != NULL, at, "the node is down");
    return id;
}

static void set_number(lua_State *L, const char *name, uint64_t number)
{
    lua_pushnumber(L, (double)number);
    lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* --- the stage ---------------------------------------------------------------------------------------------------------- */

static int stage_lua_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct stage_options options = {
        .nodes = (uint32_t)field(L, 1, "nodes", 3),
        .entry_bytes = (uint32_t)field(L, 1, "entry_bytes", 100),
        .start_wait_ms = (uint32_t)field(L, 1, "start_wait_ms", 0),
        .cores = {.election_timeout_ms = (uint32_t)field(L, 1, "election_timeout_ms", 1000),
                  .heartbeat_ms = (uint32_t)field(L, 1, "heartbeat_ms", 100),
                  .window_messages = (uint32_t)field(L, 1, "window_messages", 8),
                  .window_bytes = (uint32_t)field(L, 1, "window_bytes", 100000),
                  .message_bytes_max = (uint32_t)field(L, 1, "message_bytes_max", 10000),
                  .uncommitted_entries_max = field(L, 1, "uncommitted_entries_max", 1000),
                  .no_pre_vote = flag(L, 1, "no_pre_vote"),
                  .no_check_quorum = flag(L, 1, "no_check_quorum"),
                  .no_stickiness = flag(L, 1, "no_stickiness")}};
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

/* set_disk(id, term, voted_for, {terms}) */
static int stage_lua_set_disk(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    raft_term term = check_number(L, 3);
    node_id voted_for = check_number(L, 4);
    luaL_checktype(L, 5, LUA_TTABLE);
    luaL_argcheck(L, stage_node(stage, id)->raft == NULL, 2, "the node is up");
    size_t count = lua_objlen(L, 5);
    luaL_argcheck(L, count < CORE_LOG_MAX, 5, "too long");
    raft_term *terms = lua_newuserdata(L, (count + 1) * sizeof *terms);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 5, (int)i + 1);
        terms[i] = check_number(L, lua_gettop(L));
        lua_pop(L, 1);
        luaL_argcheck(L, terms[i] >= 1 && terms[i] <= term && (i == 0 || terms[i] >= terms[i - 1]), 5,
                      "terms must not fall, nor be above the node's");
    }
    stage_set_disk(stage, id, term, voted_for, terms, count);
    return 0;
}

/* start(id, committed, again) */
static int stage_lua_start(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    raft_index committed = check_number(L, 3);
    luaL_argcheck(L, stage_node(stage, id)->raft == NULL, 2, "the node is up");
    luaL_argcheck(L, committed <= stage_node(stage, id)->disk_last, 3, "beyond the log");
    stage_start(stage, id, committed, lua_toboolean(L, 4) != 0);
    return 0;
}

static int stage_lua_crash(lua_State *L)
{
    struct stage *stage = check_stage(L);
    stage_crash(stage, check_up(L, stage, 2), (size_t)check_number(L, 3));
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
        set_number(L, "next", peer->next_index);
        set_number(L, "match", peer->match_index);
        set_flag(L, "replicating", peer->replicating);
        set_number(L, "inflight", peer->inflight_messages);
        set_number(L, "window", peer->window_messages);
        lua_rawseti(L, -2, (int)peer->id);
    }
    lua_setfield(L, -2, "peers");
}

/* status(id) -> { up, disk = { term, voted, log }, waiting, and if it is up: role, term, voted, leader, commit, log, peers } */
static int stage_lua_status(lua_State *L)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    struct stage *stage = check_stage(L);
    node_id id = check_node(L, stage, 2);
    const struct core_node *node = stage_node(stage, id);
    lua_newtable(L);
    set_flag(L, "up", node->raft != NULL);
    set_number(L, "waiting", stage_waiting(stage, id));
    lua_newtable(L);
    set_number(L, "term", node->disk_term);
    set_number(L, "voted", node->disk_vote);
    set_terms(L, "log", node->disk_terms, node->disk_last);
    lua_setfield(L, -2, "disk");
    if (node->raft == NULL)
        return 1;
    struct raft_status status;
    raft_get_status(node->raft, &status);
    set_text(L, "role", roles[status.role]);
    set_number(L, "term", status.current_term);
    set_number(L, "voted", status.voted_for);
    set_number(L, "leader", status.leader);
    set_number(L, "commit", status.commit_index);
    set_terms(L, "log", node->terms, node->last);
    set_peers(L, &status);
    return 1;
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

/* propose(id, count) -> taken */
static int stage_lua_propose(lua_State *L)
{
    struct stage *stage = check_stage(L);
    node_id id = check_up(L, stage, 2);
    uint64_t count = check_number(L, 3);
    luaL_argcheck(L, count >= 1 && count < CORE_LOG_MAX, 3, "a count");
    lua_pushboolean(L, stage_propose(stage, id, count));
    return 1;
}

/* read(id) -> number */
static int stage_lua_read(lua_State *L)
{
    struct stage *stage = check_stage(L);
    lua_pushnumber(L, stage_read(stage, check_up(L, stage, 2)));
    return 1;
}

/* read_state(number) -> 'none', 'waiting', 'answered', 'refused' or 'lost', and the index */
static int stage_lua_read_state(lua_State *L)
{
    static const char *const names[] = {"none", "waiting", "answered", "refused", "lost"};
    raft_index index = 0;
    uint64_t read = check_number(L, 2);
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
    uint64_t id = check_number(L, 2);
    stage_pass(stage, id == 0 ? 0 : check_node(L, stage, 2), check_number(L, 3));
    return 0;
}

/* --- messages ----------------------------------------------------------------------------------------------------------- */

static const char *type_name(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        return message->request_vote.pre_vote ? "PreVote" : "RequestVote";
    case RAFT_VOTE_RESPONSE:
        return message->vote_response.pre_vote ? "PreVoteReply" : "VoteReply";
    case RAFT_APPEND_ENTRIES:
        return "AppendEntries";
    default:
        return "AppendReply";
    }
}

static void push_entries(lua_State *L, const struct stage_message *message)
{
    const struct raft_append_entries *append = &message->message.append_entries;
    lua_newtable(L);
    size_t run = 0;
    for (raft_index index = append->prev_log_index + 1; index <= append->last_index; index++) {
        while (run + 1 < message->runs_count && message->runs[run + 1].first <= index)
            run++;
        lua_pushnumber(L, (double)message->runs[run].term);
        lua_rawseti(L, -2, (int)(index - append->prev_log_index));
    }
    lua_setfield(L, -2, "entries");
}

static void push_message(lua_State *L, const struct stage_message *at)
{
    const struct raft_message *message = &at->message;
    lua_newtable(L);
    set_text(L, "type", type_name(message));
    set_number(L, "from", message->from);
    set_number(L, "to", message->to);
    set_number(L, "term", message->term);
    if (message->type == RAFT_REQUEST_VOTE) {
        set_number(L, "lastLogIndex", message->request_vote.last_log_index);
        set_number(L, "lastLogTerm", message->request_vote.last_log_term);
    } else if (message->type == RAFT_VOTE_RESPONSE) {
        set_flag(L, "voteGranted", message->vote_response.granted);
    } else if (message->type == RAFT_APPEND_ENTRIES) {
        set_number(L, "prevLogIndex", message->append_entries.prev_log_index);
        set_number(L, "prevLogTerm", message->append_entries.prev_log_term);
        push_entries(L, at);
        set_number(L, "leaderCommit", message->append_entries.leader_commit);
        set_number(L, "round", message->append_entries.round);
        set_number(L, "epoch", message->append_entries.epoch);
    } else {
        const struct raft_append_response *response = &message->append_response;
        set_flag(L, "success", response->success);
        set_number(L, "matchIndex", response->match_index);
        set_number(L, "rejectIndex", response->reject_index);
        set_number(L, "hintIndex", response->hint_index);
        set_number(L, "hintTerm", response->hint_term);
        set_number(L, "round", response->round);
        set_number(L, "epoch", response->epoch);
    }
}

/* The entries of the message table at `at`, one run each; the runs stay on the stack. */
static struct raft_run *take_entries(lua_State *L, int at, struct raft_message *message, size_t *runs_count)
{
    struct raft_append_entries *append = &message->append_entries;
    lua_getfield(L, at, "entries");
    size_t count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    luaL_argcheck(L, count <= STAGE_SENT_MAX, at, "too many entries");
    struct raft_run *runs = lua_newuserdata(L, (count + 1) * sizeof *runs);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -2, (int)i + 1);
        raft_term term = check_number(L, lua_gettop(L));
        lua_pop(L, 1);
        if (*runs_count == 0 || runs[*runs_count - 1].term != term)
            runs[(*runs_count)++] = (struct raft_run){.first = append->prev_log_index + 1 + i, .term = term};
    }
    append->last_index = append->prev_log_index + count;
    return runs;
}

/* receive(message): made by hand */
static int stage_lua_receive(lua_State *L)
{
    static const char *const names[] = {"RequestVote",   "PreVote",     "VoteReply", "PreVoteReply",
                                        "AppendEntries", "AppendReply", NULL};
    static const enum raft_message_type types[] = {RAFT_REQUEST_VOTE,  RAFT_REQUEST_VOTE,   RAFT_VOTE_RESPONSE,
                                                   RAFT_VOTE_RESPONSE, RAFT_APPEND_ENTRIES, RAFT_APPEND_RESPONSE};
    struct stage *stage = check_stage(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "to");
    struct raft_message message = {.to = check_up(L, stage, lua_gettop(L))};
    lua_getfield(L, 2, "type");
    int kind = luaL_checkoption(L, lua_gettop(L), NULL, names);
    struct raft_run *runs = NULL;
    size_t runs_count = 0;
    message.type = types[kind];
    message.from = field(L, 2, "from", 0);
    message.term = field(L, 2, "term", 0);
    luaL_argcheck(L, message.from >= 1, 2, "from nobody");
    if (message.type == RAFT_REQUEST_VOTE) {
        message.request_vote = (struct raft_request_vote){.last_log_index = field(L, 2, "lastLogIndex", 0),
                                                          .last_log_term = field(L, 2, "lastLogTerm", 0),
                                                          .pre_vote = kind == 1};
    } else if (message.type == RAFT_VOTE_RESPONSE) {
        message.vote_response =
            (struct raft_vote_response){.granted = flag(L, 2, "voteGranted"), .pre_vote = kind == 3};
    } else if (message.type == RAFT_APPEND_ENTRIES) {
        message.append_entries = (struct raft_append_entries){.prev_log_index = field(L, 2, "prevLogIndex", 0),
                                                              .prev_log_term = field(L, 2, "prevLogTerm", 0),
                                                              .leader_commit = field(L, 2, "leaderCommit", 0),
                                                              .round = field(L, 2, "round", 0),
                                                              .epoch = (uint32_t)field(L, 2, "epoch", 0)};
        runs = take_entries(L, 2, &message, &runs_count);
    } else {
        message.append_response = (struct raft_append_response){.success = flag(L, 2, "success"),
                                                                .match_index = field(L, 2, "matchIndex", 0),
                                                                .reject_index = field(L, 2, "rejectIndex", 0),
                                                                .hint_index = field(L, 2, "hintIndex", 0),
                                                                .hint_term = field(L, 2, "hintTerm", 0),
                                                                .round = field(L, 2, "round", 0),
                                                                .epoch = (uint32_t)field(L, 2, "epoch", 0)};
    }
    stage_receive(stage, &message, runs, runs_count);
    return 0;
}

/* A way, at 2 and 3; `to` may be 0 if `outside`. */
static void check_way(lua_State *L, struct stage *stage, bool outside, node_id *from, node_id *to)
{
    *from = check_node(L, stage, 2);
    *to = outside && check_number(L, 3) == 0 ? 0 : check_node(L, stage, 3);
    luaL_argcheck(L, *from != *to, 3, "a way to itself");
}

/* A way and the place of a message on it, 1 the oldest, at 4. */
static size_t check_message(lua_State *L, struct stage *stage, node_id *from, node_id *to)
{
    check_way(L, stage, true, from, to);
    uint64_t place = check_number(L, 4);
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
    push_message(L, stage_message(stage, from, to, place));
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
    lua_pushnumber(L, (double)stage_persist(stage, check_up(L, stage, 2), (size_t)check_number(L, 3)));
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
                                       {"wake_in", stage_lua_wake_in},
                                       {"pass", stage_lua_pass},
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
