/* machine/snapshot_inspect.c - what a file holds, for people: head, maps and counts, hashes, and whether all of it agrees. See
 * machine/snapshot.h. */
#include <stdio.h>

#include "base/memory.h"
#include "machine/host_rows.h"
#include "machine/snapshot_private.h"
#include "wire/pack.h"

struct inspecting {
    struct snapshot_sum sum;
    uint64_t host[HOST_KINDS];
    uint64_t *maps; /* one count for each of the intake's maps */
    struct intake intake;
};

static enum status count_row(void *context, struct slice key, struct slice value, struct buffer *why)
{
    struct inspecting *inspecting = context;
    uint32_t number = row_number(key);
    const struct format_maps *maps = &inspecting->intake.maps;
    if (number < HOST_KINDS)
        inspecting->host[number]++;
    for (size_t i = 0; i < maps->count && inspecting->maps != NULL; i++)
        inspecting->maps[i] += maps->list[i].number == number;
    return snapshot_sum_row(&inspecting->sum, key, value, why);
}

static void pack_hex(struct buffer *out, const char *name, struct hash128 hash)
{
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
    pack_text(out, slice_text(name));
    pack_text(out, slice_text(text));
}

static void pack_count(struct buffer *out, const char *name, uint64_t count)
{
    pack_text(out, slice_text(name));
    pack_u64(out, count);
}

static void pack_id(struct buffer *out, const char *name, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    pack_text(out, slice_text(name));
    pack_text(out, slice_text(text));
}

static void pack_format(struct buffer *out, const struct snapshot_head *head)
{
    pack_text(out, slice_text("format"));
    pack_map(out, 2);
    pack_text(out, slice_text("name"));
    pack_text(out, slice_text(head->format));
    pack_text(out, slice_text("version"));
    pack_number(out, head->format_version);
}

static void pack_host_counts(struct buffer *out, const struct inspecting *inspecting)
{
    uint32_t kinds = 0;
    for (uint32_t i = 0; i < HOST_KINDS; i++)
        kinds += inspecting->host[i] > 0;
    pack_text(out, slice_text("host"));
    pack_map(out, kinds);
    for (uint32_t i = 0; i < HOST_KINDS; i++)
        if (inspecting->host[i] > 0)
            pack_count(out, host_name(i), inspecting->host[i]);
}

static void pack_map_counts(struct buffer *out, const struct inspecting *inspecting)
{
    const struct format_maps *maps = &inspecting->intake.maps;
    pack_text(out, slice_text("maps"));
    pack_map(out, (uint32_t)maps->count);
    for (size_t i = 0; i < maps->count; i++) {
        char name[2 * FORMAT_NAME_BYTES];
        snprintf(name, sizeof name, "%s.%s", maps->list[i].mount, maps->list[i].name);
        pack_count(out, name, inspecting->maps != NULL ? inspecting->maps[i] : 0);
    }
}

/* `verdict`: "ok", or what is wrong. */
static void pack_all(struct buffer *out, const struct inspecting *inspecting, bool good, struct slice verdict)
{
    const struct snapshot_head *head = &inspecting->intake.head;
    struct snapshot_seal seal = {0};
    if (inspecting->intake.end)
        seal = snapshot_reader_seal(inspecting->intake.reader);
    pack_map(out, 20);
    pack_count(out, "bytes", head->bytes);
    pack_id(out, "chain", head->chain);
    pack_count(out, "chunks", seal.chunks);
    pack_id(out, "cluster_id", head->cluster_id);
    pack_count(out, "configuration_index", head->configuration_index);
    pack_hex(out, "digest", head->digest);
    pack_count(out, "file_bytes", seal.file_bytes);
    pack_id(out, "fingerprint", head->fingerprint);
    pack_format(out, head);
    pack_text(out, slice_text("good"));
    pack_boolean(out, good);
    pack_hex(out, "hash", seal.hash);
    pack_host_counts(out, inspecting);
    pack_count(out, "index", head->index);
    pack_map_counts(out, inspecting);
    pack_count(out, "rows", head->rows);
    pack_count(out, "section_bytes", seal.bytes);
    pack_count(out, "stamp_ms", head->stamp_ms);
    pack_count(out, "term", head->term);
    pack_hex(out, "tree_digest", head->tree_digest);
    pack_text(out, slice_text("verdict"));
    pack_text(out, verdict);
}

enum status snapshot_inspect(struct disk *disk, const char *name, struct buffer *out, struct buffer *why)
{
    struct snapshot_progress progress = {0};
    struct buffer verdict = {0};
    struct inspecting inspecting = {0};
    struct intake *intake = &inspecting.intake;
    *intake = (struct intake){.why = why, .progress = &progress, .row = count_row, .context = &inspecting};
    inspecting.sum.maps = &intake->maps;
    enum status status = intake_open(intake, disk, name);
    if (status != STATUS_OK) {
        intake_close(intake);
        return status;
    }
    inspecting.sum.rows_max = intake->head.rows;
    intake->why = &verdict;
    status = intake_host(intake);
    inspecting.maps = mem_zalloc(intake->maps.count + 1, sizeof *inspecting.maps);
    if (status == STATUS_OK)
        status = intake->lossy ? intake_skip(intake) : intake_service(intake, slice_make(NULL, 0), 0);
    bool good = status == STATUS_OK && (intake->lossy || snapshot_sum_agrees(&inspecting.sum, &intake->head));
    if (status == STATUS_OK && intake->lossy)
        snapshot_say(&verdict, "ok, but an export that may hold less than the state: it cannot be restored");
    else if (status == STATUS_OK)
        snapshot_say(&verdict, good ? "ok" : "its rows are not those of the state that its head tells of");
    pack_all(out, &inspecting, good, buffer_slice(&verdict));
    intake_close(intake);
    mem_free(inspecting.maps);
    buffer_close(&verdict);
    return STATUS_OK;
}
