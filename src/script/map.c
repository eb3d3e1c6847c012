/* script/map.c - ctx.db's maps over the tree (CONTRACT.md §1 "ctx and maps"). Private to script/.
 *
 * A map is a userdata that knows its number; its rows are the tree's, under that number and the encoded key. Each
 * operation charges the budget by the bytes it touches. A query's call may not write.
 */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "state/key.h"

static const char map_type[] = "tidelock.map";
static const char loop_type[] = "tidelock.loop";

enum { CHARGE_ROW = 10, CHARGE_BYTES = 16, NUMBER_BYTES = 4 };

struct map {
    uint32_t number;
    char name[64];
};

static struct map *check_map(lua_State *L)
{
    struct map *map = lua_touserdata(L, 1);
    if (map == NULL || lua_gettop(L) < 1)
        luaL_error(L, "call it as map:put(...), with a colon");
    return luaL_checkudata(L, 1, map_type);
}

static struct vm *check_running(lua_State *L)
{
    struct vm *vm = vm_of(L);
    if (!vm->running || vm->calls_open == 0)
        luaL_error(L, "a map is used outside of a command or query");
    return vm;
}

static struct vm *check_writable(lua_State *L, const char *what)
{
    struct vm *vm = check_running(L);
    if (vm->querying)
        luaL_error(L, "map:%s: a query does not write; make it a command", what);
    return vm;
}

static void charge(lua_State *L, size_t bytes)
{
    budget_charge(L, CHARGE_ROW + bytes / CHARGE_BYTES);
}

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

static void append_element(lua_State *L, int at, struct buffer *key, bool open_text)
{
    struct slice text;
    double number = 0;
    switch (lua_type(L, at)) {
    case LUA_TBOOLEAN:
        key_append_boolean(key, lua_toboolean(L, at) != 0);
        break;
    case LUA_TNUMBER:
        number = lua_tonumber(L, at);
        if (!isfinite(number))
            luaL_error(L, "a key must be finite");
        key_append_number(key, number);
        break;
    case LUA_TSTRING:
        text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
        if (text.size > 2 * KEY_BYTES_MAX)
            luaL_error(L, "TOO_LARGE: a key of %d bytes", (int)text.size);
        if (open_text)
            key_append_text_prefix(key, text);
        else
            key_append_text(key, text);
        break;
    default:
        luaL_error(L, "a key is text, a finite number, a boolean, or a list of 1..16 of those, not a %s",
                   lua_typename(L, lua_type(L, at)));
    }
}

static void begin_key(struct buffer *key, uint32_t number)
{
    buffer_clear(key);
    uint8_t head[NUMBER_BYTES] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                                  (uint8_t)number};
    buffer_append(key, head, sizeof head);
}

static void append_list(lua_State *L, int at, struct buffer *key)
{
    size_t count = lua_objlen(L, at);
    if (count < 1 || count > KEY_ELEMENTS_MAX)
        luaL_error(L, "a key's list has 1 to 16 elements");
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, at, (int)i);
        append_element(L, lua_gettop(L), key, false);
        lua_pop(L, 1);
    }
}

/* Encodes the key at `at` behind the map's number. */
static struct slice make_key(lua_State *L, struct vm *vm, const struct map *map, int at)
{
    begin_key(&vm->key, map->number);
    if (lua_type(L, at) == LUA_TTABLE)
        append_list(L, at, &vm->key);
    else
        append_element(L, at, &vm->key, false);
    if (vm->key.size - NUMBER_BYTES > vm->limits.key_bytes)
        luaL_error(L, "TOO_LARGE: a key of more than %d bytes", (int)vm->limits.key_bytes);
    return buffer_slice(&vm->key);
}

/* The bounds of a prefix: nil: the whole map; a list: its elements whole; text: what begins so. */
static void prefix_bounds(lua_State *L, const struct map *map, int at, struct buffer *lo, struct buffer *hi)
{
    begin_key(lo, map->number);
    if (lua_type(L, at) == LUA_TTABLE)
        append_list(L, at, lo);
    else if (!lua_isnoneornil(L, at))
        append_element(L, at, lo, true);
    buffer_clear(hi);
    buffer_append(hi, lo->data, lo->size);
    key_after_prefix(hi);
}

