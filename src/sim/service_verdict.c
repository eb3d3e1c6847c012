/* sim/service_verdict.c - what clients were told, held against the log that was applied. See sim/service.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/service_private.h"
#include "wire/error.h"
#include "wire/json.h"
#include "wire/pack.h"

enum { SHOWN_BYTES = 300, NOBODY = 0 };

/* What the log gives for one entry. */
struct given {
    bool answers; /* it is a command */
    bool ok;
    size_t op; /* that was told of it, plus 1 */
    size_t value, value_size;
    struct slice call;
};

/* How often a call was asked for, and how often it is in the log. */
struct tally {
    struct slice call;
    size_t op; /* one of them; SIZE_MAX: nobody asked */
    uint32_t answered, unknown, logged;
    raft_index first; /* of a call with a ticket: its entry that was answered first, not for want of room or time */
};

struct judging {
    struct service *service;
    struct machine *machine;
    struct machine_results results;
    struct given *given; /* by index */
    raft_index last;
    size_t *queries; /* ops, by the index of their answers */
    size_t queries_count, queries_done;
    struct tally *tallies; /* open addressing */
    size_t tallies_capacity;
};

/* --- words ------------------------------------------------------------------------------------------------------------------ */

static const char *shown(struct slice packed, char *room)
{
    struct buffer text = {0};
    if (packed.size == 0 || json_write(&text, packed) != STATUS_OK)
        buffer_append(&text, "nothing", 7);
    bool long_one = text.size > SHOWN_BYTES;
    snprintf(room, SHOWN_BYTES + 8, "%.*s%s", (int)(long_one ? SHOWN_BYTES : text.size), (const char *)text.data,
             long_one ? "..." : "");
    buffer_close(&text);
    return room;
}

static struct slice call_of(const struct service *service, const struct service_op *op)
{
    return slice_make(service->bytes.data + op->call, op->call_size);
}

static struct slice told_of(const struct service *service, const struct service_op *op)
{
    return slice_make(service->bytes.data + op->value, op->value_size);
}

/* "client 3: bank.transfer ["a","b",5]" */
static const char *described(const struct service *service, const struct service_op *op, char *room, size_t size)
{
    char args[SHOWN_BYTES + 8];
    struct slice name = {0};
    struct pack_reader reader = pack_reader_make(call_of(service, op));
    struct slice list;
    CHECK(pack_read_text(&reader, &name) == STATUS_OK);
    CHECK(pack_skip(&reader, PACK_DEPTH_MAX, &list) == STATUS_OK);
    snprintf(room, size, "client %u: %.*s %s", op->client, (int)name.size, (const char *)name.data,
             shown(list, args));
    return room;
}

static void blame(struct service *service, const struct service_op *op, const char *what)
{
    char who[2 * SHOWN_BYTES];
    char value[SHOWN_BYTES + 8];
    service_wrong(service, "%s: was told %s %s at index %" PRIu64 ": %s", described(service, op, who, sizeof who),
                  op->outcome == SWARM_OK ? "ok" : "refused", shown(told_of(service, op), value), op->index, what);
}

/* What it should have been. */
static void blame_value(struct service *service, const struct service_op *op, const char *what, bool ok,
                        struct slice value)
{
    char text[2 * SHOWN_BYTES];
    char room[SHOWN_BYTES + 8];
    snprintf(text, sizeof text, "%s %s %s", what, ok ? "ok" : "refused", shown(value, room));
    blame(service, op, text);
}

/* --- the log, once more -------------------------------------------------------------------------------------------------------- */

static int compare_queries(const void *left, const void *right, void *context)
{
    const struct service *service = context;
    size_t a = *(const size_t *)left;
    size_t b = *(const size_t *)right;
    if (service->ops[a].index != service->ops[b].index)
        return service->ops[a].index < service->ops[b].index ? -1 : 1;
    return (a > b) - (a < b);
}

static void list_queries(struct judging *judging)
{
    struct service *service = judging->service;
    judging->queries = mem_zalloc(service->count + 1, sizeof *judging->queries);
    for (size_t i = 0; i < service->count; i++)
        if (service->ops[i].query && service->ops[i].index > 0)
            judging->queries[judging->queries_count++] = i;
    qsort_r(judging->queries, judging->queries_count, sizeof *judging->queries, compare_queries, service);
}

