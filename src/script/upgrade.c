/* script/upgrade.c - see script/upgrade.h. */
#include "script/upgrade.h"

#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "script/map.h"
#include "wire/pack.h"

static const uint8_t mark[] = {0x93, 0xA2, 0x01, 'v'};

bool upgrade_is_on(const struct vm *vm)
{
    return vm->current != NULL && vm->current->upgrade_base > 0;
}

bool upgrade_is_mark(struct slice value)
{
    return value.size > sizeof mark && memcmp(value.data, mark, sizeof mark) == 0;
}

void upgrade_append_mark(const struct vm *vm, struct buffer *value)
{
    if (!upgrade_is_on(vm) || MUTANT(154))
        return;
    buffer_append(value, mark, sizeof mark);
    pack_u64(value, (uint64_t)vm->current->version);
}

/* Takes the mark off: the version that wrote the value. */
static uint64_t take_mark(const struct vm_mount *mount, struct slice *value)
{
    if (!upgrade_is_mark(*value))
        return mount->upgrade_base;
    struct pack_reader reader = pack_reader_make(slice_make(value->data + sizeof mark, value->size - sizeof mark));
    uint64_t version = 0;
    CHECK(pack_read_u64(&reader, &version) == STATUS_OK);
    *value = pack_rest(&reader);
    return version;
}

static const char *map_name(const struct vm *vm, struct slice key)
{
    uint32_t number =
        (uint32_t)key.data[0] << 24 | (uint32_t)key.data[1] << 16 | (uint32_t)key.data[2] << 8 | key.data[3];
    for (size_t i = 0; i < vm->current->maps_count; i++)
        if (vm->current->maps[i].number == number)
            return vm->current->maps[i].name;
    for (size_t i = 0; i < vm->old_maps_count; i++)
        if (vm->old_maps[i].number == number)
            return vm->old_maps[i].name;
    return "?";
}

void upgrade_push_value(lua_State *L, struct slice key, struct slice value)
{
    const struct vm *vm = vm_of(L);
    if (!upgrade_is_on(vm)) {
        map_push_value(L, value);
        return;
    }
    const struct vm_mount *mount = vm->current;
    uint64_t version = take_mark(mount, &value);
    if (version >= (uint64_t)mount->version) {
        map_push_value(L, value);
        return;
    }
    luaL_checkstack(L, 8, "too deep");
    lua_rawgeti(L, LUA_REGISTRYINDEX, mount->upgrade_row_ref);
    lua_pushstring(L, map_name(vm, key));
    map_push_key(L, key, MAP_NUMBER_BYTES);
    map_push_value(L, value);
    lua_pushnumber(L, (double)version);
    lua_call(L, 4, 1);
    if (lua_isnil(L, -1))
        luaL_error(L, "upgrade_row gave nil for a row of the map %s; it gives what stands there from now on",
                   map_name(vm, key));
}
