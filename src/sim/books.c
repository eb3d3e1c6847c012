/* sim/books.c - see sim/books.h. */
#include "sim/books.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/books_deploys.h"
#include "sim/books_history.h"
#include "wire/pack.h"

enum { KEYS = 6 };

enum kind { GET, VERSION, PUT, APPEND, CAS, INCR, DEL, REFUSE, FAIL, SAVE, BATCH, BROKEN_BATCH, KINDS };
static const char *const names[KINDS] = {"books.get",  "books.version", "books.put",      "books.append",
                                         "books.cas",  "books.incr",    "books.del",      "books.refuse",
                                         "books.fail", "books.save",    "tidelock.batch", "tidelock.batch"};
static bool is_query(enum kind kind)
{
    return kind == GET || kind == VERSION;
}

static bool must_fail(enum kind kind)
{
    return kind == REFUSE || kind == FAIL || kind == BROKEN_BATCH;
}

struct op {
    enum kind kind;
    bool ended;
    enum swarm_outcome outcome;
};

struct books {
    struct op *ops; /* by number, from 1 */
    size_t count, capacity;
    uint64_t current[SWARM_CLIENTS_MAX + 1]; /* of each client: its op */
    uint64_t known[SWARM_CLIENTS_MAX + 1];   /* the highest index that anyone had been told of when it began */
    uint64_t told;                           /* the highest index that anyone has been told of */
    uint32_t counters;                       /* keys below this are counters */
    struct books_history *history;
    struct books_deploys *deploys;
    uint32_t
        in_history[SWARM_CLIENTS_MAX + 1]; /* of each client: its op there, if its kind changes or reads a key */
    bool judged;
    char wrong[1600];
};

struct books *books_new(uint64_t seed)
{
    struct books *books = mem_zalloc(1, sizeof *books);
    struct prng prng;
    prng_seed(&prng, seed);
    books->counters = (uint32_t)prng_below(&prng, KEYS);
    books->history = books_history_new();
    books->deploys = books_deploys_new();
    return books;
}

void books_free(struct books *books)
{
    books_history_free(books->history);
    books_deploys_free(books->deploys);
    mem_free(books->ops);
    mem_free(books);
}

static uint64_t add_op(struct books *books, enum kind kind)
{
    if (books->count + 1 >= books->capacity) {
        books->capacity = books->capacity * 2 + 256;
        books->ops = mem_realloc(books->ops, books->capacity * sizeof *books->ops);
    }
    books->ops[++books->count] = (struct op){.kind = kind};
    return books->count;
}

static enum kind draw_kind(struct prng *prng, bool counter)
{
    uint64_t draw = prng_below(prng, 100);
    if (draw < 4)
        return VERSION;
    if (draw < 30)
        return GET;
    if (draw < 34)
        return REFUSE;
    if (draw < 37)
        return FAIL;
    if (draw < 40)
        return SAVE;
    if (draw < 42)
        return BATCH;
    if (draw < 44)
        return BROKEN_BATCH;
    if (draw < 50)
        return DEL;
    if (counter)
        return INCR;
    return draw < 75 ? PUT : draw < 85 ? APPEND : CAS;
}

static void pack_word(struct buffer *out, const char *letter, uint64_t number)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%s%llu", letter, (unsigned long long)number);
    pack_text(out, slice_make(text, (size_t)size));
}

/* Values of registers: some are larger than a sector, one than a block of the disk. */
static void pack_value(struct buffer *out, uint64_t number)
{
    static const size_t sizes[] = {2, 20, 700, 5000};
    char text[5000];
    memset(text, 'a' + (int)number, sizeof text);
    pack_text(out, slice_make(text, sizes[number]));
}

/* Two commands in one entry; the second one may be refused, and then neither has happened. */
static void pack_batch(struct buffer *args, uint64_t id, uint64_t key, bool broken)
{
    pack_array(args, 2);
    for (int i = 0; i < 2; i++) {
        pack_array(args, 2);
        pack_text(args, slice_text(i == 0 ? names[DEL] : broken ? names[REFUSE] : "books.rest"));
        pack_array(args, 2);
        pack_u64(args, id);
        pack_word(args, "k", key);
    }
}

