/* script/pairs.h - the sandbox's pairs: keys in a fixed order, over a copy of them. Depends on script/budget.h, LuaJIT. */
#ifndef SCRIPT_PAIRS_H
#define SCRIPT_PAIRS_H

struct lua_State;

/* pairs(t): false < true < numbers < texts by bytes. A key put in meanwhile is not visited, one taken out is skipped. */
int pairs_sorted(struct lua_State *L);

#endif
