/* script/pattern.c - see script/pattern.h. */
#include "script/pattern.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/fail.h"
#include "script/match.h"
#include "script/text.h"

/* --- results ---------------------------------------------------------------------------------------------------------------- */

/* Takes the text at 1 and the pattern at 2. */
static void begin(lua_State *L, struct match *match, int text, int pattern)
{
    size_t size = 0;
    match->L = L;
    match->steps = 0;
    match->text = (const uint8_t *)luaL_checklstring(L, text, &size);
    match->text_end = match->text + size;
    match->pattern = (const uint8_t *)luaL_checklstring(L, pattern, &size);
    match->pattern_end = match->pattern + size;
}

static void refuse_zeros(const struct match *match)
{
    size_t size = (size_t)(match->pattern_end - match->pattern);
    if (size > 0 && memchr(match->pattern, 0, size) != NULL)
        luaL_error(match->L, "a zero byte in a pattern: write %%z");
}

/* Pushes a capture, counted from 0; without any the whole match is the first. */
static void push_capture(struct match *match, int i, const uint8_t *from, const uint8_t *to)
{
    if (i >= match->count) {
        if (i > 0)
            luaL_error(match->L, "invalid capture index");
        lua_pushlstring(match->L, (const char *)from, (size_t)(to - from));
        return;
    }
    const struct capture *capture = &match->captures[i];
    if (capture->kind == CAPTURE_OPEN)
        luaL_error(match->L, "unfinished capture");
    if (capture->kind == CAPTURE_PLACE)
        lua_pushnumber(match->L, (double)(capture->at - match->text + 1));
    else
        lua_pushlstring(match->L, (const char *)capture->at, capture->size);
}

