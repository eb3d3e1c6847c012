/* script/budget.c - see script/budget.h. */
#include "script/budget.h"

#include <stdio.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/fail.h"
#include "script/vm_private.h"

struct budget *budget_of(lua_State *L)
{
    struct vm *vm = vm_of(L);
    return vm->running ? &vm->budget : &vm->idle_budget;
}

const char *budget_text(const struct budget *budget)
{
    switch (budget->fault) {
    case BUDGET_SPENT:
        return "the budget of instructions is spent";
    case BUDGET_TOO_DEEP:
        return "calls are nested too deep";
    case BUDGET_STOPPED:
        return "stopped";
    default:
        return "out of memory";
    }
}

static void raise(lua_State *L, const struct budget *budget)
{
    lua_pushfstring(L, "%s%s", budget->where, budget_text(budget));
    lua_error(L);
}

static void on_count(lua_State *L, lua_Debug *debug);

/* From here on every instruction raises: no pcall holds it. The line is the one where it began. */
static void set_fault(lua_State *L, struct budget *budget, enum budget_fault fault)
{
    budget->fault = fault;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    fail_push_where(L, 0);
    snprintf(budget->where, sizeof budget->where, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

static void on_count(lua_State *L, lua_Debug *debug)
{
    struct budget *budget = budget_of(L);
    if (debug->event == LUA_HOOKLINE) {
        desk_note_line(L, debug);
        return;
    }
    if (budget->fault == BUDGET_OK) {
        budget->left -= BUDGET_STEP;
        lua_Debug frame;
        if (budget->left < 0)
            set_fault(L, budget, BUDGET_SPENT);
        else if (lua_getstack(L, (int)budget->depth_max, &frame) != 0)
            set_fault(L, budget, BUDGET_TOO_DEEP);
        if (budget->fault == BUDGET_OK)
            return;
    }
    raise(L, budget);
}

void budget_begin(lua_State *L, struct budget *budget, int64_t instructions, uint32_t depth_max)
{
    budget->left = instructions;
    budget->depth_max = depth_max;
    budget->fault = BUDGET_OK;
    budget->where[0] = 0;
    lua_sethook(L, on_count, LUA_MASKCOUNT | (budget->lines ? LUA_MASKLINE : 0), BUDGET_STEP);
}

void budget_charge(lua_State *L, uint64_t units)
{
    struct budget *budget = budget_of(L);
    budget->left -= units < INT64_MAX / 2 ? (int64_t)units : INT64_MAX / 2;
    if (budget->left < 0 && budget->fault == BUDGET_OK) {
        set_fault(L, budget, BUDGET_SPENT);
    }
    budget_rethrow(L);
}

void budget_stop(lua_State *L)
{
    struct budget *budget = budget_of(L);
    if (budget->fault == BUDGET_OK)
        set_fault(L, budget, BUDGET_STOPPED);
    budget_rethrow(L);
}

void budget_too_deep(lua_State *L)
{
    struct budget *budget = budget_of(L);
    if (budget->fault == BUDGET_OK) {
        set_fault(L, budget, BUDGET_TOO_DEEP);
    }
    budget_rethrow(L);
}

void budget_check_depth(lua_State *L)
{
    lua_Debug frame;
    if (lua_getstack(L, (int)budget_of(L)->depth_max, &frame) != 0)
        budget_too_deep(L);
}

void budget_rethrow(lua_State *L)
{
    struct budget *budget = budget_of(L);
    if (budget->fault != BUDGET_OK)
        raise(L, budget);
}
