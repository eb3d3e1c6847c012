/* script/bundle.c - see script/bundle.h: building, checking, loading. */
#include "script/bundle.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/check.h"
#include "base/embed.h"
#include "base/memory.h"
#include "script/compile.h"
#include "script/fail.h"
#include "script/format.h"
#include "script/lexer.h"
#include "script/policy.h"
#include "script/library.h"
#include "script/sandbox.h"
#include "script/shape.h"
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
    enum bundle_kind kind;
    struct slice mount;
    struct slice main;
    struct pack_reader files;
    uint32_t count;
};

static const char *const kind_names[] = {"machine", "format", "policy"};

const char *bundle_kind_name(enum bundle_kind kind)
{
    return kind_names[kind];
}

bool bundle_kind_named(struct slice name, enum bundle_kind *kind)
{
    for (size_t i = 0; i < sizeof kind_names / sizeof kind_names[0]; i++)
        if (slice_equal(name, slice_text(kind_names[i]))) {
            *kind = (enum bundle_kind)i;
            return true;
        }
    return false;
}

static enum status open_bundle(struct slice bundle, struct opened *opened)
{
    struct pack_reader reader = pack_reader_make(bundle);
    uint32_t fields = 0;
    uint64_t format = 0;
    struct slice kind;
    if (bundle.size > BUNDLE_BYTES_MAX || pack_read_array(&reader, &fields) != STATUS_OK || fields != 5 ||
        pack_read_u64(&reader, &format) != STATUS_OK || format != 1 ||
        pack_read_text(&reader, &kind) != STATUS_OK || !bundle_kind_named(kind, &opened->kind) ||
        pack_read_text(&reader, &opened->mount) != STATUS_OK ||
        (opened->kind == BUNDLE_MACHINE ? !shape_is_word(opened->mount) : opened->mount.size > 0) ||
        pack_read_text(&reader, &opened->main) != STATUS_OK ||
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

enum status bundle_kind(struct slice bundle, enum bundle_kind *kind)
{
    struct opened opened;
    enum status status = open_bundle(bundle, &opened);
    if (status == STATUS_OK)
        *kind = opened.kind;
    return status;
}

struct hash128 bundle_hash(struct slice bundle)
{
    return hash128(bundle.data, bundle.size, 0);
}

/* --- building --------------------------------------------------------------------------------------------------------------------- */

struct file {
    char name[NAME_BYTES];
    char wanted_by[NAME_BYTES + 48]; /* "kv.lua:3: " */
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
    const char *wanting; /* the file whose requires are being followed */
};

/* A module that ships as source becomes part of the bundle, as what lies beside the main file does: what runs is what was deployed,
 * whatever a later binary brings. NULL: it is none of those. */
static const struct embed_file *find_shipped(struct slice module)
{
    char path[NAME_BYTES + 16];
    if (module.size < 15 || module.size >= NAME_BYTES || memcmp(module.data, "tidelock.policy", 15) != 0)
        return NULL;
    snprintf(path, sizeof path, "lua/tidelock/%.*s.lua", (int)(module.size - 9), (const char *)module.data + 9);
    for (unsigned long i = 0; i < embed_files_count; i++)
        if (strcmp(embed_files[i].path, path) == 0)
            return &embed_files[i];
    return NULL;
}

static void note_required(void *context, struct slice module, unsigned line)
{
    struct build *build = context;
    const char *wrong = NULL;
    if (build->failed)
        return;
    if (module.size >= NAME_BYTES - 8 || memchr(module.data, '/', module.size) != NULL || module.data[0] == '.')
        wrong = "name a file beside the module, like 'money' or 'lib.money'";
    else if (library_is_name(module))
        return;
    else if (module.size >= 9 && memcmp(module.data, "tidelock.", 9) == 0 && find_shipped(module) == NULL)
        wrong = "of tidelock's own there are tidelock.json, tidelock.csv and tidelock.policy";
    for (size_t i = 0; i < build->count && wrong == NULL; i++)
        if (slice_equal(slice_text(build->files[i].name), module))
            return;
    if (wrong == NULL && build->count == BUNDLE_FILES_MAX)
        wrong = "more than 256 files";
    struct file file = {.name = ""};
    snprintf(file.wanted_by, sizeof file.wanted_by, "%s:%u: ", build->wanting, line);
    if (wrong != NULL) {
        say(build->why, "%srequire: %s", file.wanted_by, wrong);
        build->failed = true;
        return;
    }
    if (line == 0)
        file.wanted_by[0] = 0;
    build->files = mem_realloc(build->files, (build->count + 1) * sizeof *build->files);
    memcpy(file.name, module.data, module.size);
    build->files[build->count++] = file;
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
    const struct embed_file *shipped = find_shipped(slice_text(build->files[at].name));
    enum status status = STATUS_OK;
    if (shipped != NULL)
        buffer_append(&source, shipped->data, shipped->size);
    else
        status = build->read(build->context, path, &source);
    if (status != STATUS_OK || source.size > BUNDLE_SOURCE_MAX) {
        char what[PATH_BYTES + 2 * NAME_BYTES + 64];
        snprintf(what, sizeof what, "%s%s", build->files[at].wanted_by, path);
        say(build->why, status == STATUS_OK ? "%s: larger than 1 MiB%s" : "%s: cannot be read: %s", what,
            status == STATUS_OK ? "" : status_text(status));
        build->failed = true;
    }
    build->wanting = shown;
    if (!build->failed && lexer_check(buffer_slice(&source), shown, build->why, note_required, build) != STATUS_OK)
        build->failed = true;
    build->files[at].source = source; /* note_required may have moved the list */
}

static void pack_bundle(const struct build *build, enum bundle_kind kind, struct slice mount, struct buffer *bundle)
{
    pack_array(bundle, 5);
    pack_u64(bundle, 1);
    pack_text(bundle, slice_text(kind_names[kind]));
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

/* What the module is, and the name of a service, found by loading it. */
static enum bundle_kind own_kind(const struct build *build);
static enum status own_name(const struct build *build, struct buffer *name, struct buffer *why);
static void settle_mount(struct build *build, struct buffer *name, struct buffer *why);

enum status bundle_build(enum bundle_kind kind, const char *mount, const char *path, bundle_read read,
                         void *context, struct buffer *bundle, struct buffer *why)
{
    struct build build = {.read = read, .context = context, .why = why, .wanting = path};
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
    note_required(&build, slice_make(file, size), 0);
    for (size_t i = 0; i < build.count && !build.failed; i++)
        read_file(&build, i);
    struct buffer name = {0};
    if (!build.failed && kind == BUNDLE_ANY)
        kind = own_kind(&build);
    if (!build.failed && kind == BUNDLE_MACHINE) {
        buffer_append(&name, mount, strlen(mount));
        settle_mount(&build, &name, why);
    }
    if (!build.failed) {
        pack_bundle(&build, kind, buffer_slice(&name), bundle);
        build.failed = bundle_check(buffer_slice(bundle), why) != STATUS_OK;
    }
    for (size_t i = 0; i < build.count; i++)
        buffer_close(&build.files[i].source);
    mem_free(build.files);
    buffer_close(&name);
    return build.failed ? STATUS_INVALID : STATUS_OK;
}

/* A service's mount: as given, or the module's own name. */
static void settle_mount(struct build *build, struct buffer *name, struct buffer *why)
{
    if (name->size == 0 && own_name(build, name, why) != STATUS_OK) {
        build->failed = true;
        return;
    }
    if (shape_is_word(buffer_slice(name)) && !is_reserved(buffer_slice(name)))
        return;
    buffer_append_byte(name, 0);
    say(why, "mount '%s': a name is made of a-z, 0-9 and _, and tidelock watch status batch are taken%s",
        (const char *)name->data, "");
    build->failed = true;
}

/* --- loading ---------------------------------------------------------------------------------------------------------------------------- */

struct loading {
    struct opened opened;
    int env;
    bool holds_tables;
    enum bundle_kind *look; /* not NULL: only to know what it means to be */
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
    if (library_push(L, name))
        return 1;
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

static int load_protected(lua_State *L)
{
    static enum status (*const checks[])(lua_State * L, int module, const char *file, struct buffer *why) = {
        shape_check, shape_check_format, shape_check_policy};
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
    snprintf(file, sizeof file, "%.*s.lua", (int)loading->opened.main.size,
             (const char *)loading->opened.main.data);
    run_source(L, loading, loading->opened.main);
    int module = lua_gettop(L);
    if (loading->look != NULL) {
        *loading->look = shape_is_policy(L, module)   ? BUNDLE_POLICY
                         : shape_is_format(L, module) ? BUNDLE_FORMAT
                                                      : BUNDLE_MACHINE;
        return 1;
    }
    struct buffer why = {0};
    if (checks[loading->opened.kind](L, module, file, &why) != STATUS_OK) {
        lua_pushlstring(L, (const char *)why.data, why.size);
        buffer_close(&why);
        lua_error(L);
    }
    loading->holds_tables = compile_check_loaded(L);
    lua_pushnil(L);
    sandbox_add(L, 2, "require");
    return 1;
}

/* Gives what a module's own code raised a text, with the line where it was raised [-1, +1]. */
static int say_where(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "code");
        lua_getfield(L, 1, "message");
        lua_pushfstring(L, "%s: %s", lua_isstring(L, 2) ? lua_tostring(L, 2) : "an error that is a table",
                        lua_isstring(L, 3) ? lua_tostring(L, 3) : "no message");
    } else if (!lua_isstring(L, 1)) {
        lua_pushfstring(L, "an error that is a %s", luaL_typename(L, 1));
    }
    if (fail_has_where(lua_tostring(L, -1)))
        return 1;
    fail_push_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
    return 1;
}

static enum status load(lua_State *L, int env, struct slice bundle, struct loading *loading)
{
    struct buffer *why = loading->why;
    if (open_bundle(bundle, &loading->opened) != STATUS_OK) {
        say(why, "not a bundle%s%s", "", "");
        return STATUS_INVALID;
    }
    lua_pushcfunction(L, say_where);
    int handler = lua_gettop(L);
    lua_pushcfunction(L, load_protected);
    lua_pushlightuserdata(L, loading);
    lua_pushvalue(L, env);
    int status = lua_pcall(L, 2, 1, handler);
    lua_remove(L, handler);
    if (status == 0)
        return STATUS_OK;
    size_t size = 0;
    const char *text = lua_tolstring(L, -1, &size);
    if (status == LUA_ERRMEM) {
        static const char greedy[] = ".lua: loading it takes more memory than there is";
        buffer_append(why, loading->opened.main.data, loading->opened.main.size);
        buffer_append(why, greedy, sizeof greedy - 1);
    } else if (text != NULL)
        buffer_append(why, text, size);
    else
        say(why, "the module failed without saying why%s%s", "", "");
    lua_pop(L, 1);
    return STATUS_INVALID;
}

enum status bundle_load(lua_State *L, int env, struct slice bundle, bool *holds_tables, struct buffer *why)
{
    struct loading loading = {.why = why};
    enum status status = load(L, env, bundle, &loading);
    *holds_tables = loading.holds_tables;
    return status;
}

enum status bundle_look(lua_State *L, int env, struct slice bundle, enum bundle_kind *kind)
{
    struct buffer why = {0};
    struct loading loading = {.why = &why, .look = kind};
    *kind = BUNDLE_MACHINE;
    enum status status = load(L, env, bundle, &loading);
    buffer_close(&why);
    return status;
}

/* --- checking ------------------------------------------------------------------------------------------------------------------------------ */

static void take_module_name(void *context, const char *mount, const char *module, double version,
                             struct hash128 hash)
{
    (void)mount;
    (void)version;
    (void)hash;
    buffer_append(context, module, strlen(module));
}

/* Mounts the bundle in a host of its own. */
static enum status try_mount(struct slice bundle, struct buffer *name, struct buffer *why)
{
    struct tree *tree = tree_new();
    struct vm *vm = vm_new(tree, (size_t)256 * 1024 * 1024);
    enum status status = vm_mount_apart(vm, bundle, why);
    if (status == STATUS_OK && name != NULL)
        vm_mounts(vm, take_module_name, name);
    vm_free(vm);
    tree_free(tree);
    return status;
}

/* Opens the bundle's format in a host of its own. */
static enum status try_format(struct slice bundle, struct buffer *why)
{
    struct format *format = NULL;
    enum status status = format_open(bundle, (size_t)256 * 1024 * 1024, &format, why);
    format_close(format);
    return status;
}

/* Opens the bundle's policy, in a room of its own as ever. */
static enum status try_policy(struct slice bundle, struct buffer *why)
{
    struct tree *tree = tree_new();
    struct policy *policy = NULL;
    enum status status = policy_open(bundle, tree, slice_text("apart"), &policy, why);
    policy_close(policy);
    tree_free(tree);
    return status;
}

enum status bundle_check(struct slice bundle, struct buffer *why)
{
    enum bundle_kind kind = BUNDLE_MACHINE;
    if (bundle_kind(bundle, &kind) == STATUS_OK && kind == BUNDLE_FORMAT)
        return try_format(bundle, why);
    if (kind == BUNDLE_POLICY)
        return try_policy(bundle, why);
    return try_mount(bundle, NULL, why); /* no bundle at all: it says so */
}

static enum bundle_kind own_kind(const struct build *build)
{
    struct buffer bundle = {0};
    pack_bundle(build, BUNDLE_FORMAT, slice_make(NULL, 0), &bundle);
    enum bundle_kind kind = format_look(buffer_slice(&bundle));
    buffer_close(&bundle);
    return kind; /* of one that does not load, the check says why */
}

static enum status own_name(const struct build *build, struct buffer *name, struct buffer *why)
{
    struct buffer bundle = {0};
    pack_bundle(build, BUNDLE_MACHINE, slice_text("unnamed"), &bundle);
    enum status status = try_mount(buffer_slice(&bundle), name, why);
    buffer_close(&bundle);
    return status;
}
