/* storage/storage_private.h - what the files of a storage share. Private to storage/. */
#ifndef STORAGE_STORAGE_PRIVATE_H
#define STORAGE_STORAGE_PRIVATE_H

#include "storage/index.h"
#include "storage/tail.h"
#include "storage/vote_file.h"

struct storage {
    struct disk *disk;
    struct vote_file vote;
    struct tail tail; /* the segment that is written to */
    struct log_index index;
    struct storage_base written; /* the last entry of the frames that are written: what a new segment follows */
    bool marked;
    bool torn;
    bool failed;
    bool kept;      /* nothing more is given back: the directory could not be synced */
    uint8_t *frame; /* aligned; one frame being made */
    size_t frame_capacity;
    char why[640];
};

/* The last entry's chain and term as the disk has them: `index` is the base's or that of an entry that is held. */
enum status storage_chain_at(struct storage *storage, raft_index index, struct storage_base *at) MUST_USE;

#endif
