/* script/sandbox.c - see script/sandbox.h: the allow list, frozen; the functions that must not be LuaJIT's own. */
#include "script/sandbox.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "base/check.h"
#include "script/budget.h"
#include "script/fail.h"
#include "script/pairs.h"
#include "script/pattern.h"
#include "script/text.h"
#include "script/vm.h"

enum { RESULT_BYTES_MAX = 1024 * 1024, UNPACK_MAX = 200 };

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

/* rawset and the functions of table would reach through what protects a table. */
static void refuse_protected(lua_State *L, const char *name)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__metatable"))
        luaL_error(L, "%s: this table is protected: it lives as long as the module; keep what changes in a map",
                   name);
}

static int guard_raw(lua_State *L)
{
    refuse_protected(L, "rawset");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
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

static int sandbox_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double from = luaL_optnumber(L, 2, 1);
    double to = lua_isnoneornil(L, 3) ? (double)lua_objlen(L, 1) : luaL_checknumber(L, 3);
    if (to - from >= UNPACK_MAX)
        return luaL_error(L, "unpack: more than %d values", UNPACK_MAX);
    luaL_checkstack(L, UNPACK_MAX + 8, "unpack");
    int count = 0;
    for (double i = from; i <= to; i++, count++)
        lua_rawgeti(L, 1, (int)i);
    return count;
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
        if (format[i] == 's') {
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

/* --- table, math ---------------------------------------------------------------------------------------------------------------------- */

/* Calls LuaJIT's own after charging by the length of the table. */
static int charged_table(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_toboolean(L, lua_upvalueindex(3)))
        refuse_protected(L, "table.remove");
    uint64_t count = lua_objlen(L, 1);
    budget_charge(L, count * (uint64_t)lua_tointeger(L, lua_upvalueindex(2)) + 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int sandbox_insert(lua_State *L)
{
    refuse_protected(L, "table.insert");
    int count = (int)lua_objlen(L, 1);
    if (lua_gettop(L) == 2) {
        lua_rawseti(L, 1, count + 1);
        return 0;
    }
    int place = luaL_checkint(L, 2);
    if (lua_gettop(L) != 3 || place < 1 || place > count + 1)
        return luaL_error(L, "table.insert: the place must be from 1 to n + 1");
    budget_charge(L, (uint64_t)(count - place + 1) + 1);
    for (int i = count; i >= place; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_rawseti(L, 1, place);
    return 0;
}

static int math_random(lua_State *L)
{
    double r = vm_random(L);
    double lo = lua_gettop(L) > 1 ? luaL_checknumber(L, 1) : 1;
    if (lua_gettop(L) == 0) {
        lua_pushnumber(L, r);
        return 1;
    }
    double hi = luaL_checknumber(L, lua_gettop(L) > 1 ? 2 : 1);
    if (lo > hi)
        return luaL_error(L, "math.random: the lower number comes first");
    lua_pushnumber(L, floor(lo) + floor(r * (floor(hi) - floor(lo) + 1)));
    return 1;
}

static int math_ipow(lua_State *L)
{
    double base = luaL_checknumber(L, 1);
    double count = luaL_checknumber(L, 2);
    if (count < 0 || count > 1024 || count != floor(count))
        return luaL_error(L, "math.ipow: the exponent must be a whole number from 0 to 1024");
    double result = 1;
    for (int i = 0; i < (int)count; i++)
        result *= base;
    lua_pushnumber(L, result);
    return 1;
}

static int os_time(lua_State *L)
{
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

/* Puts an empty, read-only table in front of the one at the top [-1, +1]. */
static void freeze(lua_State *L)
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
static void wrap(lua_State *L, const char *library, const char *name, lua_CFunction function, int number, bool flag)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    name_function(L, library, name); /* it is seen in errors that it raises itself */
    if (number >= 0)
        lua_pushinteger(L, number);
    else
        lua_pushboolean(L, flag);
    lua_pushboolean(L, flag);
    lua_pushcclosure(L, function, 3);
    name_function(L, library, name);
    lua_setfield(L, -2, name);
}

static void add_string(lua_State *L, int env)
{
    lua_newtable(L);
    text_open(L);
    pattern_open(L);
    wrap(L, "string", "format", sandbox_format, 0, false);
    lua_pushliteral(L, ""); /* methods of texts are the same: a text has no fields that could be set */
    CHECK(lua_getmetatable(L, -1));
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    freeze(L);
    lua_setfield(L, env, "string");
}

static void add_libraries(lua_State *L, int env)
{
    static const char *const math[] = {"abs", "ceil", "floor", "fmod", "frexp", "huge", "ldexp",
                                       "max", "min",  "modf",  "pi",   "sqrt",  NULL};
    static const char *const bits[] = {"arshift", "band", "bnot",   "bor",   "bswap", "bxor", "lshift",
                                       "rol",     "ror",  "rshift", "tobit", "tohex", NULL};
    add_string(L, env);
    lua_newtable(L);
    wrap(L, "table", "concat", charged_table, 4, false);
    wrap(L, "table", "remove", charged_table, 1, true);
    wrap(L, "table", "sort", charged_table, 16, true);
    lua_pushcfunction(L, sandbox_insert);
    lua_setfield(L, -2, "insert");
    freeze(L);
    lua_setfield(L, env, "table");
    lua_newtable(L);
    take(L, "math", math);
    lua_pushcfunction(L, math_random);
    lua_setfield(L, -2, "random");
    lua_pushcfunction(L, math_ipow);
    lua_setfield(L, -2, "ipow");
    freeze(L);
    lua_setfield(L, env, "math");
    lua_newtable(L);
    take(L, "bit", bits);
    freeze(L);
    lua_setfield(L, env, "bit");
    lua_newtable(L);
    lua_pushcfunction(L, os_time);
    lua_setfield(L, -2, "time");
    freeze(L);
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
                                   {"unpack", sandbox_unpack},
                                   {NULL, NULL}};
    static const char *const plain[] = {"error", "ipairs", "select", "type", "rawequal", "rawget", NULL};
    lua_pushvalue(L, env);
    for (const luaL_Reg *one = own; one->name != NULL; one++) {
        lua_pushcfunction(L, one->func);
        name_function(L, "_G", one->name);
        lua_setfield(L, -2, one->name);
    }
    take(L, "_G", plain);
    wrap(L, "_G", "tonumber", sandbox_tonumber, 0, false);
    wrap(L, "_G", "rawset", guard_raw, 0, false);
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

void sandbox_open(lua_State *L)
{
    open_library(L, "", luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, "bit", luaopen_bit);
    lua_newtable(L);
    int names = lua_gettop(L);
    add_base(L, names);
    add_libraries(L, names);
    lua_pushvalue(L, names);
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.names");
    freeze(L);
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
