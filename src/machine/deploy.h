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
 * Depends on script/bundle.h.
 */
#ifndef MACHINE_DEPLOY_H
#define MACHINE_DEPLOY_H

#include "script/bundle.h"

#define MIGRATE_BUDGET_MAX 100000000000 /* instructions: minutes */

enum {
    DEPLOY_HASH_BYTES = 33,                          /* of a hash as text, its zero included */
    DEPLOY_BYTES_MAX = BUNDLE_BYTES_MAX + 64 * 1024, /* of a request or an entry */
    DEPLOY_MORE_MAX = 1000 * 1000                    /* steps of a migration */
};

/* Makes the payload of a request's arguments: tidelock.deploy [{kind, mount, expect[, budget][, any_version]}, bundle], or tidelock.undeploy
 * [{kind, mount, expect[, abort]}]. NULL, or why not. */
const char *deploy_from_request(struct slice args, bool undeploy, struct buffer *payload);

/* A hash as it is shown and compared. */
void deploy_hash_text(struct hash128 hash, char text[DEPLOY_HASH_BYTES]);

#endif
