/* script/vm.c - the host: a bounded Lua state, mounts, calls. See script/vm.h. */
#include "script/vm.h"

#include <stdio.h>
#include <string.h>

#include <luajit.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "script/due.h"
#include "script/fail.h"
#include "script/sandbox.h"
#include "script/upgrade.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { KEPT_STRINGS = 1024 };

/* The allocator's bound: beyond it Lua raises, and the node parks. */
static void *allocate(void *context, void *old, size_t old_size, size_t size)
{
    struct vm *vm = context;
    if (size > old_size && vm->lua_bytes + (size - old_size) > vm->lua_bytes_max)
        return NULL;
    vm->lua_bytes += size - old_size;
    if (old_size > POOL_SMALL_MAX && size > POOL_SMALL_MAX)
        return mem_realloc(old, size); /* neither is the pool's */
    void *pointer = size > 0 ? pool_alloc(&vm->pool, size) : NULL;
    if (old_size > 0) {
        if (size > 0)
            memcpy(pointer, old, size < old_size ? size : old_size);
        pool_free(&vm->pool, old, old_size);
    }
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
    struct vm *vm = vm_of(L);
    vm->read_clock = true;
    return vm->entry.now_ms;
}

bool vm_read_clock(const struct vm *vm)
{
    return vm->read_clock || vm->rows.timed || (vm->rows.counted && due_count(vm->tree, DUE_ROW) > 0);
}

uint64_t vm_spent(const struct vm *vm)
{
    return vm->spent;
}

bool vm_ran_out(const struct vm *vm)
{
    return vm->budget.fault == BUDGET_SPENT;
}

void vm_look_at(struct vm *vm, const struct view *view)
{
    CHECK(!vm->running);
    vm->rows.view = view;
}

size_t vm_bound_memory(struct vm *vm, size_t bytes_max)
{
    size_t before = vm->lua_bytes_max;
    vm->lua_bytes_max = bytes_max;
    return before;
}

size_t vm_lua_bytes(const struct vm *vm)
{
    return vm->lua_bytes;
}

const char *vm_why(const struct vm *vm)
{
    return vm->why;
}

/* With few living strings, each collection would halve LuaJIT's string table and the next commands would double it again:
 * an eighth of what a small command costs. These keep it at its size. */
static void keep_strings(lua_State *L)
{
    lua_createtable(L, KEPT_STRINGS, 0);
    for (int i = 1; i <= KEPT_STRINGS; i++) {
        lua_pushfstring(L, "kept %d", i);
        lua_rawseti(L, -2, i);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.kept");
}

static int call_protected(lua_State *L);

/* Opens what needs protection from Lua's own errors. */
static int setup(lua_State *L)
{
    struct vm *vm = vm_of(L);
    value_setup(L);
    fail_setup(L);
    map_setup(L);
    ctx_setup(L);
    sandbox_open(L);
    lua_pushcfunction(L, ctx_pcall);
    fail_name_function(L, "pcall");
    sandbox_add(L, -2, "pcall");
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    keep_strings(L);
    lua_pushcfunction(L, call_protected);
    vm->call_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, fail_handle_last);
    vm->handler_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, fail_handle);
    vm->pcall_handler_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct vm *vm_new(struct tree *tree, size_t lua_bytes_max)
{
    struct vm *vm = mem_zalloc(1, sizeof *vm);
    vm->tree = tree;
    vm->rows.tree = tree;
    vm->lua_bytes_max = lua_bytes_max;
    vm->idle_budget.left = INT64_MAX;
    vm->idle_budget.depth_max = INT32_MAX;
    vm->L = lua_newstate(allocate, vm);
    CHECK(vm->L != NULL);
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (lua_cpcall(vm->L, setup, NULL) != 0 && lua_isstring(vm->L, -1))
        LOG(LOG_ERROR, "script", "%s", lua_tostring(vm->L, -1));
    lua_getfield(vm->L, LUA_REGISTRYINDEX, "tidelock.env");
    CHECK(!lua_isnil(vm->L, -1));
    lua_settop(vm->L, 0);
    lua_gc(vm->L, LUA_GCSETPAUSE, 200);
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
        vm_mount_free(vm->mounts);
        vm->mounts = next;
    }
    mem_free(vm->functions);
    buffer_close(&vm->events);
    desk_free(vm);
    buffer_close(&vm->key);
    buffer_close(&vm->value);
    pool_close(&vm->pool);
    mem_free(vm);
}

