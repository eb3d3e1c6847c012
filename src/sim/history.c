/* sim/history.c - see sim/history.h: collects a history, and judges it key by key.
 *
 * Easy keys first: every key gets a few steps, those that need more get more in the next round, so that one hard key does
 * not hide what another shows. A key that is not linearizable bounds the others: only what comes before can be shorter.
 */
#include "sim/history.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "sim/history_search.h"

enum {
    NONE = UINT32_MAX,
    HEADS_MIN = 64,
    FIRST_BUDGET = 1 << 14,
    BUDGET_GROWS = 8,
    PROBE_BUDGET = 1 << 22,
    STATES_BUDGET = 1 << 18
};
enum { WINDOW_MIN = 4, WINDOW_MAX = 1024, WINDOW_GROWS = 4, WINDOW_BUDGET = 1 << 14 };

/* A copied text: its place in `text`. */
struct span {
    size_t at, size;
};

struct op {
    uint32_t key, next; /* of the same key */
    uint32_t began, ended;
    uint8_t kind, end;
    bool has_old, known, present;
    struct span value, old, result;
    int64_t number, result_number;
};

enum state { KEY_OPEN, KEY_FINE, KEY_BROKEN, KEY_TOO_HARD };

struct key {
    struct span name;
    uint32_t next; /* of the same head */
    uint32_t first, last;
    enum state state;
};

struct history {
    struct op *ops;
    uint32_t ops_count, ops_capacity;
    struct key *keys;
    uint32_t keys_count, keys_capacity;
    uint32_t *heads; /* keys by hash: number + 1 */
    uint32_t heads_size;
    uint32_t *events; /* op * 2, + 1 if it is its end */
    uint32_t events_count, events_capacity;
    struct buffer text;
    struct search search;
    uint64_t first_budget;
};

/* --- collecting ----------------------------------------------------------------------------------------------------------- */

struct history *history_new(void)
{
    return mem_zalloc(1, sizeof(struct history));
}

void history_free(struct history *history)
{
    if (history == NULL)
        return;
    search_close(&history->search);
    mem_free(history->ops);
    mem_free(history->keys);
    mem_free(history->heads);
    mem_free(history->events);
    buffer_close(&history->text);
    mem_free(history);
}

static struct span keep(struct history *history, struct slice text)
{
    struct span span = {.at = history->text.size, .size = text.size};
    buffer_append(&history->text, text.data, text.size);
    return span;
}

static struct slice text_of(const struct history *history, struct span span)
{
    return slice_make(span.size > 0 ? history->text.data + span.at : NULL, span.size);
}

static uint32_t *head_of(struct history *history, struct slice name)
{
    return &history->heads[hash64(name.data, name.size) & (history->heads_size - 1)];
}

static void link_key(struct history *history, uint32_t number)
{
    uint32_t *head = head_of(history, text_of(history, history->keys[number].name));
    history->keys[number].next = *head;
    *head = number + 1;
}

static uint32_t find_key(struct history *history, struct slice name)
{
    if (history->keys_count >= history->heads_size) {
        history->heads_size = history->heads_size == 0 ? HEADS_MIN : history->heads_size * 2;
        mem_free(history->heads);
        history->heads = mem_zalloc(history->heads_size, sizeof *history->heads);
        for (uint32_t i = 0; i < history->keys_count; i++)
            link_key(history, i);
    }
    for (uint32_t i = *head_of(history, name); i != 0; i = history->keys[i - 1].next)
        if (slice_equal(text_of(history, history->keys[i - 1].name), name))
            return i - 1;
    if (history->keys_count == history->keys_capacity) {
        history->keys_capacity = history->keys_capacity * 2 + HEADS_MIN;
        history->keys = mem_realloc(history->keys, history->keys_capacity * sizeof *history->keys);
    }
    history->keys[history->keys_count] = (struct key){.name = keep(history, name), .first = NONE, .last = NONE};
    link_key(history, history->keys_count);
    return history->keys_count++;
}

static uint32_t add_event(struct history *history, uint32_t op, bool is_end)
{
    CHECK(history->events_count < NONE / 2);
    if (history->events_count == history->events_capacity) {
        history->events_capacity = history->events_capacity * 2 + 64;
        history->events = mem_realloc(history->events, history->events_capacity * sizeof *history->events);
    }
    history->events[history->events_count] = op * 2 + (is_end ? 1 : 0);
    return history->events_count++;
}

