/* storage/snapshot_file.h - a snapshot on disk, and as it is sent: header, chunks each with a hash, footer with the hash of
 * all.
 *
 * Little-endian:
 *    0 u32 crc32c of bytes 4..16+head   4 u32 0x31504E53 ("SNP1")   8 u32 format of this layout: 1   12 u32 head bytes
 *   16 head: opaque bytes here (machine/snapshot.h says what is in it), then chunks:
 *        0 u32 section   4 u32 flags: 1 zstd   8 u32 bytes stored   12 u32 bytes as they were   16 u64 XXH3-64 of bytes
 *        0..16 and of what is stored, seeded with the number of the chunk   24 stored bytes
 *   footer, a chunk of section 0xFFFFFFFF whose stored bytes are: u64 chunks, u64 bytes of the file before the footer, u64
 *   bytes as they were in all, XXH3-128 over the crc of the head and the hashes of all chunks, in order
 *
 * The same state, format and layout give the same bytes on every node: nothing of the node or the hour is in a file. So two
 * files with one whole hash are one file, and a transfer may go on from another node.
 *
 * Names: "snapshot-IIIIIIIIIIIIIIII" (index, hex) is one that counts. "snapshot.new" is being written, "snapshot.in" is being
 * received; both are removed at a start, but "snapshot.in" only if its head is damaged: else its transfer goes on. A file
 * gets its name by: synced, renamed, directory synced. One thread uses a writer or a reader. (Two versions of zstd may pack
 * differently; then two files are told apart, and a transfer begins anew.)
 *
 * Whoever writes syncs after every SNAPSHOT_DIRTY_BYTES. A snapshot left in the page cache until its end would be written
 * back in one go, and the log's writes would queue behind it; a bound of a few MiB keeps that queue short, and an error is
 * met near where it arose. That costs one more flush each few MiB on a thread that nobody waits for. And a snapshot never
 * takes the last SNAPSHOT_SPACE_BYTES of the disk: a log without room for its next segment ends the node, a snapshot
 * without room is only made later. Depends on base, storage/disk.h, zstd.
 */
#ifndef STORAGE_SNAPSHOT_FILE_H
#define STORAGE_SNAPSHOT_FILE_H

#include "base/checksum.h"
#include "raft/types.h"
#include "storage/disk.h"

enum {
    SNAPSHOT_CHUNK_BYTES = 256 * 1024, /* default, as they were; one row may exceed it alone */
    SNAPSHOT_CHUNK_BYTES_MAX = 16 * 1024 * 1024,
    SNAPSHOT_HEAD_BYTES_MAX = 1024 * 1024,
    SNAPSHOT_DIRTY_BYTES = 4 * 1024 * 1024,
    SNAPSHOT_SPACE_BYTES = 32 * 1024 * 1024 /* two segments of the log */
};

#define SNAPSHOT_NEW "snapshot.new"
#define SNAPSHOT_IN  "snapshot.in"
#define SNAPSHOT_OLD "snapshot.old" /* is being removed */

/* What the footer says: enough to know a file by. */
struct snapshot_seal {
    uint64_t chunks;
    uint64_t file_bytes; /* of the file, footer included */
    uint64_t bytes;      /* of all sections as they were */
    struct hash128 hash;
};

void snapshot_name(char name[DISK_NAME_MAX], raft_index index);

/* The files that count, newest first: at most `max` indexes. OK, IO. */
enum status snapshot_list(struct disk *disk, raft_index *indexes, size_t max, size_t *count) MUST_USE;

/* Removes a file, a large one in steps: to free a gigabyte at once keeps synced writes of other files waiting for some 50 ms (ext4).
 * Whatever breaks off, no part of it is left under its name. OK, also if there is none; IO. */
enum status snapshot_remove(struct disk *disk, const char *name) MUST_USE;

/* --- writing -------------------------------------------------------------------------------------------------------- */

struct snapshot_writer;

/* Begins `name` anew. chunk_bytes: 1..SNAPSHOT_CHUNK_BYTES_MAX, 0: default. NO_SPACE, IO (disk->error says it). */
enum status snapshot_writer_open(struct disk *disk, const char *name, struct slice head, uint32_t chunk_bytes,
                                 bool zstd, struct snapshot_writer **writer) MUST_USE;

/* Appends bytes of a section; a chunk ends where the next append would overfill it, or where the section changes. Sections
 * come in rising order. One append lies in one chunk, unless it exceeds SNAPSHOT_CHUNK_BYTES_MAX: then it is split there.
 * After a failure the writer is only to be closed. */
enum status snapshot_writer_append(struct snapshot_writer *writer, uint32_t section, struct slice bytes) MUST_USE;

/* Writes the footer and syncs the file. */
enum status snapshot_writer_seal(struct snapshot_writer *writer, struct snapshot_seal *seal) MUST_USE;

/* Frees it; without a seal the file is worthless, and is removed. */
void snapshot_writer_close(struct snapshot_writer *writer);

/* Makes a sealed file (or a received one that was verified) the one that counts for `index`: synced, renamed, directory
 * synced. After an error either name may be there: a restart tells. OK, NO_SPACE, IO. */
enum status snapshot_publish(struct disk *disk, const char *name, raft_index index) MUST_USE;

/* --- reading -------------------------------------------------------------------------------------------------------- */

struct snapshot_reader;

/* Opens a file and checks its head. OK; NOT_FOUND, CORRUPT, UNSUPPORTED, IO with a sentence in `why` that names the file and
 * the offset. */
enum status snapshot_reader_open(struct disk *disk, const char *name, struct snapshot_reader **reader,
                                 struct buffer *why) MUST_USE;
void snapshot_reader_close(struct snapshot_reader *reader);

/* The head, borrowed until the reader is closed. */
struct slice snapshot_reader_head(const struct snapshot_reader *reader);

/* The next chunk, its hash checked, unpacked; borrowed until the next call. OK with *end true: the footer was read, and it
 * agrees with everything before it. CORRUPT, IO: snapshot_reader_why. */
enum status snapshot_reader_next(struct snapshot_reader *reader, uint32_t *section, struct slice *bytes,
                                 bool *end) MUST_USE;
const char *snapshot_reader_why(const struct snapshot_reader *reader);

/* What the footer said; valid after the end. */
struct snapshot_seal snapshot_reader_seal(const struct snapshot_reader *reader);

/* Reads the footer of a file alone, without the chunks: for an offer. OK, NOT_FOUND, CORRUPT, IO. */
enum status snapshot_read_seal(struct disk *disk, const char *name, struct snapshot_seal *seal) MUST_USE;

/* --- in pieces, for a transfer --------------------------------------------------------------------------------------- */

/* Reads up to `size` bytes of a file at `offset` into `bytes` (appended): a piece of a transfer, of any length. */
enum status snapshot_read_piece(struct disk *disk, const char *name, uint64_t offset, size_t size,
                                struct buffer *bytes) MUST_USE;

/* Appends a piece to SNAPSHOT_IN at exactly `offset`, which is its size (0: begins it anew). What it wrote may not be durable:
 * the whole is, when it is published. NO_SPACE, IO: the file ends at `offset` as before, or is cut by snapshot_resume_at;
 * INVALID if the file does not end at `offset`. */
enum status snapshot_write_piece(struct disk *disk, uint64_t offset, struct slice bytes) MUST_USE;

/* After a start or a broken transfer: how many bytes of SNAPSHOT_IN are whole, checked chunks (its head included); what is
 * behind them is cut off. 0: none. *head gets the head. OK, IO. */
enum status snapshot_resume_at(struct disk *disk, uint64_t *offset, struct buffer *head) MUST_USE;

#endif
