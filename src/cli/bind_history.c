/* cli/bind_history.c - tidelock.checker: judges lin1 texts (sim/history_text.h). See cli/bind.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/slice.h"
#include "cli/bind.h"
#include "cli/fields.h"
#include "sim/history_text.h"

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static bool is_over(void *context)
{
    return now() >= *(double *)context;
}

/* states: a list of { present, size, text (its first bytes) } */
static void push_states(lua_State *L, const struct history_report *report)
{
    lua_createtable(L, (int)report->states, 0);
    for (uint32_t i = 0; i < report->states; i++) {
        const struct history_state *state = &report->state[i];
        lua_createtable(L, 0, 3);
        lua_pushboolean(L, state->present);
        lua_setfield(L, -2, "present");
        bind_set_number(L, "size", state->size);
        bind_set_slice(
            L, "text",
            slice_make(state->bytes, state->size < sizeof state->bytes ? state->size : sizeof state->bytes));
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "states");
    lua_pushboolean(L, report->states_more);
    lua_setfield(L, -2, "states_more");
}

/* events: a list of { line, text }: those of the key in the prefix. */
static void push_events(lua_State *L, struct history_text *lines, const struct history_report *report)
{
    int count = 0;
    bool is_end = false;
    lua_newtable(L);
    for (uint32_t i = 0; i < report->events; i++) {
        uint32_t op = history_event_op(history_text_history(lines), i, &is_end);
        if (!slice_equal(history_op_key(history_text_history(lines), op), report->key))
            continue;
        lua_createtable(L, 0, 2);
        bind_set_number(L, "line", history_text_line(lines, i));
        bind_set_slice(L, "text", history_text_bytes(lines, i));
        lua_rawseti(L, -2, ++count);
    }
    lua_setfield(L, -2, "events");
}

static void push_report(lua_State *L, struct history_text *lines, const struct history_report *report)
{
    static const char *const verdicts[] = {"linearizable", "NOT linearizable", "unknown"};
    struct history *history = history_text_history(lines);
    lua_newtable(L);
    lua_pushstring(L, verdicts[report->verdict]);
    lua_setfield(L, -2, "verdict");
    bind_set_number(L, "operations", history_ops(history));
    bind_set_number(L, "keys", history_keys(history));
    bind_set_number(L, "total", history_events(history));
    bind_set_number(L, "undecided", report->undecided);
    if (report->verdict != HISTORY_LINEARIZABLE)
        bind_set_slice(L, "key", report->key);
    if (report->verdict != HISTORY_NOT_LINEARIZABLE)
        return;
    bind_set_number(L, "prefix", report->events);
    bind_set_number(L, "line", history_text_line(lines, report->events - 1));
    bind_set_slice(L, "opid", history_text_opid(lines, report->op));
    lua_pushboolean(L, report->end == HISTORY_FAIL);
    lua_setfield(L, -2, "failed");
    lua_pushboolean(L, report->shortest);
    lua_setfield(L, -2, "shortest");
    push_states(L, report);
    push_events(L, lines, report);
}

static int judge(lua_State *L, struct slice text, double seconds)
{
    struct history_error why;
    struct history_report report;
    double until = now() + seconds;
    struct history_limits limits = {.stop = is_over, .context = &until};
    struct history_text *lines = history_text_read(text, &why);
    if (lines == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, why.text);
        lua_pushnumber(L, why.line);
        return 3;
    }
    history_check(history_text_history(lines), &limits, &report);
    push_report(L, lines, &report);
    history_text_free(lines);
    return 1;
}

/* check(text, seconds) -> { verdict, operations, keys, total (events), undecided (keys); key; of a history that is not
 * linearizable prefix (events), line, opid, failed, shortest, states, states_more, events }; or nil, what is wrong, its line */
static int checker_check(lua_State *L)
{
    struct slice text;
    text.data = (const uint8_t *)luaL_checklstring(L, 1, &text.size);
    return judge(L, text, luaL_checknumber(L, 2));
}

/* check_file(path, seconds), `-` is standard input: the same; a file that cannot be read: nil, why */
static int checker_check_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    double seconds = luaL_checknumber(L, 2);
    struct buffer text = {0};
    enum { PIECE = 1 << 16 };
    errno = 0;
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    for (size_t got = 1; file != NULL && got > 0 && text.size <= HISTORY_TEXT_MAX; text.size += got)
        got = fread(buffer_reserve(&text, PIECE), 1, PIECE, file);
    bool failed = file == NULL || ferror(file) != 0;
    int error = errno;
    if (file != NULL && file != stdin)
        fclose(file);
    int results = 2;
    if (failed) {
        lua_pushnil(L);
        lua_pushstring(L, strerror(error));
    } else
        results = judge(L, buffer_slice(&text), seconds);
    buffer_close(&text);
    return results;
}

int bind_history(struct lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"check", checker_check}, {"check_file", checker_check_file}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
