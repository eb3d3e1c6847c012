/* script/sandbox.c - see script/sandbox.h: the allow list, frozen; the functions that must not be LuaJIT's own. */
#include "script/sandbox.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

#include "base/check.h"
#include "base/checksum.h"
#include "script/budget.h"
#include "script/fail.h"
#include "script/list.h"
#include "script/number.h"
#include "script/pairs.h"
#include "script/pattern.h"
#include "script/text.h"
#include "script/vm.h"

#if defined(__x86_64__)
#define PLATFORM "x86-64"
#elif defined(__aarch64__)
#define PLATFORM "arm64"
#else
#define PLATFORM "another machine"
#endif

enum { RESULT_BYTES_MAX = 1024 * 1024, LEVEL_MAX = 250 };

/* --- base --------------------------------------------------------------------------------------------------------------------- */

static int sandbox_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!lua_isnoneornil(L, 2))
        return luaL_error(L, "next only tells whether a table is empty; loop with pairs, whose order is fixed");
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_pushboolean(L, lua_next(L, 1) != 0);
    if (lua_toboolean(L, -1))
        return 1;
    lua_pushnil(L);
    return 1;
}

/* Text of a value, without addresses [-0, +1]. */
static void push_text(lua_State *L, int at)
{
    int type = lua_type(L, at);
    if (type == LUA_TTABLE)
        budget_check_depth(L); /* its __tostring may be tostring */
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        lua_pushvalue(L, at);
        (void)lua_tostring(L, -1);
    } else if (type == LUA_TBOOLEAN) {
        lua_pushstring(L, lua_toboolean(L, at) ? "true" : "false");
    } else if (luaL_callmeta(L, at, "__tostring")) {
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "__tostring must give text");
    } else {
        lua_pushstring(L, lua_typename(L, type));
    }
}

static int sandbox_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    push_text(L, 1);
    return 1;
}

static int sandbox_tonumber(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_isnil(L, 2))
        lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    if (lua_type(L, -1) == LUA_TNUMBER && !isfinite(lua_tonumber(L, -1)))
        lua_pushnil(L);
    return 1;
}

