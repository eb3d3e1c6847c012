/* spec/bench/micro/snapshot.c - what taking and building a snapshot costs, with no disk's sync in it worth naming.
 *
 *   make micro-snapshot        (or: build/release/micro-snapshot KV-FILE ROWS DIRECTORY [FORMAT-FILE...])
 *
 * ROWS rows of kv (a 16-byte key, a 64-byte value); the format that is there without a module, then each FORMAT-FILE. Prints
 * seconds, and rows and MB of state a second of CPU, for taking without reading back, taking, and building, and the process's
 * resident memory after each. Then what a frozen view costs whoever applies: APPLIED entries, one by one, on random rows: without
 * a view, with one out, and after it came back. CPU time of the thread, so that what else runs does not count. Depends on libcore. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/prng.h"
#include "machine/snapshot.h"
#include "script/bundle.h"
#include "wire/entry.h"
#include "wire/pack.h"

#include "micro.h"

enum { VALUE_BYTES = 64, BATCH = 10000, APPLIED = 100000 };

struct moment {
    double wall_s;
    double cpu_s;
};

static double clock_s(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct moment now(void)
{
    return (struct moment){.wall_s = clock_s(CLOCK_MONOTONIC), .cpu_s = clock_s(CLOCK_THREAD_CPUTIME_ID)};
}

static double resident_mb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static struct buffer bundle_of(enum bundle_kind kind, const char *path)
{
    struct buffer bundle = {0};
    struct buffer why = {0};
    if (bundle_build(kind, kind == BUNDLE_MACHINE ? "kv" : "", path, read_file, NULL, &bundle, &why) != STATUS_OK) {
        fprintf(stderr, "%.*s\n", (int)why.size, (const char *)why.data);
        exit(2);
    }
    return bundle;
}

static void add_set(struct buffer *out, uint64_t key)
{
    struct buffer payload = {0};
    char text[32];
    char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    snprintf(value, sizeof value, "%llu", (unsigned long long)key);
    snprintf(text, sizeof text, "key-%012llu", (unsigned long long)key);
    pack_text(&payload, slice_text("kv.set"));
    pack_array(&payload, 2);
    pack_text(&payload, slice_text(text));
    pack_text(&payload, slice_make(value, sizeof value));
    add_entry(out, ENTRY_COMMAND, buffer_slice(&payload));
    buffer_close(&payload);
}

static struct machine *fill(const char *path, uint64_t rows)
{
    struct machine_options options = {0};
    struct machine *machine = machine_new(&options);
    struct machine_results results = {0};
    struct buffer records = {0};
    struct buffer bundle = bundle_of(BUNDLE_MACHINE, path);
    add_entry(&records, ENTRY_CONFIGURATION, slice_text("x"));
    add_entry(&records, ENTRY_BUNDLE, buffer_slice(&bundle));
    for (uint64_t key = 0; key < rows || records.size > 0;) {
        for (int i = 0; i < BATCH && key < rows; i++)
            add_set(&records, key++);
        CHECK_EQ(machine_apply(machine, buffer_slice(&records), false, &results), next_index - 1);
        buffer_clear(&records);
    }
    buffer_close(&records);
    buffer_close(&bundle);
    return machine;
}

static void print(const char *what, struct moment start, const struct snapshot_head *head)
{
    struct moment end = now();
    double cpu_s = end.cpu_s - start.cpu_s;
    printf("  %-24s %6.2f s, of CPU %6.2f s: %10.0f rows/s %8.1f MB/s   %7.1f MB resident\n", what,
           end.wall_s - start.wall_s, cpu_s, (double)head->rows / cpu_s, (double)head->bytes / cpu_s / 1e6,
           resident_mb());
}

static void take(const struct machine_frozen *frozen, struct disk *disk, struct slice format, bool lossy)
{
    struct snapshot_options options = {.format = format, .lossy = lossy};
    struct snapshot_progress progress = {0};
    struct snapshot_seal seal = {0};
    struct buffer why = {0};
    struct moment start = now();
    enum status status = snapshot_take(frozen, &options, disk, "micro", &progress, &seal, &why);
    if (status != STATUS_OK) {
        fprintf(stderr, "%.*s\n", (int)why.size, (const char *)why.data);
        exit(1);
    }
    print(lossy ? "written" : "written and read back", start, machine_frozen_head(frozen));
    if (!lossy)
        printf("  %-24s %6.1f MB\n", "file", (double)seal.file_bytes / 1e6);
}

static void build(struct disk *disk)
{
    struct machine_options options = {0};
    struct snapshot_progress progress = {0};
    struct snapshot_head head;
    struct buffer configuration = {0};
    struct buffer why = {0};
    struct machine *built = NULL;
    struct moment start = now();
    CHECK(snapshot_build(disk, "micro", &options, &progress, &built, &head, &configuration, &why) == STATUS_OK);
    print("built", start, &head);
    machine_free(built);
    buffer_close(&configuration);
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Each entry as a job of the machine's thread: applied, and a little of what views held is freed. */
static void apply_singly(const char *what, struct machine *machine, uint64_t rows)
{
    static double took_us[APPLIED];
    struct machine_results results = {0};
    struct buffer records = {0};
    struct prng prng;
    prng_seed(&prng, 1);
    for (size_t i = 0; i < APPLIED; i++) {
        add_set(&records, prng_below(&prng, rows));
        double start = clock_s(CLOCK_THREAD_CPUTIME_ID);
        CHECK_EQ(machine_apply(machine, buffer_slice(&records), false, &results), next_index - 1);
        (void)machine_sweep(machine);
        took_us[i] = (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) * 1e6;
        buffer_clear(&records);
    }
    buffer_close(&records);
    qsort(took_us, APPLIED, sizeof *took_us, by_value);
    printf("  %-24s p50 %6.1f us, p99.9 %6.1f us, the longest %8.1f us\n", what, took_us[APPLIED / 2],
           took_us[APPLIED - APPLIED / 1000], took_us[APPLIED - 1]);
}

