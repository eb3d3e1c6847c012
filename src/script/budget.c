/* script/budget.c - see script/budget.h. */
#include "script/budget.h"

#include <lauxlib.h>
#include <lua.h>

#include "script/vm_private.h"

struct budget *budget_of(lua_State *L)
{
    struct vm *vm = vm_of(L);
    return vm->running ? &vm->budget : &vm->idle_budget;
}

static void raise(lua_State *L, const struct budget *budget)
{
    switch (budget->fault) {
    case BUDGET_SPENT:
        lua_pushliteral(L, "the budget of instructions is spent");
        break;
    case BUDGET_TOO_DEEP:
        lua_pushliteral(L, "calls are nested too deep");
        break;
    default:
        lua_pushliteral(L, "out of memory");
        break;
    }
    lua_error(L);
}

static void on_count(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    struct budget *budget = budget_of(L);
    if (budget->fault == BUDGET_OK) {
        budget->left -= BUDGET_STEP;
        lua_Debug frame;
        if (budget->left < 0)
            budget->fault = BUDGET_SPENT;
        else if (lua_getstack(L, (int)budget->depth_max, &frame) != 0)
            budget->fault = BUDGET_TOO_DEEP;
        if (budget->fault == BUDGET_OK)
            return;
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1); /* from here on every instruction raises: no pcall holds it */
    }
    raise(L, budget);
}

void budget_begin(lua_State *L, struct budget *budget, int64_t instructions, uint32_t depth_max)
{
    budget->left = instructions;
    budget->depth_max = depth_max;
    budget->fault = BUDGET_OK;
    lua_sethook(L, on_count, LUA_MASKCOUNT, BUDGET_STEP);
}

void budget_charge(lua_State *L, uint64_t units)
{
    struct budget *budget = budget_of(L);
    budget->left -= units < INT64_MAX / 2 ? (int64_t)units : INT64_MAX / 2;
    if (budget->left < 0 && budget->fault == BUDGET_OK) {
        budget->fault = BUDGET_SPENT;
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    }
    budget_rethrow(L);
}

void budget_too_deep(lua_State *L)
{
    struct budget *budget = budget_of(L);
    if (budget->fault == BUDGET_OK) {
        budget->fault = BUDGET_TOO_DEEP;
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    }
    budget_rethrow(L);
}

void budget_rethrow(lua_State *L)
{
    struct budget *budget = budget_of(L);
    if (budget->fault != BUDGET_OK)
        raise(L, budget);
}
