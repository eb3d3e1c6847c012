/* machine/snapshot_build.c - a file into a whole new machine: the host's rows first, for the modules and the numbers of their maps
 * are among them, then the service's, row by row. See machine/snapshot.h. */
#include "base/check.h"
#include "base/mutant.h"
#include "machine/deploy_private.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "machine/snapshot_private.h"
#include "script/bundle.h"
#include "state/view.h"
#include "wire/pack.h"

struct building {
    struct machine *machine;
    struct intake intake;
    bool unnumbered; /* a module has a map without a number */
};

static enum status put_row(void *context, struct slice key, struct slice value, struct buffer *why)
{
    struct building *building = context;
    struct tree *tree = building->machine->tree;
    if (tree_put(tree, key, value)) {
        snapshot_say(why, "a row is put twice: ");
        snapshot_say_row(why, &building->intake.maps, key);
        return STATUS_INVALID;
    }
    tree_commit(tree); /* nothing of this is ever undone */
    if (tree_rows(tree) <= building->intake.head.rows)
        return STATUS_OK;
    snapshot_say(why, "more rows than the state has: ");
    snapshot_say_row(why, &building->intake.maps, key);
    snapshot_say(why, " is one too many");
    return STATUS_INVALID;
}

/* --- from the host's rows to a machine -------------------------------------------------------------------------------- */

/* The number that a map has. */
static uint32_t known_number(void *context, struct slice mount, struct slice map)
{
    struct building *building = context;
    const struct format_maps *maps = &building->intake.maps;
    for (size_t i = 0; i < maps->count; i++)
        if (slice_equal(slice_text(maps->list[i].mount), mount) && slice_equal(slice_text(maps->list[i].name), map))
            return maps->list[i].number;
    building->unnumbered = true;
    return UINT32_MAX;
}

/* Mounts one module; its init ran long ago. */
static enum status restore_mount(struct building *building, struct slice bundle)
{
    struct buffer *why = building->intake.why;
    struct buffer reason = {0};
    enum status status = vm_mount(building->machine->vm, bundle, known_number, building, &reason);
    if (status != STATUS_OK) {
        snapshot_say(why, "%s: its module cannot be loaded here: ", building->intake.name);
        buffer_append(why, reason.data, reason.size);
        status = STATUS_UNSUPPORTED;
    }
    struct slice mount;
    if (status == STATUS_OK && bundle_mount(bundle, &mount) == STATUS_OK)
        migration_load_upgrade(building->machine, mount);
    if (status == STATUS_OK && building->unnumbered) {
        snapshot_say(why, "%s: a map of its modules has no number", building->intake.name);
        status = STATUS_CORRUPT;
    }
    buffer_close(&reason);
    return status;
}

static enum status restore_row(struct building *building, struct slice key, struct slice value)
{
    struct machine *machine = building->machine;
    struct buffer *why = building->intake.why;
    char mount[HOST_TEXT_BYTES];
    char unused[HOST_TEXT_BYTES];
    switch (row_number(key)) {
    case HOST_BUNDLES:
        return restore_mount(building, value);
    case HOST_REFUSED:
        if (!host_texts(key, mount, unused))
            return STATUS_CORRUPT;
        machine_list_refused(machine, slice_text(mount), value);
        return STATUS_OK;
    case HOST_FORMAT:
        return machine_note_format(machine, value, why) == STATUS_OK ? STATUS_OK : STATUS_UNSUPPORTED;
    default:
        return STATUS_OK;
    }
}

