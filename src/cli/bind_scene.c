/* cli/bind_scene.c - tidelock.scene: runs a scenario script in a state of its own (script/scene.h), on virtual time. See
 * cli/bind.h.
 *
 *   scene.play(options) -> kind, exit code     options: source, name, args (a list), seed, nodes, html, quiet, trace,
 *                                              seconds
 *                       -> nil, what it failed with
 *
 * lua/tidelock/prelude.lua runs first in there, with a table of what it gets from here.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/trace.h"
#include "cli/bind.h"
#include "script/scene.h"

enum { SOURCE_MAX = 1024 * 1024 };
static const size_t lua_bytes_max = (size_t)1 << 30;
static const char play_key; /* its address is what counts */

struct play {
    lua_State *options; /* the options are at 1 of it */
    double seconds;     /* without coming back to the world */
    double until;
    bool quiet;
    bool trace; /* standard output is the transcript's: what the script writes goes to the other */
    char over[160];
};

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static const char *is_over(void *context)
{
    struct play *play = context;
    if (now() < play->until)
        return NULL;
    snprintf(play->over, sizeof play->over,
             "the script ran for %.0f s and let no virtual time pass: in a loop that waits, call c:sleep(ms)",
             play->seconds);
    return play->over;
}

static struct play *play_of(lua_State *S)
{
    lua_pushlightuserdata(S, (void *)(uintptr_t)&play_key);
    lua_rawget(S, LUA_REGISTRYINDEX);
    struct play *play = lua_touserdata(S, -1);
    lua_pop(S, 1);
    return play;
}

/* --- what prelude.lua gets ------------------------------------------------------------------------------------------------------------- */

/* write(text) */
static int host_write(lua_State *S)
{
    size_t size = 0;
    const char *text = luaL_checklstring(S, 1, &size);
    const struct play *play = play_of(S);
    if (!play->quiet && fwrite(text, 1, size, play->trace ? stderr : stdout) != size)
        return luaL_error(S, "standard output takes no more");
    return 0;
}

/* write_file(path, text) -> true; or nil, why. For reports; a quiet script leaves none. */
static int host_write_file(lua_State *S)
{
    size_t size = 0;
    const char *path = luaL_checkstring(S, 1);
    const char *text = luaL_checklstring(S, 2, &size);
    FILE *file = play_of(S)->quiet ? NULL : fopen(path, "wb");
    bool done = file != NULL && fwrite(text, 1, size, file) == size;
    if (file != NULL)
        done = fclose(file) == 0 && done;
    if (!done && !play_of(S)->quiet) {
        lua_pushnil(S);
        lua_pushfstring(S, "%s cannot be written", path);
        return 2;
    }
    lua_pushboolean(S, 1);
    return 1;
}

/* read(path) -> the text of a source; nil: there is none */
static int host_read(lua_State *S)
{
    FILE *file = fopen(luaL_checkstring(S, 1), "rb");
    if (file == NULL)
        return 0;
    struct buffer text = {0};
    text.size = fread(buffer_reserve(&text, SOURCE_MAX + 1), 1, SOURCE_MAX + 1, file);
    fclose(file);
    lua_pushlstring(S, (const char *)text.data, text.size);
    buffer_close(&text);
    return 1;
}

/* load(source, name) -> function of the script's; or nil, why */
static int host_load(lua_State *S)
{
    struct slice source;
    struct buffer why = {0};
    source.data = (const uint8_t *)luaL_checklstring(S, 1, &source.size);
    if (scene_load(S, source, luaL_checkstring(S, 2), &why) == STATUS_OK)
        return 1;
    lua_pushnil(S);
    lua_pushlstring(S, (const char *)why.data, why.size);
    buffer_close(&why);
    return 2;
}

/* embedded(name) -> function of what ships; nil: there is none */
static int host_embedded(lua_State *S)
{
    return bind_embedded(S, luaL_checkstring(S, 1)) ? 1 : 0;
}

/* clock(ms since the Unix epoch): virtual time has passed */
static int host_clock(lua_State *S)
{
    struct play *play = play_of(S);
    scene_set_now(lua_touserdata(S, lua_upvalueindex(1)), (uint64_t)luaL_checknumber(S, 1));
    play->until = now() + play->seconds;
    return 0;
}

/* A seed of a service is a world of its own: the script has not stood still meanwhile. */
static int run_seed(lua_State *S)
{
    lua_pushvalue(S, lua_upvalueindex(1));
    lua_insert(S, 1);
    lua_call(S, lua_gettop(S) - 1, LUA_MULTRET);
    struct play *play = play_of(S);
    play->until = now() + play->seconds;
    return lua_gettop(S);
}

static int bind_swarm_of_scene(lua_State *S)
{
    bind_swarm(S);
    lua_getfield(S, -1, "run");
    lua_pushcclosure(S, run_seed, 1);
    lua_setfield(S, -2, "run");
    return 1;
}

