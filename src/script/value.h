/* script/value.h - Lua values and canonical MessagePack (CONTRACT.md §1 "Values").
 *
 * Keys 1..n make a list, all-text keys a map (sorted by bytes); {} is an empty list, ctx.map() an empty map. Anything else
 * (holes, NaN, infinities, functions, cycles, other keys) is an error that names the path. Depends on wire/pack.h, LuaJIT.
 */
#ifndef SCRIPT_VALUE_H
#define SCRIPT_VALUE_H

#include "base/slice.h"

struct lua_State;

enum { VALUE_DEPTH_MAX = 31 };

/* Appends the value at `at` in canonical form. NULL; or why it cannot be, naming the path, as text pushed on the Lua
 * stack's top and pointing there [-0, +0 | +1]. */
const char *value_pack(struct lua_State *L, int at, struct buffer *out);

/* Pushes a checked MessagePack value [-0, +1]; false, nothing pushed: a number or a map that has no Lua form, `why` says. */
bool value_push(struct lua_State *L, struct slice value, const char **why);

/* Pushes an empty map value [-0, +1]. */
void value_push_map(struct lua_State *L);

/* Makes the table at `at`, which has no metatable, one that nothing can be added to; it stays a value. Reading it costs
 * nothing, nor do pairs, ipairs and #. What it has can still be overwritten: a table cannot be closed further than that
 * in LuaJIT (script/compile.h finds the plain cases of it). */
void value_freeze(struct lua_State *L, int at);

/* Prepares a state: the marks of empty maps and of frozen tables. */
void value_setup(struct lua_State *L);

#endif