/* Pushes a key: one element as itself, more as a list. */
static void push_key(lua_State *L, struct slice key)
{
    struct key_reader reader = {.rest = slice_make(key.data + NUMBER_BYTES, key.size - NUMBER_BYTES)};
    struct key_element element;
    int count = 0;
    int top = lua_gettop(L);
    while (key_read(&reader, &element) == STATUS_OK) {
        if (element.type == KEY_NUMBER)
            lua_pushnumber(L, element.number);
        else if (element.type == KEY_TEXT)
            lua_pushlstring(L, (const char *)element.text.data, element.text.size);
        else
            lua_pushboolean(L, element.type == KEY_TRUE);
        if (++count == 1)
            continue;
        if (count == 2) {
            lua_createtable(L, 4, 0);
            lua_insert(L, top + 1);
            lua_insert(L, top + 2); /* table, second, first */
            lua_rawseti(L, top + 1, 1);
        }
        lua_rawseti(L, top + 1, count);
    }
    buffer_close(&reader.scratch);
}

static void push_value(lua_State *L, struct slice value)
{
    const char *why = NULL;
    CHECK(value_push(L, value, &why));
}

/* --- one row ---------------------------------------------------------------------------------------------------------------- */

static int map_get(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_running(L);
    struct slice value;
    if (!tree_get(vm->tree, make_key(L, vm, map, 2), &value)) {
        charge(L, 0);
        lua_pushnil(L);
        return 1;
    }
    charge(L, value.size);
    push_value(L, value);
    return 1;
}

static int map_has(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_running(L);
    struct slice value;
    charge(L, 0);
    lua_pushboolean(L, tree_get(vm->tree, make_key(L, vm, map, 2), &value));
    return 1;
}

/* Puts the value at `at` under the key that is made. */
static void put_value(lua_State *L, struct vm *vm, int at)
{
    if (lua_isnoneornil(L, at))
        luaL_error(L, "map:put: nil is no value; map:del removes a row");
    buffer_clear(&vm->value);
    const char *why = value_pack(L, at, &vm->value);
    if (why != NULL)
        luaL_error(L, "map:put: %s", why);
    if (vm->value.size > vm->limits.row_bytes)
        luaL_error(L, "TOO_LARGE: a row of %d bytes", (int)vm->value.size);
    charge(L, vm->key.size + vm->value.size);
    (void)tree_put(vm->tree, buffer_slice(&vm->key), buffer_slice(&vm->value));
}

static int map_put(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "put");
    if (lua_gettop(L) > 3)
        luaL_error(L, "map:put takes a key and a value");
    make_key(L, vm, map, 2);
    put_value(L, vm, 3);
    return 0;
}

static int map_del(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "del");
    charge(L, 0);
    lua_pushboolean(L, tree_del(vm->tree, make_key(L, vm, map, 2)));
    return 1;
}

static int map_take(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "take");
    struct slice value;
    struct slice key = make_key(L, vm, map, 2);
    if (!tree_get(vm->tree, key, &value)) {
        charge(L, 0);
        lua_pushnil(L);
        return 1;
    }
    charge(L, value.size);
    push_value(L, value);
    (void)tree_del(vm->tree, key);
    return 1;
}

static int map_add(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "add");
    double n = luaL_checknumber(L, 3);
    struct slice value;
    if (tree_get(vm->tree, make_key(L, vm, map, 2), &value)) {
        push_value(L, value);
        if (lua_type(L, -1) != LUA_TNUMBER)
            luaL_error(L, "map:add: the row is a %s, not a number", lua_typename(L, lua_type(L, -1)));
        n += lua_tonumber(L, -1);
    }
    lua_pushnumber(L, n);
    put_value(L, vm, lua_gettop(L));
    return 1;
}

static int map_update(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "update");
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 3);
    struct slice value;
    lua_pushvalue(L, 3);
    if (tree_get(vm->tree, make_key(L, vm, map, 2), &value))
        push_value(L, value);
    else
        lua_pushnil(L);
    lua_call(L, 1, 1);
    struct slice key = make_key(L, vm, map, 2); /* the function may have used the scratch */
    if (lua_isnil(L, 4))
        (void)tree_del(vm->tree, key);
    else
        put_value(L, vm, 4);
    return 1;
}

/* --- many rows ---------------------------------------------------------------------------------------------------------------- */

