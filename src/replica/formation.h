/* replica/formation.h - how a cluster comes to be, crash-safe at every step.
 *
 *   1. Every node of the --cluster line makes its identity: its id, a random incarnation, the line, the hash of the bundles;
 *      durable, with the bundles, before it says a word.
 *   2. They exchange HELLOs. A node that knows all incarnations pins the set {id, incarnation, address}: durable.
 *      cluster id = hash of that set. A HELLO that disagrees (another line, other code, another incarnation for an id,
 *      a member of another cluster) is refused with a sentence that says what to do.
 *   3. A node that has heard from every member that it pinned the same set (or that one is formed with it) writes the entry
 *      that forms the cluster: the set, the same bytes everywhere; then it is formed, and raft begins. Nobody votes before.
 * A crash anywhere: the same line again. That entry's payload is MessagePack: [[id, incarnation, address], ...] sorted by id.
 * It is entry 1, term 1, stamp 0; or, where the directories were restored from a snapshot (replica/restore.h), the one after
 * it, of the next term, with the snapshot's stamp. Then HELLOs carry that file's hash in place of bundles: all must agree.
 * A node that joins later makes its identity, durable, asks a member to let it in (tidelock.join), and writes down the cluster's id when that
 * was granted; it has no set of its own. A crash anywhere: the same line again.
 * Depends on storage/identity.h, wire, base.
 */
#ifndef REPLICA_FORMATION_H
#define REPLICA_FORMATION_H

#include "base/checksum.h"
#include "storage/identity.h"

/* Parses "1=H:P,2=H:P,..." into members (sorted by id, incarnations 0). OK, or INVALID with a sentence. */
enum status formation_parse_line(const char *line, struct identity_member members[RAFT_MEMBERS_MAX], size_t *count,
                                 struct buffer *why) MUST_USE;

/* HOST:PORT or [IPV6]:PORT, where another node could find one; not every address of a machine. */
bool formation_address(struct slice address);

/* Makes the identity for a first start: `id` must be in the line. `seed` is true randomness for the incarnation. */
enum status formation_identity(node_id id, const char *line, uint64_t code_hash, uint64_t seed,
                               struct identity *identity, struct buffer *why) MUST_USE;

/* Makes the identity of a node that joins a cluster which others formed: nobody's until `cluster_id` is set, once the cluster has let it
 * in. OK, or INVALID with a sentence. */
enum status formation_joiner(node_id id, const char *address, uint64_t seed, struct identity *identity,
                             struct buffer *why) MUST_USE;

/* Holds a start's flags against the identity that is there: the same id, and if not formed yet the same line and code.
 * OK, or MISMATCH with a sentence that shows both and says what to do. line NULL: not given. */
enum status formation_check(const struct identity *identity, node_id id, const char *line, uint64_t code_hash,
                            struct buffer *why) MUST_USE;

/* How a restored file is named in identities and HELLOs: by its whole hash. Never 0. */
uint64_t formation_restored(struct hash128 file);

/* That entry's payload, and back. */
void formation_pack_set(const struct identity_member *members, size_t count, struct buffer *out);
enum status formation_unpack_set(struct slice payload, struct identity_member members[RAFT_MEMBERS_MAX],
                                 size_t *count) MUST_USE;

/* The cluster id: never 0. */
uint64_t formation_cluster_id(struct slice set);

#endif
