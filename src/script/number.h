/* script/number.h - the math and bit libraries of the sandbox. Depends on script/text.h, LuaJIT.
 *
 * Only what IEEE 754 fixes to the last bit: no sine, no logarithm, no power but by repeated multiplication. A number out of
 * the range of an integer is refused, for each machine converts it in its own way.
 */
#ifndef SCRIPT_NUMBER_H
#define SCRIPT_NUMBER_H

struct lua_State;

/* Adds ceil fmod frexp huge ipow ldexp max min modf pi random to the table at the top [-0, +0]. */
void number_open_math(struct lua_State *L);

/* Adds arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex to the table at the top [-0, +0]. */
void number_open_bit(struct lua_State *L);

#endif
