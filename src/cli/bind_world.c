/* cli/bind_world.c - tidelock.world: replicas on virtual time (sim/replica_world.h) for lua/tidelock/virtual.lua. See cli/bind.h.
 *
 *   world.new(options) -> w        options: seed, nodes, bundles (a list of texts), delay_ms, write_ms, apply_ms, election_ms,
 *                                  heartbeat_ms, trace (a transcript to standard output)
 *   w:METHOD(...)                  nodes are named by their ids, from 1; times are virtual ms
 *   world.damage(dir, file, at, bytes)   the same of a stopped node's real directory
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/memory.h"
#include "cli/bind.h"
#include "sim/damage.h"
#include "sim/replica_world.h"
#include "sim/sim_disk.h"
#include "wire/pack.h"

#define WORLD_TYPE "tidelock.world"

enum { LUA_BYTES_MAX = 256 * 1024 * 1024, SLOW_MS_MAX = 60000 };

/* What a script looks at: when it changes, run() comes back. */
struct look {
    bool up;
    bool paused;
    uint32_t role;
    uint64_t term;
};

struct box {
    struct replica_world *world;
    uint32_t nodes;
    uint32_t *pending; /* requests without a reply */
    size_t pending_count, pending_capacity;
    uint64_t told; /* events, so far */
    struct look seen[REPLICA_WORLD_NODES_MAX];
};

static struct box *check_box(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, WORLD_TYPE);
    luaL_argcheck(L, box->world != NULL, 1, "the world was closed");
    return box;
}

static uint32_t check_node(lua_State *L, const struct box *box, int at)
{
    double id = luaL_checknumber(L, at);
    luaL_argcheck(L, id >= 1 && id <= box->nodes && id == (double)(uint32_t)id, at, "no such node");
    return (uint32_t)id - 1;
}

static uint64_t check_whole(lua_State *L, int at, double max)
{
    double number = luaL_checknumber(L, at);
    luaL_argcheck(L, number >= 0 && number <= max && number == (double)(uint64_t)number, at,
                  "a whole number within bounds is wanted");
    return (uint64_t)number;
}

static struct slice check_slice(lua_State *L, int at)
{
    struct slice bytes;
    bytes.data = (const uint8_t *)luaL_checklstring(L, at, &bytes.size);
    return bytes;
}

static bool is_up(const struct box *box, uint32_t node)
{
    struct replica_world_status status;
    replica_world_status(box->world, node, &status);
    return status.up;
}

static int fail(lua_State *L, const char *text, size_t size)
{
    lua_pushnil(L);
    lua_pushlstring(L, text, size);
    return 2;
}

/* --- making it ----------------------------------------------------------------------------------------------------------------------- */

static uint32_t option(lua_State *L, const char *name, double max)
{
    lua_getfield(L, 1, name);
    uint32_t number = (uint32_t)check_whole(L, lua_gettop(L), max);
    lua_pop(L, 1);
    return number;
}

