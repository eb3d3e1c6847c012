/* script/vm.c - the host: a bounded Lua state, mounts, calls. See script/vm.h. */
#include "script/vm.h"

#include <stdio.h>
#include <string.h>

#include <luajit.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"
#include "script/bundle.h"
#include "script/sandbox.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "wire/error.h"
#include "wire/pack.h"

/* The allocator's bound: beyond it Lua raises, and the node parks. */
static void *allocate(void *context, void *old, size_t old_size, size_t size)
{
    struct vm *vm = context;
    if (size == 0) {
        mem_free(old);
        vm->lua_bytes -= old_size;
        return NULL;
    }
    if (size > old_size && vm->lua_bytes + (size - old_size) > vm->lua_bytes_max)
        return NULL;
    void *pointer = mem_realloc(old, size);
    vm->lua_bytes += size - old_size;
    return pointer;
}

struct vm *vm_of(lua_State *L)
{
    void *context = NULL;
    (void)lua_getallocf(L, &context);
    return context;
}

uint64_t vm_now_ms(lua_State *L)
{
    return vm_of(L)->entry.now_ms;
}

size_t vm_lua_bytes(const struct vm *vm)
{
    return vm->lua_bytes;
}

const char *vm_why(const struct vm *vm)
{
    return vm->why;
}

/* Opens what needs protection from Lua's own errors. */
static int setup(lua_State *L)
{
    value_setup(L);
    map_setup(L);
    sandbox_open(L);
    lua_pushcfunction(L, ctx_pcall);
    sandbox_add(L, -2, "pcall");
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    return 0;
}

struct vm *vm_new(struct tree *tree, size_t lua_bytes_max)
{
    struct vm *vm = mem_zalloc(1, sizeof *vm);
    vm->tree = tree;
    vm->lua_bytes_max = lua_bytes_max;
    vm->idle_budget.left = INT64_MAX;
    vm->L = lua_newstate(allocate, vm);
    CHECK(vm->L != NULL);
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (lua_cpcall(vm->L, setup, NULL) != 0 && lua_isstring(vm->L, -1))
        LOG(LOG_ERROR, "script", "%s", lua_tostring(vm->L, -1));
    lua_getfield(vm->L, LUA_REGISTRYINDEX, "tidelock.env");
    CHECK(!lua_isnil(vm->L, -1));
    lua_settop(vm->L, 0);
    lua_gc(vm->L, LUA_GCSETPAUSE, 150);
    lua_gc(vm->L, LUA_GCSETSTEPMUL, 400);
    return vm;
}

void vm_free(struct vm *vm)
{
    lua_close(vm->L);
    for (size_t i = 0; i < vm->functions_capacity; i++) {
        if (vm->functions[i] == NULL)
            continue;
        args_free(vm->functions[i]->args);
        mem_free(vm->functions[i]);
    }
    while (vm->mounts != NULL) {
        struct vm_mount *next = vm->mounts->next;
        mem_free(vm->mounts);
        vm->mounts = next;
    }
    mem_free(vm->functions);
    buffer_close(&vm->key);
    buffer_close(&vm->value);
    mem_free(vm);
}

/* --- names ------------------------------------------------------------------------------------------------------------------ */

static size_t slot_of(const struct vm *vm, struct slice name)
{
    size_t slot = hash64(name.data, name.size) & (vm->functions_capacity - 1);
    while (vm->functions[slot] != NULL &&
           !slice_equal(slice_make(vm->functions[slot]->name, vm->functions[slot]->name_size), name))
        slot = (slot + 1) & (vm->functions_capacity - 1);
    return slot;
}

struct vm_function *vm_function_find(const struct vm *vm, struct slice name)
{
    return vm->functions_capacity > 0 ? vm->functions[slot_of(vm, name)] : NULL;
}

static void add_function(struct vm *vm, struct vm_function *function)
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

