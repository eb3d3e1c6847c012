/* sim/books_deploys.c - see sim/books_deploys.h. */
#include "sim/books_deploys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/embed.h"
#include "base/memory.h"
#include "script/bundle.h"
#include "wire/error.h"
#include "wire/pack.h"

#define BOOKS_FILE "lua/tidelock/books.lua"
static const char line_start[] = "local VERSION,";

enum { TIMEOUT_MS = 3000, ALL_ROWS = 1000000, SORTS = 10 };

/* What becomes of a version when it is deployed. */
enum sort { AT_ONCE, IN_STEPS, FAILS, FAILS_LATE, OTHER_TIMER, SAME_VERSION, STALE };

struct deploy {
    uint32_t request;
    uint64_t version;
    enum sort sort;
};

struct seen {
    uint64_t index, version;
};

struct books_deploys {
    struct deploy *list;
    size_t count, capacity;
    struct seen *seen;
    size_t seen_count, seen_capacity;
};

struct books_deploys *books_deploys_new(void)
{
    return mem_zalloc(1, sizeof(struct books_deploys));
}

void books_deploys_free(struct books_deploys *deploys)
{
    mem_free(deploys->list);
    mem_free(deploys->seen);
    mem_free(deploys);
}

/* --- versions ------------------------------------------------------------------------------------------------------------- */

