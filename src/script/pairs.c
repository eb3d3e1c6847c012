/* script/pairs.c - see script/pairs.h. */
#include "script/pairs.h"

#include <lauxlib.h>
#include <lua.h>

#include "base/slice.h"
#include "script/budget.h"

static int by_key(lua_State *L, int a, int b)
{
    int type_a = lua_type(L, a);
    int type_b = lua_type(L, b);
    if (type_a != type_b)
        return type_a < type_b ? -1 : 1; /* boolean < number < string in Lua's own numbering */
    if (type_a == LUA_TNUMBER) {
        double x = lua_tonumber(L, a);
        double y = lua_tonumber(L, b);
        return (x > y) - (x < y);
    }
    if (type_a == LUA_TBOOLEAN)
        return lua_toboolean(L, a) - lua_toboolean(L, b);
    struct slice x;
    struct slice y;
    x.data = (const uint8_t *)lua_tolstring(L, a, &x.size);
    y.data = (const uint8_t *)lua_tolstring(L, b, &y.size);
    return slice_compare(x, y);
}

/* Sorts keys[lo..hi] of the table at `keys` (heap sort: no recursion, n log n always). */
static void sift(lua_State *L, int keys, int root, int count)
{
    for (;;) {
        int child = 2 * root;
        if (child > count)
            return;
        lua_rawgeti(L, keys, child);
        if (child < count) {
            lua_rawgeti(L, keys, child + 1);
            if (by_key(L, -1, -2) > 0) {
                child++;
                lua_remove(L, -2);
            } else {
                lua_pop(L, 1);
            }
        }
        lua_rawgeti(L, keys, root);
        if (by_key(L, -1, -2) >= 0) {
            lua_pop(L, 2);
            return;
        }
        lua_rawseti(L, keys, child);
        lua_rawseti(L, keys, root);
        root = child;
    }
}

static void sort_keys(lua_State *L, int keys, int count)
{
    for (int root = count / 2; root >= 1; root--)
        sift(L, keys, root, count);
    for (int last = count; last > 1; last--) {
        lua_rawgeti(L, keys, 1);
        lua_rawgeti(L, keys, last);
        lua_rawseti(L, keys, 1);
        lua_rawseti(L, keys, last);
        sift(L, keys, 1, last - 1);
    }
}

static int pairs_next(lua_State *L)
{
    int at = (int)lua_tointeger(L, lua_upvalueindex(3));
    for (;;) {
        lua_rawgeti(L, lua_upvalueindex(2), ++at);
        if (lua_isnil(L, -1))
            return 1;
        lua_pushvalue(L, -1);
        lua_rawget(L, lua_upvalueindex(1));
        if (!lua_isnil(L, -1))
            break;
        lua_pop(L, 2); /* taken out meanwhile */
    }
    lua_pushinteger(L, at);
    lua_replace(L, lua_upvalueindex(3));
    return 2;
}

/* Keys in order, over a copy of the keys: what changes meanwhile does not matter. */
int pairs_sorted(lua_State *L)
{
    if (lua_isuserdata(L, 1))
        return luaL_error(L, "pairs: for the rows of a map write map:pairs()");
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L);
    int count = 0;
    for (lua_pushnil(L); lua_next(L, 1) != 0;) {
        lua_pop(L, 1);
        int type = lua_type(L, -1);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
            return luaL_error(L, "pairs: a %s as key has no order that is the same everywhere",
                              lua_typename(L, type));
        lua_pushvalue(L, -1);
        lua_rawseti(L, 2, ++count);
    }
    budget_charge(L, (uint64_t)count * 4);
    sort_keys(L, 2, count);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, pairs_next, 3);
    return 1;
}
