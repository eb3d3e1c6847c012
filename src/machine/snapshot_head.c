/* machine/snapshot_head.c - the head of a snapshot file as bytes, and a machine's facts frozen into one. See machine/snapshot.h.
 *
 * MessagePack, one list: layout 1, index, term, chain, stamp, results_hash, tree_digest (hi, lo), digest (hi, lo), rows, bytes,
 * cluster id, configuration index, configuration (bin), format, its version, fingerprint.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "machine/format_rows.h"
#include "machine/machine_private.h"
#include "machine/membership_private.h"
#include "machine/snapshot_private.h"
#include "wire/pack.h"

enum { LAYOUT = 1, FIELDS = 18, SWEEP_STEPS = 256 };

static void pack_hash(struct buffer *out, struct hash128 hash)
{
    pack_u64(out, hash.hi);
    pack_u64(out, hash.lo);
}

void snapshot_head_pack(const struct snapshot_head *head, struct buffer *out)
{
    pack_array(out, FIELDS);
    pack_u64(out, LAYOUT);
    pack_u64(out, head->index);
    pack_u64(out, head->term);
    pack_u64(out, head->chain);
    pack_u64(out, head->stamp_ms);
    pack_u64(out, head->results_hash);
    pack_hash(out, head->tree_digest);
    pack_hash(out, head->digest);
    pack_u64(out, head->rows);
    pack_u64(out, head->bytes);
    pack_u64(out, head->cluster_id);
    pack_u64(out, head->configuration_index);
    pack_bin(out, head->configuration);
    pack_text(out, slice_text(head->format));
    pack_number(out, head->format_version);
    pack_u64(out, head->fingerprint);
}

static bool take_u64(struct pack_reader *reader, uint64_t *value)
{
    return pack_read_u64(reader, value) == STATUS_OK;
}

static bool take_hash(struct pack_reader *reader, struct hash128 *hash)
{
    return take_u64(reader, &hash->hi) && take_u64(reader, &hash->lo);
}

static bool take_number(struct pack_reader *reader, double *number)
{
    struct pack_item item;
    if (pack_read(reader, &item) != STATUS_OK || (item.type != PACK_INT && item.type != PACK_FLOAT))
        return false;
    *number = item.type == PACK_INT ? (double)item.integer : item.number;
    return true;
}

enum status snapshot_head_unpack(struct slice bytes, struct snapshot_head *head)
{
    struct pack_reader reader = pack_reader_make(bytes);
    uint32_t fields = 0;
    uint64_t layout = 0;
    struct slice format = {0};
    memset(head, 0, sizeof *head);
    if (pack_read_array(&reader, &fields) != STATUS_OK || !take_u64(&reader, &layout))
        return STATUS_CORRUPT;
    if (layout != LAYOUT)
        return layout > LAYOUT ? STATUS_UNSUPPORTED : STATUS_CORRUPT;
    bool good = fields == FIELDS && take_u64(&reader, &head->index) && take_u64(&reader, &head->term) &&
                take_u64(&reader, &head->chain) && take_u64(&reader, &head->stamp_ms) &&
                take_u64(&reader, &head->results_hash) && take_hash(&reader, &head->tree_digest) &&
                take_hash(&reader, &head->digest) && take_u64(&reader, &head->rows) &&
                take_u64(&reader, &head->bytes) && take_u64(&reader, &head->cluster_id) &&
                take_u64(&reader, &head->configuration_index) &&
                pack_read_text(&reader, &head->configuration) == STATUS_OK &&
                pack_read_text(&reader, &format) == STATUS_OK && take_number(&reader, &head->format_version) &&
                take_u64(&reader, &head->fingerprint) && pack_rest(&reader).size == 0;
    if (!good || format.size == 0 || format.size >= sizeof head->format)
        return STATUS_CORRUPT;
    memcpy(head->format, format.data, format.size);
    return STATUS_OK;
}

/* --- freezing --------------------------------------------------------------------------------------------------------- */

struct machine_frozen *machine_freeze(struct machine *machine)
{
    CHECK_EQ(machine->parked_at, 0);
    struct machine_frozen *frozen = mem_zalloc(1, sizeof *frozen);
    struct snapshot_head *head = &frozen->head;
    bool rows = machine->format.name[0] == 0;
    frozen->view = tree_view(machine->tree);
    frozen->limits = machine->limits;
    buffer_append(&frozen->configuration, machine->configuration.data, machine->configuration.size);
    head->index = machine->applied;
    head->term = machine->term;
    head->chain = machine->chain;
    head->stamp_ms = machine->now_ms;
    head->results_hash = machine->results_hash;
    head->tree_digest = tree_digest(machine->tree);
    head->digest = machine_digest_now(machine);
    head->rows = tree_rows(machine->tree);
    head->bytes = tree_bytes(machine->tree);
    head->cluster_id = machine->cluster_id;
    head->configuration_index = machine->configuration_index;
    head->configuration = buffer_slice(&frozen->configuration);
    head->format_version = rows ? FORMAT_ROWS_VERSION : machine->format.version;
    snprintf(head->format, sizeof head->format, "%s", rows ? FORMAT_ROWS_NAME : machine->format.name);
    head->fingerprint = machine_fingerprint();
    frozen->holders = 1;
    frozen->catalog_version = machine->catalog_version;
    frozen->next = machine->frozen;
    machine->frozen = frozen;
    return frozen;
}

void machine_thaw(struct machine *machine, struct machine_frozen *frozen)
{
    struct machine_frozen **link = &machine->frozen;
    CHECK(frozen->holders > 0);
    if (--frozen->holders > 0)
        return;
    while (*link != frozen)
        link = &(*link)->next;
    *link = frozen->next;
    tree_view_release(machine->tree, frozen->view);
    buffer_close(&frozen->configuration);
    mem_free(frozen);
}

struct machine_frozen *machine_share(struct machine *machine)
{
    struct machine_frozen *last = machine->frozen;
    if (last == NULL || (last->head.index != machine->applied && !MUTANT(189)))
        return machine_freeze(machine);
    last->holders++;
    return last;
}

void machine_thaw_all(struct machine *machine)
{
    while (machine->frozen != NULL)
        machine_thaw(machine, machine->frozen);
}

uint64_t machine_frozen_bytes(const struct machine *machine)
{
    return tree_view_bytes(machine->tree);
}

bool machine_sweep(struct machine *machine)
{
    return tree_sweep(machine->tree, SWEEP_STEPS);
}

const struct snapshot_head *machine_frozen_head(const struct machine_frozen *frozen)
{
    return &frozen->head;
}

void machine_begin_anew(struct machine *machine, raft_index step)
{
    CHECK_EQ(machine->parked_at, 0);
    machine->applied += step;
    machine->cluster_id = 0;
    machine->configuration_index = 0;
    buffer_clear(&machine->configuration);
}

void machine_swap(struct machine *machine, struct machine *built)
{
    CHECK(machine->frozen == NULL);
    CHECK(built->frozen == NULL);
    struct machine old = *machine;
    *machine = *built;
    *built = old;
    built->skips = machine->skips; /* what the log skips is said of the log, not of a state of it */
    built->skips_count = machine->skips_count;
    machine->skips = old.skips;
    machine->skips_count = old.skips_count;
    machine->catalog_version = old.catalog_version + 1;
    machine->membership->version += built->membership->version + 1;
}