static struct vm_mount *find_mount(const struct vm *vm, struct slice name)
{
    struct vm_mount *mount = vm->mounts;
    while (mount != NULL && !slice_equal(slice_text(mount->name), name))
        mount = mount->next;
    return mount;
}

/* The mount of "mount.name", if it dispatches itself. */
static struct vm_mount *raw_mount(const struct vm *vm, struct slice name)
{
    const uint8_t *dot = memchr(name.data, '.', name.size);
    if (dot == NULL)
        return NULL;
    struct vm_mount *mount = find_mount(vm, slice_make(name.data, (size_t)(dot - name.data)));
    return mount != NULL && mount->apply_ref != LUA_NOREF ? mount : NULL;
}

enum vm_kind vm_find(const struct vm *vm, struct slice name)
{
    const struct vm_function *function = vm_function_find(vm, name);
    if (function != NULL)
        return function->kind;
    return raw_mount(vm, name) != NULL ? VM_RAW : VM_NONE;
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
    int size = snprintf(function->name, sizeof function->name, "%s.%s", mounting->mount->name,
                        lua_tostring(L, value - 1));
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
        lua_getfield(L, value, "run");
        make_callable(L, value, lua_gettop(L));
    } else {
        lua_pushvalue(L, value);
    }
    function->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, value);
    add_function(mounting->vm, function);
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
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        uint32_t number =
            mounting->map_number(mounting->context, slice_text(mounting->mount->name), slice_text(names[i]));
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
    if (bundle_load(L, 1, mounting->bundle, mounting->why) != STATUS_OK) {
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
    lua_pushvalue(L, -1);
    ctx_push(L, mount, false);
    mount->ctx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    ctx_push(L, mount, true);
    mount->query_ctx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    mount->init_ref = take_function(L, module, "init");
    mount->apply_ref = take_function(L, module, "apply");
    mount->query_ref = take_function(L, module, "query");
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
    if (find_mount(vm, name) != NULL)
        return STATUS_EXISTS;
    struct vm_mount *mount = mem_zalloc(1, sizeof *mount);
    memcpy(mount->name, name.data, name.size);
    mount->hash = bundle_hash(bundle);
    mount->apply_ref = mount->query_ref = mount->init_ref = LUA_NOREF;
    mount->next = vm->mounts;
    vm->mounts = mount;
    struct mounting mounting = {.vm = vm, .mount = mount, .bundle = bundle, .why = why, .map_number = map_number,
                                .context = context};
    /* The module's own code runs here: under a budget, like anything of a user's. */
    vm->running = true;
    vm->calls_open = 0;
    budget_begin(vm->L, &vm->budget, BUDGET_INSTRUCTIONS, BUDGET_DEPTH);
    int status = lua_cpcall(vm->L, mount_protected, &mounting);
    budget_end(vm->L);
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
    return STATUS_INVALID;
}

void vm_unmount(struct vm *vm, struct slice name)
{
    struct vm_mount **link = &vm->mounts;
    while (*link != NULL && !slice_equal(slice_text((*link)->name), name))
        link = &(*link)->next;
    struct vm_mount *mount = *link;
    CHECK(mount != NULL);
    *link = mount->next;
    struct vm_function **old = vm->functions;
    size_t old_capacity = vm->functions_capacity;
    vm->functions = NULL;
    vm->functions_count = 0;
    vm->functions_capacity = 0;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i] == NULL)
            continue;
        if (old[i]->mount != mount) {
            add_function(vm, old[i]);
            continue;
        }
        luaL_unref(vm->L, LUA_REGISTRYINDEX, old[i]->ref);
        args_free(old[i]->args);
        mem_free(old[i]);
    }
    mem_free(old);
    mem_free(mount);
}

/* --- calling -------------------------------------------------------------------------------------------------------------------- */

void vm_begin(struct vm *vm, const struct vm_entry *entry, const struct vm_limits *limits)
{
    CHECK(!vm->running);
    vm->entry = *entry;
    vm->limits = *limits;
    vm->prng_seeded = false;
    vm->calls_open = 0;
    vm->running = true;
    budget_begin(vm->L, &vm->budget, (int64_t)limits->budget, (uint32_t)limits->depth);
}

