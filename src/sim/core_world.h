/* sim/core_world.h - several cores on virtual time, by seed.
 *
 * Real cores (raft/raft.h) over a model of a disk (entries are terms; a write takes time, and is lost in a crash before it
 * is durable) and a model of a network (delay, loss, duplication, reorder, cuts). One heap of events, one seed. After every
 * event the checks of sim/core_checks.h run. Whole replicas have a world of their own, sim/replica_world.h; a stage where each
 * step is ordered is sim/stage.h. Depends on sim/core_checks.h.
 */
#ifndef SIM_CORE_WORLD_H
#define SIM_CORE_WORLD_H

#include "raft/raft.h"

struct core_world;

struct core_world_options {
    uint64_t seed;
    uint32_t nodes; /* 1..7 */
    uint32_t
        voters;    /* so many form the cluster, the first; the others wait with empty disks to be members. 0: all */
    uint32_t loss; /* parts in a million, of messages */
    uint32_t duplication;
    uint32_t delay_ms_max; /* of a message, from 1: more than one gives reorder */
    uint32_t write_ms_max; /* of a write, from 1 */
    uint32_t fetch_ms_max; /* of a snapshot that was offered, from 1 */
    uint32_t fetch_loss;   /* parts in a million, of snapshots that were offered */
    uint32_t election_ms;  /* 10 or more */
    uint32_t heartbeat_ms;
    uint32_t drift; /* parts in a million, below 500000: each clock runs slower or faster by up to so much */
    uint32_t lease_drift_ms; /* 0: reads ask a majority */
    bool follow_priority;
    bool forget_vote;        /* planted bug: a restart forgets its vote */
    bool ack_before_durable; /* planted bug: messages do not wait for their write */
};

struct core_world *core_world_new(const struct core_world_options *options);
void core_world_free(struct core_world *world);

/* Runs for `ms` of virtual time. NULL, or what was found broken (static until the world is freed). */
const char *core_world_run(struct core_world *world, uint64_t ms);

/* Proposes `count` entries at a node; false if it did not take them. */
bool core_world_propose(struct core_world *world, uint32_t node, uint64_t count);

/* Asks for a linearizable read at a node, by lease where these are on; answered reads are checked against what was committed when
 * they began. */
void core_world_read(struct core_world *world, uint32_t node);

/* A node takes a snapshot of what is committed and durable there, and keeps `keep` entries of its log behind it. Snapshots that
 * it offers from then on are between the two. */
void core_world_compact(struct core_world *world, uint32_t node, uint64_t keep);

/* Proposes a configuration, in place of the one in force there, or to go back; hands leadership over (0: to the best). What became
 * of it; a node that is down refuses. */
enum raft_change core_world_change(struct core_world *world, uint32_t node,
                                   const struct raft_configuration *configuration, bool force);
enum raft_change core_world_abort_change(struct core_world *world, uint32_t node);
enum raft_transfer core_world_transfer(struct core_world *world, uint32_t node, node_id to);

/* What is in force at a node that is up. */
void core_world_configuration(const struct core_world *world, uint32_t node,
                              struct raft_configuration *configuration);

void core_world_crash(struct core_world *world, uint32_t node);
void core_world_start(struct core_world *world, uint32_t node);
bool core_world_is_up(const struct core_world *world, uint32_t node);

/* Cuts or mends the way from one node to another. */
void core_world_cut(struct core_world *world, uint32_t from, uint32_t to, bool cut);

/* Faults off, all ways mended, all nodes started; messages and writes take no longer than an election can bear: a tenth of it. */
void core_world_heal(struct core_world *world);

/* The node that leads in the highest term, or UINT32_MAX. */
uint32_t core_world_leader(const struct core_world *world);

void core_world_status(const struct core_world *world, uint32_t node, struct raft_status *status);
uint64_t core_world_now(const struct core_world *world);
uint64_t core_world_snapshots_taken(const struct core_world *world);
uint64_t core_world_reads_answered(const struct core_world *world);

/* A hash over all that happened: the same seed gives the same. */
uint64_t core_world_hash(const struct core_world *world);

#endif
