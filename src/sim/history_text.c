/* sim/history_text.c - see sim/history_text.h.
 *
 * First every line becomes an event by itself; then ends find their begins; then events are put in order and told to the
 * history.
 */
#include "sim/history_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "sim/history_value.h"

enum { WORDS_MAX = 8, TIME_DIGITS = 19, FRACTION_DIGITS = 9, SHOWN_MAX = 40, NONE = UINT32_MAX };

struct event {
    uint64_t seconds; /* the whole part of TIME, whatever its unit */
    uint32_t fraction;
    uint32_t line;
    size_t at; /* of the line in the text */
    uint32_t size;
    uint32_t op; /* begin: its own; end: found later */
    uint8_t end; /* enum history_end; HISTORY_OPEN: a begin */
    bool has_result;
    struct slice client, opid, result;
};

struct text_op {
    uint32_t begin, end; /* events, in order of lines */
    uint32_t next;       /* of the same head */
    uint32_t number;     /* in the history */
    struct history_call call;
};

struct history_text {
    struct slice text;
    struct event *events;
    uint32_t count, capacity;
    struct text_op *ops;
    uint32_t ops_count, ops_capacity;
    uint32_t *heads; /* ops by OPID: number + 1 */
    uint32_t heads_size;
    uint32_t *opids; /* by number in the history: the op */
    struct history *history;
    struct history_error *error;
};

/* --- what is wrong --------------------------------------------------------------------------------------------------------- */

/* A word for a message: short, and without bytes that would steer a terminal. */
struct shown {
    char text[SHOWN_MAX * 4 + 8];
};

static struct shown show(struct slice word)
{
    struct shown shown;
    size_t at = 0;
    for (size_t i = 0; i < word.size && i < SHOWN_MAX; i++) {
        bool plain = word.data[i] >= 0x20 && word.data[i] < 0x7F;
        at += (size_t)snprintf(shown.text + at, sizeof shown.text - at, plain ? "%c" : "\\x%02x", word.data[i]);
    }
    snprintf(shown.text + at, sizeof shown.text - at, "%s", word.size > SHOWN_MAX ? "..." : "");
    return shown;
}

__attribute__((format(printf, 3, 4))) static bool wrong(struct history_text *lines, uint32_t line,
                                                        const char *format, ...)
{
    va_list list;
    va_start(list, format);
    lines->error->line = line;
    vsnprintf(lines->error->text, sizeof lines->error->text, format, list);
    va_end(list);
    return false;
}

/* --- words ------------------------------------------------------------------------------------------------------------------- */

struct words {
    struct slice word[WORDS_MAX];
    uint32_t count; /* at most WORDS_MAX, even if there are more */
};

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static bool split(struct history_text *lines, uint32_t number, struct slice line, struct words *words)
{
    words->count = 0;
    for (size_t at = 0; at < line.size;) {
        if (is_blank(line.data[at])) {
            at++;
            continue;
        }
        if (line.data[at] == '#')
            return true;
        size_t begin = at;
        for (; at < line.size && !is_blank(line.data[at]); at++)
            if (line.data[at] < 0x20 || line.data[at] == 0x7F)
                return wrong(lines, number, "byte %u is a control byte (%u); words are separated by blanks",
                             (unsigned)at + 1, line.data[at]);
        if (words->count < WORDS_MAX)
            words->word[words->count++] = slice_make(line.data + begin, at - begin);
    }
    return true;
}

static bool is_word(struct slice word, const char *text)
{
    return slice_equal(word, slice_text(text));
}

static bool read_digits(struct slice *word, uint32_t most, uint64_t *number, uint32_t *digits)
{
    *number = 0;
    for (*digits = 0; word->size > 0 && word->data[0] >= '0' && word->data[0] <= '9'; ++*digits) {
        if (*digits == most)
            return false;
        *number = *number * 10 + (word->data[0] - (uint64_t)'0');
        *word = slice_make(word->data + 1, word->size - 1);
    }
    return *digits > 0;
}

static bool read_time(struct history_text *lines, struct slice word, struct event *event)
{
    struct slice left = word;
    uint64_t fraction = 0;
    uint32_t digits = 0;
    bool fine = read_digits(&left, TIME_DIGITS, &event->seconds, &digits);
    if (fine && left.size > 0 && left.data[0] == '.') {
        left = slice_make(left.data + 1, left.size - 1);
        fine = read_digits(&left, FRACTION_DIGITS, &fraction, &digits);
        for (; digits < FRACTION_DIGITS; digits++)
            fraction *= 10;
    }
    event->fraction = (uint32_t)fraction;
    if (fine && left.size == 0)
        return true;
    return wrong(lines, event->line,
                 "TIME is '%s'; expected a number like 12 or 12.5, at most %d digits and %d after the point",
                 show(word).text, TIME_DIGITS, FRACTION_DIGITS);
}

