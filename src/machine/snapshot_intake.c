/* machine/snapshot_intake.c - a file's rows into a sink: the one way of reading a snapshot. See machine/snapshot_private.h. */
#include <stdarg.h>
#include <stdio.h>

#include "base/memory.h"
#include "machine/format_rows.h"
#include "machine/host_rows.h"
#include "machine/limits.h"
#include "machine/machine_private.h"
#include "machine/snapshot_private.h"
#include "script/show.h"
#include "wire/pack.h"

void snapshot_say(struct buffer *why, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    int size = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    buffer_append(why, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

void snapshot_say_row(struct buffer *why, const struct format_maps *maps, struct slice key)
{
    uint32_t number = row_number(key);
    const char *kind = host_name(number);
    if (kind != NULL)
        snapshot_say(why, "host row %s ", kind);
    for (size_t i = 0; i < maps->count; i++)
        if (maps->list[i].number == number)
            snapshot_say(why, "%s.%s key ", maps->list[i].mount, maps->list[i].name);
    show_key(why, slice_make(key.data + ROW_NUMBER_BYTES, key.size - ROW_NUMBER_BYTES));
}

bool snapshot_note_map(struct format_maps *maps, struct slice key, struct slice value)
{
    char mount[HOST_TEXT_BYTES];
    char name[HOST_TEXT_BYTES];
    uint64_t number = 0;
    struct pack_reader reader = pack_reader_make(value);
    if (row_number(key) != HOST_MAPS)
        return true;
    if (!host_texts(key, mount, name) || strlen(mount) >= FORMAT_NAME_BYTES || strlen(name) >= FORMAT_NAME_BYTES ||
        pack_read_u64(&reader, &number) != STATUS_OK || number < VM_MAPS_FIRST || number > UINT32_MAX)
        return false;
    if (maps->count % 64 == 0)
        maps->list = mem_realloc(maps->list, (maps->count + 64) * sizeof *maps->list);
    struct format_map *map = &maps->list[maps->count++];
    memcpy(map->mount, mount, strlen(mount) + 1);
    memcpy(map->name, name, strlen(name) + 1);
    map->number = (uint32_t)number;
    return true;
}

enum status snapshot_step(struct snapshot_progress *progress)
{
    atomic_fetch_add_explicit(&progress->rows_done, 1, memory_order_relaxed);
    return atomic_load_explicit(&progress->cancel, memory_order_relaxed) ? STATUS_CANCELLED : STATUS_OK;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

enum status intake_open(struct intake *intake, struct disk *disk, const char *name)
{
    intake->name = name;
    limits_standard(&intake->limits);
    enum status status = snapshot_reader_open(disk, name, &intake->reader, intake->why);
    if (status != STATUS_OK) {
        intake->reader = NULL;
        return status;
    }
    status = snapshot_head_unpack(snapshot_reader_head(intake->reader), &intake->head);
    if (status != STATUS_OK)
        snapshot_say(intake->why, "%s: %s", name,
                     status == STATUS_UNSUPPORTED ? "its head was written by a newer version; read it with that one"
                                                  : "its head makes no sense");
    return status;
}

void intake_close(struct intake *intake)
{
    if (intake->reader != NULL)
        snapshot_reader_close(intake->reader);
    mem_free(intake->maps.list);
    buffer_close(&intake->format);
}

/* Gets the next chunk, or the end. */
static enum status advance(struct intake *intake)
{
    enum status status = snapshot_reader_next(intake->reader, &intake->section, &intake->piece, &intake->end);
    if (status != STATUS_OK) {
        snapshot_say(intake->why, "%s", snapshot_reader_why(intake->reader));
        intake->failed = status;
    }
    return status;
}

/* Gives one row to the sink. */
static enum status sink(struct intake *intake, struct slice key, struct slice value, struct buffer *why)
{
    enum status status = snapshot_step(intake->progress);
    return status == STATUS_OK ? intake->row(intake->context, key, value, why) : status;
}

/* --- the host's rows -------------------------------------------------------------------------------------------------- */

/* What is said of the file, not of the state. */
static enum status take_export_row(struct intake *intake, struct slice key, struct slice value)
{
    char name[HOST_TEXT_BYTES];
    char unused[HOST_TEXT_BYTES];
    if (host_texts(key, name, unused) && strcmp(name, EXPORT_LOSSY) == 0) {
        intake->lossy = true;
        return STATUS_OK;
    }
    buffer_append(&intake->format, value.data, value.size);
    return STATUS_OK;
}

static enum status take_host_row(struct intake *intake, struct slice key, struct slice value)
{
    uint32_t kind = row_number(key);
    bool good = host_name(kind) != NULL;
    if (!good) {
        snapshot_say(intake->why,
                     "%s: it has host rows of kind %u, which a newer version wrote; read it with that one",
                     intake->name, kind);
        return STATUS_UNSUPPORTED;
    }
    if (kind == HOST_LIMITS)
        good = limits_take(key, value, &intake->limits);
    if (kind == HOST_MAPS)
        good = snapshot_note_map(&intake->maps, key, value);
    if (!good) {
        snapshot_say(intake->why, "%s: a host row of kind %s makes no sense", intake->name, host_name(kind));
        return STATUS_CORRUPT;
    }
    if (kind == HOST_EXPORT)
        return take_export_row(intake, key, value);
    if (kind == HOST_FORMAT && intake->format.size == 0)
        buffer_append(&intake->format, value.data, value.size);
    return sink(intake, key, value, intake->why);
}

/* Takes the whole rows of `held`: bin key, bin value. */
static enum status take_host_rows(struct intake *intake, struct buffer *held)
{
    struct pack_reader reader = pack_reader_make(buffer_slice(held));
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        struct pack_reader at = reader;
        struct slice key;
        struct slice value;
        enum status got = pack_read_text(&at, &key);
        if (got == STATUS_OK)
            got = pack_read_text(&at, &value);
        if (got == STATUS_INCOMPLETE)
            break;
        if (got != STATUS_OK || key.size <= ROW_NUMBER_BYTES) {
            snapshot_say(intake->why, "%s: its host rows make no sense", intake->name);
            return STATUS_CORRUPT;
        }
        reader = at;
        status = take_host_row(intake, key, value);
    }
    buffer_consume(held, (size_t)(reader.at - held->data));
    return status;
}

enum status intake_host(struct intake *intake)
{
    struct buffer held = {0};
    enum status status = advance(intake);
    while (status == STATUS_OK && !intake->end && intake->section == SNAPSHOT_SECTION_HOST) {
        buffer_append(&held, intake->piece.data, intake->piece.size);
        status = take_host_rows(intake, &held);
        if (status == STATUS_OK)
            status = advance(intake);
    }
    if (status == STATUS_OK && held.size > 0) {
        snapshot_say(intake->why, "%s: its host rows end in the midst of one", intake->name);
        status = STATUS_CORRUPT;
    }
    buffer_close(&held);
    return status;
}

/* --- the service's rows ----------------------------------------------------------------------------------------------- */

/* The format reads: the chunk at hand, then the next ones. */
static enum status next_piece(void *context, struct slice *bytes, bool *end)
{
    struct intake *intake = context;
    if (intake->piece.size == 0 && !intake->end) {
        enum status status = advance(intake);
        if (status != STATUS_OK)
            return status;
    }
    *end = intake->end || intake->section != SNAPSHOT_SECTION_SERVICE;
    if (!*end)
        *bytes = intake->piece;
    intake->piece.size = 0;
    return STATUS_OK;
}

static enum status put_row(void *context, struct slice key, struct slice value, struct buffer *why)
{
    return sink(context, key, value, why);
}

static enum status read_by(struct slice bundle, size_t lua_bytes_max, const struct format_reading *reading,
                           struct buffer *why)
{
    struct format *format = NULL;
    if (bundle.size == 0)
        return format_rows_read(reading, why);
    enum status status =
        format_open(bundle, lua_bytes_max > 0 ? lua_bytes_max : machine_lua_bytes_default, &format, why);
    if (status == STATUS_OK)
        status = format_read(format, reading, why);
    format_close(format);
    return status;
}

enum status intake_skip(struct intake *intake)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !intake->end)
        status = advance(intake);
    return status;
}

