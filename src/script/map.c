/* script/map.c - ctx.db's maps over the tree (CONTRACT.md §1 "ctx and maps"): keys, rows. Private to script/.
 *
 * A map is a userdata that knows its number; its rows are the tree's, under that number and the encoded key. Each
 * operation charges the budget by the bytes it touches. A query's call may not write. Errors begin with "rows:put: ".
 */
#include "script/map.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/mutant.h"
#include "script/due.h"
#include "script/fail.h"
#include "script/upgrade.h"
#include "script/value.h"
#include "state/key.h"
#include "wire/pack.h"

enum { READS = 0, WRITES = 1 };

int map_refuse(lua_State *L, const struct use *use, const char *format, ...)
{
    va_list list;
    luaL_where(L, 1);
    lua_pushfstring(L, "%s:%s: ", use->map->name, use->method);
    va_start(list, format);
    lua_pushvfstring(L, format, list);
    va_end(list);
    lua_concat(L, 3);
    return lua_error(L);
}

struct use map_use(lua_State *L, const char *method, bool writes, int arguments_max)
{
    struct use use = {.vm = vm_of(L), .map = lua_touserdata(L, 1), .method = method};
    bool good = use.map != NULL && lua_getmetatable(L, 1) && lua_rawequal(L, -1, lua_upvalueindex(1));
    if (!good)
        luaL_error(L, "call %s of a map with a colon: map:%s(...), not map.%s(...)", method, method, method);
    lua_pop(L, 1);
    if (!use.vm->running || use.vm->calls_open == 0)
        map_refuse(L, &use,
                   use.vm->policy ? "a map is used outside of observe, review and admit"
                                  : "a map is used outside of a command or query");
    if (use.vm->entry.client > 0)
        map_refuse(L, &use, "a workload sees no state: it has ctx.random, now and client");
    if (writes && use.vm->querying)
        map_refuse(L, &use,
                   use.vm->format != NULL ? "a view is frozen: write only reads it"
                                          : "a query does not write; make it a command");
    if (lua_gettop(L) - 1 > arguments_max)
        map_refuse(L, &use, "takes at most %d argument%s, got %d", arguments_max, arguments_max == 1 ? "" : "s",
                   lua_gettop(L) - 1);
    return use;
}

void map_charge(lua_State *L, size_t bytes)
{
    budget_charge(L, MAP_CHARGE_ROW + bytes / MAP_CHARGE_BYTES);
}

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

static void append_element(lua_State *L, const struct use *use, const char *what, int at, struct buffer *key,
                           bool open_text)
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
            map_refuse(L, use, "%s must be finite, got %s", what, lua_tostring(L, at));
        key_append_number(key, number);
        break;
    case LUA_TSTRING:
        text.data = (const uint8_t *)lua_tolstring(L, at, &text.size);
        if (text.size > 2 * KEY_BYTES_MAX)
            fail(L, "TOO_LARGE", "%s:%s: %s of %zu bytes", use->map->name, use->method, what, text.size);
        if (open_text)
            key_append_text_prefix(key, text);
        else
            key_append_text(key, text);
        break;
    default:
        map_refuse(L, use, "%s must be text, a finite number, a boolean, or a list of 1 to 16 of those, got %s",
                   what, lua_type(L, at) == LUA_TTABLE ? "a table inside it" : luaL_typename(L, at));
    }
}

static void begin_key(struct buffer *key, const struct map *map)
{
    buffer_clear(key);
    buffer_append(key, map->head, map->head_size);
}

/* A list with holes is refused: its length would depend on how it was made. */
static void append_list(lua_State *L, const struct use *use, const char *what, int at, struct buffer *key)
{
    int count = 0;
    for (lua_pushnil(L); count <= KEY_ELEMENTS_MAX && lua_next(L, at) != 0; lua_pop(L, 1))
        count++;
    if (count > KEY_ELEMENTS_MAX)
        lua_pop(L, 1);
    if (count < 1 || count > KEY_ELEMENTS_MAX)
        map_refuse(L, use, "%s: a list has 1 to 16 elements, got %s", what, count < 1 ? "an empty one" : "more");
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, at, i);
        if (lua_isnil(L, -1))
            map_refuse(L, use, "%s: a list has elements 1 to n, and nothing else", what);
        append_element(L, use, what, lua_gettop(L), key, false);
        lua_pop(L, 1);
    }
}

