/* raft/replication.c - AppendEntries, both sides (§5.3); the commit rule (§5.4.2); check-quorum (thesis §6.2). */
#include "base/mutant.h"
#include "raft/state.h"

/* --- the leader: sending ------------------------------------------------------------------------------------------------ */

/* An AppendEntries to `peer`; its entries, if any are wanted, begin at next_index. */
static struct raft_append_entries *append_message(struct raft *raft, struct progress *peer)
{
    struct raft_message *message = raft_message_new(raft, RAFT_APPEND_ENTRIES, peer->id);
    struct raft_append_entries *append = &message->append_entries;
    /* While it waits for a snapshot, from the base: the earliest whose term is known. */
    append->prev_log_index = peer->next_index - 1;
    append->prev_log_term = trail_term(&raft->trail, append->prev_log_index);
    append->last_index = append->prev_log_index;
    append->leader_commit = raft->commit_index;
    append->round = raft->round;
    append->epoch = peer->epoch;
    peer->sent = raft->now;
    peer->commit_sent = raft->commit_index;
    return append;
}

/* Without entries; it carries the consistency check all the same, so a loss is noticed. */
void replication_heartbeat(struct raft *raft, struct progress *peer)
{
    (void)append_message(raft, peer);
}

/* Sends entries if there are any and the window allows it. */
static bool send_entries(struct raft *raft, struct progress *peer)
{
    if (peer->next_index > raft->trail.last || !progress_may_send(peer, raft->options.window_bytes))
        return false;
    uint64_t room = raft->options.window_bytes - peer->inflight_bytes;
    struct raft_append_entries *append = append_message(raft, peer);
    append->last_index = raft->trail.last;
    append->bytes_max = room < raft->options.message_bytes_max ? (uint32_t)room : raft->options.message_bytes_max;
    peer->sending = true;
    return true;
}

void replication_send_all(struct raft *raft)
{
    for (size_t i = 0; i < raft->peers_count; i++)
        (void)send_entries(raft, &raft->peers[i]);
}

void replication_become_leader(struct raft *raft)
{
    CHECK(raft->role == RAFT_CANDIDATE);
    CHECK(raft->voted_for == raft->options.id);
    raft->role = RAFT_LEADER;
    raft->leader = raft->options.id;
    raft->led_term = raft->current_term;
    RAFT_TRACE(raft, "leader of term %llu", (unsigned long long)raft->current_term);
    raft->lease_void = false;
    raft->prefer_from = raft->now + raft->options.election_timeout_ms;
    peers_begin_term(raft);
    raft->heartbeat_deadline = raft->now + raft->options.heartbeat_ms;
    raft->quorum_deadline = raft->now + raft->options.election_timeout_ms;
    raft->commit_deadline = UINT64_MAX;
    /* §8: a no-op of its own term, so that it learns what is committed. */
    trail_append(&raft->trail, 1, raft->current_term);
    raft->term_start = raft->trail.last;
    raft_write_entries(raft, RAFT_APPEND_NOOP, raft->trail.last, raft->trail.last, raft->current_term);
    replication_send_all(raft);
}

void replication_propose(struct raft *raft, uint64_t count)
{
    CHECK(count > 0);
    bool full = raft->trail.last - raft->commit_index + count > raft->options.uncommitted_entries_max;
    bool handing_over = raft->transfer_to != 0 && !MUTANT(212); /* thesis §3.10: it would never catch up */
    if (raft->role != RAFT_LEADER || (full && !MUTANT(47)) || handing_over) {
        raft->effects->proposal_refused = true;
        return;
    }
    raft_index first = raft->trail.last + 1;
    trail_append(&raft->trail, count, raft->current_term);
    raft_write_entries(raft, RAFT_APPEND_PROPOSAL, first, raft->trail.last, raft->current_term);
    replication_send_all(raft);
}

