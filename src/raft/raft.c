/* raft/raft.c - the step: which event goes where; terms (§5.1); what is written and when it counts. */
#include "raft/raft.h"

#include <string.h>

#include "base/memory.h"
#include "base/mutant.h"
#include "raft/state.h"

struct raft *raft_new(const struct raft_options *options)
{
    CHECK(options->id > 0);
    CHECK(options->heartbeat_ms > 0);
    CHECK(options->heartbeat_ms < options->election_timeout_ms);
    CHECK(options->window_messages > 0);
    CHECK(options->window_messages <= PROGRESS_INFLIGHT_MAX);
    struct raft *raft = mem_zalloc(1, sizeof *raft);
    raft->options = *options;
    raft->commit_deadline = UINT64_MAX;
    prng_seed(&raft->prng, options->seed);
    trail_init(&raft->trail);
    return raft;
}

void raft_free(struct raft *raft)
{
    trail_close(&raft->trail);
    mem_free(raft->configurations);
    mem_free(raft);
}

void raft_restore_vote(struct raft *raft, raft_term term, node_id voted_for)
{
    raft->current_term = MUTANT(45) && term > 1 ? term - 1 : term;
    raft->voted_for = MUTANT(44) ? 0 : voted_for;
}

void raft_restore_base(struct raft *raft, raft_index index, raft_term term)
{
    CHECK_EQ(raft->trail.last, 0);
    trail_reset(&raft->trail, index, term);
    raft->durable_index = index;
}

void raft_restore_entries(struct raft *raft, raft_index first, raft_index last, raft_term term)
{
    CHECK_EQ(first, raft->trail.last + 1);
    CHECK(last >= first);
    trail_append(&raft->trail, last - first + 1, term);
    raft->durable_index = last;
}

/* --- effects -------------------------------------------------------------------------------------------------------- */

static void begin(struct raft *raft, raft_time now, struct raft_effects *effects)
{
    CHECK(now >= raft->now);
    raft->now = now;
    raft->effects = effects;
    effects->write = (struct raft_write){0};
    effects->messages_count = 0;
    effects->proposal_refused = false;
    effects->snapshot_offered = false;
    effects->snapshot_taken = false;
    effects->configuration_changed = false;
    effects->change = RAFT_CHANGE_NONE;
    effects->transfer = RAFT_TRANSFER_NONE;
    effects->read_leased = false;
    effects->reads_ready_id = 0;
    effects->read_index = 0;
    effects->reads_failed_id = 0;
    effects->role = raft->role;
    effects->term = raft->current_term;
    effects->leader = raft->leader;
}

static void end(struct raft *raft)
{
    struct raft_effects *effects = raft->effects;
    effects->leadership_changed =
        effects->role != raft->role || effects->term != raft->current_term || effects->leader != raft->leader;
    effects->role = raft->role;
    effects->term = raft->current_term;
    effects->leader = raft->leader;
    effects->commit_index = raft->commit_index;
    effects->configuration_id = raft->configuration.id;
    if (raft->role == RAFT_LEADER)
        effects->wake_at = replication_wake_at(raft);
    else
        effects->wake_at = membership_may_campaign(raft) ? raft->election_deadline : UINT64_MAX;
    raft->effects = NULL;
}

struct raft_message *raft_message_new(struct raft *raft, enum raft_message_type type, node_id to)
{
    struct raft_effects *effects = raft->effects;
    CHECK(effects->messages_count < RAFT_MESSAGES_MAX);
    CHECK(to != raft->options.id);
    struct raft_message *message = &effects->messages[effects->messages_count++];
    memset(message, 0, sizeof *message);
    message->type = type;
    message->from = raft->options.id;
    message->to = to;
    message->term = raft->current_term;
    return message;
}

/* --- the disk -------------------------------------------------------------------------------------------------------- */

uint64_t raft_write_number(struct raft *raft)
{
    if (raft->effects->write.number == 0)
        raft->effects->write.number = ++raft->last_write;
    return raft->effects->write.number;
}

void raft_write_vote(struct raft *raft)
{
    raft->vote_write = raft_write_number(raft);
    raft->effects->write.vote = true;
    raft->effects->write.term = raft->current_term;
    raft->effects->write.voted_for = raft->voted_for;
}

