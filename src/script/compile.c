/* script/compile.c - see script/compile.h. */
#include "script/compile.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "script/bytecode.h"
#include "script/lexer.h"
#include "script/sandbox.h"
#include "script/value.h"

static int append_dump(lua_State *L, const void *bytes, size_t size, void *context)
{
    (void)L;
    buffer_append(context, bytes, size);
    return 0;
}

/* --- one chunk ------------------------------------------------------------------------------------------------------ */

struct chunk {
    lua_State *L;
    const char *name;
    struct buffer *why;
    bool refused;
};

static const struct {
    const char *name; /* with its library before it */
    const char *advice;
} missing[] = {
    {"xpcall", "use pcall: what it gives is {code, message, data} already"},
    {"_G", "there is no table of globals; name things directly, and keep state in maps"},
    {"gcinfo", "memory differs from node to node"},
    {"table.getn", "write #list"},
    {"table.maxn", "write #list"},
    {"table.foreach", "write for key, value in pairs(t)"},
    {"table.foreachi", "write for i, value in ipairs(list)"},
    {"table.unpack", "write unpack(list)"},
    {"table.pack", "write { ... }"},
    {"table.move", "write a loop"},
    {"string.dump", "bytecode is never accepted"},
    {"string.gfind", "write string.gmatch"},
    {"string.pack", "send lists and maps: they are packed for you"},
    {"math.mod", "write math.fmod, or a % b"},
    {"math.rad", "write x * math.pi / 180"},
    {"math.deg", "write x * 180 / math.pi"},
};