struct slice map_key(lua_State *L, const struct use *use, const char *what, int at)
{
    struct vm *vm = use->vm;
    begin_key(&vm->key, use->map);
    if (lua_type(L, at) == LUA_TTABLE)
        append_list(L, use, what, at, &vm->key);
    else
        append_element(L, use, what, at, &vm->key, false);
    if (vm->key.size - use->map->head_size > vm->limits.key_bytes)
        fail(L, "TOO_LARGE", "%s:%s: %s of more than %d bytes", use->map->name, use->method, what,
             (int)vm->limits.key_bytes);
    return buffer_slice(&vm->key);
}

void map_whole(const struct use *use, struct buffer *lo, struct buffer *hi)
{
    begin_key(lo, use->map);
    buffer_clear(hi);
    buffer_append(hi, lo->data, lo->size);
    key_after_prefix(hi);
}

void map_prefix(lua_State *L, const struct use *use, int at, struct buffer *lo, struct buffer *hi)
{
    begin_key(lo, use->map);
    if (lua_type(L, at) == LUA_TTABLE)
        append_list(L, use, "the prefix", at, lo);
    else if (!lua_isnoneornil(L, at))
        append_element(L, use, "the prefix", at, lo, true);
    buffer_clear(hi);
    buffer_append(hi, lo->data, lo->size);
    key_after_prefix(hi);
}

