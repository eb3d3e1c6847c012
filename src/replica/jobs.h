/* replica/jobs.h - what the replica asks of the log thread and of the machine thread.
 *
 * A job is made by the replica, handed out through struct replica_env, run by job code on the other thread (or at once by
 * the simulator), and handed back through replica_log_done or replica_machine_done. Between that it belongs to the other
 * side. Jobs of a kind are run and come back in order. Depends on storage, machine, wire, base.
 */
#ifndef REPLICA_JOBS_H
#define REPLICA_JOBS_H

#include "machine/machine.h"
#include "storage/storage.h"

enum log_job_type {
    LOG_JOB_WRITE,    /* vote, cut, records: durable when it comes back */
    LOG_JOB_READ,     /* old records, for a lagging follower or for applying after a start */
    LOG_JOB_IDENTITY, /* formation: identity, and the bundles that wait to be entries (kept or removed) */
    LOG_JOB_MARK      /* nothing was written for a while */
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
};

/* Of one job's queries. What is over is asked again, so entries are applied meanwhile and memory has a bound. */
enum { QUERIES_MAX = 1024, ANSWERS_BYTES_MAX = 1024 * 1024 };

enum machine_job_type { MACHINE_JOB_APPLY, MACHINE_JOB_QUERY };

struct machine_query_item {
    uint64_t request;              /* the replica's number for it */
    uint64_t now_ms;               /* 0: the last stamp */
    size_t name_offset, name_size; /* in machine_job.bytes */
    size_t args_offset, args_size;
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
    struct buffer bytes;
    /* both: set by machine_job_run; QUERY: fewer results than queries if the answers are large */
    struct machine_results results;
    struct machine_status status;
    struct buffer catalog; /* filled when status.catalog_version changed with this job */
    struct buffer info;    /* with it: machine_pack_info's bytes */
};

/* Runs a job on the thread that owns the storage; `disk` is its disk. */
void log_job_run(struct log_job *job, struct storage *storage, struct disk *disk);

/* Runs a job on the thread that owns the machine. */
void machine_job_run(struct machine_job *job, struct machine *machine);

/* For whoever holds a job when its replica dies (replica_abandon): frees it, and lets go of what it pinned. */
void log_job_free(struct log_job *job);
void machine_job_free(struct machine_job *job);

#endif