uint32_t history_begin(struct history *history, const struct history_call *call)
{
    CHECK(call->kind < HISTORY_KINDS);
    if (history->ops_count == history->ops_capacity) {
        history->ops_capacity = history->ops_capacity * 2 + 64;
        history->ops = mem_realloc(history->ops, history->ops_capacity * sizeof *history->ops);
    }
    uint32_t number = history->ops_count++;
    uint32_t at = find_key(history, call->key);
    struct key *key = &history->keys[at];
    history->ops[number] = (struct op){.key = at,
                                       .next = NONE,
                                       .began = add_event(history, number, false),
                                       .ended = NONE,
                                       .kind = (uint8_t)call->kind,
                                       .has_old = call->has_old,
                                       .value = keep(history, call->value),
                                       .old = keep(history, call->old),
                                       .number = call->number};
    if (key->first == NONE)
        key->first = number;
    else
        history->ops[key->last].next = number;
    key->last = number;
    return number;
}

void history_end(struct history *history, uint32_t number, enum history_end end,
                 const struct history_result *result)
{
    CHECK(number < history->ops_count && history->ops[number].end == HISTORY_OPEN && end != HISTORY_OPEN);
    struct op *op = &history->ops[number];
    op->end = (uint8_t)end;
    op->ended = add_event(history, number, true);
    if (end != HISTORY_OK || result == NULL || !result->known)
        return;
    op->known = true;
    op->present = result->present;
    op->result = keep(history, result->value);
    op->result_number = result->number;
}

uint32_t history_events(const struct history *history)
{
    return history->events_count;
}

uint32_t history_ops(const struct history *history)
{
    return history->ops_count;
}

uint32_t history_keys(const struct history *history)
{
    return history->keys_count;
}

uint32_t history_event_op(const struct history *history, uint32_t at, bool *is_end)
{
    CHECK(at < history->events_count);
    *is_end = (history->events[at] & 1) != 0;
    return history->events[at] / 2;
}

struct slice history_op_key(const struct history *history, uint32_t op)
{
    CHECK(op < history->ops_count);
    return text_of(history, history->keys[history->ops[op].key].name);
}

/* --- one key, up to an event --------------------------------------------------------------------------------------------------- */

/* Adds `op` as it looks when `from` is the first event and `limit` the last; one that explains or demands nothing is left out.
 * One under way at `from` may have happened before. */
static void add_op(struct history *history, const struct op *op, uint32_t from, uint32_t limit)
{
    struct search *search = &history->search;
    bool ended = op->ended <= limit && op->end != HISTORY_INFO;
    if (ended && (op->end == HISTORY_FAIL || op->ended < from))
        return;
    ended = ended && op->began >= from;
    struct search_op one = {.kind = op->kind,
                            .began = op->began,
                            .ended = ended ? op->ended : SEARCH_NEVER,
                            .known = ended && op->known,
                            .number = op->number,
                            .result_number = op->result_number};
    if (op->kind == HISTORY_GET && !one.known)
        return;
    if (op->kind == HISTORY_PUT || op->kind == HISTORY_APPEND || op->kind == HISTORY_CAS)
        one.value = values_intern(&search->values, text_of(history, op->value));
    if (op->kind == HISTORY_CAS && op->has_old)
        one.old = values_intern(&search->values, text_of(history, op->old));
    if (op->kind == HISTORY_GET && op->present)
        one.result = values_intern(&search->values, text_of(history, op->result));
    search_add(search, &one);
}

/* Puts the key into the search as it looks when `from` is the first event and `limit` the last. */
static void load_window(struct history *history, const struct key *key, uint32_t from, uint32_t limit)
{
    search_reset(&history->search);
    for (uint32_t i = key->first; i != NONE && history->ops[i].began <= limit; i = history->ops[i].next)
        add_op(history, &history->ops[i], from, limit);
}

static void load_key(struct history *history, const struct key *key, uint32_t limit)
{
    load_window(history, key, 0, limit);
}

/* Searches what is loaded. */
static enum history_verdict search_loaded(struct history *history, uint64_t budget)
{
    const struct history_limits *limits = history->search.limits;
    uint64_t left = limits->steps > 0 ? limits->steps - history->search.steps : budget;
    history->search.out_of_memory = false;
    history->search.furthest = 0;
    if (limits->steps > 0 && history->search.steps >= limits->steps)
        return HISTORY_UNKNOWN;
    return search_run(&history->search, left < budget ? left : budget);
}

