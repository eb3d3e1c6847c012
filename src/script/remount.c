/* script/remount.c - another module takes a mount's place: setting the old one aside, the new one's migrate. See script/vm.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "script/vm_private.h"
#include "wire/pack.h"

struct vm_aside {
    struct vm_mount *mount;
    struct vm_function **functions;
    size_t count;
};

/* Takes the mount's functions out of the table of names. */
static void take_functions(struct vm *vm, struct vm_aside *aside)
{
    struct vm_function **old = vm->functions;
    size_t old_capacity = vm->functions_capacity;
    aside->functions = mem_alloc((vm->functions_count + 1) * sizeof(struct vm_function *));
    vm->functions = NULL;
    vm->recent = NULL;
    vm->functions_count = 0;
    vm->functions_capacity = 0;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i] == NULL)
            continue;
        if (old[i]->mount == aside->mount)
            aside->functions[aside->count++] = old[i];
        else
            vm_function_add(vm, old[i]);
    }
    mem_free(old);
}

struct vm_aside *vm_set_aside(struct vm *vm, struct slice name)
{
    struct vm_aside *aside = mem_zalloc(1, sizeof *aside);
    struct vm_mount **link = &vm->mounts;
    while (*link != NULL && !slice_equal(slice_text((*link)->name), name))
        link = &(*link)->next;
    CHECK(*link != NULL);
    CHECK(!vm->running);
    aside->mount = *link;
    *link = aside->mount->next;
    aside->mount->next = NULL;
    take_functions(vm, aside);
    return aside;
}

void vm_put_back(struct vm *vm, struct vm_aside *aside)
{
    CHECK(vm_mount_find(vm, slice_text(aside->mount->name)) == NULL);
    aside->mount->next = vm->mounts;
    vm->mounts = aside->mount;
    for (size_t i = 0; i < aside->count; i++)
        vm_function_add(vm, aside->functions[i]);
    mem_free(aside->functions);
    mem_free(aside);
}

static void drop_ctx(lua_State *L, const struct vm_ctx *ctx)
{
    luaL_unref(L, LUA_REGISTRYINDEX, ctx->ref);
    luaL_unref(L, LUA_REGISTRYINDEX, ctx->meta_ref);
}

/* What holds the module in Lua is let go, so that the collector can have it. */
static void drop_refs(lua_State *L, const struct vm_mount *mount)
{
    const int refs[] = {mount->apply_ref,      mount->query_ref,          mount->init_ref,
                        mount->workload_ref,   mount->invariant_ref,      mount->hold_ref,
                        mount->on_expire_ref,  mount->on_session_end_ref, mount->migrate_ref,
                        mount->upgrade_row_ref};
    for (size_t i = 0; i < sizeof refs / sizeof refs[0]; i++)
        luaL_unref(L, LUA_REGISTRYINDEX, refs[i]);
    for (size_t i = 0; i < mount->timers_count; i++)
        luaL_unref(L, LUA_REGISTRYINDEX, mount->timers[i].ref);
    drop_ctx(L, &mount->ctx[0]);
    drop_ctx(L, &mount->ctx[1]);
}

void vm_aside_free(struct vm *vm, struct vm_aside *aside)
{
    for (size_t i = 0; i < aside->count; i++) {
        luaL_unref(vm->L, LUA_REGISTRYINDEX, aside->functions[i]->ref);
        args_free(aside->functions[i]->args);
        mem_free(aside->functions[i]);
    }
    drop_refs(vm->L, aside->mount);
    vm_mount_free(aside->mount);
    mem_free(aside->functions);
    mem_free(aside);
}

void vm_unmount(struct vm *vm, struct slice name)
{
    vm_aside_free(vm, vm_set_aside(vm, name));
}

/* --- what a mount is -------------------------------------------------------------------------------------------------- */

void vm_say_busy(const struct vm_mount *mount, char *text, size_t size)
{
    snprintf(text, size, "mount %s is being migrated to version %.0f of %s; try again", mount->name, mount->version,
             mount->module);
}

