/* script/shape.c - see script/shape.h. */
#include "script/shape.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/memory.h"
#include "script/args.h"

enum { WORD_MAX = 48, MAPS_MAX = 200 };

struct shape {
    lua_State *L;
    int module;
    const char *file;
    struct buffer *why;
    bool wrong;
};

static const char *const module_fields[] = {
    "name",   "version",   "state",          "init",    "commands",    "queries",  "apply",     "query",
    "timers", "on_expire", "on_session_end", "migrate", "upgrade_row", "workload", "invariant", NULL};
static const char *const format_fields[] = {"name", "version", "write", "read", NULL};
static const char *const policy_fields[] = {"name",    "version", "every", "state",
                                            "observe", "review",  "admit", NULL};
static const char *const function_fields[] = {"run", "args", "help", "session", NULL};

static void __attribute__((format(printf, 3, 4))) say(struct shape *shape, int line, const char *format, ...)
{
    char text[512];
    va_list list;
    if (shape->wrong)
        buffer_append_byte(shape->why, '\n');
    shape->wrong = true;
    int size = line > 0 ? snprintf(text, sizeof text, "%.150s:%d: ", shape->file, line)
                        : snprintf(text, sizeof text, "%.150s: ", shape->file);
    va_start(list, format);
    size += vsnprintf(text + size, sizeof text - (size_t)size, format, list);
    va_end(list);
    buffer_append(shape->why, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

bool shape_is_word(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (i > 0 && ((c >= '0' && c <= '9') || c == '_'))))
            return false;
    }
    return name.size > 0 && name.size <= WORD_MAX;
}

/* --- names ------------------------------------------------------------------------------------------------------------ */

static int by_bytes(const void *left, const void *right)
{
    return slice_compare(*(const struct slice *)left, *(const struct slice *)right);
}

/* The text keys of the table at `table`, sorted, for the caller to free; other keys are said to be wrong. */
static struct slice *names_of(struct shape *shape, int table, const char *where, size_t *count)
{
    lua_State *L = shape->L;
    size_t all = 0;
    bool others = false;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        all++;
    struct slice *names = mem_alloc((all + 1) * sizeof *names);
    *count = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        others = others || lua_type(L, -2) != LUA_TSTRING;
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        names[*count].data = (const uint8_t *)lua_tolstring(L, -2, &names[*count].size);
        (*count)++;
    }
    if (others)
        say(shape, 0, "%s: the names must be text", where);
    qsort(names, *count, sizeof *names, by_bytes);
    return names;
}

/* How many letters differ (put in, left out, changed, two swapped): the distance of Damerau and Levenshtein. */
static size_t distance(struct slice a, const char *b)
{
    size_t size = strlen(b);
    size_t rows[3][WORD_MAX + 1];
    if (a.size > WORD_MAX || size > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= size; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.size; i++) {
        size_t *now = rows[i % 3];
        const size_t *before = rows[(i + 2) % 3];
        const size_t *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= size; j++) {
            bool same = a.data[i - 1] == (uint8_t)b[j - 1];
            size_t least = before[j - 1] + (same ? 0 : 1);
            least = before[j] + 1 < least ? before[j] + 1 : least;
            least = now[j - 1] + 1 < least ? now[j - 1] + 1 : least;
            if (i > 1 && j > 1 && a.data[i - 1] == (uint8_t)b[j - 2] && a.data[i - 2] == (uint8_t)b[j - 1] &&
                earlier[j - 2] + 1 < least)
                least = earlier[j - 2] + 1;
            now[j] = least;
        }
    }
    return rows[a.size % 3][size];
}

/* Says that the name is none of `known`, and which one may be meant. */
static void say_unknown(struct shape *shape, int line, const char *where, struct slice name,
                        const char *const *known)
{
    const char *nearest = NULL;
    size_t least = name.size < 4 ? 2 : 3;
    char all[160] = "";
    for (; *known != NULL; known++) {
        size_t far = distance(name, *known);
        if (far < least) {
            least = far;
            nearest = *known;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), " %s", *known);
    }
    int size = (int)(name.size < 64 ? name.size : 64);
    if (nearest != NULL)
        say(shape, line, "%sthere is no field '%.*s'; did you mean %s?", where, size, (const char *)name.data,
            nearest);
    else
        say(shape, line, "%sthere is no field '%.*s'; there are%s", where, size, (const char *)name.data, all);
}

