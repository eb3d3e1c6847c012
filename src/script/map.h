/* script/map.h - what map.c and loop.c share. Private to script/. */
#ifndef SCRIPT_MAP_H
#define SCRIPT_MAP_H

#include "script/vm_private.h"

#define MAP_TYPE "tidelock.map"

enum {
    MAP_CHARGE_ROW = 10,
    MAP_CHARGE_BYTES = 16,
    MAP_NAME_BYTES = 104,
    MAP_NUMBER_BYTES = 4,
    MAP_HEAD_BYTES = 80
};

struct map {
    uint8_t head_size;
    uint8_t head
        [MAP_HEAD_BYTES]; /* what its rows' keys begin with: its number; of a policy's map, more (script/policy.h) */
    char name[MAP_NAME_BYTES]; /* "rows"; "kv.rows" for a format */
};

/* A method in use: for what it does, and for what its errors say. */
struct use {
    struct vm *vm;
    const struct map *map;
    const char *method;
};

/* Begins a method: the map at 1, `method` for errors; raises if it may not run now, or has too many arguments. */
struct use map_use(lua_State *L, const char *method, bool writes, int arguments_max);

/* Raises "kv.lua:12: rows:put: ..." (lua_pushfstring's formats). Does not return. */
int map_refuse(lua_State *L, const struct use *use, const char *format, ...);

/* Charges for one row of `bytes`. */
void map_charge(lua_State *L, size_t bytes);

/* Encodes the key at `at` behind the map's number, into the vm's scratch; `what` is its name in errors. */
struct slice map_key(lua_State *L, const struct use *use, const char *what, int at);

/* The bounds of all rows, and of a prefix: nil: all; a list: its elements whole; text: what begins so. */
void map_whole(const struct use *use, struct buffer *lo, struct buffer *hi);
void map_prefix(lua_State *L, const struct use *use, int at, struct buffer *lo, struct buffer *hi);

/* Pushes a key without its map's head (one element as itself, more as a list), a value [-0, +1]. */
void map_push_key(lua_State *L, struct slice key, size_t head_size);
void map_push_value(lua_State *L, struct slice value);

/* To a format, a row says when it expires, after its value: pushes that, or nothing; returns how many [-0, +0 | +1]. */
int map_push_expires(lua_State *L, const struct vm *vm, uint64_t deadline_ms);

/* Encodes the value at `at` into the vm's scratch, with its deadline (DUE_NEVER: none); at most row_bytes. */
void map_pack_value(lua_State *L, const struct use *use, int at, uint64_t deadline_ms, uint64_t row_bytes);

/* The one option `name` of the table at `at`, a number, which is left at the top [-0, +1]. */
double map_only_option(lua_State *L, const struct use *use, int at, const char *name);

/* Makes a metatable `type` for userdata that are a struct map, with these methods; what is missing is answered by `missing`
 * [-0, +0]. */
void map_make_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction missing);

/* Pushes a map of such a type [-0, +1]. */
void map_push_typed(lua_State *L, const char *type, uint32_t number, const char *name);

/* Pushes a map whose rows' keys begin with `head` [-0, +1]. */
void map_push_headed(lua_State *L, const char *type, struct slice head, const char *name);

/* loop.c: two buffers for bounds, that Lua frees [-0, +1]. */
struct buffer *map_push_bounds(lua_State *L);
int map_pairs(lua_State *L);
int map_range(lua_State *L);
void loop_setup(lua_State *L);

#endif
