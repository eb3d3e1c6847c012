/* storage/index.h - what is known of the log in memory: where its entries are, their terms, and what each segment follows.
 *
 * Private to storage/. The base of a segment is the entry that its first held entry would follow if it were the oldest: its
 * header's, lowered by each cut below it, and replaced by each reset. So the log's base is that of its oldest segment, and
 * a segment holds nothing that is wanted if the next one's base is not above what is wanted no more. Recovery, which reads
 * only what is left, comes to the same bases. Depends on storage/log.h.
 */
#ifndef STORAGE_INDEX_H
#define STORAGE_INDEX_H

#include "storage/log.h"

/* Where the records of one frame are. */
struct place {
    raft_index first;
    raft_index last; /* lowered by a cut */
    uint64_t segment;
    uint64_t offset;
    uint64_t before; /* bytes that the frames before it take, from some frame on that was dropped since */
    uint32_t bytes;
};

struct held_segment {
    uint64_t bytes;
    struct storage_base base;
};

/* A zeroed one is empty. */
struct log_index {
    struct place *places;
    size_t places_count, places_capacity;
    struct raft_run *runs; /* terms of the entries that are held */
    size_t runs_count, runs_capacity;
    struct held_segment *segments;
    size_t segments_count, segments_capacity;
    uint64_t oldest;          /* number of the first of them */
    struct storage_base last; /* the last entry; the base, if none is held */
};

void index_close(struct log_index *index);

/* What the first held entry follows. */
struct storage_base index_base(const struct log_index *index);

/* The next segment; its number is one more than the last one's, unless it is the first. */
void index_add_segment(struct log_index *index, const struct segment *segment);

/* An entry after the last one, and (before or after it) the frame that holds it. */
void index_add_entry(struct log_index *index, const struct entry *entry);
void index_add_place(struct log_index *index, const struct frame *frame, uint64_t segment, uint64_t offset);

/* Entries after `end`, which is what the log ends with now, are dropped. */
void index_cut(struct log_index *index, const struct storage_base *end);

/* All entries are dropped; the log goes on after `base`. */
void index_reset(struct log_index *index, const struct storage_base *base);

/* True if the oldest segment holds no entry above `wanted_no_more`, and is not the last. */
bool index_may_drop(const struct log_index *index, raft_index wanted_no_more);

/* Forgets the oldest segment. */
void index_drop(struct log_index *index);

/* The place of an entry that is held: its position in `places`. */
size_t index_find(const struct log_index *index, raft_index entry);

/* Bytes that the frames with entries above `after` take. */
uint64_t index_bytes_after(const struct log_index *index, raft_index after);

#endif
