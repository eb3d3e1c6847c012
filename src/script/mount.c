/* script/mount.c - modules take their places: names, maps, commands and queries of a mount. See script/vm.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "script/bundle.h"
#include "script/vm_private.h"

/* --- names ------------------------------------------------------------------------------------------------------------------ */

static size_t slot_of(const struct vm *vm, struct slice name)
{
    size_t slot = hash64(name.data, name.size) & (vm->functions_capacity - 1);
    while (vm->functions[slot] != NULL &&
           !slice_equal(slice_make(vm->functions[slot]->name, vm->functions[slot]->name_size), name))
        slot = (slot + 1) & (vm->functions_capacity - 1);
    return slot;
}

struct vm_function *vm_function_find(struct vm *vm, struct slice name)
{
    struct vm_function *recent = vm->recent;
    if (recent != NULL && slice_equal(slice_make(recent->name, recent->name_size), name))
        return recent;
    struct vm_function *found = vm->functions_capacity > 0 ? vm->functions[slot_of(vm, name)] : NULL;
    if (found != NULL)
        vm->recent = found;
    return found;
}

void vm_function_add(struct vm *vm, struct vm_function *function)
{
    if ((vm->functions_count + 1) * 2 > vm->functions_capacity) {
        struct vm_function **old = vm->functions;
        size_t old_capacity = vm->functions_capacity;
        vm->functions_capacity = old_capacity > 0 ? old_capacity * 2 : 64;
        vm->functions = mem_zalloc(vm->functions_capacity, sizeof *vm->functions);
        for (size_t i = 0; i < old_capacity; i++)
            if (old[i] != NULL)
                vm->functions[slot_of(vm, slice_make(old[i]->name, old[i]->name_size))] = old[i];
        mem_free(old);
    }
    vm->functions[slot_of(vm, slice_make(function->name, function->name_size))] = function;
    vm->functions_count++;
}

struct vm_mount *vm_mount_find(const struct vm *vm, struct slice name)
{
    struct vm_mount *mount = vm->mounts;
    while (mount != NULL && !slice_equal(slice_text(mount->name), name))
        mount = mount->next;
    return mount;
}

struct vm_mount *vm_mount_raw(const struct vm *vm, struct slice name)
{
    const uint8_t *dot = memchr(name.data, '.', name.size);
    if (dot == NULL)
        return NULL;
    struct vm_mount *mount = vm_mount_find(vm, slice_make(name.data, (size_t)(dot - name.data)));
    return mount != NULL && mount->apply_ref != LUA_NOREF ? mount : NULL;
}

enum vm_kind vm_find(struct vm *vm, struct slice name)
{
    const struct vm_function *function = vm_function_find(vm, name);
    if (function != NULL)
        return function->kind;
    return vm_mount_raw(vm, name) != NULL ? VM_RAW : VM_NONE;
}

/* --- mounting ---------------------------------------------------------------------------------------------------------------- */

struct mounting {
    struct vm *vm;
    struct vm_mount *mount;
    struct slice bundle;
    struct buffer *why;
    uint32_t (*map_number)(void *context, struct slice mount, struct slice map);
    void *context;
    bool refused; /* `why` says it */
};

/* A command given as a table stays callable: module.commands.set(ctx, ...). */
static int call_table(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static void make_callable(lua_State *L, int table, int run)
{
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, run);
    lua_pushcclosure(L, call_table, 1);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, table);
}

/* Takes one command or query: the value at the top, the name below it. */
static void add_named(lua_State *L, struct mounting *mounting, enum vm_kind kind)
{
    int value = lua_gettop(L);
    struct vm_function *function = mem_zalloc(1, sizeof *function);
    int size =
        snprintf(function->name, sizeof function->name, "%s.%s", mounting->mount->name, lua_tostring(L, value - 1));
    CHECK(size > 0 && (size_t)size < sizeof function->name); /* bundle_check bounds names */
    function->name_size = (size_t)size;
    function->kind = kind;
    function->mount = mounting->mount;
    if (lua_istable(L, value)) {
        lua_getfield(L, value, "args");
        struct slice text;
        text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
        if (text.data != NULL && args_parse(text, &function->args, mounting->why) != STATUS_OK)
            mounting->refused = true;
        lua_getfield(L, value, "session");
        function->demands_session = lua_toboolean(L, -1) != 0;
        lua_getfield(L, value, "run");
        make_callable(L, value, lua_gettop(L));
    } else {
        lua_pushvalue(L, value);
    }
    function->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, value);
    vm_function_add(mounting->vm, function);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct vm_timer *)left)->name, ((const struct vm_timer *)right)->name);
}

static void add_table(lua_State *L, struct mounting *mounting, int module, const char *field, enum vm_kind kind)
{
    lua_getfield(L, module, field);
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
            add_named(L, mounting, kind);
    }
    lua_pop(L, 1);
}

/* Takes the module's timers. */
static void add_timers(lua_State *L, struct vm_mount *mount, int module)
{
    lua_getfield(L, module, "timers");
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) != 0;) {
            if (mount->timers_count % 16 == 0)
                mount->timers = mem_realloc(mount->timers, (mount->timers_count + 16) * sizeof *mount->timers);
            struct vm_timer *timer = &mount->timers[mount->timers_count++];
            snprintf(timer->name, sizeof timer->name, "%s", lua_tostring(L, -2));
            timer->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        }
    }
    lua_pop(L, 1);
    if (mount->timers_count > 0)
        qsort(mount->timers, mount->timers_count, sizeof *mount->timers, by_name);
}

static int take_function(lua_State *L, int module, const char *field)
{
    lua_getfield(L, module, field);
    if (lua_isfunction(L, -1))
        return luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    return LUA_NOREF;
}