static int sandbox_setmetatable(lua_State *L)
{
    static const char *const refused[] = {"__gc", "__mode"};
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!lua_isnil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    for (size_t i = 0; i < 2 && lua_istable(L, 2); i++) {
        lua_pushstring(L, refused[i]);
        lua_rawget(L, 2);
        if (!lua_isnil(L, -1))
            return luaL_error(L, "setmetatable: %s depends on the collector", refused[i]);
        lua_pop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__metatable"))
        return luaL_error(L, "setmetatable: this table is protected");
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int sandbox_getmetatable(lua_State *L)
{
    if (!lua_istable(L, 1) || !lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    lua_getfield(L, -1, "__metatable");
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    else if (lua_isboolean(L, -1))
        lua_pushnil(L); /* one of the host's */
    return 1;
}

/* It would reach through what protects a table. */
static int sandbox_rawset(lua_State *L)
{
    list_check_open(L, "rawset");
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static int sandbox_assert(lua_State *L)
{
    luaL_checkany(L, 1);
    if (lua_toboolean(L, 1))
        return lua_gettop(L);
    if (lua_isnoneornil(L, 2))
        return luaL_error(L, "assertion failed!");
    lua_settop(L, 2);
    return lua_error(L);
}

/* As Lua's; a place is found also when it was called last in a function. */
static int sandbox_error(lua_State *L)
{
    int64_t level = text_whole(L, 2, 1);
    lua_settop(L, 1);
    if (!lua_isstring(L, 1) || level < 1)
        return lua_error(L);
    if (level == 1)
        fail_push_where(L, 1);
    else
        luaL_where(L, level < LEVEL_MAX ? (int)level : LEVEL_MAX);
    lua_insert(L, 1);
    lua_concat(L, 2);
    return lua_error(L);
}

static int sandbox_select(lua_State *L)
{
    int count = lua_gettop(L);
    if (lua_type(L, 1) == LUA_TSTRING && lua_tostring(L, 1)[0] == '#') {
        lua_pushnumber(L, count - 1);
        return 1;
    }
    luaL_checknumber(L, 1);
    int64_t from = text_whole(L, 1, 0);
    from = from < 0 ? from + count : from;
    luaL_argcheck(L, from >= 1, 1, "index out of range");
    return from >= count ? 0 : count - (int)from;
}

/* --- string --------------------------------------------------------------------------------------------------------------------- */

/* string.format without addresses and without surprises of size. */
static int sandbox_format(lua_State *L)
{
    size_t size = 0;
    const char *format = luaL_checklstring(L, 1, &size);
    int top = lua_gettop(L);
    int arg = 1;
    size_t total = size;
    for (size_t i = 0; i < size; i++) {
        if (format[i] != '%')
            continue;
        if (++i < size && format[i] == '%')
            continue;
        while (i < size && strchr("-+ #0123456789.", format[i]) != NULL)
            i++;
        if (i >= size || strchr("diuxXocsqeEfgG", format[i]) == NULL || format[i] == 0)
            return luaL_error(L, "string.format: there are %%d %%i %%u %%x %%X %%o %%c %%s %%q %%e %%f %%g");
        if (++arg > top)
            return luaL_error(L, "string.format: too few values");
        if (strchr("diuxXoc", format[i]) != NULL) {
            double number = luaL_checknumber(L, arg);
            luaL_argcheck(L, fabs(number) <= (format[i] == 'c' ? 255.0 : 9007199254740992.0), arg,
                          format[i] == 'c' ? "a byte is 0 to 255" : "a number up to 2^53 is expected");
        } else if (format[i] == 's') {
            size_t bytes = 0;
            push_text(L, arg);
            (void)lua_tolstring(L, -1, &bytes);
            lua_replace(L, arg);
            total += bytes;
        }
        total += 128;
    }
    if (total > RESULT_BYTES_MAX)
        return fail(L, "TOO_LARGE", "string.format: more than 1 MiB");
    budget_charge(L, total / 16 + 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, top, 1);
    return 1;
}

static int os_time(lua_State *L)
{
    if (lua_gettop(L) > 0)
        return luaL_error(L, "os.time: takes no arguments; it is the whole seconds of ctx.now");
    lua_pushnumber(L, floor((double)vm_now_ms(L) / 1000));
    return 1;
}

/* --- putting it together ---------------------------------------------------------------------------------------------------------------- */

static int write_frozen(lua_State *L)
{
    return luaL_error(
        L,
        "'%s' cannot be set: replicated code has no globals, and its libraries are frozen; keep state "
        "in maps, and declare locals",
        lua_isstring(L, 2) ? lua_tostring(L, 2) : "?");
}

static int read_unknown(lua_State *L)
{
    return luaL_error(L, "there is no '%s' here", lua_isstring(L, 2) ? lua_tostring(L, 2) : "?");
}

void sandbox_freeze(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, read_unknown);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, write_frozen);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

/* Errors that the function at the top raises call it so. */
static void name_function(lua_State *L, const char *library, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s%s", strcmp(library, "_G") == 0 ? "" : library,
             strcmp(library, "_G") == 0 ? "" : ".", name);
    if (lua_isfunction(L, -1))
        fail_name_function(L, full);
}

/* Copies names of LuaJIT's library to the table at the top. */
static void take(lua_State *L, const char *library, const char *const *names)
{
    lua_getglobal(L, library);
    for (; *names != NULL; names++) {
        lua_getfield(L, -1, *names);
        CHECK(!lua_isnil(L, -1));
        name_function(L, library, *names);
        lua_setfield(L, -3, *names);
    }
    lua_pop(L, 1);
}

/* Sets name = a closure of ours over LuaJIT's own function of that name. */
static void wrap(lua_State *L, const char *library, const char *name, lua_CFunction function)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    name_function(L, library, name); /* it is seen in errors that it raises itself */
    lua_pushcclosure(L, function, 1);
    name_function(L, library, name);
    lua_setfield(L, -2, name);
}

static void add_string(lua_State *L, int env)
{
    lua_newtable(L);
    text_open(L);
    pattern_open(L);
    wrap(L, "string", "format", sandbox_format);
    lua_pushliteral(L, ""); /* methods of texts are the same: a text has no fields that could be set */
    CHECK(lua_getmetatable(L, -1));
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    sandbox_freeze(L);
    lua_setfield(L, env, "string");
}

static void add_libraries(lua_State *L, int env)
{
    /* LuaJIT's own of these are the same everywhere, and faster. */
    static const char *const exact[] = {"abs", "floor", "sqrt", NULL};
    add_string(L, env);
    lua_newtable(L);
    list_open(L);
    sandbox_freeze(L);
    lua_setfield(L, env, "table");
    lua_newtable(L);
    number_open_math(L);
    take(L, "math", exact);
    sandbox_freeze(L);
    lua_setfield(L, env, "math");
    lua_newtable(L);
    number_open_bit(L);
    sandbox_freeze(L);
    lua_setfield(L, env, "bit");
    lua_newtable(L);
    lua_pushcfunction(L, os_time);
    lua_setfield(L, -2, "time");
    sandbox_freeze(L);
    lua_setfield(L, env, "os");
}

static void add_base(lua_State *L, int env)
{
    static const luaL_Reg own[] = {{"assert", sandbox_assert},
                                   {"pairs", pairs_sorted},
                                   {"next", sandbox_next},
                                   {"tostring", sandbox_tostring},
                                   {"setmetatable", sandbox_setmetatable},
                                   {"getmetatable", sandbox_getmetatable},
                                   {"error", sandbox_error},
                                   {"rawset", sandbox_rawset},
                                   {"select", sandbox_select},
                                   {"unpack", list_unpack},
                                   {NULL, NULL}};
    static const char *const plain[] = {"ipairs", "type", "rawequal", "rawget", NULL};
    lua_pushvalue(L, env);
    for (const luaL_Reg *one = own; one->name != NULL; one++) {
        lua_pushcfunction(L, one->func);
        name_function(L, "_G", one->name);
        lua_setfield(L, -2, one->name);
    }
    take(L, "_G", plain);
    wrap(L, "_G", "tonumber", sandbox_tonumber);
    lua_pushliteral(L, "Lua 5.1");
    lua_setfield(L, -2, "_VERSION");
    lua_pop(L, 1);
}

static void open_library(lua_State *L, const char *name, lua_CFunction open)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

uint64_t sandbox_fingerprint(void)
{
    static const char text[] = LUAJIT_VERSION " interpreter " PLATFORM ", numbers float64";
    return hash64(text, sizeof text - 1) + SANDBOX_VERSION;
}

void sandbox_open(lua_State *L)
{
    open_library(L, "", luaopen_base);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    lua_newtable(L);
    int names = lua_gettop(L);
    add_base(L, names);
    add_libraries(L, names);
    lua_pushvalue(L, names);
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.names");
    sandbox_freeze(L);
}

void sandbox_add(lua_State *L, int env, const char *name)
{
    (void)env;
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.names");
    lua_insert(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

bool sandbox_has(lua_State *L, struct slice name, struct slice field)
{
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.names");
    lua_pushlstring(L, (const char *)name.data, name.size);
    lua_rawget(L, -2);
    bool found = !lua_isnil(L, -1);
    if (found && field.size > 0 &&
        lua_getmetatable(L, -1)) { /* a library: the frozen table stands behind an empty one */
        lua_getfield(L, -1, "__index");
        lua_pushlstring(L, (const char *)field.data, field.size);
        lua_rawget(L, -2);
        found = !lua_isnil(L, -1);
    }
    lua_settop(L, top);
    return found;
}
