/* script/format.c - see script/format.h: opening a format, and the rules under which its functions run. */
#include "script/format.h"

#include <stdio.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/bundle.h"
#include "script/fail.h"
#include "script/format_private.h"
#include "script/show.h"

enum { MESSAGE_BYTES = 1024 /* of an error of the module */ };

struct format *format_of(lua_State *L)
{
    return vm_of(L)->format;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

struct opening {
    struct format *format;
    struct slice bundle;
    struct buffer *why;
    bool look; /* only what it means to be: */
    enum bundle_kind kind;
    bool refused;
};

static void take_function(lua_State *L, int module, const char *name, lua_CFunction body,
                          struct format_function *function)
{
    lua_getfield(L, module, name);
    function->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, body);
    function->body_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static int open_protected(lua_State *L)
{
    struct opening *opening = lua_touserdata(L, 1);
    struct format *format = opening->format;
    bool holds_tables = false;
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    if (opening->look) {
        opening->refused = bundle_look(L, 1, opening->bundle, &opening->kind) != STATUS_OK;
        return 0;
    }
    if (bundle_load(L, 1, opening->bundle, &holds_tables, opening->why) != STATUS_OK) {
        opening->refused = true;
        return 0;
    }
    int module = lua_gettop(L);
    lua_getfield(L, module, "name");
    snprintf(format->name, sizeof format->name, "%s", lua_tostring(L, -1));
    lua_getfield(L, module, "version");
    format->version = lua_tonumber(L, -1);
    take_function(L, module, "write", format_call_write, &format->write);
    take_function(L, module, "read", format_call_read, &format->read);
    format_read_setup(L);
    return 0;
}

static struct format *make(size_t lua_bytes_max)
{
    struct format *format = mem_zalloc(1, sizeof *format);
    format->tree = tree_new();
    format->vm = vm_new(format->tree, lua_bytes_max);
    format->vm->format = format;
    format->vm->rows.all = true;
    return format;
}

/* Loads the bundle under a budget, as a machine's is. */
static enum status load(struct opening *opening)
{
    struct vm *vm = opening->format->vm;
    vm->running = true;
    vm->calls_open = 0;
    budget_begin(vm->L, &vm->budget, BUDGET_INSTRUCTIONS, BUDGET_DEPTH);
    int status = lua_cpcall(vm->L, open_protected, opening);
    vm->running = false;
    if (status != 0 && lua_isstring(vm->L, -1) && opening->why != NULL) {
        size_t size = 0;
        const char *text = lua_tolstring(vm->L, -1, &size);
        buffer_append(opening->why, text, size);
    }
    lua_settop(vm->L, 0);
    return status == 0 && !opening->refused ? STATUS_OK : STATUS_INVALID;
}

enum status format_open(struct slice bundle, size_t lua_bytes_max, struct format **format, struct buffer *why)
{
    enum bundle_kind kind = BUNDLE_FORMAT;
    *format = NULL;
    if (bundle_kind(bundle, &kind) != STATUS_OK || kind != BUNDLE_FORMAT) {
        static const char text[] = "not the bundle of a snapshot format";
        buffer_append(why, text, sizeof text - 1);
        return STATUS_INVALID;
    }
    struct opening opening = {.format = make(lua_bytes_max), .bundle = bundle, .why = why};
    enum status status = load(&opening);
    if (status == STATUS_OK)
        *format = opening.format;
    else
        format_close(opening.format);
    return status;
}

enum bundle_kind format_look(struct slice bundle)
{
    struct opening opening = {.format = make((size_t)256 * 1024 * 1024), .bundle = bundle, .look = true};
    enum bundle_kind kind = load(&opening) == STATUS_OK ? opening.kind : BUNDLE_MACHINE;
    format_close(opening.format);
    return kind;
}

void format_close(struct format *format)
{
    if (format == NULL)
        return;
    vm_free(format->vm);
    tree_free(format->tree);
    buffer_close(&format->reason);
    buffer_close(&format->last);
    buffer_close(&format->input);
    mem_free(format);
}

const char *format_name(const struct format *format)
{
    return format->name;
}

double format_version(const struct format *format)
{
    return format->version;
}

/* --- running ---------------------------------------------------------------------------------------------------------- */

void format_step(struct format *format)
{
    format->vm->budget.left = (int64_t)format->vm->limits.budget;
}

void format_end(lua_State *L, struct format *format, enum status status)
{
    format->ended = status;
    budget_stop(L);
}

void format_note_row(struct format *format, struct slice key)
{
    format->rows++;
    buffer_clear(&format->last);
    buffer_append(&format->last, key.data, key.size);
}

void format_check_result(lua_State *L, const char *function, bool demand)
{
    if (lua_isnil(L, -2) && !lua_isnil(L, -1)) {
        lua_pushfstring(L, "%s says: %s", function,
                        lua_isstring(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1));
        lua_error(L);
    }
    bool nothing = lua_isnil(L, -2) && !demand;
    if (!nothing && !(lua_isboolean(L, -2) && lua_toboolean(L, -2)))
        luaL_error(L, "%s gave back %s: it returns true, or nil and why not", function,
                   lua_isboolean(L, -2) ? "false" : luaL_typename(L, -2));
}

static int missing_field(lua_State *L)
{
    return luaL_error(L, "%s has no '%s'; there are %s", lua_tostring(L, lua_upvalueindex(1)),
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2),
                      lua_tostring(L, lua_upvalueindex(2)));
}

