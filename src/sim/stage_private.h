/* sim/stage_private.h - what stage.c and stage_snapshot.c share. Private to sim/. */
#ifndef SIM_STAGE_PRIVATE_H
#define SIM_STAGE_PRIVATE_H

#include "base/slice.h"
#include "sim/stage.h"

/* Messages on one way; the oldest first. */
struct queue {
    struct stage_message *messages;
    size_t count, capacity;
};

struct actor {
    struct trace_context {
        struct stage *stage;
        node_id id;
    } context;
    struct core_node core;
    uint64_t lives;
    uint64_t ahead_ms;           /* its clock, ahead of the stage's */
    struct raft_message *outbox; /* to be sent, or held until their write is durable */
    size_t outbox_count, outbox_capacity;
    struct core_write *writes; /* wait for the disk */
    size_t writes_count, writes_capacity;
    bool entries_held;
    struct raft_message wanted[CORE_NODES_MAX + 1]; /* with entries, by peer; to is 0: none */
    enum raft_transfer transferred;                 /* what became of a transfer last */
    bool disk_held;
    bool disk_fails;
    struct core_snapshot offer;   /* what its leader offered last, as that could give it then; index 0: none */
    raft_index offer_from;        /* the earliest that is in the offer */
    struct core_snapshot install; /* what SNAPSHOT_READY is about, during that step */
};

struct read {
    enum stage_read state;
    node_id id;
    raft_index floor; /* committed when it began */
    raft_index index;
};

struct stage {
    struct stage_options options;
    uint64_t now;
    struct core_members members;
    struct actor actors[CORE_NODES_MAX];
    struct queue ways[CORE_NODES_MAX + 1][CORE_NODES_MAX + 1]; /* by id; to 0: to somebody who is not here */
    bool cut[CORE_NODES_MAX + 1][CORE_NODES_MAX + 1];
    struct core_checks *checks;
    struct read reads[STAGE_READS_MAX + 1]; /* by number */
    uint32_t reads_count;
    struct buffer trace;
    struct buffer told; /* what stage_trace gave last */
};

/* stage.c */
struct actor *stage_actor(struct stage *stage, node_id id);

/* One event of a node that is up, and the checks; what it wants is noted, and nothing sent yet. */
void stage_step(struct stage *stage, node_id id, struct raft_event *event);

/* After a step from outside: sends, and lets the disk do what it may. */
void stage_settle(struct stage *stage, node_id id);

/* stage_snapshot.c */
/* After the step in which a message of its leader came: notes what that could give, if a snapshot was offered. */
void stage_note_offer(struct stage *stage, node_id id, const struct raft_message *message);
void stage_forget_offer(struct actor *actor);

#endif
