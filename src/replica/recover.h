/* replica/recover.h - what a node begins with: the newest snapshot that counts, as a machine, and a log that fits it.
 *
 * A crash may have come between a snapshot that was installed and the log's new beginning: then the log is set to begin after
 * the snapshot now. What was being written is removed; what was being received stays, for its transfer goes on. Blocks for as
 * long as reading the snapshot takes; `progress` says how far it is. Depends on machine, storage, replica/jobs.h.
 */
#ifndef REPLICA_RECOVER_H
#define REPLICA_RECOVER_H

#include "replica/jobs.h"

struct replica_recovered {
    struct machine *machine;      /* as the snapshot has it, or a new one; the caller's */
    struct message_snapshot file; /* index 0: there is no snapshot */
    uint64_t stamp_ms;            /* cluster time at the snapshot */
    uint64_t cluster_id;
    raft_index configuration_index;
    struct buffer
        configuration; /* the payload of the entry that made the configuration there; empty: it was restored, and is
                                  * the state before its cluster's formation */
};

/* OK; or CORRUPT, UNSUPPORTED, INVALID, NO_SPACE, IO with a sentence in `why` that names the file and says what to do; then
 * there is nothing to free. */
enum status replica_recover(struct disk *disk, struct storage *storage, const struct machine_options *options,
                            struct snapshot_progress *progress, struct replica_recovered *recovered,
                            struct buffer *why) MUST_USE;

/* Frees all but the machine. */
void replica_recovered_close(struct replica_recovered *recovered);

#endif