/* --- calling -------------------------------------------------------------------------------------------------------------------- */

void vm_begin(struct vm *vm, const struct vm_entry *entry, const struct vm_limits *limits)
{
    CHECK(!vm->running);
    vm->entry = *entry;
    vm->rows.now_ms = entry->now_ms;
    vm->limits = *limits;
    vm->events_before = vm_savepoint(vm);
    vm->prng_seeded = false;
    vm->read_clock = vm->rows.timed = vm->rows.counted = false;
    vm->calls_open = 0;
    vm->running = true;
    vm->serial++;
    budget_begin(vm->L, &vm->budget, (int64_t)limits->budget, (uint32_t)limits->depth);
}

void vm_end(struct vm *vm)
{
    CHECK(vm->running);
    map_close_loops(vm, 0, true);
    vm->running = false;
    vm->calls_open = 0;
    vm->spent += vm->limits.budget - (uint64_t)vm->budget.left;
}

/* What a function gave after nil: text alone gets the code FAILED. */
static void raise_refusal(lua_State *L)
{
    if (lua_isstring(L, -1)) {
        lua_createtable(L, 0, 2);
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "message");
        lua_pushliteral(L, "FAILED");
        lua_setfield(L, -2, "code");
    }
    lua_error(L);
}

/* Puts ctx before the arguments, calls, and leaves one result: nil, err raises err. */
void vm_enter(lua_State *L, int function, int ref, struct vm_mount *mount, bool querying)
{
    struct vm *vm = vm_of(L);
    struct vm_mount *outer = vm->current;
    bool outer_querying = vm->querying;
    int outer_ref = vm->entered_ref;
    ctx_push(L, mount, querying);
    lua_insert(L, function + 1);
    vm->current = mount;
    vm->querying = querying;
    vm->entered_ref = ref;
    vm->calls_open++;
    lua_call(L, lua_gettop(L) - function, 2);
    if (lua_isnil(L, -2) && !lua_isnil(L, -1))
        raise_refusal(L);
    vm->calls_open--;
    vm->current = outer;
    vm->querying = outer_querying;
    vm->entered_ref = outer_ref;
    lua_pop(L, 1);
}

struct calling {
    struct vm *vm;
    const struct vm_function *function; /* NULL: `mount` dispatches itself, or init */
    struct vm_mount *mount;
    int ref;
    bool querying;
    struct slice name;    /* after the dot; for a mount that dispatches itself */
    struct slice row_key; /* of a row that expired: behind the arguments comes its value, */
    struct slice row_value;
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
    if (args_push(L, calling->function != NULL ? calling->function->args : NULL, calling->args, calling->bad_args) <
        0) {
        lua_pushnil(L);
        return lua_error(L);
    }
    if (calling->row_key.size > 0) {
        vm->current = calling->mount;
        upgrade_push_value(L, calling->row_key, calling->row_value);
        vm->current = NULL;
    }
    desk_take_arguments(L, 2);
    vm_enter(L, 1, calling->ref, calling->mount, calling->querying);
    budget_rethrow(L);
    size_t start = calling->result->size;
    const char *why = value_pack(L, -1, calling->result);
    vm->calls_open = 1; /* the place of what is raised here: where the function begins */
    vm->entered_ref = calling->ref;
    if (why != NULL)
        return luaL_error(L, "the answer: %s", why);
    if (calling->result->size - start > vm->limits.answer_bytes)
        return fail(L, "TOO_LARGE", "an answer of more than %d bytes", (int)vm->limits.answer_bytes);
    vm->calls_open = 0;
    budget_charge(L, (calling->result->size - start) / 16);
    return 0;
}

