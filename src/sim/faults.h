/* sim/faults.h - the table of faults: what each does to a world, how it is undone, how often it strikes. Later features add
 * rows. Depends on sim/swarm.h.
 */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#include "sim/swarm.h"

/* What strikes need to know and keep. */
struct fault_field {
    struct replica_world *world;
    const struct workload *workload;
    struct prng prng; /* for what a strike finds only when it comes */
    uint32_t nodes;
    uint32_t delay_ms_max; /* as drawn, without faults */
    uint32_t write_ms_max, apply_ms_max, snapshot_ms_max;
    uint32_t cuts[REPLICA_WORLD_NODES_MAX][REPLICA_WORLD_NODES_MAX]; /* how many partitions cut this way now */
    bool destroyed[REPLICA_WORLD_NODES_MAX]; /* its disk lost what it promised; a minority of nodes, at most */
    bool starved[REPLICA_WORLD_NODES_MAX];   /* its machine's memory ran out, so it is parked, or about to be */
};

struct fault {
    const char *name;  /* "crash" */
    const char *help;  /* one line */
    uint32_t every_ms; /* mean time between two strikes, where it is on; a seed draws a third to three times that */
    uint32_t lasts_ms; /* at most */
    uint32_t amount_max; /* drawn from 0 to this */
    void (*strike)(struct fault_field *field, const struct strike *strike);
    void (*mend)(struct fault_field *field, const struct strike *strike); /* NULL: nothing to undo */
};

/* A node that is parked because its memory ran out is started again. */
void faults_feed(struct fault_field *field, uint32_t node);

enum { FAULTS_MAX = 64 };

size_t faults_count(void);
const struct fault *fault_at(size_t place);
/* It is of the simulator's own service only: no other has versions, and a node that parks is what others are looked at for. */
bool fault_is_own(size_t place);
/* It destroys what a disk had promised. */
bool fault_destroys(size_t place);
/* Its place; faults_count() if there is none of that name. */
size_t fault_named(const char *name);

#endif
