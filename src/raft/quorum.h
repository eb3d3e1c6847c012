/* raft/quorum.h - majority arithmetic (§5.2, §5.3). Pure functions; nothing here remembers anything. */
#ifndef RAFT_QUORUM_H
#define RAFT_QUORUM_H

#include "raft/types.h"

/* The highest value that a majority has at least, given what each voter has. Sorts `values`. `count` is at least 1. */
uint64_t quorum_value(uint64_t *values, size_t count);

#endif
