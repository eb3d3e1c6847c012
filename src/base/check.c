/* base/check.c - see base/check.h. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *text)
{
    fprintf(stderr, "bug: %s:%d: %s\n", file, line, text);
    abort();
}

void check_failed_eq(const char *file, int line, const char *text, uint64_t left, uint64_t right)
{
    fprintf(stderr, "bug: %s:%d: %s (%llu, %llu)\n", file, line, text, (unsigned long long)left,
            (unsigned long long)right);
    abort();
}