void replication_sent(struct raft *raft, node_id id, uint32_t epoch, raft_index last, uint32_t bytes)
{
    struct progress *peer = peers_find(raft, id);
    if (raft->role != RAFT_LEADER || peer == NULL || peer->epoch != epoch || !peer->sending)
        return;
    CHECK(last <= raft->trail.last);
    if (last < peer->next_index)
        peer->sending = false; /* read from disk so slowly that an earlier copy was acknowledged meanwhile */
    else
        progress_sent(peer, last, bytes);
    if (peer->state == PROGRESS_REPLICATE)
        (void)send_entries(raft, peer);
}

void replication_peer(struct raft *raft, node_id id, bool up)
{
    struct progress *peer = peers_find(raft, id);
    if (raft->role != RAFT_LEADER || peer == NULL)
        return;
    bool waits = peer->state == PROGRESS_SNAPSHOT;
    progress_reset(peer);
    peer->offered = 0; /* it may be lost: the next refusal is reason to offer it again */
    if (peer->match_index > 0)
        peer->next_index = peer->match_index + 1;
    if (waits || snapshot_needed(raft, peer))
        progress_wait_for_snapshot(peer, raft->trail.base);
    if (up && !send_entries(raft, peer))
        replication_heartbeat(raft, peer);
}

/* --- the leader: deadlines ---------------------------------------------------------------------------------------------- */

uint64_t replication_contact(const struct raft *raft, node_id voter)
{
    const struct progress *peer = peers_look(raft, voter);
    return peer != NULL ? peer->contact : raft->now;
}

/* thesis §6.2: a leader that does not hear from a majority within an election time-out steps down. If it is the new voters of
 * a change that are not heard, that is undone instead. */
static void check_quorum(struct raft *raft)
{
    raft_time timeout = raft->options.election_timeout_ms;
    raft_time least = raft->now > timeout ? raft->now - timeout : 0;
    raft->quorum_deadline = raft->now + timeout / 2;
    if (membership_agreed(raft, replication_contact) >= least || MUTANT(34))
        return;
    if (membership_abort_without(raft, replication_contact, least) || raft->options.no_check_quorum)
        return;
    RAFT_TRACE(raft, "no quorum within an election time-out -> step down");
    election_become_follower(raft, raft->current_term, 0);
}

static void heartbeat_all(struct raft *raft)
{
    peers_drop_silent(raft);
    read_begin_lease_round(raft);
    for (size_t i = 0; i < raft->peers_count; i++) {
        struct progress *peer = &raft->peers[i];
        if (!MUTANT(39))
            peer->probe_out = false; /* its answer may be lost: ask again */
        if (send_entries(raft, peer))
            continue;
        if (raft->now - peer->sent >= raft->options.heartbeat_ms / 2 || peer->commit_sent < raft->commit_index)
            replication_heartbeat(raft, peer);
    }
    raft->heartbeat_deadline = raft->now + raft->options.heartbeat_ms;
    transfer_heartbeat(raft);
}

/* Followers that nothing else told where commit stands are told so. */
void replication_tell_commit(struct raft *raft)
{
    for (size_t i = 0; i < raft->peers_count; i++)
        if (raft->peers[i].commit_sent < raft->commit_index)
            replication_heartbeat(raft, &raft->peers[i]);
    raft->commit_deadline = UINT64_MAX;
}

void replication_timeout(struct raft *raft)
{
    if (raft->now >= raft->quorum_deadline) {
        check_quorum(raft);
        if (raft->role == RAFT_LEADER)
            transfer_prefer(raft);
    }
    if (raft->role == RAFT_LEADER)
        transfer_timeout(raft);
    if (raft->role != RAFT_LEADER)
        return;
    if (raft->now >= raft->heartbeat_deadline)
        heartbeat_all(raft);
    else if (raft->now >= raft->commit_deadline && !MUTANT(58))
        replication_tell_commit(raft);
}

raft_time replication_wake_at(const struct raft *raft)
{
    raft_time at = raft->heartbeat_deadline;
    if (raft->quorum_deadline < at)
        at = raft->quorum_deadline;
    if (raft->transfer_to != 0 && raft->transfer_deadline < at)
        at = raft->transfer_deadline;
    return raft->commit_deadline < at ? raft->commit_deadline : at;
}

