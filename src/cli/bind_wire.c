/* cli/bind_wire.c - tidelock.wire: MessagePack and JSON. Bytes stay bytes until somebody wants a Lua value, so that what a
 * service answered is printed as it was. JSON is jansson's. See cli/bind.h. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "cli/bind.h"
#include "script/value.h"
#include "wire/error.h"
#include "wire/pack.h"

static struct slice check_slice(lua_State *L, int at)
{
    struct slice bytes;
    bytes.data = (const uint8_t *)luaL_checklstring(L, at, &bytes.size);
    return bytes;
}

static int push_buffer(lua_State *L, struct buffer *out)
{
    lua_pushlstring(L, (const char *)out->data, out->size);
    buffer_close(out);
    return 1;
}

static int fail(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* pack(value) -> bytes */
static int wire_pack(lua_State *L)
{
    struct buffer out = {0};
    luaL_checkany(L, 1);
    const char *why = value_pack(L, 1, &out);
    if (why == NULL)
        return push_buffer(L, &out);
    buffer_close(&out);
    return fail(L, why);
}

/* unpack(bytes) -> true, value; or nil, why */
static int wire_unpack(lua_State *L)
{
    const char *why = NULL;
    struct slice bytes = check_slice(L, 1);
    if (pack_check(bytes) != STATUS_OK)
        return fail(L, "not a MessagePack value");
    lua_pushboolean(L, 1);
    return value_push(L, bytes, &why) ? 2 : fail(L, why);
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------------- */

static bool json_to_pack(const json_t *json, struct buffer *out);

static bool object_to_pack(const json_t *json, struct buffer *out)
{
    const char *key = NULL;
    json_t *value = NULL;
    uint32_t count = 0;
    json_t *object = (json_t *)(uintptr_t)json;
    json_object_foreach(object, key, value) count += json_is_null(value) ? 0 : 1; /* null in a map is absent */
    pack_map(out, count);
    bool good = true;
    json_object_foreach(object, key, value)
    {
        if (json_is_null(value))
            continue;
        pack_text(out, slice_text(key));
        good = good && json_to_pack(value, out);
    }
    return good;
}

static bool json_to_pack(const json_t *json, struct buffer *out)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return object_to_pack(json, out);
    case JSON_ARRAY:
        pack_array(out, (uint32_t)json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++)
            if (!json_to_pack(json_array_get(json, i), out))
                return false;
        return true;
    case JSON_STRING:
        pack_text(out, slice_make(json_string_value(json), json_string_length(json)));
        return true;
    case JSON_INTEGER:
        pack_i64(out, json_integer_value(json));
        return true;
    case JSON_REAL:
        pack_number(out, json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        pack_boolean(out, json_is_true(json));
        return true;
    default:
        pack_nil(out);
        return true;
    }
}

