/* script/policy.c - see script/policy.h. */
#include "script/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "script/bundle.h"
#include "script/fail.h"
#include "script/map.h"
#include "script/shape.h"
#include "script/value.h"
#include "state/key.h"
#include "wire/pack.h"

enum { MESSAGE_BYTES = 600, TEXT_BYTES = 256, MAPS_MAX = 200 };

struct policy {
    struct vm *vm;
    struct vm_mount *mount; /* for ctx: it is in no list */
    struct buffer head;
    char name[POLICY_NAME_BYTES];
    double version;
    uint64_t every_ms;
    int refs[POLICY_FUNCTIONS];
    int body_ref;
};

static const char *const function_names[POLICY_FUNCTIONS] = {"observe", "review", "admit"};

/* --- opening ---------------------------------------------------------------------------------------------------------- */

struct opening {
    struct policy *policy;
    struct slice bundle;
    struct buffer *why;
    bool refused;
};

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct vm_map *)left)->name, ((const struct vm_map *)right)->name);
}

/* Pushes the table of its maps [-0, +1]. */
static void push_maps(lua_State *L, struct policy *policy, int module)
{
    struct vm_mount *mount = policy->mount;
    mount->maps = mem_zalloc(MAPS_MAX, sizeof *mount->maps);
    lua_newtable(L);
    lua_getfield(L, module, "state");
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) != 0 && mount->maps_count < MAPS_MAX; lua_pop(L, 1)) {
            struct vm_map *map = &mount->maps[mount->maps_count++];
            snprintf(map->name, sizeof map->name, "%s", lua_tostring(L, -2));
        }
        qsort(mount->maps, mount->maps_count, sizeof *mount->maps, by_name);
    }
    lua_pop(L, 1);
    for (size_t i = 0; i < mount->maps_count; i++) {
        struct buffer head = {0};
        buffer_append(&head, policy->head.data, policy->head.size);
        key_append_text(&head, slice_text(mount->maps[i].name));
        CHECK(head.size <= MAP_HEAD_BYTES);
        map_push_headed(L, MAP_TYPE, buffer_slice(&head), mount->maps[i].name);
        buffer_close(&head);
        lua_setfield(L, -2, mount->maps[i].name);
    }
}

static int ask_protected(lua_State *L);

