/* script/convert.c - see script/convert.h. */
#include "script/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double whole_max = 9007199254740992.0; /* 2^53 */

static const char not_whole[] = "must be a whole number up to 2^53";
static const char not_number[] = "must be a number";
static const char not_ms[] = "must be a time: milliseconds, or like 500ms 5s 2m 1h 1d";

/* The text of an item as a number; false if it is none. */
static bool to_number(const struct pack_item *item, double *number)
{
    char text[64];
    char *end = NULL;
    switch (item->type) {
    case PACK_INT:
        *number = (double)item->integer;
        return item->integer <= 9007199254740992 && item->integer >= -9007199254740992;
    case PACK_FLOAT:
        *number = item->number;
        return isfinite(item->number);
    case PACK_STR:
        if (item->bytes.size == 0 || item->bytes.size >= sizeof text)
            return false;
        memcpy(text, item->bytes.data, item->bytes.size);
        text[item->bytes.size] = 0;
        if (strspn(text, "0123456789+-.eE") != item->bytes.size)
            return false;
        *number = strtod(text, &end);
        return *end == 0 && isfinite(*number);
    default:
        return false;
    }
}

const char *convert_int(const struct pack_item *item, double *number)
{
    if (!to_number(item, number) || *number != floor(*number) || fabs(*number) > whole_max)
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
        double factor;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    struct pack_item digits = *item;
    double factor = 1;
    if (item->type == PACK_STR) {
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            size_t size = strlen(units[i].unit);
            if (item->bytes.size > size &&
                memcmp(item->bytes.data + item->bytes.size - size, units[i].unit, size) == 0) {
                digits.bytes.size = item->bytes.size - size;
                factor = units[i].factor;
                break;
            }
        }
    }
    if (!to_number(&digits, ms) || *ms < 0)
        return not_ms;
    *ms *= factor;
    return *ms == floor(*ms) && *ms <= whole_max ? NULL : not_ms;
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
