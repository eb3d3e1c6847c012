/* replica/jobs.h - what the replica asks of other threads: of the log, the machine, snapshots, transfers, and readers of views.
 *
 * A job is made by the replica, handed out through struct replica_env, run by job code on the other thread (or at once by
 * the simulator), and handed back through replica_log_done, replica_machine_done, replica_snapshot_done or replica_view_done. Between that it
 * belongs to the other side. Jobs of a thread are run and come back in order. Depends on storage, machine, wire, base.
 */
#ifndef REPLICA_JOBS_H
#define REPLICA_JOBS_H

#include "machine/compare.h"
#include "machine/query.h"
#include "machine/snapshot.h"
#include "storage/snapshot_file.h"
#include "storage/storage.h"
#include "wire/message.h"

enum log_job_type {
    LOG_JOB_WRITE,    /* vote, cut, records: durable when it comes back */
    LOG_JOB_READ,     /* old records, for a lagging follower or for applying after a start */
    LOG_JOB_IDENTITY, /* formation: identity, and the bundles that wait to be entries (kept or removed) */
    LOG_JOB_MARK,     /* nothing was written for a while */
    LOG_JOB_COMPACT   /* entries up to `last` are wanted no more */
};

enum { LOG_JOB_PARTS_MAX = 64 };

struct chunk; /* replica/cache.h: records in memory, counted */

struct log_job {
    enum log_job_type type;
    enum status status;   /* set by log_job_run */
    struct log_job *next; /* in the replica's queue */
    char why[640];        /* the sentence, if not OK */
    /* WRITE */
    uint64_t number; /* raft's write number */
    struct storage_write write;
    struct slice parts[LOG_JOB_PARTS_MAX];
    struct chunk *pinned[LOG_JOB_PARTS_MAX];
    raft_index publish; /* not 0: first, what was received becomes the snapshot that counts for this index */
    /* READ */
    node_id for_peer; /* 0: for the machine */
    uint32_t epoch;
    raft_index first;
    raft_index last;
    size_t bytes_max;
    struct buffer records;
    raft_index got;
    struct raft_message append; /* the AppendEntries they are for */
    /* IDENTITY */
    struct identity identity;
    bool put_bundles;  /* write `bundles` before the identity */
    bool drop_bundles; /* they are entries now */
    struct buffer bundles;
    /* COMPACT */
    bool more; /* set: not all of it was given back yet */
};

/* Of one job's queries: how many, bytes of answers, instructions in all. What is over is asked again, so entries are applied
 * meanwhile and memory has a bound. */
enum { QUERIES_MAX = 1024, ANSWERS_BYTES_MAX = 1024 * 1024, QUERIES_WORK_MAX = 20 * QUERY_SLICE };

enum machine_job_type {
    MACHINE_JOB_APPLY,
    MACHINE_JOB_QUERY,
    MACHINE_JOB_LOOK,   /* the digest at an index */
    MACHINE_JOB_FREEZE, /* the state as it is now, for a snapshot */
    MACHINE_JOB_THAW,
    MACHINE_JOB_SHARE, /* the same for somebody who only looks */
    MACHINE_JOB_PARK,  /* for the reason in `bytes`, zero-terminated */
    MACHINE_JOB_ROT,   /* machine_rot, about the row of rank `number`; `bytes`: set, its name */
    MACHINE_JOB_SKIP,  /* the entry `index` is to be skipped */
    MACHINE_JOB_SWAP   /* what was built from a snapshot takes the machine's place */
};

struct machine_query_item {
    uint64_t request;              /* the replica's number for it */
    uint64_t now_ms;               /* 0: the last stamp */
    bool try;                      /* run a command, or a batch (without a name), and take it back */
    size_t name_offset, name_size; /* in machine_job.bytes */
    size_t args_offset, args_size;
    size_t ticket_size;            /* behind the arguments; 0: none */
    bool later;                    /* set: it takes longer than a slice */
    struct machine_frozen *frozen; /* set, then: what to run it over; NULL: too much is frozen already */
};

struct machine_job {
    enum machine_job_type type;
    /* APPLY */
    struct slice records;
    struct chunk *pinned;
    struct buffer owned; /* records read back from disk, instead of a chunk */
    bool want_results;
    raft_index applied; /* set: the index applied last */
    /* QUERY */
    struct machine_query_item *queries;
    size_t queries_count;
    size_t reached; /* set: the first so many were looked at; those that are not `later` have answers, in order */
    struct buffer bytes;
    uint64_t number;  /* SHARE: the replica's, to know whom it is for; ROT */
    uint64_t request; /* ROT: the replica's number for it */
    /* LOOK, SKIP */
    raft_index index;
    bool found; /* set, with the digest */
    struct hash128 digest;
    /* FREEZE, SHARE: set, NULL if the machine is parked. THAW, with a list of more: pointers in `thaw` */
    struct machine_frozen *frozen;
    struct buffer thaw;
    /* SWAP: what was built; then, what was there */
    struct machine *built;
    /* all: set by machine_job_run */
    struct machine_results results;
    struct machine_status status;
    struct buffer catalog;    /* filled when status.catalog_version changed with this job */
    struct buffer info;       /* with it: machine_pack_info's bytes */
    struct buffer membership; /* filled when status.membership_version changed with this job */
};