static enum vm_outcome refuse(struct vm *vm, struct calling *calling, int status)
{
    lua_State *L = vm->L;
    char text[192];
    snprintf(text, sizeof text, "%s%s", vm->budget.where, budget_text(&vm->budget));
    switch (vm->budget.fault) {
    case BUDGET_SPENT:
        error_pack(calling->result, ERROR_BUDGET, text);
        return VM_REFUSED;
    case BUDGET_TOO_DEEP:
        error_pack(calling->result, ERROR_DEPTH, text);
        return VM_REFUSED;
    case BUDGET_OK:
        break;
    default:
        if (vm->why[0] == 0)
            snprintf(vm->why, sizeof vm->why, "out of memory");
        return VM_PARK;
    }
    if (status == LUA_ERRMEM || status == LUA_ERRERR) {
        snprintf(vm->why, sizeof vm->why, "%s", status == LUA_ERRMEM ? "out of memory" : "error in error handling");
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
    struct vm_mark mark = vm_savepoint(vm);
    size_t start = calling->result->size;
    vm->why[0] = 0;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->handler_ref);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->call_ref); /* lua_cpcall would make a closure each time */
    lua_pushlightuserdata(vm->L, calling);
    desk_begin(vm, calling->querying);
    int status = lua_pcall(vm->L, 1, 0, 1);
    desk_end(vm);
    enum vm_outcome outcome = VM_OK;
    if (status != 0) {
        calling->result->size = start;
        vm->calls_open = 0;
        vm->current = NULL;
        vm->querying = false;
        map_close_loops(vm, mark.rows, false);
        if (!MUTANT(94))
            vm_rollback(vm, mark);
        outcome = refuse(vm, calling, status);
    }
    lua_settop(vm->L, 0);
    if (outcome == VM_PARK)
        lua_gc(vm->L, LUA_GCCOLLECT, 0); /* what filled the memory is garbage now */
    return outcome;
}

bool vm_demands_session(struct vm *vm, struct slice name)
{
    const struct vm_function *function = vm_function_find(vm, name);
    return function != NULL && function->demands_session;
}

/* A mount whose migration goes on answers nobody. */
static bool refuse_busy(const struct vm_mount *mount, struct buffer *result)
{
    char text[200];
    if (!mount->busy || MUTANT(147))
        return false;
    vm_say_busy(mount, text, sizeof text);
    error_pack(result, ERROR_BUSY, text);
    return true;
}