void raft_write_entries(struct raft *raft, enum raft_append_source source, raft_index first, raft_index last,
                        raft_term term)
{
    struct raft_write *write = &raft->effects->write;
    CHECK(write->source == RAFT_APPEND_NONE);
    CHECK(first <= last);
    uint64_t number = raft_write_number(raft);
    write->source = source;
    write->first = first;
    write->last = last;
    write->append_term = term;
    if (raft->writes_count == WRITES_MAX) {
        /* Join the newest: its entries count only when the later number is durable, which is never too early. */
        struct write_out *newest = &raft->writes[(raft->writes_first + WRITES_MAX - 1) % WRITES_MAX];
        newest->number = number;
        newest->first = newest->first < first ? newest->first : first;
        newest->last = last;
        return;
    }
    raft->writes[(raft->writes_first + raft->writes_count) % WRITES_MAX] =
        (struct write_out){.number = number, .first = first, .last = last};
    raft->writes_count++;
}

void raft_cut(struct raft *raft, raft_index from)
{
    CHECK(from > raft->commit_index); /* §5.4: what is committed is never removed */
    raft_write_number(raft);
    raft->effects->write.cut_from = from;
    trail_cut(&raft->trail, from);
    membership_cut(raft, from);
    if (raft->durable_index >= from && !MUTANT(17))
        raft->durable_index = from - 1;
    /* What is still on its way to the disk will not be there after the cut: it must not count when it arrives. */
    for (size_t i = 0; i < raft->writes_count; i++) {
        struct write_out *write = &raft->writes[(raft->writes_first + i) % WRITES_MAX];
        if (write->last >= from && !MUTANT(18))
            write->last = from - 1;
    }
}

void raft_write_base(struct raft *raft, raft_index index, raft_term term, bool reset)
{
    struct raft_write *write = &raft->effects->write;
    CHECK(write->cut_from == 0 && write->source == RAFT_APPEND_NONE);
    bool is_news = index > raft->commit_index || MUTANT(100);
    CHECK(is_news);
    uint64_t number = raft_write_number(raft);
    write->base_index = index;
    write->base_term = term;
    write->reset = reset;
    if (!reset)
        return; /* what is on its way to the disk stays, the entry at the base among it */
    /* Until this is durable nothing counts but what was committed, which the snapshot includes. */
    if (raft->durable_index > raft->commit_index)
        raft->durable_index = raft->commit_index;
    if (MUTANT(104))
        raft->durable_index = index;
    raft->writes[0] = (struct write_out){.number = number, .first = 1, .last = index};
    raft->writes_first = 0;
    raft->writes_count = 1;
}

uint64_t raft_write_of(const struct raft *raft, raft_index index)
{
    if (index <= raft->durable_index)
        return 0;
    for (size_t i = 0; i < raft->writes_count; i++) {
        const struct write_out *write = &raft->writes[(raft->writes_first + i) % WRITES_MAX];
        if (write->first <= index && index <= write->last)
            return write->number;
    }
    return raft->last_write;
}

static void persisted(struct raft *raft, uint64_t number)
{
    CHECK(number > raft->persisted_write);
    CHECK(number <= raft->last_write);
    raft->persisted_write = number;
    while (raft->writes_count > 0 && raft->writes[raft->writes_first].number <= number) {
        const struct write_out *write = &raft->writes[raft->writes_first];
        if (write->first <= write->last && write->last > raft->durable_index)
            raft->durable_index = write->last;
        raft->writes_first = (raft->writes_first + 1) % WRITES_MAX;
        raft->writes_count--;
    }
    if (raft->role == RAFT_LEADER)
        replication_advance_commit(raft);
    else
        election_count_votes(raft);
}

void raft_set_commit(struct raft *raft, raft_index index)
{
    CHECK(index >= raft->commit_index);
    CHECK(index <= raft->trail.last);
    if (index == raft->commit_index)
        return;
    raft->commit_index = index;
    membership_commit_moved(raft);
    RAFT_TRACE(raft, "commit %llu", (unsigned long long)index);
}

/* --- the step --------------------------------------------------------------------------------------------------------- */

