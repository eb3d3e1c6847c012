/* script/text.c - see script/text.h. */
#include "script/text.h"

#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/budget.h"
#include "script/fail.h"

enum { BYTES_A_UNIT = 16, BYTE_VALUES_MAX = 200 };

static const double whole_max = 9007199254740992.0;

/* --- building ------------------------------------------------------------------------------------------------------------- */

void text_begin(lua_State *L, struct text *text, const char *what)
{
    luaL_checkstack(L, 8, what);
    lua_pushnil(L);
    text->L = L;
    text->what = what;
    text->data = text->small;
    text->size = 0;
    text->room = sizeof text->small;
    text->slot = lua_gettop(L);
}

static void grow(struct text *text, size_t size)
{
    size_t room = 2 * text->room > text->size + size ? 2 * text->room : text->size + size;
    uint8_t *data = lua_newuserdata(text->L, room);
    memcpy(data, text->data, text->size);
    lua_replace(text->L, text->slot);
    text->data = data;
    text->room = room;
}

void text_add(struct text *text, const void *bytes, size_t size)
{
    if (size > TEXT_BYTES_MAX - text->size)
        fail(text->L, "TOO_LARGE", "%s: more than %d MiB", text->what, TEXT_BYTES_MAX >> 20);
    if (size > text->room - text->size)
        grow(text, size);
    if (size > 0)
        memcpy(text->data + text->size, bytes, size);
    text->size += size;
    if (size >= BYTES_A_UNIT)
        budget_charge(text->L, size / BYTES_A_UNIT);
}

void text_push(struct text *text)
{
    lua_pushlstring(text->L, (const char *)text->data, text->size);
}

/* --- arguments ------------------------------------------------------------------------------------------------------------ */

int64_t text_whole(lua_State *L, int at, int64_t standard)
{
    if (lua_isnoneornil(L, at))
        return standard;
    double number = luaL_checknumber(L, at);
    luaL_argcheck(L, number == number, at, "a number is expected, got nan");
    return (int64_t)(number > whole_max ? whole_max : number < -whole_max ? -whole_max : number);
}

/* The range of s:sub(i, j): *from is counted from 0, the bytes from there are `count`. */
static size_t range(size_t size, int64_t from, int64_t to, size_t *start)
{
    int64_t length = (int64_t)size;
    from = from < 0 ? from + length + 1 : from;
    to = to < 0 ? to + length + 1 : to;
    from = from < 1 ? 1 : from;
    to = to > length ? length : to;
    *start = (size_t)(from - 1);
    return from > to ? 0 : (size_t)(to - from + 1);
}

/* --- functions ------------------------------------------------------------------------------------------------------------ */

static int text_len(lua_State *L)
{
    size_t size = 0;
    (void)luaL_checklstring(L, 1, &size);
    lua_pushnumber(L, (double)size);
    return 1;
}

static int text_sub(lua_State *L)
{
    size_t size = 0;
    size_t start = 0;
    const char *text = luaL_checklstring(L, 1, &size);
    luaL_checknumber(L, 2);
    size_t count = range(size, text_whole(L, 2, 1), text_whole(L, 3, -1), &start);
    if (count >= BYTES_A_UNIT)
        budget_charge(L, count / BYTES_A_UNIT);
    lua_pushlstring(L, count > 0 ? text + start : "", count);
    return 1;
}

static int text_byte(lua_State *L)
{
    size_t size = 0;
    size_t start = 0;
    const char *text = luaL_checklstring(L, 1, &size);
    int64_t from = text_whole(L, 2, 1);
    size_t count = range(size, from, text_whole(L, 3, from), &start);
    if (count > BYTE_VALUES_MAX)
        return luaL_error(L, "string.byte: more than %d values", BYTE_VALUES_MAX);
    luaL_checkstack(L, (int)count + 1, "string.byte");
    for (size_t i = 0; i < count; i++)
        lua_pushnumber(L, (uint8_t)text[start + i]);
    return (int)count;
}

static int text_char(lua_State *L)
{
    int count = lua_gettop(L);
    struct text text;
    text_begin(L, &text, "string.char");
    for (int i = 1; i <= count; i++) {
        int64_t value = text_whole(L, i, -1);
        luaL_argcheck(L, value >= 0 && value <= 255, i, "a byte is 0 to 255");
        uint8_t byte = (uint8_t)value;
        text_add(&text, &byte, 1);
    }
    text_push(&text);
    return 1;
}

/* Letters of ASCII between `first` and `first` + 25 change their case; the others stay. */
static int change_case(lua_State *L, const char *what, uint8_t first)
{
    size_t size = 0;
    const char *from = luaL_checklstring(L, 1, &size);
    struct text text;
    text_begin(L, &text, what);
    uint8_t part[128];
    while (size > 0) {
        size_t count = size < sizeof part ? size : sizeof part;
        for (size_t i = 0; i < count; i++) {
            uint8_t c = (uint8_t)from[i];
            part[i] = (uint8_t)(c - first) < 26 ? c ^ 0x20 : c;
        }
        text_add(&text, part, count);
        from += count;
        size -= count;
    }
    text_push(&text);
    return 1;
}

static int text_lower(lua_State *L)
{
    return change_case(L, "string.lower", 'A');
}

static int text_upper(lua_State *L)
{
    return change_case(L, "string.upper", 'a');
}

static int text_reverse(lua_State *L)
{
    size_t size = 0;
    const char *from = luaL_checklstring(L, 1, &size);
    struct text text;
    text_begin(L, &text, "string.reverse");
    text_add(&text, from, size);
    for (size_t i = 0; i < size; i++)
        text.data[i] = (uint8_t)from[size - 1 - i];
    text_push(&text);
    return 1;
}

static int text_rep(lua_State *L)
{
    size_t size = 0;
    const char *from = luaL_checklstring(L, 1, &size);
    luaL_checknumber(L, 2);
    int64_t count = text_whole(L, 2, 0);
    struct text text;
    text_begin(L, &text, "string.rep");
    if (count > 0 && (double)size * (double)count > TEXT_REPEAT_MAX)
        return fail(L, "TOO_LARGE", "string.rep: more than 1 MiB");
    if (size == 0)
        count = 0;
    for (int64_t i = 0; i < count; i++)
        text_add(&text, from, size);
    budget_charge(L, count > 0 ? (uint64_t)count / 4 : 0);
    text_push(&text);
    return 1;
}

void text_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"string.byte", text_byte},   {"string.char", text_char},       {"string.len", text_len},
        {"string.lower", text_lower}, {"string.upper", text_upper},     {"string.rep", text_rep},
        {"string.sub", text_sub},     {"string.reverse", text_reverse}, {NULL, NULL}};
    fail_open(L, functions);
}
