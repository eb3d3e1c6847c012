/* script/desk.c - see script/desk.h. */
#include "script/desk.h"

#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "script/due.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "wire/pack.h"

enum {
    COPIES_MAX = 256, /* of one call; more are not watched */
    LATEST = 16,      /* of these every line is told apart; of the others only the end */
    PLACE_BYTES = 96,
    SPARE_LIST = 29,
    SPARE_FIELDS = 17,
    BALLAST_TEXTS = 20000
};

/* A copy that a command was given. */
struct copy {
    int ref; /* of the table, in the registry */
    struct hash128 was;
    struct buffer key;         /* of its row */
    char map[104];             /* as map.h names maps */
    char got[PLACE_BYTES];     /* "kv.lua:12" */
    char changed[PLACE_BYTES]; /* empty: not changed */
    bool written;
};

struct desk_state {
    struct copy copies[COPIES_MAX];
    size_t count;
    bool watching;
    char line[PLACE_BYTES]; /* that runs */
    char remark[512];
    bool told; /* the remark was asked for */
};

/* --- what must not matter --------------------------------------------------------------------------------------------------------- */

static void fill_heap(lua_State *L)
{
    lua_newtable(L);
    for (int i = 1; i <= BALLAST_TEXTS; i++) {
        lua_pushfstring(L, "ballast %d", i);
        if (i % 3 == 0)
            lua_newtable(L);
        else
            lua_pushboolean(L, 1);
        lua_rawset(L, -3);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.ballast");
}

void vm_set_desk(struct vm *vm, unsigned flags)
{
    vm->desk_flags = flags;
    if ((flags & DESK_COPIES) != 0 && vm->desk == NULL)
        vm->desk = mem_zalloc(1, sizeof *vm->desk);
    vm->budget.lines = (flags & DESK_COPIES) != 0;
    if ((flags & DESK_BALLAST) != 0)
        fill_heap(vm->L);
    if ((flags & DESK_COLLECT) != 0)
        lua_gc(vm->L, LUA_GCSETPAUSE, 50);
    if ((flags & DESK_KEEP) != 0)
        lua_gc(vm->L, LUA_GCSTOP, 0);
}

/* Replaces the table at the top by one that is equal and has another history: its list lies among its fields, or has room to spare
 * [-1, +1]. The depth of values is bounded. */
static void regrow(lua_State *L, bool roomy)
{
    luaL_checkstack(L, 8, "too deep");
    int old = lua_gettop(L);
    int count = (int)lua_objlen(L, old);
    lua_createtable(L, roomy ? count + SPARE_LIST : 0, roomy ? SPARE_FIELDS : 2 * count);
    for (int i = count; i >= 1; i--) {
        lua_rawgeti(L, old, i);
        if (lua_istable(L, -1))
            regrow(L, roomy);
        lua_rawseti(L, old + 1, i);
    }
    for (lua_pushnil(L); lua_next(L, old) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TNUMBER)
            continue; /* it is in the list */
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        if (lua_istable(L, -1))
            regrow(L, roomy);
        lua_rawset(L, old + 1);
    }
    if (lua_getmetatable(L, old)) /* what marks an empty map */
        lua_setmetatable(L, old + 1);
    lua_replace(L, old);
}

void desk_take_arguments(lua_State *L, int first)
{
    struct vm *vm = vm_of(L);
    if ((vm->desk_flags & (DESK_MIXED | DESK_ROOMY)) == 0)
        return;
    for (int i = first; i <= lua_gettop(L); i++) {
        if (!lua_istable(L, i))
            continue;
        lua_pushvalue(L, i);
        regrow(L, (vm->desk_flags & DESK_ROOMY) != 0);
        lua_replace(L, i);
    }
}

/* --- copies ------------------------------------------------------------------------------------------------------------------------ */

static struct hash128 hash_at(lua_State *L, int at)
{
    struct buffer bytes = {0};
    int top = lua_gettop(L);
    struct hash128 hash = {0};
    if (value_pack(L, at, &bytes) == NULL) /* what is no value any more was changed */
        hash = hash128(bytes.data, bytes.size, 0);
    buffer_close(&bytes);
    lua_settop(L, top);
    return hash;
}

static void forget(struct vm *vm)
{
    for (size_t i = 0; i < vm->desk->count; i++) {
        luaL_unref(vm->L, LUA_REGISTRYINDEX, vm->desk->copies[i].ref);
        buffer_close(&vm->desk->copies[i].key);
    }
    vm->desk->count = 0;
}

void desk_free(struct vm *vm)
{
    for (size_t i = 0; vm->desk != NULL && i < vm->desk->count; i++)
        buffer_close(&vm->desk->copies[i].key);
    mem_free(vm->desk);
}

void desk_begin(struct vm *vm, bool querying)
{
    if ((vm->desk_flags & DESK_COLLECT) != 0)
        lua_gc(vm->L, LUA_GCCOLLECT, 0);
    if (vm->desk == NULL)
        return;
    vm->desk->watching = !querying && vm->format == NULL;
    vm->desk->line[0] = 0;
}

