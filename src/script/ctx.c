/* script/ctx.c - ctx: what a command or query may do beside its maps; pcall as a savepoint; error values.
 *
 * ctx is an empty table, one for each entry and mount (or one for all, where nothing could keep it), whose metatable serves its fields: the facts of the entry in
 * progress from C, the rest from a fixed table. When the next entry gets its own, the old one is given a metatable that
 * refuses everything. Private to script/.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "script/fail.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { MESSAGE_BYTES = 1024, CALLS_MAX = 64 };

/* --- functions ------------------------------------------------------------------------------------------------------------ */

struct vm *ctx_begin(lua_State *L, const char *name)
{
    struct vm *vm = vm_of(L);
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__ctx")) {
        lua_pop(L, 1);
        luaL_error(L, "ctx.%s: call it with a dot, ctx.%s(...), not with a colon", name, name);
    }
    if (!vm->running || vm->calls_open == 0)
        luaL_error(L, "ctx.%s: there is no entry in progress", name);
    return vm;
}

static int ctx_fail(lua_State *L)
{
    ctx_begin(L, "fail");
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ctx.fail: the code must be text, got %s", luaL_typename(L, 1));
    lua_settop(L, 3);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "code");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "data");
    const char *why = fail_check_table(L, 4);
    if (why != NULL)
        return luaL_error(L, "ctx.fail: %s", why);
    return lua_error(L);
}

static int ctx_id(lua_State *L)
{
    struct vm *vm = ctx_begin(L, "id");
    if (lua_gettop(L) > 0)
        return luaL_error(L, "ctx.id: takes no arguments");
    struct buffer *key = &vm->key;
    buffer_clear(key);
    const uint8_t head[4] = {0, 0, 0, VM_ROWS_IDS};
    buffer_append(key, head, sizeof head);
    key_append_text(key, slice_text(vm->current->name));
    struct slice old;
    uint64_t id = 0;
    if (tree_get(vm->tree, buffer_slice(key), &old)) {
        struct pack_reader reader = pack_reader_make(old);
        CHECK(pack_read_u64(&reader, &id) == STATUS_OK);
    }
    id++;
    buffer_clear(&vm->value);
    pack_u64(&vm->value, id);
    (void)tree_put(vm->tree, buffer_slice(key), buffer_slice(&vm->value));
    budget_charge(L, 10);
    lua_pushnumber(L, (double)id);
    return 1;
}

