/* script/fail.h - errors that name their place: file and line of the service's code, and what was wrong.
 *
 * Text raised by LuaJIT or by the host carries "kv.lua:12: " once, also from a tail call, whose own line LuaJIT forgets:
 * then it is the line that led there, or the one where the command begins. What a service raises by `error` stays as it
 * is. Depends on LuaJIT. Private to script/.
 */
#ifndef SCRIPT_FAIL_H
#define SCRIPT_FAIL_H

#include <stdbool.h>

struct lua_State;
struct luaL_Reg;

/* Raises {code, message}, the message with its place. For codes that are the host's; luaL_error is for SCRIPT_ERROR. */
int fail(struct lua_State *L, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Pushes "kv.lua:12: " of the nearest line of a service's code, from frame `level` on; "" if there is none [-0, +1]. */
void fail_push_where(struct lua_State *L, int level);

/* True for text that begins like "kv.lua:12: ". */
bool fail_has_where(const char *text);

/* Message handlers [-1, +1]: of pcall, and of a whole call, which also says what is wrong with an error's table. What must
 * never become a result (the native stack's end) sets the budget's fault, which no pcall holds. */
int fail_handle(struct lua_State *L);
int fail_handle_last(struct lua_State *L);

/* NULL, or why the table at `at` is no error that a service may give (text pushed on the stack [-0, +0 | +1]). */
const char *fail_check_table(struct lua_State *L, int at);

/* Remembers that the function at the top is called `name` by services [-0, +0]. */
void fail_name_function(struct lua_State *L, const char *name);

/* Puts functions, listed as "string.find", into the table at the top by the part behind the dot [-0, +0]. */
void fail_open(struct lua_State *L, const struct luaL_Reg *functions);

/* Prepares a state. */
void fail_setup(struct lua_State *L);

#endif
