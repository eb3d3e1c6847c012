/* script/bundle.c - see script/bundle.h: building, checking, loading. */
#include "script/bundle.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/args.h"
#include "script/compile.h"
#include "script/lexer.h"
#include "script/sandbox.h"
#include "script/vm.h"
#include "state/tree.h"
#include "wire/pack.h"

enum { NAME_BYTES = 128, PATH_BYTES = 1024 };

static void say(struct buffer *why, const char *format, const char *one, const char *two)
{
    char line[768];
    int size = snprintf(line, sizeof line, format, one, two);
    if (why->size > 0)
        buffer_append_byte(why, '\n');
    buffer_append(why, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
}

static bool is_word(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (i > 0 && ((c >= '0' && c <= '9') || c == '_'))))
            return false;
    }
    return name.size > 0 && name.size <= 48;
}

static bool is_reserved(struct slice name)
{
    static const char *const reserved[] = {"tidelock", "watch", "status", "batch"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (slice_equal(name, slice_text(reserved[i])))
            return true;
    return false;
}

/* --- reading -------------------------------------------------------------------------------------------------------------------- */

/* A bundle, opened: where its parts are. */
struct opened {
    struct slice mount;
    struct slice main;
    struct pack_reader files;
    uint32_t count;
};

static enum status open_bundle(struct slice bundle, struct opened *opened)
{
    struct pack_reader reader = pack_reader_make(bundle);
    uint32_t fields = 0;
    uint64_t format = 0;
    struct slice kind;
    if (bundle.size > BUNDLE_BYTES_MAX || pack_read_array(&reader, &fields) != STATUS_OK || fields != 5 ||
        pack_read_u64(&reader, &format) != STATUS_OK || format != 1 || pack_read_text(&reader, &kind) != STATUS_OK ||
        !slice_equal(kind, slice_text("machine")) || pack_read_text(&reader, &opened->mount) != STATUS_OK ||
        !is_word(opened->mount) || pack_read_text(&reader, &opened->main) != STATUS_OK ||
        pack_read_array(&reader, &opened->count) != STATUS_OK || opened->count == 0 ||
        opened->count > BUNDLE_FILES_MAX)
        return STATUS_INVALID;
    opened->files = reader;
    return STATUS_OK;
}

static bool next_file(struct pack_reader *files, struct slice *name, struct slice *source)
{
    uint32_t parts = 0;
    return pack_read_array(files, &parts) == STATUS_OK && parts == 2 && pack_read_text(files, name) == STATUS_OK &&
           pack_read_text(files, source) == STATUS_OK && name->size < NAME_BYTES;
}

static bool find_file(const struct opened *opened, struct slice wanted, struct slice *source)
{
    struct pack_reader files = opened->files;
    struct slice name;
    for (uint32_t i = 0; i < opened->count; i++)
        if (next_file(&files, &name, source) && slice_equal(name, wanted))
            return true;
    return false;
}

enum status bundle_mount(struct slice bundle, struct slice *mount)
{
    struct opened opened;
    enum status status = open_bundle(bundle, &opened);
    if (status == STATUS_OK)
        *mount = opened.mount;
    return status;
}

struct hash128 bundle_hash(struct slice bundle)
{
    return hash128(bundle.data, bundle.size, 0);
}

/* --- building --------------------------------------------------------------------------------------------------------------------- */

struct file {
    char name[NAME_BYTES];
    struct buffer source;
};

struct build {
    bundle_read read;
    void *context;
    char directory[PATH_BYTES]; /* with its slash */
    struct file *files;
    size_t count;
    struct buffer *why;
    bool failed;
    const char *wanting;        /* the file whose requires are being followed */
};

static void note_required(void *context, struct slice module)
{
    struct build *build = context;
    if (build->failed)
        return;
    if (module.size >= NAME_BYTES - 8 || memchr(module.data, '/', module.size) != NULL || module.data[0] == '.') {
        say(build->why, "%s: require '%s': name a file beside the module, like 'money' or 'lib.money'", build->wanting,
            "...");
        build->failed = true;
        return;
    }
    if (module.size >= 9 && memcmp(module.data, "tidelock.", 9) == 0) {
        say(build->why, "%s: require of a tidelock.* module: there is none in this version%s", build->wanting, "");
        build->failed = true;
        return;
    }
    for (size_t i = 0; i < build->count; i++)
        if (slice_equal(slice_text(build->files[i].name), module))
            return;
    if (build->count == BUNDLE_FILES_MAX) {
        say(build->why, "%s: more than 256 files%s", build->wanting, "");
        build->failed = true;
        return;
    }
    build->files = mem_realloc(build->files, (build->count + 1) * sizeof *build->files);
    struct file *file = &build->files[build->count++];
    memset(file, 0, sizeof *file);
    memcpy(file->name, module.data, module.size);
}

/* Reads the file of a module name and follows what it requires. */
static void read_file(struct build *build, size_t at)
{
    char path[PATH_BYTES + NAME_BYTES + 8];
    char shown[NAME_BYTES + 8];
    size_t directory = strlen(build->directory);
    snprintf(path, sizeof path, "%s%s.lua", build->directory, build->files[at].name);
    for (char *c = path + directory; *c != 0 && c < path + strlen(path) - 4; c++)
        if (*c == '.')
            *c = '/';
    snprintf(shown, sizeof shown, "%s.lua", build->files[at].name);
    struct buffer source = {0};
    enum status status = build->read(build->context, path, &source);
    if (status != STATUS_OK || source.size > BUNDLE_SOURCE_MAX) {
        say(build->why, status == STATUS_OK ? "%s: larger than 1 MiB%s" : "%s: cannot be read: %s", path,
            status == STATUS_OK ? "" : status_text(status));
        build->failed = true;
    }
    build->wanting = shown;
    if (!build->failed && lexer_check(buffer_slice(&source), shown, build->why, note_required, build) != STATUS_OK)
        build->failed = true;
    build->files[at].source = source; /* note_required may have moved the list */
}

static void pack_bundle(const struct build *build, struct slice mount, struct buffer *bundle)
{
    pack_array(bundle, 5);
    pack_u64(bundle, 1);
    pack_text(bundle, slice_text("machine"));
    pack_text(bundle, mount);
    pack_text(bundle, slice_text(build->files[0].name));
    pack_array(bundle, (uint32_t)build->count);
    const char *last = NULL;
    for (size_t round = 0; round < build->count; round++) {
        const struct file *file = round == 0 ? &build->files[0] : NULL;
        for (size_t i = 1; i < build->count && round > 0; i++)
            if ((last == NULL || strcmp(build->files[i].name, last) > 0) &&
                (file == NULL || strcmp(build->files[i].name, file->name) < 0))
                file = &build->files[i];
        if (round > 0)
            last = file->name;
        pack_array(bundle, 2);
        pack_text(bundle, slice_text(file->name));
        pack_text(bundle, buffer_slice(&file->source));
    }
}

/* The module's own name, found by loading it. */
static enum status own_name(const struct build *build, struct buffer *name, struct buffer *why);

enum status bundle_build(const char *mount, const char *path, bundle_read read, void *context, struct buffer *bundle,
                         struct buffer *why)
{
    struct build build = {.read = read, .context = context, .why = why};
    const char *slash = strrchr(path, '/');
    const char *file = slash != NULL ? slash + 1 : path;
    size_t size = strlen(file);
    if (size > 4 && strcmp(file + size - 4, ".lua") == 0)
        size -= 4;
    if (size == 0 || size >= NAME_BYTES || (size_t)(file - path) >= sizeof build.directory) {
        say(why, "%s: not a name of a file%s", path, "");
        return STATUS_INVALID;
    }
    memcpy(build.directory, path, (size_t)(file - path));
    note_required(&build, slice_make(file, size));
    for (size_t i = 0; i < build.count && !build.failed; i++)
        read_file(&build, i);
    struct buffer name = {0};
    buffer_append(&name, mount, strlen(mount));
    if (!build.failed && name.size == 0 && own_name(&build, &name, why) != STATUS_OK)
        build.failed = true;
    if (!build.failed && (!is_word(buffer_slice(&name)) || is_reserved(buffer_slice(&name)))) {
        buffer_append_byte(&name, 0);
        say(why, "mount '%s': a name is made of a-z, 0-9 and _, and tidelock watch status batch are taken%s",
            (const char *)name.data, "");
        build.failed = true;
    }
    if (!build.failed) {
        pack_bundle(&build, buffer_slice(&name), bundle);
        build.failed = bundle_check(buffer_slice(bundle), why) != STATUS_OK;
    }
    for (size_t i = 0; i < build.count; i++)
        buffer_close(&build.files[i].source);
    mem_free(build.files);
    buffer_close(&name);
    return build.failed ? STATUS_INVALID : STATUS_OK;
}

/* --- loading ---------------------------------------------------------------------------------------------------------------------------- */

struct loading {
    struct opened opened;
    int env;
    struct buffer *why;
};

static int sandbox_require(lua_State *L);

/* Runs one source; its result is pushed [-0, +1]. Raises. */
static void run_source(lua_State *L, struct loading *loading, struct slice name)
{
    struct slice source;
    char shown[NAME_BYTES + 8];
    snprintf(shown, sizeof shown, "%.*s.lua", (int)name.size, (const char *)name.data);
    if (!find_file(&loading->opened, name, &source))
        luaL_error(L, "require: the bundle has no %s", shown);
    struct buffer why = {0};
    if (compile_source(L, source, shown, &why) != STATUS_OK) {
        lua_pushlstring(L, (const char *)why.data, why.size);
        buffer_close(&why);
        lua_error(L);
    }
    buffer_close(&why);
    lua_pushvalue(L, loading->env);
    lua_setfenv(L, -2);
    lua_call(L, 0, 1);
}

/* Upvalues: loading (light), the table of what is loaded (false while loading). */
static int sandbox_require(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, lua_upvalueindex(1));
    struct slice name;
    name.data = (const uint8_t *)luaL_checklstring(L, 1, &name.size);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_rawget(L, lua_upvalueindex(2));
    if (lua_toboolean(L, -1))
        return 1;
    if (lua_isboolean(L, -1))
        return luaL_error(L, "require '%s': a circle of requires", lua_tostring(L, 1));
    lua_pushvalue(L, 1);
    lua_pushboolean(L, 0);
    lua_rawset(L, lua_upvalueindex(2));
    /* `env` is a stack index of the frame that loads; here it is the running function's own environment's. */
    lua_getfield(L, LUA_REGISTRYINDEX, "tidelock.env.loading");
    struct loading here = *loading;
    here.env = lua_gettop(L);
    run_source(L, &here, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, lua_upvalueindex(2));
    return 1;
}

