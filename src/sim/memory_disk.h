/* sim/memory_disk.h - a disk in memory that forgets in a crash what was not synced.
 *
 * Implements struct disk. A file has what is there and what is durable; so has the directory. A direct write is durable at
 * once, anything else after sync (content) and sync_directory (names). Outlives the node that uses it.
 * Depends on storage/disk.h, base.
 */
#ifndef SIM_MEMORY_DISK_H
#define SIM_MEMORY_DISK_H

#include "storage/disk.h"

/* An empty disk. `seed` decides what of the unsynced survives a crash. Freed by disk->free. */
struct disk *memory_disk_new(uint64_t seed);

/* Power is lost: open files are closed; each unsynced file and the unsynced names are kept or lost, by chance. */
void memory_disk_crash(struct disk *disk);

/* Forgets everything. No file may be open. */
void memory_disk_wipe(struct disk *disk);

/* Makes `to` hold what `from` durably holds. No file of `to` may be open. */
void memory_disk_copy(struct disk *to, const struct disk *from);

/* Makes a file of `to` what it durably is at `from`. */
void memory_disk_take_file(struct disk *to, const struct disk *from, const char *name);

/* After `steps` more writes, syncs, renames and removals, each further one fails, until a crash. */
void memory_disk_fail_after(struct disk *disk, uint64_t steps);

#endif