/* Pushes all captures; or, without any and if there is a `from`, the whole match. */
static int push_captures(struct match *match, const uint8_t *from, const uint8_t *to)
{
    int count = match->count == 0 && from != NULL ? 1 : match->count;
    luaL_checkstack(match->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(match, i, from, to);
    match_charge(match);
    return count;
}

/* --- find, match ------------------------------------------------------------------------------------------------------------ */

static bool is_plain(const struct match *match)
{
    for (const uint8_t *p = match->pattern; p < match->pattern_end; p++)
        if (strchr("^$*+?.([%-", *p) != NULL)
            return false;
    return true;
}

static int find_plain(lua_State *L, struct match *match, const uint8_t *from)
{
    size_t size = (size_t)(match->pattern_end - match->pattern);
    const uint8_t *found = memmem(from, (size_t)(match->text_end - from), match->pattern, size);
    match_step(match, (size_t)((found != NULL ? found : match->text_end) - from) / 16 + size / 16 + 1);
    match_charge(match);
    if (found == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushnumber(L, (double)(found - match->text + 1));
    lua_pushnumber(L, (double)(found - match->text) + (double)size);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    struct match match;
    bool plain = find && lua_toboolean(L, 4); /* then it may hold zero bytes */
    begin(L, &match, 1, 2);
    if (!plain)
        refuse_zeros(&match);
    int64_t size = match.text_end - match.text;
    int64_t start = text_whole(L, 3, 1);
    start = start < 0 ? start + size : start - 1;
    const uint8_t *at = match.text + (start < 0 ? 0 : start > size ? size : start);
    if (plain || (find && is_plain(&match)))
        return find_plain(L, &match, at);
    bool anchored = match.pattern < match.pattern_end && *match.pattern == '^';
    match.pattern += anchored ? 1 : 0;
    for (; at <= match.text_end; at++) {
        const uint8_t *to = match_at(&match, at);
        if (to != NULL && find) {
            lua_pushnumber(L, (double)(at - match.text + 1));
            lua_pushnumber(L, (double)(to - match.text));
            return push_captures(&match, NULL, NULL) + 2;
        }
        if (to != NULL)
            return push_captures(&match, at, to);
        if (anchored)
            break;
    }
    match_charge(&match);
    lua_pushnil(L);
    return 1;
}

static int pattern_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int pattern_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* --- gmatch ----------------------------------------------------------------------------------------------------------------- */

/* Upvalues: text, pattern, where to go on. */
static int gmatch_next(lua_State *L)
{
    struct match match;
    begin(L, &match, lua_upvalueindex(1), lua_upvalueindex(2));
    const uint8_t *at = match.text + (size_t)lua_tonumber(L, lua_upvalueindex(3));
    for (; at <= match.text_end; at++) {
        const uint8_t *to = match_at(&match, at);
        if (to == NULL)
            continue;
        lua_pushnumber(L, (double)(to - match.text) + (to == at ? 1 : 0));
        lua_replace(L, lua_upvalueindex(3));
        return push_captures(&match, at, to);
    }
    match_charge(&match);
    return 0;
}

static int pattern_gmatch(lua_State *L)
{
    struct match match;
    begin(L, &match, 1, 2); /* makes texts of numbers, too */
    refuse_zeros(&match);
    lua_settop(L, 2);
    lua_pushnumber(L, 0);
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* --- gsub ------------------------------------------------------------------------------------------------------------------- */

static void add_text(struct match *match, struct text *out, const uint8_t *from, const uint8_t *to)
{
    size_t size = 0;
    size_t bytes = 0;
    const uint8_t *with = (const uint8_t *)lua_tolstring(match->L, 3, &size);
    for (size_t i = 0; i < size;) {
        const uint8_t *mark = memchr(with + i, '%', size - i);
        size_t plain = mark != NULL ? (size_t)(mark - with) - i : size - i;
        text_add(out, with + i, plain);
        i += plain + 1;
        if (mark == NULL)
            break;
        uint8_t what = i < size ? with[i++] : 0; /* a '%' at the end is a zero byte */
        if (what < '0' || what > '9') {
            text_add(out, &what, 1);
        } else if (what == '0') {
            text_add(out, from, (size_t)(to - from));
        } else {
            push_capture(match, what - '1', from, to);
            const char *caught = lua_tolstring(match->L, -1, &bytes);
            text_add(out, caught, bytes);
            lua_pop(match->L, 1);
        }
    }
    match_step(match, size / 8);
}

/* What a table or a function gives in place of a match; nil and false leave it. */
static void add_given(struct match *match, struct text *out, const uint8_t *from, const uint8_t *to)
{
    lua_State *L = match->L;
    if (lua_istable(L, 3)) {
        push_capture(match, 0, from, to);
        lua_gettable(L, 3);
    } else {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(match, from, to), 1);
    }
    size_t size = 0;
    const char *with = NULL;
    if (!lua_toboolean(L, -1))
        text_add(out, from, (size_t)(to - from));
    else if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    else
        with = lua_tolstring(L, -1, &size);
    if (with != NULL)
        text_add(out, with, size);
    lua_pop(L, 1);
    match_step(match, 4);
}

static int pattern_gsub(lua_State *L)
{
    struct match match;
    struct text out;
    begin(L, &match, 1, 2);
    refuse_zeros(&match);
    int type = lua_type(L, 3);
    if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TTABLE && type != LUA_TFUNCTION)
        return luaL_argerror(L, 3, "string/function/table expected");
    int64_t most_times = text_whole(L, 4, match.text_end - match.text + 1);
    lua_settop(L, 4);
    text_begin(L, &out, "string.gsub");
    bool anchored = match.pattern < match.pattern_end && *match.pattern == '^';
    match.pattern += anchored ? 1 : 0;
    const uint8_t *at = match.text;
    const uint8_t *kept = at; /* from here to `at` is still to be copied */
    int64_t times = 0;
    while (times < most_times) {
        const uint8_t *to = match_at(&match, at);
        if (to != NULL) {
            text_add(&out, kept, (size_t)(at - kept));
            times++;
            if (type == LUA_TSTRING || type == LUA_TNUMBER)
                add_text(&match, &out, at, to);
            else
                add_given(&match, &out, at, to);
            kept = to;
        }
        if (to != NULL && to > at)
            at = to;
        else if (at < match.text_end)
            at++;
        else
            break;
        if (anchored)
            break;
    }
    text_add(&out, kept, (size_t)(match.text_end - kept));
    match_charge(&match);
    text_push(&out);
    lua_pushnumber(L, (double)times);
    return 2;
}

void pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"string.find", pattern_find},
                                         {"string.match", pattern_match},
                                         {"string.gmatch", pattern_gmatch},
                                         {"string.gsub", pattern_gsub},
                                         {NULL, NULL}};
    fail_open(L, functions);
}
