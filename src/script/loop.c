/* script/loop.c - loops over the rows of a map: map:pairs, map:range (CONTRACT.md §1). Private to script/.
 *
 * A loop reads through a cursor, which sees the rows as they were when it was opened.
 */
#include <math.h>
#include <string.h>

#include "script/map.h"
#include "script/upgrade.h"

static const char loop_type[] = "tidelock.loop";
static const char bounds_type[] = "tidelock.bounds";

/* A loop over rows. Open ones are chained in the vm, so that none outlives its entry, or the savepoint it began in. */
struct map_loop {
    struct rows_cursor cursor; /* none open: over */
    const struct map *map;     /* the closure keeps it */
    uint64_t left;
    tree_mark opened;
    struct map_loop *next;
    struct map_loop *previous;
};

static void loop_close(struct vm *vm, struct map_loop *loop)
{
    if (!rows_is_open(&loop->cursor))
        return;
    rows_close(&loop->cursor);
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
    uint64_t deadline_ms = 0;
    struct vm *vm = vm_of(L);
    bool found =
        rows_is_open(&loop->cursor) && loop->left > 0 && rows_next(&loop->cursor, &key, &value, &deadline_ms);
    uint64_t passed = loop->cursor.passed;
    loop->cursor.passed = 0;
    if (passed > 0)
        budget_charge(L, passed * MAP_CHARGE_ROW);
    if (!found) {
        loop_close(vm, loop);
        lua_pushnil(L);
        return 1;
    }
    loop->left--;
    map_charge(L, key.size + value.size);
    if (vm->format != NULL)
        format_took_row(L, key);
    map_push_key(L, key, loop->map->head_size);
    upgrade_push_value(L, key, value);
    desk_give_copy(L, key, loop->map->name);
    return 2 + map_push_expires(L, vm, deadline_ms);
}

/* An option of a name that there is; each is nil or of its type. */
static void check_names(lua_State *L, const struct use *use, int at)
{
    static const char *const names[] = {"limit", "reverse", "after"};
    for (lua_pushnil(L); lua_next(L, at) != 0; lua_pop(L, 1)) {
        bool known = false;
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            known = known || strcmp(name, names[i]) == 0;
        if (!known || lua_type(L, -2) != LUA_TSTRING)
            map_refuse(L, use, "there is no option '%s'; there are limit reverse after", name);
    }
}

/* Continues after the key at the top: narrows the bounds. */
static void start_after(lua_State *L, const struct use *use, struct buffer *bounds, bool reverse)
{
    struct slice after = map_key(L, use, "the option after", lua_gettop(L));
    if (reverse) {
        if (slice_compare(after, buffer_slice(&bounds[1])) < 0) {
            buffer_clear(&bounds[1]);
            buffer_append(&bounds[1], after.data, after.size);
        }
    } else if (slice_compare(after, buffer_slice(&bounds[0])) >= 0) {
        buffer_clear(&bounds[0]);
        buffer_append(&bounds[0], after.data, after.size);
        buffer_append_byte(&bounds[0], 0); /* the smallest key above it */
    }
}

/* Reads opts at `at`: { limit = n, reverse = bool, after = key }. Returns the limit. */
static uint64_t read_options(lua_State *L, const struct use *use, int at, struct buffer *bounds, bool *reverse)
{
    uint64_t limit = UINT64_MAX;
    *reverse = false;
    if (lua_isnoneornil(L, at))
        return limit;
    if (!lua_istable(L, at))
        map_refuse(L, use, "the options must be a table like { limit = 10 }, got %s", luaL_typename(L, at));
    check_names(L, use, at);
    lua_pushliteral(L, "limit");
    lua_rawget(L, at);
    if (!lua_isnil(L, -1)) {
        double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        if (!(n >= 0 && n == floor(n) && n <= 9007199254740992.0))
            map_refuse(L, use, "the option limit must be a whole number from 0, got %s",
                       lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1) : luaL_typename(L, -1));
        limit = (uint64_t)n;
    }
    lua_pushliteral(L, "reverse");
    lua_rawget(L, at);
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        map_refuse(L, use, "the option reverse must be true or false, got %s", luaL_typename(L, -1));
    *reverse = lua_toboolean(L, -1) != 0;
    lua_pushliteral(L, "after");
    lua_rawget(L, at);
    if (!lua_isnil(L, -1))
        start_after(L, use, bounds, *reverse);
    lua_pop(L, 3);
    return limit;
}

/* Scratch for bounds that survives a Lua error: one pair a vm would be shared by nested loops, so it is a userdata. */
struct buffer *map_push_bounds(lua_State *L)
{
    struct buffer *pair = lua_newuserdata(L, 2 * sizeof *pair);
    memset(pair, 0, 2 * sizeof *pair);
    luaL_getmetatable(L, bounds_type);
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

static int start_loop(lua_State *L, const struct use *use, struct buffer *bounds, int options)
{
    struct vm *vm = use->vm;
    bool reverse = false;
    uint64_t limit = read_options(L, use, options, bounds, &reverse);
    struct map_loop *loop = lua_newuserdata(L, sizeof *loop);
    *loop = (struct map_loop){.map = use->map, .left = limit, .opened = tree_savepoint(vm->tree)};
    luaL_getmetatable(L, loop_type);
    lua_setmetatable(L, -2);
    if (slice_compare(buffer_slice(&bounds[0]), buffer_slice(&bounds[1])) < 0)
        loop->cursor = rows_open(&vm->rows, buffer_slice(&bounds[0]), buffer_slice(&bounds[1]), reverse);
    if (rows_is_open(&loop->cursor)) {
        loop->next = vm->loops;
        if (loop->next != NULL)
            loop->next->previous = loop;
        vm->loops = loop;
    }
    map_charge(L, 0);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, loop_next, 2);
    return 1;
}

int map_pairs(lua_State *L)
{
    struct use use = map_use(L, "pairs", false, 2);
    lua_settop(L, 3);
    struct buffer *bounds = map_push_bounds(L);
    map_prefix(L, &use, 2, &bounds[0], &bounds[1]);
    return start_loop(L, &use, bounds, 3);
}

int map_range(lua_State *L)
{
    struct use use = map_use(L, "range", false, 3);
    lua_settop(L, 4);
    struct buffer *bounds = map_push_bounds(L);
    map_whole(&use, &bounds[0], &bounds[1]);
    for (int i = 0; i < 2; i++) {
        if (lua_isnil(L, 2 + i))
            continue;
        struct slice key = map_key(L, &use, i == 0 ? "lo" : "hi", 2 + i);
        buffer_clear(&bounds[i]);
        buffer_append(&bounds[i], key.data, key.size);
    }
    return start_loop(L, &use, bounds, 4);
}

void loop_setup(lua_State *L)
{
    luaL_newmetatable(L, loop_type);
    lua_pushcfunction(L, loop_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, bounds_type);
    lua_pushcfunction(L, bounds_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
