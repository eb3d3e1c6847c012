/* script/pattern.h - find match gmatch gsub of the sandbox: the patterns of Lua 5.1, matched under the budget.
 *
 * A pattern may go back over its text again and again; each step costs one unit, so the worst of them ends with BUDGET, and
 * none needs to be refused beforehand. Results are those of LuaJIT's own, byte classes those of ASCII whatever the locale.
 * A zero byte in a pattern is refused (write %z), and one that nests deeper than MATCH_DEPTH_MAX. Depends on
 * script/match.h, script/text.h, LuaJIT.
 */
#ifndef SCRIPT_PATTERN_H
#define SCRIPT_PATTERN_H

struct lua_State;

/* Adds find match gmatch gsub to the table at the top [-0, +0]. */
void pattern_open(struct lua_State *L);

#endif
