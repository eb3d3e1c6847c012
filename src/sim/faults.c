/* sim/faults.c - see sim/faults.h. Faults that destroy bytes which a disk had promised strike a minority of nodes at most,
 * and never the last frame of a log before it is marked: until peers repair logs, nobody could tell that from a torn end. */
#include "sim/faults.h"

#include <string.h>

#include "base/check.h"
#include "sim/sim_disk.h"

typedef struct fault_field field_t;

static struct replica_world_status status_of(const field_t *field, uint32_t node)
{
    struct replica_world_status status;
    replica_world_status(field->world, node, &status);
    return status;
}

/* --- processes ----------------------------------------------------------------------------------------------------------- */

static void strike_crash(field_t *field, const struct strike *strike)
{
    replica_world_crash(field->world, strike->node);
}

/* The machine dies within one of the next operations of its disk. */
static void strike_crash_in_write(field_t *field, const struct strike *strike)
{
    if (status_of(field, strike->node).up)
        replica_world_fail_disk(field->world, strike->node, strike->amount);
}

static void strike_stop(field_t *field, const struct strike *strike)
{
    if (status_of(field, strike->node).up)
        replica_world_stop(field->world, strike->node);
}

/* Whoever is down is started again: by this, and by the watchman of swarm.c. */
static void mend_down(field_t *field, const struct strike *strike)
{
    if (!status_of(field, strike->node).up)
        (void)replica_world_start(field->world, strike->node);
}

static void strike_pause(field_t *field, const struct strike *strike)
{
    replica_world_pause(field->world, strike->node, strike->lasts);
}

static void strike_slow_script(field_t *field, const struct strike *strike)
{
    replica_world_slow(field->world, strike->node, field->write_ms_max, strike->amount);
}

static void mend_slow(field_t *field, const struct strike *strike)
{
    replica_world_slow(field->world, strike->node, field->write_ms_max, field->apply_ms_max);
}

/* --- partitions ------------------------------------------------------------------------------------------------------------ */

enum partition { HALVES, ISOLATED, DEAF, DUMB, RING, BRIDGE, ONE_WAY, PARTITIONS };

/* Whether this partition cuts from -> to. amount: its kind, then bits that say who is in which half. */
static bool cuts(const field_t *field, const struct strike *strike, uint32_t from, uint32_t to)
{
    uint32_t half = strike->amount / PARTITIONS;
    bool split = ((half >> from ^ half >> to) & 1) != 0;
    uint32_t apart = (from + field->nodes - to) % field->nodes;
    switch ((enum partition)(strike->amount % PARTITIONS)) {
    case HALVES:
        return split;
    case ISOLATED:
        return from == strike->node || to == strike->node;
    case DEAF:
        return to == strike->node;
    case DUMB:
        return from == strike->node;
    case RING:
        return apart != 1 && apart != field->nodes - 1;
    case BRIDGE: /* one node sees both halves */
        return split && from != strike->node && to != strike->node;
    case ONE_WAY:
        return from == strike->node && to == strike->peer;
    default:
        UNREACHABLE();
    }
}

static void set_partition(field_t *field, const struct strike *strike, bool on)
{
    for (uint32_t from = 0; from < field->nodes; from++) {
        for (uint32_t to = 0; to < field->nodes; to++) {
            if (from == to || !cuts(field, strike, from, to))
                continue;
            field->cuts[from][to] += on ? 1 : -1u;
            replica_world_cut(field->world, from, to, field->cuts[from][to] > 0);
        }
    }
}

static void strike_partition(field_t *field, const struct strike *strike)
{
    set_partition(field, strike, true);
}

static void mend_partition(field_t *field, const struct strike *strike)
{
    set_partition(field, strike, false);
}

/* --- links ------------------------------------------------------------------------------------------------------------------- */

static void strike_break(field_t *field, const struct strike *strike)
{
    replica_world_break(field->world, strike->node, strike->peer);
}

static void strike_stall(field_t *field, const struct strike *strike)
{
    replica_world_stall(field->world, strike->node, strike->peer, true);
}

static void mend_stall(field_t *field, const struct strike *strike)
{
    replica_world_stall(field->world, strike->node, strike->peer, false);
}

static void strike_delay(field_t *field, const struct strike *strike)
{
    replica_world_delay(field->world, field->delay_ms_max + strike->amount);
}

static void mend_delay(field_t *field, const struct strike *strike)
{
    (void)strike;
    replica_world_delay(field->world, field->delay_ms_max);
}

/* amount: thousandths of the core's frames. */
static void strike_loss(field_t *field, const struct strike *strike)
{
    replica_world_lose(field->world, (struct replica_world_loss){.lost = strike->amount * 1000});
}

static void strike_double(field_t *field, const struct strike *strike)
{
    replica_world_lose(field->world, (struct replica_world_loss){.doubled = strike->amount * 1000});
}