static int open_protected(lua_State *L)
{
    struct opening *opening = lua_touserdata(L, 1);
    struct policy *policy = opening->policy;
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    if (bundle_load(L, 1, opening->bundle, &policy->mount->holds_tables, opening->why) != STATUS_OK) {
        opening->refused = true;
        return 0;
    }
    int module = lua_gettop(L);
    lua_getfield(L, module, "name");
    snprintf(policy->name, sizeof policy->name, "%s", lua_tostring(L, -1));
    lua_getfield(L, module, "version");
    policy->version = lua_isnil(L, -1) ? 1 : lua_tonumber(L, -1);
    lua_getfield(L, module, "every");
    policy->every_ms = (uint64_t)lua_tonumber(L, -1);
    lua_pop(L, 3);
    snprintf(policy->mount->name, sizeof policy->mount->name, "policy %.48s", policy->name);
    push_maps(L, policy, module);
    ctx_make(L, &policy->mount->ctx[0], false);
    for (size_t i = 0; i < POLICY_FUNCTIONS; i++) {
        lua_getfield(L, module, function_names[i]);
        policy->refs[i] = lua_isfunction(L, -1) ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
    }
    lua_pushcfunction(L, ask_protected);
    policy->body_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* Runs the module's own code, under a budget as a service's. */
static enum status load(struct opening *opening)
{
    struct vm *vm = opening->policy->vm;
    vm->running = true;
    vm->calls_open = 0;
    budget_begin(vm->L, &vm->budget, BUDGET_INSTRUCTIONS, BUDGET_DEPTH);
    int status = lua_cpcall(vm->L, open_protected, opening);
    vm->running = false;
    if (status == 0 && !opening->refused)
        return STATUS_OK;
    if (status != 0 && lua_isstring(vm->L, -1)) {
        size_t size = 0;
        const char *text = lua_tolstring(vm->L, -1, &size);
        buffer_append(opening->why, text, size);
    }
    return STATUS_INVALID;
}

enum status policy_open(struct slice bundle, struct tree *tree, struct slice head, struct policy **policy,
                        struct buffer *why)
{
    enum bundle_kind kind = BUNDLE_MACHINE;
    *policy = NULL;
    if (bundle_kind(bundle, &kind) != STATUS_OK || kind != BUNDLE_POLICY) {
        static const char text[] = "not the bundle of a membership policy";
        buffer_append(why, text, sizeof text - 1);
        return STATUS_INVALID;
    }
    struct policy *opened = mem_zalloc(1, sizeof *opened);
    opened->vm = vm_new(tree, POLICY_ROOM_BYTES);
    opened->vm->policy = true;
    opened->mount = mem_zalloc(1, sizeof *opened->mount);
    buffer_append(&opened->head, head.data, head.size);
    struct opening opening = {.policy = opened, .bundle = bundle, .why = why};
    enum status status = load(&opening);
    lua_settop(opened->vm->L, 0);
    if (status == STATUS_OK)
        *policy = opened;
    else
        policy_close(opened);
    return status;
}

void policy_close(struct policy *policy)
{
    if (policy == NULL)
        return;
    vm_free(policy->vm);
    vm_mount_free(policy->mount);
    buffer_close(&policy->head);
    mem_free(policy);
}

const char *policy_name(const struct policy *policy)
{
    return policy->name;
}

double policy_version(const struct policy *policy)
{
    return policy->version;
}

uint64_t policy_every_ms(const struct policy *policy)
{
    return policy->every_ms;
}

bool policy_has(const struct policy *policy, enum policy_function function)
{
    return policy->refs[function] != LUA_NOREF;
}

bool policy_has_map(const struct policy *policy, struct slice name)
{
    for (size_t i = 0; i < policy->mount->maps_count; i++)
        if (slice_equal(slice_text(policy->mount->maps[i].name), name))
            return true;
    return false;
}

/* --- asking ----------------------------------------------------------------------------------------------------------- */

void policy_begin(struct policy *policy, const struct vm_entry *entry, const struct vm_limits *limits)
{
    vm_begin(policy->vm, entry, limits);
}

void policy_end(struct policy *policy)
{
    vm_end(policy->vm);
}

struct asking {
    struct policy *policy;
    enum policy_function function;
    struct slice args;
    struct buffer *result;
};

/* --- what it returns -------------------------------------------------------------------------------------------------- */

/* Nothing but these fields, so that a word that was mistyped is no silent nothing. Of several that are wrong it says the first by name: what
 * it says is part of the state, and the order of lua_next is nobody's. */
static void check_fields(lua_State *L, int table, const char *const *known, const char *what)
{
    const char *wrong = NULL;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        size_t i = 0;
        if (lua_type(L, -2) == LUA_TNUMBER && known[0][0] == 0)
            continue; /* the list's elements */
        while (known[i] != NULL && (lua_type(L, -2) != LUA_TSTRING || strcmp(name, known[i]) != 0))
            i++;
        if (known[i] == NULL && (wrong == NULL || strcmp(name, wrong) < 0))
            wrong = name; /* the table holds it */
    }
    if (wrong != NULL)
        luaL_error(L, "%s has no field '%.64s'", what, wrong);
}

/* Appends a field that is text, or "" [-0, +0]. */
static void pack_text_field(lua_State *L, int table, const char *name, struct buffer *out)
{
    struct slice text = {0};
    lua_getfield(L, table, name);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "%s must be text, got %s", name, luaL_typename(L, -1));
    text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
    if (text.size > TEXT_BYTES)
        luaL_error(L, "%s has more than %d bytes", name, TEXT_BYTES);
    pack_text(out, text);
    lua_pop(L, 1);
}