static void refuse_line(struct chunk *chunk, unsigned line, const char *what, const char *advice)
{
    char text[400];
    int size = snprintf(text, sizeof text, "%s%s:%u: %s; %s", chunk->why->size > 0 ? "\n" : "", chunk->name, line,
                        what, advice);
    buffer_append(chunk->why, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
    chunk->refused = true;
}

static void look_at_use(void *context, const struct bytecode_use *use)
{
    struct chunk *chunk = context;
    char name[96];
    char what[160];
    const char *advice = "declare it with local, or hand it over as an argument";
    bool field = use->kind == BYTECODE_READ_FIELD;
    int wide = (int)(use->name.size < 40 ? use->name.size : 40);
    snprintf(name, sizeof name, "%.*s%s%.*s", wide, (const char *)use->name.data, field ? "." : "",
             field ? (int)(use->field.size < 40 ? use->field.size : 40) : 0, (const char *)use->field.data);
    if (use->kind == BYTECODE_WRITE) {
        snprintf(what, sizeof what, "'%s' cannot be set: replicated code has no globals", name);
        refuse_line(chunk, use->line, what, "write local, and keep state in maps");
    } else if (use->kind == BYTECODE_STORE && use->owner == BYTECODE_TOP) {
        snprintf(what, sizeof what, "'%s' is a local of the file: a function cannot change it", name);
        refuse_line(chunk, use->line, what,
                    "it would not be rolled back, nor be the same on every node: keep it in a map");
    } else if (use->kind == BYTECODE_READ || field) {
        if (sandbox_has(chunk->L, use->name, use->field) ||
            (field && !sandbox_has(chunk->L, use->name, (struct slice){0})))
            return;
        for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
            if (strcmp(missing[i].name, name) == 0)
                advice = missing[i].advice;
            else if (field && advice[0] == 'd')
                advice = "this library has no such function here";
        snprintf(what, sizeof what, "there is no '%s' here", name);
        refuse_line(chunk, use->line, what, advice);
    }
}

enum status compile_source(lua_State *L, struct slice source, const char *name, struct buffer *why)
{
    if (lexer_check(source, name, why, NULL, NULL) != STATUS_OK)
        return STATUS_INVALID;
    char shown[160];
    snprintf(shown, sizeof shown, "=%s", name);
    if (luaL_loadbufferx(L, (const char *)source.data, source.size, shown, "t") != 0) {
        size_t size = 0;
        const char *text = lua_tolstring(L, -1, &size);
        buffer_append(why, text, size);
        buffer_append(why, "; mend the syntax", 17);
        lua_pop(L, 1);
        return STATUS_INVALID;
    }
    struct buffer dump = {0};
    struct chunk chunk = {.L = L, .name = name, .why = why};
    CHECK(lua_dump(L, append_dump, &dump) == 0);
    enum status status = bytecode_walk(buffer_slice(&dump), look_at_use, &chunk);
    CHECK(status == STATUS_OK); /* another LuaJIT than the one this is for */
    buffer_close(&dump);
    if (!chunk.refused)
        return STATUS_OK;
    lua_pop(L, 1);
    return STATUS_INVALID;
}

/* --- what was loaded ------------------------------------------------------------------------------------------------ */

struct look {
    lua_State *L;
    int function; /* where it is on the stack */
    char file[160];
    unsigned line; /* of the first thing found in `file`; 0: nothing */
    char what[200];
    bool holds_table;
};

static void look_at_store(void *context, const struct bytecode_use *use)
{
    struct look *look = context;
    if (use->owner != BYTECODE_OUTSIDE || (use->kind != BYTECODE_STORE && use->kind != BYTECODE_STORE_FIELD))
        return;
    lua_State *L = look->L;
    if (use->kind == BYTECODE_STORE_FIELD) {
        if (lua_getupvalue(L, look->function, (int)use->upvalue + 1) == NULL)
            return;
        bool table = lua_istable(L, -1);
        lua_pop(L, 1);
        if (!table)
            return; /* a library, a userdata: these see to themselves */
    }
    lua_Debug debug;
    lua_pushvalue(L, look->function);
    lua_getinfo(L, ">S", &debug);
    int order = look->line == 0 ? -1 : strcmp(debug.short_src, look->file);
    if (order > 0 || (order == 0 && use->line >= look->line))
        return;
    snprintf(look->file, sizeof look->file, "%s", debug.short_src);
    look->line = use->line;
    snprintf(look->what, sizeof look->what,
             use->kind == BYTECODE_STORE
                 ? "'%.*s' lives as long as the module: a function cannot change it"
                 : "the table '%.*s' lives as long as the module: a function cannot write to it",
             (int)(use->name.size < 40 ? use->name.size : 40), (const char *)use->name.data);
}

/* Puts the value at the top among what is still to be looked at, once [-1, +0]. `seen`, `list`: tables on the stack. */
static void meet(lua_State *L, int seen, int list)
{
    if (!lua_istable(L, -1) && !lua_isfunction(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushvalue(L, -1);
    lua_rawget(L, seen);
    bool known = !lua_isnil(L, -1);
    lua_pop(L, 1);
    if (known) {
        lua_pop(L, 1);
        return;
    }
    lua_pushvalue(L, -1);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    lua_rawseti(L, list, (int)lua_objlen(L, list) + 1);
}

static void look_at_function(lua_State *L, struct look *look, int seen, int list)
{
    look->function = lua_gettop(L);
    for (int i = 1; lua_getupvalue(L, look->function, i) != NULL; i++) {
        look->holds_table = look->holds_table || lua_istable(L, -1);
        meet(L, seen, list);
    }
    if (lua_iscfunction(L, look->function))
        return;
    struct buffer dump = {0};
    CHECK(lua_dump(L, append_dump, &dump) == 0);
    CHECK(bytecode_walk(buffer_slice(&dump), look_at_store, look) == STATUS_OK);
    buffer_close(&dump);
}

bool compile_check_loaded(lua_State *L)
{
    struct look look = {.L = L};
    int top = lua_gettop(L);
    luaL_checkstack(L, 16, "too deep");
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, top);
    meet(L, top + 1, top + 2);
    for (int i = 1;; i++) {
        lua_rawgeti(L, top + 2, i);
        if (lua_isnil(L, -1))
            break;
        if (lua_istable(L, -1)) {
            int table = lua_gettop(L);
            if (lua_getmetatable(L, table))
                meet(L, top + 1, top + 2);
            else
                value_freeze(L, table);
            for (lua_pushnil(L); lua_next(L, table) != 0;)
                meet(L, top + 1, top + 2); /* keys are text, numbers, booleans, or they meet no `pairs` */
        } else {
            look_at_function(L, &look, top + 1, top + 2);
        }
        lua_settop(L, top + 2);
    }
    lua_settop(L, top);
    if (look.line == 0)
        return look.holds_table;
    lua_pushfstring(L, "%s:%d: %s; it would not be rolled back, nor be the same on every node: keep it in a map",
                    look.file, (int)look.line, look.what);
    return lua_error(L) != 0;
}
