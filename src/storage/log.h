/* storage/log.h - the log on disk: segments of frames of records. Private to storage/.
 *
 * Files "log-XXXXXXXX", numbered without a gap; "log-spare" is the next one, being made; "log-free-XXXXXXXX" was the segment
 * of that number, holds nothing that is wanted, and becomes log-spare when one is needed.
 *
 * Segment, block 0:
 *    0 u32 crc32c of bytes 4..72   4 u32 0x32474553 ("SEG2")   8 u64 segment number   16 u64 salt   24 u64 bytes in all
 *   32 u64 write number of the last frame before this segment   40 u64 index   48 u64 term   56 u64 chain of the last entry
 *   before its first frame, as of then (its base)   64 u32 flags: 1 bytes of a former life may stand behind its end   68 u32 0
 * Frame, from block 1 on, each on a block boundary and padded with zeros to the next:
 *    0 u32 crc32c of bytes 4..72   4 u32 type: 1 entries, 2 cut, 3 mark, 4 next, 5 reset   8 u64 salt of the segment
 *   16 u64 write number   24 u64 write number of the last synced frame   32 u32 bytes (header and records)   36 u32 records
 *   40 u64 first index   48 u64 last index   56 u64 last term   64 u64 chain of the last entry   72 records (wire/entry.h)
 * A cut frame: entries from `first` on are dropped; last, last term, chain: what is the end now. A reset frame: every entry
 * is dropped, and the log goes on after last, last term, chain. A mark: the log was idle, and ended with last, last term.
 * Next: the last frame of a segment, written when the file of the following one is there; `first` is the salt of that one.
 *
 * A block that holds acknowledged bytes is never written again. Write numbers go up by one a frame, over all segments, so
 * nothing can be missing unnoticed; another salt, or a number that falls, is the past of a reused file: the end.
 * A segment is made by: zeros (or a free file, whose block 0 is made zeros), rename to its name, directory synced, a next
 * frame written to the one before, header written (each durable). A crash leaves at most a last segment without a header: it
 * holds nothing, and is removed or, behind a next frame, gets its header. So a missing segment, or one shorter than its
 * header says, is seen.
 *
 * Compaction takes segments away from the front: renamed to be free, or removed; then the directory is synced, before the
 * next one's turn. So a crash leaves no gap, and what is left can be read alone: it begins after the base of its first
 * segment. A cut below that base, in a frame that is left, makes the cut's end the base: then nothing below was wanted.
 * A free file still has its old header until it is the spare, when its first name is durably gone.
 *
 * Recovery reads everything. Bytes that should be a frame and are none are the end of the log if they are the next frame's
 * place in the last segment and nothing valid comes after them: never written, or torn (then its first block is zeroed
 * before anything else is written). Anything else is damage: refused, with file and offset. That the first segment is
 * missing does not show here, but against the snapshot (storage_settle_snapshot).
 */
#ifndef STORAGE_LOG_H
#define STORAGE_LOG_H

#include "raft/types.h"
#include "storage/storage.h"
#include "wire/entry.h"

enum { FRAME_HEADER_BYTES = 72, FRAME_BYTES_MAX = 4 * 1024 * 1024 };
enum frame_type { FRAME_ENTRIES = 1, FRAME_CUT = 2, FRAME_MARK = 3, FRAME_NEXT = 4, FRAME_RESET = 5 };

struct frame {
    uint32_t type;
    uint64_t salt;
    uint64_t number;
    uint64_t synced;
    uint32_t bytes;
    uint32_t count;
    raft_index first;
    raft_index last;
    raft_term last_term;
    uint64_t last_chain;
};

struct segment {
    uint64_t number;
    uint64_t salt;
    uint64_t bytes;
    uint64_t before; /* write number before its first frame */
    struct storage_base base;
    bool reused; /* bytes of a former life may stand behind its end */
};

/* What a scan meets, in order. Any may be NULL. Return false to stop. */
struct log_visitor {
    void *context;
    bool (*segment)(void *context, const char *file, const struct segment *segment);
    bool (*frame)(void *context, const char *file, uint64_t offset, const struct frame *frame);
    bool (*record)(void *context, const char *file, uint64_t offset, const struct entry *entry, struct slice bytes);
};

/* Where a scan ended. */
struct log_end {
    uint64_t segment; /* number of the last segment; 0: no log */
    uint64_t offset;  /* where its next frame goes */
    bool dirty;       /* something stands there that is to be zeroed before a frame is written */
    bool torn;        /* it is half written, not of a former life */
    bool headless;    /* a segment without a header follows: `segment` + 1 */
    uint64_t number;  /* write number of the last frame */
    bool marked;      /* the last frame is a mark */
    bool next;        /* the last frame says that a further segment is there, and its salt */
    uint64_t next_salt;
    struct segment last;
};

/* Reads all segments of the disk. OK; CORRUPT, UNSUPPORTED, IO with a sentence in `why` (file, offset, what to do). */
enum status log_scan(struct disk *disk, const struct log_visitor *visitor, struct log_end *end,
                     struct buffer *why) MUST_USE;

void segment_name(char name[DISK_NAME_MAX], uint64_t number);
void segment_encode(uint8_t block[DISK_BLOCK_BYTES], const struct segment *segment);
void frame_encode(uint8_t header[FRAME_HEADER_BYTES], const struct frame *frame);
bool frame_decode(const uint8_t *at, struct frame *frame);
/* Bytes that a frame takes on disk. */
uint64_t frame_space(uint64_t bytes);

#endif
