/* sim/witness_cores.c - what the cores say of themselves, held against what is known. See sim/witness.h. */
#include "sim/witness_private.h"

/* --- what the cores say ------------------------------------------------------------------------------------------------------------ */

/* Election Safety, §5.2; then Leader Completeness, §5.4: all that is committed is in its log. */
static void hold_leader(struct witness *witness, uint32_t number, const struct raft *raft,
                        const struct raft_status *now)
{
    witness->leaders =
        witness_grown(witness->leaders, &witness->leaders_capacity, now->current_term, sizeof *witness->leaders);
    node_id *leader = &witness->leaders[now->current_term];
    if (*leader != NOBODY && *leader != number + 1)
        witness_break(witness, "election safety: a term has two leaders: term, second", now->current_term,
                      number + 1);
    *leader = number + 1;
    raft_index last = witness->committed_last;
    while (last > 0 && witness->committed[last].in >= now->current_term)
        last--;
    if (last > 0 && last >= now->base_index && raft_term_at(raft, last) != witness->committed[last].term)
        witness_break(witness, "leader completeness: a leader lacks a committed entry", number + 1, last);
}

static size_t count_holders(struct witness *witness, const node_id *voters, size_t count, raft_index index,
                            raft_term term)
{
    size_t holders = 0;
    for (size_t i = 0; i < count; i++) {
        const struct seen *seen = witness_find(witness, voters[i]); /* NULL: its disk was lost for good */
        holders += seen == NULL || seen->damaged || witness_durable_term(seen, index) == term;
    }
    return holders;
}

/* Of each set that votes (§6). */
static bool is_durable(struct witness *witness, const struct raft_configuration *now, raft_index index,
                       raft_term term)
{
    return count_holders(witness, now->voters, now->voters_count, index, term) * 2 > now->voters_count &&
           (now->old_voters_count == 0 ||
            count_holders(witness, now->old_voters, now->old_voters_count, index, term) * 2 >
                now->old_voters_count);
}

/* Where it is known first, which is where it was counted: by the configuration in force there, or by the one that was before this
 * event, in which another was appended. */
static void hold_durable_on_quorum(struct witness *witness, const struct seen *seen, const struct raft *raft,
                                   raft_index index, raft_term term)
{
    struct raft_configuration now;
    if (index == witness->restored + 1)
        return; /* formation, not a majority, makes it safe (replica/formation.h) */
    raft_get_configuration(raft, &now);
    if (!is_durable(witness, &now, index, term) &&
        (!seen->looked || !is_durable(witness, &seen->configuration, index, term)))
        witness_break(witness, "committed, but not durable on a majority: index, holders", index,
                      count_holders(witness, now.voters, now.voters_count, index, term));
}

static void hold_commit(struct witness *witness, uint32_t number, const struct raft *raft,
                        const struct raft_status *now)
{
    raft_index from = witness->seen[number].looked ? witness->seen[number].commit : 0;
    if (from + 1 < now->base_index)
        from = now->base_index - 1; /* before it a snapshot stands, and it is compared by its digest */
    if (from > witness->committed_last) {
        witness_break(witness, "a log begins after what is committed: node, index", number + 1, now->base_index);
        return;
    }
    for (raft_index index = from + 1; index <= now->commit_index; index++) {
        raft_term term = raft_term_at(raft, index);
        witness->committed =
            witness_grown(witness->committed, &witness->committed_capacity, index, sizeof *witness->committed);
        struct committed *known = &witness->committed[index];
        if (index > witness->committed_last) {
            witness->committed_last = index;
            known->term = term;
            known->in = now->current_term;
            hold_durable_on_quorum(witness, &witness->seen[number], raft, index, term);
        } else if (known->term != term) {
            witness_break(witness, "two entries are committed at an index: node", number + 1, index);
        }
    }
}

/* A leader believes of its followers only what their disks hold. */
static void hold_matches(struct witness *witness, const struct raft *raft, const struct raft_status *now)
{
    for (size_t i = 0; i < now->peers_count; i++) {
        const struct raft_peer_status *peer = &now->peers[i];
        const struct seen *other = witness_find(witness, peer->id);
        if (other == NULL || peer->id == now->id || peer->match_index == 0 || peer->match_index < now->base_index)
            continue;
        if (!other->damaged && other->vote_term <= now->current_term &&
            witness_durable_term(other, peer->match_index) != raft_term_at(raft, peer->match_index))
            witness_break(witness, "a leader counts what a follower's disk does not hold: follower, index",
                          peer->id, peer->match_index);
    }
}

void witness_looked(struct witness *witness, uint32_t number, const struct raft *raft)
{
    struct seen *seen = &witness->seen[number];
    if (raft == NULL || !seen->up)
        return;
    struct raft_status now;
    raft_get_status(raft, &now);
    if (now.commit_index > now.last_log_index)
        witness_break(witness, "commit is beyond the end of the log", now.commit_index, now.last_log_index);
    if (seen->looked) {
        if (now.current_term < seen->term)
            witness_break(witness, "a term went back", now.current_term, seen->term);
        if (now.commit_index < seen->commit)
            witness_break(witness, "a commit index went back", now.commit_index, seen->commit);
        if (now.last_log_index < seen->last && now.last_log_index < now.commit_index)
            witness_break(witness, "a log was cut below its commit index", now.last_log_index, now.commit_index);
        if (seen->role == RAFT_LEADER && now.role == RAFT_LEADER && now.current_term == seen->term &&
            now.last_log_index < seen->last)
            witness_break(witness, "leader append-only: a leader's log became shorter", number + 1,
                          now.last_log_index);
    }
    if (now.role == RAFT_LEADER && (!seen->looked || seen->role != RAFT_LEADER || seen->term != now.current_term))
        hold_leader(witness, number, raft, &now);
    if (!seen->looked || now.commit_index > seen->commit)
        hold_commit(witness, number, raft, &now);
    if (now.role == RAFT_LEADER)
        hold_matches(witness, raft, &now);
    seen->looked = true;
    seen->term = now.current_term;
    seen->role = now.role;
    seen->commit = now.commit_index;
    seen->last = now.last_log_index;
    raft_get_configuration(raft, &seen->configuration);
}
