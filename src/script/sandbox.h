/* script/sandbox.h - the language that replicated code sees: an allow list, frozen, without what can diverge.
 *
 * DESIGN.md §6 and the table of hazards behind it. Interpreter only. Everything here charges the budget by the work it
 * does (script/budget.h), for no instruction hook fires inside a C function. Depends on base, script/budget.h, LuaJIT.
 */
#ifndef SCRIPT_SANDBOX_H
#define SCRIPT_SANDBOX_H

#include "base/slice.h"
#include "base/status.h"

struct lua_State;

/* Version of the allow list and its behaviour: part of the runtime fingerprint. Grows with every visible change. */
enum { SANDBOX_VERSION = 6 };

/* What two nodes must have in common to run one service: LuaJIT, the machine's kind, SANDBOX_VERSION. */
uint64_t sandbox_fingerprint(void);

/* Prepares a fresh state, opened with no libraries: switches the JIT off, opens base table string math bit, takes out what
 * is not allowed, puts our own in place, freezes. Leaves the environment for module chunks (its unknown names raise, its
 * new names raise) on the stack [-0, +1]. `pcall` and ctx come from script/vm (savepoints); the rest is here. */
void sandbox_open(struct lua_State *L);

/* Adds a name to the environment at `env`, which scripts cannot change: its value is at the top [-1, +0]. */
void sandbox_add(struct lua_State *L, int env, const char *name);

/* Puts an empty, read-only table in front of the one at the top [-1, +1]. */
void sandbox_freeze(struct lua_State *L);

/* True when the environment has `name`, and, if `field` is not empty, its library has that. */
bool sandbox_has(struct lua_State *L, struct slice name, struct slice field);

#endif
