/* machine/machine.h - what applying an entry means.
 *
 * The machine owns the state tree and the Lua host; it is driven by one thread (the machine thread, or the simulator).
 * Entries go in, in index order; results come out. The same entries give the same results, digest and time on every
 * node. A machine that cannot apply (out of memory, native overflow) parks: it applies nothing more and answers nothing,
 * and consensus goes on without it (DESIGN.md: log and state fail apart). Depends on state, script, wire, base.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "base/checksum.h"
#include "wire/entry.h"

struct machine;

struct machine_options {
    size_t lua_bytes_max; /* 0: default 1 GiB; beyond it the node parks, for what did not fit depends on history */
    bool invariants;      /* hold the state against the modules' invariants after each entry: machine_broken */
    /* snapshot_build alone: a bundle of kind "format" that reads in place of the file's own; empty: the file's */
    struct slice format;
    unsigned desk; /* enum desk (script/desk.h): for whoever tries out a service; 0 on a node */
};

/* The answer to one entry or query. */
struct machine_result {
    raft_index index;
    bool ok;       /* value is the MessagePack value; else the error map {code, message, data} */
    size_t offset; /* of the value in machine_results.bytes */
    size_t size;
};

/* Answers of a range, reused from call to call. Zero it before first use. */
struct machine_results {
    struct machine_result *list;
    size_t count;
    size_t capacity;
    struct buffer bytes;
    raft_index events_lost; /* there were too many events: those up to this entry are not there; 0: all are */
    struct buffer
        events; /* MessagePack lists [index, n, "mount.topic", key, data], in order; n from 1 in each entry */
};

struct machine_status {
    raft_index applied;
    struct hash128 digest; /* of the state and of all results, at `applied` */
    uint64_t now_ms;       /* cluster time: the last stamp */
    uint64_t next_due_ms;  /* cluster time from which an entry DUE has something to do; UINT64_MAX: nothing waits */
    bool migrating;        /* an entry MIGRATE with this mount's name for its payload has something to do: */
    char migrating_mount[64];
    uint64_t rows;
    uint64_t bytes;
    uint64_t quota_bytes; /* of the services' rows alone: what the limit "quota" holds down */
    uint64_t sessions;
    uint64_t timers;        /* armed by ctx.at and ctx.after */
    uint64_t timers_failed; /* of timers, on_expire and on_session_end, since the state began */
    uint64_t lua_bytes;
    uint64_t spent;              /* of the budgets of all entries and queries since the machine was made */
    uint64_t lease_drift_ms;     /* the limit of that name */
    uint64_t catalog_version;    /* grows when mounts or limits change: see machine_catalog */
    uint64_t membership_version; /* grows when what machine_pack_membership says is another */
    uint64_t
        review_due_ms; /* cluster time from which an ENTRY_OBSERVATION is due though nothing changed; UINT64_MAX: never */
    raft_index parked_at; /* 0: not parked */
    char parked_why[256];
};

struct machine *machine_new(const struct machine_options *options);
void machine_free(struct machine *machine);

/* Applies whole records, one after another, the first at applied + 1 (checked). With want_results each COMMAND, BATCH, SESSION,
 * DEPLOY, LIMIT, SKIP and MEMBERSHIP entry adds an answer; without, only the digest notices. Events are added either way. Returns the index applied last: less than the last record's
 * only when the machine parked at the next one. A parked machine applies nothing. */
raft_index machine_apply(struct machine *machine, struct slice records, bool want_results,
                         struct machine_results *results);

/* Answers a query, or tidelock.code (machine/deploy.h) (also a command's name: UNKNOWN_COMMAND says which door it needs) from the state as it is. now_ms: 0
 * means the last stamp. Adds one answer, whose index is `applied`. A parked machine answers PARKED. May park. */
void machine_query(struct machine *machine, struct slice name, struct slice args, uint64_t now_ms,
                   struct machine_results *results);

/* Runs a command, or a batch (`name` empty), as if it were the next entry, at cluster time now_ms (0: the last stamp), and takes
 * everything back: a dry run. `ticket` is empty, or [session, seq, done_below]. Adds one answer, whose index is `applied`: an
 * error as it would be, or the map {answer, events}, events being a list of [topic, key, data], without data that is
 * nil. A parked machine answers PARKED. */
void machine_try(struct machine *machine, struct slice name, struct slice args, struct slice ticket,
                 uint64_t now_ms, struct machine_results *results);

/* Parks the machine after what it has applied: its state is not to be trusted. Nothing, if it is parked. */
void machine_park(struct machine *machine, const char *why);

/* Says that the log has a SKIP of entry `index`, before that entry is applied: it will be refused with SKIPPED, and a machine
 * that parked at it goes on. False: it was applied already, so at the SKIP this machine will park. */
bool machine_skip(struct machine *machine, raft_index index);

/* For replays: between two entries, puts a bundle in force in place of its mount's code, of whatever version; migrate runs to its
 * end. False: it was refused, and everything is as it was; `answer` gets the error map. And whether a mount has code. */
bool machine_put_code(struct machine *machine, struct slice bundle, struct buffer *answer);
bool machine_has_code(const struct machine *machine, struct slice mount);

void machine_get_status(const struct machine *machine, struct machine_status *status);

/* With options.invariants: NULL, or which invariant does not hold, and in `index` after which entry: the first one. */
const char *machine_broken(const struct machine *machine, raft_index *index);

/* Whether the last query has looked at the clock: then its answer may be another at another time. */
bool machine_query_timed(const struct machine *machine);

/* The digest at a recent index: of the last 4,096, and of the last 4,096 multiples of MACHINE_DIGEST_STEP; false if it is no
 * longer (or not yet) there. Snapshots under load are taken at such multiples, so that other nodes can still say theirs. */
enum { MACHINE_DIGEST_STEP = 256 };
bool machine_digest_at(const struct machine *machine, raft_index index, struct hash128 *digest);

/* Appends a MessagePack map of everything that status shows of the service: mounts (name, module, version, bundle hash), format, policy,
 * limits, rows and bytes. */
void machine_pack_info(const struct machine *machine, struct buffer *out);

/* Appends the names as machine/catalog.h reads them. */
void machine_catalog(const struct machine *machine, struct buffer *out);

/* Appends the services' rows as they are now: a MessagePack list of [mount, map, key, value], and the deadline of one with a ttl. */
void machine_pack_rows(const struct machine *machine, struct buffer *out);

/* With the option `desk`: what there is to say of the service's code that ran since this was asked last; NULL: nothing. */
const char *machine_take_remark(struct machine *machine);

/* The fingerprint of this runtime: LuaJIT build, sandbox version, number format (DESIGN.md §6). */
uint64_t machine_fingerprint(void);

#endif