static void views(struct machine *machine, uint64_t rows)
{
    printf("%d entries applied one by one\n", APPLIED);
    apply_singly("without a view", machine, rows);
    struct machine_frozen *frozen = machine_freeze(machine);
    apply_singly("with one out", machine, rows);
    double start = clock_s(CLOCK_THREAD_CPUTIME_ID);
    machine_thaw(machine, frozen);
    printf("  %-24s %.1f us\n", "it comes back", (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) * 1e6);
    apply_singly("after that", machine, rows);
}

int main(int count, char **words)
{
    struct disk *disk = NULL;
    struct buffer why = {0};
    if (count < 4 || disk_posix_open(words[3], true, false, &disk, &why) != STATUS_OK) {
        fprintf(stderr, "%.*s\nusage: micro-snapshot KV-FILE ROWS DIRECTORY [FORMAT-FILE...]\n", (int)why.size,
                (const char *)why.data);
        return 2;
    }
    struct machine *machine = fill(words[1], strtoull(words[2], NULL, 10));
    struct machine_frozen *frozen = machine_freeze(machine);
    printf("%llu rows, %.1f MB of keys and values; %.1f MB resident\n",
           (unsigned long long)machine_frozen_head(frozen)->rows, (double)machine_frozen_head(frozen)->bytes / 1e6,
           resident_mb());
    for (int i = 3; i < count; i++) {
        struct buffer format = {0};
        if (i > 3)
            format = bundle_of(BUNDLE_FORMAT, words[i]);
        printf("%s\n", i > 3 ? words[i] : "rows");
        take(frozen, disk, buffer_slice(&format), true);
        take(frozen, disk, buffer_slice(&format), false);
        build(disk);
        buffer_close(&format);
    }
    machine_thaw(machine, frozen);
    views(machine, strtoull(words[2], NULL, 10));
    machine_free(machine);
    CHECK(disk->remove(disk, "micro") == STATUS_OK);
    disk->free(disk);
    return 0;
}
