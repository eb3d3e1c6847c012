/* wire/entry.h - the one encoding of a log entry: the same bytes in memory, on the wire and on disk.
 *
 * Record, little-endian, 8-byte aligned, its end padded with zeros to 8:
 *
 *      0 u32 crc32c of the rest     4 u32 bytes in all      8 u64 index      16 u64 term
 *     24 u64 chain                 32 u64 stamp_ms         40 u8 kind, u8 flags, u16 0, u32 payload bytes     48 payload
 *
 * chain = XXH3-64 of the record from byte 8 to its end with the previous record's chain in this field (0 before entry 1);
 * the crc is computed last. Two logs that agree on (index, term, chain) are equal up to there.
 * Depends on base and raft/types.h.
 */
#ifndef WIRE_ENTRY_H
#define WIRE_ENTRY_H

#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

enum {
    ENTRY_HEADER_BYTES = 48,
    ENTRY_BYTES_MAX = 16 * 1024 * 1024 /* a whole record; the limits on rows, arguments and batches are far below */
};

/* What the payloads are: MessagePack values, one after another. A ticket is the list [session, seq, done_below]: with it a
 * command runs exactly once (machine/session.h). */
enum entry_kind {
    ENTRY_NOOP = 1,          /* no payload: a leader's first of its term */
    ENTRY_CONFIGURATION = 2, /* the members from here on (wire/members.h); entry 1: those it was formed with */
    ENTRY_BUNDLE = 3,        /* a module and all it requires (script/bundle.h) */
    ENTRY_COMMAND = 4,       /* text "mount.command", list of raw arguments [, ticket] */
    ENTRY_BATCH = 5,         /* list of [name, args] lists [, ticket]; all or nothing */
    ENTRY_SESSION = 6,       /* list ["open", ttl_ms], ["keep", session] or ["end", session] */
    ENTRY_DUE = 7,           /* no payload: what is due at this entry's stamp happens (machine/timer.h) */
    ENTRY_DEPLOY = 8,        /* map {kind, mount, expect, ...}, bundle (machine/deploy.h) */
    ENTRY_MIGRATE = 9,       /* text: the mount whose migration goes on */
    ENTRY_LIMIT = 10,        /* list [name, value] */
    ENTRY_SKIP = 11,         /* list [index]: the entry there is refused, whatever it is */
    ENTRY_MEMBERSHIP = 12,   /* list [by, force, expected_id, [change, ...]] (machine/membership.h) */
    ENTRY_OBSERVATION = 13,  /* list [leader, [[id, silent_since_ms, lag, caught_up, parked], ...]] */
    ENTRY_KINDS
};

/* A decoded entry; payload is borrowed from the record. */
struct entry {
    raft_index index;
    raft_term term;
    uint64_t chain;
    uint64_t stamp_ms; /* cluster time that the leader gave it */
    uint8_t kind;
    uint8_t flags;
    uint32_t size; /* bytes of the record in all */
    struct slice payload;
};

/* Bytes of a record with this payload, padding included. */
size_t entry_size(size_t payload_bytes);

/* Appends the record; size and chain of `entry` are ignored on the way in and set on return. */
void entry_encode(struct buffer *out, struct entry *entry, uint64_t previous_chain);

/* Decodes the record at the front of `bytes`. OK; INCOMPLETE; CORRUPT (crc, size, kind, padding). */
enum status entry_decode(struct slice bytes, struct entry *entry) MUST_USE;

/* As entry_decode without the crc: for records that this process has checked before. */
enum status entry_peek(struct slice bytes, struct entry *entry) MUST_USE;

/* The chain that a record must carry after `previous_chain`: equal to entry->chain if it is its successor. */
uint64_t entry_chain(struct slice record, uint64_t previous_chain);

/* A word for the kind: "command". "unknown" outside the list. Static memory. */
const char *entry_kind_name(uint8_t kind);

#endif