enum status intake_service(struct intake *intake, struct slice format, size_t lua_bytes_max)
{
    const struct snapshot_head *head = &intake->head;
    struct format_reading reading = {
        .written_by = head->format,
        .version = head->format_version,
        .maps = &intake->maps,
        .entry = {.index = head->index, .term = head->term, .now_ms = head->stamp_ms, .seed = head->index},
        .limits = intake->limits,
        .context = intake,
        .next = next_piece,
        .put = put_row};
    limits_widen(&reading.limits);
    struct slice bundle = format.size > 0 ? format : buffer_slice(&intake->format);
    struct buffer reason = {0};
    enum status status = STATUS_OK;
    if (bundle.size == 0 && strcmp(head->format, FORMAT_ROWS_NAME) != 0) {
        snapshot_say(&reason, "there is no such format in the file");
        status = STATUS_INVALID;
    }
    if (status == STATUS_OK)
        status = read_by(bundle, lua_bytes_max, &reading, &reason);
    if (status == STATUS_INVALID) {
        snapshot_say(intake->why, "%s: UNREADABLE, written by the format %s %.0f: ", intake->name, head->format,
                     head->format_version);
        buffer_append(intake->why, reason.data, reason.size);
        status = STATUS_UNSUPPORTED;
    }
    buffer_close(&reason);
    return status == STATUS_OK ? intake_skip(intake)
                               : status; /* a read that left something: the hashes still speak */
}
