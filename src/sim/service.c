/* sim/service.c - see sim/service.h. The verdict is in service_verdict.c. */
#include "sim/service.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/budget.h"
#include "script/bundle.h"
#include "sim/service_private.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { QUERY_PARTS = 300000, RETRY_PARTS = 500000, LIMIT_BYTES = 1024 * 1024 };
static const uint64_t clock_start_ms = 1700000000000u; /* of virtual time 0 */

void service_wrong(struct service *service, const char *format, ...)
{
    va_list list;
    if (service->wrong[0] != 0)
        return;
    va_start(list, format);
    vsnprintf(service->wrong, sizeof service->wrong, format, list);
    va_end(list);
}

/* --- making it ------------------------------------------------------------------------------------------------------------- */

struct listing {
    struct service *service;
    enum vm_kind wanted;
};

static void add_name(void *context, const char *name, enum vm_kind kind)
{
    const struct listing *listing = context;
    struct service *service = listing->service;
    size_t count = service->commands + service->queries;
    if (kind != listing->wanted)
        return;
    service->names = mem_realloc(service->names, (count + 1) * sizeof *service->names);
    snprintf(service->names[count], sizeof *service->names, "%s", name);
    if (kind == VM_COMMAND)
        service->commands++;
    else
        service->queries++;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(left, right);
}

static void list_names(struct service *service)
{
    struct listing listing = {.service = service, .wanted = VM_COMMAND};
    vm_names(service->vm, add_name, &listing);
    listing.wanted = VM_QUERY;
    vm_names(service->vm, add_name, &listing);
    if (service->commands > 0)
        qsort(service->names, service->commands, sizeof *service->names, compare_names);
    if (service->queries > 0)
        qsort(service->names + service->commands, service->queries, sizeof *service->names, compare_names);
}

static void begin(struct service *service, uint64_t now_ms, uint64_t seed, uint32_t client)
{
    const struct vm_entry facts = {
        .index = 1, .term = 1, .now_ms = clock_start_ms + now_ms, .seed = seed, .client = client};
    const struct vm_limits limits = {.budget = BUDGET_INSTRUCTIONS,
                                     .depth = BUDGET_DEPTH,
                                     .key_bytes = KEY_BYTES_MAX,
                                     .row_bytes = LIMIT_BYTES,
                                     .args_bytes = LIMIT_BYTES,
                                     .answer_bytes = LIMIT_BYTES};
    vm_begin(service->vm, &facts, &limits);
}

/* A module whose init fails has no place in a cluster. */
static bool try_init(struct service *service, struct slice mount, struct buffer *why)
{
    struct buffer result = {0};
    struct slice code = {0};
    struct slice message = {0};
    struct slice data = {0};
    begin(service, 0, 1, 0);
    enum vm_outcome outcome = vm_init(service->vm, mount, &result);
    vm_end(service->vm);
    if (outcome == VM_REFUSED)
        CHECK(error_unpack(buffer_slice(&result), &code, &message, &data) == STATUS_OK);
    else if (outcome == VM_PARK)
        message = slice_text(vm_why(service->vm));
    if (outcome != VM_OK) {
        buffer_append(why, "init: ", 6);
        buffer_append(why, message.data, message.size);
    }
    buffer_close(&result);
    return outcome == VM_OK;
}

struct service *service_new(struct slice bundle, struct buffer *why)
{
    struct service *service = mem_zalloc(1, sizeof *service);
    struct slice mount = {0};
    service->bundle = bundle;
    service->tree = tree_new();
    service->vm = vm_new(service->tree, SWARM_LUA_BYTES_MAX);
    bool good = vm_mount_apart(service->vm, bundle, why) == STATUS_OK;
    if (good) {
        CHECK(bundle_mount(bundle, &mount) == STATUS_OK);
        snprintf(service->mount, sizeof service->mount, "%.*s", (int)mount.size, (const char *)mount.data);
        list_names(service);
        good = try_init(service, mount, why) && (service->commands > 0 || vm_has_workload(service->vm, mount));
    }
    if (good)
        return service;
    if (why->size == 0) { /* all else has said its own */
        static const char text[] = "it has no commands to make up calls of: give it a function workload(ctx)";
        buffer_append(why, text, sizeof text - 1);
    }
    service_free(service);
    return NULL;
}

void service_free(struct service *service)
{
    vm_free(service->vm);
    tree_free(service->tree);
    mem_free(service->names);
    mem_free(service->ops);
    buffer_close(&service->bytes);
    mem_free(service);
}

/* --- what a client asks ---------------------------------------------------------------------------------------------------- */

static void make_up(struct service *service, struct prng *prng, struct buffer *name, struct buffer *args)
{
    bool query = service->queries > 0 && prng_chance(prng, QUERY_PARTS);
    size_t at =
        query ? service->commands + prng_below(prng, service->queries) : prng_below(prng, service->commands);
    struct slice chosen = slice_text(service->names[at]);
    buffer_append(name, chosen.data, chosen.size);
    vm_make_up(service->vm, chosen, prng, args);
}