static enum status read_books(void *context, const char *path, struct buffer *content)
{
    const char *line = context;
    for (unsigned long i = 0; i < embed_files_count; i++) {
        if (strcmp(embed_files[i].path, path) != 0)
            continue;
        struct slice text = slice_make(embed_files[i].data, embed_files[i].size);
        const uint8_t *at = memmem(text.data, text.size, line_start, sizeof line_start - 1);
        CHECK(at != NULL);
        const uint8_t *end = memchr(at, '\n', text.size - (size_t)(at - text.data));
        buffer_append(content, text.data, (size_t)(at - text.data));
        if (line != NULL)
            buffer_append(content, line, strlen(line));
        else
            buffer_append(content, at, (size_t)(end - at));
        buffer_append(content, end, text.size - (size_t)(end - text.data));
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

void books_deploys_bundle(const char *line, struct buffer *bundle)
{
    struct buffer why = {0};
    char room[160] = "";
    if (line != NULL)
        snprintf(room, sizeof room, "%s", line);
    enum status status =
        bundle_build(BUNDLE_MACHINE, "books", BOOKS_FILE, read_books, line != NULL ? room : NULL, bundle, &why);
    CHECK_EQ(status, STATUS_OK);
    buffer_close(&why);
}

static enum sort sort_of(uint32_t amount)
{
    static const enum sort sorts[SORTS] = {AT_ONCE, AT_ONCE,    IN_STEPS,    IN_STEPS,     IN_STEPS,
                                           FAILS,   FAILS_LATE, OTHER_TIMER, SAME_VERSION, STALE};
    return sorts[amount % SORTS];
}

static void make_version(const struct deploy *deploy, uint32_t amount, struct buffer *bundle)
{
    char line[160];
    char fails[32] = "false";
    bool steps = deploy->sort == IN_STEPS || deploy->sort == FAILS_LATE;
    uint32_t step =
        steps ? 20 + amount / SORTS : ALL_ROWS + (uint32_t)deploy->sort; /* no two sorts make one text */
    if (deploy->sort == FAILS || deploy->sort == FAILS_LATE)
        snprintf(fails, sizeof fails, "%u", steps ? 2 * step : 0);
    snprintf(line, sizeof line, "%s STEP, FAILS_AFTER, TIMER = %" PRIu64 ", %u, %s, '%s'", line_start,
             deploy->version, step, fails, deploy->sort == OTHER_TIMER ? "other" : "fire");
    books_deploys_bundle(line, bundle);
}

/* --- deploying ------------------------------------------------------------------------------------------------------------ */

/* Reads one field of a map; false: it has none of that name. */
static bool read_field(struct slice map, const char *name, struct pack_reader *at)
{
    uint32_t fields = 0;
    *at = pack_reader_make(map);
    CHECK(pack_read_map(at, &fields) == STATUS_OK);
    for (; fields > 0; fields--) {
        struct slice key;
        struct slice value;
        CHECK(pack_read_text(at, &key) == STATUS_OK);
        if (slice_equal(key, slice_text(name)))
            return true;
        CHECK(pack_skip(at, PACK_DEPTH_MAX, &value) == STATUS_OK);
    }
    return false;
}

/* The node's answer to tidelock.code: hash and version of the books. False: it has none yet. */
static bool read_code(struct slice answer, struct slice *hash, uint64_t *version)
{
    struct pack_reader reader = pack_reader_make(answer);
    uint32_t mounts = 0;
    if (pack_read_array(&reader, &mounts) != STATUS_OK || mounts == 0)
        return false;
    struct slice books = pack_rest(&reader);
    struct pack_reader field;
    return read_field(books, "hash", &field) && pack_read_text(&field, hash) == STATUS_OK &&
           read_field(books, "version", &field) && pack_read_u64(&field, version) == STATUS_OK;
}

static void send(struct deploy *deploy, struct replica_world *world, uint32_t node, struct slice hash,
                 struct slice bundle)
{
    struct buffer args = {0};
    pack_array(&args, 2);
    pack_map(&args, 3);
    pack_text(&args, slice_text("kind"));
    pack_text(&args, slice_text("machine"));
    pack_text(&args, slice_text("mount"));
    pack_text(&args, slice_text("books"));
    pack_text(&args, slice_text("expect"));
    pack_text(&args, hash);
    pack_text(&args, bundle);
    struct request request = {.name = slice_text("tidelock.deploy"),
                              .args = buffer_slice(&args),
                              .timeout_ms = TIMEOUT_MS,
                              .forward = true};
    deploy->request = replica_world_ask(world, node, &request);
    buffer_close(&args);
}

void books_deploys_ask(struct books_deploys *deploys, struct replica_world *world, uint32_t node, uint32_t amount)
{
    static const uint8_t no_args = 0x90;
    struct deploy deploy = {.sort = sort_of(amount)};
    struct buffer answer = {0};
    struct buffer bundle = {0};
    struct slice hash = {0};
    if (replica_world_peek(world, node, slice_text("tidelock.code"), slice_make(&no_args, sizeof no_args),
                           &answer) &&
        read_code(buffer_slice(&answer), &hash, &deploy.version)) {
        deploy.version += deploy.sort != SAME_VERSION;
        if (deploy.sort == STALE)
            hash = slice_text("0123456789abcdef0123456789abcdef");
        make_version(&deploy, amount, &bundle);
        send(&deploy, world, node, hash, buffer_slice(&bundle));
        if (deploys->count == deploys->capacity) {
            deploys->capacity = deploys->capacity * 2 + 16;
            deploys->list = mem_realloc(deploys->list, deploys->capacity * sizeof *deploys->list);
        }
        deploys->list[deploys->count++] = deploy;
    }
    buffer_close(&answer);
    buffer_close(&bundle);
}

/* --- judging -------------------------------------------------------------------------------------------------------------- */

void books_deploys_saw(struct books_deploys *deploys, uint64_t index, struct slice value)
{
    struct pack_reader reader = pack_reader_make(value);
    struct seen seen = {.index = index};
    if (pack_read_u64(&reader, &seen.version) != STATUS_OK)
        seen.version = 0;
    if (deploys->seen_count == deploys->seen_capacity) {
        deploys->seen_capacity = deploys->seen_capacity * 2 + 64;
        deploys->seen = mem_realloc(deploys->seen, deploys->seen_capacity * sizeof *deploys->seen);
    }
    deploys->seen[deploys->seen_count++] = seen;
}

/* Two answers: the later one is not of an earlier version, and at one index there is one version. */
static const char *compare(struct seen a, struct seen b)
{
    if (a.index == b.index && a.version != b.version)
        return "two versions answered at one index";
    if ((a.index < b.index && a.version > b.version) || (b.index < a.index && b.version > a.version))
        return "an earlier version answered at a later index";
    return NULL;
}

/* An answer, and a deploy that was acknowledged at this index. */
static const char *compare_deploy(struct seen seen, const struct deploy *deploy, uint64_t at)
{
    if (seen.index < at && seen.version >= deploy->version)
        return "a version answered before its deploy";
    bool in_force = deploy->sort == AT_ONCE || deploy->sort == OTHER_TIMER;
    if (seen.index >= at && in_force && seen.version < deploy->version)
        return "the version before a deploy answered after it";
    return NULL;
}

/* NULL, or what is wrong with how it ended. */
static const char *judge_end(const struct deploy *deploy, const struct replica_world_reply *reply)
{
    struct slice code = {0};
    struct slice message = {0};
    struct slice data = {0};
    bool good = deploy->sort == AT_ONCE || deploy->sort == IN_STEPS || deploy->sort == OTHER_TIMER;
    if (reply->ok && deploy->sort == FAILS)
        return "a deploy whose migrate fails was acknowledged";
    if (reply->ok && deploy->sort == SAME_VERSION)
        return "a deploy of a version that does not grow was acknowledged";
    if (reply->ok && deploy->sort == STALE)
        return "a deploy that expects other code was acknowledged";
    if (!reply->ok && good && error_unpack(reply->value, &code, &message, &data) == STATUS_OK &&
        slice_equal(code, slice_text("SCRIPT_ERROR")))
        return "a deploy whose migrate is good failed in it";
    return NULL;
}

/* It changed what is in force: it is not one that was tried again. */
static bool has_changed(struct slice answer)
{
    struct pack_reader field;
    bool unchanged = true;
    return read_field(answer, "unchanged", &field) && pack_read_boolean(&field, &unchanged) == STATUS_OK &&
           !unchanged;
}

bool books_deploys_fine(const struct books_deploys *deploys, const struct replica_world *world, char *wrong,
                        size_t size)
{
    const char *what = NULL;
    struct seen one = {0};
    for (size_t i = 0; i < deploys->seen_count && what == NULL; i++) {
        one = deploys->seen[i];
        for (size_t k = 0; k < i && what == NULL; k++)
            what = compare(one, deploys->seen[k]);
    }
    for (size_t d = 0; d < deploys->count && what == NULL; d++) {
        const struct deploy *deploy = &deploys->list[d];
        struct replica_world_reply reply = replica_world_reply(world, deploy->request);
        if (reply.replies == 0)
            continue;
        one = (struct seen){.index = reply.index, .version = deploy->version};
        what = judge_end(deploy, &reply);
        if (!reply.ok || !has_changed(reply.value))
            continue;
        for (size_t i = 0; i < deploys->seen_count && what == NULL; i++) {
            what = compare_deploy(deploys->seen[i], deploy, reply.index);
            if (what != NULL)
                one = deploys->seen[i];
        }
    }
    if (what != NULL)
        snprintf(wrong, size, "%s: version %" PRIu64 " at index %" PRIu64, what, one.version, one.index);
    return what == NULL;
}