void vm_set_busy(struct vm *vm, struct slice name, bool busy)
{
    struct vm_mount *mount = vm_mount_find(vm, name);
    CHECK(mount != NULL);
    mount->busy = busy;
}

bool vm_describe(const struct vm *vm, struct slice name, const char **module, double *version)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    if (mount == NULL)
        return false;
    *module = mount->module;
    *version = mount->version;
    return true;
}

bool vm_has_map(const struct vm *vm, struct slice name, struct slice map)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    for (size_t i = 0; mount != NULL && i < mount->maps_count; i++)
        if (slice_equal(slice_text(mount->maps[i].name), map))
            return true;
    return false;
}

bool vm_has_timer(const struct vm *vm, struct slice name, struct slice timer)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    return mount != NULL && vm_timer_find(mount, timer) != NULL;
}

bool vm_has_migrate(const struct vm *vm, struct slice name)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    return mount != NULL && mount->migrate_ref != LUA_NOREF;
}

bool vm_has_upgrade_row(const struct vm *vm, struct slice name)
{
    const struct vm_mount *mount = vm_mount_find(vm, name);
    return mount != NULL && mount->upgrade_row_ref != LUA_NOREF;
}

void vm_set_upgrade(struct vm *vm, struct slice name, uint64_t base)
{
    struct vm_mount *mount = vm_mount_find(vm, name);
    CHECK(mount != NULL && (base == 0 || mount->upgrade_row_ref != LUA_NOREF));
    mount->upgrade_base = base;
}

/* --- migrate ---------------------------------------------------------------------------------------------------------- */

struct making {
    struct vm_mount *mount;
    const struct vm_old_map *old;
    size_t old_count;
    struct vm_ctx *ctx;
};

/* The ctx of migrate: the maps of the module, and those that it no longer has. */
static int make_ctx(lua_State *L)
{
    const struct making *making = lua_touserdata(L, 1);
    lua_newtable(L);
    for (size_t i = 0; i < making->mount->maps_count; i++) {
        map_push(L, making->mount->maps[i].number, making->mount->maps[i].name);
        lua_setfield(L, -2, making->mount->maps[i].name);
    }
    for (size_t i = 0; i < making->old_count && !MUTANT(145); i++) {
        map_push(L, making->old[i].number, making->old[i].name);
        lua_setfield(L, -2, making->old[i].name);
    }
    ctx_make(L, making->ctx, false);
    return 0;
}

enum vm_outcome vm_migrate(struct vm *vm, struct slice name, double from_version, const struct vm_old_map *old,
                           size_t old_count, struct buffer *result)
{
    struct vm_mount *mount = vm_mount_find(vm, name);
    CHECK(mount != NULL && mount->migrate_ref != LUA_NOREF);
    struct vm_ctx own = mount->ctx[0];
    struct vm_ctx wider = {.ref = LUA_NOREF, .meta_ref = LUA_NOREF};
    struct making making = {.mount = mount, .old = old, .old_count = old_count, .ctx = &wider};
    if (lua_cpcall(vm->L, make_ctx, &making) != 0) {
        lua_settop(vm->L, 0);
        snprintf(vm->why, sizeof vm->why, "out of memory");
        return VM_PARK;
    }
    struct buffer args = {0};
    pack_array(&args, 1);
    pack_number(&args, from_version);
    mount->ctx[0] = wider;
    vm->migrating = true;
    vm->old_maps = old;
    vm->old_maps_count = old_count;
    enum vm_outcome outcome = vm_run_hook(vm, mount, mount->migrate_ref, buffer_slice(&args), result);
    vm->migrating = false;
    vm->old_maps = NULL;
    vm->old_maps_count = 0;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, mount->ctx[0].ref); /* whoever kept it has nothing of it */
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->stale_ref);
    lua_setmetatable(vm->L, -2);
    lua_pop(vm->L, 1);
    drop_ctx(vm->L, &mount->ctx[0]);
    mount->ctx[0] = own;
    buffer_close(&args);
    return outcome;
}