void map_push_key(lua_State *L, struct slice key, size_t head_size)
{
    struct key_reader reader = {.rest = slice_make(key.data + head_size, key.size - head_size)};
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

void map_pack_key(struct slice key, struct buffer *out)
{
    struct key_reader reader = {.rest = slice_make(key.data + MAP_NUMBER_BYTES, key.size - MAP_NUMBER_BYTES)};
    struct key_element element;
    struct buffer elements = {0};
    uint32_t count = 0;
    for (; key_read(&reader, &element) == STATUS_OK; count++) {
        if (element.type == KEY_NUMBER)
            pack_number(&elements, element.number);
        else if (element.type == KEY_TEXT)
            pack_text(&elements, element.text);
        else
            pack_boolean(&elements, element.type == KEY_TRUE);
    }
    if (count != 1)
        pack_array(out, count);
    buffer_append(out, elements.data, elements.size);
    buffer_close(&elements);
    buffer_close(&reader.scratch);
}

void map_push_value(lua_State *L, struct slice value)
{
    const char *why = NULL;
    CHECK(value_push(L, value, &why));
}

/* --- one row ---------------------------------------------------------------------------------------------------------------- */

static int map_get(lua_State *L)
{
    struct use use = map_use(L, "get", READS, 1);
    struct slice value;
    uint64_t deadline_ms = 0;
    struct slice key = map_key(L, &use, "the key", 2);
    if (!rows_get(&use.vm->rows, key, &value, &deadline_ms)) {
        map_charge(L, 0);
        lua_pushnil(L);
        return 1;
    }
    map_charge(L, value.size);
    upgrade_push_value(L, key, value);
    desk_give_copy(L, buffer_slice(&use.vm->key), use.map->name);
    return 1 + map_push_expires(L, use.vm, deadline_ms);
}

int map_push_expires(lua_State *L, const struct vm *vm, uint64_t deadline_ms)
{
    if (vm->format == NULL || deadline_ms == DUE_NEVER)
        return 0;
    lua_pushnumber(L, (double)deadline_ms);
    return 1;
}

static int map_has(lua_State *L)
{
    struct use use = map_use(L, "has", READS, 1);
    struct slice value;
    uint64_t deadline_ms = 0;
    map_charge(L, 0);
    lua_pushboolean(L, rows_get(&use.vm->rows, map_key(L, &use, "the key", 2), &value, &deadline_ms));
    return 1;
}

void map_pack_value(lua_State *L, const struct use *use, int at, uint64_t deadline_ms, uint64_t row_bytes)
{
    struct vm *vm = use->vm;
    buffer_clear(&vm->value);
    if (deadline_ms != DUE_NEVER)
        due_append_prefix(&vm->value, deadline_ms);
    upgrade_append_mark(vm, &vm->value);
    size_t start = vm->value.size;
    const char *why = value_pack(L, at, &vm->value);
    if (why != NULL)
        map_refuse(L, use, "%s", why);
    if (vm->format == NULL && upgrade_is_mark(slice_make(vm->value.data + start, vm->value.size - start)))
        map_refuse(L, use, "a list that begins with the text '\\1v' is the host's own mark");
    if (vm->value.size - start > row_bytes)
        fail(L, "TOO_LARGE", "%s:%s: a row of %zu bytes", use->map->name, use->method, vm->value.size - start);
    map_charge(L, vm->key.size + vm->value.size);
}

/* Removes the row under `key`, and what waits for it. True if it was there for the service. */
static bool remove_row(struct vm *vm, struct slice key)
{
    struct slice old;
    desk_note_write(vm, key);
    if (!tree_remove(vm->tree, key, &old))
        return false;
    struct slice value = old;
    uint64_t deadline_ms = due_split(&value);
    if (deadline_ms != DUE_NEVER && !MUTANT(156))
        due_forget_row(vm->tree, key, old, vm->entry.now_ms);
    return deadline_ms > vm->entry.now_ms;
}

/* Puts the value at `at` under the key that is made, to be there until `deadline_ms`; `in_place`: what waits for it goes on to. */
static void put_value(lua_State *L, const struct use *use, int at, uint64_t deadline_ms, bool in_place)
{
    struct vm *vm = use->vm;
    struct slice key = buffer_slice(&vm->key);
    struct slice old;
    map_pack_value(L, use, at, deadline_ms, vm->limits.row_bytes);
    desk_note_write(vm, key);
    tree_mark mark = tree_savepoint(vm->tree);
    uint64_t before = tree_bytes_apart(vm->tree);
    bool had = tree_replace(vm->tree, key, buffer_slice(&vm->value), &old);
    uint64_t after = tree_bytes_apart(vm->tree);
    if (vm->limits.quota > 0 && after > vm->limits.quota && after > before && !MUTANT(157)) {
        tree_rollback(vm->tree, mark);
        fail(L, "QUOTA", "%s:%s: the state has %.0f bytes, and with this row it would have %.0f; the quota is %.0f",
             use->map->name, use->method, (double)before, (double)after, (double)vm->limits.quota);
    }
    struct slice value = old;
    uint64_t old_ms = had ? due_split(&value) : DUE_NEVER;
    if (in_place && old_ms == deadline_ms)
        return;
    if (old_ms != DUE_NEVER && !MUTANT(156))
        due_forget_row(vm->tree, key, old, vm->entry.now_ms);
    if (deadline_ms != DUE_NEVER)
        due_arm_row(vm->tree, key, deadline_ms);
}

/* The deadline that the options at `at` ask for: { ttl = ms }. */
static uint64_t read_ttl(lua_State *L, const struct use *use, int at)
{
    if (lua_isnoneornil(L, at))
        return DUE_NEVER;
    if (use->vm->policy)
        map_refuse(L, use, "the memory of a policy keeps its rows until they are deleted: there is no ttl");
    double ms = map_only_option(L, use, at, "ttl");
    double deadline_ms = (double)use->vm->entry.now_ms + ms;
    if (!(ms >= 1 && ms == floor(ms) && deadline_ms < (double)DUE_TIME_MAX))
        map_refuse(L, use, "the option ttl must be a whole number of milliseconds from 1, got %s",
                   lua_tostring(L, -1));
    lua_pop(L, 1);
    map_charge(L, 16 * MAP_CHARGE_ROW); /* the rows that wait for it */
    return (uint64_t)deadline_ms;
}

double map_only_option(lua_State *L, const struct use *use, int at, const char *name)
{
    if (!lua_istable(L, at))
        map_refuse(L, use, "the options must be a table like { %s = 5000 }, got %s", name, luaL_typename(L, at));
    for (lua_pushnil(L); lua_next(L, at) != 0; lua_pop(L, 1))
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), name) != 0)
            map_refuse(L, use, "there is no option '%s'; there is %s",
                       lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2), name);
    lua_pushstring(L, name);
    lua_rawget(L, at);
    if (lua_type(L, -1) != LUA_TNUMBER)
        map_refuse(L, use, "the option %s must be a number of milliseconds, got %s", name, luaL_typename(L, -1));
    return lua_tonumber(L, -1);
}

