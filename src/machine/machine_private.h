/* machine/machine_private.h - the machine's inside, for the files that freeze and build it. Private to machine/. */
#ifndef MACHINE_MACHINE_PRIVATE_H
#define MACHINE_MACHINE_PRIVATE_H

#include "machine/digests.h"
#include "machine/machine.h"
#include "script/format.h"
#include "script/vm.h"
#include "state/tree.h"

static const size_t machine_lua_bytes_default = (size_t)1 << 30;

/* The snapshot format in force, as its row says; name[0] 0: there is none, so rows. */
struct machine_format {
    char name[FORMAT_NAME_BYTES];
    double version;
    struct hash128 hash;
};

/* The migration that goes on (machine/migrate.c), as its row says; mount[0] 0: none does. */
struct machine_migration {
    char mount[64];
    uint64_t from_version;
    uint64_t budget;  /* of each step */
    uint64_t steps;   /* that ran */
    uint64_t journal; /* lines of it */
};

struct membership;

struct machine {
    struct tree *tree;
    struct vm *vm;
    struct vm_limits limits;
    raft_index applied;
    raft_term term;
    uint64_t chain; /* of the entry applied last */
    uint64_t now_ms;
    uint64_t cluster_id;
    raft_index configuration_index;
    struct buffer configuration; /* payload of the entry at that index */
    uint64_t results_hash;       /* of all answers so far */
    uint64_t catalog_version;
    struct machine_format format;
    struct buffer refused; /* pairs: mount, why */
    uint32_t refused_count;
    struct machine_migration migration;
    struct membership *membership; /* machine/membership_private.h */
    struct machine_frozen *frozen; /* what is out, youngest first */
    raft_index *skips;             /* entries that a SKIP of the log names, and that are not applied yet */
    size_t skips_count;
    const struct entry *entry; /* in progress */
    uint64_t parts;            /* of it, that ran */
    raft_index parked_at;
    char parked_why[256];
    struct buffer result;
    bool invariants;
    bool query_timed;
    raft_index broken_at; /* 0: the invariants have held */
    struct buffer broken; /* zero-terminated */
    struct digests *digests;
};

/* --- entries (machine.c) ---------------------------------------------------------------------------------------------- */

/* Begins an entry in the vm: its facts, a full budget. For a part of one (a timer that fires), the number of the part, from 1 on,
 * gives it random numbers of its own; `session` without data: none. vm_end ends it. */
void machine_begin(struct machine *machine, const struct entry *entry, uint64_t part, struct slice session);

/* The seed of what an entry draws, or a query of the state at it. */
uint64_t machine_seed(uint64_t cluster_id, raft_index index);

/* Runs a query on the state as it is, under these limits: the answer is in `result`, and query_timed is set. */
enum vm_outcome machine_ask(struct machine *machine, const struct vm_limits *limits, struct slice name,
                            struct slice args, uint64_t now_ms);

/* The error for a name that is no query. */
void machine_say_no_query(enum vm_kind kind, struct slice name, struct buffer *answer);

/* Adds an answer of this node alone: what parks in an entry ends a query alone, for nothing was changed. */
void machine_answer_alone(struct machine_results *results, raft_index index, enum vm_outcome outcome,
                          struct buffer *answer);

/* Counts an answer, or what came of a part of an entry, in the hash that is in the digest. */
void machine_note_answer(struct machine *machine, enum vm_outcome outcome, struct slice answer);

/* Calls one command; `name` may be of any client's making. A list of [name, args]: all or nothing, and the list of answers. */
enum vm_outcome machine_call(struct machine *machine, struct slice name, struct slice args, struct buffer *result);
enum vm_outcome machine_call_all(struct machine *machine, struct slice list, struct buffer *result);

void machine_add_result(struct machine_results *results, raft_index index, bool ok, struct slice value);

/* --- mounts.c --------------------------------------------------------------------------------------------------------- */

/* Applies an entry BUNDLE. */
enum vm_outcome machine_apply_bundle(struct machine *machine, const struct entry *entry, struct buffer *result);

/* The bundle in force for a mount (borrowed until the tree changes); false: there is none. */
bool machine_find_bundle(const struct machine *machine, struct slice mount, struct slice *bundle);
void machine_put_bundle(struct machine *machine, struct slice mount, struct slice bundle);

/* The number of a mount's map, for vm_mount: the one that it has, or a new one. No number comes twice. */
uint32_t machine_number_map(void *machine, struct slice mount, struct slice map);

/* A mount whose module was refused has another now, or none. */
void machine_forget_refused(struct machine *machine, struct slice mount);

/* A format becomes the one of this state's snapshots. */
enum vm_outcome machine_take_format(struct machine *machine, struct slice bundle, struct buffer *result);

/* Why the module for a mount was refused, if it was. */
bool machine_find_refused(const struct machine *machine, struct slice mount, struct slice *why);

/* For a name whose mount has no code, for it was refused: the error that says so. */
bool machine_say_refused(const struct machine *machine, struct slice name, struct buffer *result);

/* --- for snapshots ---------------------------------------------------------------------------------------------------- */

/* Makes a machine whose tree has no rows at all. */
struct machine *machine_new_empty(const struct machine_options *options);

/* The digest that nodes compare, of the state as it is: the rows', and all answers so far. */
struct hash128 machine_digest_now(const struct machine *machine);

/* Adds to the list of what was refused. */
void machine_list_refused(struct machine *machine, struct slice mount, struct slice packed_why);

/* Opens a format to see that it works, and notes it as the one in force. OK; INVALID with lines in `why`. */
enum status machine_note_format(struct machine *machine, struct slice bundle, struct buffer *why) MUST_USE;

#endif