enum vm_outcome vm_call(struct vm *vm, struct slice name, struct slice args, bool as_query, struct buffer *result)
{
    struct calling calling = {.vm = vm, .args = args, .result = result};
    if (args.size > vm->limits.args_bytes) {
        error_pack(result, ERROR_TOO_LARGE, "the arguments are larger than the limit");
        return VM_REFUSED;
    }
    const struct vm_function *function = vm_function_find(vm, name);
    if (function != NULL && refuse_busy(function->mount, result))
        return VM_REFUSED;
    if (function != NULL && function->demands_session && vm->entry.session.data == NULL) {
        error_pack(result, ERROR_NO_SESSION, "this command takes a session: open one, and send it with a seq");
        return VM_REFUSED;
    }
    if (function != NULL) {
        calling.function = function;
        calling.mount = function->mount;
        calling.ref = function->ref;
        calling.querying = function->kind == VM_QUERY;
        return run(vm, &calling);
    }
    calling.mount = vm_mount_raw(vm, name);
    CHECK(calling.mount != NULL);
    if (refuse_busy(calling.mount, result))
        return VM_REFUSED;
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

/* Calls a function of the module itself, or of its timers; LUA_NOREF: nothing to do. */
enum vm_outcome vm_run_hook(struct vm *vm, struct vm_mount *mount, int ref, struct slice args,
                            struct buffer *result)
{
    if (ref == LUA_NOREF) {
        pack_nil(result);
        return VM_OK;
    }
    struct calling calling = {.vm = vm, .mount = mount, .ref = ref, .args = args, .result = result};
    return run(vm, &calling);
}

enum vm_outcome vm_run(struct vm *vm, struct vm_mount *mount, int ref, struct buffer *result)
{
    static const uint8_t no_args[1] = {0x90};
    struct calling calling = {
        .vm = vm, .mount = mount, .ref = ref, .querying = true, .args = slice_make(no_args, 1), .result = result};
    return run(vm, &calling);
}

enum vm_outcome vm_init(struct vm *vm, struct slice name, struct buffer *result)
{
    static const uint8_t no_args[1] = {0x90};
    struct vm_mount *mount = vm_mount_find(vm, name);
    CHECK(mount != NULL);
    return vm_run_hook(vm, mount, mount->init_ref, slice_make(no_args, 1), result);
}

enum vm_outcome vm_fire(struct vm *vm, struct slice mount_name, struct slice name, struct slice args,
                        struct buffer *result)
{
    struct vm_mount *mount = vm_mount_find(vm, mount_name);
    const struct vm_timer *timer = mount != NULL ? vm_timer_find(mount, name) : NULL;
    if (timer == NULL) {
        error_pack(result, ERROR_SCRIPT_ERROR, "the module has no such timer any more");
        return VM_REFUSED;
    }
    return vm_run_hook(vm, mount, timer->ref, args, result);
}

/* The map of this number. */
static const struct vm_map *find_map(const struct vm_mount *mount, uint32_t number)
{
    for (size_t i = 0; i < mount->maps_count; i++)
        if (mount->maps[i].number == number)
            return &mount->maps[i];
    return NULL;
}

enum vm_outcome vm_expire(struct vm *vm, struct slice key, struct slice value, struct buffer *result)
{
    uint32_t number =
        (uint32_t)key.data[0] << 24 | (uint32_t)key.data[1] << 16 | (uint32_t)key.data[2] << 8 | key.data[3];
    struct vm_mount *mount = vm->mounts;
    while (mount != NULL && find_map(mount, number) == NULL)
        mount = mount->next;
    if (mount == NULL)
        return VM_OK; /* the map is of no module any more */
    if (mount->on_expire_ref == LUA_NOREF) {
        pack_nil(result);
        return VM_OK;
    }
    struct buffer args = {0};
    pack_array(&args, 2);
    pack_text(&args, slice_text(find_map(mount, number)->name));
    map_pack_key(key, &args);
    struct calling calling = {.vm = vm,
                              .mount = mount,
                              .ref = mount->on_expire_ref,
                              .args = buffer_slice(&args),
                              .row_key = key,
                              .row_value = value,
                              .result = result};
    enum vm_outcome outcome = run(vm, &calling);
    buffer_close(&args);
    return outcome;
}

enum vm_outcome vm_session_end(struct vm *vm, struct slice name, struct slice session, struct buffer *result)
{
    struct vm_mount *mount = vm_mount_find(vm, name);
    struct buffer args = {0};
    CHECK(mount != NULL);
    pack_array(&args, 1);
    pack_text(&args, session);
    enum vm_outcome outcome = vm_run_hook(vm, mount, mount->on_session_end_ref, buffer_slice(&args), result);
    buffer_close(&args);
    return outcome;
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
               void (*each)(void *context, const char *mount, const char *module, double version,
                            struct hash128 hash),
               void *context)
{
    for (const struct vm_mount *mount = vm->mounts; mount != NULL; mount = mount->next)
        each(context, mount->name, mount->module, mount->version, mount->hash);
}