void vm_end(struct vm *vm)
{
    CHECK(vm->running);
    map_close_loops(vm, 0, true);
    budget_end(vm->L);
    vm->running = false;
    vm->calls_open = 0;
}

/* Stack: ..., function, arguments. Puts ctx before the arguments, calls, and leaves one result: nil, err raises err. */
void vm_enter(lua_State *L, struct vm_mount *mount, bool querying)
{
    struct vm *vm = vm_of(L);
    struct vm_mount *outer = vm->current;
    bool outer_querying = vm->querying;
    int function = lua_gettop(L);
    while (!lua_isfunction(L, function))
        function--;
    lua_rawgeti(L, LUA_REGISTRYINDEX, querying ? mount->query_ctx_ref : mount->ctx_ref);
    lua_insert(L, function + 1);
    vm->current = mount;
    vm->querying = querying;
    vm->calls_open++;
    lua_call(L, lua_gettop(L) - function, 2);
    vm->calls_open--;
    vm->current = outer;
    vm->querying = outer_querying;
    if (lua_isnil(L, -2) && !lua_isnil(L, -1)) {
        if (lua_isstring(L, -1)) { /* text alone gets the code FAILED */
            lua_createtable(L, 0, 2);
            lua_pushvalue(L, -2);
            lua_setfield(L, -2, "message");
            lua_pushliteral(L, "FAILED");
            lua_setfield(L, -2, "code");
        }
        lua_error(L);
    }
    lua_pop(L, 1);
}

struct calling {
    struct vm *vm;
    const struct vm_function *function; /* NULL: `mount` dispatches itself, or init */
    struct vm_mount *mount;
    int ref;
    bool querying;
    struct slice name; /* after the dot; for a mount that dispatches itself */
    struct slice args;
    struct buffer *result;
    char bad_args[256];
};

static int call_protected(lua_State *L)
{
    struct calling *calling = lua_touserdata(L, 1);
    struct vm *vm = calling->vm;
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, calling->ref);
    if (calling->name.size > 0)
        lua_pushlstring(L, (const char *)calling->name.data, calling->name.size);
    if (args_push(L, calling->function != NULL ? calling->function->args : NULL, calling->args, calling->bad_args) < 0) {
        lua_pushnil(L);
        return lua_error(L);
    }
    vm_enter(L, calling->mount, calling->querying);
    budget_rethrow(L);
    size_t start = calling->result->size;
    const char *why = value_pack(L, -1, calling->result);
    if (why != NULL) {
        calling->result->size = start;
        return luaL_error(L, "the answer is no value: %s", why);
    }
    if (calling->result->size - start > vm->limits.answer_bytes) {
        calling->result->size = start;
        return luaL_error(L, "TOO_LARGE: an answer of more than %d bytes", (int)vm->limits.answer_bytes);
    }
    budget_charge(L, (calling->result->size - start) / 16);
    return 0;
}

static enum vm_outcome refuse(struct vm *vm, struct calling *calling, int status)
{
    lua_State *L = vm->L;
    switch (vm->budget.fault) {
    case BUDGET_SPENT:
        error_pack(calling->result, ERROR_BUDGET, "the budget of instructions is spent");
        return VM_REFUSED;
    case BUDGET_TOO_DEEP:
        error_pack(calling->result, ERROR_DEPTH, "calls are nested too deep");
        return VM_REFUSED;
    case BUDGET_OK:
        break;
    default:
        snprintf(vm->why, sizeof vm->why, "out of memory");
        return VM_PARK;
    }
    if (status == LUA_ERRMEM || status == LUA_ERRERR) {
        snprintf(vm->why, sizeof vm->why, "%s", status == LUA_ERRMEM ? "out of memory" : "error in error handling");
        return VM_PARK;
    }
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (strstr(text, "stack overflow") != NULL || strstr(text, "string length overflow") != NULL ||
        strstr(text, "table overflow") != NULL) {
        snprintf(vm->why, sizeof vm->why, "%.200s", text); /* these depend on history: never a result */
        return VM_PARK;
    }
    if (calling->bad_args[0] != 0)
        error_pack(calling->result, ERROR_BAD_ARGS, calling->bad_args);
    else
        ctx_pack_error(L, calling->result);
    return VM_REFUSED;
}