static int no_new_field(lua_State *L)
{
    return luaL_error(L, "%s cannot be written to; rows go to the state by map:put(key, value) in read",
                      lua_tostring(L, lua_upvalueindex(1)));
}

void format_guard(lua_State *L, const char *what, const char *there)
{
    lua_createtable(L, 0, 1); /* of the table: what it has not got */
    lua_pushstring(L, what);
    lua_pushstring(L, there);
    lua_pushcclosure(L, missing_field, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_createtable(L, 0, 3); /* of the empty one */
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, what);
    lua_pushcclosure(L, no_new_field, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
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

/* Says which row it was at. */
static void say_row(const struct format *format, struct buffer *why)
{
    const struct format_maps *maps = format->writing != NULL ? format->writing->maps : format->reading->maps;
    const char *verb = format->writing != NULL ? "taken" : "put";
    char text[256];
    int size = snprintf(text, sizeof text, " (no row %s yet)", verb);
    if (format->last.size > MAP_NUMBER_BYTES) {
        const uint8_t *at = format->last.data;
        uint32_t number = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        size = snprintf(text, sizeof text, " (row %llu %s: ", (unsigned long long)format->rows, verb);
        for (size_t i = 0; i < maps->count; i++)
            if (maps->list[i].number == number)
                size = snprintf(text, sizeof text, " (row %llu %s: %s.%s ", (unsigned long long)format->rows, verb,
                                maps->list[i].mount, maps->list[i].name);
    }
    buffer_append(why, text, (size_t)size);
    if (format->last.size <= MAP_NUMBER_BYTES)
        return;
    show_key(why, slice_make(format->last.data + MAP_NUMBER_BYTES, format->last.size - MAP_NUMBER_BYTES));
    buffer_append_byte(why, ')');
}

/* Why a run failed, after lua_pcall's `status`. */
static void say_failure(struct format *format, int status, size_t lua_bytes_max, struct buffer *why)
{
    struct vm *vm = format->vm;
    char text[192];
    const char *code = vm->budget.fault == BUDGET_SPENT ? "BUDGET" : "DEPTH";
    int size = snprintf(text, sizeof text, "%s %s%s", code, vm->budget.where, budget_text(&vm->budget));
    if (vm->budget.fault == BUDGET_SPENT || vm->budget.fault == BUDGET_TOO_DEEP) {
        buffer_append(why, text, (size_t)size);
    } else if (vm->budget.fault != BUDGET_OK || status == LUA_ERRMEM || status == LUA_ERRERR) {
        size = snprintf(text, sizeof text, "out of memory: the format wants more than %zu bytes of Lua",
                        lua_bytes_max);
        buffer_append(why, text, (size_t)size);
    } else {
        say_error(vm->L, why);
    }
    say_row(format, why);
}

enum status format_run(struct format *format, const struct format_function *function, const struct vm_entry *entry,
                       const struct vm_limits *limits, struct buffer *why)
{
    struct vm *vm = format->vm;
    lua_State *L = vm->L;
    format->ended = STATUS_OK;
    format->rows = format->bytes = 0;
    buffer_clear(&format->reason);
    buffer_clear(&format->last);
    vm_begin(vm, entry, limits);
    vm->querying = format->writing != NULL;
    vm->calls_open = 1;
    vm->entered_ref = function->ref;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->handler_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, function->body_ref);
    lua_pushlightuserdata(L, format);
    int status = lua_pcall(L, 1, 0, 1);
    enum status result = status == 0 ? STATUS_OK : STATUS_INVALID;
    if (format->ended != STATUS_OK) {
        result = format->ended;
        buffer_append(why, format->reason.data, format->reason.size);
    } else if (status != 0) {
        size_t lua_bytes_max = vm->lua_bytes_max;
        vm->lua_bytes_max = SIZE_MAX; /* what is said of a failure must not fail */
        say_failure(format, status, lua_bytes_max, why);
        vm->lua_bytes_max = lua_bytes_max;
    }
    lua_settop(L, 0);
    vm_end(vm);
    vm->querying = false;
    return result;
}
