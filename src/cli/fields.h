/* cli/fields.h - fields of Lua tables: the few words that bindings need to read and to write them.
 *
 * What cannot be is a Lua error. Depends on base/slice.h, LuaJIT.
 */
#ifndef CLI_FIELDS_H
#define CLI_FIELDS_H

#include <lua.h>

#include "base/slice.h"

/* The whole number at `at` of the stack. */
uint64_t bind_number(lua_State *L, int at);

/* A number of the table at `at`, `otherwise` if it has none by that name; a truth. */
uint64_t bind_field(lua_State *L, int at, const char *name, uint64_t otherwise);
bool bind_flag(lua_State *L, int at, const char *name);

/* Sets a field of the table on top of the stack. */
void bind_set_number(lua_State *L, const char *name, uint64_t number);
void bind_set_flag(lua_State *L, const char *name, bool on);
void bind_set_text(lua_State *L, const char *name, const char *text);
void bind_set_slice(lua_State *L, const char *name, struct slice text);

#endif