static bool is_one_of(struct slice name, const char *const *known)
{
    while (*known != NULL && !slice_equal(name, slice_text(*known)))
        known++;
    return *known != NULL;
}

/* --- parts of a module --------------------------------------------------------------------------------------------------- */

static int line_of(lua_State *L, int function)
{
    lua_Debug debug;
    if (!lua_isfunction(L, function) || lua_iscfunction(L, function))
        return 0;
    lua_pushvalue(L, function);
    lua_getinfo(L, ">S", &debug);
    return debug.linedefined;
}

/* A command or query given as a table, at the top; `where` like "commands.set: ". */
static void check_declared(struct shape *shape, const char *where)
{
    lua_State *L = shape->L;
    int table = lua_gettop(L);
    size_t count = 0;
    lua_getfield(L, table, "run");
    int line = line_of(L, table + 1);
    if (!lua_isfunction(L, -1))
        say(shape, line, "%sit has no function run", where);
    struct slice *names = names_of(shape, table, where, &count);
    for (size_t i = 0; i < count; i++)
        if (!is_one_of(names[i], function_fields))
            say_unknown(shape, line, where, names[i], function_fields);
    mem_free(names);
    lua_getfield(L, table, "help");
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        say(shape, line, "%shelp must be text", where);
    lua_getfield(L, table, "session");
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        say(shape, line, "%ssession must be true or false", where);
    lua_getfield(L, table, "args");
    if (lua_type(L, -1) == LUA_TSTRING) {
        struct args *args = NULL;
        struct buffer why = {0};
        struct slice text;
        text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
        if (args_parse(text, &args, &why) == STATUS_OK)
            args_free(args);
        else
            say(shape, line, "%s%.*s", where, (int)why.size, (const char *)why.data);
        buffer_close(&why);
    } else if (!lua_isnil(L, -1)) {
        say(shape, line, "%sargs must be text", where);
    }
    lua_settop(L, table);
}

/* A table of functions; `declared`: each may also be a table with run, args and more. */
static void check_functions(struct shape *shape, const char *field, bool declared)
{
    lua_State *L = shape->L;
    size_t count = 0;
    lua_getfield(L, shape->module, field);
    if (!lua_istable(L, -1)) {
        if (!lua_isnil(L, -1))
            say(shape, 0, "%s must be a table of functions", field);
        lua_pop(L, 1);
        return;
    }
    int table = lua_gettop(L);
    struct slice *names = names_of(shape, table, field, &count);
    for (size_t i = 0; i < count; i++) {
        char where[WORD_MAX + 32];
        lua_pushlstring(L, (const char *)names[i].data, names[i].size);
        lua_rawget(L, table);
        snprintf(where, sizeof where, "%s.%.*s: ", field,
                 (int)(names[i].size < WORD_MAX ? names[i].size : WORD_MAX), (const char *)names[i].data);
        if (!shape_is_word(names[i]))
            say(shape, line_of(L, table + 1), "%sa name is made of a-z, 0-9 and _, and begins with a letter",
                where);
        if (lua_istable(L, -1) && declared)
            check_declared(shape, where);
        else if (!lua_isfunction(L, -1))
            say(shape, 0, declared ? "%sit must be a function, or a table with run" : "%sit must be a function",
                where);
        lua_settop(L, table);
    }
    mem_free(names);
    lua_pop(L, 1);
}

/* A name is unique over commands and queries. */
static void check_both(struct shape *shape)
{
    lua_State *L = shape->L;
    size_t count = 0;
    lua_getfield(L, shape->module, "commands");
    lua_getfield(L, shape->module, "queries");
    int queries = lua_gettop(L);
    if (lua_istable(L, queries - 1) && lua_istable(L, queries)) {
        struct buffer unsaid = {0};
        struct shape again = {.L = L, .file = shape->file, .why = &unsaid};
        struct slice *names = names_of(&again, queries - 1, "commands", &count);
        for (size_t i = 0; i < count; i++) {
            lua_pushlstring(L, (const char *)names[i].data, names[i].size);
            lua_rawget(L, queries);
            if (!lua_isnil(L, -1))
                say(shape, 0, "'%.*s' is both a command and a query",
                    (int)(names[i].size < 64 ? names[i].size : 64), (const char *)names[i].data);
            lua_pop(L, 1);
        }
        mem_free(names);
        buffer_close(&unsaid);
    }
    lua_pop(L, 2);
}