/* --- begins -------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t args;
    const char *usage;
} kinds[HISTORY_KINDS] = {{"get", 0, "get KEY"},         {"put", 1, "put KEY V"},   {"append", 1, "append KEY V"},
                          {"cas", 2, "cas KEY OLD NEW"}, {"incr", 1, "incr KEY N"}, {"del", 0, "del KEY"}};

static bool read_call(struct history_text *lines, uint32_t line, const struct words *words,
                      struct history_call *call)
{
    enum { OP = 4, KEY, ARG };
    uint32_t kind = 0;
    if (words->count <= KEY)
        return wrong(lines, line, "inv has %u words; expected TIME CLIENT inv OPID OP KEY [ARG...]", words->count);
    while (kind < HISTORY_KINDS && !is_word(words->word[OP], kinds[kind].name))
        kind++;
    if (kind == HISTORY_KINDS)
        return wrong(lines, line, "there is no operation '%s'; expected get, put, append, cas, incr or del",
                     show(words->word[OP]).text);
    if (words->count != ARG + kinds[kind].args)
        return wrong(lines, line, "%s has %u arguments after its key; expected TIME CLIENT inv OPID %s",
                     kinds[kind].name, words->count - ARG, kinds[kind].usage);
    *call = (struct history_call){.kind = kind, .key = words->word[KEY]};
    if (kind == HISTORY_PUT || kind == HISTORY_APPEND)
        call->value = words->word[ARG];
    if (kind == HISTORY_INCR && !value_parse_number(words->word[ARG], &call->number))
        return wrong(lines, line, "incr by '%s'; expected a whole number of 64 bits, like 1 or -7",
                     show(words->word[ARG]).text);
    if (kind != HISTORY_CAS)
        return true;
    struct slice old = words->word[ARG];
    call->value = words->word[ARG + 1];
    call->has_old = !is_word(old, "nil");
    if (call->has_old && old.data[0] != '=')
        return wrong(lines, line, "cas expects '%s'; OLD is nil, or = and the value, like =%s", show(old).text,
                     show(old).text);
    if (call->has_old)
        call->old = slice_make(old.data + 1, old.size - 1);
    return true;
}

static uint32_t *head_of(const struct history_text *lines, struct slice opid)
{
    return &lines->heads[hash64(opid.data, opid.size) & (lines->heads_size - 1)];
}

static uint32_t find_op(const struct history_text *lines, struct slice opid)
{
    if (lines->heads_size == 0)
        return NONE;
    for (uint32_t i = *head_of(lines, opid); i != 0; i = lines->ops[i - 1].next)
        if (slice_equal(lines->events[lines->ops[i - 1].begin].opid, opid))
            return i - 1;
    return NONE;
}

static void link_op(struct history_text *lines, uint32_t op, struct slice opid)
{
    uint32_t *head = head_of(lines, opid);
    lines->ops[op].next = *head;
    *head = op + 1;
}

static bool add_op(struct history_text *lines, struct event *event, const struct history_call *call)
{
    uint32_t there = find_op(lines, event->opid);
    if (there != NONE)
        return wrong(lines, event->line, "OPID %s began in line %u already; expected one that is new",
                     show(event->opid).text, lines->events[lines->ops[there].begin].line);
    if (lines->ops_count == lines->ops_capacity) {
        lines->ops_capacity = lines->ops_capacity * 2 + 64;
        lines->ops = mem_realloc(lines->ops, lines->ops_capacity * sizeof *lines->ops);
    }
    if (lines->ops_count >= lines->heads_size) {
        lines->heads_size = lines->heads_size == 0 ? 64 : lines->heads_size * 2;
        mem_free(lines->heads);
        lines->heads = mem_zalloc(lines->heads_size, sizeof *lines->heads);
        for (uint32_t i = 0; i < lines->ops_count; i++)
            link_op(lines, i, lines->events[lines->ops[i].begin].opid);
    }
    event->op = lines->ops_count++;
    lines->ops[event->op] = (struct text_op){.begin = lines->count, .end = NONE, .call = *call};
    link_op(lines, event->op, event->opid);
    return true;
}

/* --- lines ------------------------------------------------------------------------------------------------------------------------ */

