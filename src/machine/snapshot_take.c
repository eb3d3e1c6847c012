/* machine/snapshot_take.c - a frozen state to a file, on any thread: written, sealed, read back. See machine/snapshot.h. */
#include <stdio.h>

#include "base/memory.h"
#include "base/mutant.h"
#include "machine/format_rows.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "machine/snapshot_private.h"
#include "state/key.h"
#include "wire/pack.h"

enum { FLUSH_BYTES = 64 * 1024 };

struct taking {
    const struct machine_frozen *frozen;
    const struct snapshot_options *options;
    struct disk *disk;
    const char *name;
    struct snapshot_progress *progress;
    struct buffer *why;
    struct snapshot_writer *writer;
    struct snapshot_head head;
    struct format *format; /* NULL: rows */
    struct format_maps maps;
    size_t lua_bytes_max;
};

/* --- the host's rows -------------------------------------------------------------------------------------------------- */

/* Appends in pieces that fit a chunk: what comes in one piece may be far larger, and where a chunk ends is nobody's matter. */
static enum status append(struct taking *taking, uint32_t section, struct slice bytes)
{
    size_t most = taking->options->chunk_bytes > 0 ? taking->options->chunk_bytes : SNAPSHOT_CHUNK_BYTES;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && bytes.size > 0) {
        struct slice piece = slice_make(bytes.data, bytes.size < most ? bytes.size : most);
        status = snapshot_writer_append(taking->writer, section, piece);
        bytes = slice_make(bytes.data + piece.size, bytes.size - piece.size);
    }
    if (status != STATUS_OK)
        snapshot_say(taking->why, "%s", taking->disk->error(taking->disk));
    return status;
}

static void pack_row(struct buffer *out, struct slice key, struct slice value)
{
    pack_bin(out, key);
    pack_bin(out, value);
}

static enum status flush_host(struct taking *taking, struct buffer *out)
{
    enum status status = append(taking, SNAPSHOT_SECTION_HOST, buffer_slice(out));
    buffer_clear(out);
    return status;
}

static void pack_export_row(struct buffer *out, const char *name, struct slice value)
{
    struct buffer key = {0};
    host_key(&key, HOST_EXPORT, slice_text(name), slice_make(NULL, 0));
    pack_row(out, buffer_slice(&key), value);
    buffer_close(&key);
}

/* Writes the host's rows as they are, and learns from them what maps there are. */
static enum status write_host(struct taking *taking)
{
    static const uint8_t maps_begin[ROW_NUMBER_BYTES] = {0, 0, 0, VM_MAPS_FIRST};
    struct buffer out = {0};
    struct slice key;
    struct slice value;
    enum status status = STATUS_OK;
    if (taking->options->format.size > 0)
        pack_export_row(&out, EXPORT_FORMAT, taking->options->format);
    if (taking->options->lossy)
        pack_export_row(&out, EXPORT_LOSSY, slice_make(NULL, 0));
    struct view_cursor *cursor = view_cursor_open(taking->frozen->view, slice_make(NULL, 0),
                                                  slice_make(maps_begin, sizeof maps_begin), false);
    while (status == STATUS_OK && view_cursor_next(cursor, &key, &value)) {
        if (MUTANT(125) && row_number(key) == HOST_IDS)
            continue;
        if (!snapshot_note_map(&taking->maps, key, value)) {
            snapshot_say(taking->why, "a host row of the state makes no sense");
            status = STATUS_INVALID;
            break;
        }
        pack_row(&out, key, value);
        status = snapshot_step(taking->progress);
        if (status == STATUS_OK && out.size >= FLUSH_BYTES)
            status = flush_host(taking, &out);
    }
    if (status == STATUS_OK && out.size > 0)
        status = flush_host(taking, &out);
    view_cursor_close(cursor);
    buffer_close(&out);
    return status;
}

/* --- the service's rows ----------------------------------------------------------------------------------------------- */

static enum status append_service(void *context, struct slice bytes)
{
    return append(context, SNAPSHOT_SECTION_SERVICE, bytes);
}

static enum status took_row(void *context)
{
    return snapshot_step(((struct taking *)context)->progress);
}

