/* script/format_read.c - read(inp, ctx): what a format's read is given. See script/format.h.
 *
 * The input is a stream: where its pieces end cannot be seen. What read may ask for at once is bounded by FORMAT_LINE_MAX, and
 * so is what is held here.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "script/due.h"
#include "script/fail.h"
#include "script/format_private.h"
#include "script/value.h"
#include "wire/pack.h"

static const char sink_type[] = "tidelock.sink";

enum { NAMES_BYTES = 400 };

/* --- the input -------------------------------------------------------------------------------------------------------- */

static struct format *begin(lua_State *L, const char *method)
{
    struct format *format = format_of(L);
    if (!lua_istable(L, 1))
        luaL_error(L, "call %s with a colon", method);
    if (format->reading == NULL)
        luaL_error(L, "%s: the reading is over", method);
    return format;
}

static struct slice held(const struct format *format)
{
    return slice_make(format->input.data + format->at, format->input.size - format->at);
}

/* Gets the next piece behind what is held; false: there is none. */
static bool fill(lua_State *L, struct format *format)
{
    const struct format_reading *reading = format->reading;
    struct slice piece = {0};
    if (format->input_ended)
        return false;
    enum status status = reading->next(reading->context, &piece, &format->input_ended);
    if (status != STATUS_OK)
        format_end(L, format, status);
    if (format->input_ended)
        return false;
    buffer_consume(&format->input, format->at);
    format->at = 0;
    buffer_append(&format->input, piece.data, piece.size);
    return true;
}

/* Takes bytes off the input: a step. */
static void take(lua_State *L, struct format *format, size_t size)
{
    budget_charge(L, size / MAP_CHARGE_BYTES);
    format->at += size;
    format_step(format);
}

/* inp:read(n): n bytes, fewer at the end, nil behind it. */
static int inp_read(lua_State *L)
{
    struct format *format = begin(L, "inp:read");
    double n = lua_type(L, 2) == LUA_TNUMBER ? lua_tonumber(L, 2) : 0;
    if (!(n >= 1 && n <= FORMAT_LINE_MAX && n == floor(n)))
        return luaL_error(L, "inp:read: n must be a whole number from 1 to %d", FORMAT_LINE_MAX);
    while (held(format).size < (size_t)n && fill(L, format))
        ;
    struct slice bytes = held(format);
    if (bytes.size == 0)
        return 0;
    bytes.size = bytes.size < (size_t)n ? bytes.size : (size_t)n;
    lua_pushlstring(L, (const char *)bytes.data, bytes.size);
    take(L, format, bytes.size);
    return 1;
}

/* The iterator of inp:lines(). */
static int lines_next(lua_State *L)
{
    struct format *format = format_of(L);
    const uint8_t *end = NULL;
    size_t seen = 0;
    if (format->reading == NULL)
        return luaL_error(L, "inp:lines: the reading is over");
    for (;;) {
        struct slice bytes = held(format);
        end = bytes.size > seen ? memchr(bytes.data + seen, '\n', bytes.size - seen) : NULL;
        seen = bytes.size;
        if ((end != NULL ? (size_t)(end - bytes.data) : seen) > FORMAT_LINE_MAX)
            return luaL_error(L, "inp:lines: a line of more than %d bytes", FORMAT_LINE_MAX);
        if (end != NULL || !fill(L, format))
            break;
    }
    struct slice line = held(format);
    if (line.size == 0)
        return 0;
    if (end != NULL)
        line.size = (size_t)(end - line.data);
    lua_pushlstring(L, (const char *)line.data, line.size);
    take(L, format, line.size + (end != NULL));
    return 1;
}

/* inp:lines(): without their ends. */
static int inp_lines(lua_State *L)
{
    begin(L, "inp:lines");
    lua_pushcfunction(L, lines_next);
    return 1;
}

/* inp:unpack(): true and the next MessagePack value; false at the end. */
static int inp_unpack(lua_State *L)
{
    struct format *format = begin(L, "inp:unpack");
    struct slice value = {0};
    enum status status;
    for (;;) {
        struct pack_reader reader = pack_reader_make(held(format));
        status = pack_skip(&reader, VALUE_DEPTH_MAX, &value);
        if (status != STATUS_INCOMPLETE || held(format).size > FORMAT_LINE_MAX || !fill(L, format))
            break;
    }
    if (status == STATUS_INCOMPLETE && held(format).size == 0) {
        lua_pushboolean(L, false);
        return 1;
    }
    if (status != STATUS_OK)
        return luaL_error(L, "inp:unpack: %s",
                          status == STATUS_INCOMPLETE ? "the bytes end within a MessagePack value"
                          : status == STATUS_TOO_DEEP ? "a value nested too deep"
                                                      : "not a MessagePack value");
    const char *why = NULL;
    lua_pushboolean(L, true);
    if (!value_push(L, value, &why))
        return luaL_error(L, "inp:unpack: %s", why);
    take(L, format, value.size);
    return 2;
}

