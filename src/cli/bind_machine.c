/* cli/bind_machine.c - tidelock.machine: a machine in this process, for whoever tries out a service. See cli/bind.h.
 *
 *   machine.new{ copies, collect, keep, mixed, roomy, ballast = bool } -> m     the flags of script/desk.h
 *   machine.open(directory, index) -> m; or nil, why     of a snapshot of a stopped node, or, without arguments, of nothing
 *   m:apply_record(bytes) -> ok, bytes     as apply, for a record as the log has it
 *   m:note_skip(index)     the log says that this entry, which comes yet, is skipped
 *   m:put_code(bundle) -> true; or nil, an error's bytes     between two entries, another module takes its mount's place
 *   m:has(mount) -> bool     whether code is in force for it
 *   m:apply(index, term, kind, stamp_ms, payload) -> ok, bytes, events     ok nil: it parked (bytes says why), or has no answer;
 *                                                      events: a MessagePack list, or nil
 *   m:query(name, args, now_ms) -> ok, bytes     m:try(name, args, session or nil) -> ok, bytes
 *   m:membership() -> bytes, bytes     what machine_pack_membership and machine_pack_membership_history say
 *   m:status() -> table    m:rows() -> bytes    m:remark() -> text or nil    m:close()
 *   m:through(format bundle or nil) -> another machine, made of a snapshot of this one; or nil, why
 */
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/memory.h"
#include "base/trace.h"
#include "cli/bind.h"
#include "cli/fields.h"
#include "machine/membership.h"
#include "machine/snapshot.h"
#include "script/desk.h"
#include "sim/sim_disk.h"
#include "wire/entry.h"
#include "wire/pack.h"

#define MACHINE_TYPE "tidelock.machine"

struct box {
    struct machine *machine;
    struct machine_options options;
    struct machine_results results;
};

static struct box *check_box(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, MACHINE_TYPE);
    luaL_argcheck(L, box->machine != NULL, 1, "the machine was closed");
    return box;
}

static struct slice check_slice(lua_State *L, int at)
{
    struct slice bytes;
    bytes.data = (const uint8_t *)luaL_checklstring(L, at, &bytes.size);
    return bytes;
}

static uint64_t check_number(lua_State *L, int at)
{
    double number = luaL_checknumber(L, at);
    luaL_argcheck(L, number >= 0 && number <= 9007199254740992.0 && number == (double)(uint64_t)number, at,
                  "must be a whole number");
    return (uint64_t)number;
}

static struct box *push_box(lua_State *L, const struct machine_options *options)
{
    struct box *box = lua_newuserdata(L, sizeof *box);
    memset(box, 0, sizeof *box);
    box->options = *options;
    luaL_getmetatable(L, MACHINE_TYPE);
    lua_setmetatable(L, -2);
    return box;
}

static int machine_lua_new(lua_State *L)
{
    static const struct {
        const char *name;
        unsigned flag;
    } flags[] = {{"copies", DESK_COPIES}, {"collect", DESK_COLLECT}, {"keep", DESK_KEEP},
                 {"mixed", DESK_MIXED},   {"roomy", DESK_ROOMY},     {"ballast", DESK_BALLAST}};
    struct machine_options options = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        lua_getfield(L, 1, flags[i].name);
        options.desk |= lua_toboolean(L, -1) ? flags[i].flag : 0;
    }
    push_box(L, &options)->machine = machine_new(&options);
    return 1;
}

static enum status build(const char *directory, raft_index index, const struct machine_options *options,
                         struct machine **machine, struct buffer *why)
{
    struct disk *disk = NULL;
    struct snapshot_progress progress = {0};
    struct buffer configuration = {0};
    char name[DISK_NAME_MAX];
    enum status status = disk_posix_open(directory, false, false, &disk, why);
    if (status != STATUS_OK)
        return status;
    snapshot_name(name, index);
    status = snapshot_build(disk, name, options, &progress, machine, NULL, &configuration, why);
    buffer_close(&configuration);
    disk->free(disk);
    return status;
}

static int push_why(lua_State *L, struct buffer *why)
{
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)why->data, why->size);
    buffer_close(why);
    return 2;
}

static int machine_lua_open(lua_State *L)
{
    const struct machine_options options = {0};
    struct buffer why = {0};
    log_setup(LOG_ERROR, LOG_TEXT);
    if (lua_isnoneornil(L, 1)) {
        push_box(L, &options)->machine = machine_new(&options);
        return 1;
    }
    const char *directory = luaL_checkstring(L, 1);
    raft_index index = check_number(L, 2);
    if (build(directory, index, &options, &push_box(L, &options)->machine, &why) != STATUS_OK)
        return push_why(L, &why);
    buffer_close(&why);
    return 1;
}