static void strike_reorder(field_t *field, const struct strike *strike)
{
    replica_world_lose(field->world, (struct replica_world_loss){.overtaken = strike->amount * 1000});
}

static void mend_loss(field_t *field, const struct strike *strike)
{
    (void)strike;
    replica_world_lose(field->world, (struct replica_world_loss){0});
}

/* --- disks --------------------------------------------------------------------------------------------------------------------- */

static void strike_hang(field_t *field, const struct strike *strike)
{
    replica_world_hang(field->world, strike->node, strike->lasts);
}

static void strike_slow_disk(field_t *field, const struct strike *strike)
{
    replica_world_slow(field->world, strike->node, strike->amount, field->apply_ms_max);
}

/* One operation that changes the disk fails: a write or a sync, as it comes. */
static void strike_disk_error(field_t *field, const struct strike *strike)
{
    struct disk *disk = replica_world_disk(field->world, strike->node);
    sim_disk_fail_at(disk, sim_disk_operations(disk) + 1 + strike->amount, STATUS_IO);
}

static void strike_read_error(field_t *field, const struct strike *strike)
{
    sim_disk_fail_read(replica_world_disk(field->world, strike->node), 1 + strike->amount);
}

static void strike_full(field_t *field, const struct strike *strike)
{
    sim_disk_full(replica_world_disk(field->world, strike->node), true);
}

static void mend_full(field_t *field, const struct strike *strike)
{
    sim_disk_full(replica_world_disk(field->world, strike->node), false);
}

/* True if this node's disk may lose what it promised: a minority of them, and none before the cluster has formed. */
static bool may_destroy(field_t *field, uint32_t node)
{
    uint32_t count = field->destroyed[node] ? 0 : 1;
    for (uint32_t i = 0; i < field->nodes; i++)
        count += field->destroyed[i];
    return count * 2 < field->nodes && replica_world_committed(field->world) > 0 && status_of(field, node).raft;
}

static void strike_flip(field_t *field, const struct strike *strike)
{
    if (may_destroy(field, strike->node) &&
        sim_disk_flip(replica_world_disk(field->world, strike->node), prng_next(&field->prng)))
        field->destroyed[strike->node] = true;
}

static void strike_lost_write(field_t *field, const struct strike *strike)
{
    if (!may_destroy(field, strike->node))
        return;
    sim_disk_lose_write(replica_world_disk(field->world, strike->node), 0);
    field->destroyed[strike->node] = true;
}

static void strike_misdirected_write(field_t *field, const struct strike *strike)
{
    if (!may_destroy(field, strike->node))
        return;
    sim_disk_misdirect_write(replica_world_disk(field->world, strike->node), 0);
    field->destroyed[strike->node] = true;
}

/* --- clocks -------------------------------------------------------------------------------------------------------------------- */

/* amount: ms, half of them back. */
static void strike_wall_clock(field_t *field, const struct strike *strike)
{
    replica_world_skew(field->world, strike->node,
                       (int64_t)(strike->amount / 2) * (strike->amount % 2 == 0 ? 1 : -1));
}

/* amount: parts in a million, half of them slow. */
static void strike_drift(field_t *field, const struct strike *strike)
{
    replica_world_drift(field->world, strike->node,
                        (int32_t)(strike->amount / 2) * (strike->amount % 2 == 0 ? 1 : -1));
}

static void mend_drift(field_t *field, const struct strike *strike)
{
    replica_world_drift(field->world, strike->node, 0);
}

/* --- snapshots ------------------------------------------------------------------------------------------------------------------- */

/* All that are on their way now, or one. */
static void strike_transfer(field_t *field, const struct strike *strike)
{
    for (uint32_t to = 0; to < field->nodes; to++)
        if (strike->amount % 2 == 0 || to == strike->peer)
            (void)replica_world_break_bulk(field->world, strike->node, to);
}

static void strike_slow_snapshots(field_t *field, const struct strike *strike)
{
    replica_world_slow_snapshots(field->world, strike->node, strike->amount);
}

static void mend_slow_snapshots(field_t *field, const struct strike *strike)
{
    replica_world_slow_snapshots(field->world, strike->node, field->snapshot_ms_max);
}

static void strike_snapshot(field_t *field, const struct strike *strike)
{
    (void)replica_world_snapshot(field->world, strike->node, 1 + strike->amount);
}

/* --- parked nodes ---------------------------------------------------------------------------------------------------------------- */

enum { REBUILD_MS = 20000 };

static void strike_starve(field_t *field, const struct strike *strike)
{
    if (status_of(field, strike->node).raft && replica_world_starve(field->world, strike->node))
        field->starved[strike->node] = true;
}

void faults_feed(struct fault_field *field, uint32_t node)
{
    const struct replica_world_status status = status_of(field, node);
    if (!field->starved[node])
        return;
    field->starved[node] = false;
    if (!status.up || (!status.parked && status.parked_at == 0))
        return; /* it was rebuilt, or has died since */
    replica_world_crash(field->world, node);
    (void)replica_world_start(field->world, node);
}

