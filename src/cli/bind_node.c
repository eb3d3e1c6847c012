/* cli/bind_node.c - tidelock.node: running a node, building bundles, looking into a data directory. See cli/bind.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "cli/bind.h"
#include "machine/deploy.h"
#include "node/node.h"
#include "script/bundle.h"
#include "storage/log.h"
#include "storage/snapshot_file.h"
#include "storage/storage.h"
#include "wire/message.h"

enum { READ_BYTES = 65536, MOUNTS_MAX = 64 };

static enum status read_file(void *context, const char *path, struct buffer *content)
{
    (void)context;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return STATUS_NOT_FOUND;
    size_t got = 1;
    while (got > 0 && content->size <= BUNDLE_SOURCE_MAX) {
        got = fread(buffer_reserve(content, READ_BYTES), 1, READ_BYTES, file);
        content->size += got;
    }
    bool bad = ferror(file) != 0;
    fclose(file);
    return bad ? STATUS_IO : STATUS_OK;
}

/* bundle(mount or "", path, kind) -> bytes; or nil, lines. kind: "machine" (unless said), "format", "policy", "any" */
static int node_bundle(lua_State *L)
{
    static const char *const kinds[] = {"machine", "format", "policy", "any", NULL};
    enum bundle_kind kind = (enum bundle_kind)luaL_checkoption(L, 3, "machine", kinds);
    struct buffer bundle = {0};
    struct buffer why = {0};
    const char *mount = luaL_checkstring(L, 1);
    if (bundle_build(kind, mount, luaL_checkstring(L, 2), read_file, NULL, &bundle, &why) == STATUS_OK) {
        lua_pushlstring(L, (const char *)bundle.data, bundle.size);
        buffer_close(&bundle);
        return 1;
    }
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)why.data, why.size);
    buffer_close(&bundle);
    buffer_close(&why);
    return 2;
}

/* describe(bundle) -> MessagePack map of what its module is; or nil, why */
static int node_describe(lua_State *L)
{
    struct slice bundle;
    struct buffer out = {0};
    struct buffer why = {0};
    bundle.data = (const uint8_t *)luaL_checklstring(L, 1, &bundle.size);
    bool good = bundle_describe(bundle, &out, &why) == STATUS_OK;
    if (!good)
        lua_pushnil(L);
    lua_pushlstring(L, (const char *)(good ? out : why).data, (good ? out : why).size);
    buffer_close(&out);
    buffer_close(&why);
    return good ? 1 : 2;
}

/* hash(bundle) -> as status shows it */
static int node_hash(lua_State *L)
{
    struct slice bundle;
    char text[DEPLOY_HASH_BYTES];
    bundle.data = (const uint8_t *)luaL_checklstring(L, 1, &bundle.size);
    deploy_hash_text(bundle_hash(bundle), text);
    lua_pushstring(L, text);
    return 1;
}

static const char *text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return lua_tostring(L, -1); /* stays on the stack, and so alive */
}

static double number_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

/* 0: off, or the default */
static void snapshot_fields(lua_State *L, struct replica_snapshots *snapshots)
{
    snapshots->bytes = (uint64_t)number_field(L, "snapshot_bytes");
    snapshots->entries = (uint64_t)number_field(L, "snapshot_entries");
    snapshots->every_ms = (uint64_t)number_field(L, "snapshot_every");
    snapshots->keep = (uint64_t)number_field(L, "snapshot_keep");
    snapshots->keep_bytes = NODE_SNAPSHOT_KEEP_BYTES;
    snapshots->chunk_bytes = (uint32_t)number_field(L, "snapshot_chunk");
    snapshots->rate = (uint64_t)number_field(L, "snapshot_rate");
    lua_getfield(L, 1, "snapshot_zstd");
    snapshots->zstd = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
}