/* describe(error) -> its text, with the way to it */
static int describe(lua_State *S)
{
    if (lua_istable(S, 1)) {
        lua_getfield(S, 1, "message");
        if (!lua_isstring(S, -1))
            lua_getfield(S, 1, "code");
        if (!lua_isstring(S, -1))
            lua_pushliteral(S, "an error without text");
        return 1;
    }
    const char *text = lua_tostring(S, 1);
    luaL_traceback(S, S, text != NULL ? text : luaL_typename(S, 1), 1);
    return 1;
}

static void push_host(lua_State *S, struct scene *scene)
{
    static const luaL_Reg functions[] = {
        {"write", host_write},       {"write_file", host_write_file}, {"read", host_read}, {"load", host_load},
        {"embedded", host_embedded}, {"describe", describe},          {NULL, NULL}};
    static const luaL_Reg modules[] = {
        {"tidelock.wire", bind_wire},   {"tidelock.checker", bind_history},      {"tidelock.node", bind_node},
        {"tidelock.world", bind_world}, {"tidelock.swarm", bind_swarm_of_scene}, {NULL, NULL}};
    lua_newtable(S);
    luaL_register(S, NULL, functions);
    lua_pushlightuserdata(S, scene);
    lua_pushcclosure(S, host_clock, 1);
    lua_setfield(S, -2, "clock");
    scene_push_env(S);
    lua_setfield(S, -2, "env");
    lua_newtable(S);
    for (const luaL_Reg *one = modules; one->name != NULL; one++) {
        one->func(S);
        lua_setfield(S, -2, one->name);
    }
    lua_setfield(S, -2, "modules");
}

/* --- running it ----------------------------------------------------------------------------------------------------------------------- */

/* Copies the fields that prelude.lua needs to a table of the scene's [L: -0, +0; S: -0, +1]. */
static void push_setting(lua_State *S, lua_State *L)
{
    static const char *const fields[] = {"source", "name", "seed", "nodes", "html", NULL};
    lua_newtable(S);
    for (const char *const *name = fields; *name != NULL; name++) {
        size_t size = 0;
        lua_getfield(L, 1, *name);
        if (lua_type(L, -1) == LUA_TNUMBER) {
            lua_pushnumber(S, lua_tonumber(L, -1));
            lua_setfield(S, -2, *name);
        } else if (lua_type(L, -1) == LUA_TSTRING) {
            const char *text = lua_tolstring(L, -1, &size);
            lua_pushlstring(S, text, size);
            lua_setfield(S, -2, *name);
        }
        lua_pop(L, 1);
    }
    lua_newtable(S);
    lua_getfield(L, 1, "args");
    int count = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        lua_pushstring(S, lua_tostring(L, -1));
        lua_rawseti(S, -2, i);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_setfield(S, -2, "args");
    lua_pushboolean(S, play_of(S)->trace);
    lua_setfield(S, -2, "trace");
}

/* (scene) -> what prelude.lua gives */
static int run(lua_State *S)
{
    struct scene *scene = lua_touserdata(S, 1);
    lua_settop(S, 0);
    if (!bind_embedded(S, "tidelock.prelude"))
        return luaL_error(S, "lua/tidelock/prelude.lua is missing");
    push_host(S, scene);
    push_setting(S, play_of(S)->options);
    lua_call(S, 2, 2);
    return 2;
}

static int play(lua_State *L)
{
    struct play play = {.options = L};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "quiet");
    play.quiet = lua_toboolean(L, -1) != 0;
    lua_getfield(L, 1, "trace");
    play.trace = lua_toboolean(L, -1) != 0;
    lua_getfield(L, 1, "seconds");
    play.seconds = luaL_optnumber(L, -1, 10);
    lua_getfield(L, 1, "seed");
    play.until = now() + play.seconds;
    const struct scene_options options = {
        .seed = (uint64_t)lua_tonumber(L, -1), .lua_bytes_max = lua_bytes_max, .over = is_over, .context = &play};
    lua_settop(L, 1);
    /* The handlers of a script on real time raise in its own state, which is waiting here. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    log_setup(LOG_ERROR, LOG_TEXT); /* what simulated nodes tell their operators is none of the script's output */
    struct scene *scene = scene_new(&options);
    lua_State *S = scene_lua(scene);
    lua_pushlightuserdata(S, (void *)(uintptr_t)&play_key);
    lua_pushlightuserdata(S, &play);
    lua_rawset(S, LUA_REGISTRYINDEX);
    lua_pushcfunction(S, describe);
    lua_pushcfunction(S, run);
    lua_pushlightuserdata(S, scene);
    bool failed = lua_pcall(S, 1, 2, 1) != 0;
    const char *text = lua_tostring(S, failed ? -1 : -2);
    if (failed)
        lua_pushnil(L);
    lua_pushstring(L, text != NULL ? text : "an error without text");
    if (!failed)
        lua_pushnumber(L, lua_tonumber(S, -1));
    scene_free(scene);
    return 2;
}

int bind_scene(lua_State *L)
{
    static const luaL_Reg functions[] = {{"play", play}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
