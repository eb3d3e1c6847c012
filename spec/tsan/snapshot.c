/* spec/tsan/snapshot.c - one thread applies commands, another writes frozen states, in plain rows and by a module, and builds
 * machines of them: each is the state at its index. Run under ThreadSanitizer. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "machine/snapshot.h"
#include "script/bundle.h"
#include "wire/entry.h"
#include "wire/pack.h"

enum { ROUNDS = 6, COMMANDS = 3000, KEYS = 2000 };

struct work {
    struct machine_frozen *frozen;
    struct disk *disk;
    struct snapshot_progress progress;
    bool done_well;
};

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

static struct buffer bundle_of(enum bundle_kind kind, const char *mount, const char *path)
{
    struct buffer bundle = {0};
    struct buffer why = {0};
    CHECK(bundle_build(kind, mount, path, read_file, NULL, &bundle, &why) == STATUS_OK);
    return bundle;
}

static raft_index next_index = 1;

static void apply(struct machine *machine, uint8_t kind, struct slice payload)
{
    struct machine_results results = {0};
    struct buffer record = {0};
    struct entry entry = {.index = next_index++, .term = 1, .stamp_ms = 1700000000000, .kind = kind, .payload = payload};
    entry_encode(&record, &entry, 0);
    CHECK_EQ(machine_apply(machine, buffer_slice(&record), false, &results), entry.index);
    buffer_close(&record);
}

static void set(struct machine *machine, unsigned key)
{
    struct buffer payload = {0};
    pack_text(&payload, slice_text("kv.set"));
    pack_array(&payload, 2);
    pack_u64(&payload, key);
    pack_u64(&payload, next_index);
    apply(machine, ENTRY_COMMAND, buffer_slice(&payload));
    buffer_close(&payload);
}

static void *write_and_build(void *context)
{
    struct work *work = context;
    struct snapshot_options options = {0};
    struct machine_options built_options = {0};
    struct snapshot_seal seal;
    struct snapshot_head head;
    struct machine *built = NULL;
    struct buffer configuration = {0};
    struct buffer why = {0};
    const struct snapshot_head *frozen = machine_frozen_head(work->frozen);
    work->done_well =
        snapshot_take(work->frozen, &options, work->disk, "tsan", &work->progress, &seal, &why) == STATUS_OK &&
        snapshot_build(work->disk, "tsan", &built_options, &work->progress, &built, &head, &configuration, &why) ==
            STATUS_OK &&
        head.index == frozen->index && head.digest.lo == frozen->digest.lo && head.digest.hi == frozen->digest.hi;
    if (!work->done_well)
        fprintf(stderr, "snapshot: %.*s\n", (int)why.size, (const char *)why.data);
    if (built != NULL)
        machine_free(built);
    buffer_close(&configuration);
    return NULL;
}

int main(int count, char **words)
{
    struct machine_options options = {0};
    struct machine *machine = machine_new(&options);
    struct work work = {0};
    struct buffer why = {0};
    CHECK(count == 2 && disk_posix_open(words[1], false, false, &work.disk, &why) == STATUS_OK);
    struct buffer kv = bundle_of(BUNDLE_MACHINE, "kv", "examples/kv.lua");
    struct buffer format = bundle_of(BUNDLE_FORMAT, "", "examples/formats/jsonl.lua");
    apply(machine, ENTRY_CONFIGURATION, slice_text("set"));
    apply(machine, ENTRY_BUNDLE, buffer_slice(&kv));
    for (int round = 0; round < ROUNDS; round++) {
        if (round == ROUNDS / 2)
            apply(machine, ENTRY_BUNDLE, buffer_slice(&format));
        for (unsigned i = 0; i < COMMANDS; i++)
            set(machine, i * 7 % KEYS);
        work.frozen = machine_freeze(machine);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, write_and_build, &work) == 0);
        for (unsigned i = 0; i < COMMANDS; i++)
            set(machine, i * 11 % KEYS);
        CHECK(pthread_join(thread, NULL) == 0);
        machine_thaw(machine, work.frozen);
        if (!work.done_well)
            return 1;
    }
    machine_free(machine);
    buffer_close(&kv);
    buffer_close(&format);
    work.disk->free(work.disk);
    return 0;
}
