/* wire/error.c - see wire/error.h. */
#include "wire/error.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"

#define ERROR_ROW(name, definite, exit_code, http, resp) {#name, definite, exit_code, http, resp},
static const struct error_row rows[ERROR_CODES] = {ERROR_MAP(ERROR_ROW)};
#undef ERROR_ROW

const struct error_row *error_row(enum error_code code)
{
    CHECK((unsigned)code < ERROR_CODES);
    return &rows[code];
}

const struct error_row *error_row_named(const char *name, unsigned long size)
{
    for (size_t i = 0; i < ERROR_CODES; i++)
        if (strlen(rows[i].name) == size && memcmp(rows[i].name, name, size) == 0)
            return &rows[i];
    return NULL;
}

bool error_code_of_service(const char *name, unsigned long size)
{
    if (size == 0 || size > 64 || name[0] < 'A' || name[0] > 'Z')
        return false;
    for (unsigned long i = 1; i < size; i++)
        if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_'))
            return false;
    const struct error_row *row = error_row_named(name, size);
    return row == NULL || row == &rows[ERROR_NOT_FOUND] || row == &rows[ERROR_EXISTS] || row == &rows[ERROR_CONFLICT] ||
           row == &rows[ERROR_BAD_ARGS] || row == &rows[ERROR_DENIED];
}