static int map_clear(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_writable(L, "clear");
    struct buffer lo = {0};
    struct buffer hi = {0};
    prefix_bounds(L, map, 2, &lo, &hi);
    uint64_t count = tree_count(vm->tree, buffer_slice(&lo), buffer_slice(&hi));
    bool enough = vm_of(L)->budget.left > (int64_t)(count * CHARGE_ROW);
    struct tree_cursor *cursor =
        enough ? tree_cursor_open(vm->tree, buffer_slice(&lo), buffer_slice(&hi), false) : NULL;
    buffer_close(&lo);
    buffer_close(&hi);
    struct slice key;
    struct slice value;
    while (enough && tree_cursor_next(cursor, &key, &value))
        (void)tree_del(vm->tree, key);
    if (enough)
        tree_cursor_close(cursor);
    budget_charge(L, count * CHARGE_ROW + CHARGE_ROW);
    lua_pushnumber(L, (double)count);
    return 1;
}

static int map_len(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_running(L);
    struct buffer hi = {0};
    prefix_bounds(L, map, 2, &vm->key, &hi);
    uint64_t count = tree_count(vm->tree, buffer_slice(&vm->key), buffer_slice(&hi));
    buffer_close(&hi);
    charge(L, 0);
    lua_pushnumber(L, (double)count);
    return 1;
}

/* A loop over rows. Open ones are chained in the vm, so that none outlives its entry, or the savepoint it began in. */
struct map_loop {
    struct tree_cursor *cursor; /* NULL: over */
    uint64_t left;
    tree_mark opened;
    struct map_loop *next;
    struct map_loop *previous;
};

static void loop_close(struct vm *vm, struct map_loop *loop)
{
    if (loop->cursor == NULL)
        return;
    tree_cursor_close(loop->cursor);
    loop->cursor = NULL;
    if (loop->previous != NULL)
        loop->previous->next = loop->next;
    else
        vm->loops = loop->next;
    if (loop->next != NULL)
        loop->next->previous = loop->previous;
}

void map_close_loops(struct vm *vm, tree_mark mark, bool all)
{
    struct map_loop *next = NULL;
    for (struct map_loop *loop = vm->loops; loop != NULL; loop = next) {
        next = loop->next;
        if (all || loop->opened > mark)
            loop_close(vm, loop);
    }
}

static int loop_gc(lua_State *L)
{
    loop_close(vm_of(L), lua_touserdata(L, 1));
    return 0;
}

static int loop_next(lua_State *L)
{
    struct map_loop *loop = lua_touserdata(L, lua_upvalueindex(1));
    struct slice key;
    struct slice value;
    struct vm *vm = check_running(L);
    if (loop->cursor == NULL || loop->left == 0 || !tree_cursor_next(loop->cursor, &key, &value)) {
        loop_close(vm, loop);
        lua_pushnil(L);
        return 1;
    }
    loop->left--;
    charge(L, key.size + value.size);
    push_key(L, key);
    push_value(L, value);
    return 2;
}

/* Reads opts at `at`: { limit = n, reverse = bool, after = key }, and narrows the bounds. */
static uint64_t read_options(lua_State *L, const struct map *map, int at, struct buffer *lo, struct buffer *hi,
                             bool *reverse)
{
    uint64_t limit = UINT64_MAX;
    *reverse = false;
    if (lua_isnoneornil(L, at))
        return limit;
    luaL_checktype(L, at, LUA_TTABLE);
    lua_getfield(L, at, "limit");
    if (!lua_isnil(L, -1)) {
        double n = luaL_checknumber(L, -1);
        limit = n >= 0 && n < 1e15 ? (uint64_t)n : (uint64_t)luaL_error(L, "limit must be a number from 0");
    }
    lua_getfield(L, at, "reverse");
    *reverse = lua_toboolean(L, -1) != 0;
    lua_getfield(L, at, "after");
    if (!lua_isnil(L, -1)) {
        struct vm *vm = vm_of(L);
        struct slice after = make_key(L, vm, map, lua_gettop(L));
        if (*reverse) {
            if (slice_compare(after, buffer_slice(hi)) < 0) {
                buffer_clear(hi);
                buffer_append(hi, after.data, after.size);
            }
        } else if (slice_compare(after, buffer_slice(lo)) >= 0) {
            buffer_clear(lo);
            buffer_append(lo, after.data, after.size);
            buffer_append_byte(lo, 0); /* the smallest key above it */
        }
    }
    lua_pop(L, 3);
    return limit;
}

