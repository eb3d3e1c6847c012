/* cli/fields.c - see cli/fields.h. */
#include "cli/fields.h"

#include <lauxlib.h>

/* Whole numbers that a double holds exactly. */
static const double NUMBER_MAX = 9007199254740992.0;

uint64_t bind_number(lua_State *L, int at)
{
    double number = luaL_checknumber(L, at);
    luaL_argcheck(L, number >= 0 && number <= NUMBER_MAX && number == (double)(uint64_t)number, at,
                  "must be a whole number");
    return (uint64_t)number;
}

uint64_t bind_field(lua_State *L, int at, const char *name, uint64_t otherwise)
{
    lua_getfield(L, at, name);
    uint64_t number = lua_isnil(L, -1) ? otherwise : bind_number(L, lua_gettop(L));
    lua_pop(L, 1);
    return number;
}

bool bind_flag(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    bool on = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return on;
}

void bind_set_number(lua_State *L, const char *name, uint64_t number)
{
    lua_pushnumber(L, (double)number);
    lua_setfield(L, -2, name);
}

void bind_set_flag(lua_State *L, const char *name, bool on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

void bind_set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

void bind_set_slice(lua_State *L, const char *name, struct slice text)
{
    lua_pushlstring(L, (const char *)text.data, text.size);
    lua_setfield(L, -2, name);
}