/* Appends a field that is a whole number, or 0 [-0, +0]. */
static void pack_number_field(lua_State *L, int table, const char *name, struct buffer *out)
{
    lua_getfield(L, table, name);
    double number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (!lua_isnil(L, -1) && !(number >= 1 && number <= 9007199254740992.0 && number == floor(number)))
        luaL_error(L, "%s must be a whole number from 1, got %s", name,
                   lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1) : luaL_typename(L, -1));
    pack_u64(out, (uint64_t)number);
    lua_pop(L, 1);
}

/* Appends an operation as a change (machine/membership.h). */
static void pack_operation(lua_State *L, int table, struct buffer *out)
{
    static const char *const known[] = {"op", "id", "with", "address", "why", NULL};
    if (!lua_istable(L, table))
        luaL_error(
            L, "review returns a list of which an element is a %s: an operation is like { op = 'promote', id = 4 }",
            luaL_typename(L, table));
    check_fields(L, table, known, "an operation");
    pack_array(out, 8);
    pack_text_field(L, table, "op", out);
    pack_number_field(L, table, "id", out);
    pack_number_field(L, table, "with", out);
    pack_text_field(L, table, "address", out);
    pack_u64(out, 0);
    pack_text(out, slice_text(""));
    pack_map(out, 0);
    pack_u64(out, 0);
}

/* Appends [changes, why, wait] of what review gave: nil, an operation, a list of them, or { wait = ms, why = '...' }. */
static void pack_review(lua_State *L, struct buffer *out)
{
    static const char *const of_lists[] = {"", "why", NULL};
    static const char *const of_waits[] = {"wait", "why", NULL};
    pack_array(out, 3);
    lua_settop(L, 1);
    if (lua_isnil(L, 1) || (lua_isboolean(L, 1) && !lua_toboolean(L, 1))) {
        pack_array(out, 0);
        pack_text(out, slice_text(""));
        pack_u64(out, 0);
        return;
    }
    if (!lua_istable(L, 1))
        luaL_error(L,
                   "review returns nil, an operation, a list of operations, or { wait = ms, why = '...' }, got %s",
                   luaL_typename(L, 1));
    int count = (int)lua_objlen(L, 1);
    if (count > POLICY_OPERATIONS_MAX)
        luaL_error(L, "review returns more than %d operations", POLICY_OPERATIONS_MAX);
    lua_getfield(L, 1, "wait");
    bool waits = !lua_isnil(L, -1);
    lua_settop(L, 1);
    if (waits || count > 0) {
        check_fields(L, 1, waits ? of_waits : of_lists,
                     waits ? "{ wait = ms, why = '...' }" : "a list of operations");
        pack_array(out, (uint32_t)count);
        for (int i = 1; i <= count; i++) {
            lua_rawgeti(L, 1, i);
            pack_operation(L, 2, out);
            lua_settop(L, 1);
        }
    } else {
        pack_array(out, 1);
        pack_operation(L, 1, out);
    }
    pack_text_field(L, 1, "why", out);
    pack_number_field(L, 1, "wait", out);
}

/* Appends [whether, why not]. */
static void pack_admit(lua_State *L, struct buffer *out)
{
    struct slice why = {0};
    if (!lua_isnil(L, 1) && !lua_isboolean(L, 1))
        luaL_error(L, "admit returns true, or nil and why not; got %s", luaL_typename(L, 1));
    if (lua_type(L, 2) == LUA_TSTRING)
        why.data = (const uint8_t *)lua_tolstring(L, 2, &why.size);
    if (why.size > TEXT_BYTES)
        why.size = TEXT_BYTES;
    pack_array(out, 2);
    pack_boolean(out, lua_toboolean(L, 1) != 0);
    pack_text(out, why);
}

/* Bytes of all rows of its maps. */
static uint64_t memory_of(struct policy *policy)
{
    struct buffer hi = {0};
    struct slice key;
    struct slice value;
    uint64_t bytes = 0;
    buffer_append(&hi, policy->head.data, policy->head.size);
    key_after_prefix(&hi);
    struct tree_cursor *cursor =
        tree_cursor_open(policy->vm->tree, buffer_slice(&policy->head), buffer_slice(&hi), false);
    while (tree_cursor_next(cursor, &key, &value))
        bytes += key.size + value.size;
    tree_cursor_close(cursor);
    buffer_close(&hi);
    return bytes;
}

