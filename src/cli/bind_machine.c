/* cli/bind_machine.c - tidelock.machine: a machine on its own, for what looks into a stopped node's log. See cli/bind.h. */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"
#include "cli/bind.h"
#include "machine/snapshot.h"

#define MACHINE_TYPE "tidelock.machine"

struct held {
    struct machine *machine;
    struct machine_results results;
};

static struct held *check_held(lua_State *L)
{
    struct held *held = luaL_checkudata(L, 1, MACHINE_TYPE);
    luaL_argcheck(L, held->machine != NULL, 1, "closed");
    return held;
}

static int push_why(lua_State *L, struct buffer *why)
{
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)why->data, why->size);
    buffer_close(why);
    return 2;
}

static enum status build(const char *dir, raft_index index, struct machine **machine, struct buffer *why)
{
    struct disk *disk = NULL;
    struct machine_options options = {0};
    struct snapshot_progress progress = {0};
    struct buffer configuration = {0};
    char name[DISK_NAME_MAX];
    enum status status = disk_posix_open(dir, false, false, &disk, why);
    if (status != STATUS_OK)
        return status;
    snapshot_name(name, index);
    status = snapshot_build(disk, name, &options, &progress, machine, NULL, &configuration, why);
    buffer_close(&configuration);
    disk->free(disk);
    return status;
}

/* new([dir, index]) -> a machine that has applied nothing, or what the snapshot in `dir` holds; or nil, why */
static int machine_open(lua_State *L)
{
    const struct machine_options options = {0};
    struct buffer why = {0};
    struct machine *machine = NULL;
    log_setup(LOG_ERROR, LOG_TEXT);
    if (lua_isnoneornil(L, 1))
        machine = machine_new(&options);
    else if (build(luaL_checkstring(L, 1), (raft_index)luaL_checknumber(L, 2), &machine, &why) != STATUS_OK)
        return push_why(L, &why);
    buffer_close(&why);
    struct held *held = lua_newuserdata(L, sizeof *held);
    *held = (struct held){.machine = machine};
    luaL_getmetatable(L, MACHINE_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

static int machine_close(lua_State *L)
{
    struct held *held = luaL_checkudata(L, 1, MACHINE_TYPE);
    if (held->machine != NULL)
        machine_free(held->machine);
    mem_free(held->results.list);
    buffer_close(&held->results.bytes);
    buffer_close(&held->results.events);
    *held = (struct held){0};
    return 0;
}

/* apply(record) -> true[, ok, answer's bytes]; nil, why: it parked there. The record follows the one applied last. */
static int machine_apply_record(lua_State *L)
{
    struct held *held = check_held(L);
    struct slice record;
    struct entry entry;
    struct machine_status status;
    record.data = (const uint8_t *)luaL_checklstring(L, 2, &record.size);
    machine_get_status(held->machine, &status);
    luaL_argcheck(L, entry_decode(record, &entry) == STATUS_OK && entry.index == status.applied + 1, 2,
                  "not the next record");
    held->results.count = 0;
    buffer_clear(&held->results.bytes);
    buffer_clear(&held->results.events);
    if (machine_apply(held->machine, record, true, &held->results) != entry.index) {
        machine_get_status(held->machine, &status);
        lua_pushnil(L);
        lua_pushstring(L, status.parked_why);
        return 2;
    }
    lua_pushboolean(L, 1);
    if (held->results.count == 0)
        return 1;
    const struct machine_result *result = &held->results.list[0];
    lua_pushboolean(L, result->ok);
    lua_pushlstring(L, (const char *)held->results.bytes.data + result->offset, result->size);
    return 3;
}

/* skip(index): the log says that this entry, which comes yet, is skipped. */
static int machine_note_skip(lua_State *L)
{
    struct held *held = check_held(L);
    lua_pushboolean(L, machine_skip(held->machine, (raft_index)luaL_checknumber(L, 2)));
    return 1;
}

/* put_code(bundle) -> true; or nil, the error map's bytes: between two entries, another module takes its mount's place. */
static int machine_put(lua_State *L)
{
    struct held *held = check_held(L);
    struct slice bundle;
    struct buffer answer = {0};
    bundle.data = (const uint8_t *)luaL_checklstring(L, 2, &bundle.size);
    if (!machine_put_code(held->machine, bundle, &answer))
        return push_why(L, &answer);
    buffer_close(&answer);
    lua_pushboolean(L, 1);
    return 1;
}

/* has(mount) -> whether code is in force for it */
static int machine_has(lua_State *L)
{
    struct held *held = check_held(L);
    struct slice mount;
    mount.data = (const uint8_t *)luaL_checklstring(L, 2, &mount.size);
    lua_pushboolean(L, machine_has_code(held->machine, mount));
    return 1;
}

int bind_machine(lua_State *L)
{
    static const luaL_Reg methods[] = {{"apply", machine_apply_record},
                                       {"skip", machine_note_skip},
                                       {"put_code", machine_put},
                                       {"has", machine_has},
                                       {"close", machine_close},
                                       {"__gc", machine_close},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", machine_open}, {NULL, NULL}};
    luaL_newmetatable(L, MACHINE_TYPE);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_register(L, NULL, methods);
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
