/* sim/sim_disk.h - a disk in memory that breaks where it is told to (storage/disk.h).
 *
 * It knows what is durable and what is not. Operations that change something are numbered from 1; at one of them the machine
 * can crash (part of that write may be done), or the operation can fail. After a crash every unsynced sector of 512 bytes
 * survives or not, by the seed, and so does every change of names that was not made durable. Depends on storage/disk.h, base.
 */
#ifndef SIM_SIM_DISK_H
#define SIM_SIM_DISK_H

#include "storage/disk.h"

/* Makes an empty disk. Freed by disk->free, after its files were closed. */
struct disk *sim_disk_new(uint64_t seed);

/* Operations so far. */
uint64_t sim_disk_operations(const struct disk *disk);

/* The operation with this number is cut short by a crash: it and all later ones fail. 0: none. */
void sim_disk_crash_at(struct disk *disk, uint64_t operation);

/* The operation with this number, once, fails with `status` and does nothing. 0: none. */
void sim_disk_fail_at(struct disk *disk, uint64_t operation, enum status status);

/* The read that is so many away (1: the next one) fails, once. 0: none. */
void sim_disk_fail_read(struct disk *disk, uint64_t reads);

/* While it is full, nothing new fits: files cannot be made, and cannot grow. Also after a restart. */
void sim_disk_full(struct disk *disk, bool full);

/* Destroys bytes that the disk had promised: flips one bit of what was written, somewhere (`which` says where; false:
 * nothing is there); from that operation on, does not do the next write to a segment of the log or to the vote, but says
 * that it did; or does it elsewhere in the same segment.
 * At most one of these a life; and if at its end the frame it struck is the last of the log, all is as it should be after
 * all: that is the one loss which nobody could notice (DESIGN.md §4). */
bool sim_disk_flip(struct disk *disk, uint64_t which);
void sim_disk_lose_write(struct disk *disk, uint64_t operation);
void sim_disk_misdirect_write(struct disk *disk, uint64_t operation);

/* Whatever was still to come, comes no more. */
void sim_disk_calm(struct disk *disk);

/* Crashes now, between two operations. */
void sim_disk_crash(struct disk *disk);

bool sim_disk_crashed(const struct disk *disk);

/* Power comes back: what was not durable survives in part, by the seed; open files are gone (close them first). */
void sim_disk_restart(struct disk *disk, uint64_t seed);

/* Makes a disk empty; makes it hold what another durably holds; one file of it. No file of `disk`, `to` may be open. */
void sim_disk_wipe(struct disk *disk);
void sim_disk_copy(struct disk *to, const struct disk *from);
void sim_disk_copy_file(struct disk *to, const struct disk *from, const char *name);

#endif