/* zone, priority, tags = { key = value }, as far as they are given */
static void self_fields(lua_State *L, struct replica_self *self)
{
    const char *zone = text_field(L, "zone");
    self->zone_given = zone != NULL;
    if (zone != NULL)
        snprintf(self->zone, sizeof self->zone, "%s", zone);
    lua_getfield(L, 1, "priority");
    self->priority_given = !lua_isnil(L, -1);
    self->priority = (uint8_t)lua_tonumber(L, -1);
    size_t size = 0;
    const char *tags = (lua_getfield(L, 1, "tags_packed"), lua_tolstring(L, -1, &size));
    self->tags_given = tags != NULL;
    if (tags == NULL || size > sizeof self->tags)
        return;
    self->tags_bytes = (uint32_t)size;
    memcpy(self->tags, tags, size);
}

/* run{ id, data, listen, cluster, bundles = { bytes... }, ... } -> exit code, sentence */
static int node_start(lua_State *L)
{
    struct slice bundles[MOUNTS_MAX];
    struct node_options options = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    options.id = (node_id)number_field(L, "id");
    options.data = text_field(L, "data");
    options.listen = text_field(L, "listen");
    options.advertise = text_field(L, "advertise");
    options.cluster = text_field(L, "cluster");
    options.heartbeat_ms = (uint32_t)number_field(L, "heartbeat");
    options.election_ms = (uint32_t)number_field(L, "election");
    options.lua_bytes_max = (size_t)number_field(L, "lua_bytes_max");
    snapshot_fields(L, &options.snapshots);
    self_fields(L, &options.self);
    lua_getfield(L, 1, "joins");
    options.joins = lua_toboolean(L, -1) != 0;
    options.scrub_rate = (uint64_t)number_field(L, "scrub_rate");
    options.log_level = LOG_INFO;
    const char *level = text_field(L, "log_level");
    if (level != NULL && !log_level_parse(level, &options.log_level))
        return luaL_error(L, "log level");
    const char *format = text_field(L, "log_format");
    options.log_format = format != NULL && strcmp(format, "json") == 0 ? LOG_JSON : LOG_TEXT;
    lua_getfield(L, 1, "insecure");
    options.insecure = lua_toboolean(L, -1) != 0;
    lua_getfield(L, 1, "bundles");
    int list = lua_gettop(L);
    for (; lua_istable(L, list) && options.bundles_count < MOUNTS_MAX; options.bundles_count++) {
        struct slice *bundle = &bundles[options.bundles_count];
        lua_rawgeti(L, list, (int)options.bundles_count + 1);
        if (lua_isnil(L, -1))
            break;
        bundle->data = (const uint8_t *)lua_tolstring(L, -1, &bundle->size);
    }
    options.bundles = bundles;
    struct buffer why = {0};
    int exit_code = node_run(&options, &why);
    lua_pushinteger(L, exit_code);
    lua_pushlstring(L, (const char *)why.data, why.size);
    buffer_close(&why);
    return 2;
}

/* What a joining node and its directory are called by. */
static void join_options(lua_State *L, struct node_options *options)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    options->id = (node_id)number_field(L, "id");
    options->data = text_field(L, "data");
    options->listen = text_field(L, "listen");
    options->advertise = text_field(L, "advertise");
    lua_getfield(L, 1, "insecure");
    options->insecure = lua_toboolean(L, -1) != 0;
}

static int join_refused(lua_State *L, int exit_code, struct buffer *why)
{
    lua_pushnil(L);
    lua_pushinteger(L, exit_code);
    lua_pushlstring(L, (const char *)why->data, why->size);
    buffer_close(why);
    return 3;
}

/* join_begin{ id, data, listen, ... } -> incarnation, the cluster that has let it in before or false; or nil, exit code, sentence */
static int node_begin_join(lua_State *L)
{
    struct node_options options = {0};
    struct buffer why = {0};
    uint64_t incarnation = 0;
    uint64_t cluster_id = 0;
    join_options(L, &options);
    int exit_code = node_join_begin(&options, &incarnation, &cluster_id, &why);
    if (exit_code != NODE_EXIT_OK)
        return join_refused(L, exit_code, &why);
    buffer_close(&why);
    lua_pushnumber(L, (double)incarnation);
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)cluster_id);
    if (cluster_id != 0)
        lua_pushstring(L, text);
    else
        lua_pushboolean(L, 0);
    return 2;
}

