/* machine/mounts.c - modules take their places by entries BUNDLE: numbers of their maps, init, and what is refused. See
 * machine/machine_private.h. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "machine/catalog.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "script/bundle.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { REFUSED_BYTES = 700 /* of the sentence kept */ };

/* Why the module for a mount was refused, if it was. */
bool machine_find_refused(const struct machine *machine, struct slice mount, struct slice *why)
{
    struct buffer key = {0};
    host_key(&key, HOST_REFUSED, mount, slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), why);
    buffer_close(&key);
    struct pack_reader reader = pack_reader_make(found ? *why : slice_make(NULL, 0));
    return found && pack_read_text(&reader, why) == STATUS_OK;
}

/* For a name whose mount has no code, for it was refused, or another's, for it is being migrated: the error that says so. */
bool machine_say_refused(const struct machine *machine, struct slice name, struct buffer *result)
{
    const uint8_t *dot = name.size > 0 ? memchr(name.data, '.', name.size) : NULL;
    struct slice why;
    struct slice mount = slice_make(name.data, dot != NULL ? (size_t)(dot - name.data) : 0);
    if (dot != NULL && slice_equal(mount, slice_text(machine->migration.mount))) {
        error_pack(result, ERROR_BUSY, "this mount is being migrated; try again");
        return true;
    }
    if (dot == NULL || !machine_find_refused(machine, mount, &why))
        return false;
    char text[900];
    refused_sentence(text, sizeof text, mount, why);
    error_pack(result, ERROR_SCRIPT_ERROR, text);
    return true;
}

uint32_t machine_number_map(void *context, struct slice mount, struct slice map)
{
    struct machine *machine = context;
    struct buffer key = {0};
    struct buffer value = {0};
    struct slice known;
    uint64_t number = 0;
    host_key(&key, HOST_MAPS, mount, map);
    if (tree_get(machine->tree, buffer_slice(&key), &known)) {
        struct pack_reader reader = pack_reader_make(known);
        CHECK(pack_read_u64(&reader, &number) == STATUS_OK);
    } else {
        number = host_counter(machine->tree, "maps");
        if (number == 0 || MUTANT(128))
            number = VM_MAPS_FIRST;
        host_counter_set(machine->tree, "maps", number + 1);
        pack_u64(&value, number);
        (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    }
    buffer_close(&key);
    buffer_close(&value);
    return (uint32_t)number;
}

bool machine_find_bundle(const struct machine *machine, struct slice mount, struct slice *bundle)
{
    struct buffer key = {0};
    host_key(&key, HOST_BUNDLES, mount, slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), bundle);
    buffer_close(&key);
    return found;
}

void machine_put_bundle(struct machine *machine, struct slice mount, struct slice bundle)
{
    struct buffer key = {0};
    host_key(&key, HOST_BUNDLES, mount, slice_make(NULL, 0));
    (void)tree_put(machine->tree, buffer_slice(&key), bundle);
    buffer_close(&key);
}

void machine_list_refused(struct machine *machine, struct slice mount, struct slice packed_why)
{
    pack_text(&machine->refused, mount);
    buffer_append(&machine->refused, packed_why.data, packed_why.size);
    machine->refused_count++;
}

void machine_forget_refused(struct machine *machine, struct slice mount)
{
    struct buffer key = {0};
    struct buffer listed = {0};
    uint32_t count = machine->refused_count;
    host_key(&key, HOST_REFUSED, mount, slice_make(NULL, 0));
    (void)tree_del(machine->tree, buffer_slice(&key));
    buffer_append(&listed, machine->refused.data, machine->refused.size);
    struct pack_reader reader = pack_reader_make(buffer_slice(&listed));
    buffer_clear(&machine->refused);
    machine->refused_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name, why;
        CHECK(pack_read_text(&reader, &name) == STATUS_OK);
        CHECK(pack_skip(&reader, 1, &why) == STATUS_OK);
        if (!slice_equal(name, mount))
            machine_list_refused(machine, name, why);
    }
    buffer_close(&listed);
    buffer_close(&key);
}

/* The module has no place: that is a fact of the state, so that all nodes say the same, and the others go on. */
static void keep_refused(struct machine *machine, struct slice mount, struct slice why)
{
    struct buffer key = {0};
    struct buffer value = {0};
    host_key(&key, HOST_REFUSED, mount, slice_make(NULL, 0));
    pack_text(&value, slice_make(why.data, why.size < REFUSED_BYTES ? why.size : REFUSED_BYTES));
    (void)tree_put(machine->tree, buffer_slice(&key), buffer_slice(&value));
    machine_list_refused(machine, mount, buffer_slice(&value));
    buffer_close(&key);
    buffer_close(&value);
    LOG(LOG_ERROR, "machine", "the module for mount %.*s was refused: %.*s", (int)mount.size,
        (const char *)mount.data, (int)why.size, (const char *)why.data);
}

