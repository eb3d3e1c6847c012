/* script/ctx.c - ctx: what a command or query may do beside its maps; pcall as a savepoint; error values.
 *
 * ctx is an empty table whose metatable serves its fields: the facts of the entry in progress from C, the rest from a
 * frozen table. Private to script/.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/trace.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { MESSAGE_BYTES = 1024, ID_MAP = 2 /* host rows: mount -> last ctx.id */ };

static struct vm *check_open(lua_State *L)
{
    struct vm *vm = vm_of(L);
    if (!vm->running || vm->calls_open == 0)
        luaL_error(L, "ctx ends with its entry: do not keep it");
    return vm;
}

/* --- functions ------------------------------------------------------------------------------------------------------------ */

static void refuse_colon(lua_State *L)
{
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__ctx")) {
        lua_pop(L, 1);
        luaL_error(L, "call it with a dot: ctx.name(...), not ctx:name(...)");
    }
}

static int ctx_fail(lua_State *L)
{
    refuse_colon(L);
    check_open(L);
    luaL_checktype(L, 1, LUA_TSTRING);
    lua_settop(L, 3);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "code");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "data");
    return lua_error(L);
}

static int ctx_id(lua_State *L)
{
    struct vm *vm = check_open(L);
    if (vm->querying)
        return luaL_error(L, "ctx.id: a query makes no ids");
    struct buffer *key = &vm->key;
    buffer_clear(key);
    const uint8_t head[4] = {0, 0, 0, ID_MAP};
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
    refuse_colon(L);
    struct vm *vm = check_open(L);
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

static int ctx_random(lua_State *L)
{
    refuse_colon(L);
    check_open(L);
    double r = vm_random(L);
    if (lua_gettop(L) == 0) {
        lua_pushnumber(L, r);
        return 1;
    }
    double lo = lua_gettop(L) > 1 ? luaL_checknumber(L, 1) : 1;
    double hi = luaL_checknumber(L, lua_gettop(L) > 1 ? 2 : 1);
    if (lo != floor(lo) || hi != floor(hi) || lo > hi || hi - lo > 9007199254740991.0)
        return luaL_error(L, "ctx.random: wants whole numbers, the lower first");
    lua_pushnumber(L, lo + floor(r * (hi - lo + 1)));
    return 1;
}

static int ctx_map(lua_State *L)
{
    value_push_map(L);
    return 1;
}

/* ctx.call('mount.command', ...): another mount's command, same entry, same undo. */
static int ctx_call(lua_State *L)
{
    refuse_colon(L);
    struct vm *vm = check_open(L);
    struct slice name;
    name.data = (const uint8_t *)luaL_checklstring(L, 1, &name.size);
    struct vm_function *function = vm_function_find(vm, name);
    if (function == NULL)
        return luaL_error(L, "ctx.call: there is no %s", lua_tostring(L, 1));
    if (function->kind == VM_COMMAND && vm->querying)
        return luaL_error(L, "ctx.call: a query does not call commands");
    if (vm->calls_open >= 64)
        return luaL_error(L, "ctx.call: nested too deep");
    /* The arguments go through the declaration, as from any door. */
    struct buffer list = {0};
    int count = lua_gettop(L) - 1;
    pack_array(&list, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        const char *why = value_pack(L, 2 + i, &list);
        if (why != NULL) {
            buffer_close(&list);
            return luaL_error(L, "ctx.call: argument %d: %s", i + 1, why);
        }
    }
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, function->ref);
    char why[256];
    lua_pushlstring(L, (const char *)list.data, list.size);
    buffer_close(&list);
    struct slice packed;
    packed.data = (const uint8_t *)lua_tolstring(L, -1, &packed.size);
    lua_insert(L, 2); /* keeps the bytes alive below the function */
    if (args_push(L, function->args, packed, why) < 0)
        return luaL_error(L, "ctx.call: %s", why);
    vm_enter(L, function->mount, function->kind == VM_QUERY || vm->querying);
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
    tree_mark mark = tree_savepoint(vm->tree);
    uint32_t calls_open = vm->calls_open;
    bool querying = vm->querying;
    struct vm_mount *current = vm->current;
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    if (status == 0) {
        budget_rethrow(L);
        lua_pushboolean(L, 1);
        lua_insert(L, 1);
        return lua_gettop(L);
    }
    vm->calls_open = calls_open;
    vm->querying = querying;
    vm->current = current;
    if (status == LUA_ERRMEM || status == LUA_ERRERR)
        vm->budget.fault = BUDGET_MEMORY;
    budget_rethrow(L);
    map_close_loops(vm, mark, false);
    tree_rollback(vm->tree, mark);
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

/* A table: its code must be one that a service may use, its data a value. */
static void pack_error_table(lua_State *L, struct buffer *out)
{
    int at = lua_gettop(L);
    lua_pushliteral(L, "code");
    lua_rawget(L, at);
    lua_pushliteral(L, "message");
    lua_rawget(L, at);
    lua_pushliteral(L, "data");
    lua_rawget(L, at);
    size_t size = 0;
    const char *code = lua_type(L, at + 1) == LUA_TSTRING ? lua_tolstring(L, at + 1, &size) : NULL;
    bool own = code != NULL && (error_code_of_service(code, size) || strcmp(code, "SCRIPT_ERROR") == 0);
    if (!own) {
        char text[160];
        snprintf(text, sizeof text, "an error must have a code like NOT_FOUND or OUT_OF_STOCK, not %.64s",
                 code != NULL ? code : "none");
        pack_error(out, "SCRIPT_ERROR", slice_text(text));
        lua_settop(L, at - 1);
        return;
    }
    struct buffer data = {0};
    const char *why = lua_isnil(L, at + 3) ? NULL : value_pack(L, at + 3, &data);
    pack_map(out, data.size > 0 && why == NULL ? 3 : 2);
    pack_text(out, slice_text("code"));
    pack_text(out, slice_make(code, size));
    if (data.size > 0 && why == NULL) {
        pack_text(out, slice_text("data"));
        buffer_append(out, data.data, data.size);
    }
    pack_text(out, slice_text("message"));
    pack_message(L, at + 2, out);
    buffer_close(&data);
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
    /* What the host's own functions raise about sizes has a code of its own. */
    const char *mark = NULL;
    if (text.size > 0)
        mark = memmem(text.data, text.size, "TOO_LARGE: ", 11);
    pack_error(out, mark != NULL ? "TOO_LARGE" : "SCRIPT_ERROR", text);
    lua_pop(L, 1);
}

/* --- ctx itself ---------------------------------------------------------------------------------------------------------------- */

static int ctx_index(lua_State *L)
{
    struct vm *vm = check_open(L);
    size_t size = 0;
    const char *name = lua_tolstring(L, 2, &size);
    if (name == NULL)
        return luaL_error(L, "ctx has no such field");
    if (strcmp(name, "index") == 0)
        lua_pushnumber(L, (double)vm->entry.index);
    else if (strcmp(name, "now") == 0)
        lua_pushnumber(L, (double)vm->entry.now_ms);
    else if (strcmp(name, "term") == 0)
        lua_pushnumber(L, (double)vm->entry.term);
    else if (strcmp(name, "session") == 0)
        lua_pushnil(L);
    else
        return luaL_error(
            L, "ctx has no field '%s'; there are index term now session id fail call log random map db", name);
    return 1;
}

static int ctx_new_index(lua_State *L)
{
    return luaL_error(L, "ctx and ctx.db cannot be written to: keep state in maps");
}

static int db_index(lua_State *L)
{
    return luaL_error(L, "there is no map '%s': name it in the module's state", lua_tostring(L, 2));
}

/* Makes the table at the top read-only: an empty one in front of it [-1, +1]. */
static void freeze(lua_State *L, lua_CFunction missing)
{
    lua_pushcfunction(L, missing);
    lua_createtable(L, 0, 1);
    lua_insert(L, -2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2); /* unknown names of the table itself */
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, ctx_new_index);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

void ctx_push(lua_State *L, struct vm_mount *mount, bool query)
{
    static const luaL_Reg functions[] = {{"fail", ctx_fail}, {"log", ctx_log}, {"random", ctx_random},
                                         {"call", ctx_call}, {"map", ctx_map}, {NULL, NULL}};
    (void)mount;
    freeze(L, db_index);
    lua_newtable(L); /* the fixed fields */
    luaL_register(L, NULL, functions);
    if (!query) {
        lua_pushcfunction(L, ctx_id);
        lua_setfield(L, -2, "id");
    }
    lua_insert(L, -2);
    lua_setfield(L, -2, "db");
    lua_createtable(L, 0, 1); /* what changes from entry to entry is asked for */
    lua_pushcfunction(L, ctx_index);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_newtable(L); /* ctx */
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, ctx_new_index);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "__ctx");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}