static const char *const known_fields[] = {"name", "version", "state", "init", "commands", "queries", "apply", "query"};

/* The module's shape (CONTRACT.md §1). Raises with a line. */
static void check_functions(lua_State *L, int module, const char *field, const char *file)
{
    lua_getfield(L, module, field);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    if (!lua_istable(L, -1))
        luaL_error(L, "%s: %s must be a table of functions", file, field);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        struct slice name = {0};
        if (lua_type(L, -2) == LUA_TSTRING)
            name.data = (const uint8_t *)lua_tolstring(L, -2, &name.size);
        if (!is_word(name))
            luaL_error(L, "%s: a name in %s must be made of a-z, 0-9 and _", file, field);
        if (lua_isfunction(L, -1))
            continue;
        if (!lua_istable(L, -1))
            luaL_error(L, "%s: %s.%s must be a function, or a table with run", file, field, lua_tostring(L, -2));
        lua_getfield(L, -1, "run");
        if (!lua_isfunction(L, -1))
            luaL_error(L, "%s: %s.%s has no function run", file, field, lua_tostring(L, -3));
        lua_pop(L, 1);
        lua_getfield(L, -1, "args");
        if (lua_isstring(L, -1)) {
            struct args *args = NULL;
            struct buffer why = {0};
            struct slice text;
            text.data = (const uint8_t *)lua_tolstring(L, -1, &text.size);
            if (args_parse(text, &args, &why) != STATUS_OK) {
                lua_pushlstring(L, (const char *)why.data, why.size);
                buffer_close(&why);
                luaL_error(L, "%s: %s.%s: %s", file, field, lua_tostring(L, -4), lua_tostring(L, -1));
            }
            args_free(args);
        } else if (!lua_isnil(L, -1)) {
            luaL_error(L, "%s: %s.%s: args must be text", file, field, lua_tostring(L, -3));
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void check_fields(lua_State *L, int module, const char *file)
{
    for (lua_pushnil(L); lua_next(L, module) != 0; lua_pop(L, 1)) {
        const char *field = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        bool known = false;
        for (size_t i = 0; i < sizeof known_fields / sizeof known_fields[0]; i++)
            known = known || strcmp(field, known_fields[i]) == 0;
        if (!known)
            luaL_error(L, "%s: there is no field '%s'; there are name version state init commands queries apply query",
                       file, field);
    }
}

static void check_module(lua_State *L, int module, const char *file)
{
    struct slice name = {0};
    if (!lua_istable(L, module))
        luaL_error(L, "%s: a module returns a table", file);
    check_fields(L, module, file);
    lua_getfield(L, module, "name");
    if (lua_type(L, -1) == LUA_TSTRING)
        name.data = (const uint8_t *)lua_tolstring(L, -1, &name.size);
    if (!is_word(name))
        luaL_error(L, "%s: name must be text made of a-z, 0-9 and _", file);
    lua_getfield(L, module, "version");
    if (lua_type(L, -1) != LUA_TNUMBER || lua_tonumber(L, -1) < 1 || lua_tonumber(L, -1) > 1e9)
        luaL_error(L, "%s: version must be a whole number from 1", file);
    lua_getfield(L, module, "state");
    if (!lua_isnil(L, -1) && !lua_istable(L, -1))
        luaL_error(L, "%s: state must be a table like { kv = 'map' }", file);
    int maps = 0;
    for (lua_pushnil(L); lua_istable(L, module + 3) && lua_next(L, module + 3) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            name.data = (const uint8_t *)lua_tolstring(L, -2, &name.size);
        bool map = lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "map") == 0;
        if (lua_type(L, -2) != LUA_TSTRING || !is_word(name) || !map || ++maps > 200)
            luaL_error(L, "%s: state must be a table like { kv = 'map' }", file);
    }
    lua_settop(L, module);
    check_functions(L, module, "commands", file);
    check_functions(L, module, "queries", file);
    lua_getfield(L, module, "commands");
    lua_getfield(L, module, "queries");
    lua_getfield(L, module, "apply");
    if (lua_isnil(L, -3) && lua_isnil(L, -2) && !lua_isfunction(L, -1))
        luaL_error(L, "%s: a module has commands, queries, or a function apply", file);
    lua_pop(L, 1);
    int queries = lua_gettop(L);
    bool both = lua_istable(L, queries - 1) && lua_istable(L, queries);
    for (lua_pushnil(L); both && lua_next(L, queries - 1) != 0; lua_pop(L, 2)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, queries);
        if (!lua_isnil(L, -1))
            luaL_error(L, "%s: '%s' is both a command and a query", file, lua_tostring(L, -3));
    }
    lua_settop(L, module);
}