enum status machine_note_format(struct machine *machine, struct slice bundle, struct buffer *why)
{
    struct format *format = NULL;
    enum status status = format_open(bundle, machine_lua_bytes_default, &format, why);
    if (status != STATUS_OK)
        return status;
    snprintf(machine->format.name, sizeof machine->format.name, "%s", format_name(format));
    machine->format.version = format_version(format);
    machine->format.hash = bundle_hash(bundle);
    format_close(format);
    return STATUS_OK;
}

/* The module mounts, and its init runs. */
static enum vm_outcome mount_bundle(struct machine *machine, const struct entry *entry, struct slice mount,
                                    struct buffer *result)
{
    struct buffer why = {0};
    enum status status = vm_mount(machine->vm, entry->payload, machine_number_map, machine, &why);
    if (status == STATUS_INVALID) {
        buffer_append_byte(&why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
    }
    buffer_close(&why);
    if (status != STATUS_OK)
        return status == STATUS_INVALID ? VM_REFUSED : VM_PARK;
    machine_put_bundle(machine, mount, entry->payload);
    machine_begin(machine, entry, 0, slice_make(NULL, 0));
    enum vm_outcome outcome = vm_init(machine->vm, mount, result);
    vm_end(machine->vm);
    if (outcome != VM_OK)
        vm_unmount(machine->vm, mount);
    return outcome;
}

enum vm_outcome machine_take_format(struct machine *machine, struct slice bundle, struct buffer *result)
{
    struct buffer why = {0};
    struct buffer key = {0};
    enum vm_outcome outcome = VM_OK;
    if (machine_note_format(machine, bundle, &why) == STATUS_OK) {
        host_key(&key, HOST_FORMAT, slice_text("format"), slice_make(NULL, 0));
        (void)tree_put(machine->tree, buffer_slice(&key), bundle);
        pack_nil(result);
    } else {
        buffer_append_byte(&why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
        outcome = VM_REFUSED;
    }
    buffer_close(&key);
    buffer_close(&why);
    return outcome;
}

/* The policy that the cluster begins with. */
static enum vm_outcome take_policy(struct machine *machine, struct slice bundle, struct buffer *result)
{
    struct buffer why = {0};
    enum vm_outcome outcome = VM_OK;
    if (membership_put_policy(machine, bundle, &why) == STATUS_OK) {
        pack_nil(result);
    } else {
        buffer_append_byte(&why, 0);
        error_pack(result, ERROR_SCRIPT_ERROR, (const char *)why.data);
        outcome = VM_REFUSED;
    }
    buffer_close(&why);
    return outcome;
}

/* Whether what the bundle is for is there already, or was refused. */
static bool is_settled(const struct machine *machine, enum bundle_kind kind, struct slice mount)
{
    struct slice known = {0};
    if (machine_find_refused(machine, mount, &known))
        return true;
    switch (kind) {
    case BUNDLE_FORMAT:
        return machine->format.name[0] != 0;
    case BUNDLE_POLICY:
        return machine->membership->policy[0] != 0;
    default:
        return machine_find_bundle(machine, mount, &known);
    }
}

/* A module takes its place. The same mount again says nothing new: two leaders may both have proposed it. */
enum vm_outcome machine_apply_bundle(struct machine *machine, const struct entry *entry, struct buffer *result)
{
    enum bundle_kind kind = BUNDLE_MACHINE;
    struct slice mount = {0};
    if (bundle_kind(entry->payload, &kind) != STATUS_OK || bundle_mount(entry->payload, &mount) != STATUS_OK) {
        error_pack(result, ERROR_BAD_REQUEST, "not a bundle");
        return VM_REFUSED;
    }
    if (kind != BUNDLE_MACHINE)
        mount = slice_text(kind == BUNDLE_FORMAT ? HOST_FORMAT_MOUNT : HOST_POLICY_MOUNT);
    if (is_settled(machine, kind, mount)) {
        pack_nil(result);
        return VM_OK;
    }
    tree_mark mark = tree_savepoint(machine->tree);
    enum vm_outcome outcome = kind == BUNDLE_FORMAT   ? machine_take_format(machine, entry->payload, result)
                              : kind == BUNDLE_POLICY ? take_policy(machine, entry->payload, result)
                                                      : mount_bundle(machine, entry, mount, result);
    if (outcome == VM_REFUSED) {
        struct slice code = {0}, message = {0}, data = {0};
        tree_rollback(machine->tree, mark);
        CHECK(error_unpack(buffer_slice(result), &code, &message, &data) == STATUS_OK);
        keep_refused(machine, mount, message);
    }
    host_counter_set(machine->tree, "bundles", host_counter(machine->tree, "bundles") + 1);
    machine->catalog_version += outcome != VM_PARK;
    return outcome;
}