/* --- the leader: answers -------------------------------------------------------------------------------------------------- */

static uint64_t stored(const struct raft *raft, node_id voter)
{
    const struct progress *peer = peers_look(raft, voter);
    if (peer != NULL)
        return peer->match_index;
    return MUTANT(16) ? raft->trail.last : raft->durable_index;
}

void replication_advance_commit(struct raft *raft)
{
    raft_index index = membership_agreed(raft, stored);
    /* §5.4.2: only entries of the current term are committed by counting; those before them follow. */
    if (index <= raft->commit_index || (trail_term(&raft->trail, index) != raft->current_term && !MUTANT(20)))
        return;
    raft_set_commit(raft, index);
    if (raft->commit_deadline == UINT64_MAX) {
        uint32_t soon = raft->options.heartbeat_ms / 10;
        raft->commit_deadline = raft->now + (soon > 0 ? soon : 1);
    }
    read_commit_moved(raft);
    membership_committed(raft);
}

/* The follower's log does not hold what was assumed: back up, a whole term at a time (§5.3). */
static void refused(struct raft *raft, struct progress *peer, const struct raft_append_response *response)
{
    if (response->reject_index <= peer->match_index)
        return; /* older than what is known by now */
    if (peer->state == PROGRESS_SNAPSHOT) {
        snapshot_refused(raft, peer);
        return;
    }
    if (peer->state == PROGRESS_PROBE && response->reject_index != peer->next_index - 1)
        return;
    raft_index try = trail_find_term(&raft->trail, response->hint_index, response->hint_term);
    if (try >= response->reject_index)
        try = response->reject_index - 1;
    if (try < peer->match_index)
        try = peer->match_index;
    progress_reset(peer);
    peer->next_index = MUTANT(38) ? response->reject_index + 1 : try + 1;
    if (snapshot_needed(raft, peer)) {
        progress_wait_for_snapshot(peer, raft->trail.base);
        snapshot_offer(raft, peer);
        return;
    }
    RAFT_TRACE(raft, "refused by %llu at %llu -> probe from %llu", (unsigned long long)peer->id,
               (unsigned long long)response->reject_index, (unsigned long long)peer->next_index);
    if (!send_entries(raft, peer))
        replication_heartbeat(raft, peer);
}

void replication_recv_response(struct raft *raft, const struct raft_message *message)
{
    struct progress *peer = peers_find(raft, message->from);
    if (raft->role != RAFT_LEADER || (message->term != raft->current_term && !MUTANT(25)) || peer == NULL)
        return;
    const struct raft_append_response *response = &message->append_response;
    peer->contact = raft->now;
    read_round_answered(raft, peer, response);
    if ((response->round > peer->round_acked && response->round <= raft->round) || MUTANT(26)) {
        if (MUTANT(26))
            peer->round_acked = raft->round;
        else
            peer->round_acked = response->round;
        read_acknowledged(raft);
    }
    if (response->epoch != peer->epoch)
        return;
    if (!response->success) {
        refused(raft, peer, response);
        return;
    }
    if (response->match_index > raft->trail.last)
        return;
    raft_index match = MUTANT(27) ? peer->next_index - 1 : response->match_index;
    bool news = progress_acknowledged(peer, match, raft->trail.base, raft->options.window_messages);
    progress_catch_up(peer, raft->trail.last, raft->now, raft->options.election_timeout_ms);
    if (news)
        replication_advance_commit(raft);
    transfer_go_on(raft);
    peers_drop_told(raft, message->from);
    peer = peers_find(raft, message->from); /* others may be peers by now */
    if (raft->role == RAFT_LEADER && peer != NULL)
        (void)send_entries(raft, peer);
}

/* --- the follower --------------------------------------------------------------------------------------------------------- */

