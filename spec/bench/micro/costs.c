/* spec/bench/micro/costs.c - what applying costs for three services, and what its parts cost: the budget's hook, the digest, the tree.
 *
 *   make micro-costs        (or: build/release/micro-costs EXAMPLES_DIR [ROWS_MAX])
 *
 * CPU time of the thread. Services: commands encoded beforehand, in batches of 64, results wanted. The hook: one loop of Lua in the
 * sandbox and in a bare interpreter. The tree: rows of a 16-byte text key and 64 bytes, put in random order, committed one by one; from
 * 10,000 to ROWS_MAX (10,000,000); then puts over random rows, and gets. Depends on libcore and LuaJIT. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"
#include "machine/machine.h"
#include "script/bundle.h"
#include "state/key.h"
#include "state/tree.h"
#include "wire/entry.h"
#include "wire/members.h"
#include "wire/pack.h"

#include "micro.h"

enum { COMMANDS = 300000, VALUE_BYTES = 64, LOOKS = 300000, LOOP = 1000000 };

/* --- services ------------------------------------------------------------------------------------------------------- */

static void add_command(struct buffer *out, const char *name, const char *first, const char *second)
{
    struct buffer payload = {0};
    pack_text(&payload, slice_text(name));
    pack_array(&payload, second != NULL ? 2 : 1);
    pack_text(&payload, slice_text(first));
    if (second != NULL)
        pack_text(&payload, slice_text(second));
    add_entry(out, ENTRY_COMMAND, buffer_slice(&payload));
    buffer_close(&payload);
}

static struct machine *new_machine(const char *directory, const char *mount, struct machine_results *results)
{
    struct buffer bundle = {0}, why = {0}, records = {0}, set = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/%s.lua", directory, mount);
    if (bundle_build(BUNDLE_MACHINE, mount, path, read_file, NULL, &bundle, &why) != STATUS_OK) {
        fprintf(stderr, "%.*s\n", (int)why.size, (const char *)why.data);
        exit(2);
    }
    const struct machine_options options = {0};
    struct machine *machine = machine_new(&options);
    struct members members = {.count = 1};
    members.list[0] = (struct member){.id = 1, .incarnation = 1, .roles = MEMBER_VOTER, .address = "h:1"};
    members_pack(&members, &set);
    next_index = 1;
    add_entry(&records, ENTRY_CONFIGURATION, buffer_slice(&set));
    add_entry(&records, ENTRY_BUNDLE, buffer_slice(&bundle));
    apply(machine, buffer_slice(&records), results);
    buffer_close(&records);
    buffer_close(&set);
    buffer_close(&bundle);
    return machine;
}

/* One command of a service's mix; `at` counts them. */
static void add_of(struct buffer *out, const char *mount, struct prng *prng, int at)
{
    char key[32];
    char value[VALUE_BYTES + 1];
    memset(value, 'v', VALUE_BYTES);
    value[VALUE_BYTES] = 0;
    snprintf(key, sizeof key, "key-%012llu", (unsigned long long)prng_below(prng, 100000));
    if (strcmp(mount, "counter") == 0)
        add_command(out, "counter.add", key, NULL);
    else if (strcmp(mount, "kv") == 0)
        add_command(out, "kv.set", key, value);
    else
        add_command(out, at % 2 == 0 ? "queue.push" : "queue.pull", "mail", at % 2 == 0 ? value : NULL);
}

static void service(const char *directory, const char *mount, const char *what)
{
    struct machine_results results = {0};
    struct machine *machine = new_machine(directory, mount, &results);
    struct buffer records = {0};
    struct prng prng;
    prng_seed(&prng, 1);
    double spent = 0;
    for (int round = 0; round < 3; round++) { /* the last counts: its rows are there */
        buffer_clear(&records);
        for (int i = 0; i < COMMANDS; i++)
            add_of(&records, mount, &prng, i);
        double start = now_us();
        apply(machine, buffer_slice(&records), &results);
        spent = now_us() - start;
    }
    printf("%-38s %10.0f a second, %.3f us each\n", what, COMMANDS / spent * 1e6, spent / COMMANDS);
    machine_free(machine);
    buffer_close(&records);
    buffer_close(&results.bytes);
    buffer_close(&results.events);
    mem_free(results.list);
}

/* --- the budget's hook ---------------------------------------------------------------------------------------------------- */

#define LOOP_TEXT "local x = 0 for i = 1, n do x = x + i % 7 end return x"

static enum status give_loop(void *context, const char *path, struct buffer *content)
{
    (void)context;
    (void)path;
    static const char text[] =
        "return { name = 'loop', version = 1, state = {}, queries = { run = function(ctx, n) " LOOP_TEXT " end } }";
    buffer_append(content, text, sizeof text - 1);
    return STATUS_OK;
}