void raft_start(struct raft *raft, raft_time now, raft_index committed, struct raft_effects *effects)
{
    CHECK(raft->configuration.voters_count > 0 || raft->trail.last == 0);
    CHECK(committed <= raft->trail.last);
    CHECK(committed >= raft->trail.base);
    begin(raft, now, effects);
    raft->role = RAFT_FOLLOWER;
    raft->commit_index = MUTANT(46) ? raft->trail.last : committed;
    membership_commit_moved(raft);
    RAFT_TRACE(raft, "start term %llu log %llu", (unsigned long long)raft->current_term,
               (unsigned long long)raft->trail.last);
    raft->votes_from = now + raft->options.start_wait_ms;
    raft->led_term = raft->current_term;
    election_reset_deadline(raft);
    const struct raft_configuration *members = &raft->configuration;
    bool alone = members->voters_count == 1 && members->old_voters_count == 0 && raft_is_voter(raft);
    if (alone && now >= raft->votes_from)
        election_timeout(raft);
    end(raft);
}

/* §5.1: a server that sees a larger term updates its own and becomes a follower. Returns false if the message is not to be
 * looked at any further. */
static bool check_term(struct raft *raft, const struct raft_message *message)
{
    if (message->term <= raft->current_term || (MUTANT(48) && raft->role == RAFT_LEADER))
        return true;
    bool pre_vote =
        (message->type == RAFT_REQUEST_VOTE && message->request_vote.pre_vote) ||
        (message->type == RAFT_VOTE_RESPONSE && message->vote_response.pre_vote && message->vote_response.granted);
    if (pre_vote && !MUTANT(35))
        return true; /* thesis §9.6: a pre-vote's term is only a question */
    bool transfer = message->type == RAFT_REQUEST_VOTE && message->request_vote.transfer && !MUTANT(211);
    if (message->type == RAFT_REQUEST_VOTE && !transfer && election_sticks_to_leader(raft, message->from) &&
        !MUTANT(36)) {
        /* §6: a server that hears from a leader does not help to replace it, not even by taking over the term. */
        RAFT_TRACE(raft, "recv RequestVote from %llu term %llu: a leader is alive -> ignore",
                   (unsigned long long)message->from, (unsigned long long)message->term);
        return false;
    }
    if (raft->role == RAFT_LEADER && message->type == RAFT_APPEND_RESPONSE &&
        !membership_has(&raft->configuration, message->from) && !MUTANT(220)) {
        /* thesis §4.2.3: a server that is no member does not depose a leader. */
        RAFT_TRACE(raft, "recv an answer from %llu term %llu, which is no member -> ignore",
                   (unsigned long long)message->from, (unsigned long long)message->term);
        return false;
    }
    RAFT_TRACE(raft, "term is higher (%llu > %llu) -> follower", (unsigned long long)message->term,
               (unsigned long long)raft->current_term);
    bool leads = message->type == RAFT_APPEND_ENTRIES || message->type == RAFT_INSTALL_SNAPSHOT ||
                 message->type == RAFT_TIMEOUT_NOW;
    election_become_follower(raft, message->term, leads ? message->from : 0);
    return true;
}

static void receive(struct raft *raft, const struct raft_event *event)
{
    const struct raft_message *message = event->message.message;
    if (message->to != raft->options.id || message->from == raft->options.id)
        return;
    if (message->type == RAFT_REQUEST_VOTE)
        peers_asked(raft, message);
    if (!check_term(raft, message))
        return;
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        election_recv_request_vote(raft, message);
        break;
    case RAFT_VOTE_RESPONSE:
        election_recv_vote_response(raft, message);
        break;
    case RAFT_APPEND_ENTRIES:
        replication_recv_append(raft, event);
        break;
    case RAFT_APPEND_RESPONSE:
        replication_recv_response(raft, message);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        snapshot_recv_install(raft, message);
        break;
    case RAFT_TIMEOUT_NOW:
        election_recv_timeout_now(raft, message);
        break;
    default:
        break;
    }
}