/* To the leader of this term. */
static struct raft_append_response *respond(struct raft *raft, const struct raft_message *message)
{
    CHECK_EQ(raft->leader, message->from);
    struct raft_message *answer = raft_message_new(raft, RAFT_APPEND_RESPONSE, message->from);
    answer->append_response.round = message->append_entries.round;
    answer->append_response.epoch = message->append_entries.epoch;
    if (raft->options.lease_drift_ms > 0 && !raft->options.no_stickiness) {
        answer->append_response.vote_wait_ms = raft->options.election_timeout_ms;
        raft->promised_to = message->from;
        raft->promised_until = raft->now + raft->options.election_timeout_ms;
    }
    return &answer->append_response;
}

/* §5.3: the entry before the new ones is not here, or of another term. */
static void refuse(struct raft *raft, const struct raft_message *message)
{
    const struct raft_append_entries *append = &message->append_entries;
    struct raft_append_response *response = respond(raft, message);
    response->reject_index = append->prev_log_index;
    response->hint_index = trail_find_term(&raft->trail, append->prev_log_index, append->prev_log_term);
    if (response->hint_index < raft->trail.base)
        response->hint_index = raft->trail.base; /* what is below it is known to match */
    response->hint_term = trail_term(&raft->trail, response->hint_index);
    RAFT_TRACE(raft, "recv AppendEntries from %llu: no entry %llu of term %llu -> refuse, hint %llu of term %llu",
               (unsigned long long)message->from, (unsigned long long)append->prev_log_index,
               (unsigned long long)append->prev_log_term, (unsigned long long)response->hint_index,
               (unsigned long long)response->hint_term);
}

/* The first index at which what came differs from what is here: last_index + 1 if nothing does. What the snapshot below this
 * log includes is committed, so it does not. */
static raft_index first_difference(const struct raft *raft, const struct raft_append_entries *append,
                                   const struct raft_run *runs, size_t runs_count)
{
    size_t run = 0;
    raft_index index = append->prev_log_index + 1;
    for (; index <= append->last_index; index++) {
        while (run + 1 < runs_count && runs[run + 1].first <= index)
            run++;
        if (index > raft->trail.base && trail_term(&raft->trail, index) != runs[run].term)
            break;
    }
    return index;
}

/* Appends entries from `from` on; conflicting ones, and all after them, go first (§5.3). */
static void append_new(struct raft *raft, const struct raft_append_entries *append, raft_index from,
                       const struct raft_run *runs, size_t runs_count)
{
    if (from <= raft->trail.last) {
        RAFT_TRACE(raft, "entry %llu conflicts -> cut from there", (unsigned long long)from);
        raft_cut(raft, from);
    }
    for (size_t run = 0; run < runs_count; run++) {
        raft_index first = runs[run].first > from ? runs[run].first : from;
        raft_index end = run + 1 < runs_count ? runs[run + 1].first : append->last_index + 1;
        if (first < end)
            trail_append(&raft->trail, end - first, runs[run].term);
    }
    CHECK_EQ(raft->trail.last, append->last_index);
    raft_write_entries(raft, RAFT_APPEND_MESSAGE, from, append->last_index, 0);
}

/* Terms of entries never fall, begin where they should, and none is above the leader's. */
static bool runs_are_sound(const struct raft *raft, const struct raft_append_entries *append,
                           const struct raft_run *runs, size_t runs_count)
{
    if (append->last_index == append->prev_log_index)
        return runs_count == 0;
    if (runs_count == 0 || runs[0].first != append->prev_log_index + 1)
        return false;
    raft_term term = append->prev_log_term;
    for (size_t i = 0; i < runs_count; i++) {
        if (runs[i].term < term || runs[i].term > raft->current_term || runs[i].term == 0)
            return false;
        if (runs[i].first > append->last_index || (i > 0 && runs[i].first <= runs[i - 1].first))
            return false;
        term = runs[i].term;
    }
    return true;
}