static int ctx_log(lua_State *L)
{
    struct vm *vm = ctx_begin(L, "log");
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ctx.log: the format must be text, got %s", luaL_typename(L, 1));
    /* string.format of the sandbox: the same text everywhere, although nobody compares it. */
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_insert(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    LOG(LOG_INFO, "service", "%s: %s", vm->current->name, lua_tostring(L, -1));
    return 0;
}

double vm_random(lua_State *L)
{
    struct vm *vm = vm_of(L);
    if (!vm->prng_seeded) {
        prng_seed(&vm->prng, vm->entry.seed);
        vm->prng_seeded = true;
    }
    return (double)(prng_next(&vm->prng) >> 11) / 9007199254740992.0;
}

/* The number at `at`, which must be whole. */
static double whole(lua_State *L, int at, const char *name)
{
    double number = lua_type(L, at) == LUA_TNUMBER ? lua_tonumber(L, at) : 0.5;
    if (number != floor(number) || fabs(number) > 9007199254740992.0)
        luaL_error(L, "ctx.random: %s must be a whole number up to 2^53, got %s", name,
                   lua_type(L, at) == LUA_TNUMBER ? lua_tostring(L, at) : luaL_typename(L, at));
    return number;
}

static int ctx_random(lua_State *L)
{
    ctx_begin(L, "random");
    double r = vm_random(L);
    int count = lua_gettop(L);
    if (count == 0) {
        lua_pushnumber(L, r);
        return 1;
    }
    if (count > 2)
        return luaL_error(L, "ctx.random: takes at most two numbers");
    double lo = count > 1 ? whole(L, 1, "m") : 1;
    double hi = whole(L, count, "n");
    if (lo > hi || hi - lo > 9007199254740991.0)
        return luaL_error(L, "ctx.random: from %s to %s there is nothing to draw from",
                          count > 1 ? lua_tostring(L, 1) : "1", lua_tostring(L, count));
    lua_pushnumber(L, lo + floor(r * (hi - lo + 1)));
    return 1;
}

static int ctx_map(lua_State *L)
{
    ctx_begin(L, "map");
    if (lua_gettop(L) > 0)
        return luaL_error(L, "ctx.map: takes no arguments; it gives an empty map, to be filled");
    value_push_map(L);
    return 1;
}

/* ctx.call('mount.command', ...): another mount's command, same entry, same undo. */
static int ctx_call(lua_State *L)
{
    struct vm *vm = ctx_begin(L, "call");
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ctx.call: the name must be text like 'mount.command', got %s", luaL_typename(L, 1));
    struct slice name;
    name.data = (const uint8_t *)lua_tolstring(L, 1, &name.size);
    struct vm_function *function = vm_function_find(vm, name);
    if (function == NULL)
        return luaL_error(L, "ctx.call: there is no %s", lua_tostring(L, 1));
    if (vm->migrating)
        return luaL_error(L, "ctx.call: migrate changes the maps of its own mount alone: others go on meanwhile");
    if (function->mount->busy) {
        char text[200];
        vm_say_busy(function->mount, text, sizeof text);
        return fail(L, "BUSY", "ctx.call: %s: %s", lua_tostring(L, 1), text);
    }
    if (function->kind == VM_COMMAND && vm->querying)
        return luaL_error(L, "ctx.call: %s is a command, and a query does not call commands", lua_tostring(L, 1));
    if (function->demands_session && vm->entry.session.data == NULL)
        return fail(L, "NO_SESSION", "ctx.call: %s takes a session", lua_tostring(L, 1));
    if (vm->calls_open >= CALLS_MAX)
        budget_too_deep(L);
    /* The arguments go through the declaration, as from any door. */
    struct buffer list = {0};
    int count = lua_gettop(L) - 1;
    pack_array(&list, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        const char *why = value_pack(L, 2 + i, &list);
        if (why != NULL) {
            buffer_close(&list);
            return luaL_error(L, "ctx.call: %s: argument %d: %s", lua_tostring(L, 1), i + 1, why);
        }
    }
    lua_settop(L, 1);
    char why[256];
    lua_pushlstring(L, (const char *)list.data, list.size); /* keeps the bytes alive below the function */
    buffer_close(&list);
    struct slice packed;
    packed.data = (const uint8_t *)lua_tolstring(L, 2, &packed.size);
    lua_rawgeti(L, LUA_REGISTRYINDEX, function->ref);
    if (args_push(L, function->args, packed, why) < 0)
        return fail(L, "BAD_ARGS", "ctx.call: %s: %s", lua_tostring(L, 1), why);
    vm_enter(L, 3, function->ref, function->mount, function->kind == VM_QUERY || vm->querying);
    return 1;
}

/* --- pcall: a savepoint ---------------------------------------------------------------------------------------------------- */

/* Makes the error value at the top {code, message, data} as a table [-1, +1]. */
static void error_table(lua_State *L)
{
    if (lua_istable(L, -1))
        return;
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "SCRIPT_ERROR");
    lua_setfield(L, -2, "code");
    if (lua_isstring(L, -2))
        lua_pushvalue(L, -2);
    else
        lua_pushfstring(L, "error with a %s", lua_typename(L, lua_type(L, -2)));
    lua_setfield(L, -2, "message");
    lua_remove(L, -2);
}

