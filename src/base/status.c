/* base/status.c - see base/status.h. */
#include "base/status.h"

const char *status_text(enum status status)
{
#define STATUS_TEXT(name, text) text,
    static const char *const texts[STATUS_COUNT] = {STATUS_MAP(STATUS_TEXT)};
#undef STATUS_TEXT
    return (unsigned)status < STATUS_COUNT ? texts[status] : "unknown status";
}

const char *status_name(enum status status)
{
#define STATUS_NAME(name, text) #name,
    static const char *const names[STATUS_COUNT] = {STATUS_MAP(STATUS_NAME)};
#undef STATUS_NAME
    return (unsigned)status < STATUS_COUNT ? names[status] : "?";
}
