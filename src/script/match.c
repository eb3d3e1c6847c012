/* script/match.c - see script/match.h.
 *
 * A pattern is read as it is matched, so what is wrong with it is said when the match gets there. Going back is recursion:
 * each repetition, option and capture on the way is one level.
 */
#include "script/match.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/budget.h"

void match_charge(struct match *match)
{
    uint64_t steps = match->steps;
    match->steps = 0;
    budget_charge(match->L, steps);
}

/* --- one byte ------------------------------------------------------------------------------------------------------------- */

static inline bool in_range(uint8_t c, uint8_t first, uint8_t count)
{
    return (uint8_t)(c - first) < count;
}

static inline bool is_letter(uint8_t c)
{
    return in_range(c | 0x20, 'a', 26);
}

static inline bool is_digit(uint8_t c)
{
    return in_range(c, '0', 10);
}

/* %a and its kin; a letter that names none, and what is no letter, stand for themselves. */
static inline bool in_class(uint8_t c, uint8_t class)
{
    bool in = false;
    switch (class | 0x20) {
    case 'a':
        in = is_letter(c);
        break;
    case 'c':
        in = c < 32 || c == 127;
        break;
    case 'd':
        in = is_digit(c);
        break;
    case 'g':
        in = in_range(c, 33, 94);
        break;
    case 'l':
        in = in_range(c, 'a', 26);
        break;
    case 'p':
        in = in_range(c, 33, 94) && !is_letter(c) && !is_digit(c);
        break;
    case 's':
        in = c == ' ' || in_range(c, '\t', 5);
        break;
    case 'u':
        in = in_range(c, 'A', 26);
        break;
    case 'w':
        in = is_letter(c) || is_digit(c);
        break;
    case 'x':
        in = is_digit(c) || in_range(c | 0x20, 'a', 6);
        break;
    case 'z':
        in = c == 0;
        break;
    default:
        return class == c;
    }
    return in == ((class & 0x20) != 0); /* a capital is the opposite */
}

/* `set` is at its '[', `end` at its ']'. */
static inline bool in_set(uint8_t c, const uint8_t *set, const uint8_t *end)
{
    bool found = true;
    if (*++set == '^') {
        found = false;
        set++;
    }
    while (set < end) {
        if (*set == '%') {
            if (in_class(c, set[1]))
                return found;
            set += 2;
        } else if (set[1] == '-' && set + 2 < end) {
            if (set[0] <= c && c <= set[2])
                return found;
            set += 3;
        } else {
            if (*set == c)
                return found;
            set++;
        }
    }
    return !found;
}

static const uint8_t *set_end(struct match *match, const uint8_t *at)
{
    const uint8_t *end = match->pattern_end;
    const uint8_t *from = at++;
    if (at < end && *at == '^')
        at++;
    for (bool first = true; first || (at < end && *at != ']'); first = false) {
        if (at < end && *at == '%')
            at++;
        at++; /* a ']' that comes first stands for itself */
        if (at >= end)
            luaL_error(match->L, "malformed pattern (missing ']')");
    }
    match_step(match, (size_t)(at - from) / 8);
    return at + 1;
}

/* Where the item (a byte, a class or a set) at `at` ends. */
static inline const uint8_t *item_end(struct match *match, const uint8_t *at)
{
    if (*at == '[')
        return set_end(match, at);
    if (*at == '%' && at + 1 == match->pattern_end)
        luaL_error(match->L, "malformed pattern (ends with '%%')");
    return at + (*at == '%' ? 2 : 1);
}

static inline bool matches_one(const struct match *match, const uint8_t *at, const uint8_t *item,
                               const uint8_t *end)
{
    if (at >= match->text_end)
        return false;
    switch (*item) {
    case '.':
        return true;
    case '%':
        return in_class(*at, item[1]);
    case '[':
        return in_set(*at, item, end - 1);
    default:
        return *item == *at;
    }
}

/* How many bytes from `at` on the item matches. */
static size_t run_of(struct match *match, const uint8_t *at, const uint8_t *item, const uint8_t *end)
{
    const uint8_t *to = at;
    const uint8_t *last = match->text_end;
    size_t cost = 1;
    switch (*item) {
    case '.':
        to = last;
        break;
    case '%':
        while (to < last && in_class(*to, item[1]))
            to++;
        break;
    case '[':
        cost += (size_t)(end - item) / 8;
        while (to < last && in_set(*to, item, end - 1)) {
            to++;
            match_step(match, cost);
        }
        return (size_t)(to - at);
    default:
        while (to < last && *to == *item)
            to++;
        break;
    }
    match_step(match, (size_t)(to - at) / 2 + cost);
    return (size_t)(to - at);
}

/* --- matching --------------------------------------------------------------------------------------------------------------- */

static const uint8_t *match_from(struct match *match, const uint8_t *at, const uint8_t *item);

/* The captures hold as long as the rest matches. */
static const uint8_t *begin_capture(struct match *match, const uint8_t *at, const uint8_t *rest,
                                    enum capture_kind kind)
{
    if (match->count == MATCH_CAPTURES_MAX)
        luaL_error(match->L, "too many captures");
    match->captures[match->count++] = (struct capture){.at = at, .kind = kind};
    const uint8_t *to = match_from(match, at, rest);
    if (to == NULL)
        match->count--;
    return to;
}