static void check_state(struct shape *shape)
{
    lua_State *L = shape->L;
    size_t count = 0;
    lua_getfield(L, shape->module, "state");
    int state = lua_gettop(L);
    if (lua_istable(L, state)) {
        struct slice *names = names_of(shape, state, "state", &count);
        if (count > MAPS_MAX)
            say(shape, 0, "state: more than %d maps", MAPS_MAX);
        for (size_t i = 0; i < count; i++) {
            lua_pushlstring(L, (const char *)names[i].data, names[i].size);
            lua_rawget(L, state);
            if (!shape_is_word(names[i]) || lua_type(L, -1) != LUA_TSTRING ||
                strcmp(lua_tostring(L, -1), "map") != 0)
                say(shape, 0, "state.%.*s: state is a table like { rows = 'map' }, names made of a-z, 0-9 and _",
                    (int)(names[i].size < 64 ? names[i].size : 64), (const char *)names[i].data);
            lua_pop(L, 1);
        }
        mem_free(names);
    } else if (!lua_isnil(L, state)) {
        say(shape, 0, "state must be a table like { rows = 'map' }");
    }
    lua_pop(L, 1);
}

static void check_name(struct shape *shape)
{
    lua_State *L = shape->L;
    struct slice name = {0};
    lua_getfield(L, shape->module, "name");
    if (lua_type(L, -1) == LUA_TSTRING)
        name.data = (const uint8_t *)lua_tolstring(L, -1, &name.size);
    if (!shape_is_word(name))
        say(shape, 0, "name must be text made of a-z, 0-9 and _, at most 48 bytes, that begins with a letter");
    lua_pop(L, 1);
}

static void check_version(struct shape *shape)
{
    lua_State *L = shape->L;
    lua_getfield(L, shape->module, "version");
    double version = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (!(version >= 1 && version <= 1e9 && version == floor(version)))
        say(shape, 0, "version must be a whole number from 1");
    lua_pop(L, 1);
}

static bool has(struct shape *shape, const char *field)
{
    lua_getfield(shape->L, shape->module, field);
    bool there = !lua_isnil(shape->L, -1);
    lua_pop(shape->L, 1);
    return there;
}

/* The functions of the module itself, and whether it has one way of being called. */
static void check_dispatch(struct shape *shape)
{
    static const char *const functions[] = {"init",    "apply",       "query",    "on_expire", "on_session_end",
                                            "migrate", "upgrade_row", "workload", "invariant"};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        lua_getfield(shape->L, shape->module, functions[i]);
        if (!lua_isnil(shape->L, -1) && !lua_isfunction(shape->L, -1))
            say(shape, 0, "%s must be a function", functions[i]);
        lua_pop(shape->L, 1);
    }
    bool tables = has(shape, "commands") || has(shape, "queries");
    if (tables && (has(shape, "apply") || has(shape, "query")))
        say(shape, 0, "apply and query stand in place of the tables commands and queries: have one or the other");
    else if (!tables && !has(shape, "apply"))
        say(shape, 0,
            has(shape, "query") ? "query goes with a function apply"
                                : "a module has commands, queries, or a function apply");
}

/* What every kind of module must be: a table that has none but the `known` fields. */
static bool check_table(struct shape *shape, const char *const *known)
{
    lua_State *L = shape->L;
    size_t count = 0;
    luaL_checkstack(L, 16, "too deep");
    if (!lua_istable(L, shape->module)) {
        say(shape, 0, "a module returns a table, not %s",
            lua_isnil(L, shape->module) ? "nothing" : luaL_typename(L, shape->module));
        return false;
    }
    struct slice *names = names_of(shape, shape->module, "the module's fields", &count);
    for (size_t i = 0; i < count; i++)
        if (!is_one_of(names[i], known))
            say_unknown(shape, 0, "", names[i], known);
    mem_free(names);
    return true;
}

