/* machine/snapshot_check.c - whether a file holds exactly the rows of a state: by their sum, and if not, which one it lost.
 *
 * The sum is that of the tree's digest, whatever the order. The second look, only after the sums differ, marks each row of the
 * view that came back the same, one bit a row by its rank; the first without a mark was lost or changed.
 */
#include "base/memory.h"
#include "base/mutant.h"
#include "machine/host_rows.h"
#include "machine/snapshot_private.h"
#include "script/show.h"

/* --- sums ------------------------------------------------------------------------------------------------------------- */

enum status snapshot_sum_row(void *context, struct slice key, struct slice value, struct buffer *why)
{
    struct snapshot_sum *sum = context;
    struct hash128 hash = tree_row_hash(key, value);
    sum->digest += (unsigned __int128)hash.hi << 64 | hash.lo;
    sum->bytes += key.size + value.size;
    if (++sum->rows <= sum->rows_max)
        return STATUS_OK;
    snapshot_say(why, "more rows than the state has: ");
    snapshot_say_row(why, sum->maps, key);
    snapshot_say(why, " is one too many");
    return STATUS_INVALID;
}

bool snapshot_sum_agrees(const struct snapshot_sum *sum, const struct snapshot_head *head)
{
    if (MUTANT(126))
        return sum->rows == head->rows;
    return sum->rows == head->rows && sum->bytes == head->bytes && (uint64_t)sum->digest == head->tree_digest.lo &&
           (uint64_t)(sum->digest >> 64) == head->tree_digest.hi;
}

/* --- what was lost ---------------------------------------------------------------------------------------------------- */

struct comparing {
    const struct view *view;
    const struct format_maps *maps;
    uint8_t *same;       /* a bit for each row that came back as it was */
    uint64_t changed_at; /* the least rank of a row with another value; UINT64_MAX: none */
    struct buffer changed;
    struct buffer odd; /* the first row that was put though the view has none, or twice */
};

static void note_odd(struct comparing *comparing, struct slice key, const char *what)
{
    if (comparing->odd.size > 0)
        return;
    snapshot_say_row(&comparing->odd, comparing->maps, key);
    snapshot_say(&comparing->odd, " %s", what);
}

static enum status compare_row(void *context, struct slice key, struct slice value, struct buffer *why)
{
    struct comparing *comparing = context;
    struct slice was;
    (void)why;
    if (!view_get(comparing->view, key, &was)) {
        note_odd(comparing, key, "was put, and the state has no such row");
        return STATUS_OK;
    }
    uint64_t rank = view_count(comparing->view, slice_make(NULL, 0), key);
    uint8_t bit = (uint8_t)(1u << (rank % 8));
    if (slice_equal(was, value)) {
        if ((comparing->same[rank / 8] & bit) != 0)
            note_odd(comparing, key, "was put twice");
        comparing->same[rank / 8] |= bit;
    } else if (rank < comparing->changed_at) {
        comparing->changed_at = rank;
        buffer_clear(&comparing->changed);
        snapshot_say_row(&comparing->changed, comparing->maps, key);
        snapshot_say(&comparing->changed, " was ");
        show_value(&comparing->changed, was);
        snapshot_say(&comparing->changed, " and came back as ");
        show_value(&comparing->changed, value);
    }
    return STATUS_OK;
}

/* Says the first row without a mark. False: each has one. */
static bool say_first(const struct comparing *comparing, struct buffer *why)
{
    uint64_t rank = 0;
    struct slice key;
    struct slice value;
    struct view_cursor *cursor = view_cursor_open(comparing->view, slice_make(NULL, 0), slice_make(NULL, 0), false);
    bool found = false;
    while (!found && view_cursor_next(cursor, &key, &value)) {
        found = (comparing->same[rank / 8] & 1u << (rank % 8)) == 0;
        rank += !found;
    }
    if (found && rank == comparing->changed_at) {
        buffer_append(why, comparing->changed.data, comparing->changed.size);
    } else if (found) {
        snapshot_say_row(why, comparing->maps, key);
        snapshot_say(why, " is lost");
    }
    view_cursor_close(cursor);
    return found;
}

void snapshot_say_lost(const struct machine_frozen *frozen, struct disk *disk, const char *name,
                       size_t lua_bytes_max, struct snapshot_progress *progress, struct buffer *why)
{
    struct comparing comparing = {.view = frozen->view, .changed_at = UINT64_MAX};
    struct buffer unsaid = {0};
    struct intake intake = {.why = &unsaid, .progress = progress, .row = compare_row, .context = &comparing};
    comparing.same = mem_zalloc((size_t)(frozen->head.rows / 8 + 1), 1);
    comparing.maps = &intake.maps;
    enum status status = intake_open(&intake, disk, name);
    if (status == STATUS_OK)
        status = intake_host(&intake);
    if (status == STATUS_OK)
        status = intake_service(&intake, slice_make(NULL, 0), lua_bytes_max);
    if (status != STATUS_OK)
        buffer_append(why, unsaid.data, unsaid.size);
    else if (comparing.odd.size > 0)
        buffer_append(why, comparing.odd.data, comparing.odd.size);
    else if (!say_first(&comparing, why))
        snapshot_say(why, "a second look finds nothing wrong: the format does not read the same each time");
    intake_close(&intake);
    buffer_close(&unsaid);
    buffer_close(&comparing.changed);
    buffer_close(&comparing.odd);
    mem_free(comparing.same);
}
