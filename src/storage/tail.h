/* storage/tail.h - the end of the log: the segment that is written to, and the one after it, prewritten with zeros.
 *
 * Private to storage/. How segments are made and what a crash leaves of that: storage/log.h. Depends on base, storage/disk.h.
 */
#ifndef STORAGE_TAIL_H
#define STORAGE_TAIL_H

#include "base/prng.h"
#include "storage/log.h"

struct tail {
    struct disk *disk;
    struct prng prng;       /* salts */
    uint64_t segment_bytes; /* of a new segment, unless a frame needs more */
    struct disk_file *file; /* the last segment; NULL: there is none yet */
    struct segment segment;
    uint64_t offset; /* where its next frame goes */
    uint64_t number; /* of the last frame */
    struct disk_file *spare;
    uint64_t spare_bytes; /* prewritten so far */
    bool spare_failed;    /* not to be tried again before it is needed */
};

/* Prewrites the spare up to `bytes`: at most 1 MiB a call; *more: there is more to do. A failure gives back what it took. */
enum status tail_prepare(struct tail *tail, uint64_t bytes, bool *more) MUST_USE;

/* Goes on to a new segment, with room for a frame that takes `need`: the spare, renamed, directory synced, told of in the
 * segment before it, header written. */
enum status tail_roll(struct tail *tail, uint64_t need) MUST_USE;

/* After a scan whose last frame speaks of a segment without a header (end->next, end->headless): writes that header. */
enum status tail_resume(struct tail *tail, const struct log_end *end) MUST_USE;

void tail_close(struct tail *tail);

#endif