static enum vm_outcome run(struct vm *vm, struct calling *calling)
{
    CHECK(vm->running);
    tree_mark mark = tree_savepoint(vm->tree);
    size_t start = calling->result->size;
    int status = lua_cpcall(vm->L, call_protected, calling);
    enum vm_outcome outcome = VM_OK;
    if (status != 0) {
        calling->result->size = start;
        vm->calls_open = 0;
        vm->current = NULL;
        vm->querying = false;
        map_close_loops(vm, mark, false);
        tree_rollback(vm->tree, mark);
        outcome = refuse(vm, calling, status);
    }
    lua_settop(vm->L, 0);
    return outcome;
}

enum vm_outcome vm_call(struct vm *vm, struct slice name, struct slice args, bool as_query, struct buffer *result)
{
    struct calling calling = {.vm = vm, .args = args, .result = result};
    if (args.size > vm->limits.args_bytes) {
        error_pack(result, ERROR_TOO_LARGE, "the arguments are larger than the limit");
        return VM_REFUSED;
    }
    const struct vm_function *function = vm_function_find(vm, name);
    if (function != NULL) {
        calling.function = function;
        calling.mount = function->mount;
        calling.ref = function->ref;
        calling.querying = function->kind == VM_QUERY;
        return run(vm, &calling);
    }
    calling.mount = raw_mount(vm, name);
    CHECK(calling.mount != NULL);
    const uint8_t *dot = memchr(name.data, '.', name.size);
    calling.name = slice_make(dot + 1, (size_t)(name.data + name.size - dot - 1));
    calling.querying = as_query;
    calling.ref = as_query ? calling.mount->query_ref : calling.mount->apply_ref;
    if (calling.ref == LUA_NOREF || calling.name.size == 0) {
        error_pack(result, ERROR_UNKNOWN_COMMAND, "this mount has no such function");
        return VM_REFUSED;
    }
    return run(vm, &calling);
}

enum vm_outcome vm_init(struct vm *vm, struct slice name, struct buffer *result)
{
    struct vm_mount *mount = find_mount(vm, name);
    CHECK(mount != NULL);
    if (mount->init_ref == LUA_NOREF) {
        pack_nil(result);
        return VM_OK;
    }
    static const uint8_t no_args[1] = {0x90};
    struct calling calling = {
        .vm = vm, .mount = mount, .ref = mount->init_ref, .args = slice_make(no_args, 1), .result = result};
    return run(vm, &calling);
}

/* --- telling ---------------------------------------------------------------------------------------------------------------------- */

void vm_names(const struct vm *vm, void (*each)(void *context, const char *name, enum vm_kind kind), void *context)
{
    for (size_t i = 0; i < vm->functions_capacity; i++)
        if (vm->functions[i] != NULL)
            each(context, vm->functions[i]->name, vm->functions[i]->kind);
    for (const struct vm_mount *mount = vm->mounts; mount != NULL; mount = mount->next) {
        char name[VM_NAME_MAX];
        if (mount->apply_ref == LUA_NOREF)
            continue;
        snprintf(name, sizeof name, "%s.*", mount->name);
        each(context, name, VM_RAW);
    }
}

void vm_mounts(const struct vm *vm,
               void (*each)(void *context, const char *mount, const char *module, double version, struct hash128 hash),
               void *context)
{
    for (const struct vm_mount *mount = vm->mounts; mount != NULL; mount = mount->next)
        each(context, mount->name, mount->module, mount->version, mount->hash);
}