static int map_put(lua_State *L)
{
    struct use use = map_use(L, "put", WRITES, 3);
    if (lua_isnoneornil(L, 3))
        map_refuse(L, &use, "the value must not be nil; del removes a row");
    uint64_t deadline_ms = read_ttl(L, &use, 4);
    map_key(L, &use, "the key", 2);
    put_value(L, &use, 3, deadline_ms, false);
    return 0;
}

static int map_del(lua_State *L)
{
    struct use use = map_use(L, "del", WRITES, 1);
    map_charge(L, 0);
    lua_pushboolean(L, remove_row(use.vm, map_key(L, &use, "the key", 2)));
    return 1;
}

static int map_take(lua_State *L)
{
    struct use use = map_use(L, "take", WRITES, 1);
    struct slice value;
    uint64_t deadline_ms = 0;
    struct slice key = map_key(L, &use, "the key", 2);
    if (!rows_get(&use.vm->rows, key, &value, &deadline_ms)) {
        map_charge(L, 0);
        lua_pushnil(L);
        return 1;
    }
    map_charge(L, value.size);
    upgrade_push_value(L, key, value);
    (void)remove_row(use.vm, map_key(L, &use, "the key", 2)); /* the scratch may have been used */
    return 1;
}

/* A row that is changed in place keeps the time it has. */
static int map_add(lua_State *L)
{
    struct use use = map_use(L, "add", WRITES, 2);
    if (lua_type(L, 3) != LUA_TNUMBER)
        map_refuse(L, &use, "n must be a number, got %s", luaL_typename(L, 3));
    double n = lua_tonumber(L, 3);
    struct slice value;
    uint64_t deadline_ms = DUE_NEVER;
    if (rows_get(&use.vm->rows, map_key(L, &use, "the key", 2), &value, &deadline_ms)) {
        upgrade_push_value(L, buffer_slice(&use.vm->key), value);
        if (lua_type(L, -1) != LUA_TNUMBER)
            map_refuse(L, &use, "the row must be a number, is a %s", luaL_typename(L, -1));
        n += lua_tonumber(L, -1);
    } else {
        deadline_ms = DUE_NEVER;
    }
    if (!isfinite(n))
        map_refuse(L, &use, "the sum is not finite");
    lua_pushnumber(L, n);
    if (upgrade_is_on(use.vm))
        map_key(L, &use, "the key", 2); /* upgrade_row may have used the scratch */
    put_value(L, &use, lua_gettop(L), deadline_ms, true);
    return 1;
}

static int map_update(lua_State *L)
{
    struct use use = map_use(L, "update", WRITES, 2);
    if (!lua_isfunction(L, 3))
        map_refuse(L, &use, "f must be a function, got %s", luaL_typename(L, 3));
    lua_settop(L, 3);
    struct slice value;
    uint64_t deadline_ms = DUE_NEVER;
    lua_pushvalue(L, 3);
    if (rows_get(&use.vm->rows, map_key(L, &use, "the key", 2), &value, &deadline_ms)) {
        upgrade_push_value(L, buffer_slice(&use.vm->key), value);
    } else {
        deadline_ms = DUE_NEVER;
        lua_pushnil(L);
    }
    lua_call(L, 1, 1);
    struct slice key = map_key(L, &use, "the key", 2); /* the function may have used the scratch */
    if (lua_isnil(L, 4))
        (void)remove_row(use.vm, key);
    else
        put_value(L, &use, 4, deadline_ms, true);
    return 1;
}

/* --- many rows ---------------------------------------------------------------------------------------------------------------- */

static int map_clear(lua_State *L)
{
    struct use use = map_use(L, "clear", WRITES, 1);
    struct vm *vm = use.vm;
    lua_settop(L, 2);
    struct buffer *bounds = map_push_bounds(L);
    map_prefix(L, &use, 2, &bounds[0], &bounds[1]);
    struct slice lo = buffer_slice(&bounds[0]);
    struct slice hi = buffer_slice(&bounds[1]);
    uint64_t looked = 0;
    uint64_t count = rows_count(&vm->rows, lo, hi, &looked);
    uint64_t cost = (tree_count(vm->tree, lo, hi) + looked + 1) * MAP_CHARGE_ROW;
    bool enough = vm->budget.left > (int64_t)cost;
    struct tree_cursor *cursor = enough ? tree_cursor_open(vm->tree, lo, hi, false) : NULL;
    struct slice key;
    struct slice value;
    while (enough && tree_cursor_next(cursor, &key, &value)) {
        buffer_clear(&vm->key);
        buffer_append(&vm->key, key.data, key.size);
        (void)remove_row(vm, buffer_slice(&vm->key));
    }
    if (enough)
        tree_cursor_close(cursor);
    budget_charge(L, cost);
    lua_pushnumber(L, (double)count);
    return 1;
}