static enum status write_service(struct taking *taking)
{
    const struct snapshot_head *head = &taking->head;
    const struct format_writing writing = {
        .view = taking->frozen->view,
        .maps = &taking->maps,
        .entry = {.index = head->index, .term = head->term, .now_ms = head->stamp_ms, .seed = head->index},
        .limits = taking->frozen->limits,
        .context = taking,
        .append = append_service,
        .row = took_row};
    if (taking->format == NULL)
        return format_rows_write(&writing);
    struct buffer reason = {0};
    enum status status = format_write(taking->format, &writing, &reason);
    if (status == STATUS_INVALID)
        snapshot_say(taking->why, "the format %s %.0f failed to write: ", head->format, head->format_version);
    buffer_append(taking->why, reason.data, reason.size);
    buffer_close(&reason);
    return status;
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

/* Opens the format that writes, and names it in the head. */
static enum status choose_format(struct taking *taking)
{
    struct slice bundle = taking->options->format;
    struct buffer key = {0};
    host_key(&key, HOST_FORMAT, slice_text("format"), slice_make(NULL, 0));
    bool module = bundle.size > 0 || view_get(taking->frozen->view, buffer_slice(&key), &bundle);
    buffer_close(&key);
    if (!module)
        return STATUS_OK;
    enum status status = format_open(bundle, taking->lua_bytes_max, &taking->format, taking->why);
    if (status != STATUS_OK)
        return status;
    snprintf(taking->head.format, sizeof taking->head.format, "%s", format_name(taking->format));
    taking->head.format_version = format_version(taking->format);
    return STATUS_OK;
}

static enum status write_all(struct taking *taking, struct snapshot_seal *seal)
{
    struct buffer head = {0};
    snapshot_head_pack(&taking->head, &head);
    enum status status = snapshot_writer_open(taking->disk, taking->name, buffer_slice(&head),
                                              taking->options->chunk_bytes, taking->options->zstd, &taking->writer);
    buffer_close(&head);
    if (status != STATUS_OK) {
        snapshot_say(taking->why, "%s", taking->disk->error(taking->disk));
        return status;
    }
    status = write_host(taking);
    if (status == STATUS_OK)
        status = write_service(taking);
    if (status == STATUS_OK) {
        status = snapshot_writer_seal(taking->writer, seal);
        if (status != STATUS_OK)
            snapshot_say(taking->why, "%s", taking->disk->error(taking->disk));
    }
    snapshot_writer_close(taking->writer);
    return status;
}

/* Reads the file through the format's own read, in a fresh state: a snapshot that lost something is none. */
static enum status read_back(struct taking *taking)
{
    struct snapshot_sum sum = {.rows_max = taking->head.rows};
    struct intake intake = {
        .why = taking->why, .progress = taking->progress, .row = snapshot_sum_row, .context = &sum};
    sum.maps = &intake.maps;
    enum status status = intake_open(&intake, taking->disk, taking->name);
    if (status == STATUS_OK)
        status = intake_host(&intake);
    if (status == STATUS_OK)
        status = intake_service(&intake, slice_make(NULL, 0), taking->lua_bytes_max);
    bool lossy = status == STATUS_OK && !snapshot_sum_agrees(&sum, &taking->head);
    intake_close(&intake);
    if (lossy && !MUTANT(127)) {
        snapshot_say(taking->why, "the format %s %.0f does not give back what it was given: ", taking->head.format,
                     taking->head.format_version);
        snapshot_say_lost(taking->frozen, taking->disk, taking->name, taking->lua_bytes_max, taking->progress,
                          taking->why);
        return STATUS_INVALID;
    }
    return status == STATUS_UNSUPPORTED ? STATUS_INVALID : status; /* it cannot read what it wrote itself */
}

enum status snapshot_take(const struct machine_frozen *frozen, const struct snapshot_options *options,
                          struct disk *disk, const char *name, struct snapshot_progress *progress,
                          struct snapshot_seal *seal, struct buffer *why)
{
    struct taking taking = {.frozen = frozen,
                            .options = options,
                            .disk = disk,
                            .name = name,
                            .progress = progress,
                            .why = why,
                            .head = frozen->head,
                            .lua_bytes_max =
                                options->lua_bytes_max > 0 ? options->lua_bytes_max : machine_lua_bytes_default};
    atomic_store(&progress->rows, frozen->head.rows * (options->lossy ? 1 : 2));
    enum status status = choose_format(&taking);
    if (status == STATUS_OK)
        status = write_all(&taking, seal);
    format_close(taking.format);
    if (status == STATUS_OK && !options->lossy) {
        status = read_back(&taking);
        if (status != STATUS_OK && disk->remove(disk, name) != STATUS_OK)
            snapshot_say(why, "; and %s could not be removed: %s", name, disk->error(disk));
    }
    mem_free(taking.maps.list);
    return status;
}