static const uint8_t *end_capture(struct match *match, const uint8_t *at, const uint8_t *rest)
{
    int i = match->count - 1;
    while (i >= 0 && match->captures[i].kind != CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(match->L, "invalid pattern capture");
    struct capture *capture = &match->captures[i];
    capture->kind = CAPTURE_CLOSED;
    capture->size = (size_t)(at - capture->at);
    const uint8_t *to = match_from(match, at, rest);
    if (to == NULL)
        capture->kind = CAPTURE_OPEN;
    return to;
}

/* %bxy: from an x to the y that balances it; NULL: there is none here. */
static const uint8_t *balanced(struct match *match, const uint8_t *at, const uint8_t *pair)
{
    if (match->pattern_end - pair < 2)
        luaL_error(match->L, "unbalanced pattern");
    if (at >= match->text_end || *at != pair[0])
        return NULL;
    size_t open = 1;
    const uint8_t *from = at;
    for (at++; at < match->text_end; at++) {
        if (*at == pair[1]) {
            if (--open == 0)
                break;
        } else if (*at == pair[0]) {
            open++;
        }
    }
    match_step(match, (size_t)(at - from));
    return at < match->text_end ? at + 1 : NULL;
}

/* %1: what the capture has caught, again; NULL: it is not here. */
static const uint8_t *again(struct match *match, const uint8_t *at, uint8_t digit)
{
    int i = digit - '1';
    if (i < 0 || i >= match->count || match->captures[i].kind == CAPTURE_OPEN)
        luaL_error(match->L, "invalid capture index");
    const struct capture *capture = &match->captures[i];
    if (capture->kind == CAPTURE_PLACE || (size_t)(match->text_end - at) < capture->size)
        return NULL;
    match_step(match, capture->size / 16);
    return memcmp(capture->at, at, capture->size) == 0 ? at + capture->size : NULL;
}

/* %f[set]: from outside the set to inside; the ends of the text are zero bytes. Moves *rest behind it. */
static bool at_frontier(struct match *match, const uint8_t *at, const uint8_t **rest)
{
    const uint8_t *set = *rest;
    if (set == match->pattern_end || *set != '[')
        luaL_error(match->L, "missing '[' after '%%f' in pattern");
    *rest = item_end(match, set);
    uint8_t before = at == match->text ? 0 : at[-1];
    uint8_t now = at < match->text_end ? *at : 0;
    return !in_set(before, set, *rest - 1) && in_set(now, set, *rest - 1);
}

/* item* as often as it can, then less and less. */
static const uint8_t *most(struct match *match, const uint8_t *at, size_t least, const uint8_t *item,
                           const uint8_t *end)
{
    size_t count = run_of(match, at, item, end);
    for (size_t i = count + 1; i > least; i--) {
        const uint8_t *to = match_from(match, at + i - 1, end + 1);
        if (to != NULL)
            return to;
    }
    return NULL;
}

/* item- as seldom as it can, then more and more. */
static const uint8_t *fewest(struct match *match, const uint8_t *at, const uint8_t *item, const uint8_t *end)
{
    for (;; at++) {
        const uint8_t *to = match_from(match, at, end + 1);
        if (to != NULL)
            return to;
        if (!matches_one(match, at, item, end))
            return NULL;
        match_step(match, 1 + (size_t)(end - item) / 8);
    }
}

/* %b, %f, %1: true when the item at `*item`, a '%', begins one of them; then *at and *item stand behind it, *at NULL for no match. */
static bool match_special(struct match *match, const uint8_t **at, const uint8_t **item)
{
    const uint8_t *p = *item;
    if (p + 1 == match->pattern_end)
        return false;
    if (p[1] == 'b') {
        *at = balanced(match, *at, p + 2);
        *item = p + 4;
    } else if (p[1] == 'f') {
        *item = p + 2;
        if (!at_frontier(match, *at, item))
            *at = NULL;
    } else if (in_range(p[1], '0', 10)) {
        *at = again(match, *at, p[1]);
        *item = p + 2;
    } else {
        return false;
    }
    return true;
}

/* A byte, class or set, with what follows it. True: go on at *at and *item; false: *at is the answer. */
static bool match_item(struct match *match, const uint8_t **at, const uint8_t **item)
{
    const uint8_t *end = item_end(match, *item);
    uint8_t suffix = end < match->pattern_end ? *end : 0;
    if (suffix == '*' || suffix == '+') {
        *at = most(match, *at, suffix == '+' ? 1 : 0, *item, end);
        return false;
    }
    if (suffix == '-') {
        *at = fewest(match, *at, *item, end);
        return false;
    }
    bool one = matches_one(match, *at, *item, end);
    if (suffix == '?') {
        const uint8_t *to = one ? match_from(match, *at + 1, end + 1) : NULL;
        if (to != NULL) {
            *at = to;
            return false;
        }
        *item = end + 1;
        return true;
    }
    *at = one ? *at + 1 : NULL;
    *item = end;
    return one;
}

/* Where the match of the pattern from `item` on ends; NULL: there is none from `at` on. */
static const uint8_t *match_from(struct match *match, const uint8_t *at, const uint8_t *item)
{
    if (++match->depth > MATCH_DEPTH_MAX)
        luaL_error(match->L, "pattern too complex: nested deeper than %d", MATCH_DEPTH_MAX);
    bool more = true;
    while (more && at != NULL && item < match->pattern_end) {
        match_step(match, 1);
        if (*item == '(') {
            bool place = item + 1 < match->pattern_end && item[1] == ')';
            at = begin_capture(match, at, item + (place ? 2 : 1), place ? CAPTURE_PLACE : CAPTURE_OPEN);
            more = false;
        } else if (*item == ')') {
            at = end_capture(match, at, item + 1);
            more = false;
        } else if (*item == '$' && item + 1 == match->pattern_end) {
            at = at == match->text_end ? at : NULL;
            more = false;
        } else if (*item != '%' || !match_special(match, &at, &item)) {
            more = match_item(match, &at, &item);
        }
    }
    match->depth--;
    return at;
}

const uint8_t *match_at(struct match *match, const uint8_t *at)
{
    match->count = 0;
    match->depth = 0;
    return match_from(match, at, match->pattern);
}