static bool check_names(struct history_text *lines, uint32_t line, const struct words *words)
{
    static const struct {
        uint32_t at;
        const char *name;
    } names[] = {{1, "CLIENT"}, {3, "OPID"}, {5, "KEY"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].at < words->count && words->word[names[i].at].size > HISTORY_NAME_MAX)
            return wrong(lines, line, "%s has %zu bytes; expected at most %d", names[i].name,
                         words->word[names[i].at].size, HISTORY_NAME_MAX);
    return true;
}

static bool read_event(struct history_text *lines, const struct words *words, struct event *event)
{
    static const struct {
        const char *name;
        enum history_end end;
    } ends[] = {{"inv", HISTORY_OPEN}, {"ok", HISTORY_OK}, {"fail", HISTORY_FAIL}, {"info", HISTORY_INFO}};
    enum { TIME, CLIENT, EVENT, OPID, RESULT };
    uint32_t which = 0;
    struct history_call call;
    if (words->count <= OPID)
        return wrong(lines, event->line, "%u words; expected TIME CLIENT inv|ok|fail|info OPID ...", words->count);
    if (!read_time(lines, words->word[TIME], event) || !check_names(lines, event->line, words))
        return false;
    while (which < 4 && !is_word(words->word[EVENT], ends[which].name))
        which++;
    if (which == 4)
        return wrong(lines, event->line, "there is no event '%s'; expected inv, ok, fail or info",
                     show(words->word[EVENT]).text);
    event->client = words->word[CLIENT];
    event->opid = words->word[OPID];
    event->end = (uint8_t)ends[which].end;
    if (event->end == HISTORY_OPEN)
        return read_call(lines, event->line, words, &call) && add_op(lines, event, &call);
    event->has_result = words->count > RESULT && !is_word(words->word[RESULT], "?");
    if (words->count > RESULT + (event->end == HISTORY_OK ? 1u : 0u))
        return wrong(lines, event->line, "more words than expected: TIME CLIENT %s OPID%s", ends[which].name,
                     event->end == HISTORY_OK ? " [RESULT]" : "");
    if (event->has_result)
        event->result = words->word[RESULT];
    return true;
}

static bool read_line(struct history_text *lines, uint32_t number, struct slice line)
{
    struct words words;
    if (line.size > HISTORY_LINE_MAX)
        return wrong(lines, number, "the line has %zu bytes; expected at most %d", line.size, HISTORY_LINE_MAX);
    if (!split(lines, number, line, &words))
        return false;
    if (words.count == 0)
        return true;
    if (lines->count == HISTORY_EVENTS_MAX)
        return wrong(lines, number, "one event more than the %d that a text may have", HISTORY_EVENTS_MAX);
    struct event event = {
        .line = number, .at = (size_t)(line.data - lines->text.data), .size = (uint32_t)line.size};
    if (!read_event(lines, &words, &event))
        return false;
    if (lines->count == lines->capacity) {
        lines->capacity = lines->capacity * 2 + 64;
        lines->events = mem_realloc(lines->events, lines->capacity * sizeof *lines->events);
    }
    lines->events[lines->count++] = event;
    return true;
}

static bool read_lines(struct history_text *lines)
{
    const uint8_t *at = lines->text.data;
    size_t left = lines->text.size;
    for (uint32_t number = 1; left > 0; number++) {
        const uint8_t *end = memchr(at, '\n', left);
        size_t size = end != NULL ? (size_t)(end - at) : left;
        size_t used = end != NULL ? size + 1 : size;
        bool returns = size > 0 && at[size - 1] == '\r';
        if (!read_line(lines, number, slice_make(at, returns ? size - 1 : size)))
            return false;
        at += used;
        left -= used;
    }
    return true;
}

/* --- ends ------------------------------------------------------------------------------------------------------------------------- */

/* A begin before an end at equal TIME; else lines as they stand. */
static int compare_events(const struct event *a, const struct event *b)
{
    bool ends_a = a->end != HISTORY_OPEN;
    bool ends_b = b->end != HISTORY_OPEN;
    if (a->seconds != b->seconds)
        return a->seconds < b->seconds ? -1 : 1;
    if (a->fraction != b->fraction)
        return a->fraction < b->fraction ? -1 : 1;
    if (ends_a != ends_b)
        return ends_a ? 1 : -1;
    return (a->line > b->line) - (a->line < b->line);
}

