/* machine/deploy.c - see machine/deploy.h. */
#include "machine/deploy_private.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "script/due.h"
#include "state/key.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { TIMERS_NAMED = 5, MOUNT_TEXT = 60 };

/* --- payloads --------------------------------------------------------------------------------------------------------- */

static const char *read_field(struct pack_reader *reader, struct deploy *deploy)
{
    struct slice key;
    struct slice text;
    bool flag = false;
    if (pack_read_text(reader, &key) != STATUS_OK)
        return "a field's name must be text";
    if (slice_equal(key, slice_text("kind"))) {
        return pack_read_text(reader, &text) == STATUS_OK && bundle_kind_named(text, &deploy->kind)
                   ? NULL
                   : "kind must be \"machine\", \"format\" or \"policy\"";
    }
    if (slice_equal(key, slice_text("mount")))
        return pack_read_text(reader, &deploy->mount) == STATUS_OK ? NULL : "mount must be text";
    if (slice_equal(key, slice_text("expect")))
        return pack_read_text(reader, &deploy->expect) == STATUS_OK ? NULL : "expect must be text";
    if (slice_equal(key, slice_text("budget")))
        return pack_read_u64(reader, &deploy->budget) == STATUS_OK && deploy->budget > 0 &&
                       deploy->budget <= MIGRATE_BUDGET_MAX
                   ? NULL
                   : "budget must be a whole number from 1 to 100000000000";
    bool any_version = slice_equal(key, slice_text("any_version"));
    if (!any_version && !slice_equal(key, slice_text("undeploy")) && !slice_equal(key, slice_text("abort")))
        return "a field is not known; there are kind, mount, expect, budget, any_version, undeploy, abort";
    if (pack_read_boolean(reader, &flag) != STATUS_OK)
        return "any_version, undeploy and abort must be true or false";
    if (any_version)
        deploy->any_version = flag;
    else if (flag)
        deploy->verb = slice_equal(key, slice_text("abort")) ? DEPLOY_ABORT : DEPLOY_REMOVE;
    return NULL;
}

static const char *read_fields(struct pack_reader *reader, struct deploy *deploy)
{
    uint32_t count = 0;
    const char *why = NULL;
    *deploy = (struct deploy){0};
    if (pack_read_map(reader, &count) != STATUS_OK)
        return "a deploy begins with a map like {kind = \"machine\", mount = \"kv\", expect = HASH}";
    for (uint32_t i = 0; i < count && why == NULL; i++)
        why = read_field(reader, deploy);
    if (why == NULL && deploy->expect.data == NULL)
        why = "expect is missing: the hash of the bundle that this is to follow, \"\" for none (tidelock status "
              "shows it)";
    if (why == NULL && (deploy->kind == BUNDLE_MACHINE) != (deploy->mount.size > 0))
        why = "a service is deployed at a mount, a format or a policy without one";
    if (why == NULL && deploy->mount.size > MOUNT_TEXT)
        why = "a mount's name has at most 60 bytes";
    return why;
}

const char *deploy_read(struct slice payload, struct deploy *deploy)
{
    struct pack_reader reader = pack_reader_make(payload);
    const char *why = read_fields(&reader, deploy);
    deploy->bundle = pack_rest(&reader);
    return why;
}