/* What the command does to its key; HISTORY_KINDS: nothing, as far as anybody may see. */
static enum history_kind history_kind_of(enum kind kind)
{
    static const enum history_kind kinds[] = {[GET] = HISTORY_GET, [PUT] = HISTORY_PUT,   [APPEND] = HISTORY_APPEND,
                                              [CAS] = HISTORY_CAS, [INCR] = HISTORY_INCR, [DEL] = HISTORY_DEL};
    return kind == VERSION ? HISTORY_KINDS
           : kind < REFUSE ? kinds[kind]
           : kind == BATCH ? HISTORY_DEL
                           : HISTORY_KINDS;
}

/* The arguments of its first command. */
static struct slice first_of_batch(struct slice args)
{
    struct pack_reader reader = pack_reader_make(args);
    struct slice name;
    struct slice first;
    uint32_t count = 0;
    CHECK_EQ(pack_read_array(&reader, &count), STATUS_OK);
    CHECK_EQ(pack_read_array(&reader, &count), STATUS_OK);
    CHECK_EQ(pack_read_text(&reader, &name), STATUS_OK);
    CHECK_EQ(pack_skip(&reader, PACK_DEPTH_MAX, &first), STATUS_OK);
    return first;
}

static void pack_args(struct buffer *args, enum kind kind, uint64_t id, uint64_t key, struct prng *prng)
{
    static const uint32_t sizes[KINDS] = {1, 0, 3, 3, 4, 3, 2, 2, 2, 2, 0, 0};
    pack_array(args, sizes[kind]);
    if (kind == VERSION)
        return;
    if (kind != GET)
        pack_u64(args, id);
    pack_word(args, "k", key);
    if (kind == PUT)
        pack_value(args, prng_below(prng, 4));
    if (kind == APPEND)
        pack_word(args, "v", id);
    if (kind == CAS) {
        pack_value(args, prng_below(prng, 4));
        pack_value(args, prng_below(prng, 4));
    }
    if (kind == INCR)
        pack_u64(args, 1);
}

static bool next(void *context, uint32_t client, uint64_t now_ms, struct prng *prng, struct buffer *name,
                 struct buffer *args, bool *query)
{
    struct books *books = context;
    uint64_t key = prng_below(prng, KEYS);
    enum kind kind = draw_kind(prng, key < books->counters);
    uint64_t id = add_op(books, kind);
    books->current[client] = id;
    books->known[client] = books->told;
    *query = is_query(kind);
    buffer_append(name, names[kind], strlen(names[kind]));
    if (kind == BATCH || kind == BROKEN_BATCH)
        pack_batch(args, id, key, kind == BROKEN_BATCH);
    else
        pack_args(args, kind, id, key, prng);
    if (history_kind_of(kind) == HISTORY_KINDS)
        return true;
    struct slice call = buffer_slice(args);
    if (kind == BATCH)
        call = first_of_batch(call);
    books->in_history[client] =
        books_history_begin(books->history, client, now_ms, history_kind_of(kind), call, kind != BATCH);
    return true;
}

static void ended(void *context, uint32_t client, uint64_t began, enum swarm_outcome outcome,
                  const struct replica_world_reply *reply)
{
    struct books *books = context;
    struct op *op = &books->ops[books->current[client]];
    (void)began;
    op->ended = true;
    op->outcome = outcome;
    static const enum history_end ends[] = {
        [SWARM_OK] = HISTORY_OK, [SWARM_REFUSED] = HISTORY_FAIL, [SWARM_UNKNOWN] = HISTORY_INFO};
    if (history_kind_of(op->kind) != HISTORY_KINDS)
        books_history_end(books->history, books->in_history[client], reply->at, ends[outcome], reply->value);
    /* Linearizability in real time, of commands and queries alike: nobody is answered from before what was known. */
    if (outcome == SWARM_OK && reply->index < books->known[client])
        snprintf(books->wrong, sizeof books->wrong,
                 "request %llu (%s) was answered at index %llu, and when it began index %llu was known",
                 (unsigned long long)books->current[client], names[op->kind], (unsigned long long)reply->index,
                 (unsigned long long)books->known[client]);
    if (outcome == SWARM_OK && op->kind == VERSION)
        books_deploys_saw(books->deploys, reply->index, reply->value);
    if (outcome == SWARM_OK && reply->index > books->told)
        books->told = reply->index;
    if (must_fail(op->kind) && outcome == SWARM_OK)
        snprintf(books->wrong, sizeof books->wrong, "command %llu was to be refused, and was told ok",
                 (unsigned long long)books->current[client]);
}

