/* script/args.c - see script/args.h. */
#include "script/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/args_private.h"
#include "script/budget.h"
#include "script/convert.h"
#include "script/json.h"
#include "script/value.h"
#include "wire/pack.h"

enum { WHY_BYTES = 256 };

static const char *const type_names[ARG_TYPES] = {"any", "text", "int", "number", "bool", "ms", "flag", "json"};

void args_free(struct args *args)
{
    if (args == NULL)
        return;
    for (size_t i = 0; i < args->count; i++)
        buffer_close(&args->list[i].standard);
    mem_free(args);
}

/* --- parsing ------------------------------------------------------------------------------------------------------------ */

static bool say(struct buffer *why, struct slice word, const char *what)
{
    char line[WHY_BYTES];
    int size = snprintf(line, sizeof line, "args: \"%.*s\": %s", (int)(word.size < 64 ? word.size : 64),
                        (const char *)word.data, what);
    buffer_append(why, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    return false;
}

static bool parse_type(struct arg *arg, struct slice text)
{
    for (int type = 0; type < ARG_TYPES; type++) {
        if (slice_equal(text, slice_text(type_names[type]))) {
            arg->type = (enum arg_type)type;
            return true;
        }
    }
    return false;
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || c == '_' || (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return name.size > 0 && name.size < ARG_NAME_BYTES;
}

/* The default must be what the type says. */
static const char *check_default(const struct arg *arg)
{
    struct pack_item item;
    struct pack_reader reader = pack_reader_make(buffer_slice(&arg->standard));
    double number = 0;
    bool boolean = false;
    const char *why = NULL;
    struct buffer value = {0};
    CHECK(pack_read(&reader, &item) == STATUS_OK);
    switch (arg->type) {
    case ARG_INT:
        return convert_int(&item, &number);
    case ARG_NUMBER:
        return convert_number(&item, &number);
    case ARG_MS:
        return convert_ms(&item, &number);
    case ARG_BOOL:
    case ARG_FLAG:
        return convert_boolean(&item, arg->type == ARG_FLAG ? arg->name : NULL, &boolean);
    case ARG_JSON:
        why = json_to_pack(item.bytes, &value);
        buffer_close(&value);
        return why;
    default:
        return NULL;
    }
}

/* Where a word stands among the others. */
static const char *check_place(const struct args *args, const struct arg *arg)
{
    for (const struct arg *other = args->list; other < arg; other++) {
        if (strcmp(other->name, arg->name) == 0)
            return "there is an argument of that name already";
        if (other->rest)
            return "nothing can follow NAME...";
        if (other->optional && !arg->optional && !arg->rest)
            return "a required argument cannot follow an optional one";
    }
    return NULL;
}

/* One word: name[:type][=default], in brackets or with dots. */
static bool parse_word(struct arg *arg, struct slice word, struct buffer *why)
{
    struct slice rest = word;
    if (rest.data[0] == '[') {
        if (rest.data[rest.size - 1] != ']')
            return say(why, word, "a bracket is not closed");
        arg->optional = true;
        rest = slice_make(rest.data + 1, rest.size - 2);
    }
    if (rest.size > 3 && memcmp(rest.data + rest.size - 3, "...", 3) == 0) {
        if (memchr(rest.data, '=', rest.size) != NULL)
            return say(why, word, "NAME... has no default");
        arg->rest = true;
        arg->type = ARG_ANY;
        rest.size -= 3;
    } else {
        arg->type = ARG_TEXT;
    }
    const uint8_t *equals = memchr(rest.data, '=', rest.size);
    if (equals != NULL) {
        arg->has_default = true;
        pack_text(&arg->standard, slice_make(equals + 1, rest.size - (size_t)(equals + 1 - rest.data)));
        rest.size = (size_t)(equals - rest.data);
    }
    const uint8_t *colon = memchr(rest.data, ':', rest.size);
    if (colon != NULL) {
        if (!parse_type(arg, slice_make(colon + 1, rest.size - (size_t)(colon + 1 - rest.data))))
            return say(why, word, "the types are any text int number bool ms flag json");
        rest.size = (size_t)(colon - rest.data);
    }
    if (!is_name(rest))
        return say(why, word, "a name is made of a-z, 0-9 and _");
    memcpy(arg->name, rest.data, rest.size);
    arg->optional = arg->optional || arg->has_default || arg->type == ARG_FLAG;
    const char *wrong_default = arg->has_default ? check_default(arg) : NULL;
    if (wrong_default != NULL) {
        char what[128];
        snprintf(what, sizeof what, "the default %s", wrong_default);
        return say(why, word, what);
    }
    return true;
}

enum status args_parse(struct slice text, struct args **parsed, struct buffer *why)
{
    struct args *args = mem_zalloc(1, sizeof *args);
    bool good = true;
    size_t at = 0;
    while (good && at < text.size) {
        if (text.data[at] == ' ') {
            at++;
            continue;
        }
        size_t end = at;
        while (end < text.size && text.data[end] != ' ')
            end++;
        struct slice word = slice_make(text.data + at, end - at);
        if (args->count == ARGS_MAX)
            good = say(why, word, "too many arguments");
        else
            good = parse_word(&args->list[args->count++], word, why);
        const char *misplaced = good ? check_place(args, &args->list[args->count - 1]) : NULL;
        if (misplaced != NULL)
            good = say(why, word, misplaced);
        at = end;
    }
    if (!good) {
        args_free(args);
        return STATUS_INVALID;
    }
    *parsed = args;
    return STATUS_OK;
}

/* --- converting ----------------------------------------------------------------------------------------------------------- */

static bool wrong(char *why, const struct arg *arg, const char *what)
{
    snprintf(why, WHY_BYTES, "argument '%s': %s", arg->name, what);
    return false;
}

static bool push_text(lua_State *L, const struct arg *arg, const struct pack_item *item, char *why)
{
    char text[64];
    switch (item->type) {
    case PACK_STR:
    case PACK_BIN:
        lua_pushlstring(L, (const char *)item->bytes.data, item->bytes.size);
        return true;
    case PACK_BOOLEAN:
        lua_pushstring(L, item->boolean ? "true" : "false");
        return true;
    case PACK_INT:
        snprintf(text, sizeof text, "%lld", (long long)item->integer);
        break;
    case PACK_FLOAT:
        snprintf(text, sizeof text, "%.15g", item->number);
        if (strtod(text, NULL) != item->number)
            snprintf(text, sizeof text, "%.17g", item->number);
        break;
    default:
        return wrong(why, arg, "must be text");
    }
    lua_pushstring(L, text);
    return true;
}

/* Text is parsed as JSON. */
static bool push_json(lua_State *L, const struct arg *arg, struct slice text, char *why)
{
    budget_charge(L, text.size / 4);
    struct buffer value = {0};
    const char *reason = json_to_pack(text, &value);
    if (reason == NULL)
        lua_pushlstring(L, (const char *)value.data, value.size); /* kept by Lua, whatever is raised below */
    buffer_close(&value);
    if (reason != NULL)
        return wrong(why, arg, reason);
    struct slice bytes;
    bytes.data = (const uint8_t *)lua_tolstring(L, -1, &bytes.size);
    if (!value_push(L, bytes, &reason)) {
        lua_pop(L, 1);
        return wrong(why, arg, reason);
    }
    lua_remove(L, -2);
    return true;
}

/* Pushes one argument, converted. */
static bool push_one(lua_State *L, const struct arg *arg, struct slice value, char *why)
{
    struct pack_item item;
    struct pack_reader reader = pack_reader_make(value);
    double number = 0;
    bool boolean = false;
    const char *reason = NULL;
    if (pack_read(&reader, &item) != STATUS_OK)
        return wrong(why, arg, "is no value");
    switch (arg->type) {
    case ARG_TEXT:
        return push_text(L, arg, &item, why);
    case ARG_INT:
        reason = convert_int(&item, &number);
        break;
    case ARG_NUMBER:
        reason = convert_number(&item, &number);
        break;
    case ARG_MS:
        reason = convert_ms(&item, &number);
        break;
    case ARG_BOOL:
    case ARG_FLAG:
        reason = convert_boolean(&item, arg->type == ARG_FLAG ? arg->name : NULL, &boolean);
        if (reason == NULL)
            lua_pushboolean(L, boolean);
        return reason == NULL || wrong(why, arg, reason);
    case ARG_JSON:
        if (item.type == PACK_STR || item.type == PACK_BIN)
            return push_json(L, arg, item.bytes, why);
        return value_push(L, value, &reason) || wrong(why, arg, reason);
    default:
        return value_push(L, value, &reason) || wrong(why, arg, reason);
    }
    if (reason == NULL)
        lua_pushnumber(L, number);
    return reason == NULL || wrong(why, arg, reason);
}

static bool is_nil(struct slice value)
{
    return value.size == 1 && value.data[0] == 0xC0;
}

/* Finds the value of `name` in the trailing map of options. */
static bool find_option(struct slice options, const char *name, struct slice *value)
{
    struct pack_reader reader = pack_reader_make(options);
    uint32_t pairs = 0;
    struct slice key;
    if (options.size == 0 || pack_read_map(&reader, &pairs) != STATUS_OK)
        return false;
    for (uint32_t i = 0; i < pairs; i++) {
        if (pack_read_text(&reader, &key) != STATUS_OK ||
            pack_skip(&reader, PACK_DEPTH_MAX - 2, value) != STATUS_OK)
            return false;
        if (slice_equal(key, slice_text(name)))
            return true;
    }
    return false;
}

/* Every option must be one of the declared names. */
static bool options_known(const struct args *args, struct slice options, char *why)
{
    struct pack_reader reader = pack_reader_make(options);
    uint32_t pairs = 0;
    struct slice key;
    if (options.size == 0)
        return true;
    CHECK(pack_read_map(&reader, &pairs) == STATUS_OK);
    for (uint32_t i = 0; i < pairs; i++) {
        bool known = false;
        if (pack_read_text(&reader, &key) != STATUS_OK ||
            pack_skip(&reader, PACK_DEPTH_MAX - 2, NULL) != STATUS_OK) {
            snprintf(why, WHY_BYTES, "the names of options must be text");
            return false;
        }
        for (size_t at = 0; at < args->count; at++)
            known = known || slice_equal(key, slice_text(args->list[at].name));
        if (!known) {
            snprintf(why, WHY_BYTES, "there is no argument '%.*s'", (int)(key.size < 64 ? key.size : 64),
                     (const char *)key.data);
            return false;
        }
    }
    return true;
}

static bool is_map(struct slice value)
{
    return value.size > 0 && ((value.data[0] & 0xF0) == 0x80 || value.data[0] == 0xDE || value.data[0] == 0xDF);
}

/* A map at the end, where no map can be meant, holds arguments by name. */
static bool holds_options(const struct args *args, uint32_t count, struct slice last)
{
    if (count == 0 || !is_map(last))
        return false;
    const struct arg *place = count <= args->count ? &args->list[count - 1] : NULL;
    if (place == NULL && (args->count == 0 || !args->list[args->count - 1].rest))
        return true;
    place = place != NULL ? place : &args->list[args->count - 1];
    return place->type != ARG_ANY && place->type != ARG_JSON;
}

static int push_raw(lua_State *L, struct pack_reader *reader, uint32_t count, char *why)
{
    int top = lua_gettop(L);
    uint32_t meant = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice value;
        const char *reason = NULL;
        if (pack_skip(reader, PACK_DEPTH_MAX - 1, &value) != STATUS_OK || !value_push(L, value, &reason)) {
            snprintf(why, WHY_BYTES, "argument %u: %s", i + 1, reason != NULL ? reason : "is no value");
            lua_settop(L, top);
            return -1;
        }
        if (!lua_isnil(L, -1))
            meant = i + 1;
    }
    lua_settop(L, top + (int)meant); /* null at the end is nothing */
    return (int)meant;
}

/* The values of a call by place, and the options. */
struct given {
    struct slice values[ARGS_MAX * 8];
    uint32_t count;
    struct slice options;
};

static bool none_given_twice(const struct args *args, const struct given *given, char *why)
{
    struct slice value;
    for (size_t i = 0; i < args->count && i < given->count && given->options.size > 0; i++)
        if (!is_nil(given->values[i]) && find_option(given->options, args->list[i].name, &value) && !is_nil(value))
            return wrong(why, &args->list[i], "is given twice, by place and by name");
    return true;
}

static bool read_given(const struct args *args, struct pack_reader *reader, uint32_t count, struct given *given,
                       char *why)
{
    given->count = 0;
    given->options = (struct slice){0};
    if (count > ARGS_MAX * 8) {
        snprintf(why, WHY_BYTES, "too many arguments: %u", count);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        if (pack_skip(reader, PACK_DEPTH_MAX - 1, &given->values[i]) != STATUS_OK) {
            snprintf(why, WHY_BYTES, "argument %u: is no value", i + 1);
            return false;
        }
    while (count > 0 && is_nil(given->values[count - 1]))
        count--;
    if (count > 0 && holds_options(args, count, given->values[count - 1]))
        given->options = given->values[--count];
    given->count = count;
    bool open_end = args->count > 0 && args->list[args->count - 1].rest;
    if (count > args->count && !open_end) {
        snprintf(why, WHY_BYTES, "too many arguments: at most %zu", args->count);
        return false;
    }
    return options_known(args, given->options, why) && none_given_twice(args, given, why);
}

/* The rest by name is a list. */
static bool push_rest(lua_State *L, const struct arg *arg, struct slice list, char *why)
{
    struct pack_reader reader = pack_reader_make(list);
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK)
        return wrong(why, arg, "must be a list");
    if (count > ARGS_MAX * 8)
        return wrong(why, arg, "has too many elements");
    for (uint32_t i = 0; i < count; i++) {
        struct slice value;
        if (pack_skip(&reader, PACK_DEPTH_MAX - 2, &value) != STATUS_OK)
            return wrong(why, arg, "is no value");
        if (!push_one(L, arg, value, why))
            return false;
    }
    return true;
}

/* Pushes what is given for one argument, by place or by name, or its default, or nil. */
static bool push_given(lua_State *L, const struct args *args, size_t at, const struct given *given, char *why)
{
    const struct arg *arg = &args->list[at];
    struct slice value = {0};
    if (arg->rest) {
        for (size_t i = at; i < given->count; i++)
            if (!push_one(L, arg, given->values[i], why))
                return false;
        return !find_option(given->options, arg->name, &value) || is_nil(value) || push_rest(L, arg, value, why);
    }
    bool has = at < given->count && !is_nil(given->values[at]);
    if (has)
        value = given->values[at];
    else
        has = find_option(given->options, arg->name, &value) && !is_nil(value);
    if (has || arg->has_default)
        return push_one(L, arg, has ? value : buffer_slice(&arg->standard), why);
    if (!arg->optional)
        return wrong(why, arg, "is missing");
    lua_pushnil(L);
    return true;
}

int args_push(lua_State *L, const struct args *args, struct slice list, char *why)
{
    struct pack_reader reader = pack_reader_make(list);
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK) {
        snprintf(why, WHY_BYTES, "the arguments must be a list");
        return -1;
    }
    luaL_checkstack(L, ARGS_MAX * 9 + 8, "too many arguments");
    if (args == NULL) {
        if (count > 250) {
            snprintf(why, WHY_BYTES, "too many arguments: at most 250");
            return -1;
        }
        return push_raw(L, &reader, count, why);
    }
    struct given given;
    if (!read_given(args, &reader, count, &given, why))
        return -1;
    int top = lua_gettop(L);
    for (size_t i = 0; i < args->count; i++) {
        if (!push_given(L, args, i, &given, why)) {
            lua_settop(L, top);
            return -1;
        }
    }
    return lua_gettop(L) - top;
}
