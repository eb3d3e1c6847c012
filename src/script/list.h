/* script/list.h - the table library of the sandbox, and what else walks lists. Depends on script/text.h, LuaJIT.
 *
 * Own code: the order that sort gives, and what it makes of an order function that is none, is fixed here and not by a
 * version of LuaJIT. What needs the length of a whole list refuses one with holes, whose `#` would depend on how it was made.
 */
#ifndef SCRIPT_LIST_H
#define SCRIPT_LIST_H

struct lua_State;

/* Adds concat insert remove sort to the table at the top [-0, +0]. */
void list_open(struct lua_State *L);

/* unpack(t[, i[, j]]): at most 200 values. */
int list_unpack(struct lua_State *L);

/* Raises when the value at 1 is no table, or one that services must not write to. */
void list_check_open(struct lua_State *L, const char *name);

#endif
