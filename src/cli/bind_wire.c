/* cli/bind_wire.c - tidelock.wire: MessagePack and JSON. Bytes stay bytes until somebody wants a Lua value, so that what a
 * service answered is printed as it was. See cli/bind.h. */
#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "cli/bind.h"
#include "script/json.h"
#include "script/value.h"
#include "wire/error.h"
#include "wire/json.h"
#include "wire/message.h"
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

/* unpack_first(bytes) -> true, the first value of several, the bytes behind it; or nil, why */
static int wire_unpack_first(lua_State *L)
{
    const char *why = NULL;
    struct pack_reader reader = pack_reader_make(check_slice(L, 1));
    struct slice first;
    if (pack_skip(&reader, PACK_DEPTH_MAX, &first) != STATUS_OK)
        return fail(L, "not a MessagePack value");
    lua_pushboolean(L, 1);
    if (!value_push(L, first, &why))
        return fail(L, why);
    lua_pushlstring(L, (const char *)pack_rest(&reader).data, pack_rest(&reader).size);
    return 3;
}

/* parts(bytes of a list) -> the bytes of its elements; or nil, why */
static int wire_parts(lua_State *L)
{
    struct pack_reader reader = pack_reader_make(check_slice(L, 1));
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK)
        return fail(L, "not a list");
    lua_newtable(L);
    for (uint32_t i = 0; i < count; i++) {
        struct slice part;
        if (pack_skip(&reader, PACK_DEPTH_MAX, &part) != STATUS_OK)
            return fail(L, "not a list");
        lua_pushlstring(L, (const char *)part.data, part.size);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------------- */

/* json_pack(text) -> MessagePack bytes; or nil, why ("must be JSON: ...") */
static int wire_json_pack(lua_State *L)
{
    struct buffer out = {0};
    const char *why = json_to_pack(check_slice(L, 1), &out);
    if (why == NULL)
        return push_buffer(L, &out);
    buffer_close(&out);
    return fail(L, why);
}

/* pack_json(bytes) -> JSON text, one line; or nil, why */
static int wire_pack_json(lua_State *L)
{
    struct buffer out = {0};
    if (json_write(&out, check_slice(L, 1)) == STATUS_OK)
        return push_buffer(L, &out);
    buffer_close(&out);
    return fail(L, "not a MessagePack value");
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

/* What a server says unasked, [2, method, params]: -> used, method, nil, params bytes */
static int notification(lua_State *L, struct pack_reader *reader, uint32_t count, size_t used)
{
    struct slice method;
    struct slice params;
    if (count != 3 || pack_read_text(reader, &method) != STATUS_OK ||
        pack_skip(reader, PACK_DEPTH_MAX, &params) != STATUS_OK)
        return fail(L, "not an answer");
    lua_pushnumber(L, (double)used);
    lua_pushlstring(L, (const char *)method.data, method.size);
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)params.data, params.size);
    return 4;
}

/* response(bytes) -> used, id, error bytes or nil, value bytes, index; or of a notification used, method, nil, params bytes; nothing
 * if it is not whole; nil, why if bad */
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
    if (status != STATUS_OK || pack_read_array(&reader, &count) != STATUS_OK ||
        pack_read_u64(&reader, &type) != STATUS_OK)
        return fail(L, "not an answer");
    if (type == 2)
        return notification(L, &reader, count, bytes.size);
    if (count < 4 || type != 1 || pack_read_u64(&reader, &id) != STATUS_OK ||
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

/* link_frame(bytes) -> size, "hello" | "raft" | "other", who sent it (of a hello); nil: more bytes are needed; false: no frame */
static int wire_link_frame(lua_State *L)
{
    struct message message;
    size_t used = 0;
    enum status status = message_decode(check_slice(L, 1), &message, &used);
    if (status == STATUS_INCOMPLETE)
        return 0;
    if (status != STATUS_OK) {
        lua_pushboolean(L, 0);
        return 1;
    }
    bool hello = message.type == MESSAGE_HELLO;
    lua_pushnumber(L, (double)used);
    lua_pushstring(L, hello ? "hello" : message.type == MESSAGE_RAFT ? "raft" : "other");
    lua_pushnumber(L, hello ? (double)message.hello.from : 0);
    return 3;
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
    static const luaL_Reg functions[] = {{"pack", wire_pack},
                                         {"unpack", wire_unpack},
                                         {"unpack_first", wire_unpack_first},
                                         {"parts", wire_parts},
                                         {"json_pack", wire_json_pack},
                                         {"pack_json", wire_pack_json},
                                         {"request", wire_request},
                                         {"response", wire_response},
                                         {"error_row", wire_error_row},
                                         {"link_frame", wire_link_frame},
                                         {NULL, NULL}};
    value_setup(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
