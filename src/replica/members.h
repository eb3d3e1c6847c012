/* replica/members.h - who is a member, as this node's log says it: configurations, peers, and what the leader does about them.
 *
 *   members.c   the configurations in the log, from the committed one on, as the core has them; a peer for each of their members, for
 *               whoever speaks for a newer one, and for who was removed and is yet to be told
 *   change.c    the leader carries out what the machine decided (machine/membership.h): CHANGE, or TRANSFER
 *   observe.c   the leader brings what it sees of the members as entries, where somebody asks for that
 * Private to replica/. Depends on wire/members.h, raft, machine/membership.h.
 */
#ifndef REPLICA_MEMBERS_H
#define REPLICA_MEMBERS_H

#include "base/slice.h"
#include "raft/raft.h"
#include "storage/storage.h"
#include "wire/entry.h"
#include "wire/members.h"

struct replica;
struct peer;
struct message_hello;
struct chunk;
struct pending;

struct membering {
    struct members **list; /* the committed configuration, as far as that is known, and those after it */
    size_t count, capacity;
    bool unreadable;                           /* the log could not be read for them */
    bool ever;                                 /* this node was a member in one of them, in this life */
    uint64_t version;                          /* grows when replica_peers says something else */
    uint64_t removed_at;                       /* boot_ms since when it is no member any more; 0: it is one */
    raft_index told_commit;                    /* of the leader, as it said last */
    uint64_t look_at;                          /* boot_ms: peers that are of no more use are let go then */
    uint64_t alone_since;                      /* boot_ms since when no leader is known */
    struct raft_configuration *configurations; /* of the message being taken */
    size_t configurations_capacity;
};

/* What the machine decided, and how far this leader is with it (change.c). */
struct changing {
    raft_index decision;   /* its index; 0: none */
    struct members *goal;  /* what it leads to; NULL: a transfer */
    struct members *asked; /* what is being proposed, during that step alone */
    uint64_t expected;
    bool force;
    node_id transfer_to; /* of a transfer; 0: none */
    bool transferring;   /* it has begun */
    uint64_t since;      /* boot_ms since when this leader tries */
    uint64_t try_at;
};

/* What the machine knows of the members, and when it is to hear more (observe.c). */
struct observing {
    uint64_t led_at;      /* boot_ms since when this node leads; 0: it does not */
    uint64_t look_at;     /* boot_ms: not before */
    raft_index brought;   /* the entry that was brought last, */
    raft_term brought_in; /* in this term */
    uint64_t observer;    /* who brought the last one, as the machine knows */
    bool wanted;          /* a policy, or an invitation, uses it */
    size_t seen_count;
    struct seen {
        node_id id;
        uint64_t silent_since_ms;
        uint64_t lag;
        bool caught_up, parked;
    } seen[RAFT_MEMBERS_MAX];
};

/* --- members.c ------------------------------------------------------------------------------------------------------------- */

/* NULL: this node joins, and knows of no configuration yet. */
const struct members *members_now(const struct replica *replica);
const struct members *members_committed(const struct replica *replica);
bool members_has_self(const struct replica *replica);

/* Before the replica starts: what a snapshot has (empty: nothing), or the set that is being written. */
void members_begin(struct replica *replica, raft_index id, struct slice payload);
/* This record is in the log now. */
void members_note(struct replica *replica, const struct entry *entry);
void members_cut(struct replica *replica, raft_index from);
/* The log stands on a snapshot; reset: it lost all entries for it. */
void members_installed(struct replica *replica, raft_index index, raft_index id, struct slice payload, bool reset);
void members_restore_raft(struct replica *replica);
/* After a step of the core: peers follow. */
void members_follow(struct replica *replica);
/* Another configuration is in force. */
void members_sync(struct replica *replica);
/* The payload of a configuration that the core appends. */
void members_compose(struct replica *replica, raft_index id, struct buffer *payload);
/* Adds one of a message; false: it is none. */
bool members_collect(struct replica *replica, const struct entry *entry, size_t *count);
void members_turn(struct replica *replica);
/* Whether those that count, by place in replica->peers, are a majority of each set that votes. */
bool members_majority(const struct replica *replica, const bool *counts);
bool members_votes(const struct peer *peer);
/* A peer for who said this HELLO, who is a member in a newer configuration than this node knows; NULL: there is no room. */
struct peer *members_adopt(struct replica *replica, const struct message_hello *hello);
/* It is no member, and will learn so from nobody else. */
bool members_was_removed(const struct replica *replica, const struct message_hello *hello);
/* What others say of this node's membership is worth ending for: it was a member, as far as its log says. Who joins may hear from
 * nodes that do not know of it yet. */
bool members_may_end(const struct replica *replica);
void members_free(struct replica *replica);

/* --- change.c -------------------------------------------------------------------------------------------------------------- */

/* machine_pack_membership's bytes, or nothing. */
void change_heard(struct replica *replica, struct slice packed);
void change_turn(struct replica *replica);
void change_transfer_ended(struct replica *replica);

/* --- observe.c ------------------------------------------------------------------------------------------------------------- */

void observe_turn(struct replica *replica);
/* What is news goes before an operator's request, which is judged by it. */
void observe_before_request(struct replica *replica);

#endif