const char *deploy_from_request(struct slice args, bool undeploy, struct buffer *payload)
{
    struct pack_reader reader = pack_reader_make(args);
    struct deploy deploy;
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != (undeploy ? 1u : 2u))
        return undeploy ? "the arguments are one map" : "the arguments are a map and a bundle";
    const char *why = read_fields(&reader, &deploy);
    if (why == NULL && !undeploy && deploy.verb != DEPLOY_PUT)
        why = "undeploy and abort are asked of tidelock.undeploy";
    if (why == NULL && !undeploy && pack_read_text(&reader, &deploy.bundle) != STATUS_OK)
        why = "the second argument is a bundle's bytes";
    if (why == NULL && deploy.bundle.size > BUNDLE_BYTES_MAX)
        why = "a bundle has at most 8 MiB";
    if (why != NULL)
        return why;
    pack_map(payload, 5 + (deploy.budget > 0));
    pack_text(payload, slice_text("any_version"));
    pack_boolean(payload, deploy.any_version);
    if (deploy.budget > 0) {
        pack_text(payload, slice_text("budget"));
        pack_u64(payload, deploy.budget);
    }
    pack_text(payload, slice_text("expect"));
    pack_text(payload, deploy.expect);
    pack_text(payload, slice_text("kind"));
    pack_text(payload, slice_text(bundle_kind_name(deploy.kind)));
    pack_text(payload, slice_text("mount"));
    pack_text(payload, deploy.mount);
    pack_text(payload, slice_text(deploy.verb == DEPLOY_ABORT ? "abort" : "undeploy"));
    pack_boolean(payload, undeploy);
    buffer_append(payload, deploy.bundle.data, deploy.bundle.size);
    return NULL;
}