/* An operator sees that it is parked, and has it take the leader's state, or starts it again. */
static void mend_starved(field_t *field, const struct strike *strike)
{
    if (strike->amount % 2 != 0)
        faults_feed(field, strike->node);
    else if (field->starved[strike->node] && status_of(field, strike->node).parked)
        (void)replica_world_rebuild(field->world, strike->node, REBUILD_MS);
}

/* --- code ---------------------------------------------------------------------------------------------------------------------- */

static void strike_deploy(field_t *field, const struct strike *strike)
{
    if (status_of(field, strike->node).raft)
        field->workload->deploy(field->workload->context, field->world, strike->node, strike->amount);
}

/* --- the table ------------------------------------------------------------------------------------------------------------------- */

static const struct fault table[] = {
    {"crash", "a process dies and comes back", 3000, 3000, 0, strike_crash, mend_down},
    {"crash-in-write", "a machine dies within an operation of its disk: torn and lost writes", 3000, 3000, 12,
     strike_crash_in_write, mend_down},
    {"stop", "SIGTERM, and a start", 5000, 2000, 0, strike_stop, mend_down},
    {"pause", "a process stands still", 3000, 3000, 0, strike_pause, NULL},
    {"slow-script", "applying takes its time", 3000, 3000, 80, strike_slow_script, mend_slow},
    {"partition", "halves, isolated, deaf, dumb, ring, bridge, one way", 1500, 3000, PARTITIONS * 128 - 1,
     strike_partition, mend_partition},
    {"flap", "a partition that comes and goes", 150, 120, PARTITIONS * 128 - 1, strike_partition, mend_partition},
    {"break", "a connection ends with what was on its way", 500, 0, 0, strike_break, NULL},
    {"stall", "bytes of a connection stop arriving", 1000, 1500, 0, strike_stall, mend_stall},
    {"delay", "bytes are long on their way", 3000, 3000, 150, strike_delay, mend_delay},
    {"loss", "frames of the core are lost", 2000, 2000, 400, strike_loss, mend_loss},
    {"duplicate", "frames of the core come twice", 2000, 2000, 400, strike_double, mend_loss},
    {"reorder", "frames of the core overtake each other", 2000, 2000, 400, strike_reorder, mend_loss},
    {"hang", "a disk does not answer", 3000, 3000, 0, strike_hang, NULL},
    {"slow-disk", "a disk answers late", 3000, 3000, 150, strike_slow_disk, mend_slow},
    {"disk-error", "a write or a sync fails", 4000, 0, 12, strike_disk_error, NULL},
    {"read-error", "a read fails", 4000, 0, 3, strike_read_error, NULL},
    {"full", "a disk has no space left", 5000, 2500, 0, strike_full, mend_full},
    {"flip", "a bit of what a disk holds is flipped", 5000, 0, 0, strike_flip, NULL},
    {"lost-write", "a disk says that it wrote, and did not", 5000, 0, 0, strike_lost_write, NULL},
    {"misdirected-write", "a disk writes in the wrong place", 5000, 0, 0, strike_misdirected_write, NULL},
    {"wall-clock", "a wall clock jumps", 2000, 0, 20000000, strike_wall_clock, NULL},
    {"transfer", "the links that snapshots are sent on break", 300, 0, 1, strike_transfer, NULL},
    {"slow-snapshot", "taking, sending and reading snapshots takes its time", 3000, 4000, 2000,
     strike_slow_snapshots, mend_slow_snapshots},
    {"snapshot", "somebody asks for a snapshot", 1000, 0, 5000, strike_snapshot, NULL},
    {"drift", "a boot clock runs fast or slow", 4000, 6000, 200000, strike_drift, mend_drift},
    {"starve", "the memory of a service runs out at one node: it parks, and is rebuilt or started again", 4000,
     1500, 1, strike_starve, mend_starved},
    {"deploy", "somebody deploys a version of the simulator's own service", 1500, 0, 10 * 64 - 1, strike_deploy,
     NULL},
};

size_t faults_count(void)
{
    return sizeof table / sizeof *table;
}

const struct fault *fault_at(size_t place)
{
    CHECK(place < faults_count());
    return &table[place];
}

bool fault_is_own(size_t place)
{
    return fault_at(place)->strike == strike_deploy || fault_at(place)->strike == strike_starve;
}

bool fault_destroys(size_t place)
{
    void (*strike)(field_t *, const struct strike *) = fault_at(place)->strike;
    return strike == strike_flip || strike == strike_lost_write || strike == strike_misdirected_write;
}

size_t fault_named(const char *name)
{
    size_t place = 0;
    while (place < faults_count() && strcmp(table[place].name, name) != 0)
        place++;
    return place;
}