static void ask_again(struct judging *judging, const struct service_op *op)
{
    struct service *service = judging->service;
    struct pack_reader reader = pack_reader_make(call_of(service, op));
    struct slice name;
    CHECK(pack_read_text(&reader, &name) == STATUS_OK);
    judging->results.count = 0;
    size_t start = judging->results.bytes.size;
    machine_query(judging->machine, name, pack_rest(&reader), 0, &judging->results);
    const struct machine_result *result = &judging->results.list[0];
    struct slice value = slice_make(judging->results.bytes.data + result->offset, result->size);
    bool same = result->ok == (op->outcome == SWARM_OK) && slice_equal(value, told_of(service, op));
    if (!same && !machine_query_timed(judging->machine))
        blame_value(service, op, "the state there gives", result->ok, value);
    judging->results.bytes.size = start;
}

static void apply_entry(struct judging *judging, struct slice record, const struct entry *entry)
{
    struct given *given = &judging->given[entry->index];
    judging->results.count = 0;
    CHECK_EQ(machine_apply(judging->machine, record, true, &judging->results), entry->index);
    if (judging->results.count > 0 && entry->kind != ENTRY_SESSION) {
        const struct machine_result *result = &judging->results.list[0];
        *given = (struct given){.answers = true,
                                .ok = result->ok,
                                .value = result->offset,
                                .value_size = result->size,
                                .call = entry->payload};
    }
    for (; judging->queries_done < judging->queries_count; judging->queries_done++) {
        const struct service_op *op = &judging->service->ops[judging->queries[judging->queries_done]];
        if (op->index != entry->index)
            break;
        ask_again(judging, op);
    }
}

static void apply_log(struct judging *judging, struct slice log)
{
    struct entry entry;
    struct slice rest = log;
    for (; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        judging->last = entry.index;
    }
    judging->given = mem_zalloc(judging->last + 1, sizeof *judging->given);
    for (rest = log; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        apply_entry(judging, slice_make(rest.data, entry.size), &entry);
    }
}

/* --- what was told -------------------------------------------------------------------------------------------------------------- */

static void judge_command(struct judging *judging, size_t number)
{
    struct service *service = judging->service;
    const struct service_op *op = &service->ops[number];
    struct given *given = op->index <= judging->last ? &judging->given[op->index] : NULL;
    if (given == NULL || !given->answers || !slice_equal(given->call, call_of(service, op))) {
        blame(service, op, "the log has another entry there");
        return;
    }
    struct slice value = slice_make(judging->results.bytes.data + given->value, given->value_size);
    if (given->op != NOBODY)
        blame(service, op, "that is the answer to another command");
    else if (given->ok != (op->outcome == SWARM_OK) || !slice_equal(value, told_of(service, op)))
        blame_value(service, op, "its entry gives", given->ok, value);
    given->op = number + 1;
}

static void judge_order(struct service *service, const struct service_op *op)
{
    char text[160];
    if (op->query ? op->index >= op->known : op->index > op->known)
        return;
    snprintf(text, sizeof text, "but index %" PRIu64 " was known when it began", op->known);
    blame(service, op, text);
}

/* --- how often -------------------------------------------------------------------------------------------------------------------- */

static struct tally *tally_of(struct judging *judging, struct slice call)
{
    size_t at = (size_t)hash64(call.data, call.size) & (judging->tallies_capacity - 1);
    while (judging->tallies[at].call.data != NULL && !slice_equal(judging->tallies[at].call, call))
        at = (at + 1) & (judging->tallies_capacity - 1);
    if (judging->tallies[at].call.data == NULL)
        judging->tallies[at] = (struct tally){.call = call, .op = SIZE_MAX};
    return &judging->tallies[at];
}

/* Of the entries of one ticket each that is answered at all is answered alike, or told that the answer is gone. */
static bool is_passing(const struct judging *judging, const struct given *given)
{
    struct slice code = {0};
    struct slice message = {0};
    struct slice data = {0};
    struct slice value = slice_make(judging->results.bytes.data + given->value, given->value_size);
    return !given->ok && error_unpack(value, &code, &message, &data) == STATUS_OK &&
           (slice_equal(code, slice_text("SESSION_EXPIRED")) || slice_equal(code, slice_text("BUSY")));
}

