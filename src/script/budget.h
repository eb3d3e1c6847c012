/* script/budget.h - what a script may use: instructions, depth, memory.
 *
 * A count hook every 100 instructions (reset for each entry, so the count does not depend on history) charges the budget
 * and looks at the depth; C functions charge by bytes and steps. Over the limit an error is raised that no pcall of the
 * sandbox can hold: a sticky flag makes the wrappers re-raise, until the entry ends. Depends on LuaJIT.
 */
#ifndef SCRIPT_BUDGET_H
#define SCRIPT_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct lua_State;

enum {
    BUDGET_INSTRUCTIONS = 10 * 1000 * 1000, /* default of the replicated limit, for each entry */
    BUDGET_DEPTH = 200,                     /* default of the replicated limit */
    BUDGET_STEP = 100
};

enum budget_fault {
    BUDGET_OK,
    BUDGET_SPENT,    /* instructions: the code BUDGET */
    BUDGET_TOO_DEEP, /* the code DEPTH */
    BUDGET_STOPPED,  /* whoever runs a format has no use for the rest (script/format.c) */
    BUDGET_MEMORY    /* the allocator's limit, or the native stack: parks, never a result */
};

struct budget {
    int64_t left;
    uint32_t depth_max;
    enum budget_fault fault; /* sticky until budget_begin */
    bool lines;              /* script/desk.h hears of each line */
    char where[96];          /* "kv.lua:12: ", where the fault began */
};

/* Starts an entry: full budget, no fault, counting from the start. The hook stays where it is when the entry ends: putting
 * it in and out makes LuaJIT rebuild its dispatch table each time. */
void budget_begin(struct lua_State *L, struct budget *budget, int64_t instructions, uint32_t depth_max);

/* The budget of this state (kept where it is found in a few instructions). Outside an entry: one that never ends. */
struct budget *budget_of(struct lua_State *L);

/* Charges `units` (one is worth about one instruction); raises when the budget is spent: does not return then. */
void budget_charge(struct lua_State *L, uint64_t units);

/* Raises what no pcall holds: for the end of a work that is not the script's fault, or is settled already. */
void budget_stop(struct lua_State *L);

/* Raises DEPTH, for nesting that goes through C. */
void budget_too_deep(struct lua_State *L);

/* Raises DEPTH when calls are nested deeper than the limit: for functions that can call themselves through C alone, where no
 * instruction is counted. */
void budget_check_depth(struct lua_State *L);

/* What a fault is called, without its place. */
const char *budget_text(const struct budget *budget);

/* Raises the sticky fault again if there is one: every wrapper that caught an error calls this first. */
void budget_rethrow(struct lua_State *L);

#endif
