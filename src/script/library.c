/* script/library.c - see script/library.h. */
#include "script/library.h"

#include <math.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/budget.h"
#include "script/convert.h"
#include "script/fail.h"
#include "script/json.h"
#include "script/sandbox.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "wire/json.h"
#include "wire/pack.h"

enum { CHARGE_BYTES = 16, FIELDS_MAX = 1000 };

/* Two buffers that live until Lua has no use for them, whatever is raised. */
struct scratch {
    struct buffer packed;
    struct buffer text;
};

static const char scratch_type[] = "tidelock.scratch";

static int scratch_gc(lua_State *L)
{
    struct scratch *scratch = lua_touserdata(L, 1);
    buffer_close(&scratch->packed);
    buffer_close(&scratch->text);
    return 0;
}

/* The scratch of the library's functions: they call nothing that could call them. Upvalue 1. */
static struct scratch *scratch_of(lua_State *L)
{
    struct scratch *scratch = lua_touserdata(L, lua_upvalueindex(1));
    buffer_clear(&scratch->packed);
    buffer_clear(&scratch->text);
    return scratch;
}

static struct slice text_at(lua_State *L, int at, const char *function)
{
    struct slice text;
    if (lua_type(L, at) != LUA_TSTRING)
        luaL_error(L, "%s: text is expected, got %s", function, luaL_typename(L, at));
    text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
    budget_charge(L, text.size / CHARGE_BYTES + 1);
    return text;
}

static int push_text(lua_State *L, const struct buffer *text)
{
    budget_charge(L, text->size / CHARGE_BYTES + 1);
    lua_pushlstring(L, (const char *)text->data, text->size);
    return 1;
}

/* --- JSON ------------------------------------------------------------------------------------------------------------- */

/* Appends the value at `at` as JSON. */
static void append_json(lua_State *L, int at, struct scratch *scratch, const char *function)
{
    buffer_clear(&scratch->packed);
    const char *why = value_pack(L, at, &scratch->packed);
    if (why != NULL || json_write(&scratch->text, buffer_slice(&scratch->packed)) != STATUS_OK)
        luaL_error(L, "%s: %s", function, why != NULL ? why : "no value");
}

static void push_json(lua_State *L, struct slice text, struct scratch *scratch, const char *function)
{
    buffer_clear(&scratch->packed);
    const char *why = json_to_pack(text, &scratch->packed);
    if (why != NULL)
        luaL_error(L, "%s: %s", function, why);
    if (!value_push(L, buffer_slice(&scratch->packed), &why))
        luaL_error(L, "%s: %s", function, why);
}

static int json_encode(lua_State *L)
{
    struct scratch *scratch = scratch_of(L);
    if (lua_gettop(L) != 1)
        return luaL_error(L, "json.encode: takes one value");
    append_json(L, 1, scratch, "json.encode");
    return push_text(L, &scratch->text);
}

static int json_decode(lua_State *L)
{
    struct scratch *scratch = scratch_of(L);
    push_json(L, text_at(L, 1, "json.decode"), scratch, "json.decode");
    return 1;
}

/* --- CSV -------------------------------------------------------------------------------------------------------------- */

static bool is_number(struct slice text, double *number)
{
    struct pack_item item = {.type = PACK_STR, .bytes = text};
    return text.size > 0 && strchr("+-.0123456789", text.data[0]) != NULL && convert_number(&item, number) == NULL;
}

/* True for text that would be read as something else, or not as one field of one line. */
static bool needs_mark(struct slice text)
{
    double number;
    return text.size == 0 || strchr("{[\"'", text.data[0]) != NULL || is_number(text, &number) ||
           slice_equal(text, slice_text("true")) || slice_equal(text, slice_text("false"));
}

static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < 0x20 || text.data[i] == 0x7F)
            return false;
    return pack_is_utf8(text);
}

/* Appends one field, quoted if it must be. */
static void append_field(struct buffer *out, struct slice field)
{
    bool quote = field.size > 0 && (field.data[0] == ' ' || field.data[field.size - 1] == ' ');
    for (size_t i = 0; i < field.size && !quote; i++)
        quote = field.data[i] == ',' || field.data[i] == '"';
    if (!quote) {
        buffer_append(out, field.data, field.size);
        return;
    }
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < field.size; i++) {
        if (field.data[i] == '"')
            buffer_append_byte(out, '"');
        buffer_append_byte(out, field.data[i]);
    }
    buffer_append_byte(out, '"');
}

/* Makes scratch->text the field of the value at `at`. */
static void make_field(lua_State *L, int at, struct scratch *scratch)
{
    struct slice text;
    buffer_clear(&scratch->text);
    if (lua_isnil(L, at))
        return;
    if (lua_type(L, at) != LUA_TSTRING) {
        append_json(L, at, scratch, "csv.encode");
        return;
    }
    text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
    if (!is_plain(text)) {
        append_json(L, at, scratch, "csv.encode");
        return;
    }
    if (needs_mark(text))
        buffer_append_byte(&scratch->text, '\'');
    buffer_append(&scratch->text, text.data, text.size);
}

