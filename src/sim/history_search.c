/* sim/history_search.c - see sim/history_search.h. */
#include "sim/history_search.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"

enum { STOP_EVERY = 1024, HEADS_MIN = 256, HEADS_KEPT = 65536, MEMORY_KEPT = 1 << 20 };
enum trying { TRY_TARGET, TRY_ENDED, TRY_PENDING, TRY_NOTHING };

/* A configuration in `memory`; after it `words` of open and `used_words` of used. All in units of 8 bytes. */
struct configuration {
    uint32_t next; /* of the same head; 0: none */
    uint32_t hash;
    uint32_t target, value;
    uint32_t used_words, room; /* room: it had as many words of used when it was written */
};
enum { CONFIGURATION_WORDS = sizeof(struct configuration) / sizeof(uint64_t) };

/* --- making and emptying ------------------------------------------------------------------------------------------------- */

void search_close(struct search *search)
{
    values_close(&search->values);
    mem_free(search->ops);
    mem_free(search->order);
    mem_free(search->ends);
    mem_free(search->open);
    mem_free(search->used);
    mem_free(search->chains);
    mem_free(search->placed);
    mem_free(search->frames);
    mem_free(search->memory);
    mem_free(search->heads);
    *search = (struct search){0};
}

void search_reset(struct search *search)
{
    values_reset(&search->values);
    if (search->memory_capacity > MEMORY_KEPT || search->heads_size > HEADS_KEPT) {
        mem_free(search->memory);
        mem_free(search->heads);
        search->memory = NULL;
        search->heads = NULL;
        search->memory_capacity = 0;
        search->heads_size = 0;
    }
    if (search->heads_size > 0)
        memset(search->heads, 0, search->heads_size * sizeof *search->heads);
    search->memory_size = 0;
    search->configurations = 0;
    search->count = 0;
    search->placed_count = 0;
    search->frames_count = 0;
    search->first = VALUE_MISSING;
}

void search_add(struct search *search, const struct search_op *op)
{
    CHECK(search->count == 0 || search->ops[search->count - 1].began < op->began);
    if (search->count == search->capacity) {
        search->capacity = search->capacity * 2 + 64;
        search->ops = mem_realloc(search->ops, search->capacity * sizeof *search->ops);
    }
    struct search_op *added = &search->ops[search->count++];
    *added = *op;
    added->changes_nothing = op->kind == HISTORY_GET || ((op->kind == HISTORY_CAS || op->kind == HISTORY_DEL) &&
                                                         op->known && op->result_number == 0);
}

/* --- one step ------------------------------------------------------------------------------------------------------------------- */

/* Whether `piece` after `value` goes on as the longest value that was read does. */
static bool goes_on(const struct search *search, uint32_t value, uint32_t piece)
{
    struct slice longest = values_flat(&search->values, search->ahead);
    struct slice more = values_flat(&search->values, piece);
    uint64_t at = values_size(&search->values, value);
    if (at >= longest.size)
        return true;
    size_t size = more.size < longest.size - at ? more.size : (size_t)(longest.size - at);
    return size == 0 || memcmp(longest.data + at, more.data, size) == 0;
}

/* Whether `op` can happen now, with its result; and what the key is then. */
static bool happens(struct search *search, const struct search_op *op, uint32_t *next)
{
    uint32_t value = search->value;
    int64_t sum = 0;
    bool hit = op->kind == HISTORY_DEL ? value != VALUE_MISSING : value == op->old;
    *next = value;
    switch (op->kind) {
    case HISTORY_PUT:
        *next = op->value;
        return true;
    case HISTORY_APPEND:
        if (search->ahead != VALUE_MISSING && !goes_on(search, value, op->value))
            return false;
        *next = values_append(&search->values, value, op->value);
        return true;
    case HISTORY_CAS:
    case HISTORY_DEL:
        if (hit)
            *next = op->kind == HISTORY_DEL ? VALUE_MISSING : op->value;
        return !op->known || (op->result_number != 0) == hit;
    case HISTORY_INCR:
        return values_add(&search->values, value, op->number, next, &sum) &&
               (!op->known || op->result_number == sum);
    case HISTORY_GET:
    case HISTORY_KINDS:
        break;
    }
    return !op->known || op->result == value;
}

/* Whether it does the same whatever the key was. */
static bool overwrites(const struct search_op *op)
{
    return op->kind == HISTORY_PUT || (op->kind == HISTORY_DEL && !op->known);
}