/* Scratch for bounds that survives a Lua error: one pair a vm would be shared by nested loops, so it is a userdata. */
static struct buffer *push_bounds(lua_State *L)
{
    struct buffer *pair = lua_newuserdata(L, 2 * sizeof *pair);
    memset(pair, 0, 2 * sizeof *pair);
    luaL_getmetatable(L, "tidelock.bounds");
    lua_setmetatable(L, -2);
    return pair;
}

static int bounds_gc(lua_State *L)
{
    struct buffer *pair = lua_touserdata(L, 1);
    buffer_close(&pair[0]);
    buffer_close(&pair[1]);
    return 0;
}

static int start_loop(lua_State *L, const struct map *map, struct buffer *bounds, int options)
{
    struct vm *vm = vm_of(L);
    bool reverse = false;
    uint64_t limit = read_options(L, map, options, &bounds[0], &bounds[1], &reverse);
    struct map_loop *loop = lua_newuserdata(L, sizeof *loop);
    *loop = (struct map_loop){.left = limit, .opened = tree_savepoint(vm->tree)};
    luaL_getmetatable(L, loop_type);
    lua_setmetatable(L, -2);
    if (slice_compare(buffer_slice(&bounds[0]), buffer_slice(&bounds[1])) < 0)
        loop->cursor = tree_cursor_open(vm->tree, buffer_slice(&bounds[0]), buffer_slice(&bounds[1]), reverse);
    if (loop->cursor != NULL) {
        loop->next = vm->loops;
        if (loop->next != NULL)
            loop->next->previous = loop;
        vm->loops = loop;
    }
    charge(L, 0);
    lua_pushcclosure(L, loop_next, 1);
    return 1;
}

static int map_pairs(lua_State *L)
{
    const struct map *map = check_map(L);
    check_running(L);
    lua_settop(L, 3);
    struct buffer *bounds = push_bounds(L);
    prefix_bounds(L, map, 2, &bounds[0], &bounds[1]);
    return start_loop(L, map, bounds, 3);
}

static int map_range(lua_State *L)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_running(L);
    lua_settop(L, 4);
    struct buffer *bounds = push_bounds(L);
    begin_key(&bounds[0], map->number);
    buffer_append(&bounds[1], bounds[0].data, bounds[0].size);
    key_after_prefix(&bounds[1]);
    for (int i = 0; i < 2; i++) {
        if (lua_isnil(L, 2 + i))
            continue;
        struct slice key = make_key(L, vm, map, 2 + i);
        buffer_clear(&bounds[i]);
        buffer_append(&bounds[i], key.data, key.size);
    }
    return start_loop(L, map, bounds, 4);
}

static int one_end(lua_State *L, bool reverse)
{
    const struct map *map = check_map(L);
    struct vm *vm = check_running(L);
    lua_settop(L, 2);
    struct buffer *bounds = push_bounds(L);
    prefix_bounds(L, map, 2, &bounds[0], &bounds[1]);
    struct tree_cursor *cursor =
        tree_cursor_open(vm->tree, buffer_slice(&bounds[0]), buffer_slice(&bounds[1]), reverse);
    struct slice key;
    struct slice value;
    bool found = tree_cursor_next(cursor, &key, &value);
    tree_cursor_close(cursor); /* the row stays where it is in the tree */
    charge(L, found ? key.size + value.size : 0);
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    push_key(L, key);
    push_value(L, value);
    return 2;
}

static int map_first(lua_State *L)
{
    return one_end(L, false);
}

static int map_last(lua_State *L)
{
    return one_end(L, true);
}

static int map_new_field(lua_State *L)
{
    return luaL_error(L, "a map has no fields; use map:put(key, value)");
}

void map_setup(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"get", map_get},   {"has", map_has},       {"put", map_put},     {"del", map_del}, {"take", map_take},
        {"add", map_add},   {"update", map_update}, {"clear", map_clear}, {"len", map_len}, {"first", map_first},
        {"last", map_last}, {"pairs", map_pairs},   {"range", map_range}, {NULL, NULL}};
    luaL_newmetatable(L, map_type);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, map_new_field);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_newmetatable(L, loop_type);
    lua_pushcfunction(L, loop_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, "tidelock.bounds");
    lua_pushcfunction(L, bounds_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void map_push(lua_State *L, uint32_t number, const char *name)
{
    struct map *map = lua_newuserdata(L, sizeof *map);
    memset(map, 0, sizeof *map);
    map->number = number;
    strncpy(map->name, name, sizeof map->name - 1);
    luaL_getmetatable(L, map_type);
    lua_setmetatable(L, -2);
}