/* What the workload returned: { 'name', arguments... }, or nil. False: the client pauses, or something is wrong. */
static bool read_call(struct service *service, struct slice bytes, struct buffer *name, struct buffer *args)
{
    struct pack_reader reader = pack_reader_make(bytes);
    struct pack_item item;
    uint32_t count = 0;
    struct slice word;
    CHECK(pack_read(&reader, &item) == STATUS_OK);
    if (item.type == PACK_NIL)
        return false;
    reader = pack_reader_make(bytes);
    if (pack_read_array(&reader, &count) != STATUS_OK || count == 0 ||
        pack_read_text(&reader, &word) != STATUS_OK) {
        service_wrong(service, "workload: it returns { 'command', arguments... }, or nil to pause");
        return false;
    }
    if (word.size == 0 || memchr(word.data, '.', word.size) == NULL) {
        buffer_append(name, service->mount, strlen(service->mount));
        buffer_append_byte(name, '.');
    }
    buffer_append(name, word.data, word.size);
    pack_array(args, count - 1);
    struct slice rest = pack_rest(&reader);
    buffer_append(args, rest.data, rest.size);
    if (vm_find(service->vm, buffer_slice(name)) == VM_NONE)
        service_wrong(service, "workload: there is no command or query '%.*s'", (int)word.size,
                      (const char *)word.data);
    return service->wrong[0] == 0;
}

static bool ask_workload(struct service *service, uint32_t client, uint64_t now_ms, struct prng *prng,
                         struct buffer *name, struct buffer *args)
{
    struct buffer result = {0};
    begin(service, now_ms, prng_next(prng), client);
    enum vm_outcome outcome = vm_workload(service->vm, slice_text(service->mount), &result);
    vm_end(service->vm);
    bool asks = outcome == VM_OK && read_call(service, buffer_slice(&result), name, args);
    if (outcome == VM_REFUSED) {
        struct slice code, message, data;
        CHECK(error_unpack(buffer_slice(&result), &code, &message, &data) == STATUS_OK);
        service_wrong(service, "workload: %.*s", (int)message.size, (const char *)message.data);
    } else if (outcome == VM_PARK) {
        service_wrong(service, "workload: %s", vm_why(service->vm));
    }
    buffer_close(&result);
    return asks;
}

/* The client's last command, if nobody knows how it ended, again. */
static bool repeat(struct service *service, uint32_t client, struct prng *prng, struct buffer *name,
                   struct buffer *args)
{
    if (service->current[client] == 0)
        return false;
    const struct service_op *op = &service->ops[service->current[client] - 1];
    if (op->query || op->outcome != SWARM_UNKNOWN || !prng_chance(prng, RETRY_PARTS))
        return false;
    struct pack_reader reader = pack_reader_make(slice_make(service->bytes.data + op->call, op->call_size));
    struct slice word;
    CHECK(pack_read_text(&reader, &word) == STATUS_OK);
    struct slice list;
    CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &list) == STATUS_OK);
    buffer_append(name, word.data, word.size);
    buffer_append(args, list.data, list.size);
    return true;
}

static bool next(void *context, uint32_t client, uint64_t now_ms, struct prng *prng, struct buffer *name,
                 struct buffer *args, bool *query)
{
    struct service *service = context;
    bool asks = true;
    if (!repeat(service, client, prng, name, args)) {
        if (vm_has_workload(service->vm, slice_text(service->mount)))
            asks = ask_workload(service, client, now_ms, prng, name, args);
        else
            make_up(service, prng, name, args);
    }
    *query = asks && vm_find(service->vm, buffer_slice(name)) == VM_QUERY;
    return asks;
}

/* --- what it is told --------------------------------------------------------------------------------------------------------- */

static void begun(void *context, uint32_t client, struct slice name, struct slice args, struct slice ticket,
                  bool query)
{
    struct service *service = context;
    if (service->count == service->capacity) {
        service->capacity = service->capacity * 2 + 256;
        service->ops = mem_realloc(service->ops, service->capacity * sizeof *service->ops);
    }
    struct service_op *op = &service->ops[service->count++];
    *op = (struct service_op){.client = client,
                              .query = query,
                              .outcome = SWARM_UNKNOWN,
                              .known = service->told,
                              .call = service->bytes.size};
    pack_text(&service->bytes, name);
    buffer_append(&service->bytes, args.data, args.size);
    buffer_append(&service->bytes, ticket.data, ticket.size);
    op->ticketed = ticket.size > 0;
    op->call_size = service->bytes.size - op->call;
    service->current[client] = service->count;
}

static void ended(void *context, uint32_t client, uint64_t began, enum swarm_outcome outcome,
                  const struct replica_world_reply *reply)
{
    struct service *service = context;
    struct service_op *op = &service->ops[service->current[client] - 1];
    (void)began;
    op->outcome = outcome;
    op->value = service->bytes.size;
    op->value_size = reply->value.size;
    buffer_append(&service->bytes, reply->value.data, reply->value.size);
    if (outcome == SWARM_UNKNOWN)
        return;
    op->index = reply->index;
    if (op->index > service->told)
        service->told = op->index;
}

static bool demands_session(void *context, struct slice name)
{
    return vm_demands_session(((struct service *)context)->vm, name);
}

static const char *wrong(void *context)
{
    const struct service *service = context;
    return service->wrong[0] != 0 ? service->wrong : NULL;
}

static const char *verdict(void *context, struct replica_world *world, uint32_t node)
{
    struct service *service = context;
    if (!service->judged)
        service_judge(service, world, node);
    service->judged = true;
    return wrong(service);
}

struct workload service_workload(struct service *service)
{
    return (struct workload){.context = service,
                             .refusals_answer = true,
                             .next = next,
                             .ended = ended,
                             .begun = begun,
                             .demands_session = demands_session,
                             .wrong = wrong,
                             .verdict = verdict};
}
