/* wire/message.h - what nodes say to each other: frames on a peer link.
 *
 * A link begins with the byte C1, then frames, little-endian:
 *
 *      0 u32 bytes in all (this header, body, records)     4 u32 crc32c of header from byte 8 and body
 *      8 u8 type   9 u8 flags 0   10 u16 0   12 u32 body bytes   16 body   then records (wire/entry.h), if any
 *
 * Records carry their own crc. Bodies are MessagePack lists that may grow at their end, so an older node skips what it
 * does not know. A link carries messages one way, from the node that dialled; answers come on the other node's own link.
 * The first frame each way is HELLO; who disagrees says why in GOODBYE and closes. A bulk link is a second one between the
 * same two, dialled by whoever sends a snapshot: nothing but HELLO and SNAPSHOT_PIECE goes there, so that nothing else waits
 * behind a gigabyte. Depends on base, raft, wire.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "base/checksum.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

enum {
    MESSAGE_MARK = 0xC1,
    MESSAGE_HEADER_BYTES = 16,
    MESSAGE_BYTES_MAX = 32 * 1024 * 1024, /* a frame: one largest record and then some */
    MESSAGE_BODY_MAX = 9 * 1024 * 1024    /* a body: the largest answer and then some */
};

enum message_type {
    MESSAGE_HELLO = 1,
    MESSAGE_GOODBYE = 2,        /* a sentence: why the link ends; the other side logs it */
    MESSAGE_RAFT = 3,           /* struct raft_message, with records for APPEND_ENTRIES */
    MESSAGE_FORWARD = 4,        /* a client's request, to the leader */
    MESSAGE_FORWARDED = 5,      /* its answer */
    MESSAGE_SNAPSHOT_PULL = 6,  /* a follower says how far it has a snapshot; so it asks for what comes next */
    MESSAGE_SNAPSHOT_PIECE = 7, /* bytes of a snapshot's file, on a bulk link */
    MESSAGE_COMPARE = 8,        /* a node whose state is not the majority's asks what another's rows sum to */
    MESSAGE_COMPARED = 9,       /* its answer */
    MESSAGE_REBUILD = 10, /* a parked node asks the leader for a snapshot of its state; with a file: the offer */
    MESSAGE_READ = 11,    /* a follower asks the leader from which index on a query may be answered */
    MESSAGE_READ_AT = 12  /* its answer */
};

/* How far the formation of a cluster has come at the sender (replica/formation.h). */
enum formation_state { FORMATION_NEW = 0, FORMATION_PINNED = 1, FORMATION_FORMED = 2 };

struct message_hello {
    uint32_t protocol_min;
    uint32_t protocol_max;
    uint64_t cluster_id; /* 0: not formed yet */
    node_id from;
    node_id to;
    uint64_t incarnation;   /* the sender's: random, made once with its data directory */
    uint8_t formation;      /* enum formation_state */
    uint64_t line_hash;     /* of the --cluster line as parsed; 0 when formed */
    uint64_t code_hash;     /* of all bundles given at formation; 0 when formed */
    uint64_t set_hash;      /* of the pinned set; 0 when FORMATION_NEW */
    uint64_t fingerprint;   /* of the runtime: LuaJIT, sandbox, number format */
    struct slice address;   /* where the sender listens */
    uint64_t last_index;    /* of the sender's durable log; 0: none yet */
    bool bulk;              /* a link for pieces of snapshots alone */
    uint64_t restored;      /* of the snapshot that the cluster is to begin with; 0: none, or formed */
    uint64_t configuration; /* id of the one in force there; 0: none yet */
};

/* Beside the core's fields in AppendEntries and its answer: what digests are compared (replica/digest.c). All 0: nothing to
 * say, and then nothing is sent. */
struct message_digests {
    raft_index asked; /* a leader asks for the digest at this index; a follower wants it agreed on there */
    raft_index index; /* with `digest`: a leader says what a majority agreed on; a follower answers with its own */
    struct hash128 digest;
    bool none; /* of a leader: at `index` no majority has one digest, and none will; of a follower: it is parked */
};