static enum history_verdict search_key(struct history *history, const struct key *key, uint32_t limit,
                                       uint64_t budget)
{
    load_key(history, key, limit);
    return search_loaded(history, budget);
}

/* As search_key, but what is obvious needs no search: `obvious` is that, or SEARCH_NEVER. No event before `low` shows that it is
 * not linearizable. */
static enum history_verdict try_key(struct history *history, const struct key *key, uint32_t limit, uint64_t budget,
                                    uint32_t *obvious, uint32_t *low)
{
    load_key(history, key, limit);
    *low = 0;
    *obvious = search_obvious(&history->search);
    if (*obvious != SEARCH_NEVER)
        return HISTORY_NOT_LINEARIZABLE;
    enum history_verdict verdict = search_loaded(history, budget);
    *low = history->search.furthest;
    return verdict;
}

static void note_state(const struct search *search, uint32_t value, struct history_state *state)
{
    state->present = value != VALUE_MISSING;
    state->size = values_size(&search->values, value);
    values_copy(&search->values, value, state->bytes, sizeof state->bytes);
}

static void note_states(const struct search *search, struct history_report *report)
{
    report->states = search->states_count;
    report->states_more = search->states_more;
    for (uint32_t i = 0; i < search->states_count; i++)
        note_state(search, search->states[i], &report->state[i]);
}

/* Event `at`, an end, shows it. */
static void note_broken(struct history *history, const struct key *key, uint32_t at, bool shortest,
                        struct history_report *report)
{
    bool is_end = false;
    report->verdict = HISTORY_NOT_LINEARIZABLE;
    report->key = text_of(history, key->name);
    report->events = at + 1;
    report->shortest = shortest;
    report->op = history_event_op(history, at, &is_end);
    report->end = history->ops[report->op].end;
    report->states = 0;
    report->states_more = false;
    CHECK(is_end);
}

/* A value that is not in the search: nobody wrote, saw or expects it. */
static uint32_t another_value(struct search *search)
{
    static const char text[] = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";
    for (size_t size = 1; size < sizeof text; size++) {
        uint32_t before = search->values.count;
        uint32_t value = values_intern(&search->values, slice_make(text, size));
        if (value >= before)
            return value;
    }
    return VALUE_MISSING;
}

/* Whether events `from` to `at` of the key cannot be explained, whatever it was before. */
static bool window_shows(struct history *history, const struct key *key, uint32_t from, uint32_t at)
{
    struct search *search = &history->search;
    load_window(history, key, from, at);
    uint32_t other = another_value(search);
    if (other == VALUE_MISSING || !search_writes_alone(search))
        return false;
    /* The values of what is loaded have the same numbers each time. */
    for (uint32_t first = VALUE_MISSING; first <= other; first++) {
        load_window(history, key, from, at);
        (void)another_value(search);
        search->first = first;
        if (search_loaded(history, WINDOW_BUDGET) != HISTORY_NOT_LINEARIZABLE)
            return false;
    }
    return true;
}

/* The search came to event `at` and was lost in how it could have come there otherwise. Whether that does not matter: a few
 * operations before `at` show that it cannot be passed, with all of unknown outcome at hand and from any value. */
static bool cannot_pass(struct history *history, const struct key *key, uint32_t at)
{
    for (uint32_t size = WINDOW_MIN; size <= WINDOW_MAX; size *= WINDOW_GROWS) {
        uint32_t ops[WINDOW_MAX];
        uint32_t count = 0;
        for (uint32_t i = key->first; i != NONE && history->ops[i].began < at; i = history->ops[i].next)
            ops[count++ % size] = i;
        if (count <= size || history->search.stopped)
            return false;
        if (window_shows(history, key, history->ops[ops[count % size]].began, at))
            return true;
    }
    return false;
}

/* The key is not linearizable up to `high`, and no event before `low` shows it: the first one that does. *shortest false: it is
 * too hard to tell, and this is one that does. */
static uint32_t first_broken(struct history *history, const struct key *key, uint64_t budget, uint32_t low,
                             uint32_t high, bool *shortest)
{
    uint32_t obvious = 0;
    uint32_t below = 0;
    *shortest = true;
    for (uint32_t middle = low; low < high; middle = low + (high - low) / 2) {
        switch (try_key(history, key, middle, budget, &obvious, &below)) {
        case HISTORY_LINEARIZABLE:
            low = middle + 1;
            break;
        case HISTORY_NOT_LINEARIZABLE:
            high = middle;
            low = below > low ? below : low;
            break;
        case HISTORY_UNKNOWN:
            *shortest = false;
            low = high;
            break;
        }
    }
    /* The last event of the prefix is one that ends an operation on this key. */
    for (bool is_end = false;; high--) {
        uint32_t op = history_event_op(history, high, &is_end);
        if (is_end && &history->keys[history->ops[op].key] == key && history->ops[op].end != HISTORY_INFO)
            return high;
    }
}

