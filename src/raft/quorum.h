/* raft/quorum.h - majority arithmetic (§5.2, §5.3). Pure functions; nothing here remembers anything. */
#ifndef RAFT_QUORUM_H
#define RAFT_QUORUM_H

#include "raft/types.h"

/* Votes that make a majority of `voters`, which is at least 1. */
size_t quorum_size(size_t voters);

/* The highest index stored on a majority, given each voter's match index. Sorts `match`. `count` is at least 1. */
raft_index quorum_index(raft_index *match, size_t count);

#endif