/* join_end({ data }, the cluster's id as status says it) -> true; or nil, exit code, sentence */
static int node_end_join(lua_State *L)
{
    struct node_options options = {0};
    struct buffer why = {0};
    join_options(L, &options);
    uint64_t cluster_id = strtoull(luaL_checkstring(L, 2), NULL, 16);
    int exit_code = node_join_end(&options, cluster_id, &why);
    if (exit_code != NODE_EXIT_OK)
        return join_refused(L, exit_code, &why);
    buffer_close(&why);
    lua_pushboolean(L, true);
    return 1;
}

/* --- a stopped node's log ------------------------------------------------------------------------------------------------------------ */

struct walk {
    lua_State *L;
};

static bool call_lua(lua_State *L, int arguments)
{
    lua_call(L, arguments, 1);
    bool go_on = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return go_on;
}

static bool walk_frame(void *context, const char *file, uint64_t offset, const struct frame *frame)
{
    lua_State *L = ((struct walk *)context)->L;
    static const char *const types[] = {"?", "entries", "cut", "mark", "next", "reset"};
    lua_pushvalue(L, 3);
    lua_pushstring(L, file);
    lua_pushnumber(L, (double)offset);
    lua_pushstring(L, types[frame->type]);
    lua_pushnumber(L, (double)frame->first);
    lua_pushnumber(L, (double)frame->last);
    return call_lua(L, 5);
}

/* A segment is shown as a frame of kind "segment": the entry that its first one follows. */
static bool walk_segment(void *context, const char *file, const struct segment *segment)
{
    lua_State *L = ((struct walk *)context)->L;
    lua_pushvalue(L, 3);
    lua_pushstring(L, file);
    lua_pushnumber(L, 0);
    lua_pushstring(L, "segment");
    lua_pushnumber(L, (double)segment->base.index + 1);
    lua_pushnumber(L, (double)segment->base.index);
    return call_lua(L, 5);
}

static bool walk_record(void *context, const char *file, uint64_t offset, const struct entry *entry,
                        struct slice bytes)
{
    lua_State *L = ((struct walk *)context)->L;
    lua_pushvalue(L, 2);
    lua_pushstring(L, file);
    lua_pushnumber(L, (double)offset);
    lua_pushnumber(L, (double)entry->index);
    lua_pushnumber(L, (double)entry->term);
    lua_pushnumber(L, (double)entry->stamp_ms);
    lua_pushstring(L, entry_kind_name(entry->kind));
    lua_pushlstring(L, (const char *)entry->payload.data, entry->payload.size);
    lua_pushlstring(L, (const char *)bytes.data, bytes.size);
    return call_lua(L, 8);
}

/* walk_log(dir, record function, frame function) -> true, "file F, offset N" of a last write that is not whole or false, term,
 * voted for; or nil, why. Functions return true to go on. */