static void count_entry(struct judging *judging, raft_index index)
{
    struct service *service = judging->service;
    const struct given *given = &judging->given[index];
    struct tally *tally = tally_of(judging, given->call);
    bool ticketed = tally->op != SIZE_MAX && service->ops[tally->op].ticketed;
    tally->logged++;
    if (!ticketed || is_passing(judging, given))
        return;
    if (tally->first == 0) {
        tally->first = index;
        return;
    }
    const struct given *first = &judging->given[tally->first];
    const uint8_t *bytes = judging->results.bytes.data;
    char who[2 * SHOWN_BYTES];
    if (first->ok != given->ok || !slice_equal(slice_make(bytes + first->value, first->value_size),
                                               slice_make(bytes + given->value, given->value_size)))
        service_wrong(service, "%s: ran again at index %" PRIu64 ", and was answered at index %" PRIu64,
                      described(service, &service->ops[tally->op], who, sizeof who), index, tally->first);
}

static void count(struct judging *judging)
{
    struct service *service = judging->service;
    judging->tallies_capacity = 64;
    while (judging->tallies_capacity < 2 * (service->count + judging->last + 1))
        judging->tallies_capacity *= 2;
    judging->tallies = mem_zalloc(judging->tallies_capacity, sizeof *judging->tallies);
    for (size_t i = 0; i < service->count; i++) {
        const struct service_op *op = &service->ops[i];
        if (op->query)
            continue;
        struct tally *tally = tally_of(judging, call_of(service, op));
        tally->op = i;
        tally->answered += op->outcome != SWARM_UNKNOWN && op->index > 0;
        tally->unknown += op->outcome == SWARM_UNKNOWN;
    }
    for (raft_index index = 1; index <= judging->last; index++)
        if (judging->given[index].answers)
            count_entry(judging, index);
}

static void judge_counts(struct judging *judging)
{
    struct service *service = judging->service;
    char who[2 * SHOWN_BYTES];
    for (size_t i = 0; i < judging->tallies_capacity; i++) {
        const struct tally *tally = &judging->tallies[i];
        bool told = tally->answered + tally->unknown > 0;
        if (tally->call.data == NULL || tally->logged <= tally->answered + tally->unknown ||
            (told && service->ops[tally->op].ticketed))
            continue;
        if (tally->op == SIZE_MAX)
            service_wrong(service, "the log has a command that nobody asked for");
        else
            service_wrong(service,
                          "%s: is in the log %u times: %u were told so, %u do not know; whoever else asked was "
                          "told that it certainly had no effect",
                          described(service, &service->ops[tally->op], who, sizeof who), tally->logged,
                          tally->answered, tally->unknown);
    }
}

/* --- all together ------------------------------------------------------------------------------------------------------------------ */

static void judge_state(struct judging *judging, struct replica_world *world, uint32_t node)
{
    struct replica_world_status theirs;
    struct machine_status ours;
    replica_world_status(world, node, &theirs);
    machine_get_status(judging->machine, &ours);
    if (theirs.applied == ours.applied &&
        (theirs.digest_hi != ours.digest.hi || theirs.digest_lo != ours.digest.lo))
        service_wrong(judging->service, "the log, applied once more, gives another state than node %u has",
                      node + 1);
}

void service_judge(struct service *service, struct replica_world *world, uint32_t node)
{
    const struct machine_options how = {.lua_bytes_max = SWARM_LUA_BYTES_MAX};
    struct judging judging = {.service = service, .machine = machine_new(&how)};
    list_queries(&judging);
    apply_log(&judging, replica_world_log(world));
    for (size_t i = 0; i < service->count; i++) {
        const struct service_op *op = &service->ops[i];
        if (op->outcome == SWARM_UNKNOWN || op->index == 0)
            continue;
        judge_order(service, op);
        if (!op->query)
            judge_command(&judging, i);
    }
    if (judging.queries_done < judging.queries_count)
        blame(service, &service->ops[judging.queries[judging.queries_done]], "there is no such entry");
    count(&judging);
    judge_counts(&judging);
    judge_state(&judging, world, node);
    machine_free(judging.machine);
    buffer_close(&judging.results.bytes);
    mem_free(judging.results.list);
    mem_free(judging.given);
    mem_free(judging.queries);
    mem_free(judging.tallies);
}
