/* sim/witness.h - what must be true of a cluster, checked from outside after every event.
 *
 * The witness sees what each node hands to its log, what became durable, what it sends, what it applied and what its core
 * says of itself, and keeps the truth beside them: which entry stands at each (index, term), who led each term, what is
 * committed. It compares only what an event changed; witness_compare_all looks at everything. The first thing found broken
 * stays. Figure 3 of the paper (election safety, leader append-only, log matching, leader completeness, state machine safety) and
 * what a disk adds: counted, voted and committed means durable; a restart finds what was durable; a snapshot stands for
 * committed entries alone. Nodes are numbered from
 * 0; node i has the id i + 1, unless it was named. Depends on replica and everything below.
 */
#ifndef SIM_WITNESS_H
#define SIM_WITNESS_H

#include "replica/recover.h"
#include "replica/replica.h"

struct witness;

struct witness *witness_new(uint32_t nodes);
void witness_free(struct witness *witness);

/* NULL, or a sentence: what was found broken first, where. */
const char *witness_broken(const struct witness *witness);

/* Breaks: for what other parts of a world notice. `what` names both numbers. */
void witness_break(struct witness *witness, const char *what, uint64_t a, uint64_t b);
void witness_break_text(struct witness *witness, const char *what);

/* Node `node` has this id from now on, and a directory that never promised anything, if it is another one. */
void witness_named(struct witness *witness, uint32_t node, uint64_t id);

/* A node starts on what its disk holds, log and snapshot; its life ends, whatever way. */
void witness_started(struct witness *witness, uint32_t node, struct storage *storage,
                     const struct replica_recovered *recovered);
void witness_ended(struct witness *witness, uint32_t node);

/* A job is handed to the log; then it was run, or the disk broke under it. */
void witness_submitted(struct witness *witness, uint32_t node, const struct log_job *job);
void witness_written(struct witness *witness, uint32_t node, const struct log_job *job);

/* A message of the core leaves a node. */
void witness_sent(struct witness *witness, uint32_t node, const struct raft_message *message);

/* After an event at a node: what its core says now. NULL while the cluster forms. */
void witness_looked(struct witness *witness, uint32_t node, const struct raft *raft);

/* After an apply job: how far the machine is, and its digest there. */
void witness_applied(struct witness *witness, uint32_t node, const struct machine_status *status);

/* What the entries of an apply job told (machine_results.events): the same wherever, and whenever, they are applied. */
void witness_told(struct witness *witness, struct slice events);

/* After a machine was exchanged for what a snapshot holds: it must bring something, and be the state at its index. */
void witness_installed(struct witness *witness, uint32_t node, const struct machine_status *status);

/* A node's state is not to be trusted, and it knows, or memory was changed behind its back: until it has another it is held
 * against nothing. */
void witness_distrusts(struct witness *witness, uint32_t node);
/* Its machine has parked, with a state that is good: it may take another's of the same index. */
void witness_starved(struct witness *witness, uint32_t node);

/* Bytes that this node's disk held durably were destroyed (or its directory emptied): what it promised may be gone. */
void witness_damaged(struct witness *witness, uint32_t node);

/* The core's whole log against the truth. */
void witness_compare_all(struct witness *witness, uint32_t node, const struct raft *raft);

/* The highest committed index, and the term of the entry there; both 0 at first. */
raft_index witness_committed(const struct witness *witness, raft_term *term);

#endif