static int load_protected(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, 1);
    char file[NAME_BYTES + 8];
    lua_settop(L, 2); /* loading, env */
    lua_pushvalue(L, 2);
    lua_setfield(L, LUA_REGISTRYINDEX, "tidelock.env.loading");
    lua_pushlightuserdata(L, loading);
    lua_newtable(L);
    lua_pushcclosure(L, sandbox_require, 2);
    sandbox_add(L, 2, "require");
    loading->env = 2;
    snprintf(file, sizeof file, "%.*s.lua", (int)loading->opened.main.size, (const char *)loading->opened.main.data);
    run_source(L, loading, loading->opened.main);
    check_module(L, lua_gettop(L), file);
    compile_check_loaded(L);
    lua_pushnil(L);
    sandbox_add(L, 2, "require");
    return 1;
}

enum status bundle_load(lua_State *L, int env, struct slice bundle, struct buffer *why)
{
    struct loading loading = {.why = why};
    if (open_bundle(bundle, &loading.opened) != STATUS_OK) {
        say(why, "not a bundle%s%s", "", "");
        return STATUS_INVALID;
    }
    lua_pushcfunction(L, load_protected);
    lua_pushlightuserdata(L, &loading);
    lua_pushvalue(L, env);
    if (lua_pcall(L, 2, 1, 0) == 0)
        return STATUS_OK;
    size_t size = 0;
    const char *text = lua_tolstring(L, -1, &size);
    if (text != NULL)
        buffer_append(why, text, size);
    else
        say(why, "the module failed with an error that is no text%s%s", "", "");
    lua_pop(L, 1);
    return STATUS_INVALID;
}

