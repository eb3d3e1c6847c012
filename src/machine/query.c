/* machine/query.c - see machine/query.h. */
#include "machine/query.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "machine/host_rows.h"
#include "machine/machine_private.h"
#include "machine/snapshot_private.h"
#include "script/bundle.h"
#include "state/view.h"
#include "wire/error.h"
#include "wire/pack.h"

/* --- on the machine's thread ------------------------------------------------------------------------------------------ */

bool machine_query_briefly(struct machine *machine, struct slice name, struct slice args, uint64_t now_ms,
                           uint64_t *used, struct machine_results *results)
{
    enum vm_kind kind = vm_find(machine->vm, name);
    struct vm_limits limits = machine->limits;
    if (machine->parked_at != 0 || (kind != VM_QUERY && kind != VM_RAW) || limits.budget <= QUERY_SLICE) {
        machine_query(machine, name, args, now_ms, results);
        return true;
    }
    limits.budget = QUERY_SLICE;
    const size_t most = vm_lua_bytes(machine->vm) + QUERY_SLICE_BYTES;
    const size_t bound = vm_bound_memory(machine->vm, most);
    if (bound < most)
        (void)vm_bound_memory(machine->vm, bound);
    buffer_clear(&machine->result);
    const uint64_t before = vm_spent(machine->vm);
    enum vm_outcome outcome = machine_ask(machine, &limits, name, args, now_ms);
    (void)vm_bound_memory(machine->vm, bound);
    *used += vm_spent(machine->vm) - before;
    if (outcome == VM_PARK || vm_ran_out(machine->vm))
        return false;
    machine_answer_alone(results, machine->applied, outcome, &machine->result);
    return true;
}

/* --- on another ------------------------------------------------------------------------------------------------------- */

struct reader {
    struct tree *tree; /* empty: what a vm needs to have */
    struct vm *vm;     /* NULL: nothing is mounted */
    size_t lua_bytes_max;
    uint64_t catalog_version; /* of what is mounted */
    const struct view *view;  /* while it mounts */
    struct buffer answer;
};

struct reader *reader_new(size_t lua_bytes_max)
{
    struct reader *reader = mem_zalloc(1, sizeof *reader);
    reader->tree = tree_new();
    reader->lua_bytes_max = lua_bytes_max > 0 ? lua_bytes_max : machine_lua_bytes_default;
    return reader;
}

static void unmount(struct reader *reader)
{
    if (reader->vm != NULL)
        vm_free(reader->vm);
    reader->vm = NULL;
}

void reader_free(struct reader *reader)
{
    unmount(reader);
    tree_free(reader->tree);
    buffer_close(&reader->answer);
    mem_free(reader);
}

/* A number that a host row of the view is; `otherwise` where there is none. */
static uint64_t number_in(const struct view *view, enum host_kind kind, struct slice first, struct slice second,
                          uint64_t otherwise)
{
    struct buffer key = {0};
    struct slice value = {0};
    uint64_t number = otherwise;
    host_key(&key, kind, first, second);
    if (view_get(view, buffer_slice(&key), &value)) {
        struct pack_reader packed = pack_reader_make(value);
        CHECK(pack_read_u64(&packed, &number) == STATUS_OK);
    }
    buffer_close(&key);
    return number;
}

static uint32_t known_number(void *context, struct slice mount, struct slice map)
{
    const struct reader *reader = context;
    return (uint32_t)number_in(reader->view, HOST_MAPS, mount, map, UINT32_MAX);
}

/* Mounts one module as it is in force in the view: also with rows of older versions. */
static enum status mount_one(struct reader *reader, struct slice bundle, struct buffer *why)
{
    struct slice mount;
    enum status status = vm_mount(reader->vm, bundle, known_number, reader, why);
    if (status == STATUS_OK && bundle_mount(bundle, &mount) == STATUS_OK)
        vm_set_upgrade(reader->vm, mount, number_in(reader->view, HOST_UPGRADES, mount, slice_make(NULL, 0), 0));
    return status;
}

/* Mounts what the view has. False: it cannot be, which the answer says. */
static bool mount_all(struct reader *reader, const struct machine_frozen *frozen)
{
    static const uint8_t lo[ROW_NUMBER_BYTES] = {0, 0, 0, HOST_BUNDLES};
    static const uint8_t hi[ROW_NUMBER_BYTES] = {0, 0, 0, HOST_BUNDLES + 1};
    struct buffer why = {0};
    struct slice key;
    struct slice bundle;
    enum status status = STATUS_OK;
    reader->vm = vm_new(reader->tree, reader->lua_bytes_max);
    reader->view = frozen->view;
    struct view_cursor *cursor =
        view_cursor_open(frozen->view, slice_make(lo, sizeof lo), slice_make(hi, sizeof hi), false);
    while (status == STATUS_OK && view_cursor_next(cursor, &key, &bundle))
        status = mount_one(reader, bundle, &why);
    view_cursor_close(cursor);
    reader->view = NULL;
    reader->catalog_version = frozen->catalog_version;
    if (status != STATUS_OK) {
        unmount(reader);
        buffer_append_byte(&why, 0);
        error_pack(&reader->answer, ERROR_SCRIPT_ERROR, (const char *)why.data);
    }
    buffer_close(&why);
    return status == STATUS_OK;
}

static enum vm_outcome ask_reader(struct reader *reader, const struct machine_frozen *frozen, struct slice name,
                                  struct slice args, uint64_t now_ms)
{
    const struct snapshot_head *head = &frozen->head;
    if (reader->vm != NULL && reader->catalog_version != frozen->catalog_version && !MUTANT(196))
        unmount(reader);
    if (reader->vm == NULL && !mount_all(reader, frozen))
        return VM_REFUSED;
    enum vm_kind kind = vm_find(reader->vm, name);
    if (kind != VM_QUERY && kind != VM_RAW) {
        machine_say_no_query(kind, name, &reader->answer);
        return VM_REFUSED;
    }
    const struct vm_entry facts = {.index = head->index,
                                   .term = head->term,
                                   .now_ms = now_ms > head->stamp_ms ? now_ms : head->stamp_ms,
                                   .seed = machine_seed(head->cluster_id, head->index)};
    vm_look_at(reader->vm, frozen->view);
    vm_begin(reader->vm, &facts, &frozen->limits);
    enum vm_outcome outcome = vm_call(reader->vm, name, args, true, &reader->answer);
    vm_end(reader->vm);
    vm_look_at(reader->vm, NULL);
    if (outcome == VM_PARK)
        unmount(reader); /* its memory with it */
    return outcome;
}

void reader_query(struct reader *reader, const struct machine_frozen *frozen, struct slice name, struct slice args,
                  uint64_t now_ms, struct machine_results *results)
{
    buffer_clear(&reader->answer);
    enum vm_outcome outcome = ask_reader(reader, frozen, name, args, now_ms);
    machine_answer_alone(results, frozen->head.index, outcome, &reader->answer);
}
