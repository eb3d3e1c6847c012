/* cli/stage_message.h - messages of a stage as Lua tables.
 *
 * A message is a table: type, from, to, term and the fields of its type, under the paper's names where it has them. What cannot
 * be is a Lua error. Depends on sim/stage.h, LuaJIT.
 */
#ifndef CLI_STAGE_MESSAGE_H
#define CLI_STAGE_MESSAGE_H

#include <lua.h>

#include "sim/stage.h"

/* Pushes a message. */
void stage_message_push(lua_State *L, const struct stage_message *at);

/* The message table at `at`, but for `to`. Its runs, one or none, stay on the stack. */
void stage_message_take(lua_State *L, int at, struct stage_message *out);

#endif
