/* replica/restore_private.h - what restoring a file and recovering a directory share. Private to replica/restore*.c. */
#ifndef REPLICA_RESTORE_PRIVATE_H
#define REPLICA_RESTORE_PRIVATE_H

#include "replica/restore.h"

/* Appends a text to a sentence. */
void restore_say(struct buffer *why, const char *text);

/* Appends what the disk says, if it failed; returns `status`. */
enum status restore_io(struct disk *disk, enum status status, struct buffer *why);

/* Makes the machine one before a new cluster, and writes it as SNAPSHOT_NEW; tells in the report. */
enum status restore_write(struct machine *machine, struct disk *disk, struct snapshot_progress *progress,
                          struct restore_report *report, struct buffer *why) MUST_USE;

#endif
