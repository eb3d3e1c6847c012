/* sim/books_history.c - see sim/books_history.h. */
#include "sim/books_history.h"

#include <stdio.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/history_value.h"
#include "wire/pack.h"

enum { STEPS = 2000000, MEMORY = 64 * 1024 * 1024, NUMBER_ROOM = 24, SHOWN = 12, EVENTS_SHOWN = 12 };

/* For the sentence: what it was, in short. */
struct noted {
    uint32_t client;
    uint64_t began, ended;
    bool checked;
    enum history_kind kind;
    enum history_end end;
    char call[64], gave[32];
};

struct books_history {
    struct history *history;
    struct noted *noted;
    uint32_t capacity;
};

struct books_history *books_history_new(void)
{
    struct books_history *books = mem_zalloc(1, sizeof *books);
    books->history = history_new();
    return books;
}

void books_history_free(struct books_history *books)
{
    history_free(books->history);
    mem_free(books->noted);
    mem_free(books);
}

/* --- collecting ------------------------------------------------------------------------------------------------------------ */

/* A text, or a whole number as text (in `room`); false: nil. */
static bool read_value(struct pack_reader *reader, char room[NUMBER_ROOM], struct slice *value)
{
    struct pack_item item;
    CHECK_EQ(pack_read(reader, &item), STATUS_OK);
    *value = (struct slice){0};
    if (item.type == PACK_INT) {
        int size = snprintf(room, NUMBER_ROOM, "%lld", (long long)item.integer);
        *value = slice_make(room, (size_t)size);
    } else if (item.type == PACK_STR || item.type == PACK_BIN)
        *value = item.bytes;
    else if (item.type != PACK_NIL)
        *value = slice_text("something-else"); /* which nobody wrote */
    return item.type != PACK_NIL;
}

static void shorten(char *out, size_t room, const char *before, struct slice text)
{
    bool whole = text.size <= SHOWN;
    snprintf(out, room, whole ? "%s%.*s" : "%s%.*s...(%zu)", before, whole ? (int)text.size : SHOWN,
             (const char *)text.data, text.size);
}

static void read_call(struct slice args, struct history_call *call, char room[2][NUMBER_ROOM])
{
    struct pack_reader reader = pack_reader_make(args);
    struct slice ignored;
    uint32_t count = 0;
    CHECK_EQ(pack_read_array(&reader, &count), STATUS_OK);
    if (call->kind != HISTORY_GET)
        CHECK_EQ(pack_skip(&reader, PACK_DEPTH_MAX, &ignored), STATUS_OK);
    CHECK_EQ(pack_read_text(&reader, &call->key), STATUS_OK);
    if (call->kind == HISTORY_CAS)
        call->has_old = read_value(&reader, room[0], &call->old);
    if (call->kind == HISTORY_PUT || call->kind == HISTORY_APPEND || call->kind == HISTORY_CAS ||
        call->kind == HISTORY_INCR)
        (void)read_value(&reader, room[1], &call->value);
    if (call->kind == HISTORY_INCR)
        CHECK(value_parse_number(call->value, &call->number));
}

uint32_t books_history_begin(struct books_history *books, uint32_t client, uint64_t at_ms, enum history_kind kind,
                             struct slice args, bool checked)
{
    static const char *const names[HISTORY_KINDS] = {"get", "put", "append", "cas", "incr", "del"};
    struct history_call call = {.kind = kind};
    char room[2][NUMBER_ROOM];
    char old[32] = "";
    char value[32] = "";
    read_call(args, &call, room);
    uint32_t number = history_begin(books->history, &call);
    if (number >= books->capacity) {
        books->capacity = books->capacity * 2 + 256;
        books->noted = mem_realloc(books->noted, books->capacity * sizeof *books->noted);
    }
    struct noted *noted = &books->noted[number];
    *noted = (struct noted){.client = client, .began = at_ms, .checked = checked, .kind = kind};
    if (call.has_old)
        shorten(old, sizeof old, " =", call.old);
    if (call.value.size > 0)
        shorten(value, sizeof value, " ", call.value);
    snprintf(noted->call, sizeof noted->call, "%s%s%s", names[kind], old, value);
    return number;
}

void books_history_end(struct books_history *books, uint32_t number, uint64_t at_ms, enum history_end end,
                       struct slice value)
{
    struct noted *noted = &books->noted[number];
    struct history_result result = {.known = noted->checked && noted->kind != HISTORY_PUT &&
                                             noted->kind != HISTORY_APPEND};
    char room[NUMBER_ROOM];
    noted->ended = at_ms;
    noted->end = end;
    if (end == HISTORY_OK && result.known) {
        struct pack_reader reader = pack_reader_make(value);
        result.present = read_value(&reader, room, &result.value);
        if (noted->kind != HISTORY_GET && !value_parse_number(result.value, &result.number))
            result.number = INT64_MIN; /* which nothing gives */
        shorten(noted->gave, sizeof noted->gave, result.present ? " =" : " nil", result.value);
    }
    history_end(books->history, number, end, &result);
}

/* --- the verdict --------------------------------------------------------------------------------------------------------------- */

static bool is_of(const struct books_history *books, uint32_t event, struct slice key)
{
    bool is_end = false;
    return slice_equal(history_op_key(books->history, history_event_op(books->history, event, &is_end)), key);
}

static size_t describe_event(const struct books_history *books, uint32_t at, char *why, size_t room)
{
    static const char *const ends[] = {"", "ok", "fail", "info"};
    bool is_end = false;
    uint32_t op = history_event_op(books->history, at, &is_end);
    const struct noted *noted = &books->noted[op];
    int size = is_end ? snprintf(why, room, "\n  %llu ms, client %u: %s %u%s", (unsigned long long)noted->ended,
                                 noted->client, ends[noted->end], op, noted->gave)
                      : snprintf(why, room, "\n  %llu ms, client %u: %u is %s", (unsigned long long)noted->began,
                                 noted->client, op, noted->call);
    return (size_t)size < room ? (size_t)size : room - 1;
}

static size_t describe_states(const struct history_report *report, char *why, size_t room)
{
    size_t size = 0;
    for (uint32_t i = 0; i < report->states && size < room; i++) {
        char state[32];
        size_t whole = report->state[i].size;
        shorten(state, sizeof state, report->state[i].present ? "=" : "nil",
                slice_make(report->state[i].bytes, whole));
        int more = snprintf(why + size, room - size, "%s%s", i == 0 ? "\n  the key can have been " : " or ", state);
        size += (size_t)more;
    }
    return size < room ? size : room - 1;
}

bool books_history_fine(struct books_history *books, char *why, size_t room)
{
    struct history_limits limits = {.steps = STEPS, .bytes = MEMORY};
    struct history_report report;
    history_check(books->history, &limits, &report);
    if (report.verdict != HISTORY_NOT_LINEARIZABLE)
        return true;
    uint32_t first = report.events;
    for (uint32_t shown = 0; first > 0 && shown < EVENTS_SHOWN; shown += is_of(books, first, report.key))
        first--;
    size_t size = (size_t)snprintf(why, room,
                                   "the history of key %.*s is not linearizable, by its first %u events; the last "
                                   "of them:",
                                   (int)report.key.size, (const char *)report.key.data, report.events);
    for (uint32_t i = first; i < report.events && size < room; i++)
        if (is_of(books, i, report.key))
            size += describe_event(books, i, why + size, room - size);
    if (size < room)
        (void)describe_states(&report, why + size, room - size);
    return false;
}
