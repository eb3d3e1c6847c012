/* machine/membership.h - who shall be a member: what was asked, what was observed, what the policy decided. All of it replicated.
 *
 * The replica's leader brings facts and requests as entries; the machine, on every node alike, asks the policy (a Lua module, script/policy.h;
 * without one: manual) and keeps what it decided as a row; the leader acts on that row, through compare-and-set on the
 * configuration's id (raft.h, CHANGE), once it has applied its own term's first entry. So a new leader goes on where the last one
 * stopped, and no node ever acts on what it alone saw (DESIGN.md §6).
 *
 *   ENTRY_CONFIGURATION  the members from here on (wire/members.h). A newer id clears the decision; what was done, and why,
 *                        becomes a row of the history. Events for observe: joined (a member that is new)
 *   ENTRY_MEMBERSHIP     [by, force, expected_id, [change, ...]]: asked by an operator or by a node that joins. by: "operator",
 *                        "join"; expected_id: of the configuration, 0: whichever is in force. Goes through the policy's admit, unless
 *                        forced (which is recorded). Event for observe: requested. Its answer:
 *                          ok {decision = INDEX, configuration = ID}: the row is there; the leader acts on it
 *                          ok {invited = ID}                        : an operator's add, or replace with a node that is no member: it may
 *                                                                     join (a row; replace is decided when it has joined)
 *                          ok {member = ID}                         : nothing to do, it is so already (a join that is repeated)
 *                          an error: DENIED (admit said no: why; a join that nobody invited under manual: the line to type),
 *                          STALE_CONFIG, NOT_FOUND (no such member), EXISTS (id or address taken, another incarnation: `members replace`),
 *                          CONFLICT (makes no sense: the last voter, promote of a voter), BAD_ARGS
 *   ENTRY_OBSERVATION    [[id, silent_since_ms, lag, caught_up, parked], ...]: all facts of those members of which one changed; silent_since_ms
 *                        is cluster time, 0: it is heard. An empty list: time for a review. Events for observe: silent, back,
 *                        caught_up, parked. Then review is asked, unless a decision waits or the configuration is joint.
 *
 * change = [op, id, with, address, incarnation, zone, {tag = value, ...}, priority]; op: add promote demote remove replace address
 * transfer. What an op does not need is 0, "" or {}. add makes a learner.
 *
 * A policy that throws, overruns its budget, or asks for what makes no sense (unknown ids, no voters left, a voter set of which, by
 * what was observed, no majority is up): nothing changes, an alarm row says why, and until the policy is deployed anew it is
 * as manual. What observe, review and admit do to the policy's memory is undone with them when they fail.
 *
 * Depends on machine, script, wire.
 */
#ifndef MACHINE_MEMBERSHIP_H
#define MACHINE_MEMBERSHIP_H

#include "machine/machine.h"

enum { MEMBERSHIP_HISTORY_MAX = 256, MEMBERSHIP_INVITED_MAX = 32, MEMBERSHIP_CHANGES_MAX = 64 };

/* Appends what the replica needs to act, a MessagePack map; machine_status.membership_version grows when it changes:
 *   decision   nil, or {index, configuration (the id it is for), by, force, why, changes (list of change)}
 *   invited    list of {id, address, replaces}
 *   policy     its name: "manual" if none was given
 *   alarm      nil, or why the policy is not asked any more
 */
void machine_pack_membership(const struct machine *machine, struct buffer *out);

/* Appends the history, oldest first: a MessagePack list of {index, configuration, by, force, why, changes, observed, done}: index
 * of the entry that decided, id of the configuration that it became (0: not yet), what review saw (the members' facts then). */
void machine_pack_membership_history(const struct machine *machine, struct buffer *out);

#endif
