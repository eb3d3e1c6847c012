/* script/fail.c - see script/fail.h. */
#include "script/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "script/value.h"
#include "script/vm_private.h"
#include "wire/error.h"

static const char names_key = 'n'; /* its address: the registry's table from functions to their names */

void fail_setup(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&names_key);
    lua_newtable(L);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void fail_name_function(lua_State *L, const char *name)
{
    int function = lua_gettop(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&names_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, function);
    lua_pushstring(L, name);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

void fail_open(lua_State *L, const luaL_Reg *functions)
{
    for (; functions->name != NULL; functions++) {
        const char *dot = strchr(functions->name, '.');
        lua_pushcfunction(L, functions->func);
        fail_name_function(L, functions->name);
        lua_setfield(L, -2, dot != NULL ? dot + 1 : functions->name);
    }
}

/* Pushes the name of the function that runs at a level, or nil [-0, +1]. */
static const char *push_name(lua_State *L, int level)
{
    lua_Debug frame;
    if (lua_getstack(L, level, &frame) == 0) {
        lua_pushnil(L);
        return NULL;
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)&names_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_getinfo(L, "f", &frame);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

bool fail_has_where(const char *text)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL || colon == text)
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    return digits > 0 && colon[1 + digits] == ':';
}

void fail_push_where(lua_State *L, int level)
{
    lua_Debug frame;
    for (; lua_getstack(L, level, &frame) != 0; level++) {
        lua_getinfo(L, "Sl", &frame);
        if (frame.currentline > 0) {
            lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
            return;
        }
    }
    const struct vm *vm = vm_of(L);
    if (vm->calls_open == 0) {
        lua_pushliteral(L, "");
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->entered_ref);
    lua_getinfo(L, ">S", &frame);
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.linedefined);
}

int fail(lua_State *L, const char *code, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    fail_push_where(L, 1);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    lua_setfield(L, -2, "message");
    return lua_error(L);
}

/* A called function that has no name is '?' to LuaJIT, as after a tail call: puts `name` in its place [-0, +0]. */
static void put_name(lua_State *L, const char *name)
{
    const char *text = lua_tostring(L, 1);
    const char *mark = strstr(text, " to '?' (");
    if (mark == NULL)
        return;
    lua_pushlstring(L, text, (size_t)(mark - text));
    lua_pushfstring(L, " to '%s' (%s", name, mark + 9);
    lua_concat(L, 2);
    lua_replace(L, 1);
}

/* What depends on the history of this process: never a result. */
static bool is_of_this_node(const char *text)
{
    static const char *const marks[] = {"stack overflow", "C stack overflow", "string length overflow",
                                        "table overflow"};
    const char *what = fail_has_where(text) ? strstr(text, ": ") : NULL;
    what = what != NULL ? what + 2 : text;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (strncmp(what, marks[i], strlen(marks[i])) == 0)
            return true;
    return false;
}

int fail_handle(lua_State *L)
{
    struct vm *vm = vm_of(L);
    lua_settop(L, 1);
    if (lua_type(L, 1) != LUA_TSTRING || vm->budget.fault != BUDGET_OK)
        return 1;
    const char *name = push_name(L, 1);
    if (name != NULL && (strcmp(name, "error") == 0 || (strcmp(name, "assert") == 0 &&
                                                        strstr(lua_tostring(L, 1), "assertion failed!") == NULL))) {
        lua_settop(L, 1);
        return 1;
    }
    if (is_of_this_node(lua_tostring(L, 1))) {
        vm->budget.fault = BUDGET_MEMORY;
        snprintf(vm->why, sizeof vm->why, "%.200s", lua_tostring(L, 1));
    }
    if (name != NULL)
        put_name(L, name);
    lua_settop(L, 1);
    if (fail_has_where(lua_tostring(L, 1)))
        return 1;
    fail_push_where(L, 1);
    lua_insert(L, 1);
    lua_concat(L, 2);
    return 1;
}

const char *fail_check_table(lua_State *L, int at)
{
    static const char *const host_codes[] = {"SCRIPT_ERROR", "TOO_LARGE", "QUOTA", "NO_SESSION",
                                             "BUSY"}; /* from a pcall, raised again */
    lua_pushliteral(L, "code");
    lua_rawget(L, at);
    lua_pushliteral(L, "message");
    lua_rawget(L, at);
    lua_pushliteral(L, "data");
    lua_rawget(L, at);
    int code = lua_gettop(L) - 2;
    size_t size = 0;
    const char *text = lua_type(L, code) == LUA_TSTRING ? lua_tolstring(L, code, &size) : NULL;
    bool good = text != NULL && error_code_of_service(text, size);
    for (size_t i = 0; i < sizeof host_codes / sizeof host_codes[0] && text != NULL; i++)
        good = good || strcmp(text, host_codes[i]) == 0;
    const char *why = NULL;
    int message = lua_type(L, code + 1);
    if (!good && text != NULL && error_row_named(text, size) != NULL)
        why = lua_pushfstring(L, "the code %s is the host's own; name one like OUT_OF_STOCK", text);
    else if (!good)
        why = lua_pushfstring(L, "an error must have a code like NOT_FOUND or OUT_OF_STOCK, got %s",
                              text != NULL ? (size <= 64 ? text : "a longer one") : luaL_typename(L, code));
    else if (message != LUA_TNIL && message != LUA_TSTRING && message != LUA_TNUMBER)
        why = lua_pushfstring(L, "the message of an error must be text, got %s", lua_typename(L, message));
    if (why == NULL && !lua_isnil(L, code + 2)) {
        struct vm *vm = vm_of(L);
        buffer_clear(&vm->value);
        const char *wrong = value_pack(L, code + 2, &vm->value);
        if (wrong != NULL)
            why = lua_pushfstring(L, "the data of an error: %s", wrong);
        else if (vm->value.size > vm->limits.answer_bytes)
            why = lua_pushfstring(L, "the data of an error: more than %d bytes", (int)vm->limits.answer_bytes);
    }
    if (why != NULL)
        lua_replace(L, code);
    lua_settop(L, why != NULL ? code : code - 1);
    return why;
}

int fail_handle_last(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING)
        return fail_handle(L);
    lua_settop(L, 1);
    if (vm_of(L)->budget.fault != BUDGET_OK || (lua_istable(L, 1) && fail_check_table(L, 1) == NULL))
        return 1;
    if (!lua_istable(L, 1))
        lua_pushfstring(L, "an error must be text or a table, got %s", luaL_typename(L, 1));
    fail_push_where(L, 1);
    lua_insert(L, 2);
    lua_concat(L, 2);
    return 1;
}
