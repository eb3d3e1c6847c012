/* machine/snapshot.h - a frozen state to a file and back: taken from a view while entries go on, and built into a new machine.
 *
 *     machine thread                    snapshot thread                          machine thread
 *     machine_freeze ---- frozen -----> snapshot_take: write, read back, verify ----> machine_thaw
 *                                       snapshot_build: a whole new machine ---- machine_swap, then machine_free elsewhere
 *
 * A file (storage/snapshot_file.h) has a head, the host's rows as they are (section 1), and the service's maps in the format
 * of the cluster (section 2): canonical MessagePack rows, or what the format module's `write` makes of them. The format is a
 * row of the tree like all code, so all nodes write the same bytes for the same state. Depends on machine, script, storage,
 * state, wire, base.
 */
#ifndef MACHINE_SNAPSHOT_H
#define MACHINE_SNAPSHOT_H

#include <stdatomic.h>

#include "machine/machine.h"
#include "storage/snapshot_file.h"

enum { SNAPSHOT_SECTION_HOST = 1, SNAPSHOT_SECTION_SERVICE = 2, SNAPSHOT_FORMAT_NAME_MAX = 64 };

/* What a state is, apart from its rows: the head of a file. */
struct snapshot_head {
    raft_index index; /* the last entry that it includes */
    raft_term term;
    uint64_t chain;
    uint64_t stamp_ms;          /* cluster time */
    uint64_t results_hash;      /* of all answers so far (machine/machine.c) */
    struct hash128 tree_digest; /* of the rows alone: what read-back and install must sum to */
    struct hash128 digest;      /* as machine_digest_at gives it: what nodes compare */
    uint64_t rows, bytes;       /* of the tree */
    uint64_t cluster_id;
    raft_index configuration_index;        /* of the entry that made it */
    struct slice configuration;            /* that entry's payload (replica/formation.h), borrowed */
    char format[SNAPSHOT_FORMAT_NAME_MAX]; /* "rows", or the module's name */
    double format_version;
    uint64_t fingerprint; /* of the runtime that wrote it */
};

void snapshot_head_pack(const struct snapshot_head *head, struct buffer *out);
/* OK, CORRUPT, UNSUPPORTED (a newer layout). Borrows from `bytes`. */
enum status snapshot_head_unpack(struct slice bytes, struct snapshot_head *head) MUST_USE;

/* --- the machine's side: its thread ---------------------------------------------------------------------------------- */

/* A view of the rows and the facts of its moment. */
struct machine_frozen;

/* Freezes the state between two entries: O(1). Not of a parked machine (checked). */
struct machine_frozen *machine_freeze(struct machine *machine);

/* As machine_freeze, or what was frozen last, if no entry was applied since: then one holder more. */
struct machine_frozen *machine_share(struct machine *machine);

/* Bytes that only views hold. */
uint64_t machine_frozen_bytes(const struct machine *machine);

/* Gives everything back that is out: before machine_free, where nobody reads any more. */
void machine_thaw_all(struct machine *machine);

/* One holder less; after the last the view goes back: O(1). What the view alone held goes by machine_sweep. */
void machine_thaw(struct machine *machine, struct machine_frozen *frozen);

/* Frees some of what views held and nothing holds any more, for some 20 us. True: there is more. */
bool machine_sweep(struct machine *machine);

/* What was frozen; readable from any thread until it is thawed. */
const struct snapshot_head *machine_frozen_head(const struct machine_frozen *frozen);

/* Makes the state one before the beginning of a new cluster: it goes on `step` entries further (SNAPSHOT_ANEW_STEP, but for
 * simulated worlds, which count every entry), at the same term and chain, and belongs to no cluster until the entry that forms one is applied. Rows, answers' hash and time stay, so the
 * digest does. Of a machine that was built or replayed, and is only to be frozen now. */
#define SNAPSHOT_ANEW_STEP 4294967296
void machine_begin_anew(struct machine *machine, raft_index step);

/* Exchanges two machines: `machine` is what was built, `built` the old state, to be freed where that stops nobody. No view of
 * either may be out. The catalog's version goes on growing, and what
 * machine_skip was told stays. */
void machine_swap(struct machine *machine, struct machine *built);

/* --- anyone's side: a thread of its own ------------------------------------------------------------------------------ */

/* Shared with whoever waits: how far it is, and whether it should go on. Zero it. */
struct snapshot_progress {
    _Atomic uint64_t rows_done;
    _Atomic uint64_t rows; /* in all, as far as known */
    _Atomic bool cancel;   /* set by the other side: the work ends soon with STATUS_CANCELLED */
};

struct snapshot_options {
    uint32_t chunk_bytes; /* 0: SNAPSHOT_CHUNK_BYTES */
    bool zstd;
    size_t lua_bytes_max; /* of the format's own Lua state; 0: the machine's default */
    struct slice
        format; /* a bundle of kind "format" in place of the cluster's: for exports; empty: the cluster's */
    bool lossy; /* an export that may hold less than the state: marked so, not read back, never built from */
};

/* Writes the state to `name`, seals it, and unless `lossy` reads it back through the format's own `read` and compares row sums.
 * OK; NO_SPACE, IO; CANCELLED; INVALID: the format failed or lost something, `why` says what (a row lost or changed: its map and key);
 * then nothing is left of the file. */
enum status snapshot_take(const struct machine_frozen *frozen, const struct snapshot_options *options,
                          struct disk *disk, const char *name, struct snapshot_progress *progress,
                          struct snapshot_seal *seal, struct buffer *why) MUST_USE;

/* Reads the file `name` into a new machine: all hashes, then the digest must agree. The machine has no entry applied beyond
 * the head's. OK; CORRUPT, IO; CANCELLED; UNSUPPORTED: a layout or format that this node cannot read, or an export that is lossy; INVALID: read whole, but the rows
 * are not those of the head. `why` names the file and what is wrong. `head` may be NULL; its `configuration` is appended to
 * `configuration`. */
enum status snapshot_build(struct disk *disk, const char *name, const struct machine_options *options,
                           struct snapshot_progress *progress, struct machine **machine, struct snapshot_head *head,
                           struct buffer *configuration, struct buffer *why) MUST_USE;

/* Counts rows a map, for `snapshot inspect`: appends a MessagePack map of the head, maps and counts, hashes, verdict. */
enum status snapshot_inspect(struct disk *disk, const char *name, struct buffer *out, struct buffer *why) MUST_USE;

#endif
