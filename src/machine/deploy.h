/* machine/deploy.h - code that changes after formation: entries DEPLOY and MIGRATE (DESIGN.md §6 "Code is data in the log").
 *
 * The payload of DEPLOY is a map {kind, mount, expect[, budget][, any_version][, undeploy][, abort]} and, unless one of the last two is true, a
 * bundle (script/bundle.h). It names what it was made against: `expect` is the hash of the bundle in force, "" for none; if
 * another is in force by then, it is a CONFLICT and nothing happens. The new module takes its place at this one index: entries
 * before ran the old code, entries behind run the new one, on every node and in every replay.
 *
 * In place of init, a module that follows another runs `migrate(ctx, from_version)` under a budget of its own (the limit
 * migrate_budget, or the entry's). Maps that it no longer names are in migrate's ctx.db, and are gone when it has ended. If
 * it fails, everything is as it was and the error is the answer. If it returns "more", it goes on in entries MIGRATE, each a step with
 * a budget of its own (machine/migrate.c); until the end the mount answers BUSY, and nothing that waits for a moment happens.
 * Depends on state, script, wire, machine_private.h.
 */
#ifndef MACHINE_DEPLOY_H
#define MACHINE_DEPLOY_H

#include "machine/machine_private.h"
#include "script/bundle.h"

#define MIGRATE_BUDGET_MAX 100000000000 /* instructions: minutes */

enum {
    DEPLOY_HASH_BYTES = 33,                          /* of a hash as text, its zero included */
    DEPLOY_BYTES_MAX = BUNDLE_BYTES_MAX + 64 * 1024, /* of a request or an entry */
    DEPLOY_MORE_MAX = 1000 * 1000                    /* steps of a migration */
};

enum deploy_verb { DEPLOY_PUT, DEPLOY_REMOVE, DEPLOY_ABORT };

struct deploy {
    enum bundle_kind kind;
    enum deploy_verb verb;
    struct slice mount;  /* borrowed, as all of this; empty for a format */
    struct slice expect; /* the hash of the bundle in force, as text; empty: there is none */
    uint64_t budget;     /* of each step of migrate; 0: the limit's */
    bool any_version;    /* the version need not be raised; if it stays, migrate does not run */
    struct slice bundle;
};

/* Reads an entry's payload. NULL, or why it makes no sense: a static sentence. */
const char *deploy_read(struct slice payload, struct deploy *deploy);

/* Makes the payload of a request's arguments: tidelock.deploy [{kind, mount, expect[, budget][, any_version]}, bundle], or tidelock.undeploy
 * [{kind, mount, expect[, abort]}]. NULL, or why not. */
const char *deploy_from_request(struct slice args, bool undeploy, struct buffer *payload);

/* A hash as it is shown and compared. */
void deploy_hash_text(struct hash128 hash, char text[DEPLOY_HASH_BYTES]);

/* Applies an entry DEPLOY. The answer: {hash, migrating, mount, unchanged, version}, of what is in force now. */
enum vm_outcome deploy_apply(struct machine *machine, const struct entry *entry, struct buffer *result);

/* Answers tidelock.code: of [], the list of {hash, kind, mount, name, version} in force; of [mount] (for the format: ""), its bundle. */
enum vm_outcome deploy_tell_code(const struct machine *machine, struct slice args, struct buffer *result);

/* --- migrate.c -------------------------------------------------------------------------------------------------------- */

/* Begins the migration of a mount to the module that was just mounted; `mark`: where this entry's changes begin. VM_OK (the mount
 * is busy if machine->migration says that it goes on), VM_REFUSED (the caller rolls back to its mark), VM_PARK. */
enum vm_outcome migration_begin(struct machine *machine, const struct entry *entry, struct slice mount,
                                uint64_t from_version, uint64_t budget, tree_mark mark, struct buffer *result);

/* Applies an entry MIGRATE: one more step. A step that fails, or is skipped, takes back all. */
enum vm_outcome migration_apply(struct machine *machine, const struct entry *entry, bool skipped,
                                struct buffer *result);

/* Takes back the migration that goes on: rows, maps and code are as they were before its DEPLOY. VM_OK or VM_PARK. */
enum vm_outcome migration_take_back(struct machine *machine);

/* Reads machine->migration from its row: after a rollback, and in a machine that was built. */
void migration_load(struct machine *machine);

/* Appends what status shows of it: nil, or {failed} of the last one that failed, or {from, mount, steps} of the one that goes on. */
void migration_pack(const struct machine *machine, struct buffer *out);

/* Tells the vm whether rows of a mount may be of older versions, as the mount's row says: after it was mounted. */
void migration_load_upgrade(struct machine *machine, struct slice mount);

/* A version with upgrade_row follows `from_version`, or one that had it. False: rows of older versions need one, and there is none. */
bool migration_begin_upgrade(struct machine *machine, struct slice mount, uint64_t from_version);

/* Removes the maps of a mount that its module does not have (no module: all), with all rows and what waits for them. */
void migration_drop_maps(struct machine *machine, struct slice mount);

#endif
