/* replica/restore.h - directories that a new cluster begins with: from a snapshot's file, or from a stopped node's data.
 *
 * Both end in a snapshot of the same rows, SNAPSHOT_ANEW_STEP entries further and of no cluster (machine_begin_anew). The new
 * cluster's formation entry follows it, one term later (replica/formation.h).
 *
 * restore_file fills an empty directory: the snapshot, then the file IDENTITY_RESTORED, which says that it is whole. The
 * directory is nobody's yet: a first start with --cluster makes it a node's.
 *
 * restore_alone makes a stopped node's directory that of a cluster of one: nothing of the old one is changed before the
 * new snapshot and IDENTITY_NEXT are durable, and IDENTITY_RECOVERING after them, which lists the old files. From then on it
 * only goes forward: old files get the name RESTORE_ASIDE and theirs, the new ones their places, IDENTITY_RECOVERING goes. A crash
 * before: the old node, and the same command begins anew. A crash after: no start until the same command has ended.
 * Depends on machine, storage, base.
 */
#ifndef REPLICA_RESTORE_H
#define REPLICA_RESTORE_H

#include "machine/snapshot.h"
#include "storage/identity.h"
#include "storage/storage.h"

#define RESTORE_ASIDE "before-recover."

struct restore_report {
    raft_index from;       /* the last entry that the state includes, as the old cluster counted */
    raft_index index;      /* and as the new one does: its first entry follows */
    raft_term term;        /* of the old cluster */
    uint64_t old_cluster;  /* its id */
    uint64_t rows, bytes;  /* of the state */
    struct hash128 digest; /* of the state: as the old head's */
    struct hash128 hash;   /* of the new file: the same for all directories that were restored from the same one */
    uint64_t replayed;     /* entries of the log behind the old snapshot */
    uint64_t aside;        /* files that were put aside */
    uint64_t cluster;      /* restore_alone: the new cluster's id */
};

/* Reads `name` of `source` wholly and writes it into `target`, which must be empty but for what a restore that did not end
 * left. options->format: a bundle that reads it in place of its own format. OK; EXISTS: the directory is not empty;
 * else as snapshot_build and snapshot_take. `why` has a sentence. */
enum status restore_file(struct disk *source, const char *name, const struct machine_options *options,
                         struct disk *target, struct snapshot_progress *progress, struct restore_report *report,
                         struct buffer *why) MUST_USE;

/* What restore_file left: the hash of its file. OK, NOT_FOUND; CORRUPT, UNSUPPORTED, IO with a sentence. */
enum status restore_read_mark(struct disk *disk, struct hash128 *hash, struct buffer *why) MUST_USE;

/* Makes the directory of a stopped node, whose lock the caller holds, that of a cluster of one at `address` (NULL: where it
 * was). `seed` is true randomness. EXISTS: files of an earlier recover are still aside. Others as above; then it is as
 * it was, or the next call goes on. */
enum status restore_alone(struct disk *disk, const char *address, const struct machine_options *options,
                          uint64_t seed, struct snapshot_progress *progress, struct restore_report *report,
                          struct buffer *why) MUST_USE;

/* Whether restore_alone was cut short after the point of no return: the next call ends it. */
bool restore_is_half(struct disk *disk);

#endif