static int machine_lua_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, MACHINE_TYPE);
    if (box->machine != NULL)
        machine_free(box->machine);
    mem_free(box->results.list);
    buffer_close(&box->results.bytes);
    buffer_close(&box->results.events);
    memset(box, 0, sizeof *box);
    return 0;
}

/* --- entries and queries ------------------------------------------------------------------------------------------------- */

static void clear(struct box *box)
{
    box->results.count = 0;
    buffer_clear(&box->results.bytes);
    buffer_clear(&box->results.events);
}

/* The first answer as ok, bytes [-0, +2]. */
static int push_answer(lua_State *L, const struct box *box)
{
    const struct machine_result *result = &box->results.list[0];
    lua_pushboolean(L, result->ok);
    lua_pushlstring(L, (const char *)box->results.bytes.data + result->offset, result->size);
    return 2;
}

/* The events as one list [-0, +1]. */
static void push_events(lua_State *L, struct slice events)
{
    struct pack_reader reader = pack_reader_make(events);
    struct buffer list = {0};
    struct slice event;
    uint32_t count = 0;
    while (reader.at < reader.end && pack_skip(&reader, PACK_DEPTH_MAX, &event) == STATUS_OK)
        count++;
    pack_array(&list, count);
    buffer_append(&list, events.data, events.size);
    if (count > 0)
        lua_pushlstring(L, (const char *)list.data, list.size);
    else
        lua_pushnil(L);
    buffer_close(&list);
}

/* Applies a record, the next one. -> ok, bytes [-0, +2] */
static int apply(lua_State *L, struct box *box, struct slice record, raft_index index)
{
    struct machine_status status;
    clear(box);
    if (machine_apply(box->machine, record, true, &box->results) != index) {
        machine_get_status(box->machine, &status);
        lua_pushnil(L);
        lua_pushstring(L, status.parked_why);
        return 2;
    }
    if (box->results.count > 0)
        return push_answer(L, box);
    lua_pushnil(L);
    lua_pushnil(L);
    return 2;
}

static int machine_lua_apply(lua_State *L)
{
    struct box *box = check_box(L);
    struct machine_status status;
    struct entry entry = {.index = check_number(L, 2),
                          .term = check_number(L, 3),
                          .kind = (uint8_t)check_number(L, 4),
                          .stamp_ms = check_number(L, 5),
                          .payload = check_slice(L, 6)};
    machine_get_status(box->machine, &status);
    luaL_argcheck(L, entry.index == status.applied + 1, 2, "must be the next index");
    luaL_argcheck(L, entry.kind > 0 && entry.kind < ENTRY_KINDS, 4, "no such kind");
    struct buffer record = {0};
    entry_encode(&record, &entry, 0);
    (void)apply(L, box, buffer_slice(&record), entry.index);
    buffer_close(&record);
    push_events(L, buffer_slice(&box->results.events));
    return 3;
}

static int machine_lua_apply_record(lua_State *L)
{
    struct box *box = check_box(L);
    struct slice record = check_slice(L, 2);
    struct machine_status status;
    struct entry entry;
    machine_get_status(box->machine, &status);
    luaL_argcheck(L, entry_decode(record, &entry) == STATUS_OK && entry.index == status.applied + 1, 2,
                  "must be the next record");
    return apply(L, box, record, entry.index);
}

static int machine_lua_note_skip(lua_State *L)
{
    (void)machine_skip(check_box(L)->machine, check_number(L, 2));
    return 0;
}

static int machine_lua_query(lua_State *L)
{
    struct box *box = check_box(L);
    clear(box);
    machine_query(box->machine, check_slice(L, 2), check_slice(L, 3), check_number(L, 4), &box->results);
    return push_answer(L, box);
}

static int machine_lua_try(lua_State *L)
{
    struct box *box = check_box(L);
    struct slice ticket = {0};
    if (!lua_isnoneornil(L, 4))
        ticket = check_slice(L, 4);
    clear(box);
    machine_try(box->machine, check_slice(L, 2), check_slice(L, 3), ticket, check_number(L, 5), &box->results);
    return push_answer(L, box);
}

/* --- code -------------------------------------------------------------------------------------------------------------------- */

static int machine_lua_put_code(lua_State *L)
{
    struct box *box = check_box(L);
    struct buffer answer = {0};
    if (!machine_put_code(box->machine, check_slice(L, 2), &answer))
        return push_why(L, &answer);
    buffer_close(&answer);
    lua_pushboolean(L, 1);
    return 1;
}

static int machine_lua_has(lua_State *L)
{
    lua_pushboolean(L, machine_has_code(check_box(L)->machine, check_slice(L, 2)));
    return 1;
}