static void step_down(struct raft *raft, const char *why)
{
    if (raft->role == RAFT_FOLLOWER)
        return;
    RAFT_TRACE(raft, "%s -> step down", why);
    election_become_follower(raft, raft->current_term, 0);
}

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    begin(raft, event->now, effects);
    switch (event->type) {
    case RAFT_EVENT_TIMEOUT:
        if (raft->role == RAFT_LEADER)
            replication_timeout(raft);
        else if (raft->now >= raft->election_deadline)
            election_timeout(raft);
        break;
    case RAFT_EVENT_MESSAGE:
        receive(raft, event);
        break;
    case RAFT_EVENT_PROPOSE:
        replication_propose(raft, event->propose.count);
        break;
    case RAFT_EVENT_PERSISTED:
        persisted(raft, event->persisted.write_number);
        break;
    case RAFT_EVENT_SENT:
        replication_sent(raft, event->sent.peer, event->sent.epoch, event->sent.last, event->sent.bytes);
        break;
    case RAFT_EVENT_READ:
        read_request(raft, event->read.id, event->read.lease);
        break;
    case RAFT_EVENT_PEER_UP:
    case RAFT_EVENT_PEER_DOWN:
        replication_peer(raft, event->peer.peer, event->type == RAFT_EVENT_PEER_UP);
        break;
    case RAFT_EVENT_STEP_DOWN:
        step_down(raft, event->step_down.why);
        break;
    case RAFT_EVENT_RELUCTANT:
        raft->reluctant = event->reluctant.on;
        if (raft->role != RAFT_LEADER)
            election_reset_deadline(raft);
        break;
    case RAFT_EVENT_LEASES:
        raft->options.lease_drift_ms = event->leases.drift_ms;
        break;
    case RAFT_EVENT_COMPACTED:
        snapshot_compacted(raft, event->compacted.index);
        break;
    case RAFT_EVENT_SNAPSHOT_READY:
        snapshot_ready(raft, event->snapshot_ready.index, event->snapshot_ready.term,
                       event->snapshot_ready.configuration);
        break;
    case RAFT_EVENT_CHANGE:
        effects->change =
            membership_change(raft, event->change.configuration, event->change.expected_id, event->change.force);
        break;
    case RAFT_EVENT_ABORT_CHANGE:
        effects->change = membership_abort(raft);
        break;
    case RAFT_EVENT_TRANSFER:
        transfer_begin(raft, event->transfer.to);
        break;
    case RAFT_EVENT_CAMPAIGN:
        election_campaign(raft);
        break;
    default:
        UNREACHABLE();
    }
    end(raft);
}

/* --- looking in -------------------------------------------------------------------------------------------------------- */

raft_term raft_term_at(const struct raft *raft, raft_index index)
{
    return trail_term(&raft->trail, index);
}

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    CHECK(role <= RAFT_LEADER);
    return names[role];
}

void raft_get_status(const struct raft *raft, struct raft_status *status)
{
    memset(status, 0, sizeof *status);
    status->id = raft->options.id;
    status->role = raft->role;
    status->current_term = raft->current_term;
    status->voted_for = raft->voted_for;
    status->leader = raft->leader;
    status->commit_index = raft->commit_index;
    status->last_log_index = raft->trail.last;
    status->last_log_term = trail_last_term(&raft->trail);
    status->durable_index = raft->durable_index;
    status->base_index = raft->trail.base;
    status->base_term = raft->trail.base_term;
    status->configuration_id = raft->configuration.id;
    status->transfer_to = raft->transfer_to;
    status->lease_until = read_lease_until(raft);
    if (raft->role != RAFT_LEADER)
        return;
    for (size_t i = 0; i < raft->peers_count; i++) {
        const struct progress *peer = &raft->peers[i];
        status->peers[status->peers_count++] = (struct raft_peer_status){
            .id = peer->id,
            .next_index = peer->next_index,
            .match_index = peer->match_index,
            .replicating = peer->state == PROGRESS_REPLICATE,
            .snapshot = peer->state == PROGRESS_SNAPSHOT,
            .active = raft->now - peer->contact < raft->options.election_timeout_ms,
            .voter = membership_votes(&raft->configuration, peer->id),
            .caught_up = peers_caught_up(raft, peer->id),
            .catch_up_rounds = peer->catch_rounds,
            .inflight_messages = (uint32_t)peer->inflight_count,
            .inflight_bytes = (uint32_t)peer->inflight_bytes,
            .window_messages = peer->window,
        };
    }
}

void raft_get_digest(const struct raft *raft, struct raft_digest *digest)
{
    *digest = (struct raft_digest){.current_term = raft->current_term,
                                   .voted_for = raft->voted_for,
                                   .role = raft->role,
                                   .commit_index = raft->commit_index,
                                   .last_log_index = raft->trail.last,
                                   .base_index = raft->trail.base};
}
