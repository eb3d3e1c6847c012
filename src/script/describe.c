/* script/describe.c - what a bundle's module is, for people who compare two of them. See script/bundle.h. */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/bundle.h"
#include "script/value.h"
#include "script/vm_private.h"

enum { LUA_BYTES = 256 * 1024 * 1024 };

struct describing {
    struct slice bundle;
    struct buffer *out;
    struct buffer *why;
    enum status status;
};

/* Sets result[field] to the names in module[field]: with a command's or query's declared arguments, else false [-0, +0]. */
static void describe_names(lua_State *L, int module, int result, const char *field)
{
    lua_newtable(L);
    lua_getfield(L, module, field);
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
            int value = lua_gettop(L);
            lua_pushvalue(L, value - 1);
            if (lua_istable(L, value))
                lua_getfield(L, value, "args");
            else
                lua_pushnil(L);
            if (!lua_isstring(L, -1)) {
                lua_pop(L, 1);
                lua_pushboolean(L, 0);
            }
            lua_rawset(L, value - 3);
        }
    }
    lua_pop(L, 1);
    lua_setfield(L, result, field);
}

static int describe(lua_State *L)
{
    static const char *const tables[] = {"commands", "queries", "state", "timers"};
    static const char *const plain[] = {"name", "version"};
    static const char *const functions[] = {"apply",          "init",  "migrate",    "on_expire",
                                            "on_session_end", "query", "upgrade_row"};
    struct describing *describing = lua_touserdata(L, 1);
    bool holds_tables = false;
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    describing->status = bundle_load(L, 1, describing->bundle, &holds_tables, describing->why);
    if (describing->status != STATUS_OK)
        return 0;
    int module = lua_gettop(L);
    lua_newtable(L);
    int result = lua_gettop(L);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        describe_names(L, module, result, tables[i]);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        lua_getfield(L, module, plain[i]);
        lua_setfield(L, result, plain[i]);
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        lua_getfield(L, module, functions[i]);
        lua_pushboolean(L, lua_isfunction(L, -1));
        lua_setfield(L, result, functions[i]);
        lua_pop(L, 1);
    }
    const char *wrong = value_pack(L, result, describing->out);
    return wrong != NULL ? luaL_error(L, "%s", wrong) : 0;
}

enum status bundle_describe(struct slice bundle, struct buffer *out, struct buffer *why)
{
    struct describing describing = {.bundle = bundle, .out = out, .why = why, .status = STATUS_INVALID};
    struct tree *tree = tree_new();
    struct vm *vm = vm_new(tree, LUA_BYTES);
    vm->running = true;
    budget_begin(vm->L, &vm->budget, BUDGET_INSTRUCTIONS, BUDGET_DEPTH);
    if (lua_cpcall(vm->L, describe, &describing) != 0) {
        size_t size = 0;
        const char *text = lua_tolstring(vm->L, -1, &size);
        buffer_append(why, text, text != NULL ? size : 0);
        describing.status = STATUS_INVALID;
    }
    vm->running = false;
    vm_free(vm);
    tree_free(tree);
    return describing.status;
}
