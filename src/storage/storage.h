/* storage/storage.h - what a node keeps on disk: vote, log, identity.
 *
 * One thread at a time calls these (the log thread; before it starts, whoever starts the node). Every call blocks until
 * the disk has answered. When a write fails the log is failed for good: the process ends, with one clear last line
 * (DESIGN.md: log and state fail apart). The formats are described where they are written: log.c (segments, frames,
 * marks), vote_file.c, identity.c. Depends on base, raft/types.h, wire/pack.h, wire/entry.h, storage/disk.h.
 */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include "raft/types.h"
#include "storage/disk.h"
#include "storage/identity.h"

enum {
    STORAGE_SEGMENT_BYTES =
        16 * 1024 * 1024, /* default; at least ENTRY_BYTES_MAX and two blocks is enforced by growing */
    STORAGE_READ_BYTES_MAX = 4 * 1024 * 1024 /* one storage_read, unless a single record is larger */
};

struct storage;

struct storage_options {
    uint64_t segment_bytes; /* 0: default; multiple of DISK_BLOCK_BYTES */
    uint64_t seed;          /* for salts */
};

/* A place in the log's history: the last entry before what follows. All 0: before entry 1. */
struct storage_base {
    raft_index index;
    raft_term term;
    uint64_t chain;
};

/* One durable unit: in this order vote, cut or reset, records. */
struct storage_write {
    bool vote;
    raft_term term;
    node_id voted_for;
    raft_index cut_from; /* not 0: entries from here on are dropped */
    bool reset;          /* every entry is dropped; the log goes on after `base` (a snapshot was installed) */
    struct storage_base base;
    const struct slice *records; /* parts, each of whole records, in index order; borrowed for the call */
    size_t records_count;        /* number of parts; 0: none */
    raft_index first;            /* index of the first and the last record */
    raft_index last;
};

/* Opens and recovers: finds the vote, the end of the log, cuts a torn tail (physically, before anything is appended).
 * OK; or CORRUPT, UNSUPPORTED, IO with a sentence in `why` that names file and offset and says what to do. */
enum status storage_open(struct disk *disk, const struct storage_options *options, struct storage **storage,
                         struct buffer *why) MUST_USE;

/* Marks a clean end if the log is idle, closes. Does not free the disk. */
void storage_close(struct storage *storage);

/* What recovery found, kept up to date by storage_write. */
void storage_vote(const struct storage *storage, raft_term *term, node_id *voted_for);
/* What the first entry that is held follows: its index is 0 until the log is compacted or reset. */
struct storage_base storage_base(const struct storage *storage);
raft_index storage_last_index(const struct storage *storage); /* 0: empty */
raft_term storage_last_term(const struct storage *storage);
uint64_t storage_last_chain(const struct storage *storage);
/* The terms of the log as runs; borrowed until the next storage_write. */
size_t storage_runs(const struct storage *storage, const struct raft_run **runs);
/* True if a torn tail was cut at open: an operator is told. */
bool storage_was_torn(const struct storage *storage);

/* Makes one unit durable. OK, NO_SPACE, IO with a sentence from storage_why; then the storage takes no more writes. */
enum status storage_write(struct storage *storage, const struct storage_write *write) MUST_USE;
const char *storage_why(const struct storage *storage);

/* Appends whole records first.. to `records`, as many as fit in bytes_max (at least one), at most up to `last`; `got` is
 * the last one's index. Each is checked (crc, index). OK; NOT_FOUND: `first` is not above the base (it was compacted away);
 * CORRUPT, IO (storage_why). */
enum status storage_read(struct storage *storage, raft_index first, raft_index last, size_t bytes_max,
                         struct buffer *records, raft_index *got) MUST_USE;

/* Bytes of records after `index` that the log holds on disk, padding included: for a policy that compares with a snapshot. */
uint64_t storage_bytes_after(const struct storage *storage, raft_index index);

/* Entries up to `index` are wanted no more: gives back the segments that hold nothing else, oldest first, each removal or
 * reuse durable before the next one begins. The base moves up to the first entry of what is left. At most `segments_max`
 * segments a call, so that no write waits long; *more: call again. The segment that is written to stays. OK, IO
 * (storage_why; the log itself is not failed by it). After a directory that could not be synced nothing more is given back
 * in this life: a later removal might survive a crash that an earlier one does not. */
enum status storage_compact(struct storage *storage, raft_index index, size_t segments_max, bool *more) MUST_USE;

/* Brings the log and the newest snapshot that counts (`snapshot`: what its head says; all 0: there is none) into agreement:
 * after a start, before anything is read from either, and after a snapshot was published. A log that holds the snapshot's
 * last entry, or goes on right after it, is kept. One that ends before it, or has an entry of another term there, is reset to
 * the snapshot, durably (*reset). So a crash between the two leaves no old tail behind a new snapshot.
 * OK; NO_SPACE, IO; CORRUPT: the log begins behind the snapshot (the one that counted is gone), or holds another entry of the
 * same term there; a sentence in `why`. */
enum status storage_settle_snapshot(struct storage *storage, const struct storage_base *snapshot, bool *reset,
                                    struct buffer *why) MUST_USE;

/* Call when nothing was written for 5 ms: writes a mark (last index, term) if the end has none. */
enum status storage_mark(struct storage *storage) MUST_USE;

/* Call when idle or between writes: one small step (at most a millisecond or so of disk time, where nobody else writes) toward
 * having the next segment prewritten, once half of this one is used. True while there is more to do. */
bool storage_prepare(struct storage *storage);

/* Looks at the vote's slots without changing anything. OK; CORRUPT, NOT_FOUND, IO with a sentence. */
struct storage_vote_report {
    raft_term term;
    node_id voted_for;
};
enum status storage_check_vote(struct disk *disk, struct storage_vote_report *report, struct buffer *why) MUST_USE;

/* --- whole small files (identity, bundles that wait for their entries) -------------------------------------------- */

/* Replaces a file's content: written beside, synced, renamed, directory synced; with a crc inside. */
enum status storage_put_file(struct disk *disk, const char *name, struct slice content) MUST_USE;

/* Reads it back. OK, NOT_FOUND, CORRUPT, IO. */
enum status storage_get_file(struct disk *disk, const char *name, struct buffer *content) MUST_USE;

#endif