enum snapshot_job_type {
    /* on the snapshot thread: what may take minutes */
    SNAPSHOT_JOB_TAKE,  /* frozen -> SNAPSHOT_NEW, sealed and read back */
    SNAPSHOT_JOB_BUILD, /* SNAPSHOT_IN -> a machine; it must be the file that was offered */
    SNAPSHOT_JOB_FREE,  /* a machine */
    /* on the transfer thread: files, piece by piece */
    SNAPSHOT_JOB_PUBLISH, /* SNAPSHOT_NEW becomes the one that counts for file.index */
    SNAPSHOT_JOB_REMOVE,  /* the file `name` */
    SNAPSHOT_JOB_CHECK,   /* whether the file of file.index is as it was written */
    SNAPSHOT_JOB_READ,    /* a piece of the file of file.index, for a follower */
    SNAPSHOT_JOB_WRITE,   /* a piece that came, at `offset` of SNAPSHOT_IN */
    SNAPSHOT_JOB_RESUME   /* how much of SNAPSHOT_IN is whole, if it is the file that is offered */
};

struct snapshot_job {
    enum snapshot_job_type type;
    enum status status;            /* set by snapshot_job_run */
    char why[640];                 /* the sentence, if not OK */
    struct message_snapshot file;  /* which; TAKE: set */
    char name[DISK_NAME_MAX];      /* REMOVE */
    struct machine_frozen *frozen; /* TAKE; thawed by whoever made the job */
    struct snapshot_options options;
    struct snapshot_progress *progress; /* TAKE, BUILD; borrowed from the replica, which outlives the job */
    struct machine_options machine_options;
    struct machine *machine;   /* BUILD: set; FREE */
    struct snapshot_head head; /* BUILD: set; its configuration is in the next one */
    struct buffer configuration;
    uint64_t number;     /* the replica's, to know a late one by */
    node_id peer;        /* READ */
    uint64_t offset;     /* READ, WRITE; RESUME: set */
    uint64_t size;       /* READ: at most so many bytes */
    struct buffer bytes; /* WRITE; READ: set */
};

/* Something that is read from a frozen state, whatever is applied meanwhile. */
enum view_job_type {
    VIEW_JOB_QUERY,
    VIEW_JOB_TELL,    /* what the rows between lo and hi sum to, for another node */
    VIEW_JOB_COMPARE, /* holds what another node told against them */
    VIEW_JOB_SCRUB    /* whether rows from `lo` on are as they were put */
};

struct view_job {
    enum view_job_type type;
    struct machine_frozen *frozen; /* borrowed; thawed by whoever made the job */
    /* TELL, COMPARE, SCRUB */
    struct buffer lo, hi;
    struct buffer told;           /* TELL: set; COMPARE */
    enum compare_verdict verdict; /* set; SCRUB: SAME or ROW */
    struct buffer what;           /* set, if it is ROW */
    uint64_t bytes_max;           /* SCRUB */
    /* QUERY */
    uint64_t request; /* the replica's number for it */
    uint64_t now_ms;
    struct buffer bytes; /* its name, then its arguments */
    size_t name_size, args_size;
    struct machine_results results; /* set: one answer */
};

/* Runs a job on the thread that owns the storage; `disk` is its disk. */
void log_job_run(struct log_job *job, struct storage *storage, struct disk *disk);

/* Runs a job on the thread that owns the machine. */
void machine_job_run(struct machine_job *job, struct machine *machine);

/* Runs a job on its thread; `disk` is that thread's own. */
void snapshot_job_run(struct snapshot_job *job, struct disk *disk);

/* Runs a job on a reader's thread. */
void view_job_run(struct view_job *job, struct reader *reader);

/* For whoever holds a job when its replica dies (replica_abandon): frees it, and lets go of what it pinned. What is frozen is
 * the machine's, and thawed before. */
void log_job_free(struct log_job *job);
void machine_job_free(struct machine_job *job);
void snapshot_job_free(struct snapshot_job *job);
void view_job_free(struct view_job *job);

/* As snapshot_read_seal, with a sentence in `why` that names the file. */
enum status snapshot_find_seal(struct disk *disk, const char *name, struct snapshot_seal *seal,
                               struct buffer *why) MUST_USE;

/* The hash of a file's head, by which a receiver knows it again after a restart. OK, NOT_FOUND, CORRUPT, UNSUPPORTED, IO. */
enum status snapshot_hash_head(struct disk *disk, const char *name, uint64_t *hash, struct buffer *why) MUST_USE;

#endif
