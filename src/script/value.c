/* script/value.c - see script/value.h. */
#include "script/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "wire/pack.h"

/* The address of this is the registry key of the metatable that marks an empty map. */
static const char map_mark = 'm';
/* And of the metatable of tables that live as long as their module. */
static const char frozen_mark = 'f';

enum { PATH_BYTES = 160, MAP_KEYS_INLINE = 16 };

struct packer {
    lua_State *L;
    struct buffer *out;
    char path[PATH_BYTES];
    char why[96];
};

static int write_frozen(lua_State *L)
{
    return luaL_error(L, "'%s' cannot be added: this table lives as long as the module; keep what changes in a map",
                      lua_isstring(L, 2) ? lua_tostring(L, 2) : lua_typename(L, lua_type(L, 2)));
}

void value_setup(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&map_mark);
    lua_newtable(L);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&frozen_mark);
    lua_createtable(L, 0, 2);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushcfunction(L, write_frozen);
    lua_setfield(L, -2, "__newindex");
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void value_freeze(lua_State *L, int at)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&frozen_mark);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, at);
}

void value_push_map(lua_State *L)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&map_mark);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, -2);
}

static bool is_marked(lua_State *L, int at, const char *mark)
{
    if (!lua_getmetatable(L, at))
        return false;
    lua_pushlightuserdata(L, (void *)(uintptr_t)mark);
    lua_rawget(L, LUA_REGISTRYINDEX);
    bool marked = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
    return marked;
}

/* --- Lua to MessagePack ------------------------------------------------------------------------------------------------ */

static bool refuse(struct packer *packer, const char *what)
{
    snprintf(packer->why, sizeof packer->why, "%s", what);
    return false;
}

/* Puts a step before the path: called on the way out of a failure. */
static void add_step(struct packer *packer, const char *step, size_t size)
{
    size_t old = strlen(packer->path);
    size = size < 40 ? size : 40;
    if (old + size + 2 > PATH_BYTES)
        return; /* deep enough to find it */
    memmove(packer->path + size + 1, packer->path, old + 1);
    packer->path[0] = '.';
    memcpy(packer->path + 1, step, size);
}

static bool pack_any(struct packer *packer, int at, int depth);

static bool pack_list(struct packer *packer, int at, int depth, uint32_t count)
{
    pack_array(packer->out, count);
    for (uint32_t i = 1; i <= count; i++) {
        lua_rawgeti(packer->L, at, (int)i);
        bool good = pack_any(packer, lua_gettop(packer->L), depth + 1);
        lua_pop(packer->L, 1);
        if (!good) {
            char step[16];
            int size = snprintf(step, sizeof step, "%u", i);
            add_step(packer, step, (size_t)size);
            return false;
        }
    }
    return true;
}

static int by_bytes(const void *left, const void *right)
{
    return slice_compare(*(const struct slice *)left, *(const struct slice *)right);
}

