/* script/ctx_timer.c - ctx.at, ctx.after, ctx.cancel: a timer of the module fires at a moment of cluster time, as a log entry
 * (machine/timer.h). Private to script/.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "script/due.h"
#include "script/fail.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "wire/pack.h"

enum { CHARGE_ARM = 200, CHARGE_BYTES = 16, TIMERS_NAMED = 300 };

struct vm_timer *vm_timer_find(const struct vm_mount *mount, struct slice name)
{
    for (size_t i = 0; i < mount->timers_count; i++)
        if (slice_equal(slice_text(mount->timers[i].name), name))
            return &mount->timers[i];
    return NULL;
}

/* Raises an error that names the timers that there are. */
static int refuse_name(lua_State *L, const char *function, const struct vm_mount *mount)
{
    char there[TIMERS_NAMED] = "";
    size_t size = 0;
    for (size_t i = 0; i < mount->timers_count && size < sizeof there; i++)
        size += (size_t)snprintf(there + size, sizeof there - size, " %s", mount->timers[i].name);
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "ctx.%s: the timer must be the name of a function in the module's timers, got %s",
                          function, luaL_typename(L, 2));
    if (mount->timers_count == 0)
        return luaL_error(L, "ctx.%s: there is no timer '%s'; the module has no timers", function,
                          lua_tostring(L, 2));
    return luaL_error(L, "ctx.%s: there is no timer '%s'; there are%s", function, lua_tostring(L, 2), there);
}

/* The number of milliseconds at 1. */
static double read_ms(lua_State *L, const char *function, const char *what)
{
    double ms = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : -1;
    if (!(ms >= 0 && ms == floor(ms) && ms < (double)DUE_TIME_MAX))
        luaL_error(L, "ctx.%s: %s must be a whole number of milliseconds from 0, got %s", function, what,
                   lua_type(L, 1) == LUA_TNUMBER ? lua_tostring(L, 1) : luaL_typename(L, 1));
    return ms;
}

/* Encodes the arguments from 3 on behind the timer's names, into the vm's scratch. */
static void pack_what(lua_State *L, struct vm *vm, const char *function, struct slice name)
{
    int count = lua_gettop(L) - 2;
    buffer_clear(&vm->value);
    pack_text(&vm->value, slice_text(vm->current->name));
    pack_text(&vm->value, name);
    size_t start = vm->value.size;
    pack_array(&vm->value, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        const char *why = value_pack(L, 3 + i, &vm->value);
        if (why != NULL)
            luaL_error(L, "ctx.%s: argument %d of %s: %s", function, i + 1, lua_tostring(L, 2), why);
    }
    if (vm->value.size - start > vm->limits.timer_bytes)
        fail(L, "TOO_LARGE", "ctx.%s: arguments of %zu bytes, and a timer takes at most %.0f", function,
             vm->value.size - start, (double)vm->limits.timer_bytes);
}

static int arm(lua_State *L, const char *function, double deadline_ms)
{
    struct vm *vm = vm_of(L);
    struct slice name = {0};
    if (lua_type(L, 2) == LUA_TSTRING)
        name.data = (const uint8_t *)lua_tolstring(L, 2, &name.size);
    if (name.data == NULL || vm_timer_find(vm->current, name) == NULL)
        return refuse_name(L, function, vm->current);
    if (deadline_ms >= (double)DUE_TIME_MAX)
        return luaL_error(L, "ctx.%s: there is no such time", function);
    pack_what(L, vm, function, name);
    budget_charge(L, CHARGE_ARM + vm->value.size / CHARGE_BYTES);
    if (due_count(vm->tree, DUE_TIMER) >= vm->limits.timers)
        return fail(L, "QUOTA", "ctx.%s: %.0f timers wait, and the limit is as many", function,
                    (double)vm->limits.timers);
    lua_pushnumber(L, (double)due_arm_timer(vm->tree, (uint64_t)deadline_ms, buffer_slice(&vm->value)));
    return 1;
}

/* ctx.at(time, timer, ...): a time that has passed is now. */
int ctx_at(lua_State *L)
{
    double now_ms = (double)ctx_begin(L, "at")->entry.now_ms;
    double ms = read_ms(L, "at", "the time");
    return arm(L, "at", ms > now_ms ? ms : now_ms);
}

/* ctx.after(ms, timer, ...) */
int ctx_after(lua_State *L)
{
    double now_ms = (double)ctx_begin(L, "after")->entry.now_ms;
    return arm(L, "after", now_ms + read_ms(L, "after", "the time"));
}

/* ctx.cancel(id) -> true if it waited; nil: nothing did. A mount cancels its own alone. */
int ctx_cancel(lua_State *L)
{
    struct vm *vm = ctx_begin(L, "cancel");
    if (lua_isnil(L, 1)) {
        lua_pushboolean(L, false);
        return 1;
    }
    double id = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : -1;
    struct due due;
    struct slice what;
    struct slice mount;
    if (!(id >= 0 && id == floor(id) && id < (double)DUE_TIME_MAX))
        return luaL_error(L, "ctx.cancel: the id must be what ctx.at or ctx.after gave, got %s",
                          lua_type(L, 1) == LUA_TNUMBER ? lua_tostring(L, 1) : luaL_typename(L, 1));
    budget_charge(L, CHARGE_ARM);
    bool found = due_find_timer(vm->tree, (uint64_t)id, &due) && due_get(vm->tree, &due, &what);
    if (found) {
        struct pack_reader reader = pack_reader_make(what);
        CHECK(pack_read_text(&reader, &mount) == STATUS_OK);
        found = slice_equal(mount, slice_text(vm->current->name));
    }
    if (found && !MUTANT(158))
        due_drop_timer(vm->tree, &due);
    lua_pushboolean(L, found);
    return 1;
}
