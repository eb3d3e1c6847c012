/* cli/bind_swarm.c - tidelock.swarm: seeds of the simulator with a service of the user's (sim/service.h). See cli/bind.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/trace.h"
#include "cli/bind.h"
#include "cli/fields.h"
#include "sim/faults.h"
#include "sim/service.h"
#include "wire/pack.h"

enum { CLIENTS = 8, COMMANDS_PER_SECOND = 100, FAULT_MS = 15000, FAULT_MS_MAX = 3600000, TIMEOUT_MS = 1000 };
static const double seed_max = 9007199254740992.0;

/* --- options ----------------------------------------------------------------------------------------------------------------- */

/* The whole number `name` of the table at `at`; `standard` if it has none. */
static uint64_t number_field(lua_State *L, int at, const char *name, double standard, double low, double high)
{
    lua_getfield(L, at, name);
    double number = lua_isnil(L, -1) ? standard : lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    lua_pop(L, 1);
    if (!(number >= low && number <= high) || number != (double)(uint64_t)number)
        luaL_error(L, "%s: wants a whole number from %f to %f", name, low, high);
    return (uint64_t)number;
}

static bool flag_field(lua_State *L, int at, const char *name, bool standard)
{
    lua_getfield(L, at, name);
    bool flag = lua_isnil(L, -1) ? standard : lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return flag;
}

/* The bytes stay the table's. */
static struct slice text_field(lua_State *L, int at, const char *name)
{
    struct slice text;
    lua_getfield(L, at, name);
    text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
    lua_pop(L, 1);
    if (text.data == NULL)
        luaL_error(L, "%s: wants text", name);
    return text;
}

static size_t check_fault(lua_State *L, const char *name)
{
    size_t place = fault_named(name);
    if (place == faults_count() || fault_is_own(place))
        luaL_error(L, "there is no fault '%s'", name);
    return place;
}