void deploy_hash_text(struct hash128 hash, char text[DEPLOY_HASH_BYTES])
{
    snprintf(text, DEPLOY_HASH_BYTES, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
}

/* --- refusals and answers --------------------------------------------------------------------------------------------- */

static enum vm_outcome refuse(struct buffer *result, enum error_code code, const char *text)
{
    error_pack(result, code, text);
    return VM_REFUSED;
}

static enum vm_outcome refuse_conflict(struct buffer *result, const struct deploy *deploy, const char *in_force)
{
    char text[300];
    const struct slice what = deploy->kind == BUNDLE_FORMAT   ? slice_text("the format")
                              : deploy->kind == BUNDLE_POLICY ? slice_text("the policy")
                                                              : deploy->mount;
    snprintf(text, sizeof text,
             "%.*s was changed meanwhile: %s is in force, not %.*s; look at what it is now, and deploy again",
             (int)what.size, (const char *)what.data, in_force[0] != 0 ? in_force : "nothing",
             (int)(deploy->expect.size < 40 ? deploy->expect.size : 40), (const char *)deploy->expect.data);
    return refuse(result, ERROR_CONFLICT, text);
}

static void pack_answer(struct buffer *result, const char *hash, struct slice mount, double version, bool unchanged,
                        bool migrating)
{
    pack_map(result, 5);
    pack_text(result, slice_text("hash"));
    pack_text(result, slice_text(hash));
    pack_text(result, slice_text("migrating"));
    pack_boolean(result, migrating);
    pack_text(result, slice_text("mount"));
    pack_text(result, mount);
    pack_text(result, slice_text("unchanged"));
    pack_boolean(result, unchanged);
    pack_text(result, slice_text("version"));
    pack_number(result, version);
}

/* --- timers that name functions --------------------------------------------------------------------------------------- */

struct lost_timers {
    const struct machine *machine;
    struct slice mount;
    char names[TIMERS_NAMED * 68];
    size_t named;
};

static void look_for_lost(void *context, const struct due *due, struct slice mount, struct slice name)
{
    struct lost_timers *lost = context;
    char word[68];
    (void)due;
    if (!slice_equal(mount, lost->mount) || vm_has_timer(lost->machine->vm, mount, name) ||
        lost->named == TIMERS_NAMED)
        return;
    snprintf(word, sizeof word, " %.*s", (int)name.size, (const char *)name.data);
    size_t used = strlen(lost->names);
    if (strstr(lost->names, word) != NULL)
        return;
    snprintf(lost->names + used, sizeof lost->names - used, "%s", word);
    lost->named++;
}

/* The new module must have all functions that pending timers name. */
static enum vm_outcome check_timers(struct machine *machine, struct slice mount, struct buffer *result)
{
    struct lost_timers lost = {.machine = machine, .mount = mount};
    char text[600];
    due_each_timer(machine->tree, look_for_lost, &lost);
    if (lost.named == 0 || MUTANT(149))
        return VM_OK;
    snprintf(text, sizeof text,
             "timers are pending that this version has no functions for:%s; keep them until they have fired",
             lost.names);
    return refuse(result, ERROR_CONFLICT, text);
}

struct dropping {
    struct machine *machine;
    struct slice mount;
};

static void drop_timer(void *context, const struct due *due, struct slice mount, struct slice name)
{
    const struct dropping *dropping = context;
    (void)name;
    if (slice_equal(mount, dropping->mount))
        due_drop_timer(dropping->machine->tree, due);
}

/* --- services --------------------------------------------------------------------------------------------------------- */

/* What is in force: its hash as text, "" for nothing. */
static void find_in_force(const struct machine *machine, const struct deploy *deploy, char text[DEPLOY_HASH_BYTES])
{
    struct slice bundle;
    text[0] = 0;
    if (deploy->kind == BUNDLE_FORMAT) {
        if (machine->format.name[0] != 0)
            deploy_hash_text(machine->format.hash, text);
    } else if (deploy->kind == BUNDLE_POLICY) {
        if (machine->membership->policy[0] != 0)
            deploy_hash_text(machine->membership->policy_hash, text);
    } else if (machine_find_bundle(machine, deploy->mount, &bundle)) {
        deploy_hash_text(bundle_hash(bundle), text);
    }
}

/* The same module must grow; another may take the mount with any version. */
static enum vm_outcome check_version(const struct deploy *deploy, const char *old_name, double old_version,
                                     const char *name, double version, struct buffer *result)
{
    const char *what = deploy->kind == BUNDLE_FORMAT ? "the format" : "the mount";
    char text[300];
    if (deploy->any_version || strcmp(old_name, name) != 0 || version > old_version || MUTANT(150))
        return VM_OK;
    snprintf(text, sizeof text, "%s is at version %.0f of %s, and this is version %.0f with other code: raise it",
             what, old_version, name, version);
    return refuse(result, ERROR_CONFLICT, text);
}

/* The module was mounted in place of `old` (none: name[0] 0); its rows follow. */
static enum vm_outcome take_over(struct machine *machine, const struct entry *entry, const struct deploy *deploy,
                                 const char *old_name, double old_version, tree_mark mark, struct buffer *result)
{
    const char *name = NULL;
    double version = 0;
    CHECK(vm_describe(machine->vm, deploy->mount, &name, &version));
    enum vm_outcome outcome = check_version(deploy, old_name, old_version, name, version, result);
    if (outcome == VM_OK)
        outcome = check_timers(machine, deploy->mount, result);
    if (outcome != VM_OK)
        return outcome;
    machine_put_bundle(machine, deploy->mount, deploy->bundle);
    if (old_name[0] != 0 && !migration_begin_upgrade(machine, deploy->mount, (uint64_t)old_version))
        return refuse(
            result, ERROR_CONFLICT,
            "the version in force has upgrade_row, and rows of older versions may be left: this one needs it, too");
    if (old_name[0] != 0 && version == old_version && strcmp(old_name, name) == 0) {
        migration_drop_maps(machine, deploy->mount);
        return VM_OK;
    }
    if (old_name[0] != 0)
        return migration_begin(machine, entry, deploy->mount, (uint64_t)old_version,
                               deploy->budget > 0 ? deploy->budget : machine->limits.migrate_budget, mark, result);
    machine_begin(machine, entry, 0, slice_make(NULL, 0));
    struct buffer answer = {0};
    outcome = vm_init(machine->vm, deploy->mount, &answer);
    vm_end(machine->vm);
    if (outcome == VM_REFUSED)
        buffer_append(result, answer.data, answer.size);
    buffer_close(&answer);
    return outcome;
}

/* Mounts the module in place of the old one, or leaves all as it was. */
static enum vm_outcome replace(struct machine *machine, const struct entry *entry, const struct deploy *deploy,
                               struct buffer *result)
{
    struct buffer why = {0};
    char old_name[64] = "";
    const char *name = NULL;
    double old_version = 0;
    struct vm_aside *aside = NULL;
    tree_mark mark = tree_savepoint(machine->tree);
    if (vm_describe(machine->vm, deploy->mount, &name, &old_version)) {
        snprintf(old_name, sizeof old_name, "%s", name);
        aside = vm_set_aside(machine->vm, deploy->mount);
    }
    enum status status = vm_mount(machine->vm, deploy->bundle, machine_number_map, machine, &why);
    enum vm_outcome outcome = VM_OK;
    if (status == STATUS_INVALID) {
        buffer_append_byte(&why, 0);
        outcome = refuse(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
    } else if (status != STATUS_OK) {
        outcome = VM_PARK;
    } else {
        outcome = take_over(machine, entry, deploy, old_name, old_version, mark, result);
        if (outcome != VM_OK)
            vm_unmount(machine->vm, deploy->mount);
    }
    if (outcome != VM_OK) {
        if (!MUTANT(151))
            tree_rollback(machine->tree, mark);
        if (aside != NULL)
            vm_put_back(machine->vm, aside);
    } else if (aside != NULL) {
        vm_aside_free(machine->vm, aside);
    }
    buffer_close(&why);
    return outcome;
}

static enum vm_outcome put_machine(struct machine *machine, const struct entry *entry, const struct deploy *deploy,
                                   struct buffer *result)
{
    char hash[DEPLOY_HASH_BYTES];
    const char *name = NULL;
    double version = 0;
    struct slice mount;
    struct slice why;
    if (bundle_mount(deploy->bundle, &mount) != STATUS_OK || !slice_equal(mount, deploy->mount))
        return refuse(result, ERROR_BAD_REQUEST, "the bundle was made for another mount");
    bool refused = machine_find_refused(machine, mount, &why);
    enum vm_outcome outcome = replace(machine, entry, deploy, result);
    if (outcome != VM_OK)
        return outcome;
    if (refused)
        machine_forget_refused(machine, mount);
    CHECK(vm_describe(machine->vm, mount, &name, &version));
    deploy_hash_text(bundle_hash(deploy->bundle), hash);
    pack_answer(result, hash, mount, version, false, machine->migration.mount[0] != 0);
    LOG(LOG_INFO, "machine", "mount %.*s is version %.0f of %s from entry %llu on", (int)mount.size,
        (const char *)mount.data, version, name, (unsigned long long)entry->index);
    return VM_OK;
}

/* The mount, its maps and its timers end. The last number of ctx.id stays: if the mount comes again, none comes twice. */
static enum vm_outcome remove_machine(struct machine *machine, const struct deploy *deploy, struct buffer *result)
{
    struct dropping dropping = {.machine = machine, .mount = deploy->mount};
    struct buffer key = {0};
    struct slice why;
    bool mounted = machine_find_bundle(machine, deploy->mount, &why);
    if (!mounted && !machine_find_refused(machine, deploy->mount, &why))
        return refuse(result, ERROR_NOT_FOUND, "there is no such mount");
    if (mounted)
        vm_unmount(machine->vm, deploy->mount);
    else
        machine_forget_refused(machine, deploy->mount);
    due_each_timer(machine->tree, drop_timer, &dropping);
    migration_drop_maps(machine, deploy->mount);
    host_key(&key, HOST_BUNDLES, deploy->mount, slice_make(NULL, 0));
    (void)tree_del(machine->tree, buffer_slice(&key));
    host_key(&key, HOST_UPGRADES, deploy->mount, slice_make(NULL, 0));
    (void)tree_del(machine->tree, buffer_slice(&key));
    buffer_close(&key);
    pack_boolean(result, true);
    return VM_OK;
}

/* --- formats ---------------------------------------------------------------------------------------------------------- */

static enum vm_outcome put_format(struct machine *machine, const struct deploy *deploy, struct buffer *result)
{
    const struct machine_format before = machine->format;
    struct buffer answer = {0};
    char hash[DEPLOY_HASH_BYTES];
    tree_mark mark = tree_savepoint(machine->tree);
    enum bundle_kind kind = BUNDLE_MACHINE;
    if (bundle_kind(deploy->bundle, &kind) != STATUS_OK || kind != BUNDLE_FORMAT)
        return refuse(result, ERROR_BAD_REQUEST, "this is no bundle of a snapshot format");
    enum vm_outcome outcome = machine_take_format(machine, deploy->bundle, &answer);
    if (outcome != VM_OK)
        buffer_append(result, answer.data, answer.size);
    else
        outcome = check_version(deploy, before.name, before.version, machine->format.name, machine->format.version,
                                result);
    buffer_close(&answer);
    if (outcome != VM_OK) {
        tree_rollback(machine->tree, mark);
        machine->format = before;
        return outcome;
    }
    deploy_hash_text(machine->format.hash, hash);
    machine_forget_refused(machine, slice_text(HOST_FORMAT_MOUNT));
    pack_answer(result, hash, slice_text(""), machine->format.version, false, false);
    return VM_OK;
}

static enum vm_outcome remove_format(struct machine *machine, struct buffer *result)
{
    struct buffer key = {0};
    host_key(&key, HOST_FORMAT, slice_text("format"), slice_make(NULL, 0));
    bool there = tree_del(machine->tree, buffer_slice(&key));
    buffer_close(&key);
    machine_forget_refused(machine, slice_text(HOST_FORMAT_MOUNT));
    machine->format = (struct machine_format){0};
    pack_boolean(result, there);
    return VM_OK;
}

/* --- policies --------------------------------------------------------------------------------------------------------- */

/* A policy's version may stay: it has no rows to convert, and `expect` says what it follows. */
static enum vm_outcome put_policy(struct machine *machine, const struct deploy *deploy, struct buffer *result)
{
    struct buffer why = {0};
    char hash[DEPLOY_HASH_BYTES];
    enum bundle_kind kind = BUNDLE_MACHINE;
    enum vm_outcome outcome = VM_OK;
    if (bundle_kind(deploy->bundle, &kind) != STATUS_OK || kind != BUNDLE_POLICY)
        return refuse(result, ERROR_BAD_REQUEST, "this is no bundle of a membership policy");
    if (membership_put_policy(machine, deploy->bundle, &why) == STATUS_OK) {
        machine_forget_refused(machine, slice_text(HOST_POLICY_MOUNT));
        deploy_hash_text(machine->membership->policy_hash, hash);
        pack_answer(result, hash, slice_text(""), machine->membership->policy_version, false, false);
    } else {
        buffer_append_byte(&why, 0);
        outcome = refuse(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
    }
    buffer_close(&why);
    return outcome;
}

static enum vm_outcome remove_policy(struct machine *machine, struct buffer *result)
{
    machine_forget_refused(machine, slice_text(HOST_POLICY_MOUNT));
    pack_boolean(result, membership_drop_policy(machine));
    return VM_OK;
}

/* --- the entry -------------------------------------------------------------------------------------------------------- */

/* The same bundle again: a deploy that was sent twice. */
static bool is_in_force(const struct machine *machine, const struct deploy *deploy, const char *in_force,
                        struct buffer *result)
{
    char hash[DEPLOY_HASH_BYTES];
    const char *name = NULL;
    double version = machine->format.version;
    if (deploy->verb != DEPLOY_PUT)
        return false;
    deploy_hash_text(bundle_hash(deploy->bundle), hash);
    if (strcmp(hash, in_force) != 0 || (deploy->kind == BUNDLE_POLICY && machine->membership->alarm))
        return false; /* a policy that failed is put in force again by the same bundle, too */
    if (deploy->kind == BUNDLE_POLICY)
        version = machine->membership->policy_version;
    if (deploy->kind == BUNDLE_MACHINE)
        CHECK(vm_describe(machine->vm, deploy->mount, &name, &version));
    pack_answer(result, hash, deploy->mount, version, true,
                deploy->kind == BUNDLE_MACHINE && slice_equal(slice_text(machine->migration.mount), deploy->mount));
    return true;
}

static enum vm_outcome abort_migration(struct machine *machine, const struct deploy *deploy, struct buffer *result)
{
    if (machine->migration.mount[0] == 0 || !slice_equal(slice_text(machine->migration.mount), deploy->mount))
        return refuse(result, ERROR_NOT_FOUND, "no migration of this mount goes on");
    pack_boolean(result, true);
    return migration_take_back(machine);
}

static enum vm_outcome put(struct machine *machine, const struct entry *entry, const struct deploy *deploy,
                           struct buffer *result)
{
    switch (deploy->kind) {
    case BUNDLE_FORMAT:
        return put_format(machine, deploy, result);
    case BUNDLE_POLICY:
        return put_policy(machine, deploy, result);
    default:
        return put_machine(machine, entry, deploy, result);
    }
}

static enum vm_outcome take_out(struct machine *machine, const struct deploy *deploy, struct buffer *result)
{
    switch (deploy->kind) {
    case BUNDLE_FORMAT:
        return remove_format(machine, result);
    case BUNDLE_POLICY:
        return remove_policy(machine, result);
    default:
        return remove_machine(machine, deploy, result);
    }
}

enum vm_outcome deploy_apply(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct deploy deploy;
    char in_force[DEPLOY_HASH_BYTES];
    const char *why = deploy_read(entry->payload, &deploy);
    if (why != NULL)
        return refuse(result, ERROR_BAD_REQUEST, why);
    find_in_force(machine, &deploy, in_force);
    if (is_in_force(machine, &deploy, in_force, result))
        return VM_OK;
    if (!slice_equal(deploy.expect, slice_text(in_force)) && !MUTANT(152))
        return refuse_conflict(result, &deploy, in_force);
    if (deploy.verb == DEPLOY_ABORT)
        return abort_migration(machine, &deploy, result);
    if (machine->migration.mount[0] != 0)
        return refuse(result, ERROR_BUSY,
                      "a migration goes on; wait for its end, or end it with tidelock undeploy --abort");
    enum vm_outcome outcome =
        deploy.verb == DEPLOY_REMOVE ? take_out(machine, &deploy, result) : put(machine, entry, &deploy, result);
    machine->catalog_version += outcome == VM_OK;
    return outcome;
}

/* --- replays ---------------------------------------------------------------------------------------------------------- */

bool machine_has_code(const struct machine *machine, struct slice mount)
{
    struct slice bundle;
    return machine_find_bundle(machine, mount, &bundle);
}

/* Runs the steps that a migration has left. */
static enum vm_outcome end_migration(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    struct buffer payload = {0};
    struct entry step = *entry;
    enum vm_outcome outcome = VM_OK;
    pack_text(&payload, slice_text(machine->migration.mount));
    step.payload = buffer_slice(&payload);
    while (outcome == VM_OK && machine->migration.mount[0] != 0) {
        buffer_clear(result);
        outcome = migration_apply(machine, &step, false, result);
    }
    buffer_close(&payload);
    return outcome;
}

bool machine_put_code(struct machine *machine, struct slice bundle, struct buffer *answer)
{
    const struct entry entry = {.index = machine->applied, .term = machine->term};
    struct deploy deploy = {.kind = BUNDLE_MACHINE, .any_version = true, .bundle = bundle};
    if (bundle_mount(bundle, &deploy.mount) != STATUS_OK || deploy.mount.size == 0) {
        error_pack(answer, ERROR_BAD_REQUEST, "not a bundle of a service");
        return false;
    }
    if (machine->migration.mount[0] != 0) {
        error_pack(answer, ERROR_BUSY, "a migration goes on");
        return false;
    }
    vm_events_clear(machine->vm);
    enum vm_outcome outcome = put_machine(machine, &entry, &deploy, answer);
    if (outcome == VM_OK)
        outcome = end_migration(machine, &entry, answer);
    if (outcome == VM_PARK) {
        buffer_clear(answer);
        tree_rollback(machine->tree, 0);
        error_pack(answer, ERROR_SCRIPT_ERROR, "it needs more memory than a Lua state may have");
    }
    tree_commit(machine->tree);
    return outcome == VM_OK;
}
