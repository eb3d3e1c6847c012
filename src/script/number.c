/* script/number.c - see script/number.h. */
#include "script/number.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <lauxlib.h>
#include <lua.h>

#include "script/fail.h"
#include "script/text.h"
#include "script/vm.h"

enum { POWER_MAX = 1024, SCALE_MAX = 4200 };

/* --- math ------------------------------------------------------------------------------------------------------------------- */

static int push(lua_State *L, double number)
{
    lua_pushnumber(L, number);
    return 1;
}

/* + 0.0 makes a zero of the negative zero, which not every build gives. */
static int math_ceil(lua_State *L)
{
    return push(L, ceil(luaL_checknumber(L, 1)) + 0.0);
}

static int math_fmod(lua_State *L)
{
    double x = luaL_checknumber(L, 1);
    return push(L, fmod(x, luaL_checknumber(L, 2)));
}

static int math_modf(lua_State *L)
{
    double whole = 0;
    double x = luaL_checknumber(L, 1);
    double rest = modf(x, &whole);
    push(L, whole);
    return 1 + push(L, rest);
}

static int math_frexp(lua_State *L)
{
    int exponent = 0;
    push(L, frexp(luaL_checknumber(L, 1), &exponent));
    return 1 + push(L, isfinite(lua_tonumber(L, 1)) ? exponent : 0);
}

static int math_ldexp(lua_State *L)
{
    double x = luaL_checknumber(L, 1);
    luaL_checknumber(L, 2);
    int64_t exponent = text_whole(L, 2, 0);
    exponent = exponent > SCALE_MAX ? SCALE_MAX : exponent < -SCALE_MAX ? -SCALE_MAX : exponent;
    return push(L, ldexp(x, (int)exponent));
}

static int math_max(lua_State *L)
{
    double result = luaL_checknumber(L, 1);
    for (int i = 2; i <= lua_gettop(L); i++) {
        double x = luaL_checknumber(L, i);
        result = x > result ? x : result;
    }
    return push(L, result);
}

static int math_min(lua_State *L)
{
    double result = luaL_checknumber(L, 1);
    for (int i = 2; i <= lua_gettop(L); i++) {
        double x = luaL_checknumber(L, i);
        result = x < result ? x : result;
    }
    return push(L, result);
}

static int math_random(lua_State *L)
{
    int count = lua_gettop(L);
    double r = vm_random(L);
    if (count == 0)
        return push(L, r);
    double lo = count > 1 ? (double)text_whole(L, 1, 1) : 1;
    double hi = (double)text_whole(L, count > 1 ? 2 : 1, 1);
    if (lo > hi)
        return luaL_error(L, "math.random: the lower number comes first");
    return push(L, lo + floor(r * (hi - lo + 1)));
}

static int math_ipow(lua_State *L)
{
    double base = luaL_checknumber(L, 1);
    double count = luaL_checknumber(L, 2);
    if (!(count >= 0 && count <= POWER_MAX && count == floor(count)))
        return luaL_error(L, "math.ipow: the exponent must be a whole number from 0 to %d", POWER_MAX);
    double result = 1;
    for (int i = 0; i < (int)count; i++)
        result *= base;
    return push(L, result);
}

void number_open_math(lua_State *L)
{
    static const luaL_Reg functions[] = {{"math.ceil", math_ceil},     {"math.fmod", math_fmod},
                                         {"math.frexp", math_frexp},   {"math.ipow", math_ipow},
                                         {"math.ldexp", math_ldexp},   {"math.max", math_max},
                                         {"math.min", math_min},       {"math.modf", math_modf},
                                         {"math.random", math_random}, {NULL, NULL}};
    fail_open(L, functions);
    lua_pushnumber(L, HUGE_VAL);
    lua_setfield(L, -2, "huge");
    lua_pushnumber(L, 3.14159265358979323846);
    lua_setfield(L, -2, "pi");
}