/* Whether an operation that is not placed yet, and could not be or did something else when the key was `value`, can be now that
 * one of unknown outcome has made it `next`. */
static bool is_changed(const struct search_op *op, uint32_t value, uint32_t next)
{
    switch (op->kind) {
    case HISTORY_GET:
        return op->result == next;
    case HISTORY_CAS:
        return op->known && op->result_number != 0 ? op->old == next : op->old == next || op->old == value;
    case HISTORY_DEL:
        return op->known && (value == VALUE_MISSING || next == VALUE_MISSING);
    case HISTORY_PUT:
        return false;
    case HISTORY_APPEND:
    case HISTORY_INCR:
    case HISTORY_KINDS:
        break;
    }
    return true;
}

static uint32_t target_of(const struct search *search)
{
    return search->ends[search->count].next;
}

static void list_take(struct search_link *links, uint32_t at)
{
    links[links[at].before].next = links[at].next;
    links[links[at].next].before = links[at].before;
}

/* Undoes the latest list_take that is not undone. */
static void list_put_back(struct search_link *links, uint32_t at)
{
    links[links[at].before].next = at;
    links[links[at].next].before = at;
}

static void place(struct search *search, uint32_t at)
{
    const struct search_op *op = &search->ops[at];
    if (search->placed_count == search->placed_capacity) {
        search->placed_capacity = search->placed_capacity * 2 + 64;
        search->placed = mem_realloc(search->placed, search->placed_capacity * sizeof *search->placed);
    }
    search->placed[search->placed_count++] = at;
    list_take(search->order, at);
    if (op->ended == SEARCH_NEVER)
        search->used[op->slot / 64] |= 1ull << (op->slot % 64);
    else
        list_take(search->ends, at);
}

static void take_back(struct search *search, uint32_t count)
{
    while (search->placed_count > count) {
        uint32_t at = search->placed[--search->placed_count];
        const struct search_op *op = &search->ops[at];
        list_put_back(search->order, at);
        if (op->ended == SEARCH_NEVER)
            search->used[op->slot / 64] &= ~(1ull << (op->slot % 64));
        else
            list_put_back(search->ends, at);
    }
}

/* Places what changes nothing and fits. */
static void place_the_free(struct search *search)
{
    uint32_t next = 0;
    for (uint32_t at = search->order[search->count].next; at != search->count; at = search->order[at].next) {
        uint32_t target = target_of(search);
        const struct search_op *op = &search->ops[at];
        if (target == search->count || op->began > search->ops[target].ended)
            return;
        if (op->changes_nothing && happens(search, op, &next))
            place(search, at);
    }
}

/* Whether one of unknown outcome that makes the key `next` is of use for what may come right after it. */
static bool is_of_use(const struct search *search, uint32_t next)
{
    uint32_t limit = search->ops[target_of(search)].ended;
    if (search->all_states || search->chains_any || (next < search->chains_count && search->chains[next] != 0))
        return true;
    for (uint32_t at = search->order[search->count].next; at != search->count; at = search->order[at].next) {
        const struct search_op *op = &search->ops[at];
        if (op->began > limit)
            return false;
        if (is_changed(op, search->value, next))
            return true;
    }
    return false;
}

/* Whether the one placed last is of unknown outcome: then something must come of it. */
static bool is_in_debt(const struct search *search)
{
    return search->placed_count > 0 && !search->all_states &&
           search->ops[search->placed[search->placed_count - 1]].ended == SEARCH_NEVER;
}

/* --- memory ----------------------------------------------------------------------------------------------------------------------- */

static struct configuration *configuration_at(const struct search *search, uint32_t at)
{
    return (struct configuration *)(void *)(search->memory + at);
}

static void grow_heads(struct search *search)
{
    mem_free(search->heads);
    search->heads_size = search->heads_size == 0 ? HEADS_MIN : search->heads_size * 2;
    search->heads = mem_zalloc(search->heads_size, sizeof *search->heads);
    for (size_t at = 1; at < search->memory_size;) {
        struct configuration *one = configuration_at(search, (uint32_t)at);
        uint32_t *head = &search->heads[one->hash & (search->heads_size - 1)];
        one->next = *head;
        *head = (uint32_t)at;
        at += CONFIGURATION_WORDS + search->words + one->room;
    }
}