/* A snapshot's file as nodes name it: with one whole hash and one head, files are the same. */
struct message_snapshot {
    raft_index index; /* 0: none */
    raft_term term;
    uint64_t bytes;
    struct hash128 hash; /* of the whole (storage/snapshot_file.h) */
    uint64_t head_hash;  /* XXH3-64 of its head: all that a receiver knows after a restart */
};

struct message_pull {
    raft_index index;
    struct hash128 hash;
    uint64_t offset;   /* what it has, and wants to go on from; all: it reads the file */
    uint64_t progress; /* grows while it gets on, also while it reads */
    bool again;        /* what was sent from here on is lost */
    bool bad;          /* it has all of it, and it is damaged: is it so at the sender? */
};

struct message_piece {
    raft_index index;
    struct hash128 hash;
    uint64_t offset;
    uint32_t crc; /* CRC32C of the bytes */
};

/* Both nodes must look at the state at one index: the first question has no rows, but an index from which on the other may
 * freeze its state; the answer says where it did, and both look there (replica/diverge.c). */
struct message_compare {
    uint64_t number; /* the asker's, of the comparison */
    raft_index at_least;
    bool end;        /* there are no more questions */
    struct slice lo; /* rows with lo <= key < hi */
    struct slice hi;
};

struct message_compared {
    uint64_t number;
    raft_index index;  /* of the state; 0: not now */
    struct slice told; /* nil, or what machine/compare.h tells of the rows */
};

struct message_rebuild {
    raft_index need;              /* an index that the snapshot must include; 0: the asker is done */
    struct message_snapshot file; /* of an offer; index 0: a question */
};

struct message_read {
    uint64_t id;      /* the asker's: grows */
    raft_index index; /* of an answer; 0: this node does not lead */
    uint64_t now_ms;  /* cluster time at the leader */
    bool lease;       /* of a question: a lease will do */
};

enum forward_flags {
    FORWARD_QUERY_ONLY = 1, /* refuse commands */
    FORWARD_BATCH = 2,
    FORWARD_DRY_RUN = 4, /* run the command, and take it back */
    FORWARD_LEASE = 8    /* a lease will do for the query */
};

struct message_forward {
    uint64_t id;         /* the sender's own number for it; comes back in FORWARDED */
    uint32_t timeout_ms; /* that the client still waits */
    uint32_t flags;
    struct slice name; /* "mount.command"; empty for a batch */
    struct slice args; /* one MessagePack value: the list of arguments, or of a batch */
    /* The list [session, seq, done_below] of a command with a session, as it goes into the entry; empty: none */
    struct slice ticket;
};

struct message_forwarded {
    uint64_t id;
    bool ok;
    bool definite;      /* of an error */
    uint64_t index;     /* of the entry, or of the state that was read */
    struct slice value; /* ok: the MessagePack value; else the error map {code, message, data} */
};

struct message {
    enum message_type type;
    union {
        struct message_hello hello;
        struct {
            struct slice text;
            bool end; /* whoever gets this must end: its directory is not what it promised */
        } goodbye;
        struct raft_message raft;
        struct message_forward forward;
        struct message_forwarded forwarded;
        struct message_pull pull;
        struct message_piece piece;
        struct message_compare compare;
        struct message_compared compared;
        struct message_rebuild rebuild;
        struct message_read read;
    };
    uint64_t wall_ms; /* of a RAFT message: the sender's wall clock, for cluster time (replica/clock.h) */
    struct message_digests digests;   /* of AppendEntries and its answer */
    struct message_snapshot snapshot; /* of INSTALL_SNAPSHOT: the file that is offered */
    struct slice
        records; /* of AppendEntries: whole records, checked one by one by the receiver; of a piece: its bytes */
};

/* Appends the frame of `message` without its records, whose `records_bytes` are counted in and must be sent right after
 * it: so they go out from where they lie. */
void message_encode(struct buffer *out, const struct message *message, size_t records_bytes);

/* Decodes the frame at the front of `bytes`; everything in `message` is borrowed from there. `used` gets its size. OK;
 * INCOMPLETE (`used` gets the bytes needed, if known, else 0); TOO_LARGE, CORRUPT, INVALID: close the link. */
enum status message_decode(struct slice bytes, struct message *message, size_t *used) MUST_USE;

#endif
