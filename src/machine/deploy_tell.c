/* machine/deploy_tell.c - what code is in force, for whoever asks. See machine/deploy.h. */
#include "base/check.h"
#include "machine/deploy_private.h"
#include "machine/host_rows.h"
#include "machine/membership_private.h"
#include "wire/error.h"
#include "wire/pack.h"

struct telling {
    struct buffer items;
    uint32_t count;
};

static void tell(struct telling *telling, const char *kind, const char *mount, const char *name, double version,
                 struct hash128 hash)
{
    char text[DEPLOY_HASH_BYTES];
    const char *const fields[][2] = {{"hash", text}, {"kind", kind}, {"mount", mount}, {"name", name}};
    deploy_hash_text(hash, text);
    pack_map(&telling->items, 5);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        pack_text(&telling->items, slice_text(fields[i][0]));
        pack_text(&telling->items, slice_text(fields[i][1]));
    }
    pack_text(&telling->items, slice_text("version"));
    pack_number(&telling->items, version);
    telling->count++;
}

static void tell_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    tell(context, "machine", mount, module, version, hash);
}

static bool find_format(const struct machine *machine, struct slice *bundle)
{
    struct buffer key = {0};
    host_key(&key, HOST_FORMAT, slice_text("format"), slice_make(NULL, 0));
    bool found = tree_get(machine->tree, buffer_slice(&key), bundle);
    buffer_close(&key);
    return found;
}

static enum vm_outcome tell_bundle(const struct machine *machine, struct slice mount, struct buffer *result)
{
    struct slice bundle;
    bool format = mount.size == 0 || slice_equal(mount, slice_text(HOST_FORMAT_MOUNT));
    bool policy = slice_equal(mount, slice_text(HOST_POLICY_MOUNT));
    if (format   ? find_format(machine, &bundle)
        : policy ? membership_find_policy(machine, &bundle)
                 : machine_find_bundle(machine, mount, &bundle)) {
        pack_bin(result, bundle);
        return VM_OK;
    }
    error_pack(result, ERROR_NOT_FOUND,
               format   ? "no snapshot format is in force: it is rows"
               : policy ? "no policy is in force: it is manual"
                        : "no code is in force for this mount");
    return VM_REFUSED;
}

enum vm_outcome deploy_tell_code(const struct machine *machine, struct slice args, struct buffer *result)
{
    struct pack_reader reader = pack_reader_make(args);
    const struct membership *policy = machine->membership;
    struct telling telling = {0};
    struct slice mount;
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count > 1 ||
        (count == 1 && pack_read_text(&reader, &mount) != STATUS_OK)) {
        error_pack(result, ERROR_BAD_ARGS, "tidelock.code takes nothing, or a mount");
        return VM_REFUSED;
    }
    if (count == 1)
        return tell_bundle(machine, mount, result);
    vm_mounts(machine->vm, tell_mount, &telling);
    if (machine->format.name[0] != 0)
        tell(&telling, "format", "", machine->format.name, machine->format.version, machine->format.hash);
    if (policy->policy[0] != 0)
        tell(&telling, "policy", "", policy->policy, policy->policy_version, policy->policy_hash);
    pack_array(result, telling.count);
    buffer_append(result, telling.items.data, telling.items.size);
    buffer_close(&telling.items);
    return VM_OK;
}
