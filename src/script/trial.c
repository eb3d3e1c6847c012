/* script/trial.c - see script/trial.h. Calls are made up in made_up.c. */
#include "script/trial.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "script/vm_private.h"
#include "wire/error.h"

/* Calls the invariant of the mount in progress: what it returns after false becomes an error; after nil too, for that is how
 * commands refuse. Stack: ctx [-1, +0] */
static int hold(lua_State *L)
{
    struct vm *vm = vm_of(L);
    vm->entered_ref = vm->current->invariant_ref;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->entered_ref);
    lua_insert(L, 1);
    lua_call(L, 1, 2);
    if (lua_toboolean(L, 1) || (lua_isnil(L, 1) && lua_isnil(L, 2)))
        return 0;
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "INVARIANT");
    lua_setfield(L, -2, "code");
    if (lua_isstring(L, 2))
        lua_pushvalue(L, 2);
    else
        lua_pushliteral(L, "it returned false");
    lua_setfield(L, -2, "message");
    return lua_error(L);
}

int trial_take_invariant(lua_State *L, struct vm_mount *mount)
{
    if (mount->invariant_ref == LUA_NOREF)
        return LUA_NOREF;
    lua_pushcfunction(L, hold);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static void say(struct buffer *why, const struct vm_mount *mount, struct slice error)
{
    struct slice code, message, data;
    char text[400];
    CHECK(error_unpack(error, &code, &message, &data) == STATUS_OK);
    bool plain = slice_equal(code, slice_text("INVARIANT")) || slice_equal(code, slice_text("SCRIPT_ERROR")) ||
                 slice_equal(code, slice_text("FAILED"));
    int size = snprintf(text, sizeof text, "the invariant of %s does not hold: %.*s%s%.*s", mount->name,
                        plain ? 0 : (int)code.size, (const char *)code.data, plain ? "" : ": ", (int)message.size,
                        (const char *)message.data);
    buffer_append(why, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

bool vm_holds(struct vm *vm, struct buffer *why)
{
    struct buffer result = {0};
    bool holds = true;
    for (struct vm_mount *mount = vm->mounts; mount != NULL && holds; mount = mount->next) {
        if (mount->hold_ref == LUA_NOREF || mount->busy)
            continue; /* in the midst of a migration nothing is said of its rows */
        buffer_clear(&result);
        enum vm_outcome outcome = vm_run(vm, mount, mount->hold_ref, &result);
        holds = outcome == VM_OK;
        if (outcome == VM_PARK)
            error_pack(&result, ERROR_SCRIPT_ERROR, "it needed more memory than a Lua state may have");
        if (!holds)
            say(why, mount, buffer_slice(&result));
    }
    buffer_close(&result);
    return holds;
}

bool vm_has_workload(const struct vm *vm, struct slice name)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    return mount != NULL && mount->workload_ref != LUA_NOREF;
}

enum vm_outcome vm_workload(struct vm *vm, struct slice name, struct buffer *result)
{
    struct vm_mount *mount = vm_mount_find(vm, name);
    CHECK(mount != NULL);
    CHECK(mount->workload_ref != LUA_NOREF);
    CHECK(vm->entry.client > 0);
    return vm_run(vm, mount, mount->workload_ref, result);
}
