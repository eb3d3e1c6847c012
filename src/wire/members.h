/* wire/members.h - a configuration as entries and snapshots carry it: the members, who they are, what they may do.
 *
 * Payload of ENTRY_CONFIGURATION, MessagePack, one of two forms:
 *   of formation  [[id, incarnation, address], ...]: all vote. The cluster id is the hash of these bytes (replica/formation.h)
 *   of a change   [[id, incarnation, address, roles, priority, zone, {tag = value, ...}], ...]
 * sorted by id; roles is a sum of enum member_role. It is joint if somebody has MEMBER_OLD_VOTER. The id of a configuration is the
 * index of its entry. Depends on base, raft/types.h, wire/pack.h.
 */
#ifndef WIRE_MEMBERS_H
#define WIRE_MEMBERS_H

#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"
#include "wire/pack.h"

enum member_role { MEMBER_VOTER = 1, MEMBER_OLD_VOTER = 2, MEMBER_LEARNER = 4 };

enum { MEMBER_TAGS_MAX = 8, MEMBER_TAGS_BYTES = 256, MEMBER_ZONE_BYTES = 64, MEMBER_ADDRESS_BYTES = 256 };

struct member {
    node_id id;
    uint64_t incarnation; /* random, made once with the data directory */
    uint8_t roles;
    uint8_t priority;                   /* 0 to RAFT_PRIORITY_MAX */
    char address[MEMBER_ADDRESS_BYTES]; /* host:port, zero-terminated */
    char zone[MEMBER_ZONE_BYTES];       /* "": none */
    uint32_t tags_bytes;
    uint8_t tags[MEMBER_TAGS_BYTES]; /* a MessagePack map of text to text, canonical; tags_bytes 0: none */
};

struct members {
    raft_index id; /* of the entry that carries it; not in the payload */
    size_t count;
    struct member list[RAFT_MEMBERS_MAX]; /* by id */
};

/* Appends the payload: the form of formation if all vote and nobody has a priority, zone or tags, else the other. */
void members_pack(const struct members *members, struct buffer *out);

/* OK, or INVALID: unsorted, too many, too long, no voter, a learner that votes. `id` stays as it is. */
enum status members_unpack(struct slice payload, struct members *members) MUST_USE;

/* Parts of a member, as requests carry them, too: a text without a zero, UTF-8, into `room` bytes with its own; a map of text to text,
 * its keys in their order. False: it is none. */
bool members_read_text(struct pack_reader *reader, char *text, size_t room);
bool members_read_tags(struct pack_reader *reader, struct member *member);

/* NULL: no such member. */
const struct member *members_find(const struct members *members, node_id id);

/* What the core wants to know of it. */
void members_to_raft(const struct members *members, struct raft_configuration *configuration);

#endif