int ctx_pcall(lua_State *L)
{
    struct vm *vm = vm_of(L);
    luaL_checkany(L, 1);
    budget_check_depth(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->pcall_handler_ref);
    lua_insert(L, 1);
    struct vm_mark mark = vm_savepoint(vm);
    uint32_t calls_open = vm->calls_open;
    bool querying = vm->querying;
    struct vm_mount *current = vm->current;
    int entered_ref = vm->entered_ref;
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
    if (status == 0) {
        budget_rethrow(L);
        lua_pushboolean(L, 1);
        lua_replace(L, 1);
        return lua_gettop(L);
    }
    vm->calls_open = calls_open;
    vm->querying = querying;
    vm->current = current;
    vm->entered_ref = entered_ref;
    if (status == LUA_ERRMEM || status == LUA_ERRERR)
        vm->budget.fault = BUDGET_MEMORY;
    budget_rethrow(L);
    map_close_loops(vm, mark.rows, false);
    if (!MUTANT(95))
        vm_rollback(vm, mark);
    error_table(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* --- error values ------------------------------------------------------------------------------------------------------------ */

static void pack_message(lua_State *L, int at, struct buffer *out)
{
    struct slice text = {0};
    if (lua_type(L, at) == LUA_TSTRING || lua_type(L, at) == LUA_TNUMBER)
        text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
    if (text.size > MESSAGE_BYTES)
        text.size = MESSAGE_BYTES;
    pack_text(out, text);
}

static void pack_error(struct buffer *out, const char *code, struct slice message)
{
    if (message.size > MESSAGE_BYTES)
        message.size = MESSAGE_BYTES;
    pack_map(out, 2);
    pack_text(out, slice_text("code"));
    pack_text(out, slice_text(code));
    pack_text(out, slice_text("message"));
    pack_text(out, message);
}

static void pack_error_table(lua_State *L, struct buffer *out)
{
    int at = lua_gettop(L);
    const char *why = fail_check_table(L, at); /* the message handler made good ones of the others */
    if (why != NULL) {
        pack_error(out, "SCRIPT_ERROR", slice_text(why));
        lua_settop(L, at - 1);
        return;
    }
    lua_pushliteral(L, "code");
    lua_rawget(L, at);
    lua_pushliteral(L, "message");
    lua_rawget(L, at);
    lua_pushliteral(L, "data");
    lua_rawget(L, at);
    bool data = !lua_isnil(L, at + 3);
    pack_map(out, data ? 3 : 2);
    pack_text(out, slice_text("code"));
    pack_text(out, slice_text(lua_tostring(L, at + 1)));
    if (data) {
        pack_text(out, slice_text("data"));
        CHECK(value_pack(L, at + 3, out) == NULL);
    }
    pack_text(out, slice_text("message"));
    pack_message(L, at + 2, out);
    lua_settop(L, at - 1);
}

void ctx_pack_error(lua_State *L, struct buffer *out)
{
    if (lua_istable(L, -1)) {
        pack_error_table(L, out);
        return;
    }
    struct slice text = slice_text("an error without text");
    if (lua_type(L, -1) == LUA_TSTRING)
        text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
    pack_error(out, "SCRIPT_ERROR", text);
    lua_pop(L, 1);
}

/* --- ctx itself ---------------------------------------------------------------------------------------------------------------- */

static void push_session(lua_State *L, const struct vm *vm)
{
    if (vm->entry.session.data != NULL)
        lua_pushlstring(L, (const char *)vm->entry.session.data, vm->entry.session.size);
    else
        lua_pushnil(L);
}

static int ctx_index(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    if (strcmp(name, "now") == 0)
        lua_pushnumber(L, (double)vm_now_ms(L));
    else if (vm->entry.client > 0 && strcmp(name, "client") == 0)
        lua_pushnumber(L, vm->entry.client);
    else if (vm->entry.client > 0)
        return luaL_error(L, "the ctx of a workload has no field '%s'; there are random now client", name);
    else if (strcmp(name, "index") == 0)
        lua_pushnumber(L, (double)vm->entry.index);
    else if (vm->policy)
        return luaL_error(L, "the ctx of a policy has no field '%s'; there are db index log now random", name);
    else if (strcmp(name, "term") == 0)
        lua_pushnumber(L, (double)vm->entry.term);
    else if (strcmp(name, "session") == 0)
        push_session(L, vm);
    else if (strcmp(name, "id") == 0)
        return luaL_error(L, "ctx.id: a query makes no ids");
    else if (strcmp(name, "at") == 0 || strcmp(name, "after") == 0 || strcmp(name, "cancel") == 0 ||
             strcmp(name, "emit") == 0)
        return luaL_error(L, "ctx.%s: a query changes nothing; make it a command", name);
    else
        return luaL_error(
            L,
            "ctx has no field '%s'; there are index term now session id at after cancel emit fail call "
            "log random map db",
            name);
    return 1;
}

static int ctx_new_index(lua_State *L)
{
    return luaL_error(L, "ctx and ctx.db cannot be written to: keep state in maps");
}

static int stale_index(lua_State *L)
{
    return luaL_error(
        L, "this ctx belongs to an entry that has ended: use the one that your function is given, and keep none");
}

static int db_index(lua_State *L)
{
    return luaL_error(L, "there is no map '%s': name it in the module's state",
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2));
}

/* Pushes a metatable that serves from what is at the top, and refuses writing [-1, +1]. */
static void push_guard(lua_State *L)
{
    lua_createtable(L, 0, 4);
    lua_insert(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, ctx_new_index);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

/* What the table at the top does not have is asked of `missing` [-0, +0]. */
static void set_missing(lua_State *L, lua_CFunction missing)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, missing);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

void ctx_setup(lua_State *L)
{
    lua_pushcfunction(L, stale_index);
    push_guard(L);
    vm_of(L)->stale_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void ctx_make(lua_State *L, struct vm_ctx *ctx, bool query)
{
    static const luaL_Reg functions[] = {{"fail", ctx_fail}, {"log", ctx_log}, {"random", ctx_random},
                                         {"call", ctx_call}, {"map", ctx_map}, {NULL, NULL}};
    static const luaL_Reg of_policies[] = {{"log", ctx_log}, {"random", ctx_random}, {NULL, NULL}};
    static const luaL_Reg writers[] = {{"id", ctx_id},         {"at", ctx_at},     {"after", ctx_after},
                                       {"cancel", ctx_cancel}, {"emit", ctx_emit}, {NULL, NULL}};
    lua_newtable(L); /* db: an empty table in front of the maps */
    lua_pushvalue(L, -2);
    set_missing(L, db_index);
    push_guard(L);
    lua_setmetatable(L, -2);
    lua_newtable(L); /* the fixed fields; what changes from entry to entry is asked for */
    const bool policy = vm_of(L)->policy;
    luaL_register(L, NULL, policy ? of_policies : functions);
    if (!query && !policy)
        luaL_register(L, NULL, writers);
    lua_insert(L, -2);
    lua_setfield(L, -2, "db");
    set_missing(L, ctx_index);
    push_guard(L);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "__ctx");
    ctx->meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    ctx->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The ctx at the top gets to know that its entry has ended [-1, +0]. */
static void make_stale(lua_State *L, const struct vm *vm)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->stale_ref);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

void ctx_push(lua_State *L, struct vm_mount *mount, bool query)
{
    const struct vm *vm = vm_of(L);
    struct vm_ctx *ctx = &mount->ctx[query];
    struct vm_ctx *other = &mount->ctx[!query];
    lua_rawgeti(L, LUA_REGISTRYINDEX, ctx->ref);
    if (ctx->serial == vm->serial || (ctx->serial != 0 && !mount->holds_tables))
        return;
    if (ctx->serial != 0)
        make_stale(L, vm);
    else
        lua_pop(L, 1);
    if (other->serial != 0 && other->serial != vm->serial) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, other->ref);
        make_stale(L, vm);
        other->serial = 0;
    }
    ctx->serial = vm->serial;
    lua_createtable(L, 0, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, ctx->meta_ref);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, ctx->ref);
}