static void take_bundles(lua_State *L, struct buffer *out)
{
    lua_getfield(L, 1, "bundles");
    luaL_checktype(L, -1, LUA_TTABLE);
    uint32_t count = (uint32_t)lua_objlen(L, -1);
    pack_array(out, count);
    for (uint32_t i = 1; i <= count; i++) {
        struct slice bundle;
        lua_rawgeti(L, -1, (int)i);
        bundle.data = (const uint8_t *)lua_tolstring(L, -1, &bundle.size);
        if (bundle.data != NULL)
            pack_text(out, bundle);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void put_line(void *context, const char *line)
{
    (void)context;
    fputs(line, stdout);
    fputc('\n', stdout);
}

static int world_new(lua_State *L)
{
    char line[REPLICA_WORLD_LINE_BYTES];
    luaL_checktype(L, 1, LUA_TTABLE);
    struct replica_world_options how = {.nodes = option(L, "nodes", REPLICA_WORLD_NODES_MAX),
                                        .delay_ms_max = option(L, "delay_ms", SLOW_MS_MAX),
                                        .write_ms_max = option(L, "write_ms", SLOW_MS_MAX),
                                        .apply_ms_max = option(L, "apply_ms", SLOW_MS_MAX),
                                        .election_ms = option(L, "election_ms", SLOW_MS_MAX),
                                        .heartbeat_ms = option(L, "heartbeat_ms", SLOW_MS_MAX),
                                        .lua_bytes_max = LUA_BYTES_MAX};
    luaL_argcheck(L, how.nodes >= 1 && how.delay_ms_max >= 1, 1, "at least one node, and 1 ms");
    lua_getfield(L, 1, "seed");
    how.seed = (uint64_t)luaL_checknumber(L, -1);
    const uint32_t founders = option(L, "founders", how.nodes);
    luaL_argcheck(L, founders >= 1, 1, "at least one founder");
    replica_world_line(founders, line);
    struct box *box = lua_newuserdata(L, sizeof *box);
    memset(box, 0, sizeof *box);
    luaL_getmetatable(L, WORLD_TYPE);
    lua_setmetatable(L, -2);
    struct buffer bundles = {0};
    take_bundles(L, &bundles);
    box->nodes = how.nodes;
    box->world = replica_world_new(&how, line, buffer_slice(&bundles));
    for (uint32_t i = founders; i < how.nodes; i++)
        replica_world_flags(box->world, i, i + 1, "", buffer_slice(&bundles));
    buffer_close(&bundles);
    lua_getfield(L, 1, "trace");
    if (lua_toboolean(L, -1))
        replica_world_trace(box->world, (struct trace_sink){.line = put_line});
    lua_pop(L, 1);
    return 1;
}

static int world_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, WORLD_TYPE);
    if (box->world != NULL)
        replica_world_free(box->world);
    mem_free(box->pending);
    box->world = NULL;
    box->pending = NULL;
    return 0;
}

/* --- time --------------------------------------------------------------------------------------------------------------------------- */

static int world_now(lua_State *L)
{
    lua_pushnumber(L, (double)replica_world_now(check_box(L)->world));
    return 1;
}

static bool has_changed(struct box *box)
{
    bool changed = false;
    for (uint32_t i = 0; i < box->nodes; i++) {
        struct replica_world_status status;
        replica_world_status(box->world, i, &status);
        const struct look look = {
            .up = status.up, .paused = status.paused, .role = status.role, .term = status.term};
        struct look *seen = &box->seen[i];
        changed |= look.up != seen->up || look.paused != seen->paused || look.role != seen->role ||
                   look.term != seen->term;
        *seen = look;
    }
    return changed;
}

/* Forgets requests that have ended; true: there were some. */
static bool has_answers(struct box *box)
{
    size_t kept = 0;
    for (size_t i = 0; i < box->pending_count; i++) {
        struct replica_world_reply reply = replica_world_reply(box->world, box->pending[i]);
        if (reply.replies == 0 && !reply.node_died)
            box->pending[kept++] = box->pending[i];
    }
    bool some = kept < box->pending_count;
    box->pending_count = kept;
    return some;
}

/* run(ms): until then, or until a request has ended, events were told, or a node went up or down or changed its role or term. -> nil; or what a
 * check of the simulator found broken */
static int world_run(lua_State *L)
{
    struct box *box = check_box(L);
    uint64_t until = replica_world_now(box->world) + check_whole(L, 2, 1e15);
    uint64_t events = replica_world_events(box->world);
    while (replica_world_now(box->world) < until) {
        const char *broken = replica_world_run(box->world, 1);
        if (broken != NULL) {
            lua_pushstring(L, broken);
            return 1;
        }
        if (replica_world_events(box->world) == events)
            continue;
        events = replica_world_events(box->world);
        bool answers = has_answers(box);
        bool told = replica_world_events_told(box->world) != box->told;
        box->told = replica_world_events_told(box->world);
        if (has_changed(box) || answers || told)
            break;
    }
    return 0;
}

