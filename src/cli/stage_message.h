/* cli/stage_message.h - messages of a stage as Lua tables, and the few words that its binding needs to read and write tables.
 *
 * A message is a table: type, from, to, term and the fields of its type, under the paper's names where it has them. What cannot
 * be is a Lua error. Depends on sim/stage.h, LuaJIT.
 */
#ifndef CLI_STAGE_MESSAGE_H
#define CLI_STAGE_MESSAGE_H

#include <lua.h>

#include "sim/stage.h"

/* The whole number at `at` of the stack. */
uint64_t bind_number(lua_State *L, int at);

/* A number of the table at `at`, `otherwise` if it has none by that name; a truth. */
uint64_t bind_field(lua_State *L, int at, const char *name, uint64_t otherwise);
bool bind_flag(lua_State *L, int at, const char *name);

/* Sets a field of the table on top of the stack. */
void bind_set_number(lua_State *L, const char *name, uint64_t number);
void bind_set_flag(lua_State *L, const char *name, bool on);
void bind_set_text(lua_State *L, const char *name, const char *text);

/* Pushes a message. */
void stage_message_push(lua_State *L, const struct stage_message *at);

/* The message table at `at`, but for `to`. Its runs, one or none, stay on the stack. */
void stage_message_take(lua_State *L, int at, struct stage_message *out);

#endif