static bool read_result(struct history_text *lines, const struct event *event, struct history_result *result)
{
    struct slice word = event->result;
    *result = (struct history_result){.known = event->has_result};
    if (!event->has_result)
        return true;
    switch (lines->ops[event->op].call.kind) {
    case HISTORY_GET:
        result->present = word.data[0] == '=';
        if (result->present)
            result->value = slice_make(word.data + 1, word.size - 1);
        return result->present || is_word(word, "nil") ||
               wrong(lines, event->line, "get gave '%s'; expected nil, or = and the value, or ?", show(word).text);
    case HISTORY_CAS:
    case HISTORY_DEL:
        result->number = is_word(word, "1");
        return result->number == 1 || is_word(word, "0") ||
               wrong(lines, event->line, "%s gave '%s'; expected 0, 1 or ?",
                     kinds[lines->ops[event->op].call.kind].name, show(word).text);
    case HISTORY_INCR:
        return value_parse_number(word, &result->number) ||
               wrong(lines, event->line, "incr gave '%s'; expected a whole number of 64 bits, or ?",
                     show(word).text);
    case HISTORY_PUT:
    case HISTORY_APPEND:
    case HISTORY_KINDS:
        break;
    }
    return wrong(lines, event->line, "%s gave '%s'; it gives nothing: expected no result, or ?",
                 kinds[lines->ops[event->op].call.kind].name, show(word).text);
}

static bool pair_ends(struct history_text *lines)
{
    struct history_result result;
    for (uint32_t i = 0; i < lines->count; i++) {
        struct event *event = &lines->events[i];
        if (event->end == HISTORY_OPEN)
            continue;
        event->op = find_op(lines, event->opid);
        if (event->op == NONE)
            return wrong(lines, event->line, "OPID %s never began; expected a line TIME CLIENT inv %s OP KEY",
                         show(event->opid).text, show(event->opid).text);
        struct text_op *op = &lines->ops[event->op];
        const struct event *begin = &lines->events[op->begin];
        if (op->end != NONE)
            return wrong(lines, event->line, "OPID %s ended in line %u already; expected one end",
                         show(event->opid).text, lines->events[op->end].line);
        if (!slice_equal(begin->client, event->client))
            return wrong(lines, event->line, "OPID %s is of client %s, by line %u; expected that client here",
                         show(event->opid).text, show(begin->client).text, begin->line);
        if (compare_events(event, begin) < 0)
            return wrong(lines, event->line, "OPID %s ends before the TIME of its begin, in line %u",
                         show(event->opid).text, begin->line);
        if (!read_result(lines, event, &result))
            return false;
        op->end = i;
    }
    return true;
}

/* --- all of it -------------------------------------------------------------------------------------------------------------------- */

static int compare_for_sort(const void *left, const void *right)
{
    return compare_events(left, right);
}

/* Events may move now: ends know their ops, and results are right in form. */
static void tell(struct history_text *lines)
{
    for (uint32_t i = 1; i < lines->count; i++)
        if (compare_events(&lines->events[i - 1], &lines->events[i]) > 0) {
            qsort(lines->events, lines->count, sizeof *lines->events, compare_for_sort);
            break;
        }
    lines->opids = mem_alloc((lines->ops_count + 1) * sizeof *lines->opids);
    lines->history = history_new();
    for (uint32_t i = 0; i < lines->count; i++) {
        struct event *event = &lines->events[i];
        struct text_op *op = &lines->ops[event->op];
        struct history_result result;
        if (event->end == HISTORY_OPEN) {
            op->begin = i;
            op->number = history_begin(lines->history, &op->call);
            lines->opids[op->number] = event->op;
            continue;
        }
        (void)read_result(lines, event, &result);
        history_end(lines->history, op->number, event->end, &result);
    }
}

struct history_text *history_text_read(struct slice text, struct history_error *error)
{
    struct history_text *lines = mem_zalloc(1, sizeof *lines);
    lines->text = text;
    lines->error = error;
    bool fine = text.size <= HISTORY_TEXT_MAX ||
                wrong(lines, 1, "the text has %zu bytes; expected at most %d", text.size, HISTORY_TEXT_MAX);
    if (!fine || !read_lines(lines) || !pair_ends(lines)) {
        history_text_free(lines);
        return NULL;
    }
    tell(lines);
    return lines;
}

void history_text_free(struct history_text *lines)
{
    if (lines == NULL)
        return;
    history_free(lines->history);
    mem_free(lines->events);
    mem_free(lines->ops);
    mem_free(lines->heads);
    mem_free(lines->opids);
    mem_free(lines);
}

struct history *history_text_history(struct history_text *lines)
{
    return lines->history;
}

uint32_t history_text_line(const struct history_text *lines, uint32_t at)
{
    return lines->events[at].line;
}

struct slice history_text_bytes(const struct history_text *lines, uint32_t at)
{
    return slice_make(lines->text.data + lines->events[at].at, lines->events[at].size);
}

struct slice history_text_opid(const struct history_text *lines, uint32_t op)
{
    return lines->events[lines->ops[lines->opids[op]].begin].opid;
}