/* tell(what, text, id or nil): a line of the script's own in the transcript */
static int world_tell(lua_State *L)
{
    struct box *box = check_box(L);
    struct transcript *transcript = replica_world_transcript(box->world);
    uint64_t id = lua_isnoneornil(L, 4) ? 0 : check_node(L, box, 4) + 1;
    if (!transcript_begin(transcript, replica_world_now(box->world), id, "script"))
        return 0;
    transcript_text(transcript, "what", luaL_checkstring(L, 2));
    transcript_text(transcript, "text", luaL_checkstring(L, 3));
    transcript_end(transcript);
    return 0;
}

/* --- nodes -------------------------------------------------------------------------------------------------------------------------- */

/* start(id) -> true; or nil, why it refused */
static int world_start(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t node = check_node(L, box, 2);
    luaL_argcheck(L, !is_up(box, node), 2, "it runs already");
    bool started = replica_world_start(box->world, node);
    const char *why = replica_world_fatal(box->world, node);
    if (!started)
        return fail(L, why, strlen(why));
    lua_pushboolean(L, 1);
    return 1;
}

/* joiner(id[, cluster]) -> its incarnation; nil: its disk did not take it. What start --join does to a directory: makes its identity, and
 * with the cluster's id, as status says it, completes it. */
static int world_joiner(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t node = check_node(L, box, 2);
    luaL_argcheck(L, !is_up(box, node), 2, "it runs already");
    uint64_t cluster = strtoull(luaL_optstring(L, 3, "0"), NULL, 16);
    uint64_t incarnation = replica_world_joiner(box->world, node, cluster);
    if (incarnation == 0)
        return 0;
    lua_pushnumber(L, (double)incarnation);
    return 1;
}

static int world_crash(lua_State *L)
{
    struct box *box = check_box(L);
    replica_world_crash(box->world, check_node(L, box, 2));
    return 0;
}

static int world_stop(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t node = check_node(L, box, 2);
    luaL_argcheck(L, is_up(box, node), 2, "the node is down");
    replica_world_stop(box->world, node);
    return 0;
}

/* last_words(id) -> the sentence with which it ended itself, or refused to start; nil: it did not. */
static int world_last_words(lua_State *L)
{
    struct box *box = check_box(L);
    const char *why = replica_world_fatal(box->world, check_node(L, box, 2));
    if (why[0] == 0)
        return 0;
    lua_pushstring(L, why);
    return 1;
}

/* look(id) -> up, paused, role or nil, term */
static int world_look(lua_State *L)
{
    struct box *box = check_box(L);
    struct replica_world_status status;
    replica_world_status(box->world, check_node(L, box, 2), &status);
    lua_pushboolean(L, status.up);
    lua_pushboolean(L, status.paused);
    if (status.raft)
        lua_pushstring(L, raft_role_name((enum raft_role)status.role));
    else
        lua_pushnil(L);
    lua_pushnumber(L, (double)status.term);
    return 4;
}

/* status(id) -> what it answers to tidelock.status, packed; nil: it is down */
static int world_status(lua_State *L)
{
    struct box *box = check_box(L);
    struct buffer out = {0};
    uint32_t node = check_node(L, box, 2);
    if (!is_up(box, node))
        return 0;
    replica_world_pack_status(box->world, node, &out);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_close(&out);
    return 1;
}

/* --- clients ------------------------------------------------------------------------------------------------------------------------ */

static enum request_read check_read(lua_State *L, int at)
{
    static const char *const words[] = {"linearizable", "lease", "stale", NULL};
    return (enum request_read)luaL_checkoption(L, at, words[READ_LINEARIZABLE], words);
}

/* request(id, name, packed list, timeout_ms, read or nil, query only, dry run, session or nil, seq, done_below) -> its number */
static int world_request(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t node = check_node(L, box, 2);
    struct request request = {.name = check_slice(L, 3),
                              .args = check_slice(L, 4),
                              .timeout_ms = (uint32_t)check_whole(L, 5, 4e9),
                              .read = check_read(L, 6),
                              .forward = true,
                              .query_only = lua_toboolean(L, 7) != 0,
                              .dry_run = lua_toboolean(L, 8) != 0};
    if (!lua_isnoneornil(L, 9)) {
        request.session = check_slice(L, 9);
        request.seq = check_whole(L, 10, 9e15);
        request.done_below = check_whole(L, 11, 9e15);
    }
    uint32_t number = replica_world_ask(box->world, node, &request);
    if (box->pending_count == box->pending_capacity) {
        box->pending_capacity = box->pending_capacity * 2 + 16;
        box->pending = mem_realloc(box->pending, box->pending_capacity * sizeof *box->pending);
    }
    box->pending[box->pending_count++] = number;
    lua_pushnumber(L, number);
    return 1;
}

