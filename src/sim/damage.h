/* sim/damage.h - spoils bytes of a stopped node's files, on a simulated disk or a real one. Depends on storage.
 */
#ifndef SIM_DAMAGE_H
#define SIM_DAMAGE_H

#include "storage/disk.h"

enum damage_file { DAMAGE_LOG, DAMAGE_VOTE };

enum { DAMAGE_BYTES_MAX = 1024 * 1024 };

/* What `at` is, if not an offset: the last bytes that mean something: the end of the log's last entries, of the vote's second
 * slot. */
#define DAMAGE_TAIL UINT64_MAX

/* Inverts `bytes` bytes (1 to DAMAGE_BYTES_MAX) of the log, its segments counted as one file, or of the vote, from offset `at`
 * on; durable on return. OK, and `where` gets "log-00000001 at 8192"; else a sentence: INVALID there is no such place, or what
 * the disk gave. No other user of the disk may have the file open. */
enum status damage_bytes(struct disk *disk, enum damage_file which, uint64_t at, size_t bytes,
                         struct buffer *where) MUST_USE;

#endif