/* --- checking ------------------------------------------------------------------------------------------------------------------------------ */

static uint32_t any_number(void *context, struct slice mount, struct slice map)
{
    (void)mount;
    (void)map;
    return (*(uint32_t *)context)++;
}

static void take_module_name(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    (void)mount;
    (void)version;
    (void)hash;
    buffer_append(context, module, strlen(module));
}

/* Mounts the bundle in a host of its own. */
static enum status try_mount(struct slice bundle, struct buffer *name, struct buffer *why)
{
    uint32_t number = VM_MAPS_FIRST;
    struct tree *tree = tree_new();
    struct vm *vm = vm_new(tree, (size_t)256 * 1024 * 1024);
    enum status status = vm_mount(vm, bundle, any_number, &number, why);
    if (status == STATUS_OK && name != NULL)
        vm_mounts(vm, take_module_name, name);
    vm_free(vm);
    tree_free(tree);
    return status;
}

enum status bundle_check(struct slice bundle, struct buffer *why)
{
    return try_mount(bundle, NULL, why);
}

static enum status own_name(const struct build *build, struct buffer *name, struct buffer *why)
{
    struct buffer bundle = {0};
    pack_bundle(build, slice_text("unnamed"), &bundle);
    enum status status = try_mount(buffer_slice(&bundle), name, why);
    buffer_close(&bundle);
    return status;
}
