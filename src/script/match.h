/* script/match.h - the matcher of Lua's patterns. Private to script/. */
#ifndef SCRIPT_MATCH_H
#define SCRIPT_MATCH_H

#include <stddef.h>
#include <stdint.h>

struct lua_State;

enum { MATCH_DEPTH_MAX = 1000, MATCH_CAPTURES_MAX = 32, MATCH_STEPS_AT_ONCE = 4096 };

enum capture_kind { CAPTURE_CLOSED, CAPTURE_OPEN, CAPTURE_PLACE /* () */ };

struct capture {
    const uint8_t *at;
    size_t size;
    enum capture_kind kind;
};

/* A text and a pattern; the captures are those of the last match. */
struct match {
    struct lua_State *L;
    const uint8_t *text;
    const uint8_t *text_end;
    const uint8_t *pattern;
    const uint8_t *pattern_end;
    uint64_t steps; /* not yet charged */
    int depth;
    int count; /* of captures begun */
    struct capture captures[MATCH_CAPTURES_MAX];
};

/* Tries the pattern at one place of the text: where the match ends, or NULL. Raises for a pattern that is none, and when
 * the budget is spent. */
const uint8_t *match_at(struct match *match, const uint8_t *at);

/* Charges the steps that were made. */
void match_charge(struct match *match);

/* Counts steps; charges now and then. */
static inline void match_step(struct match *match, size_t count)
{
    match->steps += count;
    if (match->steps >= MATCH_STEPS_AT_ONCE)
        match_charge(match);
}

#endif
