/* script/scene.c - see script/scene.h. It is a vm without mounts and entries. */
#include "script/scene.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/lexer.h"
#include "script/vm_private.h"

enum { WATCH_INSTRUCTIONS = 100000 };

static const char env_key[] = "tidelock.scene.env";
static const char scene_key;                      /* its address is what counts */
static const char names_key[] = "tidelock.names"; /* script/sandbox.c: what the sandbox has */

struct scene {
    struct vm *vm;
    struct tree *tree;
    struct scene_options options;
    const char *over;
};

static struct scene *scene_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&scene_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct scene *scene = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return scene;
}

/* Once it is over, each further instruction raises. */
static void watch(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    struct scene *scene = scene_of(L);
    if (scene->over == NULL)
        scene->over = scene->options.over(scene->options.context);
    if (scene->over == NULL)
        return;
    lua_sethook(L, watch, LUA_MASKCOUNT, 1);
    luaL_where(L, 0);
    lua_pushstring(L, scene->over);
    lua_concat(L, 2);
    lua_error(L);
}

/* Puts the sandbox's names over LuaJIT's own. pcall stays LuaJIT's: there is nothing to roll back, and coroutines must be
 * able to yield in it. */
static int setup(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, names_key);
    lua_getglobal(L, "pcall");
    lua_setfield(L, -2, "pcall");
    for (lua_pushnil(L); lua_next(L, -2) != 0;) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, LUA_GLOBALSINDEX);
    }
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env");
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, env_key);
    return 0;
}

struct scene *scene_new(const struct scene_options *options)
{
    struct scene *scene = mem_zalloc(1, sizeof *scene);
    scene->options = *options;
    scene->tree = tree_new();
    scene->vm = vm_new(scene->tree, options->lua_bytes_max);
    scene->vm->entry.seed = options->seed;
    lua_State *L = scene->vm->L;
    int status = lua_cpcall(L, setup, NULL);
    CHECK(status == 0);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&scene_key);
    lua_pushlightuserdata(L, scene);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_sethook(L, watch, LUA_MASKCOUNT, WATCH_INSTRUCTIONS);
    return scene;
}

void scene_free(struct scene *scene)
{
    vm_free(scene->vm);
    tree_free(scene->tree);
    mem_free(scene);
}

struct lua_State *scene_lua(struct scene *scene)
{
    return scene->vm->L;
}

void scene_set_now(struct scene *scene, uint64_t now_ms)
{
    scene->vm->entry.now_ms = now_ms;
}

void scene_push_env(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, env_key);
}

enum status scene_load(lua_State *L, struct slice source, const char *name, struct buffer *why)
{
    if (lexer_check_script(source, name, why) != STATUS_OK)
        return STATUS_INVALID;
    lua_pushfstring(L, "@%s", name);
    int status = luaL_loadbufferx(L, (const char *)source.data, source.size, lua_tostring(L, -1), "t");
    lua_remove(L, -2);
    if (status != 0) {
        const char *text = lua_tostring(L, -1);
        buffer_append(why, text, strlen(text));
        lua_pop(L, 1);
        return STATUS_INVALID;
    }
    scene_push_env(L);
    lua_setfenv(L, -2);
    return STATUS_OK;
}
