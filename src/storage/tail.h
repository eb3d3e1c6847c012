/* storage/tail.h - the end of the log: the segment that is written to, and the one after it, prewritten with zeros,
 * or made of a segment that compaction gave back.
 *
 * Private to storage/. How segments are made and what a crash leaves of that: storage/log.h. Depends on base, storage/disk.h.
 */
#ifndef STORAGE_TAIL_H
#define STORAGE_TAIL_H

#include "base/prng.h"
#include "storage/log.h"

/* Files that wait to be used again: so many that a log which is compacted steadily writes no zeros, and not more. */
enum { TAIL_FREE_MAX = 8, TAIL_FREE_FOUND_MAX = 16 };

struct tail {
    struct disk *disk;
    struct prng prng;       /* salts */
    uint64_t segment_bytes; /* of a new segment, unless a frame needs more */
    struct disk_file *file; /* the last segment; NULL: there is none yet */
    struct segment segment;
    uint64_t offset; /* where its next frame goes */
    uint64_t number; /* of the last frame */
    struct disk_file *spare;
    uint64_t spare_bytes;               /* prewritten so far */
    bool spare_failed;                  /* not to be tried again before it is needed */
    bool spare_reused;                  /* it holds old frames */
    uint64_t free[TAIL_FREE_FOUND_MAX]; /* numbers of the segments that they were */
    size_t free_count;
};

/* Makes one block of a direct file zeros. */
enum status tail_zero_block(struct disk *disk, struct disk_file *file, uint64_t offset) MUST_USE;

/* Prewrites the spare up to `bytes`: at most 1 MiB a call; *more: there is more to do. A failure gives back what it took. */
enum status tail_prepare(struct tail *tail, uint64_t bytes, bool *more) MUST_USE;

/* Goes on to a new segment after `base`, with room for a frame that takes `need`: the spare, renamed, directory synced, told
 * of in the segment before it, header written. */
enum status tail_roll(struct tail *tail, uint64_t need, const struct storage_base *base) MUST_USE;

/* After a scan whose last frame speaks of a segment without a header (end->next, end->headless): writes that header. */
enum status tail_resume(struct tail *tail, const struct log_end *end, const struct storage_base *base) MUST_USE;

/* At a start: finds the files that wait to be used again. */
enum status tail_find_free(struct tail *tail) MUST_USE;

/* Takes away the oldest segment, of so many bytes: it becomes free, or is removed if enough are. *gone: its name is gone, and
 * whatever the status says it is not to be read again; OK: durably. */
enum status tail_give_back(struct tail *tail, uint64_t number, uint64_t bytes, bool *gone) MUST_USE;

void tail_close(struct tail *tail);

#endif
