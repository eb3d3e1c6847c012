/* sim/witness_private.h - what the files of the witness share. Private to sim/. */
#ifndef SIM_WITNESS_PRIVATE_H
#define SIM_WITNESS_PRIVATE_H

#include "sim/witness.h"

enum { WITNESS_NODES_MAX = 16, NOBODY = 0 };

/* What stands at (index, term), wherever it stands: the chain says what, and all before it. */
struct fact {
    raft_index index; /* 0: free place */
    raft_term term;
    uint64_t chain;
};

struct committed {
    raft_term term;
    raft_term in;          /* the term in which it was first seen committed */
    struct hash128 digest; /* of the machine here, when the first one came */
    bool applied;
    uint64_t told; /* the hash of its events, when it told some */
};

/* One node as seen from outside. */
struct seen {
    node_id id;
    raft_term *terms; /* of the durable log, by index */
    size_t terms_capacity;
    raft_index durable;  /* its last index */
    raft_term vote_term; /* durable */
    node_id voted_for;
    bool damaged;
    bool writing; /* the disk broke under this write: it may be there, in part, or not */
    bool wrote_vote;
    raft_term wrote_term;
    node_id wrote_for;
    raft_index wrote_cut, wrote_last, wrote_snapshot;
    bool up;
    bool looked; /* in this life; then what its core said last: */
    raft_term term;
    enum raft_role role;
    raft_index commit, last;
    struct raft_configuration configuration;
    raft_index applied; /* in this life */
    bool distrusted;    /* its state is not held against the others' until it is another */
    bool starved;       /* it is parked, and what it has applied is right */
};

struct witness {
    uint32_t nodes;
    struct seen seen[WITNESS_NODES_MAX];
    struct fact *facts; /* open addressing */
    size_t facts_count, facts_capacity;
    node_id *leaders; /* by term */
    size_t leaders_capacity;
    struct committed *committed; /* by index */
    size_t committed_capacity;
    raft_index committed_last;
    raft_index restored; /* the cluster began with a snapshot of these entries; 0: with nothing */
    char broken[512];
};

/* NULL: no node has this id any more. */
struct seen *witness_find(struct witness *witness, node_id id);
/* A list, with room for `index`; what is new is zero. */
void *witness_grown(void *list, size_t *capacity, uint64_t index, size_t size);
/* Of the entry in the durable log; 0: it is not there. */
raft_term witness_durable_term(const struct seen *seen, raft_index index);

#endif