/* Makes of the host's rows what they stand for. The rows are read from a view: mounting must not disturb them. */
static enum status restore_host(struct building *building)
{
    struct machine *machine = building->machine;
    const struct intake *intake = &building->intake;
    struct slice key;
    struct slice value;
    enum status status = STATUS_OK;
    machine->limits = intake->limits;
    struct view *view = tree_view(machine->tree);
    struct view_cursor *cursor = view_cursor_open(view, slice_make(NULL, 0), slice_make(NULL, 0), false);
    while (status == STATUS_OK && view_cursor_next(cursor, &key, &value))
        status = restore_row(building, key, value);
    view_cursor_close(cursor);
    tree_view_release(machine->tree, view);
    if (status == STATUS_OK)
        migration_load(machine);
    machine->catalog_version++;
    return status;
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

/* The machine goes on after the head's entry. */
static void restore_facts(struct machine *machine, const struct snapshot_head *head)
{
    machine->applied = head->index;
    machine->term = head->term;
    machine->chain = head->chain;
    machine->now_ms = head->stamp_ms;
    machine->cluster_id = head->cluster_id;
    machine->results_hash = MUTANT(129) ? 0 : head->results_hash;
    machine->configuration_index = head->configuration_index;
    buffer_append(&machine->configuration, head->configuration.data, head->configuration.size);
    digests_add(machine->digests, head->index, machine_digest_now(machine));
}

/* The rows, and with them the digest, must be those of the head. */
static enum status check_state(const struct building *building)
{
    const struct snapshot_head *head = &building->intake.head;
    const struct tree *tree = building->machine->tree;
    struct hash128 sum = tree_digest(tree);
    struct hash128 digest = machine_digest_now(building->machine);
    if (MUTANT(131))
        return STATUS_OK;
    if (tree_rows(tree) == head->rows && tree_bytes(tree) == head->bytes && sum.hi == head->tree_digest.hi &&
        sum.lo == head->tree_digest.lo && digest.hi == head->digest.hi && digest.lo == head->digest.lo)
        return STATUS_OK;
    snapshot_say(building->intake.why,
                 "%s: its rows are not those of the state that its head tells of: %llu rows of %llu bytes, not "
                 "%llu of %llu, or "
                 "another digest",
                 building->intake.name, (unsigned long long)tree_rows(tree), (unsigned long long)tree_bytes(tree),
                 (unsigned long long)head->rows, (unsigned long long)head->bytes);
    return STATUS_INVALID;
}

static enum status build(struct building *building, const struct machine_options *options, struct disk *disk,
                         const char *name)
{
    struct intake *intake = &building->intake;
    enum status status = intake_open(intake, disk, name);
    if (status != STATUS_OK)
        return status;
    atomic_store(&intake->progress->rows, intake->head.rows);
    status = intake_host(intake);
    if (status == STATUS_OK && intake->lossy && !MUTANT(193)) {
        snapshot_say(intake->why,
                     "%s: an export in the format %s, which does not give back the whole state; a backup without "
                     "--format, or in a format that is lossless, can be restored",
                     name, intake->head.format);
        return STATUS_UNSUPPORTED;
    }
    if (status == STATUS_OK)
        status = restore_host(building);
    if (status == STATUS_OK)
        status = intake_service(intake, options->format, options->lua_bytes_max);
    if (status != STATUS_OK)
        return status;
    restore_facts(building->machine, &intake->head);
    membership_load(building->machine);
    return check_state(building);
}

enum status snapshot_build(struct disk *disk, const char *name, const struct machine_options *options,
                           struct snapshot_progress *progress, struct machine **machine, struct snapshot_head *head,
                           struct buffer *configuration, struct buffer *why)
{
    struct building building = {.machine = machine_new_empty(options)};
    building.intake = (struct intake){.why = why, .progress = progress, .row = put_row, .context = &building};
    enum status status = build(&building, options, disk, name);
    *machine = NULL;
    if (status == STATUS_OK) {
        const struct snapshot_head *found = &building.intake.head;
        size_t start = configuration->size;
        *machine = building.machine;
        buffer_append(configuration, found->configuration.data, found->configuration.size);
        if (head != NULL) {
            *head = *found;
            head->configuration = slice_make(configuration->data + start, configuration->size - start);
        }
    } else {
        machine_free(building.machine);
    }
    intake_close(&building.intake);
    return status;
}