/* watch(id, packed arguments of tidelock.watch) -> its number; or nil, the packed error */
static int world_watch(lua_State *L)
{
    struct box *box = check_box(L);
    struct buffer error = {0};
    uint32_t number = replica_world_watch(box->world, check_node(L, box, 2), check_slice(L, 3), &error);
    if (number == UINT32_MAX) {
        lua_pushnil(L);
        lua_pushlstring(L, (const char *)error.data, error.size);
        buffer_close(&error);
        return 2;
    }
    lua_pushnumber(L, number);
    return 1;
}

/* watch_from(number) -> the id behind which it began */
static int world_watch_from(lua_State *L)
{
    struct buffer out = {0};
    replica_world_watch_from(check_box(L)->world, (uint32_t)check_whole(L, 2, 4e9), &out);
    lua_pushlstring(L, (const char *)out.data, out.size);
    buffer_close(&out);
    return 1;
}

/* next_event(number) -> "event", packed [id, topic, key, data]; "ended", packed error; "gone"; or nothing yet */
static int world_next_event(lua_State *L)
{
    static const char *const words[] = {
        [REPLICA_WORLD_EVENT] = "event", [REPLICA_WORLD_ENDED] = "ended", [REPLICA_WORLD_GONE] = "gone"};
    struct buffer out = {0};
    enum replica_world_told told = replica_world_next(check_box(L)->world, (uint32_t)check_whole(L, 2, 4e9), &out);
    if (told == REPLICA_WORLD_NOTHING)
        return 0;
    lua_pushstring(L, words[told]);
    lua_pushlstring(L, out.size > 0 ? (const char *)out.data : "", out.size);
    buffer_close(&out);
    return 2;
}

/* reply(number) -> "ok" | "error" | "died", packed value or error map, index, definite; nil: none yet */
static int world_reply(lua_State *L)
{
    struct box *box = check_box(L);
    struct replica_world_reply reply = replica_world_reply(box->world, (uint32_t)check_whole(L, 2, 4e9));
    if (reply.replies == 0 && !reply.node_died)
        return 0;
    lua_pushstring(L, reply.replies == 0 ? "died" : reply.ok ? "ok" : "error");
    lua_pushlstring(L, (const char *)reply.value.data, reply.value.size);
    lua_pushnumber(L, (double)reply.index);
    lua_pushboolean(L, reply.definite);
    return 4;
}

/* --- faults ------------------------------------------------------------------------------------------------------------------------- */

static int world_cut(lua_State *L)
{
    struct box *box = check_box(L);
    replica_world_cut(box->world, check_node(L, box, 2), check_node(L, box, 3), lua_toboolean(L, 4) != 0);
    return 0;
}

static uint32_t check_parts(lua_State *L, int at)
{
    enum { MILLION = 1000000 };
    double share = luaL_checknumber(L, at);
    luaL_argcheck(L, share >= 0 && share <= 1, at, "a share from 0 to 1 is wanted");
    return (uint32_t)(share * MILLION + 0.5);
}

/* lose(lost, doubled, overtaken): shares of the frames between nodes */
static int world_lose(lua_State *L)
{
    struct box *box = check_box(L);
    const struct replica_world_loss loss = {
        .lost = check_parts(L, 2), .doubled = check_parts(L, 3), .overtaken = check_parts(L, 4)};
    replica_world_lose(box->world, loss);
    return 0;
}

static int world_delay(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t ms = (uint32_t)check_whole(L, 2, SLOW_MS_MAX);
    replica_world_delay(box->world, ms > 0 ? ms : 1);
    return 0;
}