enum status shape_check(lua_State *L, int module, const char *file, struct buffer *why)
{
    struct shape shape = {.L = L, .module = module, .file = file, .why = why};
    if (lua_istable(L, module) && shape_is_format(L, module)) {
        say(&shape, 0,
            "this is a snapshot format, for it has write or read, and no service: give it with --format");
        return STATUS_INVALID;
    }
    if (lua_istable(L, module) && shape_is_policy(L, module)) {
        say(&shape, 0,
            "this is a membership policy, for it has review, admit or observe, and no service: give it with "
            "--policy");
        return STATUS_INVALID;
    }
    if (!check_table(&shape, module_fields))
        return STATUS_INVALID;
    check_name(&shape);
    check_version(&shape);
    check_state(&shape);
    check_dispatch(&shape);
    check_functions(&shape, "commands", true);
    check_functions(&shape, "queries", true);
    check_functions(&shape, "timers", false);
    check_both(&shape);
    return shape.wrong ? STATUS_INVALID : STATUS_OK;
}

/* --- formats -------------------------------------------------------------------------------------------------------------- */

bool shape_is_format(lua_State *L, int module)
{
    static const char *const of_services[] = {"commands", "queries", "apply", "query", "state", NULL};
    struct shape shape = {.L = L, .module = module};
    bool format = lua_istable(L, module) && (has(&shape, "write") || has(&shape, "read"));
    for (size_t i = 0; format && of_services[i] != NULL; i++)
        format = !has(&shape, of_services[i]);
    return format;
}

enum status shape_check_format(lua_State *L, int module, const char *file, struct buffer *why)
{
    static const char *const functions[] = {"write", "read"};
    struct shape shape = {.L = L, .module = module, .file = file, .why = why};
    if (lua_istable(L, module) && (has(&shape, "commands") || has(&shape, "queries") || has(&shape, "apply"))) {
        say(&shape, 0, "this is a service, not a snapshot format: give it with --machine");
        return STATUS_INVALID;
    }
    if (!check_table(&shape, format_fields))
        return STATUS_INVALID;
    check_name(&shape);
    check_version(&shape);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        lua_getfield(L, module, functions[i]);
        if (!lua_isfunction(L, -1))
            say(&shape, 0, "a format has a function %s; it is %s", functions[i],
                lua_isnil(L, -1) ? "missing" : luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    return shape.wrong ? STATUS_INVALID : STATUS_OK;
}

/* --- policies ------------------------------------------------------------------------------------------------------------- */

static const char *const policy_functions[] = {"observe", "review", "admit", NULL};

bool shape_is_policy(lua_State *L, int module)
{
    static const char *const of_others[] = {"commands", "queries", "apply", "query", "write", "read", NULL};
    struct shape shape = {.L = L, .module = module};
    bool policy = false;
    for (size_t i = 0; lua_istable(L, module) && policy_functions[i] != NULL; i++)
        policy = policy || has(&shape, policy_functions[i]);
    for (size_t i = 0; policy && of_others[i] != NULL; i++)
        policy = !has(&shape, of_others[i]);
    return policy;
}

static void check_every(struct shape *shape)
{
    lua_State *L = shape->L;
    lua_getfield(L, shape->module, "every");
    double ms = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (!lua_isnil(L, -1) && !(ms >= SHAPE_EVERY_MIN_MS && ms <= SHAPE_EVERY_MAX_MS && ms == floor(ms)))
        say(shape, 0, "every must be a whole number of milliseconds from %d to %d", SHAPE_EVERY_MIN_MS,
            SHAPE_EVERY_MAX_MS);
    lua_pop(L, 1);
}

enum status shape_check_policy(lua_State *L, int module, const char *file, struct buffer *why)
{
    struct shape shape = {.L = L, .module = module, .file = file, .why = why};
    bool some = false;
    if (lua_istable(L, module) && (has(&shape, "commands") || has(&shape, "queries") || has(&shape, "apply"))) {
        say(&shape, 0, "this is a service, not a membership policy: give it with --machine");
        return STATUS_INVALID;
    }
    if (!check_table(&shape, policy_fields))
        return STATUS_INVALID;
    check_name(&shape);
    if (has(&shape, "version"))
        check_version(&shape);
    check_state(&shape);
    check_every(&shape);
    for (size_t i = 0; policy_functions[i] != NULL; i++) {
        lua_getfield(L, module, policy_functions[i]);
        some = some || !lua_isnil(L, -1);
        if (!lua_isnil(L, -1) && !lua_isfunction(L, -1))
            say(&shape, 0, "%s must be a function", policy_functions[i]);
        lua_pop(L, 1);
    }
    if (!some)
        say(&shape, 0, "a policy has a function review, admit or observe");
    return shape.wrong ? STATUS_INVALID : STATUS_OK;
}
