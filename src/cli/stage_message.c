/* cli/stage_message.c - see cli/stage_message.h. */
#include "cli/stage_message.h"

#include <lauxlib.h>

#include "cli/fields.h"

static const char *type_name(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        return message->request_vote.pre_vote ? "PreVote" : "RequestVote";
    case RAFT_VOTE_RESPONSE:
        return message->vote_response.pre_vote ? "PreVoteReply" : "VoteReply";
    case RAFT_APPEND_ENTRIES:
        return "AppendEntries";
    case RAFT_INSTALL_SNAPSHOT:
        return "InstallSnapshot";
    case RAFT_TIMEOUT_NOW:
        return "TimeoutNow";
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

void stage_message_push(lua_State *L, const struct stage_message *at)
{
    const struct raft_message *message = &at->message;
    lua_newtable(L);
    bind_set_text(L, "type", type_name(message));
    bind_set_number(L, "from", message->from);
    bind_set_number(L, "to", message->to);
    bind_set_number(L, "term", message->term);
    if (message->type == RAFT_REQUEST_VOTE) {
        bind_set_number(L, "lastLogIndex", message->request_vote.last_log_index);
        bind_set_number(L, "lastLogTerm", message->request_vote.last_log_term);
        bind_set_flag(L, "transfer", message->request_vote.transfer);
    } else if (message->type == RAFT_VOTE_RESPONSE) {
        bind_set_flag(L, "voteGranted", message->vote_response.granted);
    } else if (message->type == RAFT_APPEND_ENTRIES) {
        bind_set_number(L, "prevLogIndex", message->append_entries.prev_log_index);
        bind_set_number(L, "prevLogTerm", message->append_entries.prev_log_term);
        push_entries(L, at);
        bind_set_number(L, "leaderCommit", message->append_entries.leader_commit);
        bind_set_number(L, "round", message->append_entries.round);
        bind_set_number(L, "epoch", message->append_entries.epoch);
    } else if (message->type == RAFT_INSTALL_SNAPSHOT) {
        bind_set_number(L, "lastIncludedIndex", message->install_snapshot.last_included_index);
        bind_set_number(L, "lastIncludedTerm", message->install_snapshot.last_included_term);
        bind_set_number(L, "epoch", message->install_snapshot.epoch);
    } else if (message->type == RAFT_APPEND_RESPONSE) {
        const struct raft_append_response *response = &message->append_response;
        bind_set_flag(L, "success", response->success);
        bind_set_number(L, "matchIndex", response->match_index);
        bind_set_number(L, "rejectIndex", response->reject_index);
        bind_set_number(L, "hintIndex", response->hint_index);
        bind_set_number(L, "hintTerm", response->hint_term);
        bind_set_number(L, "round", response->round);
        bind_set_number(L, "epoch", response->epoch);
        bind_set_number(L, "voteWait", response->vote_wait_ms);
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
        raft_term term = bind_number(L, lua_gettop(L));
        lua_pop(L, 1);
        if (*runs_count == 0 || runs[*runs_count - 1].term != term)
            runs[(*runs_count)++] = (struct raft_run){.first = append->prev_log_index + 1 + i, .term = term};
    }
    append->last_index = append->prev_log_index + count;
    return runs;
}

void stage_message_take(lua_State *L, int at, struct stage_message *out)
{
    static const char *const names[] = {"RequestVote",     "PreVote",       "VoteReply",
                                        "PreVoteReply",    "AppendEntries", "AppendReply",
                                        "InstallSnapshot", "TimeoutNow",    NULL};
    static const enum raft_message_type types[] = {RAFT_REQUEST_VOTE,     RAFT_REQUEST_VOTE,   RAFT_VOTE_RESPONSE,
                                                   RAFT_VOTE_RESPONSE,    RAFT_APPEND_ENTRIES, RAFT_APPEND_RESPONSE,
                                                   RAFT_INSTALL_SNAPSHOT, RAFT_TIMEOUT_NOW};
    lua_getfield(L, at, "type");
    int kind = luaL_checkoption(L, lua_gettop(L), NULL, names);
    *out = (struct stage_message){.message = {.type = types[kind],
                                              .from = bind_field(L, at, "from", 0),
                                              .term = bind_field(L, at, "term", 0)}};
    struct raft_message *message = &out->message;
    luaL_argcheck(L, message->from >= 1, at, "from nobody");
    if (message->type == RAFT_REQUEST_VOTE) {
        message->request_vote = (struct raft_request_vote){.last_log_index = bind_field(L, at, "lastLogIndex", 0),
                                                           .last_log_term = bind_field(L, at, "lastLogTerm", 0),
                                                           .pre_vote = kind == 1,
                                                           .transfer = bind_flag(L, at, "transfer")};
    } else if (message->type == RAFT_VOTE_RESPONSE) {
        message->vote_response =
            (struct raft_vote_response){.granted = bind_flag(L, at, "voteGranted"), .pre_vote = kind == 3};
    } else if (message->type == RAFT_APPEND_ENTRIES) {
        message->append_entries =
            (struct raft_append_entries){.prev_log_index = bind_field(L, at, "prevLogIndex", 0),
                                         .prev_log_term = bind_field(L, at, "prevLogTerm", 0),
                                         .leader_commit = bind_field(L, at, "leaderCommit", 0),
                                         .round = bind_field(L, at, "round", 0),
                                         .epoch = (uint32_t)bind_field(L, at, "epoch", 0)};
        out->runs = take_entries(L, at, message, &out->runs_count);
    } else if (message->type == RAFT_INSTALL_SNAPSHOT) {
        message->install_snapshot =
            (struct raft_install_snapshot){.last_included_index = bind_field(L, at, "lastIncludedIndex", 0),
                                           .last_included_term = bind_field(L, at, "lastIncludedTerm", 0),
                                           .epoch = (uint32_t)bind_field(L, at, "epoch", 0)};
    } else if (message->type == RAFT_APPEND_RESPONSE) {
        message->append_response =
            (struct raft_append_response){.success = bind_flag(L, at, "success"),
                                          .match_index = bind_field(L, at, "matchIndex", 0),
                                          .reject_index = bind_field(L, at, "rejectIndex", 0),
                                          .hint_index = bind_field(L, at, "hintIndex", 0),
                                          .hint_term = bind_field(L, at, "hintTerm", 0),
                                          .round = bind_field(L, at, "round", 0),
                                          .epoch = (uint32_t)bind_field(L, at, "epoch", 0),
                                          .vote_wait_ms = (uint32_t)bind_field(L, at, "voteWait", 0)};
    }
}
