/* base/memory.c - see base/memory.h. */
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

__attribute__((noreturn)) static void out_of_memory(size_t size)
{
    fprintf(stderr, "out of memory: %zu bytes could not be allocated\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *pointer = malloc(size > 0 ? size : 1);
    if (pointer == NULL)
        out_of_memory(size);
    return pointer;
}

void *mem_zalloc(size_t count, size_t size)
{
    void *pointer = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (pointer == NULL)
        out_of_memory(size);
    return pointer;
}

void *mem_realloc(void *old, size_t size)
{
    void *pointer = realloc(old, size > 0 ? size : 1);
    if (pointer == NULL)
        out_of_memory(size);
    return pointer;
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    CHECK((alignment & (alignment - 1)) == 0);
    void *pointer = NULL;
    if (posix_memalign(&pointer, alignment, size) != 0)
        out_of_memory(size);
    return pointer;
}

void mem_free(void *pointer)
{
    free(pointer);
}