/* --- ctx -------------------------------------------------------------------------------------------------------------- */

/* When the row expires, by the options at 4: { expires = ms }. */
static uint64_t read_expires(lua_State *L, const struct use *use)
{
    if (lua_isnoneornil(L, 4))
        return DUE_NEVER;
    double ms = map_only_option(L, use, 4, "expires");
    if (!(ms >= 0 && ms == floor(ms) && ms < (double)DUE_TIME_MAX))
        map_refuse(L, use, "the option expires must be a whole number of milliseconds, got %s",
                   lua_tostring(L, -1));
    lua_pop(L, 1);
    return (uint64_t)ms;
}

/* map:put(key, value[, { expires = ms }]) of ctx.db: a row of the state that is built. */
static int sink_put(lua_State *L)
{
    struct use use = map_use(L, "put", false, 3);
    struct vm *vm = use.vm;
    struct format *format = vm->format;
    if (format->reading == NULL)
        return map_refuse(L, &use, "the reading is over");
    uint64_t deadline_ms = read_expires(L, &use);
    struct slice key = map_key(L, &use, "the key", 2);
    format_note_row(format, key);
    if (lua_isnoneornil(L, 3))
        return map_refuse(L, &use, "the value must not be nil");
    map_pack_value(L, &use, 3, deadline_ms, vm->limits.row_bytes);
    buffer_clear(&format->reason);
    enum status status =
        format->reading->put(format->reading->context, key, buffer_slice(&vm->value), &format->reason);
    if (status != STATUS_OK)
        format_end(L, format, status);
    format_step(format);
    return 0;
}

static int sink_no_method(lua_State *L)
{
    return luaL_error(L, "there is no '%s' here: a format's read only puts rows, by map:put(key, value)",
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2));
}

static int new_map(lua_State *L)
{
    value_push_map(L);
    return 1;
}

/* Adds a name to a list for a sentence. */
static void add_name(char list[NAMES_BYTES], const char *name)
{
    size_t size = strlen(list);
    snprintf(list + size, NAMES_BYTES - size, "%s%s", size > 0 ? " " : "", name);
}

/* Pushes ctx.db: mounts, and in each its maps [-0, +1]. The maps are in the order of their mounts. */
static void push_db(lua_State *L, const struct format_maps *maps)
{
    char mounts[NAMES_BYTES] = "";
    lua_newtable(L);
    for (size_t i = 0; i < maps->count;) {
        const char *mount = maps->list[i].mount;
        char what[FORMAT_NAME_BYTES + 16];
        char there[NAMES_BYTES] = "";
        lua_newtable(L);
        for (; i < maps->count && strcmp(maps->list[i].mount, mount) == 0; i++) {
            char name[MAP_NAME_BYTES];
            snprintf(name, sizeof name, "%.49s.%.49s", mount, maps->list[i].name);
            map_push_typed(L, sink_type, maps->list[i].number, name);
            lua_setfield(L, -2, maps->list[i].name);
            add_name(there, maps->list[i].name);
        }
        snprintf(what, sizeof what, "ctx.db.%s", mount);
        format_guard(L, what, there);
        lua_setfield(L, -2, mount);
        add_name(mounts, mount);
    }
    format_guard(L, "ctx.db", maps->count > 0 ? mounts : "no mounts in this state");
}

void format_read_setup(lua_State *L)
{
    static const luaL_Reg methods[] = {{"put", sink_put}, {NULL, NULL}};
    map_make_type(L, sink_type, methods, sink_no_method);
}

/* --- running ---------------------------------------------------------------------------------------------------------- */

int format_call_read(lua_State *L)
{
    static const luaL_Reg inp[] = {{"read", inp_read}, {"lines", inp_lines}, {"unpack", inp_unpack}, {NULL, NULL}};
    struct format *format = lua_touserdata(L, 1);
    const struct format_reading *reading = format->reading;
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, format->read.ref);
    lua_newtable(L);
    luaL_register(L, NULL, inp);
    lua_pushstring(L, reading->written_by);
    lua_setfield(L, -2, "format");
    lua_pushnumber(L, reading->version);
    lua_setfield(L, -2, "version");
    format_guard(L, "inp", "format version read lines unpack");
    lua_newtable(L);
    push_db(L, reading->maps);
    lua_setfield(L, -2, "db");
    lua_pushcfunction(L, new_map);
    lua_setfield(L, -2, "map");
    format_guard(L, "ctx", "db map");
    lua_call(L, 2, 2);
    budget_rethrow(L);
    format_check_result(L, "read", true);
    return 0;
}

enum status format_read(struct format *format, const struct format_reading *reading, struct buffer *why)
{
    format->reading = reading;
    buffer_clear(&format->input);
    format->at = 0;
    format->input_ended = false;
    enum status status = format_run(format, &format->read, &reading->entry, &reading->limits, why);
    format->reading = NULL;
    return status;
}