static int map_len(lua_State *L)
{
    struct use use = map_use(L, "len", READS, 1);
    struct vm *vm = use.vm;
    map_prefix(L, &use, 2, &vm->key, &vm->value);
    uint64_t looked = 0;
    uint64_t count = rows_count(&vm->rows, buffer_slice(&vm->key), buffer_slice(&vm->value), &looked);
    budget_charge(L, (looked + 1) * MAP_CHARGE_ROW);
    lua_pushnumber(L, (double)count);
    return 1;
}

static int one_end(lua_State *L, const char *method, bool reverse)
{
    struct use use = map_use(L, method, READS, 1);
    lua_settop(L, 2);
    struct buffer *bounds = map_push_bounds(L);
    map_prefix(L, &use, 2, &bounds[0], &bounds[1]);
    struct rows_cursor cursor =
        rows_open(&use.vm->rows, buffer_slice(&bounds[0]), buffer_slice(&bounds[1]), reverse);
    struct slice key;
    struct slice value;
    uint64_t deadline_ms = 0;
    bool found = rows_next(&cursor, &key, &value, &deadline_ms);
    uint64_t passed = cursor.passed;
    rows_close(&cursor); /* the row stays where it is in the tree */
    budget_charge(L, passed * MAP_CHARGE_ROW);
    map_charge(L, found ? key.size + value.size : 0);
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    map_push_key(L, key, use.map->head_size);
    upgrade_push_value(L, key, value);
    desk_give_copy(L, key, use.map->name);
    return 2 + map_push_expires(L, use.vm, deadline_ms);
}

static int map_first(lua_State *L)
{
    return one_end(L, "first", false);
}

static int map_last(lua_State *L)
{
    return one_end(L, "last", true);
}

static int map_new_field(lua_State *L)
{
    return luaL_error(L, "a map has no fields; use map:put(key, value)");
}

static int map_no_method(lua_State *L)
{
    return luaL_error(
        L, "a map has no method '%s'; there are get has put del take add update clear len first last pairs range",
        lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2));
}

void map_setup(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"get", map_get},   {"has", map_has},       {"put", map_put},     {"del", map_del}, {"take", map_take},
        {"add", map_add},   {"update", map_update}, {"clear", map_clear}, {"len", map_len}, {"first", map_first},
        {"last", map_last}, {"pairs", map_pairs},   {"range", map_range}, {NULL, NULL}};
    map_make_type(L, MAP_TYPE, methods, map_no_method);
    loop_setup(L);
}

void map_make_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction missing)
{
    luaL_newmetatable(L, type);
    lua_newtable(L);
    for (const luaL_Reg *method = methods; method->name != NULL; method++) {
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, method->func, 1); /* each knows a map by its metatable */
        lua_setfield(L, -2, method->name);
    }
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, missing);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, map_new_field);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void map_push(lua_State *L, uint32_t number, const char *name)
{
    map_push_typed(L, MAP_TYPE, number, name);
}

void map_push_typed(lua_State *L, const char *type, uint32_t number, const char *name)
{
    const uint8_t head[MAP_NUMBER_BYTES] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16),
                                            (uint8_t)(number >> 8), (uint8_t)number};
    map_push_headed(L, type, slice_make(head, sizeof head), name);
}

void map_push_headed(lua_State *L, const char *type, struct slice head, const char *name)
{
    struct map *map = lua_newuserdata(L, sizeof *map);
    CHECK(head.size <= MAP_HEAD_BYTES);
    memset(map, 0, sizeof *map);
    map->head_size = (uint8_t)head.size;
    memcpy(map->head, head.data, head.size);
    strncpy(map->name, name, sizeof map->name - 1);
    luaL_getmetatable(L, type);
    lua_setmetatable(L, -2);
}