/* Which numbers the state holds: one byte each. */
static bool read_done(struct books *books, struct slice bytes, uint8_t *done)
{
    struct pack_reader reader = pack_reader_make(bytes);
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id = 0;
        if (pack_read_u64(&reader, &id) != STATUS_OK || id == 0 || id > books->count)
            return false;
        done[id] = 1;
    }
    return true;
}

static void compare(struct books *books, const uint8_t *done)
{
    for (uint64_t id = 1; id <= books->count && books->wrong[0] == 0; id++) {
        const struct op *op = &books->ops[id];
        if (is_query(op->kind) || !op->ended)
            continue;
        const char *what = op->outcome == SWARM_OK && !done[id]       ? "was acknowledged and is lost"
                           : op->outcome == SWARM_REFUSED && done[id] ? "was refused and has run"
                           : must_fail(op->kind) && done[id]          ? "failed and left something"
                                                                      : NULL;
        if (what != NULL)
            snprintf(books->wrong, sizeof books->wrong, "command %llu (%s) %s", (unsigned long long)id,
                     names[op->kind], what);
    }
}

/* As many timers wait in the machine as the service waits for: none was lost. */
static void count_timers(struct books *books, struct replica_world *world, uint32_t node)
{
    static const uint8_t no_args = 0x90;
    struct replica_world_status status;
    struct buffer answer = {0};
    uint64_t armed = 0;
    bool ok =
        replica_world_peek(world, node, slice_text("books.armed"), slice_make(&no_args, sizeof no_args), &answer);
    struct pack_reader reader = pack_reader_make(buffer_slice(&answer));
    replica_world_status(world, node, &status);
    if (!ok || pack_read_u64(&reader, &armed) != STATUS_OK || armed != status.timers)
        snprintf(books->wrong, sizeof books->wrong, "node %u: %llu timers wait, and the service waits for %llu",
                 node + 1, (unsigned long long)status.timers, (unsigned long long)armed);
    buffer_close(&answer);
}

static const char *verdict(void *context, struct replica_world *world, uint32_t node)
{
    struct books *books = context;
    struct buffer args = {0};
    struct buffer answer = {0};
    uint8_t *done = mem_zalloc(books->count + 1, 1);
    pack_array(&args, 0);
    bool ok = replica_world_peek(world, node, slice_text("books.done"), buffer_slice(&args), &answer);
    if (books->wrong[0] == 0 && (!ok || !read_done(books, buffer_slice(&answer), done)))
        snprintf(books->wrong, sizeof books->wrong, "node %u: the books cannot be read: %.*s", node + 1,
                 (int)(answer.size < 100 ? answer.size : 100), (const char *)answer.data);
    if (books->wrong[0] == 0)
        compare(books, done);
    if (books->wrong[0] == 0)
        count_timers(books, world, node);
    if (books->wrong[0] == 0 && !books->judged)
        (void)(books_deploys_fine(books->deploys, world, books->wrong, sizeof books->wrong) &&
               books_history_fine(books->history, books->wrong, sizeof books->wrong));
    books->judged = true;
    mem_free(done);
    buffer_close(&args);
    buffer_close(&answer);
    return books->wrong[0] != 0 ? books->wrong : NULL;
}

static void deploy(void *context, struct replica_world *world, uint32_t node, uint32_t amount)
{
    books_deploys_ask(((struct books *)context)->deploys, world, node, amount);
}

struct workload books_workload(struct books *books)
{
    return (struct workload){.context = books, .next = next, .ended = ended, .deploy = deploy, .verdict = verdict};
}

void books_bundles(struct buffer *out)
{
    struct buffer bundle = {0};
    books_deploys_bundle(NULL, &bundle);
    pack_array(out, 1);
    pack_text(out, buffer_slice(&bundle));
    buffer_close(&bundle);
}