/* Pushes the table of the mount's maps, in the order of their names, so that all nodes number them alike. */
static void push_maps(lua_State *L, struct mounting *mounting, int module)
{
    const char *names[256];
    size_t count = 0;
    lua_getfield(L, module, "state");
    int state = lua_gettop(L);
    if (lua_istable(L, state)) {
        for (lua_pushnil(L); lua_next(L, state) != 0 && count < 256; lua_pop(L, 1)) {
            size_t at = count++;
            const char *name = lua_tostring(L, -2);
            for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
                names[at] = names[at - 1];
            names[at] = name;
        }
    }
    struct vm_mount *mount = mounting->mount;
    mount->maps = mem_zalloc(count + 1, sizeof *mount->maps);
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        uint32_t number = mounting->map_number(mounting->context, slice_text(mount->name), slice_text(names[i]));
        struct vm_map *map = &mount->maps[mount->maps_count++];
        snprintf(map->name, sizeof map->name, "%s", names[i]);
        map->number = number;
        map_push(L, number, names[i]);
        lua_setfield(L, -2, names[i]);
    }
    lua_remove(L, state);
}

static int mount_protected(lua_State *L)
{
    struct mounting *mounting = lua_touserdata(L, 1);
    struct vm_mount *mount = mounting->mount;
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    if (bundle_load(L, 1, mounting->bundle, &mount->holds_tables, mounting->why) != STATUS_OK) {
        mounting->refused = true;
        return 0;
    }
    int module = lua_gettop(L);
    lua_getfield(L, module, "name");
    snprintf(mount->module, sizeof mount->module, "%s", lua_tostring(L, -1));
    lua_getfield(L, module, "version");
    mount->version = lua_tonumber(L, -1);
    lua_pop(L, 2);
    push_maps(L, mounting, module);
    ctx_make(L, &mount->ctx[0], false);
    ctx_make(L, &mount->ctx[1], true);
    mount->init_ref = take_function(L, module, "init");
    mount->apply_ref = take_function(L, module, "apply");
    mount->query_ref = take_function(L, module, "query");
    mount->workload_ref = take_function(L, module, "workload");
    mount->invariant_ref = take_function(L, module, "invariant");
    mount->hold_ref = trial_take_invariant(L, mount);
    mount->on_expire_ref = take_function(L, module, "on_expire");
    mount->on_session_end_ref = take_function(L, module, "on_session_end");
    mount->migrate_ref = take_function(L, module, "migrate");
    mount->upgrade_row_ref = take_function(L, module, "upgrade_row");
    add_timers(L, mount, module);
    add_table(L, mounting, module, "commands", VM_COMMAND);
    add_table(L, mounting, module, "queries", VM_QUERY);
    return 0;
}

enum status vm_mount(struct vm *vm, struct slice bundle,
                     uint32_t (*map_number)(void *context, struct slice mount, struct slice map), void *context,
                     struct buffer *why)
{
    struct slice name;
    if (bundle_mount(bundle, &name) != STATUS_OK || name.size >= sizeof vm->mounts->name) {
        buffer_append(why, "not a bundle", 12);
        return STATUS_INVALID;
    }
    if (vm_mount_find(vm, name) != NULL)
        return STATUS_EXISTS;
    struct vm_mount *mount = mem_zalloc(1, sizeof *mount);
    memcpy(mount->name, name.data, name.size);
    mount->hash = bundle_hash(bundle);
    mount->apply_ref = mount->query_ref = mount->init_ref = LUA_NOREF;
    mount->workload_ref = mount->invariant_ref = mount->hold_ref = LUA_NOREF;
    mount->on_expire_ref = mount->on_session_end_ref = LUA_NOREF;
    mount->migrate_ref = mount->upgrade_row_ref = LUA_NOREF;
    for (size_t i = 0; i < 2; i++)
        mount->ctx[i].ref = mount->ctx[i].meta_ref = LUA_NOREF;
    mount->next = vm->mounts;
    vm->mounts = mount;
    struct mounting mounting = {
        .vm = vm, .mount = mount, .bundle = bundle, .why = why, .map_number = map_number, .context = context};
    /* The module's own code runs here: under a budget, like anything of a user's. */
    vm->running = true;
    vm->calls_open = 0;
    if (!MUTANT(130))
        vm->entry = (struct vm_entry){0}; /* one time and one sequence of random numbers, whenever it is loaded */
    vm->prng_seeded = false;
    budget_begin(vm->L, &vm->budget, BUDGET_INSTRUCTIONS, BUDGET_DEPTH);
    int status = lua_cpcall(vm->L, mount_protected, &mounting);
    vm->running = false;
    if (status != 0 && lua_isstring(vm->L, -1)) {
        size_t size = 0;
        const char *text = lua_tolstring(vm->L, -1, &size);
        buffer_append(why, text, size);
    }
    lua_settop(vm->L, 0);
    if (status == 0 && !mounting.refused)
        return STATUS_OK;
    vm_unmount(vm, name);
    if (status != LUA_ERRMEM && status != LUA_ERRERR && vm->budget.fault != BUDGET_MEMORY)
        return STATUS_INVALID;
    snprintf(vm->why, sizeof vm->why, "out of memory");
    return STATUS_NO_SPACE;
}

static uint32_t next_number(void *context, struct slice mount, struct slice map)
{
    (void)mount;
    (void)map;
    return (*(uint32_t *)context)++;
}

enum status vm_mount_apart(struct vm *vm, struct slice bundle, struct buffer *why)
{
    uint32_t number = VM_MAPS_FIRST;
    return vm_mount(vm, bundle, next_number, &number, why);
}

void vm_mount_free(struct vm_mount *mount)
{
    mem_free(mount->timers);
    mem_free(mount->maps);
    mem_free(mount);
}
