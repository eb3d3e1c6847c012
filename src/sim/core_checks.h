/* sim/core_checks.h - what must hold of several cores after every step, seen from outside.
 *
 * Figure 3 of the paper (election safety, log matching, leader completeness, state machine safety; append-only is
 * raft_invariants' own), and what a disk adds: committed means durable on a majority, an answer leaves when what it
 * promises is durable and the leader's, a start finds what was durable, a linearizable read misses nothing; and of snapshots
 * (§7): what one stands for is what was committed, and the log goes on after exactly that. Majorities are those of the
 * configurations in the log (§6), of both sets while they are joint, and one follows another as it may. The first thing found broken stays.
 * Depends on sim/core_node.h.
 */
#ifndef SIM_CORE_CHECKS_H
#define SIM_CORE_CHECKS_H

#include "sim/core_node.h"

struct core_checks;

/* Watches `count` nodes, which stay where they are as long as the checks live. votes_by_hand: a leader may be elected by messages
 * that no node sent, so nobody is asked whether it voted. Owned by the caller. */
struct core_checks *core_checks_new(const struct core_node *const *nodes, uint32_t count, bool votes_by_hand);
void core_checks_free(struct core_checks *checks);

/* NULL, or a sentence: what was found broken first, at which node. */
const char *core_checks_broken(const struct core_checks *checks);

/* Breaks: for what a world notices itself (raft_invariants). `number` says where; 0: nowhere in particular. */
void core_checks_break(struct core_checks *checks, uint32_t node, const char *what, uint64_t number);

/* A node was started; a node made a step (or was started), and its write, if any, is in its log; a message leaves. */
void core_checks_started(struct core_checks *checks, uint32_t node);
void core_checks_stepped(struct core_checks *checks, uint32_t node);
void core_checks_sent(struct core_checks *checks, uint32_t node, const struct raft_message *message);

/* A read that began when `floor` was committed is answered at `index`. */
void core_checks_read(struct core_checks *checks, uint32_t node, raft_index floor, raft_index index);

/* The highest index that was ever committed anywhere. */
raft_index core_checks_committed(const struct core_checks *checks);

#endif
