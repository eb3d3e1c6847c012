/* storage/identity.h - who this data directory is.
 *
 * Made once, with the directory: node id and a random incarnation. Formation pins the set; the cluster id is the hash of
 * that set. Kept in the file "identity". Depends on base, raft/types.h, wire/pack.h, storage/disk.h.
 */
#ifndef STORAGE_IDENTITY_H
#define STORAGE_IDENTITY_H

#include "raft/types.h"
#include "storage/disk.h"

struct identity_member {
    node_id id;
    uint64_t incarnation; /* 0: not known yet */
    char address[256];    /* host:port, zero-terminated */
};

struct identity {
    node_id id;
    uint64_t incarnation;
    uint64_t cluster_id; /* 0 until pinned */
    uint8_t formation;   /* 0 new, 1 pinned, 2 formed (wire/message.h names them) */
    uint64_t line_hash;  /* of the --cluster line this directory was first started with */
    uint64_t code_hash;  /* of the bundles given then */
    uint64_t restored;   /* not 0: of the snapshot that its cluster began with (replica/restore.h) */
    uint64_t
        lease_ms; /* it may have promised for so long to help nobody else to lead (replica/lease.c); 0: never */
    bool begun;   /* of one that joined: its log has begun; where it is not there, it is lost */
    bool
        joined; /* a cluster that others had formed: `members` is this node alone; cluster_id 0: it was not let in yet */
    size_t members_count; /* the line's members; with all incarnations once pinned */
    struct identity_member members[RAFT_MEMBERS_MAX];
};

/* What lies beside an identity until a restore, or a recover, of the directory has become a node's (replica/restore.h). */
#define IDENTITY_RESTORED   "restored"
#define IDENTITY_RECOVERING "recovering"
#define IDENTITY_NEXT       "identity.next"

/* OK; NOT_FOUND: an empty directory, or one that was restored; CORRUPT, UNSUPPORTED, IO with a sentence in `why`. */
enum status identity_load(struct disk *disk, struct identity *identity, struct buffer *why) MUST_USE;

/* Durable on return. */
enum status identity_save(struct disk *disk, const struct identity *identity) MUST_USE;

/* The same, as IDENTITY_NEXT: to become the identity by a rename. */
enum status identity_save_next(struct disk *disk, const struct identity *identity) MUST_USE;

#endif
