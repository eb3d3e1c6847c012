/* script/list.c - see script/list.h. */
#include "script/list.h"

#include <math.h>
#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/budget.h"
#include "script/fail.h"
#include "script/text.h"

enum { UNPACK_MAX = 200, MERGE_COST = 3, JOIN_COST = 2, JOINS_AT_ONCE = 32 };
enum { LIST = 1, ORDER = 2, FROM = 3, TO = 4 }; /* stack places of sort */

void list_check_open(lua_State *L, const char *name)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__metatable"))
        luaL_error(L, "%s: this table is protected: it lives as long as the module; keep what changes in a map",
                   name);
}

/* How long the list at 1 is; raises when it has a whole number as key behind its first hole. */
static int length(lua_State *L, const char *name)
{
    int count = 0;
    for (bool more = true; more; lua_pop(L, 1)) {
        lua_rawgeti(L, LIST, count + 1);
        more = !lua_isnil(L, -1);
        count += more ? 1 : 0;
    }
    uint64_t keys = 0;
    for (lua_pushnil(L); lua_next(L, LIST) != 0; lua_pop(L, 1)) {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        keys++;
        if (key > count && key == floor(key))
            luaL_error(L, "%s: a list with holes: there is nothing at %d, and something at %s", name, count + 1,
                       lua_pushfstring(L, "%f", key));
    }
    budget_charge(L, keys / 2 + 1);
    return count;
}

/* --- sort ------------------------------------------------------------------------------------------------------------------- */

/* Whether the value at the top comes before the one below it [-0, +0]. */
static bool comes_before(lua_State *L)
{
    if (lua_isnil(L, ORDER))
        return lua_lessthan(L, -1, -2) != 0;
    lua_pushvalue(L, ORDER);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -4);
    lua_call(L, 2, 1);
    bool before = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return before;
}

/* Merges [lo, middle) and [middle, hi) of one table into the other; of equals the left one comes first. */
static void merge(lua_State *L, int from, int to, int lo, int middle, int hi)
{
    int left = lo;
    int right = middle;
    budget_charge(L, (uint64_t)(hi - lo) * MERGE_COST);
    for (int at = lo; at < hi; at++) {
        bool take_right = left == middle;
        if (left < middle && right < hi) {
            lua_rawgeti(L, from, left);
            lua_rawgeti(L, from, right);
            take_right = comes_before(L);
            lua_pop(L, 2);
        }
        lua_rawgeti(L, from, take_right ? right++ : left++);
        lua_rawseti(L, to, at);
    }
}

/* What is sorted has no element that comes before the one in front of it, unless the order is none. */
static void check_order(lua_State *L, int from, int count)
{
    for (int i = 2; i <= count && !lua_isnil(L, ORDER); i++) {
        lua_rawgeti(L, from, i - 1);
        lua_rawgeti(L, from, i);
        if (comes_before(L))
            luaL_error(L, "table.sort: the order contradicts itself: of two elements each comes before the other");
        lua_pop(L, 2);
    }
}

/* A stable merge sort over copies: the list is written when all is done, so an error leaves it as it was. An order function
 * that contradicts itself ends sooner or later, everywhere alike, and is found out in the end, if the result shows it. */
static int list_sort(lua_State *L)
{
    list_check_open(L, "table.sort");
    if (!lua_isnoneornil(L, ORDER))
        luaL_checktype(L, ORDER, LUA_TFUNCTION);
    lua_settop(L, 2);
    int count = length(L, "table.sort");
    lua_createtable(L, count, 0);
    lua_createtable(L, count, 0);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, LIST, i);
        lua_rawseti(L, FROM, i);
    }
    int from = FROM;
    int to = TO;
    for (int64_t width = 1; width < count; width *= 2) {
        for (int64_t lo = 1; lo <= count; lo += 2 * width) {
            int64_t middle = lo + width <= count ? lo + width : count + 1;
            int64_t hi = lo + 2 * width <= count ? lo + 2 * width : count + 1;
            merge(L, from, to, (int)lo, (int)middle, (int)hi);
        }
        from = from == FROM ? TO : FROM;
        to = to == TO ? FROM : TO;
    }
    check_order(L, from, count);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, from, i);
        lua_rawseti(L, LIST, i);
    }
    return 0;
}

/* --- the others --------------------------------------------------------------------------------------------------------------- */

static int list_concat(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t size = 0;
    size_t between = 0;
    const char *separator = luaL_optlstring(L, 2, "", &between);
    int64_t from = text_whole(L, 3, 1);
    int64_t to = lua_isnoneornil(L, 4) ? length(L, "table.concat") : text_whole(L, 4, 0);
    lua_settop(L, 4);
    struct text text;
    text_begin(L, &text, "table.concat");
    for (int64_t i = from; i <= to; i++) {
        if (i >= INT32_MIN && i <= INT32_MAX) {
            lua_rawgeti(L, 1, (int)i);
        } else {
            lua_pushnumber(L, (double)i);
            lua_rawget(L, 1);
        }
        if (!lua_isstring(L, -1))
            return luaL_error(L, "table.concat: the element at %f must be text or a number, is %s", (double)i,
                              luaL_typename(L, -1));
        const char *bytes = lua_tolstring(L, -1, &size);
        text_add(&text, bytes, size);
        if (i < to)
            text_add(&text, separator, between);
        lua_pop(L, 1);
        if (i % JOINS_AT_ONCE == 0)
            budget_charge(L, JOIN_COST * JOINS_AT_ONCE);
    }
    text_push(&text);
    return 1;
}

static int list_insert(lua_State *L)
{
    list_check_open(L, "table.insert");
    int arguments = lua_gettop(L);
    int count = (int)lua_objlen(L, 1);
    if (arguments == 2) {
        lua_rawseti(L, 1, count + 1);
        return 0;
    }
    if (arguments != 3)
        return luaL_error(L, "table.insert: takes a list, a place or none, and a value");
    luaL_checknumber(L, 2);
    int64_t place = text_whole(L, 2, 0);
    if (place < 1 || place > (int64_t)count + 1)
        return luaL_error(L, "table.insert: the place must be from 1 to n + 1");
    budget_charge(L, (uint64_t)(count - place + 1) + 1);
    for (int i = count; i >= place; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_rawseti(L, 1, (int)place);
    return 0;
}

static int list_remove(lua_State *L)
{
    list_check_open(L, "table.remove");
    int count = (int)lua_objlen(L, 1);
    int64_t place = text_whole(L, 2, count);
    if (place < 1 || place > count)
        return 0;
    budget_charge(L, (uint64_t)(count - place) + 1);
    lua_rawgeti(L, 1, (int)place);
    for (int i = (int)place; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, count);
    return 1;
}

int list_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int64_t from = text_whole(L, 2, 1);
    int64_t to = lua_isnoneornil(L, 3) ? length(L, "unpack") : text_whole(L, 3, 0);
    if (to - from >= UNPACK_MAX)
        return luaL_error(L, "unpack: more than %d values", UNPACK_MAX);
    luaL_checkstack(L, UNPACK_MAX + 8, "unpack");
    int count = 0;
    for (int64_t i = from; i <= to; i++, count++) {
        lua_pushnumber(L, (double)i);
        lua_rawget(L, 1);
    }
    return count;
}

void list_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"table.concat", list_concat},
                                         {"table.insert", list_insert},
                                         {"table.remove", list_remove},
                                         {"table.sort", list_sort},
                                         {NULL, NULL}};
    fail_open(L, functions);
}