static int node_walk_log(lua_State *L)
{
    struct disk *disk = NULL;
    struct buffer why = {0};
    struct log_end end = {0};
    struct walk walk = {.L = L};
    const struct log_visitor visitor = {
        .context = &walk, .segment = walk_segment, .frame = walk_frame, .record = walk_record};
    struct identity identity;
    struct storage_vote_report vote = {0};
    lua_settop(L, 3);
    enum status status = disk_posix_open(luaL_checkstring(L, 1), false, false, &disk, &why);
    if (status == STATUS_OK) {
        status = identity_load(disk, &identity, &why);
        if (status == STATUS_NOT_FOUND) {
            buffer_append(&why, "no node's data is here (no file identity)", 41);
        } else if (status == STATUS_OK) {
            status = log_scan(disk, &visitor, &end, &why);
            if (status == STATUS_OK && end.segment == 0 && identity.formation == FORMATION_FORMED) {
                static const char gone[] =
                    "file log-00000001 is missing: this directory was part of a cluster, and its "
                    "whole log is gone";
                buffer_append(&why, gone, sizeof gone - 1);
                status = STATUS_CORRUPT;
            }
            if (status == STATUS_OK)
                status = storage_check_vote(disk, &vote, &why);
        }
        if (status != STATUS_OK && why.size == 0)
            buffer_append(&why, disk->error(disk), strlen(disk->error(disk)));
        disk->free(disk);
    }
    if (status != STATUS_OK) {
        lua_pushnil(L);
        lua_pushlstring(L, (const char *)why.data, why.size);
        buffer_close(&why);
        return 2;
    }
    lua_pushboolean(L, 1);
    char file[DISK_NAME_MAX];
    segment_name(file, end.segment);
    if (end.torn)
        lua_pushfstring(L, "file %s, offset %f", file, (lua_Number)end.offset);
    else
        lua_pushboolean(L, 0);
    lua_pushnumber(L, (double)vote.term);
    lua_pushnumber(L, (double)vote.voted_for);
    return 4;
}

/* Reads a snapshot to its end. */
static enum status read_snapshot(struct disk *disk, const char *name, struct snapshot_seal *seal,
                                 struct buffer *why)
{
    struct snapshot_reader *reader = NULL;
    uint32_t section = 0;
    struct slice bytes;
    bool end = false;
    enum status status = snapshot_reader_open(disk, name, &reader, why);
    if (status != STATUS_OK)
        return status;
    while (status == STATUS_OK && !end)
        status = snapshot_reader_next(reader, &section, &bytes, &end);
    *seal = snapshot_reader_seal(reader);
    if (status != STATUS_OK)
        buffer_append(why, snapshot_reader_why(reader), strlen(snapshot_reader_why(reader)));
    snapshot_reader_close(reader);
    return status;
}

static void push_snapshot(lua_State *L, struct disk *disk, raft_index index)
{
    char name[DISK_NAME_MAX];
    struct snapshot_seal seal = {0};
    struct buffer why = {0};
    snapshot_name(name, index);
    enum status status = read_snapshot(disk, name, &seal, &why);
    lua_newtable(L);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "file");
    lua_pushnumber(L, (double)index);
    lua_setfield(L, -2, "index");
    lua_pushnumber(L, (double)seal.chunks);
    lua_setfield(L, -2, "chunks");
    lua_pushnumber(L, (double)seal.file_bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushlstring(L, (const char *)why.data, why.size);
    lua_setfield(L, -2, status == STATUS_OK ? "whole" : "damaged");
    buffer_close(&why);
}

/* snapshots(dir) -> the files that count, newest first, each read to its end: {file, index, chunks, bytes, whole or damaged: a
 * sentence}; or nil, why. */
static int node_snapshots(lua_State *L)
{
    struct disk *disk = NULL;
    struct buffer why = {0};
    raft_index indexes[64];
    size_t count = 0;
    enum status status = disk_posix_open(luaL_checkstring(L, 1), false, false, &disk, &why);
    if (status == STATUS_OK)
        status = snapshot_list(disk, indexes, sizeof indexes / sizeof *indexes, &count);
    if (status != STATUS_OK)
        lua_pushnil(L);
    else
        lua_newtable(L);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        push_snapshot(L, disk, indexes[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_pushlstring(L, (const char *)why.data, why.size);
    buffer_close(&why);
    if (disk != NULL)
        disk->free(disk);
    return 2;
}

int bind_node(lua_State *L)
{
    static const luaL_Reg functions[] = {{"bundle", node_bundle},
                                         {"describe", node_describe},
                                         {"hash", node_hash},
                                         {"run", node_start},
                                         {"walk_log", node_walk_log},
                                         {"snapshots", node_snapshots},
                                         {"join_begin", node_begin_join},
                                         {"join_end", node_end_join},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushstring(L, TIDELOCK_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