/* The key is not linearizable up to `high`, and no event before `low` shows it: into the report. */
static void shorten(struct history *history, const struct key *key, uint64_t budget, uint32_t low, uint32_t high,
                    struct history_report *report)
{
    bool shortest = false;
    uint32_t at = first_broken(history, key, budget, low, high, &shortest);
    note_broken(history, key, at, shortest, report);
    if (report->end != HISTORY_OK)
        return;
    history->search.all_states = true;
    enum history_verdict verdict = search_key(history, key, at, STATES_BUDGET);
    if (history->search.furthest == at) {
        note_states(&history->search, report);
        report->states_more = report->states_more || verdict == HISTORY_UNKNOWN;
    } else if (search_key(history, key, at - 1, STATES_BUDGET) == HISTORY_LINEARIZABLE) {
        /* It never came so far: one order of what is before. */
        report->states = 1;
        report->states_more = true;
        note_state(&history->search, history->search.value, &report->state[0]);
    }
    history->search.all_states = false;
}

/* --- all keys -------------------------------------------------------------------------------------------------------------------- */

/* Judges one key in about `budget` steps, up to the last event that still matters. */
static enum state judge_key(struct history *history, const struct key *key, uint64_t budget,
                            struct history_report *report)
{
    bool known = report->verdict == HISTORY_NOT_LINEARIZABLE;
    uint32_t high = known ? report->events - 2 : history->events_count - 1;
    uint64_t probe = budget < PROBE_BUDGET ? PROBE_BUDGET : budget;
    uint32_t obvious = 0;
    uint32_t low = 0;
    enum history_verdict verdict = try_key(history, key, high, budget, &obvious, &low);
    if (verdict == HISTORY_UNKNOWN) {
        bool out_of_memory = history->search.out_of_memory;
        if (budget <= history->first_budget || low == 0 || !cannot_pass(history, key, low))
            return out_of_memory ? KEY_TOO_HARD : KEY_OPEN;
        high = low;
    } else if (verdict == HISTORY_LINEARIZABLE)
        return KEY_FINE;
    if (obvious < high) {
        uint32_t again = 0;
        load_key(history, key, obvious);
        if (search_obvious(&history->search) != SEARCH_NEVER)
            high = obvious;
        if (try_key(history, key, high - 1, probe, &again, &low) == HISTORY_LINEARIZABLE)
            low = high;
    }
    shorten(history, key, probe, low, high, report);
    return KEY_BROKEN;
}

/* One more round; how many remain open. */
static uint32_t judge_open(struct history *history, uint64_t budget, struct history_report *report)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < history->keys_count && !history->search.stopped; i++) {
        struct key *key = &history->keys[i];
        if (key->state == KEY_OPEN)
            key->state = judge_key(history, key, budget, report);
        open += key->state == KEY_OPEN;
    }
    return open;
}

void history_check(struct history *history, const struct history_limits *limits, struct history_report *report)
{
    *report = (struct history_report){.verdict = HISTORY_LINEARIZABLE};
    if (history->events_count == 0)
        return;
    history->search.limits = limits;
    history->search.steps = 0;
    history->search.stopped = false;
    for (uint32_t i = 0; i < history->keys_count; i++)
        history->keys[i].state = KEY_OPEN;
    history->first_budget = limits->first_steps > 0 ? limits->first_steps : FIRST_BUDGET;
    for (uint64_t budget = history->first_budget; judge_open(history, budget, report) > 0; budget *= BUDGET_GROWS)
        if (history->search.stopped || (limits->steps > 0 && history->search.steps >= limits->steps))
            break;
    report->steps = history->search.steps;
    for (uint32_t i = 0; i < history->keys_count; i++) {
        const struct key *key = &history->keys[i];
        if (key->state != KEY_OPEN && key->state != KEY_TOO_HARD)
            continue;
        report->undecided++;
        report->shortest = false;
        if (report->verdict == HISTORY_NOT_LINEARIZABLE)
            continue;
        report->verdict = HISTORY_UNKNOWN;
        report->key = text_of(history, key->name);
    }
    history->search.limits = NULL;
}