static int csv_encode(lua_State *L)
{
    struct scratch *scratch = scratch_of(L);
    if (!lua_istable(L, 1))
        return luaL_error(L, "csv.encode: a list is expected, got %s", luaL_typename(L, 1));
    double n = lua_isnoneornil(L, 2) ? (double)lua_objlen(L, 1) : lua_tonumber(L, 2);
    if (!(n >= 1 && n <= FIELDS_MAX && n == floor(n)))
        return luaL_error(L, "csv.encode: a row has 1 to %d fields", FIELDS_MAX);
    luaL_Buffer row;
    lua_settop(L, 1);
    luaL_buffinit(L, &row); /* the library's own: it survives what is raised */
    for (int i = 1; i <= (int)n; i++) {
        lua_rawgeti(L, 1, i);
        int at = lua_gettop(L);
        make_field(L, at, scratch);
        lua_pop(L, 1);
        buffer_clear(&scratch->packed);
        if (i > 1)
            buffer_append_byte(&scratch->packed, ',');
        append_field(&scratch->packed, buffer_slice(&scratch->text));
        luaL_addlstring(&row, (const char *)scratch->packed.data, scratch->packed.size);
    }
    luaL_pushresult(&row);
    budget_charge(L, lua_objlen(L, -1) / CHARGE_BYTES + (uint64_t)n);
    return 1;
}

/* Takes one field off `row` into scratch->text, without its quotes. */
static void take_field(lua_State *L, struct slice *row, struct scratch *scratch)
{
    const uint8_t *at = row->data;
    const uint8_t *end = at + row->size;
    buffer_clear(&scratch->text);
    if (at < end && *at == '"') {
        for (at++; at < end && (*at != '"' || (at + 1 < end && at[1] == '"')); at++) {
            at += *at == '"';
            buffer_append_byte(&scratch->text, *at);
        }
        if (at == end)
            luaL_error(L, "csv.decode: a quoted field does not end");
        at++;
    } else {
        const uint8_t *comma = at < end ? memchr(at, ',', (size_t)(end - at)) : NULL;
        comma = comma != NULL ? comma : end;
        buffer_append(&scratch->text, at, (size_t)(comma - at));
        at = comma;
    }
    if (at < end && *at != ',')
        luaL_error(L, "csv.decode: after a quoted field a comma is expected");
    *row = slice_make(at, (size_t)(end - at));
}

/* Pushes the value of a field [-0, +1]. */
static void push_field(lua_State *L, struct slice field, struct scratch *scratch)
{
    double number = 0;
    if (field.size == 0)
        lua_pushnil(L);
    else if (field.data[0] == '\'')
        lua_pushlstring(L, (const char *)field.data + 1, field.size - 1);
    else if (strchr("{[\"", field.data[0]) != NULL)
        push_json(L, field, scratch, "csv.decode");
    else if (slice_equal(field, slice_text("true")) || slice_equal(field, slice_text("false")))
        lua_pushboolean(L, field.data[0] == 't');
    else if (is_number(field, &number))
        lua_pushnumber(L, number);
    else
        lua_pushlstring(L, (const char *)field.data, field.size);
}

static int csv_decode(lua_State *L)
{
    struct scratch *scratch = scratch_of(L);
    struct slice row = text_at(L, 1, "csv.decode");
    lua_settop(L, 1);
    lua_newtable(L);
    if (row.size > 0 && row.data[row.size - 1] == '\r')
        row.size--; /* what spreadsheets put before a line's end */
    for (int n = 1;; n++) {
        if (n > FIELDS_MAX)
            return luaL_error(L, "csv.decode: a row has at most %d fields", FIELDS_MAX);
        take_field(L, &row, scratch);
        push_field(L, buffer_slice(&scratch->text), scratch);
        lua_rawseti(L, 2, n);
        if (row.size == 0) {
            lua_pushnumber(L, n);
            return 2;
        }
        row = slice_make(row.data + 1, row.size - 1); /* the comma */
        if (row.size == 0) {
            lua_pushnumber(L, n + 1); /* an empty field at the end */
            return 2;
        }
    }
}

/* --- finding them ----------------------------------------------------------------------------------------------------- */

static const luaL_Reg json_functions[] = {{"json.encode", json_encode}, {"json.decode", json_decode}, {NULL, NULL}};
static const luaL_Reg csv_functions[] = {{"csv.encode", csv_encode}, {"csv.decode", csv_decode}, {NULL, NULL}};

static const struct {
    const char *name;
    const luaL_Reg *functions;
} libraries[] = {{"tidelock.json", json_functions}, {"tidelock.csv", csv_functions}};

static const luaL_Reg *find(struct slice module)
{
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++)
        if (slice_equal(module, slice_text(libraries[i].name)))
            return libraries[i].functions;
    return NULL;
}

bool library_is_name(struct slice module)
{
    return find(module) != NULL;
}

/* Pushes one scratch for all functions of a library [-0, +1]. */
static void push_scratch(lua_State *L)
{
    struct scratch *scratch = lua_newuserdata(L, sizeof *scratch);
    memset(scratch, 0, sizeof *scratch);
    if (luaL_newmetatable(L, scratch_type)) {
        lua_pushcfunction(L, scratch_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
}

bool library_push(lua_State *L, struct slice module)
{
    const luaL_Reg *functions = find(module);
    if (functions == NULL)
        return false;
    lua_pushlstring(L, (const char *)module.data, module.size); /* also its key in the registry */
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (!lua_isnil(L, -1))
        return true;
    lua_pop(L, 1);
    lua_newtable(L);
    push_scratch(L);
    for (; functions->name != NULL; functions++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, functions->func, 1);
        fail_name_function(L, functions->name);
        lua_setfield(L, -3, strchr(functions->name, '.') + 1);
    }
    lua_pop(L, 1);
    sandbox_freeze(L);
    lua_pushlstring(L, (const char *)module.data, module.size);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return true;
}