/* Which are open: those that began before the target ends and are not placed. */
static void mark_open(struct search *search)
{
    uint32_t limit = search->ops[target_of(search)].ended;
    if (search->words > 0)
        memset(search->open, 0, search->words * sizeof *search->open);
    for (uint32_t at = search->order[search->count].next; at != search->count; at = search->order[at].next) {
        const struct search_op *op = &search->ops[at];
        if (op->began > limit)
            return;
        search->open[op->slot / 64] |= 1ull << (op->slot % 64);
    }
}

static bool is_subset(const uint64_t *some, uint32_t some_words, const uint64_t *all, uint32_t all_words)
{
    if (some_words > all_words)
        return false;
    for (uint32_t i = 0; i < some_words; i++)
        if ((some[i] & ~all[i]) != 0)
            return false;
    return true;
}

static size_t bytes_in_use(const struct search *search)
{
    return search->memory_size * sizeof *search->memory + search->heads_size * sizeof *search->heads +
           search->frames_capacity * sizeof *search->frames + search->placed_capacity * sizeof *search->placed +
           search->values.bytes;
}

static void remember(struct search *search, uint32_t hash, uint32_t used_words)
{
    size_t size = CONFIGURATION_WORDS + search->words + used_words;
    if (search->memory_size == 0)
        search->memory_size = 1; /* 0 is no configuration */
    if (search->memory_size + size > search->memory_capacity) {
        search->memory_capacity = search->memory_capacity * 2 + size + 1024;
        search->memory = mem_realloc(search->memory, search->memory_capacity * sizeof *search->memory);
    }
    struct configuration *one = configuration_at(search, (uint32_t)search->memory_size);
    uint32_t *head = &search->heads[hash & (search->heads_size - 1)];
    *one = (struct configuration){.next = *head,
                                  .hash = hash,
                                  .target = target_of(search),
                                  .value = search->value,
                                  .used_words = used_words,
                                  .room = used_words};
    uint64_t *words = search->memory + search->memory_size + CONFIGURATION_WORDS;
    memcpy(words, search->open, search->words * sizeof *words);
    if (used_words > 0)
        memcpy(words + search->words, search->used, used_words * sizeof *words);
    *head = (uint32_t)search->memory_size;
    search->memory_size += size;
    search->configurations++;
}

/* Whether this configuration, or one that used no more, was reached before; remembers it if not. */
static bool seen_before(struct search *search)
{
    uint32_t target = target_of(search);
    uint32_t used_words = search->used_words;
    while (used_words > 0 && search->used[used_words - 1] == 0)
        used_words--;
    mark_open(search);
    if (search->configurations >= search->heads_size)
        grow_heads(search);
    uint64_t mixed[3] = {target, search->value, hash64(search->open, search->words * sizeof *search->open)};
    uint32_t hash = (uint32_t)hash64(mixed, sizeof mixed);
    for (uint32_t at = search->heads[hash & (search->heads_size - 1)]; at != 0;) {
        struct configuration *one = configuration_at(search, at);
        uint64_t *open = search->memory + at + CONFIGURATION_WORDS;
        uint64_t *used = open + search->words;
        at = one->next;
        search->steps++;
        if (one->hash != hash || one->target != target || one->value != search->value ||
            memcmp(open, search->open, search->words * sizeof *open) != 0)
            continue;
        if (is_subset(used, one->used_words, search->used, used_words))
            return true;
        if (is_subset(search->used, used_words, used, one->used_words)) {
            memcpy(used, search->used, used_words * sizeof *used);
            one->used_words = used_words;
            return false;
        }
    }
    remember(search, hash, used_words);
    return false;
}

/* --- the search ---------------------------------------------------------------------------------------------------------------------- */

static void note_furthest(struct search *search)
{
    uint32_t ended = search->ops[target_of(search)].ended;
    if (search->frames_count > 0 && ended < search->furthest)
        return;
    if (search->frames_count == 0 || ended > search->furthest) {
        search->furthest = ended;
        search->states_count = 0;
        search->states_more = false;
    }
    for (uint32_t i = 0; i < search->states_count; i++)
        if (search->states[i] == search->value)
            return;
    if (search->states_count == HISTORY_STATES_MAX)
        search->states_more = true;
    else
        search->states[search->states_count++] = search->value;
}

enum arrival { ARRIVED_DONE, ARRIVED_SEEN, ARRIVED_NEW };

