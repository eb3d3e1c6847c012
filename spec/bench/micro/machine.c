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

#include "micro.h"

enum { COMMANDS = 300000, VALUE_BYTES = 64 };

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