static double in_sandbox(void)
{
    struct buffer bundle = {0}, why = {0}, records = {0}, set = {0}, args = {0};
    struct machine_results results = {0};
    CHECK(bundle_build(BUNDLE_MACHINE, "loop", "loop.lua", give_loop, NULL, &bundle, &why) == STATUS_OK);
    const struct machine_options options = {0};
    struct machine *machine = machine_new(&options);
    struct members members = {.count = 1};
    members.list[0] = (struct member){.id = 1, .incarnation = 1, .roles = MEMBER_VOTER, .address = "h:1"};
    members_pack(&members, &set);
    next_index = 1;
    add_entry(&records, ENTRY_CONFIGURATION, buffer_slice(&set));
    add_entry(&records, ENTRY_BUNDLE, buffer_slice(&bundle));
    apply(machine, buffer_slice(&records), &results);
    pack_array(&args, 1);
    pack_u64(&args, LOOP);
    double best = 1e12;
    for (int i = 0; i < 7; i++) {
        results.count = 0;
        double start = now_us();
        machine_query(machine, slice_text("loop.run"), buffer_slice(&args), 0, &results);
        double spent = now_us() - start;
        CHECK(results.list[0].ok);
        best = spent < best ? spent : best;
    }
    machine_free(machine);
    return best;
}

static double bare(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    CHECK(luaL_dostring(L, "jit.off()") == 0);
    CHECK(luaL_loadstring(L, "local n = ... " LOOP_TEXT) == 0);
    double best = 1e12;
    for (int i = 0; i < 7; i++) {
        lua_pushvalue(L, -1);
        lua_pushnumber(L, LOOP);
        double start = now_us();
        CHECK(lua_pcall(L, 1, 1, 0) == 0);
        double spent = now_us() - start;
        lua_pop(L, 1);
        best = spent < best ? spent : best;
    }
    lua_close(L);
    return best;
}

/* --- the tree, and the digest ------------------------------------------------------------------------------------------------ */

static double resident_bytes(void)
{
    unsigned long size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%lu %lu", &size, &pages) == 2);
    fclose(file);
    return (double)pages * 4096;
}

static void make_key(struct buffer *key, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "%016llu", (unsigned long long)number);
    buffer_clear(key);
    key_append_text(key, slice_text(text));
}

static void put(struct tree *tree, struct buffer *key, uint64_t number, const char *value)
{
    make_key(key, number);
    (void)tree_put(tree, buffer_slice(key), slice_make(value, VALUE_BYTES));
    tree_commit(tree);
}

static void tree_of(uint64_t rows)
{
    struct tree *tree = tree_new();
    struct buffer key = {0};
    struct slice value;
    struct prng prng;
    char text[VALUE_BYTES];
    memset(text, 'v', sizeof text);
    prng_seed(&prng, 1);
    double before = resident_bytes();
    /* A walk that meets each row once, far apart: its step has no divisor in common with a power of ten. */
    for (uint64_t i = 0, at = 0; i < rows; i++, at = (at + 9994009) % rows)
        put(tree, &key, at, text);
    double held = resident_bytes() - before;
    double start = now_us();
    for (int i = 0; i < LOOKS; i++)
        put(tree, &key, prng_below(&prng, rows), text);
    double puts = now_us() - start;
    start = now_us();
    for (int i = 0; i < LOOKS; i++) {
        make_key(&key, prng_below(&prng, rows));
        CHECK(tree_get(tree, buffer_slice(&key), &value));
    }
    double gets = now_us() - start;
    start = now_us();
    for (int i = 0; i < LOOKS; i++)
        make_key(&key, prng_below(&prng, rows));
    double keys = now_us() - start;
    CHECK_EQ(tree_rows(tree), rows);
    printf("%10llu rows: put %.3f us, get %.3f us, %.0f bytes a row resident, %.0f counted\n",
           (unsigned long long)rows, (puts - keys) / LOOKS, (gets - keys) / LOOKS, held / (double)rows,
           (double)tree_bytes(tree) / (double)rows);
    tree_free(tree);
    buffer_close(&key);
}

static void digest(void)
{
    struct buffer key = {0};
    char text[VALUE_BYTES];
    memset(text, 'v', sizeof text);
    make_key(&key, 1);
    uint64_t sum = 0;
    double start = now_us();
    for (int i = 0; i < 10 * LOOKS; i++) {
        text[0] = (char)i;
        sum += tree_row_hash(buffer_slice(&key), slice_make(text, sizeof text)).lo;
    }
    double spent = (now_us() - start) / (10 * LOOKS);
    printf("the digest: %.1f ns to hash a row of %zu bytes (%llu); a put over a row hashes one, the old hash lies "
           "beside it\n",
           1e3 * spent, key.size + sizeof text, (unsigned long long)(sum % 10));
    buffer_close(&key);
}

int main(int count, char **words)
{
    if (count < 2) {
        fprintf(stderr, "usage: micro-costs EXAMPLES_DIR [ROWS_MAX]\n");
        return 2;
    }
    const uint64_t most = count > 2 ? strtoull(words[2], NULL, 10) : 10000000;
    for (uint64_t rows = 10000; rows <= most; rows *= 10)
        tree_of(rows);
    service(words[1], "counter", "counter.add, 100,000 names");
    service(words[1], "kv", "kv.set, 100,000 keys, 64 bytes");
    service(words[1], "queue", "queue.push and queue.pull, 64 bytes");
    double hooked = in_sandbox(), plain = bare();
    printf("the budget's hook: a loop of %d takes %.1f ms in the sandbox, %.1f bare: %.1f %%\n", LOOP, hooked / 1e3,
           plain / 1e3, 100 * (hooked - plain) / plain);
    digest();
    return 0;
}
