/* sim/stage.h - a few real cores under step-by-step control: what the scenario language plays on.
 *
 * Nothing happens by itself: no randomness, and a node's clock moves only when told. What a core sends goes, once the write
 * that it waits for is durable, into the queue of its way (from one node to one other), and arrives when it is delivered. A
 * write is durable at once, unless the disk is held; the order of write, PERSISTED and messages is that of replica/. After
 * every step the checks of sim/core_checks.h and raft_invariants run.
 *
 * Nodes are named by their ids, 1..nodes. A caller that names a node or a message that does not exist, or steps one that is
 * down, is a CHECK: ask first. Depends on sim/core_checks.h.
 */
#ifndef SIM_STAGE_H
#define SIM_STAGE_H

#include "sim/core_checks.h"

enum { STAGE_READS_MAX = 256, STAGE_SENT_MAX = 1024 /* entries in a message */ };

struct stage;

struct stage_options {
    uint32_t nodes;                   /* 1..CORE_NODES_MAX */
    uint32_t entry_bytes;             /* what an entry counts in windows */
    uint32_t start_wait_ms;           /* of nodes that restart; at the start of the stage it is over */
    struct raft_configuration formed; /* the members, of entry 1; none: all nodes vote */
    struct raft_options cores;        /* id, seed, trace and start_wait_ms are the stage's */
};

/* A message on its way. */
struct stage_message {
    struct raft_message message;
    struct raft_run *runs; /* terms of the entries that an APPEND_ENTRIES carries; owned by the queue */
    size_t runs_count;
};

enum stage_read { STAGE_READ_NONE, STAGE_READ_WAITING, STAGE_READ_ANSWERED, STAGE_READ_REFUSED, STAGE_READ_LOST };

struct stage *stage_new(const struct stage_options *options);
void stage_free(struct stage *stage);
uint32_t stage_nodes(const struct stage *stage);

/* NULL, or a sentence: what was found broken first. */
const char *stage_broken(const struct stage *stage);

/* The narrative since this was last asked for, lines "ID what", zero-terminated; valid until the next call. */
const char *stage_trace(struct stage *stage);

/* --- nodes ---------------------------------------------------------------------------------------------------------------- */

/* What a node that is down finds on its disk: `last` terms, which do not fall, none above `term`; the first `base` of them are in
 * a snapshot, and in no log. */
void stage_set_disk(struct stage *stage, node_id id, raft_term term, node_id voted_for, const raft_term *terms,
                    raft_index last, raft_index base);

/* Starts a node that is down, from its disk; entries up to `committed` are known to be. `again`: it ran before. */
void stage_start(struct stage *stage, node_id id, raft_index committed, bool again);

/* Ends a node: what is not durable is lost, but the first `kept` writes that wait for its disk are there after all. */
void stage_crash(struct stage *stage, node_id id, size_t kept);

/* The node as it is; its core may be asked for its status. */
const struct core_node *stage_node(const struct stage *stage, node_id id);

/* --- events of a node that is up ------------------------------------------------------------------------------------------ */

/* False if the node refused it. */
bool stage_propose(struct stage *stage, node_id id, uint64_t count);

/* A linearizable read begins, by lease if that will do: its number, 1.. over the whole stage; 0 if there were STAGE_READS_MAX. */
uint32_t stage_read(struct stage *stage, node_id id, bool lease);

/* What became of a read; *index: at which it was answered. */
enum stage_read stage_read_state(const struct stage *stage, uint32_t read, raft_index *index);

/* The link to a peer broke, or is new (RAFT_EVENT_PEER_DOWN, PEER_UP). */
void stage_link(struct stage *stage, node_id id, node_id peer, bool up);

void stage_step_down(struct stage *stage, node_id id, const char *why);

/* RAFT_EVENT_CHANGE, ABORT_CHANGE, TRANSFER, CAMPAIGN: what became of it. */
enum raft_change stage_change(struct stage *stage, node_id id, const struct raft_configuration *configuration,
                              uint64_t expected_id, bool force);
enum raft_change stage_abort_change(struct stage *stage, node_id id);
enum raft_transfer stage_transfer(struct stage *stage, node_id id, node_id to);
void stage_campaign(struct stage *stage, node_id id);

/* What became of its last transfer, as far as it has. */
enum raft_transfer stage_transferred(const struct stage *stage, node_id id);

/* True if it reads by lease now, by its own clock. */
bool stage_has_lease(const struct stage *stage, node_id id);

/* --- snapshots (§7): of a node that is up -------------------------------------------------------------------------------- */

/* A snapshot up to `index` is made, and the log goes back to after `base`, which is not above that. False if not all up to `index`
 * is committed and durable here; one that is older than what is there changes nothing. */
bool stage_compact(struct stage *stage, node_id id, raft_index index, raft_index base);

/* The snapshots that its leader could give it when it was last offered one: from *first to *last; false: none. */
bool stage_offered(const struct stage *stage, node_id id, raft_index *first, raft_index *last);

/* The offered snapshot up to `index`, or 0, the earliest, is here: the core is told. Returns whether it took it; an offer
 * lasts until the next one, or a crash. */
bool stage_install(struct stage *stage, node_id id, raft_index index);

/* --- time ------------------------------------------------------------------------------------------------------------------ */

/* Milliseconds until a node's next deadline, by its own clock; UINT64_MAX: none, or it is down. */
uint64_t stage_wake_in(const struct stage *stage, node_id id);

/* Moves the clock of a node (0: of all) on by `ms`; then those whose deadline has come are woken, in order. */
void stage_pass(struct stage *stage, node_id id, uint64_t ms);

/* --- messages: a way is from one node to another; `to` 0 is anybody who is not on the stage ---------------------------------- */

size_t stage_count(const struct stage *stage, node_id from, node_id to);

/* The message at `place`, 0 the oldest; valid until the queue changes. */
const struct stage_message *stage_message(const struct stage *stage, node_id from, node_id to, size_t place);

/* Takes it out of its queue and hands it to its receiver; false if that is down: it is lost. */
bool stage_deliver(struct stage *stage, node_id from, node_id to, size_t place);

void stage_drop(struct stage *stage, node_id from, node_id to, size_t place);

/* Puts a copy at the end of the queue. */
void stage_duplicate(struct stage *stage, node_id from, node_id to, size_t place);

/* Hands a message made by hand to a node that is up (message->to); `runs` are borrowed. */
void stage_receive(struct stage *stage, const struct raft_message *message, const struct raft_run *runs,
                   size_t runs_count);

/* A cut way loses what is on it, and what is sent on it until it is mended. */
void stage_cut(struct stage *stage, node_id from, node_id to, bool cut);

/* --- disks ------------------------------------------------------------------------------------------------------------------ */

/* While it is held, writes wait for stage_persist; letting go of it persists what waits. */
void stage_hold_disk(struct stage *stage, node_id id, bool held);

/* The first `count` writes that wait become durable at once, as one group. Returns how many did. */
size_t stage_persist(struct stage *stage, node_id id, size_t count);

/* Writes that wait. */
size_t stage_waiting(const struct stage *stage, node_id id);

/* The next write fails: nothing of it is on the disk, and the node ends. */
void stage_fail_disk(struct stage *stage, node_id id);

/* While they are held, a message with entries waits for these to be read from the node's disk, the latest for each peer;
 * then it is sent if the node still leads that term, and SENT comes. Messages without entries go. */
void stage_hold_entries(struct stage *stage, node_id id, bool held);

/* The highest index that was ever committed anywhere. */
raft_index stage_committed(const struct stage *stage);

#endif