static uint64_t check_faults(lua_State *L, int options)
{
    uint64_t faults = 0;
    lua_getfield(L, options, "faults");
    if (!lua_isnil(L, -1))
        luaL_checktype(L, -1, LUA_TTABLE);
    else
        faults = UINT64_MAX;
    for (int i = 1; lua_istable(L, -1) && i <= (int)lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        faults |= UINT64_C(1) << check_fault(L, luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return faults;
}

/* The list `name` of the table at `options` on the stack, NULL and nothing if there is none; else room for what it becomes
 * above it. */
static void *list_room(lua_State *L, int options, const char *name, size_t size, size_t *count)
{
    lua_getfield(L, options, name);
    if (lua_isnil(L, -1)) {
        lua_pushnil(L);
        return NULL;
    }
    luaL_checktype(L, -1, LUA_TTABLE);
    *count = lua_objlen(L, -1);
    void *room = lua_newuserdata(L, (*count + 1) * size);
    memset(room, 0, (*count + 1) * size);
    return room;
}

static const struct swarm_request *check_requests(lua_State *L, int options, const struct swarm_options *how,
                                                  size_t *count)
{
    struct swarm_request *list = list_room(L, options, "requests", sizeof *list, count);
    int table = lua_gettop(L) - 1;
    for (size_t i = 0; list != NULL && i < *count; i++) {
        lua_rawgeti(L, table, (int)i + 1);
        int at = lua_gettop(L);
        luaL_checktype(L, at, LUA_TTABLE);
        list[i] = (struct swarm_request){.at = (uint32_t)number_field(L, at, "at", 0, 0, FAULT_MS_MAX),
                                         .client = (uint32_t)number_field(L, at, "client", 1, 1, how->clients),
                                         .node = (uint32_t)number_field(L, at, "node", 1, 1, how->nodes) - 1,
                                         .timeout_ms =
                                             (uint32_t)number_field(L, at, "timeout", TIMEOUT_MS, 1, FAULT_MS_MAX),
                                         .forward = flag_field(L, at, "forward", true),
                                         .query = flag_field(L, at, "query", false),
                                         .again = flag_field(L, at, "again", false),
                                         .name = text_field(L, at, "name"),
                                         .args = text_field(L, at, "args")};
        if (pack_check(list[i].args) != STATUS_OK)
            luaL_error(L, "args: wants the bytes of a MessagePack list");
        lua_pop(L, 1);
    }
    return list;
}

static void check_strikes(lua_State *L, int options, struct strike *list, size_t count, uint32_t nodes)
{
    lua_getfield(L, options, "strikes");
    int table = lua_gettop(L);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, table, (int)i + 1);
        int at = lua_gettop(L);
        luaL_checktype(L, at, LUA_TTABLE);
        size_t place = check_fault(L, (const char *)text_field(L, at, "fault").data);
        const struct fault *fault = fault_at(place);
        list[i] =
            (struct strike){.fault = (uint32_t)place,
                            .at = (uint32_t)number_field(L, at, "at", 0, 0, FAULT_MS_MAX),
                            .leader = flag_field(L, at, "leader", false),
                            .node = (uint32_t)number_field(L, at, "node", 1, 1, nodes) - 1,
                            .amount = (uint32_t)number_field(L, at, "amount", 0, 0, fault->amount_max),
                            .lasts = (uint32_t)number_field(L, at, "lasts", fault->lasts_ms, 0, FAULT_MS_MAX)};
        uint32_t next = (list[i].node + 1) % nodes;
        list[i].peer = (uint32_t)number_field(L, at, "peer", next + 1, 1, nodes) - 1;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* --- results ------------------------------------------------------------------------------------------------------------------- */

static void push_strikes(lua_State *L, struct swarm *swarm)
{
    size_t *count = NULL;
    const struct strike *list = swarm_script(swarm, &count);
    lua_createtable(L, (int)*count, 0);
    for (size_t i = 0; i < *count; i++) {
        lua_createtable(L, 0, 7);
        bind_set_text(L, "fault", fault_at(list[i].fault)->name);
        bind_set_number(L, "at", list[i].at);
        bind_set_number(L, "node", list[i].node + 1);
        bind_set_number(L, "peer", list[i].peer + 1);
        bind_set_number(L, "amount", list[i].amount);
        bind_set_number(L, "lasts", list[i].lasts);
        if (list[i].leader)
            bind_set_flag(L, "leader", true);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_requests(lua_State *L, struct swarm *swarm)
{
    size_t count = 0;
    const struct swarm_request *list = swarm_requests(swarm, &count);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 8);
        bind_set_number(L, "at", list[i].at);
        bind_set_number(L, "client", list[i].client);
        bind_set_number(L, "node", list[i].node + 1);
        bind_set_number(L, "timeout", list[i].timeout_ms);
        bind_set_flag(L, "forward", list[i].forward);
        bind_set_flag(L, "query", list[i].query);
        bind_set_flag(L, "again", list[i].again);
        bind_set_slice(L, "name", list[i].name);
        bind_set_slice(L, "args", list[i].args);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* A world says first when it broke: "at 1708 ms: "; the report has that in a field. */
static const char *without_time(const char *failed)
{
    const char *colon = strncmp(failed, "at ", 3) == 0 ? strstr(failed, " ms: ") : NULL;
    return colon != NULL ? colon + 5 : failed;
}

static void push_report(lua_State *L, struct swarm *swarm, const struct swarm_report *report)
{
    char hash[20];
    lua_createtable(L, 0, 20);
    if (report->broken != NULL)
        bind_set_text(L, "failed", without_time(report->broken));
    bind_set_text(L, "phase", report->phase);
    bind_set_number(L, "at", replica_world_now(swarm_world(swarm)));
    bind_set_number(L, "ms", report->ms);
    bind_set_number(L, "events", report->events);
    bind_set_number(L, "ok", report->ok);
    bind_set_number(L, "refused", report->refused);
    if (report->refusal[0] != 0)
        bind_set_text(L, "refusal", report->refusal);
    bind_set_number(L, "unknown", report->unknown);
    bind_set_number(L, "committed", report->committed);
    bind_set_number(L, "nodes", report->nodes);
    bind_set_number(L, "form_ms", report->form_ms);
    snprintf(hash, sizeof hash, "%016" PRIx64, report->hash);
    bind_set_text(L, "hash", hash);
    lua_newtable(L);
    for (size_t i = 0; i < faults_count(); i++)
        if (swarm_struck(swarm, i) > 0)
            bind_set_number(L, fault_at(i)->name, swarm_struck(swarm, i));
    lua_setfield(L, -2, "struck");
    if (report->broken == NULL)
        return;
    push_strikes(L, swarm);
    lua_setfield(L, -2, "strikes");
    push_requests(L, swarm);
    lua_setfield(L, -2, "requests");
}

/* --- functions ----------------------------------------------------------------------------------------------------------------- */

static void write_line(void *file, const char *line)
{
    fputs(line, file);
    fputc('\n', file);
}

/* Whatever is not on the heap lies on the stack of L: no error of Lua's from here on, but for memory, can leak. */
static int run(lua_State *L, struct swarm_options *how, struct slice bundle, const struct strike *strikes,
               size_t strikes_count, bool trace)
{
    struct buffer bundles = {0};
    struct buffer why = {0};
    struct swarm_report report;
    struct service *service = service_new(bundle, &why);
    if (service == NULL) {
        lua_pushnil(L);
        lua_pushlstring(L, (const char *)why.data, why.size);
        buffer_close(&why);
        return 2;
    }
    pack_array(&bundles, 1);
    pack_text(&bundles, bundle);
    how->bundles = buffer_slice(&bundles);
    how->workload = service_workload(service);
    struct swarm *swarm = swarm_new(how);
    if (strikes != NULL) {
        size_t *count = NULL;
        struct strike *script = swarm_script(swarm, &count);
        memcpy(script, strikes, strikes_count * sizeof *strikes);
        *count = strikes_count;
    }
    if (trace)
        replica_world_trace(swarm_world(swarm), (struct trace_sink){.line = write_line, .context = stdout});
    /* What nodes tell their operators bears the time of the wall; the report says what counts. */
    enum log_level level = log_set_level(LOG_NONE);
    swarm_run(swarm, &report);
    (void)log_set_level(level);
    push_report(L, swarm, &report);
    swarm_free(swarm);
    service_free(service);
    buffer_close(&bundles);
    buffer_close(&why);
    return 1;
}

/* run{ bundle, seed, nodes, clients, commands (a second), fault_ms, faults = { names }, strikes, requests, form_ms, trace (to
 * standard output) } -> what came of it; or nil, why the service cannot be tried. Strikes and requests (in order of time)
 * take the place of what the seed would draw, and are given back of a seed that failed. */
static int swarm_run_seed(lua_State *L)
{
    size_t strikes_count = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct swarm_options how = {.seed = number_field(L, 1, "seed", 1, 0, seed_max),
                                .nodes = (uint32_t)number_field(L, 1, "nodes", 0, 0, REPLICA_WORLD_NODES_MAX),
                                .clients = (uint32_t)number_field(L, 1, "clients", CLIENTS, 1, SWARM_CLIENTS_MAX),
                                .commands_per_second =
                                    (uint32_t)number_field(L, 1, "commands", COMMANDS_PER_SECOND, 1, 10000),
                                .fault_ms = (uint32_t)number_field(L, 1, "fault_ms", FAULT_MS, 0, FAULT_MS_MAX),
                                .form_ms = (uint32_t)number_field(L, 1, "form_ms", 0, 0, FAULT_MS_MAX),
                                .faults = check_faults(L, 1),
                                .invariants = true};
    struct slice bundle = text_field(L, 1, "bundle");
    struct strike *strikes = list_room(L, 1, "strikes", sizeof *strikes, &strikes_count);
    if (strikes_count > SWARM_STRIKES_MAX)
        return luaL_error(L, "strikes: more than %d", SWARM_STRIKES_MAX);
    lua_getfield(L, 1, "requests");
    if (how.nodes == 0 && (strikes != NULL || !lua_isnil(L, -1)))
        return luaL_error(L, "nodes: a script of strikes or requests wants their number");
    how.requests = check_requests(L, 1, &how, &how.requests_count);
    if (strikes != NULL)
        check_strikes(L, 1, strikes, strikes_count, how.nodes);
    return run(L, &how, bundle, strikes, strikes_count, flag_field(L, 1, "trace", false));
}

/* faults() -> list of { name, help, lasts, amount }, the last two at most */
static int swarm_faults(lua_State *L)
{
    lua_createtable(L, (int)faults_count(), 0);
    for (size_t i = 0, count = 0; i < faults_count(); i++) {
        if (fault_is_own(i))
            continue;
        lua_createtable(L, 0, 4);
        bind_set_text(L, "name", fault_at(i)->name);
        bind_set_text(L, "help", fault_at(i)->help);
        bind_set_number(L, "lasts", fault_at(i)->lasts_ms);
        bind_set_number(L, "amount", fault_at(i)->amount_max);
        lua_rawseti(L, -2, (int)++count);
    }
    return 1;
}

int bind_swarm(struct lua_State *L)
{
    static const luaL_Reg functions[] = {{"run", swarm_run_seed}, {"faults", swarm_faults}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
