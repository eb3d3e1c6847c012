/* machine/compare.c - see machine/compare.h. */
#include "machine/compare.h"

#include "base/memory.h"
#include "base/mutant.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "machine/snapshot_private.h"
#include "script/due.h"
#include "script/show.h"
#include "state/view.h"
#include "wire/pack.h"

/* --- naming a row ----------------------------------------------------------------------------------------------------- */

static void note_maps(const struct view *view, struct format_maps *maps)
{
    static const uint8_t lo[ROW_NUMBER_BYTES] = {0, 0, 0, HOST_MAPS};
    static const uint8_t hi[ROW_NUMBER_BYTES] = {0, 0, 0, HOST_MAPS + 1};
    struct slice key;
    struct slice value;
    struct view_cursor *cursor =
        view_cursor_open(view, slice_make(lo, sizeof lo), slice_make(hi, sizeof hi), false);
    while (view_cursor_next(cursor, &key, &value))
        (void)snapshot_note_map(maps, key, value);
    view_cursor_close(cursor);
}

static void say_row(const struct view *view, struct slice key, struct buffer *what)
{
    struct format_maps maps = {0};
    note_maps(view, &maps);
    snapshot_say_row(what, &maps, key);
    mem_free(maps.list);
}

static bool same(struct hash128 left, struct hash128 right)
{
    return left.lo == right.lo && left.hi == right.hi;
}

/* --- telling ---------------------------------------------------------------------------------------------------------- */

static void pack_hash(struct buffer *out, struct hash128 hash)
{
    pack_u64(out, hash.hi);
    pack_u64(out, hash.lo);
}

static void tell_rows(struct view_cursor *cursor, uint64_t count, struct buffer *out)
{
    struct slice key;
    struct slice value;
    pack_array(out, (uint32_t)count);
    while (view_cursor_next(cursor, &key, &value)) {
        pack_array(out, 3);
        pack_bin(out, key);
        pack_hash(out, tree_row_hash(key, value));
    }
}

static void tell_part(struct slice end, unsigned __int128 sum, struct buffer *out)
{
    pack_array(out, 3);
    pack_bin(out, end);
    pack_u64(out, (uint64_t)(sum >> 64));
    pack_u64(out, (uint64_t)sum);
}

/* Each part ends where the next begins; the last where all of them do. */
static void tell_parts(struct view_cursor *cursor, uint64_t count, struct buffer *out)
{
    struct slice key;
    struct slice value;
    unsigned __int128 sum = 0;
    uint64_t at = 0;
    uint64_t parts = 1;
    pack_array(out, COMPARE_PARTS);
    for (; view_cursor_next(cursor, &key, &value); at++) {
        if (at == count * parts / COMPARE_PARTS) {
            tell_part(key, sum, out);
            sum = 0;
            parts++;
        }
        struct hash128 hash = tree_row_hash(key, value);
        sum += (unsigned __int128)hash.hi << 64 | hash.lo;
    }
    tell_part(slice_make(NULL, 0), sum, out);
}

void compare_tell(const struct machine_frozen *frozen, struct slice lo, struct slice hi, struct buffer *out)
{
    uint64_t count = view_count(frozen->view, lo, hi);
    struct view_cursor *cursor = view_cursor_open(frozen->view, lo, hi, false);
    pack_array(out, 2);
    pack_boolean(out, count <= COMPARE_ROWS);
    if (count <= COMPARE_ROWS)
        tell_rows(cursor, count, out);
    else
        tell_parts(cursor, count, out);
    view_cursor_close(cursor);
}

/* --- holding against -------------------------------------------------------------------------------------------------- */

/* One element of what was told. False: nonsense. */
static bool read_told(struct pack_reader *reader, struct slice *key, struct hash128 *hash)
{
    uint32_t fields = 0;
    return pack_read_array(reader, &fields) == STATUS_OK && fields == 3 &&
           pack_read_text(reader, key) == STATUS_OK && pack_read_u64(reader, &hash->hi) == STATUS_OK &&
           pack_read_u64(reader, &hash->lo) == STATUS_OK;
}

/* The own rows, one ahead. */
struct own {
    const struct view *view;
    struct view_cursor *cursor;
    bool there;
    struct slice key;
    struct slice value;
    struct hash128 kept;
};

static void next_own(struct own *own)
{
    own->there = view_cursor_next_kept(own->cursor, &own->key, &own->value, &own->kept);
}

static void say_own(const struct own *own, const char *how, struct buffer *what)
{
    struct slice value = own->value;
    (void)due_split(&value);
    say_row(own->view, own->key, what);
    snapshot_say(what, " is ");
    show_value(what, value);
    const bool rotten = !same(own->kept, tree_row_hash(own->key, own->value));
    snapshot_say(what, " here%s%s", rotten ? ", which nobody put, for memory rotted" : "", how);
}

static enum compare_verdict by_rows(struct own *own, struct pack_reader *reader, uint32_t count,
                                    struct buffer *what)
{
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        struct hash128 hash;
        if (!read_told(reader, &key, &hash) || key.size <= ROW_NUMBER_BYTES)
            return COMPARE_NONSENSE;
        int order = own->there ? slice_compare(own->key, key) : 1;
        if (order > 0) {
            say_row(own->view, key, what);
            snapshot_say(what, " is not here, but there");
            return COMPARE_ROW;
        }
        if (order < 0) {
            say_own(own, ", and not there", what);
            return COMPARE_ROW;
        }
        if (!same(hash, tree_row_hash(own->key, own->value))) {
            say_own(own, ", and another there", what);
            return COMPARE_ROW;
        }
        next_own(own);
    }
    if (!own->there)
        return COMPARE_SAME;
    say_own(own, ", and not there", what);
    return COMPARE_ROW;
}