/* --- telling ----------------------------------------------------------------------------------------------------------------- */

static int machine_lua_status(lua_State *L)
{
    struct machine_status status;
    char digest[40];
    machine_get_status(check_box(L)->machine, &status);
    snprintf(digest, sizeof digest, "%016llx%016llx", (unsigned long long)status.digest.hi,
             (unsigned long long)status.digest.lo);
    lua_newtable(L);
    lua_pushstring(L, digest);
    lua_setfield(L, -2, "digest");
    bind_set_number(L, "applied", status.applied);
    bind_set_number(L, "now", status.now_ms);
    bind_set_number(L, "rows", status.rows);
    bind_set_number(L, "bytes", status.quota_bytes);
    bind_set_number(L, "sessions", status.sessions);
    bind_set_number(L, "timers", status.timers);
    bind_set_number(L, "timers_failed", status.timers_failed);
    bind_set_number(L, "spent", status.spent);
    if (status.next_due_ms != UINT64_MAX)
        bind_set_number(L, "next_due", status.next_due_ms);
    if (status.migrating) {
        lua_pushstring(L, status.migrating_mount);
        lua_setfield(L, -2, "migrating");
    }
    if (status.parked_at > 0) {
        lua_pushstring(L, status.parked_why);
        lua_setfield(L, -2, "parked");
    }
    return 1;
}

static int machine_lua_rows(lua_State *L)
{
    struct buffer out = {0};
    machine_pack_rows(check_box(L)->machine, &out);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_close(&out);
    return 1;
}

static int machine_lua_membership(lua_State *L)
{
    const struct machine *machine = check_box(L)->machine;
    struct buffer out = {0};
    machine_pack_membership(machine, &out);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_clear(&out);
    machine_pack_membership_history(machine, &out);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_close(&out);
    return 2;
}

static int machine_lua_remark(lua_State *L)
{
    const char *remark = machine_take_remark(check_box(L)->machine);
    if (remark != NULL)
        lua_pushstring(L, remark);
    else
        lua_pushnil(L);
    return 1;
}

/* --- snapshots ---------------------------------------------------------------------------------------------------------------- */

static enum status go_through(const struct box *from, struct slice format, struct disk *disk,
                              struct machine **machine, struct buffer *why)
{
    static const char name[] = "snapshot";
    struct snapshot_options options = {.format = format};
    struct snapshot_progress progress = {0};
    struct snapshot_seal seal;
    struct buffer configuration = {0};
    struct machine_frozen *frozen = machine_freeze(from->machine);
    enum status status = snapshot_take(frozen, &options, disk, name, &progress, &seal, why);
    machine_thaw(from->machine, frozen);
    if (status == STATUS_OK)
        status = snapshot_build(disk, name, &from->options, &progress, machine, NULL, &configuration, why);
    buffer_close(&configuration);
    return status;
}

static int machine_lua_through(lua_State *L)
{
    struct box *box = check_box(L);
    struct machine_status status;
    struct slice format = {0};
    struct buffer why = {0};
    if (!lua_isnoneornil(L, 2))
        format = check_slice(L, 2);
    machine_get_status(box->machine, &status);
    luaL_argcheck(L, status.parked_at == 0, 1, "the machine is parked");
    struct box *next = push_box(L, &box->options);
    struct disk *disk = sim_disk_new(1);
    enum status result = go_through(box, format, disk, &next->machine, &why);
    disk->free(disk);
    if (result != STATUS_OK) {
        lua_pushnil(L);
        if (why.size > 0)
            lua_pushlstring(L, (const char *)why.data, why.size);
        else
            lua_pushstring(L, status_text(result));
    }
    buffer_close(&why);
    return result == STATUS_OK ? 1 : 2;
}

int bind_machine(lua_State *L)
{
    static const luaL_Reg methods[] = {{"apply", machine_lua_apply},
                                       {"query", machine_lua_query},
                                       {"try", machine_lua_try},
                                       {"status", machine_lua_status},
                                       {"rows", machine_lua_rows},
                                       {"remark", machine_lua_remark},
                                       {"membership", machine_lua_membership},
                                       {"through", machine_lua_through},
                                       {"close", machine_lua_close},
                                       {"apply_record", machine_lua_apply_record},
                                       {"note_skip", machine_lua_note_skip},
                                       {"put_code", machine_lua_put_code},
                                       {"has", machine_lua_has},
                                       {NULL, NULL}};
    luaL_newmetatable(L, MACHINE_TYPE);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, machine_lua_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, machine_lua_new);
    lua_setfield(L, -2, "new");
    lua_pushcfunction(L, machine_lua_open);
    lua_setfield(L, -2, "open");
    return 1;
}