/* json_pack(text) -> MessagePack bytes; or nil, why */
static int wire_json_pack(lua_State *L)
{
    json_error_t error;
    struct slice text = check_slice(L, 1);
    json_t *json = json_loadb((const char *)text.data, text.size,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        return fail(L, error.text);
    struct buffer out = {0};
    bool good = json_to_pack(json, &out);
    json_decref(json);
    if (good)
        return push_buffer(L, &out);
    buffer_close(&out);
    return fail(L, "not a value");
}

static json_t *base64_object(struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buffer out = {0};
    for (size_t i = 0; i < bytes.size; i += 3) {
        uint32_t left = (uint32_t)(bytes.size - i < 3 ? bytes.size - i : 3);
        uint32_t word = (uint32_t)bytes.data[i] << 16;
        word |= left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        word |= left > 2 ? bytes.data[i + 2] : 0;
        for (uint32_t digit = 0; digit < 4; digit++)
            buffer_append_byte(&out, digit <= left ? (uint8_t)digits[(word >> (18 - 6 * digit)) & 63] : '=');
    }
    json_t *object = json_object();
    json_object_set_new(object, "$base64", json_stringn((const char *)out.data, out.size));
    buffer_close(&out);
    return object;
}

static json_t *pack_to_json(struct pack_reader *reader)
{
    struct pack_item item;
    if (pack_read(reader, &item) != STATUS_OK)
        return NULL;
    json_t *made = NULL;
    switch (item.type) {
    case PACK_NIL:
        return json_null();
    case PACK_BOOLEAN:
        return json_boolean(item.boolean);
    case PACK_INT:
        return json_integer(item.integer);
    case PACK_UINT:
        return json_real((double)item.natural);
    case PACK_FLOAT:
        return json_real(item.number);
    case PACK_STR:
        made = json_stringn((const char *)item.bytes.data, item.bytes.size);
        return made != NULL ? made : base64_object(item.bytes);
    case PACK_BIN:
        return base64_object(item.bytes);
    case PACK_ARRAY:
        made = json_array();
        for (uint32_t i = 0; i < item.count; i++)
            if (json_array_append_new(made, pack_to_json(reader)) != 0)
                return NULL;
        return made;
    default:
        made = json_object();
        for (uint32_t i = 0; i < item.count; i++) {
            struct slice key;
            char text[1024];
            if (pack_read_text(reader, &key) != STATUS_OK)
                return NULL;
            snprintf(text, sizeof text, "%.*s", (int)key.size, (const char *)key.data);
            json_object_set_new(made, text, pack_to_json(reader));
        }
        return made;
    }
}

/* pack_json(bytes) -> JSON text, keys sorted, one line */
static int wire_pack_json(lua_State *L)
{
    struct pack_reader reader = pack_reader_make(check_slice(L, 1));
    json_t *json = pack_to_json(&reader);
    char *text = json != NULL ? json_dumps(json, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL)
        return fail(L, "not a value");
    lua_pushstring(L, text);
    free(text);
    return 1;
}

/* --- MessagePack-RPC ------------------------------------------------------------------------------------------------------------------ */

/* request(id, name, packed args, packed options) -> bytes */
static int wire_request(lua_State *L)
{
    struct buffer out = {0};
    pack_array(&out, 5);
    pack_u64(&out, 0);
    pack_u64(&out, (uint64_t)luaL_checknumber(L, 1));
    pack_text(&out, check_slice(L, 2));
    struct slice args = check_slice(L, 3);
    struct slice options = check_slice(L, 4);
    buffer_append(&out, args.data, args.size);
    buffer_append(&out, options.data, options.size);
    return push_buffer(L, &out);
}

/* response(bytes) -> used, id, error bytes or nil, value bytes, index; nothing if it is not whole; nil, why if bad */
static int wire_response(lua_State *L)
{
    struct pack_reader whole = pack_reader_make(check_slice(L, 1));
    struct slice bytes;
    enum status status = pack_skip(&whole, PACK_DEPTH_MAX, &bytes);
    if (status == STATUS_INCOMPLETE)
        return 0;
    struct pack_reader reader = pack_reader_make(bytes);
    uint32_t count = 0;
    uint64_t type = 0;
    uint64_t id = 0;
    uint64_t index = 0;
    struct slice error;
    struct slice value;
    if (status != STATUS_OK || pack_read_array(&reader, &count) != STATUS_OK || count < 4 ||
        pack_read_u64(&reader, &type) != STATUS_OK || type != 1 || pack_read_u64(&reader, &id) != STATUS_OK ||
        pack_skip(&reader, PACK_DEPTH_MAX - 1, &error) != STATUS_OK ||
        pack_skip(&reader, PACK_DEPTH_MAX - 1, &value) != STATUS_OK ||
        (count > 4 && pack_read_u64(&reader, &index) != STATUS_OK))
        return fail(L, "not an answer");
    lua_pushnumber(L, (double)bytes.size);
    lua_pushnumber(L, (double)id);
    if (error.size == 1 && error.data[0] == 0xC0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)error.data, error.size);
    lua_pushlstring(L, (const char *)value.data, value.size);
    lua_pushnumber(L, (double)index);
    return 5;
}

/* error_row(code) -> definite, exit code; nothing for a service's own code */
static int wire_error_row(lua_State *L)
{
    size_t size = 0;
    const char *code = luaL_checklstring(L, 1, &size);
    const struct error_row *row = error_row_named(code, size);
    if (row == NULL)
        return 0;
    lua_pushboolean(L, row->definite);
    lua_pushinteger(L, row->exit_code);
    return 2;
}

int bind_wire(lua_State *L)
{
    static const luaL_Reg functions[] = {{"pack", wire_pack},           {"unpack", wire_unpack},
                                         {"json_pack", wire_json_pack}, {"pack_json", wire_pack_json},
                                         {"request", wire_request},     {"response", wire_response},
                                         {"error_row", wire_error_row}, {NULL, NULL}};
    value_setup(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
