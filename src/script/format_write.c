/* script/format_write.c - write(out, view): what a format's write is given. See script/format.h. */
#include <stdio.h>

#include "script/format_private.h"
#include "script/value.h"

enum {
    GROWTH_MAX = 64,                /* bytes written for a byte of the state, rows taken for a row of it */
    GROWTH_FREE = 64 * 1024 * 1024, /* whatever the size */
    ROWS_FREE = 1024 * 1024
};

/* The writing in progress; `self` at 1 must be what the method belongs to. */
static struct format *begin(lua_State *L, const char *method)
{
    struct format *format = format_of(L);
    if (!lua_istable(L, 1))
        luaL_error(L, "call %s with a colon", method);
    if (format->writing == NULL)
        luaL_error(L, "%s: the writing is over", method);
    return format;
}

static void append(lua_State *L, struct format *format, struct slice bytes)
{
    const struct format_writing *writing = format->writing;
    if (bytes.size == 0)
        return;
    format->bytes += bytes.size;
    if (format->bytes > GROWTH_FREE && (format->bytes - GROWTH_FREE) / GROWTH_MAX > view_bytes(writing->view))
        luaL_error(L, "out: more than %d times the bytes of the state", GROWTH_MAX);
    budget_charge(L, bytes.size / MAP_CHARGE_BYTES);
    enum status status = writing->append(writing->context, bytes);
    if (status != STATUS_OK)
        format_end(L, format, status);
    format_step(format);
}

/* out:write(text, ...). A number would be rounded by tostring, so it is refused. */
static int out_write(lua_State *L)
{
    struct format *format = begin(L, "out:write");
    int count = lua_gettop(L);
    for (int i = 2; i <= count; i++) {
        struct slice text;
        if (lua_type(L, i) != LUA_TSTRING)
            return luaL_error(
                L,
                "out:write: argument %d must be text, got %s; json.encode of tidelock.json makes text of any value",
                i - 1, luaL_typename(L, i));
        text.data = (const uint8_t *)lua_tolstring(L, i, &text.size);
        append(L, format, text);
    }
    return 0;
}

/* out:pack(value): canonical MessagePack. */
static int out_pack(lua_State *L)
{
    struct format *format = begin(L, "out:pack");
    struct vm *vm = format->vm;
    if (lua_gettop(L) != 2)
        return luaL_error(L, "out:pack: takes one value");
    buffer_clear(&vm->value);
    const char *why = value_pack(L, 2, &vm->value);
    if (why != NULL)
        return luaL_error(L, "out:pack: %s", why);
    append(L, format, buffer_slice(&vm->value));
    return 0;
}

void format_took_row(lua_State *L, struct slice key)
{
    struct format *format = format_of(L);
    const struct format_writing *writing = format->writing;
    format_note_row(format, key);
    if (format->rows > ROWS_FREE && (format->rows - ROWS_FREE) / GROWTH_MAX > view_rows(writing->view))
        luaL_error(L, "view: more than %d rows taken for each of the state", GROWTH_MAX);
    enum status status = writing->row(writing->context);
    if (status != STATUS_OK)
        format_end(L, format, status);
    format_step(format);
}

/* The iterator of view:maps. Upvalue: how many it has given. */
static int maps_next(lua_State *L)
{
    struct format *format = format_of(L);
    size_t at = (size_t)lua_tonumber(L, lua_upvalueindex(1));
    if (format->writing == NULL || at >= format->writing->maps->count)
        return 0;
    const struct format_map *map = &format->writing->maps->list[at];
    char name[MAP_NAME_BYTES];
    lua_pushnumber(L, (double)(at + 1));
    lua_replace(L, lua_upvalueindex(1));
    lua_pushstring(L, map->mount);
    lua_pushstring(L, map->name);
    snprintf(name, sizeof name, "%.49s.%.49s", map->mount, map->name);
    map_push(L, map->number, name);
    return 3;
}

static int view_maps(lua_State *L)
{
    begin(L, "view:maps");
    lua_pushnumber(L, 0);
    lua_pushcclosure(L, maps_next, 1);
    return 1;
}

int format_call_write(lua_State *L)
{
    static const luaL_Reg out[] = {{"write", out_write}, {"pack", out_pack}, {NULL, NULL}};
    struct format *format = lua_touserdata(L, 1);
    const struct format_writing *writing = format->writing;
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, format->write.ref);
    lua_newtable(L);
    luaL_register(L, NULL, out);
    format_guard(L, "out", "write pack");
    lua_newtable(L);
    lua_pushnumber(L, (double)writing->entry.index);
    lua_setfield(L, -2, "index");
    lua_pushnumber(L, (double)writing->entry.term);
    lua_setfield(L, -2, "term");
    lua_pushnumber(L, (double)writing->entry.now_ms);
    lua_setfield(L, -2, "now");
    lua_pushcfunction(L, view_maps);
    lua_setfield(L, -2, "maps");
    format_guard(L, "view", "index term now maps");
    lua_call(L, 2, 2);
    budget_rethrow(L);
    format_check_result(L, "write", false);
    return 0;
}

enum status format_write(struct format *format, const struct format_writing *writing, struct buffer *why)
{
    format->writing = writing;
    format->vm->rows.view = writing->view;
    enum status status = format_run(format, &format->write, &writing->entry, &writing->limits, why);
    format->vm->rows.view = NULL;
    format->writing = NULL;
    return status;
}
