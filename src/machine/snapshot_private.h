/* machine/snapshot_private.h - what taking, building and inspecting share: a frozen state, and the intake of a file's rows.
 * Private to machine/. */
#ifndef MACHINE_SNAPSHOT_PRIVATE_H
#define MACHINE_SNAPSHOT_PRIVATE_H

#include "machine/snapshot.h"
#include "script/format.h"
#include "state/view.h"

struct machine_frozen {
    struct machine_frozen *next; /* older */
    uint32_t holders;
    uint64_t catalog_version;
    struct view *view;
    struct snapshot_head head;
    struct vm_limits limits;
    struct buffer configuration;
};

/* Appends to a sentence (printf's formats, at most 512 bytes a time). */
void snapshot_say(struct buffer *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends kv.rows key "a" for a row's key. */
void snapshot_say_row(struct buffer *why, const struct format_maps *maps, struct slice key);

/* Notes a row of the kind HOST_MAPS in `maps`; others are nothing. False: it makes no sense. */
bool snapshot_note_map(struct format_maps *maps, struct slice key, struct slice value);

/* One row of rows_done more; CANCELLED when the work should end. */
enum status snapshot_step(struct snapshot_progress *progress);

/* Reads a file's rows, one after another, into a sink: the host's, then the service's through the format's own read. What
 * the sink says other than OK ends it; INVALID with a reason in `why`. */
struct intake {
    struct snapshot_reader *reader;
    struct snapshot_head head; /* borrows from the reader */
    const char *name;
    struct buffer *why;
    struct snapshot_progress *progress;
    enum status (*row)(void *context, struct slice key, struct slice value, struct buffer *why);
    void *context;
    struct vm_limits limits; /* what the host's rows say: */
    struct format_maps maps;
    struct buffer format; /* the bundle that reads; empty: rows */
    bool lossy;           /* an export that may hold less than the state */
    uint32_t section;     /* of `piece` */
    struct slice piece;   /* the chunk at hand */
    bool end;             /* there is no piece: the footer agreed */
    enum status failed;   /* of the reader */
};

/* Opens a file and reads its head. `progress`, `why`, `row` and `context` must be set. OK, NOT_FOUND, CORRUPT, UNSUPPORTED, IO. */
enum status intake_open(struct intake *intake, struct disk *disk, const char *name) MUST_USE;

/* Reads the host's rows. UNSUPPORTED: a kind of rows that this version does not know. */
enum status intake_host(struct intake *intake) MUST_USE;

/* Reads the service's rows by `format` (a bundle; empty: the file's own, or rows), and the file to its end. UNSUPPORTED: the
 * format cannot read it. */
enum status intake_service(struct intake *intake, struct slice format, size_t lua_bytes_max) MUST_USE;

/* Reads the file to its end in place of that, for its hashes alone. */
enum status intake_skip(struct intake *intake) MUST_USE;

void intake_close(struct intake *intake);

/* The sink that sums: what must be the head's. */
struct snapshot_sum {
    uint64_t rows;
    uint64_t bytes;
    unsigned __int128 digest;
    uint64_t rows_max; /* more are refused */
    const struct format_maps *maps;
};

enum status snapshot_sum_row(void *context, struct slice key, struct slice value, struct buffer *why);
bool snapshot_sum_agrees(const struct snapshot_sum *sum, const struct snapshot_head *head);

/* Reads a file once more to say what it lost of a view: the first row, by map and key, that is missing or another; or one that
 * the view has not. Appends the sentence. */
void snapshot_say_lost(const struct machine_frozen *frozen, struct disk *disk, const char *name,
                       size_t lua_bytes_max, struct snapshot_progress *progress, struct buffer *why);

#endif