/* A message from the leader of the current term. */
void replication_accept_leader(struct raft *raft, node_id leader)
{
    if (raft->role != RAFT_FOLLOWER && !MUTANT(42))
        election_become_follower(raft, raft->current_term, leader);
    if (raft->leader != leader)
        RAFT_TRACE(raft, "follows %llu in term %llu", (unsigned long long)leader,
                   (unsigned long long)raft->current_term);
    raft->leader = leader;
    raft->led_term = raft->current_term;
    raft->leader_contact = raft->now;
    election_reset_deadline(raft);
}

/* Configurations are those of attached entries, in order. */
static bool configurations_are_sound(const struct raft_event *event)
{
    const struct raft_append_entries *append = &event->message.message->append_entries;
    raft_index last = append->prev_log_index;
    for (size_t i = 0; i < event->message.configurations_count; i++) {
        const struct raft_configuration *configuration = &event->message.configurations[i];
        if (configuration->id <= last || configuration->id > append->last_index ||
            !membership_is_sound(configuration))
            return false;
        last = configuration->id;
    }
    return true;
}

void replication_recv_append(struct raft *raft, const struct raft_event *event)
{
    const struct raft_message *message = event->message.message;
    const struct raft_run *runs = event->message.runs;
    size_t runs_count = event->message.runs_count;
    const struct raft_append_entries *append = &message->append_entries;
    if (message->term < raft->current_term && !MUTANT(14)) {
        /* §5.1: the answer's term tells it; it confirms no round, not even to the same server in a later term. */
        (void)raft_message_new(raft, RAFT_APPEND_RESPONSE, message->from);
        return;
    }
    if (raft->role == RAFT_LEADER) {
        RAFT_TRACE(raft, "recv AppendEntries from %llu in our own term -> ignore",
                   (unsigned long long)message->from);
        return;
    }
    if (!runs_are_sound(raft, append, runs, runs_count) || !configurations_are_sound(event))
        return;
    replication_accept_leader(raft, message->from);
    /* Below the base everything is committed: it is the leader's (§7). */
    bool known = (append->prev_log_index < raft->trail.base && !MUTANT(109)) ||
                 trail_term(&raft->trail, append->prev_log_index) == append->prev_log_term;
    if (append->prev_log_index > raft->trail.last || (!known && !MUTANT(29))) {
        refuse(raft, message);
        return;
    }
    raft_index from = first_difference(raft, append, runs, runs_count);
    if (from <= raft->commit_index && from <= append->last_index) {
        RAFT_TRACE(raft, "entry %llu would replace a committed one -> ignore", (unsigned long long)from);
        return;
    }
    if (MUTANT(31) && from > append->last_index && from > append->prev_log_index + 1 && from > raft->commit_index &&
        raft->trail.last >= from)
        raft_cut(raft, from);
    if (MUTANT(32) && from <= raft->trail.last)
        from = raft->trail.last + 1;
    if (from <= append->last_index) {
        append_new(raft, append, from, runs, runs_count);
        membership_append(raft, event->message.configurations, event->message.configurations_count, from);
    }
    if (append->last_index > append->prev_log_index)
        RAFT_TRACE(raft, "recv entries %llu..%llu from %llu", (unsigned long long)append->prev_log_index + 1,
                   (unsigned long long)append->last_index, (unsigned long long)message->from);

    /* The log matches the leader's up to last_index, or its own base, and only up to there. */
    raft_index match = append->last_index > raft->trail.base ? append->last_index : raft->trail.base;
    struct raft_append_response *response = respond(raft, message);
    struct raft_message *answer = &raft->effects->messages[raft->effects->messages_count - 1];
    response->success = true;
    response->match_index = MUTANT(30) ? raft->trail.last : match;
    if (append->last_index > append->prev_log_index)
        answer->after_write = MUTANT(15) ? 0 : raft_write_of(raft, match);
    else if (response->match_index > raft->durable_index && !MUTANT(21))
        response->match_index = raft->durable_index; /* a heartbeat is answered at once, with what the disk has */
    raft_index known_last = MUTANT(28) ? raft->trail.last : match;
    raft_index commit = append->leader_commit < known_last ? append->leader_commit : known_last;
    if (commit > raft->commit_index)
        raft_set_commit(raft, commit);
}
