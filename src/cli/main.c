/* cli/main.c - the one binary: opens LuaJIT with the Lua that ships inside, and hands over to lua/cli/main.lua. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "base/embed.h"
#include "base/mutant.h"
#include "cli/bind.h"

enum { EXIT_BUG = 70 };

bool bind_embedded(lua_State *L, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "lua/%s.lua", name);
    for (char *c = path; *c != 0; c++)
        if (*c == '.' && strcmp(c, ".lua") != 0)
            *c = '/';
    for (unsigned long i = 0; i < embed_files_count; i++) {
        const struct embed_file *file = &embed_files[i];
        if (strcmp(file->path, path) != 0)
            continue;
        lua_pushfstring(L, "@%s", path);
        if (luaL_loadbuffer(L, (const char *)file->data, file->size, lua_tostring(L, -1)) != 0)
            lua_error(L);
        lua_remove(L, -2);
        return true;
    }
    return false;
}

/* require 'tidelock.x' and 'cli.x' find lua/tidelock/x.lua and lua/cli/x.lua inside the binary. */
static int find_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (!bind_embedded(L, name))
        lua_pushfstring(L, "\n\tno embedded file for '%s'", name);
    return 1;
}

static void add_loader(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    int count = (int)lua_objlen(L, -1);
    for (int i = count; i >= 2; i--) { /* right after preload: what ships cannot be shadowed by a file */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, find_embedded);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 1);
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, bind_sys);
    lua_setfield(L, -2, "tidelock.sys");
    lua_pushcfunction(L, bind_wire);
    lua_setfield(L, -2, "tidelock.wire");
    lua_pushcfunction(L, bind_node);
    lua_setfield(L, -2, "tidelock.node");
    lua_pushcfunction(L, bind_files);
    lua_setfield(L, -2, "tidelock.files");
    lua_pushcfunction(L, bind_stage);
    lua_setfield(L, -2, "tidelock.stage");
    lua_pushcfunction(L, bind_machine);
    lua_setfield(L, -2, "tidelock.machine");
    lua_pushcfunction(L, bind_history);
    lua_setfield(L, -2, "tidelock.checker");
    lua_pushcfunction(L, bind_world);
    lua_setfield(L, -2, "tidelock.world");
    lua_pushcfunction(L, bind_scene);
    lua_setfield(L, -2, "tidelock.scene");
    lua_pushcfunction(L, bind_swarm);
    lua_setfield(L, -2, "tidelock.swarm");
    lua_pop(L, 2);
}

static int traceback(lua_State *L)
{
    lua_getglobal(L, "debug");
    lua_getfield(L, -1, "traceback");
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 2);
    lua_call(L, 2, 1);
    return 1;
}

int main(int count, char **words)
{
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fputs("tidelock: out of memory\n", stderr);
        return EXIT_BUG;
    }
#ifdef MUTANTS
    const char *planted = getenv("MUTANT");
    mutant_choose(planted != NULL ? (unsigned)strtoul(planted, NULL, 10) : 0);
#endif
    luaL_openlibs(L);
    add_loader(L);
    lua_createtable(L, count, 1);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, words[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
    lua_pushcfunction(L, traceback);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cli.main");
    int status = lua_pcall(L, 1, 1, 1);
    if (status != 0) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "tidelock: bug: %s\n", text != NULL ? text : "an error without text");
        return EXIT_BUG;
    }
    int exit_code = (int)lua_tointeger(L, -1);
    lua_close(L);
    return exit_code;
}
