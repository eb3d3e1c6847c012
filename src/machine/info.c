/* machine/info.c - what status and the loop thread are told of the service: mounts, names, limits. See machine/machine.h. */
#include <stdio.h>

#include "machine/deploy_private.h"
#include "machine/format_rows.h"
#include "machine/host_rows.h"
#include "machine/limits.h"
#include "machine/membership_private.h"
#include "wire/pack.h"

struct listing {
    struct buffer items;
    uint32_t count;
};

/* Appends {hash, module or name, version}. */
static void pack_code(struct buffer *out, const char *name_field, const char *name, double version,
                      struct hash128 hash)
{
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
    pack_map(out, 3);
    pack_text(out, slice_text("hash"));
    pack_text(out, slice_text(text));
    pack_text(out, slice_text(name_field));
    pack_text(out, slice_text(name));
    pack_text(out, slice_text("version"));
    pack_number(out, version);
}

static void list_mount(void *context, const char *mount, const char *module, double version, struct hash128 hash)
{
    struct listing *listing = context;
    pack_text(&listing->items, slice_text(mount));
    pack_code(&listing->items, "module", module, version, hash);
    listing->count++;
}

/* Appends {alarm, hash, name, version}. */
static void pack_policy(const struct machine *machine, struct buffer *out)
{
    const struct membership *policy = machine->membership;
    struct slice alarm;
    char text[DEPLOY_HASH_BYTES];
    deploy_hash_text(policy->policy_hash, text);
    pack_map(out, 4);
    pack_text(out, slice_text("alarm"));
    if (membership_get(machine, "alarm", &alarm))
        buffer_append(out, alarm.data, alarm.size);
    else
        pack_nil(out);
    pack_text(out, slice_text("hash"));
    pack_text(out, slice_text(text));
    pack_text(out, slice_text("name"));
    pack_text(out, slice_text(policy->policy[0] != 0 ? policy->policy : "manual"));
    pack_text(out, slice_text("version"));
    pack_number(out, policy->policy_version);
}

void machine_pack_info(const struct machine *machine, struct buffer *out)
{
    struct listing listing = {0};
    const struct machine_format *format = &machine->format;
    vm_mounts(machine->vm, list_mount, &listing);
    pack_map(out, 6);
    pack_text(out, slice_text("format"));
    pack_code(out, "name", format->name[0] != 0 ? format->name : FORMAT_ROWS_NAME,
              format->name[0] != 0 ? format->version : FORMAT_ROWS_VERSION, format->hash);
    pack_text(out, slice_text("limits"));
    limits_pack(&machine->limits, out);
    pack_text(out, slice_text("migration"));
    migration_pack(machine, out);
    pack_text(out, slice_text("mounts"));
    pack_map(out, listing.count);
    buffer_append(out, listing.items.data, listing.items.size);
    buffer_close(&listing.items);
    pack_text(out, slice_text("policy"));
    pack_policy(machine, out);
    pack_text(out, slice_text("refused"));
    pack_map(out, machine->refused_count);
    buffer_append(out, machine->refused.data, machine->refused.size);
}

void machine_pack_rows(const struct machine *machine, struct buffer *out)
{
    vm_pack_rows(machine->vm, out);
}

const char *machine_take_remark(struct machine *machine)
{
    return vm_take_remark(machine->vm);
}

static void list_name(void *context, const char *name, enum vm_kind kind)
{
    struct listing *listing = context;
    pack_text(&listing->items, slice_text(name));
    pack_u64(&listing->items, kind); /* VM_COMMAND, VM_QUERY, VM_RAW stand for the same numbers of the catalog */
    listing->count++;
}

void machine_catalog(const struct machine *machine, struct buffer *out)
{
    struct listing listing = {0};
    vm_names(machine->vm, list_name, &listing);
    pack_u64(out, host_counter(machine->tree, "bundles"));
    pack_array(out, listing.count);
    buffer_append(out, listing.items.data, listing.items.size);
    pack_array(out, machine->refused_count * 2);
    buffer_append(out, machine->refused.data, machine->refused.size);
    buffer_close(&listing.items);
}
