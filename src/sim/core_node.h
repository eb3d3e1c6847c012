/* sim/core_node.h - one real core, its log as terms, and a model of its disk: what worlds of cores are made of.
 *
 * A write of the core goes into the log at once, and onto the disk when its world says so; a crash leaves what is on the
 * disk. A log may begin after a snapshot (§7); what that includes is kept all the same, as the terms of its entries: they
 * stand for the state. Nodes are numbered from 0; node i has the id i + 1. The members are the world's to read; the functions here change
 * them. Depends on raft, base,
 * sim/core_members.h.
 */
#ifndef SIM_CORE_NODE_H
#define SIM_CORE_NODE_H

#include "raft/raft.h"
#include "sim/core_members.h"

enum { CORE_NODES_MAX = 7, CORE_LOG_MAX = 1 << 16 }; /* entries are numbered up to CORE_LOG_MAX - 1 */

struct core_node {
    struct raft *raft;            /* NULL: down */
    struct core_members *members; /* its world's */
    struct raft_effects effects;
    raft_term
        *terms; /* of the entries, by index, as the core has them; up to base, of what the snapshot includes */
    raft_index base;
    raft_index last;
    raft_term *disk_terms; /* what is durable */
    raft_index disk_base;
    raft_index disk_last;
    raft_index disk_snapshot; /* the last that the newest snapshot here includes: disk_base or more */
    raft_term disk_term;
    node_id disk_vote;
    uint64_t persisted; /* the last write that the core was told of */
};

/* A write on its way to the disk. */
struct core_write {
    struct raft_write write;
    raft_term *terms; /* of write.first..write.last, or of 1..write.base_index; owned: mem_free */
};

/* A snapshot that some node made: the terms of the entries 1..index, with which they stand for its state. */
struct core_snapshot {
    raft_index index;
    raft_term *terms; /* by index; owned: mem_free */
};

/* An empty log on an empty disk, down. */
void core_node_init(struct core_node *node, struct core_members *members);
void core_node_close(struct core_node *node);

/* Makes a core out of what is durable, and starts it; entries up to `committed`, or what the snapshot includes, are known to
 * be committed. */
void core_node_start(struct core_node *node, const struct raft_options *options, raft_time now,
                     raft_index committed);

/* The core is gone, and with it what is not durable. */
void core_node_crash(struct core_node *node);

/* Takes the write that the last step asked for into the log; false if it asked for none. `snapshot`: what SNAPSHOT_READY was
 * about, if that was the event; else NULL. */
bool core_node_take_write(struct core_node *node, const struct core_snapshot *snapshot, struct core_write *out);

/* The write is on the disk. The core is not told yet. */
void core_node_written(struct core_node *node, const struct core_write *done);

/* A snapshot up to `index` was made, which is committed and durable here, and the log goes back to after `base`, at most the
 * former, on the disk as well; the core is still to be told. */
void core_node_compact(struct core_node *node, raft_index index, raft_index base);

/* What a node has up to `index`, as a snapshot. */
struct core_snapshot core_node_snapshot(const struct core_node *node, raft_index index);

/* The terms of the entries that `append` carries, all above the base, as runs; if `runs_max` runs are too few,
 * append->last_index is lowered. Returns how many. */
size_t core_node_runs(const struct core_node *node, struct raft_append_entries *append, struct raft_run *runs,
                      size_t runs_max);

#endif