static enum compare_verdict by_parts(struct own *own, struct pack_reader *reader, uint32_t count, struct buffer *lo,
                                     struct buffer *hi)
{
    for (uint32_t i = 0; i < count; i++) {
        struct slice end;
        struct hash128 told;
        unsigned __int128 sum = 0;
        if (!read_told(reader, &end, &told) || (end.size == 0) != (i + 1 == count))
            return COMPARE_NONSENSE;
        for (; own->there && (end.size == 0 || slice_compare(own->key, end) < 0); next_own(own)) {
            struct hash128 hash = tree_row_hash(own->key, own->value);
            sum += (unsigned __int128)hash.hi << 64 | hash.lo;
        }
        if ((uint64_t)sum != told.lo || (uint64_t)(sum >> 64) != told.hi) {
            if (end.size > 0) {
                buffer_clear(hi);
                buffer_append(hi, end.data, end.size);
            }
            return COMPARE_PART;
        }
        buffer_clear(lo);
        buffer_append(lo, end.data, end.size);
    }
    return COMPARE_SAME;
}

enum compare_verdict compare_with(const struct machine_frozen *frozen, struct buffer *lo, struct buffer *hi,
                                  struct slice told, struct buffer *what)
{
    struct pack_reader reader = pack_reader_make(told);
    uint32_t parts = 0;
    uint32_t count = 0;
    bool rows = false;
    if (pack_read_array(&reader, &parts) != STATUS_OK || parts != 2 ||
        pack_read_boolean(&reader, &rows) != STATUS_OK || pack_read_array(&reader, &count) != STATUS_OK ||
        count > COMPARE_ROWS)
        return COMPARE_NONSENSE;
    struct own own = {.view = frozen->view};
    own.cursor = view_cursor_open(frozen->view, buffer_slice(lo), buffer_slice(hi), false);
    next_own(&own);
    enum compare_verdict verdict =
        rows ? by_rows(&own, &reader, count, what) : by_parts(&own, &reader, count, lo, hi);
    view_cursor_close(own.cursor);
    return verdict;
}

/* --- against itself --------------------------------------------------------------------------------------------------- */

static void say_rotten(const struct view *view, struct slice key, struct slice value, struct buffer *what)
{
    (void)due_split(&value);
    say_row(view, key, what);
    snapshot_say(what, " is ");
    show_value(what, value);
    snapshot_say(what, ", which nobody put: memory rotted");
}

bool compare_self(const struct machine_frozen *frozen, struct buffer *from, uint64_t bytes_max, struct buffer *what)
{
    struct slice key = {0};
    struct slice value;
    struct hash128 kept;
    unsigned __int128 sum = 0;
    const bool all = from->size == 0;
    bool well = true;
    bool more = false;
    uint64_t bytes = 0;
    struct view_cursor *cursor = view_cursor_open(frozen->view, buffer_slice(from), slice_make(NULL, 0), false);
    while (well && !more && view_cursor_next_kept(cursor, &key, &value, &kept)) {
        more = bytes >= bytes_max;
        struct hash128 hash = tree_row_hash(key, value);
        sum += (unsigned __int128)hash.hi << 64 | hash.lo;
        bytes += key.size + value.size;
        well = more || same(hash, kept) || MUTANT(184);
    }
    buffer_clear(from);
    if (more)
        buffer_append(from, key.data, key.size);
    view_cursor_close(cursor);
    if (!well) {
        say_rotten(frozen->view, key, value, what);
    } else if (all && !more && !MUTANT(184)) {
        struct hash128 digest = view_digest(frozen->view);
        well = (uint64_t)sum == digest.lo && (uint64_t)(sum >> 64) == digest.hi;
        if (!well)
            snapshot_say(what, "the rows do not sum to their digest: memory rotted");
    }
    return well;
}

/* --- for proofs ------------------------------------------------------------------------------------------------------- */

/* Whether the row is still one after the flip: its value is whole, and its deadline as it was. */
static bool survives(struct slice key, struct slice value)
{
    struct buffer flipped = {0};
    struct slice rest;
    bool user = row_number(key) >= VM_MAPS_FIRST && value.size > 0;
    if (!user)
        return false;
    buffer_append(&flipped, value.data, value.size);
    flipped.data[flipped.size - 1] ^= 1;
    struct slice inner = buffer_slice(&flipped);
    (void)due_split(&inner);
    struct pack_reader reader = pack_reader_make(inner);
    bool whole =
        inner.size > 0 && pack_skip(&reader, PACK_DEPTH_MAX, &rest) == STATUS_OK && rest.size == inner.size;
    buffer_close(&flipped);
    return whole;
}

bool machine_rot(struct machine *machine, uint64_t rank, struct buffer *what)
{
    struct view *view = tree_view(machine->tree);
    struct slice key;
    struct slice value;
    struct buffer found = {0};
    uint64_t at = 0;
    rank = view_rows(view) > 0 ? rank % view_rows(view) : 0;
    struct view_cursor *cursor = view_cursor_open(view, slice_make(NULL, 0), slice_make(NULL, 0), false);
    for (bool there = false; !there && view_cursor_next(cursor, &key, &value); at++) {
        if ((at < rank && found.size > 0) || !survives(key, value))
            continue;
        there = at >= rank;
        buffer_clear(&found); /* the first of all, unless there is one from `rank` on */
        buffer_append(&found, key.data, key.size);
    }
    view_cursor_close(cursor);
    bool rotten = found.size > 0 && tree_rot(machine->tree, buffer_slice(&found), 0);
    if (rotten)
        say_row(view, buffer_slice(&found), what);
    buffer_close(&found);
    tree_view_release(machine->tree, view);
    return rotten;
}