/* --- bit -------------------------------------------------------------------------------------------------------------------- */

/* The 32 lowest bits of a whole number up to 2^53. */
static uint32_t bits(lua_State *L, int at)
{
    double x = luaL_checknumber(L, at);
    luaL_argcheck(L, x == floor(x) && fabs(x) <= 9007199254740992.0, at, "a whole number up to 2^53 is expected");
    return (uint32_t)(int64_t)x;
}

static int push_bits(lua_State *L, uint32_t value)
{
    return push(L, value < 0x80000000U ? (double)value : (double)value - 4294967296.0);
}

static int bit_tobit(lua_State *L)
{
    return push_bits(L, bits(L, 1));
}

static int bit_bnot(lua_State *L)
{
    return push_bits(L, ~bits(L, 1));
}

static int bit_bswap(lua_State *L)
{
    uint32_t x = bits(L, 1);
    return push_bits(L, x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24);
}

static int bit_band(lua_State *L)
{
    uint32_t x = bits(L, 1);
    for (int i = 2; i <= lua_gettop(L); i++)
        x &= bits(L, i);
    return push_bits(L, x);
}

static int bit_bor(lua_State *L)
{
    uint32_t x = bits(L, 1);
    for (int i = 2; i <= lua_gettop(L); i++)
        x |= bits(L, i);
    return push_bits(L, x);
}

static int bit_bxor(lua_State *L)
{
    uint32_t x = bits(L, 1);
    for (int i = 2; i <= lua_gettop(L); i++)
        x ^= bits(L, i);
    return push_bits(L, x);
}

static int bit_lshift(lua_State *L)
{
    uint32_t x = bits(L, 1);
    return push_bits(L, x << (bits(L, 2) & 31));
}

static int bit_rshift(lua_State *L)
{
    uint32_t x = bits(L, 1);
    return push_bits(L, x >> (bits(L, 2) & 31));
}

static int bit_arshift(lua_State *L)
{
    uint32_t x = bits(L, 1);
    uint32_t n = bits(L, 2) & 31;
    uint32_t sign = (x & 0x80000000U) != 0 && n > 0 ? ~0U << (32 - n) : 0;
    return push_bits(L, x >> n | sign);
}

static int bit_rol(lua_State *L)
{
    uint32_t x = bits(L, 1);
    uint32_t n = bits(L, 2) & 31;
    return push_bits(L, n > 0 ? x << n | x >> (32 - n) : x);
}

static int bit_ror(lua_State *L)
{
    uint32_t x = bits(L, 1);
    uint32_t n = bits(L, 2) & 31;
    return push_bits(L, n > 0 ? x >> n | x << (32 - n) : x);
}

/* tohex(x[, n]): |n| digits, 8 if not said; capitals when n is negative. */
static int bit_tohex(lua_State *L)
{
    char text[16];
    uint32_t x = bits(L, 1);
    int64_t digits = text_whole(L, 2, 8);
    int count = (int)(digits > 8 || digits < -8 ? 8 : digits < 0 ? -digits : digits);
    snprintf(text, sizeof text, digits < 0 ? "%08X" : "%08x", (unsigned)x);
    lua_pushstring(L, text + 8 - count);
    return 1;
}

void number_open_bit(lua_State *L)
{
    static const luaL_Reg functions[] = {{"bit.arshift", bit_arshift},
                                         {"bit.band", bit_band},
                                         {"bit.bnot", bit_bnot},
                                         {"bit.bor", bit_bor},
                                         {"bit.bswap", bit_bswap},
                                         {"bit.bxor", bit_bxor},
                                         {"bit.lshift", bit_lshift},
                                         {"bit.rol", bit_rol},
                                         {"bit.ror", bit_ror},
                                         {"bit.rshift", bit_rshift},
                                         {"bit.tobit", bit_tobit},
                                         {"bit.tohex", bit_tohex},
                                         {NULL, NULL}};
    fail_open(L, functions);
}
