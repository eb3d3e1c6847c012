/* machine/deploy_private.h - what the files of machine/ need of deploys and migrations. See machine/deploy.h. Private to machine/.
 *
 * Depends on state, script, wire, machine_private.h.
 */
#ifndef MACHINE_DEPLOY_PRIVATE_H
#define MACHINE_DEPLOY_PRIVATE_H

#include "machine/deploy.h"
#include "machine/machine_private.h"

enum deploy_verb { DEPLOY_PUT, DEPLOY_REMOVE, DEPLOY_ABORT };

struct deploy {
    enum bundle_kind kind;
    enum deploy_verb verb;
    struct slice mount;  /* borrowed, as all of this; empty for a format or policy */
    struct slice expect; /* the hash of the bundle in force, as text; empty: there is none */
    uint64_t budget;     /* of each step of migrate; 0: the limit's */
    bool any_version;    /* the version need not be raised; if it stays, migrate does not run */
    struct slice bundle;
};

/* Reads an entry's payload. NULL, or why it makes no sense: a static sentence. */
const char *deploy_read(struct slice payload, struct deploy *deploy);

/* Applies an entry DEPLOY. The answer: {hash, migrating, mount, unchanged, version}, of what is in force now. */
enum vm_outcome deploy_apply(struct machine *machine, const struct entry *entry, struct buffer *result);

/* deploy_tell.c: answers tidelock.code: of [], the list of {hash, kind, mount, name, version} in force; of [mount] (for the format "" or
 * "(format)", for the policy "(policy)"), its bundle. */
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
