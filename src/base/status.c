/* base/status.c - see base/status.h. */
#include "base/status.h"

const char *status_text(enum status status)
{
#define STATUS_TEXT(name, text) text,
    static const char *const texts[STATUS_COUNT] = {STATUS_MAP(STATUS_TEXT)};
#undef STATUS_TEXT
    return (unsigned)status < STATUS_COUNT ? texts[status] : "unknown status";
}
