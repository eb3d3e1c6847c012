/* machine/membership.h - who shall be a member: what was asked, what was observed, what the policy decided. All of it replicated.
 *
 * The replica's leader brings facts and requests as entries; the machine, on every node alike, asks the policy (a Lua module,
 * script/policy.h; without one: manual) and keeps what it decided as a row; the leader acts on that row, through compare-and-set on
 * the configuration's id (raft.h, CHANGE), once it has applied its own term's first entry. So a new leader goes on where the last one
 * stopped, and no node ever acts on what it alone saw (DESIGN.md §6).
 *
 *   ENTRY_CONFIGURATION  the members from here on (wire/members.h). A newer id ends the decision: what became of it is said in the
 *                        history. Events for observe: joined (a member that is new)
 *   ENTRY_MEMBERSHIP     [by, force, expected_id, [change, ...][, why]]: asked by an operator, or by a node that joins, or given back by
 *                        the leader. by: "operator", "join", "leader"; expected_id: of the configuration, 0: whichever is in force.
 *                        What makes sense goes through the policy's admit, unless it is forced (which is recorded) or joins by
 *                        invitation. Event for observe, before admit: requested. Its answer:
 *                          ok {decision = INDEX, configuration = ID}: the row is there; the leader acts on it
 *                          ok {invited = ID}  : an operator's add, or replace with a node that is no member: it may join (a row; replace
 *                                               is decided when it has joined and caught up)
 *                          ok {withdrawn = ID}: an operator's remove of who is only invited; or the leader's (below)
 *                          ok {member = ID}   : nothing to do, it is so already (a join that is repeated)
 *                          an error: DENIED (admit said no: why; a join that nobody invited under manual: the line to type),
 *                          STALE_CONFIG, CONFIG_PENDING (a decision waits, or the configuration is joint: ask again; force puts the
 *                          request in place of a decision that waits), NOT_FOUND (no such member), EXISTS (id or address taken, another
 *                          incarnation: `members replace`), CONFLICT (makes no sense: the last voter, promote of a voter or of one
 *                          that has not caught up), BAD_ARGS
 *                        A join of a member, of the same incarnation, that says something new of itself (address, zone, tags, priority)
 *                        becomes a change `address`. By "leader": the decision at index expected_id cannot be carried out, and is
 *                        taken back; why says why (raft refused it for long, a transfer ran out of time). No changes.
 *   ENTRY_OBSERVATION    [leader, [[id, silent_since_ms, lag, caught_up, parked], ...]]: who leads, and all facts of those members of which
 *                        one changed; silent_since_ms is cluster time, 0: it is heard (while it stays silent, the earliest counts). No
 *                        members: time for a review, or another leader. Events for observe: silent, back, caught_up, parked. Then
 *                        review is asked, unless a decision waits or the configuration is joint. A new leader brings one when `leader`
 *                        is not its id, and then whatever differs from `observed`. No answer.
 *
 * change = [op, id, with, address, incarnation, zone, {tag = value, ...}, priority]; op: add promote demote remove replace address
 * transfer. What an op does not need is 0, "" or {}. add makes a learner. replace: `with`, a learner, votes in place of id, which is
 * removed. address: its address from now on; if the member itself asks, by a join, also its zone, tags and priority. transfer comes alone, and so
 * does add, which of an operator or a policy is an invitation.
 *
 * When review is asked: at each observation. machine_status.review_due_ms is the cluster time from which the leader should bring one
 * though nothing changed (empty, if need be): at once after a policy or configuration came into force, `every` ms after the last review
 * if the policy sets `every`, or after as long as review said ({wait = ms, why}). UINT64_MAX: none is due; an idle group stays idle.
 *
 * A policy that throws, overruns its budget, or asks for what makes no sense (unknown ids, no voters left, a voter set of which, by
 * what was observed, no majority is up): nothing changes, an alarm row says why, and until the policy is deployed anew it is
 * as manual. What observe, review and admit do to the policy's memory is undone with them when they fail. An observation that an operator
 * has skipped raises the alarm, too: its facts count, and nothing is asked.
 *
 * Depends on machine, script, wire.
 */
#ifndef MACHINE_MEMBERSHIP_H
#define MACHINE_MEMBERSHIP_H

#include "machine/machine.h"

enum { MEMBERSHIP_HISTORY_MAX = 256, MEMBERSHIP_INVITED_MAX = 32, MEMBERSHIP_CHANGES_MAX = 64 };

/* Appends what the replica needs to act, a MessagePack map; machine_status.membership_version grows when it changes:
 *   decision   nil, or {index, configuration (the id it is for), by, force, why, changes (list of change), members: the whole payload of the
 *              ENTRY_CONFIGURATION that it asks for (wire/members.h), nil for a transfer}. Until it is gone the leader proposes that
 *              (CHANGE with expected_id = configuration, force as it says), or transfers; a newer configuration, a transfer's new
 *              term, or the leader's own ENTRY_MEMBERSHIP takes it away
 *   handing    a transfer was decided, and it is not known yet who leads: an observation settles it
 *   invited    list of {id, address, replaces (0: nobody)}
 *   leader     who brought the last observation; 0: nobody yet
 *   configuration, joint, members   the one applied last: list of {id, address, role, old, is_leader, priority, zone, tags, silent_ms, lag,
 *              caught_up, steady_ms, parked}, as of cluster time now
 *   observed   list of [id, silent_since_ms, lag, caught_up, parked] of all members, as the machine has them
 *   policy     its name: "manual" if none was given
 *   alarm      nil, or why the policy is not asked any more
 *   waiting    nil, or {until (cluster time), why}: what the last review waits for
 */
void machine_pack_membership(const struct machine *machine, struct buffer *out);

/* Appends the history, oldest first: a MessagePack list of {index, configuration, by, force, why, changes, observed, done}: index
 * of the entry that decided, id of the configuration that it became (0: none, or not yet), what the members' facts were then (a list of
 * {id, role, is_leader, silent_ms, lag, caught_up, steady_ms, parked}), done: true, or what became of it instead as text; nil: it is
 * under way. */
void machine_pack_membership_history(const struct machine *machine, struct buffer *out);

#endif