/* A configuration is reached: something was placed when `placed` were, and the key was `value`. */
static enum arrival arrive(struct search *search, uint32_t placed, uint32_t value)
{
    place_the_free(search);
    if (target_of(search) == search->count)
        return ARRIVED_DONE;
    note_furthest(search);
    if (seen_before(search))
        return ARRIVED_SEEN;
    if (search->frames_count == search->frames_capacity) {
        search->frames_capacity = search->frames_capacity * 2 + 64;
        search->frames = mem_realloc(search->frames, search->frames_capacity * sizeof *search->frames);
    }
    search->frames[search->frames_count++] =
        (struct search_frame){.placed = placed, .value = value, .trying = TRY_TARGET};
    return ARRIVED_NEW;
}

/* The next one to try here, SEARCH_NEVER if there is none: the one that ends first, the others, those of unknown outcome. */
static uint32_t next_candidate(struct search *search, struct search_frame *frame)
{
    uint32_t target = target_of(search);
    uint32_t limit = search->ops[target].ended;
    if (frame->trying == TRY_TARGET) {
        frame->trying = TRY_ENDED;
        frame->cursor = search->order[search->count].next;
        return target;
    }
    while (frame->trying == TRY_ENDED) {
        uint32_t at = frame->cursor;
        if (at == search->count || search->ops[at].began > limit) {
            frame->trying = TRY_PENDING;
            frame->cursor = search->order[search->count + 1].next;
            break;
        }
        frame->cursor = search->order[at].next;
        if (at != target && !search->ops[at].changes_nothing)
            return at;
    }
    while (frame->trying == TRY_PENDING) {
        uint32_t at = frame->cursor;
        if (at == search->count + 1 || search->ops[at].began > limit) {
            frame->trying = TRY_NOTHING;
            break;
        }
        frame->cursor = search->order[at].next;
        uint32_t twin = search->ops[at].twin;
        search->steps++;
        if (twin == SEARCH_NEVER ||
            (search->used[search->ops[twin].slot / 64] >> (search->ops[twin].slot % 64) & 1) != 0)
            return at;
    }
    return SEARCH_NEVER;
}

static bool may_go_on(struct search *search, uint64_t *asked)
{
    const struct history_limits *limits = search->limits;
    if (++search->steps >= search->budget)
        return false;
    if (bytes_in_use(search) > (limits->bytes > 0 ? limits->bytes : HISTORY_BYTES)) {
        search->out_of_memory = true;
        return false;
    }
    if (search->steps >= *asked) {
        *asked = search->steps + STOP_EVERY;
        search->stopped = limits->stop != NULL && limits->stop(limits->context);
    }
    return !search->stopped;
}

static enum history_verdict walk(struct search *search)
{
    uint64_t asked = search->steps + STOP_EVERY;
    if (arrive(search, 0, search->value) == ARRIVED_DONE)
        return HISTORY_LINEARIZABLE;
    while (true) {
        struct search_frame *frame = &search->frames[search->frames_count - 1];
        uint32_t at = next_candidate(search, frame);
        if (!may_go_on(search, &asked))
            return HISTORY_UNKNOWN;
        if (at == SEARCH_NEVER) {
            take_back(search, frame->placed);
            search->value = frame->value;
            if (--search->frames_count == 0)
                return HISTORY_NOT_LINEARIZABLE;
            continue;
        }
        uint32_t next = 0;
        uint32_t placed = search->placed_count;
        uint32_t value = search->value;
        if ((is_in_debt(search) && overwrites(&search->ops[at])) || !happens(search, &search->ops[at], &next))
            continue;
        if (search->ops[at].ended == SEARCH_NEVER && (next == value || !is_of_use(search, next)))
            continue;
        place(search, at);
        search->value = next;
        switch (arrive(search, placed, value)) {
        case ARRIVED_DONE:
            return HISTORY_LINEARIZABLE;
        case ARRIVED_SEEN:
            take_back(search, placed);
            search->value = value;
            break;
        case ARRIVED_NEW:
            break;
        }
    }
}

enum history_verdict search_run(struct search *search, uint64_t budget)
{
    search_prepare(search);
    search->budget = search->steps + budget < budget ? UINT64_MAX : search->steps + budget;
    search->value = search->first;
    search->furthest = 0;
    search->states_count = 0;
    search->states_more = false;
    return walk(search);
}