static int ask_protected(lua_State *L)
{
    struct asking *asking = lua_touserdata(L, 1);
    struct policy *policy = asking->policy;
    struct vm *vm = policy->vm;
    struct pack_reader reader = pack_reader_make(asking->args);
    uint32_t count = 0;
    const tree_mark mark = tree_savepoint(vm->tree);
    CHECK(pack_read_array(&reader, &count) == STATUS_OK);
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->refs[asking->function]);
    ctx_push(L, policy->mount, false);
    for (uint32_t i = 0; i < count; i++) {
        struct slice value;
        CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &value) == STATUS_OK);
        map_push_value(L, value);
    }
    vm->current = policy->mount;
    vm->entered_ref = policy->refs[asking->function];
    vm->calls_open = 1;
    lua_call(L, (int)count + 1, 2);
    budget_rethrow(L);
    if (asking->function == POLICY_REVIEW)
        pack_review(L, asking->result);
    else if (asking->function == POLICY_ADMIT)
        pack_admit(L, asking->result);
    if (tree_savepoint(vm->tree) != mark && memory_of(policy) > POLICY_MEMORY_BYTES)
        return luaL_error(L, "its maps would hold more than %d bytes", POLICY_MEMORY_BYTES);
    return 0;
}

/* Says what Lua raised: the value at the top. */
static void say_error(lua_State *L, struct buffer *why)
{
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        lua_getfield(L, -2, "message");
        lua_pushfstring(L, "%s: %s", lua_isstring(L, -2) ? lua_tostring(L, -2) : "an error that is a table",
                        lua_isstring(L, -1) ? lua_tostring(L, -1) : "no message");
    }
    struct slice text = slice_text("an error without text");
    if (lua_type(L, -1) == LUA_TSTRING)
        text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
    buffer_append(why, text.data, text.size < MESSAGE_BYTES ? text.size : MESSAGE_BYTES);
}

/* Why it failed, after lua_pcall's `status`. */
static void say_failure(const struct asking *asking, int status, struct buffer *why)
{
    struct vm *vm = asking->policy->vm;
    char text[192];
    int size = snprintf(text, sizeof text, "%s: ", function_names[asking->function]);
    buffer_append(why, text, (size_t)size);
    if (vm->budget.fault == BUDGET_SPENT || vm->budget.fault == BUDGET_TOO_DEEP) {
        size = snprintf(text, sizeof text, "%s %s%s", vm->budget.fault == BUDGET_SPENT ? "BUDGET" : "DEPTH",
                        vm->budget.where, budget_text(&vm->budget));
    } else if (vm->budget.fault != BUDGET_OK || status == LUA_ERRMEM || status == LUA_ERRERR) {
        size = snprintf(text, sizeof text, "it takes more memory than a policy has, %d bytes", POLICY_ROOM_BYTES);
    } else {
        vm->lua_bytes_max = SIZE_MAX; /* what is said of a failure must not fail */
        say_error(vm->L, why);
        return;
    }
    buffer_append(why, text, (size_t)size);
}

enum status policy_ask(struct policy *policy, enum policy_function function, struct slice args,
                       struct buffer *result, struct buffer *why)
{
    struct vm *vm = policy->vm;
    struct asking asking = {.policy = policy, .function = function, .args = args, .result = result};
    const struct vm_mark mark = vm_savepoint(vm);
    const size_t start = result->size;
    CHECK(vm->running && policy_has(policy, function));
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->handler_ref);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, policy->body_ref);
    lua_pushlightuserdata(vm->L, &asking);
    int status = lua_pcall(vm->L, 1, 0, 1);
    map_close_loops(vm, mark.rows, false);
    vm->calls_open = 0;
    vm->current = NULL;
    if (status != 0) {
        result->size = start;
        if (!MUTANT(250))
            vm_rollback(vm, mark);
        say_failure(&asking, status, why);
    }
    lua_settop(vm->L, 0);
    return status == 0 ? STATUS_OK : STATUS_INVALID;
}
