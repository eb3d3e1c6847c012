/* script/convert.c - see script/convert.h. */
#include "script/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t whole_max = UINT64_C(1) << 53;

static const char not_whole[] = "must be a whole number up to 2^53";
static const char not_number[] = "must be a number, a whole one up to 2^53";
static const char not_ms[] = "must be a time: milliseconds, or like 500ms 5s 2m 1h 1d";

/* A decimal word, exactly: digits * 10^exponent. */
struct decimal {
    bool negative;
    bool has_exponent;
    uint64_t digits; /* below 10^18 */
    int exponent;
};

/* Reads [+-]digits[.digits][e[+-]digits]; false: it is none. `exact` false: it has more digits than are kept. */
static bool read_decimal(struct slice word, struct decimal *decimal, bool *exact)
{
    const uint8_t *at = word.data;
    const uint8_t *end = word.data + word.size;
    bool point = false;
    bool any = false;
    *decimal = (struct decimal){.negative = at < end && *at == '-'};
    *exact = true;
    at += at < end && (*at == '-' || *at == '+');
    for (; at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !point)); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        any = true;
        bool room = decimal->digits < 100000000000000000;
        *exact = *exact && (room || *at == '0');
        if (room)
            decimal->digits = decimal->digits * 10 + (uint64_t)(*at - '0');
        decimal->exponent += (room ? 0 : 1) - (point ? 1 : 0);
    }
    if (any && at < end && (*at == 'e' || *at == 'E')) {
        bool minus = at + 1 < end && at[1] == '-';
        at += at + 1 < end && (at[1] == '-' || at[1] == '+') ? 2 : 1;
        int power = 0;
        decimal->has_exponent = true;
        any = at < end;
        for (; at < end && *at >= '0' && *at <= '9'; at++)
            power = power < 10000 ? power * 10 + (*at - '0') : power;
        decimal->exponent += minus ? -power : power;
    }
    return any && at == end;
}

/* The word times `factor` as a whole number; false: it is none, or beyond 2^53. */
static bool to_whole(struct slice word, uint64_t factor, double *number)
{
    struct decimal decimal;
    bool exact = false;
    if (!read_decimal(word, &decimal, &exact) || !exact)
        return false;
    unsigned __int128 value = (unsigned __int128)decimal.digits * factor;
    for (; value > 0 && decimal.exponent < 0; decimal.exponent++) {
        if (value % 10 != 0)
            return false;
        value /= 10;
    }
    for (; value > 0 && decimal.exponent > 0; decimal.exponent--) {
        if (value > whole_max)
            return false;
        value *= 10;
    }
    if (value > whole_max)
        return false;
    *number = (double)(uint64_t)value;
    if (decimal.negative && value > 0)
        *number = -*number;
    return true;
}

/* The nearest number to a word; false: it is none, or a whole one beyond 2^53 written out. */
static bool to_nearest(struct slice word, double *number)
{
    struct decimal decimal;
    bool exact = false;
    char text[64];
    if (word.size >= sizeof text || !read_decimal(word, &decimal, &exact))
        return false;
    memcpy(text, word.data, word.size);
    text[word.size] = 0;
    *number = strtod(text, NULL);
    if (!decimal.has_exponent && fabs(*number) >= (double)whole_max)
        return to_whole(word, 1, number);
    return isfinite(*number);
}

static bool to_number(const struct pack_item *item, double *number)
{
    switch (item->type) {
    case PACK_INT:
        *number = (double)item->integer;
        return item->integer <= (int64_t)whole_max && item->integer >= -(int64_t)whole_max;
    case PACK_FLOAT:
        *number = item->number;
        return isfinite(item->number);
    case PACK_STR:
        return to_nearest(item->bytes, number);
    default:
        return false;
    }
}

const char *convert_int(const struct pack_item *item, double *number)
{
    if (item->type == PACK_STR)
        return to_whole(item->bytes, 1, number) ? NULL : not_whole;
    if (!to_number(item, number) || *number != floor(*number) || fabs(*number) > (double)whole_max)
        return not_whole;
    return NULL;
}

const char *convert_number(const struct pack_item *item, double *number)
{
    return to_number(item, number) ? NULL : not_number;
}

const char *convert_ms(const struct pack_item *item, double *ms)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (item->type != PACK_STR)
        return convert_int(item, ms) == NULL && *ms >= 0 ? NULL : not_ms;
    struct slice digits = item->bytes;
    uint64_t factor = 1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t size = strlen(units[i].unit);
        if (digits.size > size && memcmp(digits.data + digits.size - size, units[i].unit, size) == 0) {
            digits.size -= size;
            factor = units[i].factor;
            break;
        }
    }
    return to_whole(digits, factor, ms) && *ms >= 0 ? NULL : not_ms;
}

const char *convert_boolean(const struct pack_item *item, const char *own_name, bool *value)
{
    if (item->type == PACK_BOOLEAN) {
        *value = item->boolean;
        return NULL;
    }
    if (item->type == PACK_STR) {
        *value = slice_equal(item->bytes, slice_text("true")) ||
                 (own_name != NULL && slice_equal(item->bytes, slice_text(own_name)));
        if (*value || slice_equal(item->bytes, slice_text("false")))
            return NULL;
    }
    return "must be true or false";
}