void desk_give_copy(lua_State *L, struct slice key, const char *map)
{
    struct vm *vm = vm_of(L);
    if (vm->desk_flags == 0 || !lua_istable(L, -1))
        return;
    if ((vm->desk_flags & (DESK_MIXED | DESK_ROOMY)) != 0)
        regrow(L, (vm->desk_flags & DESK_ROOMY) != 0);
    struct desk_state *desk = vm->desk;
    if (desk == NULL || !desk->watching || desk->count == COPIES_MAX)
        return;
    struct copy *copy = &desk->copies[desk->count++];
    memset(copy, 0, sizeof *copy);
    copy->was = hash_at(L, lua_gettop(L));
    buffer_append(&copy->key, key.data, key.size);
    snprintf(copy->map, sizeof copy->map, "%s", map);
    snprintf(copy->got, sizeof copy->got, "%s", desk->line);
    lua_pushvalue(L, -1);
    copy->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Looks which of the copies from `first` on have changed since: at the line that ran. */
static void look(lua_State *L, struct desk_state *desk, size_t first)
{
    for (size_t i = first; i < desk->count; i++) {
        struct copy *copy = &desk->copies[i];
        if (copy->written || copy->changed[0] != 0)
            continue;
        lua_rawgeti(L, LUA_REGISTRYINDEX, copy->ref);
        struct hash128 now = hash_at(L, lua_gettop(L));
        lua_pop(L, 1);
        if (now.hi != copy->was.hi || now.lo != copy->was.lo)
            snprintf(copy->changed, sizeof copy->changed, "%s", desk->line);
    }
}

void desk_note_line(lua_State *L, void *event)
{
    struct desk_state *desk = vm_of(L)->desk;
    lua_Debug *debug = event;
    if (desk == NULL || !desk->watching || !lua_checkstack(L, 16))
        return;
    look(L, desk, desk->count > LATEST ? desk->count - LATEST : 0);
    lua_getinfo(L, "S", debug);
    snprintf(desk->line, sizeof desk->line, "%s:%d", debug->short_src, debug->currentline);
}

void desk_note_write(struct vm *vm, struct slice key)
{
    if (vm->desk == NULL)
        return;
    for (size_t i = 0; i < vm->desk->count; i++)
        if (slice_equal(buffer_slice(&vm->desk->copies[i].key), key))
            vm->desk->copies[i].written = true;
}

void desk_end(struct vm *vm)
{
    struct desk_state *desk = vm->desk;
    if (desk == NULL || !desk->watching)
        return;
    desk->watching = false;
    if (desk->told)
        desk->remark[0] = 0;
    desk->told = false;
    if (vm->budget.fault == BUDGET_OK)
        look(vm->L, desk, 0);
    for (size_t i = 0; i < desk->count && desk->remark[0] == 0; i++) {
        const struct copy *copy = &desk->copies[i];
        if (!copy->written && copy->changed[0] != 0)
            snprintf(desk->remark, sizeof desk->remark,
                     "%s: this writes to the copy of a row that %s gave at %s, and the row is never put: what was "
                     "written is lost; put it back, or write to a table of your own",
                     copy->changed, copy->map, copy->got);
    }
    forget(vm);
}

const char *vm_take_remark(struct vm *vm)
{
    if (vm->desk == NULL || vm->desk->remark[0] == 0 || vm->desk->told)
        return NULL;
    vm->desk->told = true;
    return vm->desk->remark;
}

/* --- the rows ------------------------------------------------------------------------------------------------------------------------ */

static uint32_t pack_map_rows(struct vm *vm, const struct vm_mount *mount, const struct vm_map *map,
                              struct buffer *out)
{
    struct buffer lo = {0};
    struct buffer hi = {0};
    const uint8_t head[4] = {(uint8_t)(map->number >> 24), (uint8_t)(map->number >> 16),
                             (uint8_t)(map->number >> 8), (uint8_t)map->number};
    const uint32_t next = map->number + 1;
    const uint8_t after[4] = {(uint8_t)(next >> 24), (uint8_t)(next >> 16), (uint8_t)(next >> 8), (uint8_t)next};
    buffer_append(&lo, head, sizeof head);
    buffer_append(&hi, after, sizeof after);
    struct rows_cursor cursor = rows_open(&vm->rows, buffer_slice(&lo), buffer_slice(&hi), false);
    struct slice key;
    struct slice value;
    uint64_t deadline_ms = 0;
    uint32_t count = 0;
    for (; rows_next(&cursor, &key, &value, &deadline_ms); count++) {
        pack_array(out, deadline_ms != DUE_NEVER ? 5 : 4);
        pack_text(out, slice_text(mount->name));
        pack_text(out, slice_text(map->name));
        map_pack_key(key, out);
        buffer_append(out, value.data, value.size);
        if (deadline_ms != DUE_NEVER)
            pack_u64(out, deadline_ms);
    }
    rows_close(&cursor);
    buffer_close(&lo);
    buffer_close(&hi);
    return count;
}

void vm_pack_rows(struct vm *vm, struct buffer *out)
{
    struct buffer rows = {0};
    uint32_t count = 0;
    for (const struct vm_mount *mount = vm->mounts; mount != NULL; mount = mount->next)
        for (size_t i = 0; i < mount->maps_count; i++)
            count += pack_map_rows(vm, mount, &mount->maps[i], &rows);
    pack_array(out, count);
    buffer_append(out, rows.data, rows.size);
    buffer_close(&rows);
}
