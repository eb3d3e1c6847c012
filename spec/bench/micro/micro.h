/* spec/bench/micro/micro.h - what the programs here share: CPU time of the thread, a bundle's files, records made and applied in batches.
 * Included by each of them alone. Depends on libcore. */
#ifndef MICRO_H
#define MICRO_H

#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "machine/machine.h"
#include "wire/entry.h"

enum { APPLY_BATCH = 64 };

static inline double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline enum status read_file(void *context, const char *path, struct buffer *content)
{
    (void)context;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return STATUS_NOT_FOUND;
    for (size_t got = 1; got > 0; content->size += got)
        got = fread(buffer_reserve(content, 65536), 1, 65536, file);
    fclose(file);
    return STATUS_OK;
}

static raft_index next_index = 1;

static inline void add_entry(struct buffer *out, uint8_t kind, struct slice payload)
{
    struct entry entry = {
        .index = next_index++, .term = 1, .stamp_ms = 1700000000000, .kind = kind, .payload = payload};
    entry_encode(out, &entry, 0);
}

static inline void apply(struct machine *machine, struct slice records, struct machine_results *results)
{
    while (records.size > 0) {
        size_t size = 0;
        struct entry entry;
        for (int i = 0; i < APPLY_BATCH && size < records.size; i++) {
            CHECK(entry_peek(slice_make(records.data + size, records.size - size), &entry) == STATUS_OK);
            size += entry.size;
        }
        results->count = 0;
        buffer_clear(&results->bytes);
        buffer_clear(&results->events);
        CHECK_EQ(machine_apply(machine, slice_make(records.data, size), true, results), entry.index);
        for (size_t i = 0; i < results->count; i++)
            CHECK(results->list[i].ok);
        records = slice_make(records.data + size, records.size - size);
    }
}

#endif
