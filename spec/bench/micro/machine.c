/* spec/bench/micro/machine.c - kv.set through machine, sandbox and tree alone: what applying a command costs.
 *
 *   make micro        (or: build/release/micro-machine FILE ROWS...)
 *
 * Commands are encoded beforehand: kv.set of a random key of ROWS, 64-byte values, applied in batches of 64 with results
 * wanted, after the rows are there. Prints one line a size: microseconds a command. Depends on libcore. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"
#include "machine/machine.h"
#include "script/bundle.h"
#include "wire/entry.h"
#include "wire/pack.h"

enum { BATCH = 64, COMMANDS = 300000, VALUE_BYTES = 64 };

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static enum status read_file(void *context, const char *path, struct buffer *content)
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

static void add_entry(struct buffer *out, uint8_t kind, struct slice payload)
{
    struct entry entry = {.index = next_index++, .term = 1, .stamp_ms = 1700000000000, .kind = kind, .payload = payload};
    entry_encode(out, &entry, 0);
}

static void add_set(struct buffer *out, uint64_t key)
{
    struct buffer payload = {0};
    char text[32];
    char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    snprintf(value, sizeof value, "%llu", (unsigned long long)next_index);
    snprintf(text, sizeof text, "key-%012llu", (unsigned long long)key);
    pack_text(&payload, slice_text("kv.set"));
    pack_array(&payload, 2);
    pack_text(&payload, slice_text(text));
    pack_text(&payload, slice_make(value, sizeof value));
    add_entry(out, ENTRY_COMMAND, buffer_slice(&payload));
    buffer_close(&payload);
}

static void apply(struct machine *machine, struct slice records, struct machine_results *results)
{
    while (records.size > 0) {
        size_t size = 0;
        struct entry entry;
        for (int i = 0; i < BATCH && size < records.size; i++) {
            CHECK(entry_peek(slice_make(records.data + size, records.size - size), &entry) == STATUS_OK);
            size += entry.size;
        }
        results->count = 0;
        buffer_clear(&results->bytes);
        CHECK_EQ(machine_apply(machine, slice_make(records.data, size), true, results), entry.index);
        for (size_t i = 0; i < results->count; i++)
            CHECK(results->list[i].ok);
        records = slice_make(records.data + size, records.size - size);
    }
}

static void run(struct slice bundle, uint64_t rows)
{
    struct machine_options options = {0};
    struct machine *machine = machine_new(&options);
    struct machine_results results = {0};
    struct buffer records = {0};
    struct prng prng;
    prng_seed(&prng, 1);
    next_index = 1;
    add_entry(&records, ENTRY_CONFIGURATION, slice_text("x"));
    add_entry(&records, ENTRY_BUNDLE, bundle);
    apply(machine, buffer_slice(&records), &results);
    for (uint64_t key = 0; key < rows;) {
        buffer_clear(&records);
        for (int i = 0; i < 10000 && key < rows; i++)
            add_set(&records, key++);
        apply(machine, buffer_slice(&records), &results);
    }
    buffer_clear(&records);
    for (int i = 0; i < COMMANDS; i++)
        add_set(&records, prng_below(&prng, rows));
    double start = now_us();
    apply(machine, buffer_slice(&records), &results);
    double spent = now_us() - start;
    struct machine_status status;
    machine_get_status(machine, &status);
    printf("%8llu rows: %.3f us a command (%llu bytes of state)\n", (unsigned long long)rows, spent / COMMANDS,
           (unsigned long long)status.bytes);
    machine_free(machine);
    buffer_close(&records);
    buffer_close(&results.bytes);
    mem_free(results.list);
}

int main(int count, char **words)
{
    struct buffer bundle = {0};
    struct buffer why = {0};
    if (count < 3 || bundle_build(BUNDLE_MACHINE, "kv", words[1], read_file, NULL, &bundle, &why) != STATUS_OK) {
        fprintf(stderr, "%.*s\nusage: micro-machine FILE ROWS...\n", (int)why.size, (const char *)why.data);
        return 2;
    }
    for (int i = 2; i < count; i++)
        run(buffer_slice(&bundle), strtoull(words[i], NULL, 10));
    buffer_close(&bundle);
    return 0;
}
