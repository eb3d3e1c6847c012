/* storage/vote_file.h - term and vote, in two slots. Private to storage/.
 *
 * File "vote", two blocks of DISK_BLOCK_BYTES, slot A and slot B:
 *
 *   0 u32 crc32c of bytes 4..40   4 u32 0x31565454 ("TTV1")   8 u64 counter   16 u64 term   24 u64 voted for   32 u64 0
 *
 * A change is written to A and synced, then to B and synced. A crash leaves one slot whole at least: the one with the
 * higher counter is what counts, since what was promised after both were synced cannot be in neither. Both bad: stop.
 */
#ifndef STORAGE_VOTE_FILE_H
#define STORAGE_VOTE_FILE_H

#include "raft/types.h"
#include "storage/disk.h"

struct vote_file {
    struct disk_file *file;
    uint8_t *block; /* aligned */
    uint64_t counter;
    raft_term term;
    node_id voted_for;
};

/* Opens or, if `create`, makes it with term 0. NOT_FOUND, CORRUPT, IO, with a sentence in `why`. */
enum status vote_file_open(struct disk *disk, bool create, struct vote_file *vote, struct buffer *why) MUST_USE;
enum status vote_file_write(struct disk *disk, struct vote_file *vote, raft_term term, node_id voted_for) MUST_USE;
void vote_file_close(struct disk *disk, struct vote_file *vote);

#endif
