/* script/text.h - the string library of the sandbox, and a bounded text being built. Depends on script/budget.h, LuaJIT.
 *
 * Own code, so that neither the locale, the platform's conversion of numbers, nor LuaJIT's version shows. Everything
 * charges the budget by the bytes it touches.
 */
#ifndef SCRIPT_TEXT_H
#define SCRIPT_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct lua_State;

enum { TEXT_BYTES_MAX = 8 * 1024 * 1024, TEXT_REPEAT_MAX = 1024 * 1024 };

/* A text that grows: in place while it is short, then in a userdata in its slot of the Lua stack. */
struct text {
    struct lua_State *L;
    const char *what; /* "string.gsub", for errors */
    uint8_t *data;
    size_t size;
    size_t room;
    int slot;
    uint8_t small[256];
};

/* Begins one; takes a slot at the top of the stack [-0, +1]. */
void text_begin(struct lua_State *L, struct text *text, const char *what);

/* Appends, and charges. Beyond TEXT_BYTES_MAX it raises TOO_LARGE. */
void text_add(struct text *text, const void *bytes, size_t size);

/* Pushes what was built [-0, +1]. */
void text_push(struct text *text);

/* The argument at `at` as a whole number (cut toward zero, as Lua does), held in +-2^53; `standard` if there is none. */
int64_t text_whole(struct lua_State *L, int at, int64_t standard);

/* Adds byte char len lower upper rep reverse sub to the table at the top [-0, +0]. */
void text_open(struct lua_State *L);

#endif