static bool pack_pairs(struct packer *packer, int at, int depth, uint32_t count)
{
    lua_State *L = packer->L;
    struct slice few[MAP_KEYS_INLINE];
    struct slice *keys = count <= MAP_KEYS_INLINE ? few : mem_alloc(count * sizeof *keys);
    uint32_t filled = 0;
    for (lua_pushnil(L); lua_next(L, at) != 0; lua_pop(L, 1)) {
        CHECK(filled < count);
        keys[filled].data = (const uint8_t *)lua_tolstring(L, -2, &keys[filled].size);
        filled++;
    }
    qsort(keys, filled, sizeof *keys, by_bytes);
    pack_map(packer->out, filled);
    bool good = true;
    for (uint32_t i = 0; i < filled && good; i++) {
        pack_text(packer->out, keys[i]);
        lua_pushlstring(L, (const char *)keys[i].data, keys[i].size);
        lua_rawget(L, at);
        good = pack_any(packer, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
        if (!good)
            add_step(packer, (const char *)keys[i].data, keys[i].size);
    }
    if (keys != few)
        mem_free(keys);
    return good;
}

static bool pack_table(struct packer *packer, int at, int depth)
{
    lua_State *L = packer->L;
    if (depth >= VALUE_DEPTH_MAX)
        return refuse(packer, "nested too deep, or a cycle");
    if (lua_getmetatable(L, at)) {
        lua_pop(L, 1);
        if (!is_marked(L, at, &map_mark) && !is_marked(L, at, &frozen_mark))
            return refuse(packer, "a table with a metatable is no value");
    }
    uint32_t count = 0;
    uint32_t texts = 0;
    double highest = 0;
    bool numbers = true;
    for (lua_pushnil(L); lua_next(L, at) != 0; lua_pop(L, 1)) {
        count++;
        if (lua_type(L, -2) == LUA_TSTRING) {
            texts++;
        } else if (lua_type(L, -2) == LUA_TNUMBER) {
            double key = lua_tonumber(L, -2);
            numbers = numbers && key >= 1 && key == floor(key);
            highest = key > highest ? key : highest;
        } else {
            lua_pop(L, 2);
            return refuse(packer, "keys must be 1..n, or all text");
        }
    }
    if (count == 0 && !is_marked(L, at, &map_mark)) {
        pack_array(packer->out, 0);
        return true;
    }
    if (texts == count)
        return pack_pairs(packer, at, depth, count);
    if (texts > 0 || !numbers)
        return refuse(packer, "keys must be 1..n, or all text");
    if (highest != (double)count)
        return refuse(packer, "a list with holes");
    return pack_list(packer, at, depth, count);
}

static bool pack_any(struct packer *packer, int at, int depth)
{
    lua_State *L = packer->L;
    struct slice text;
    double number = 0;
    switch (lua_type(L, at)) {
    case LUA_TNIL:
        if (depth > 0)
            return refuse(packer, "nil has no place in a list");
        pack_nil(packer->out);
        return true;
    case LUA_TBOOLEAN:
        pack_boolean(packer->out, lua_toboolean(L, at) != 0);
        return true;
    case LUA_TNUMBER:
        number = lua_tonumber(L, at);
        if (!isfinite(number))
            return refuse(packer, "NaN and infinities are no values");
        pack_number(packer->out, number);
        return true;
    case LUA_TSTRING:
        text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
        pack_text(packer->out, text);
        return true;
    case LUA_TTABLE:
        if (!lua_checkstack(L, 8))
            return refuse(packer, "nested too deep");
        return pack_table(packer, at, depth);
    default:
        snprintf(packer->why, sizeof packer->why, "a %s is no value", lua_typename(L, lua_type(L, at)));
        return false;
    }
}

const char *value_pack(lua_State *L, int at, struct buffer *out)
{
    struct packer packer;
    packer.L = L;
    packer.out = out;
    packer.path[0] = packer.why[0] = 0; /* its room need not be cleared */
    if (at < 0)
        at = lua_gettop(L) + 1 + at;
    if (pack_any(&packer, at, 0))
        return NULL;
    return lua_pushfstring(L, "value%s: %s", packer.path, packer.why);
}

/* --- MessagePack to Lua -------------------------------------------------------------------------------------------------- */

static bool push_next(lua_State *L, struct pack_reader *reader, const char **why);

/* Null in a map is absent: one of nulls alone is an empty map, and no list. */
static bool push_map(lua_State *L, struct pack_reader *reader, uint32_t count, const char **why)
{
    uint32_t there = 0;
    lua_createtable(L, 0, (int)count);
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        if (pack_read_text(reader, &key) != STATUS_OK) {
            *why = "the keys of a map must be text";
            lua_pop(L, 1);
            return false;
        }
        lua_pushlstring(L, (const char *)key.data, key.size);
        if (!push_next(L, reader, why)) {
            lua_pop(L, 2);
            return false;
        }
        there += !lua_isnil(L, -1);
        lua_rawset(L, -3);
    }
    if (there == 0) {
        lua_pop(L, 1);
        value_push_map(L);
    }
    return true;
}

static bool push_list(lua_State *L, struct pack_reader *reader, uint32_t count, const char **why)
{
    lua_createtable(L, (int)count, 0);
    for (uint32_t i = 0; i < count; i++) {
        if (!push_next(L, reader, why)) {
            lua_pop(L, 1);
            return false;
        }
        if (lua_isnil(L, -1)) {
            *why = "null has no place in a list";
            lua_pop(L, 2);
            return false;
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
    return true;
}

static bool push_next(lua_State *L, struct pack_reader *reader, const char **why)
{
    struct pack_item item;
    luaL_checkstack(L, 4, "too deep");
    if (pack_read(reader, &item) != STATUS_OK) {
        *why = "not a MessagePack value";
        return false;
    }
    switch (item.type) {
    case PACK_NIL:
        lua_pushnil(L);
        return true;
    case PACK_BOOLEAN:
        lua_pushboolean(L, item.boolean);
        return true;
    case PACK_INT:
        if (item.integer > 9007199254740992 || item.integer < -9007199254740992) {
            *why = "a whole number beyond 2^53: send it as text";
            return false;
        }
        lua_pushnumber(L, (double)item.integer);
        return true;
    case PACK_UINT:
        *why = "a whole number beyond 2^53: send it as text";
        return false;
    case PACK_FLOAT:
        if (!isfinite(item.number)) {
            *why = "NaN and infinities are no values";
            return false;
        }
        lua_pushnumber(L, item.number);
        return true;
    case PACK_STR:
    case PACK_BIN:
        lua_pushlstring(L, (const char *)item.bytes.data, item.bytes.size);
        return true;
    case PACK_ARRAY:
        return push_list(L, reader, item.count, why);
    case PACK_MAP:
        return push_map(L, reader, item.count, why);
    default:
        UNREACHABLE();
    }
}

bool value_push(lua_State *L, struct slice value, const char **why)
{
    struct pack_reader reader = pack_reader_make(value);
    return push_next(L, &reader, why);
}