static int world_slow(lua_State *L)
{
    struct box *box = check_box(L);
    replica_world_slow(box->world, check_node(L, box, 2), (uint32_t)check_whole(L, 3, SLOW_MS_MAX),
                       (uint32_t)check_whole(L, 4, SLOW_MS_MAX));
    return 0;
}

static int world_pause(lua_State *L)
{
    struct box *box = check_box(L);
    replica_world_pause(box->world, check_node(L, box, 2), check_whole(L, 3, 1e15));
    return 0;
}

static int world_resume(lua_State *L)
{
    struct box *box = check_box(L);
    replica_world_resume(box->world, check_node(L, box, 2));
    return 0;
}

static int world_skew(lua_State *L)
{
    struct box *box = check_box(L);
    double ms = luaL_checknumber(L, 3);
    luaL_argcheck(L, ms >= -1e12 && ms <= 1e12, 3, "ms within 1e12 are wanted");
    replica_world_skew(box->world, check_node(L, box, 2), (int64_t)ms);
    return 0;
}

static int world_fill(lua_State *L)
{
    struct box *box = check_box(L);
    sim_disk_full(replica_world_disk(box->world, check_node(L, box, 2)), lua_toboolean(L, 3) != 0);
    return 0;
}

/* Arguments at `at`: "log" or "vote", offset or nil (the tail), bytes. -> text, or nil, why */
static int damage(lua_State *L, struct disk *disk, int at, bool *done)
{
    static const char *const files[] = {"log", "vote", NULL};
    struct buffer where = {0};
    int file = luaL_checkoption(L, at, NULL, files);
    uint64_t offset = lua_isnil(L, at + 1) ? DAMAGE_TAIL : check_whole(L, at + 1, 9e15);
    size_t bytes = (size_t)check_whole(L, at + 2, DAMAGE_BYTES_MAX);
    *done = damage_bytes(disk, file == 0 ? DAMAGE_LOG : DAMAGE_VOTE, offset, bytes, &where) == STATUS_OK;
    if (!*done)
        lua_pushnil(L);
    lua_pushlstring(L, (const char *)where.data, where.size);
    buffer_close(&where);
    return *done ? 1 : 2;
}

static int world_damage(lua_State *L)
{
    struct box *box = check_box(L);
    uint32_t node = check_node(L, box, 2);
    bool done = false;
    luaL_argcheck(L, !is_up(box, node), 2, "the node runs");
    int results = damage(L, replica_world_disk(box->world, node), 3, &done);
    if (done)
        replica_world_damaged(box->world, node);
    return results;
}

static int damage_directory(lua_State *L)
{
    struct disk *disk = NULL;
    struct buffer why = {0};
    bool done = false;
    if (disk_posix_open(luaL_checkstring(L, 1), false, true, &disk, &why) != STATUS_OK) {
        int results = fail(L, (const char *)why.data, why.size);
        buffer_close(&why);
        return results;
    }
    int results = damage(L, disk, 2, &done);
    disk->free(disk);
    return results;
}

int bind_world(lua_State *L)
{
    static const luaL_Reg functions[] = {{"new", world_new}, {"damage", damage_directory}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", world_close},
                                       {"__gc", world_close},
                                       {"now", world_now},
                                       {"run", world_run},
                                       {"tell", world_tell},
                                       {"start", world_start},
                                       {"joiner", world_joiner},
                                       {"crash", world_crash},
                                       {"stop", world_stop},
                                       {"look", world_look},
                                       {"last_words", world_last_words},
                                       {"status", world_status},
                                       {"request", world_request},
                                       {"watch", world_watch},
                                       {"watch_from", world_watch_from},
                                       {"next_event", world_next_event},
                                       {"reply", world_reply},
                                       {"cut", world_cut},
                                       {"lose", world_lose},
                                       {"delay", world_delay},
                                       {"slow", world_slow},
                                       {"pause", world_pause},
                                       {"resume", world_resume},
                                       {"skew", world_skew},
                                       {"fill", world_fill},
                                       {"damage", world_damage},
                                       {NULL, NULL}};
    luaL_newmetatable(L, WORLD_TYPE);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_register(L, NULL, methods);
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
