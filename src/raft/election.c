/* raft/election.c - leader election (§5.2), its restriction (§5.4.1), pre-vote and stickiness (thesis §9.6, §4.2.3). */
#include "base/mutant.h"
#include "raft/state.h"

enum { PATIENCE_MAX = 2 };

/* How many times the wait is doubled: once for each term that went by without a leader, as far as this server saw. The paper
 * asks for time-outs far above what a round of votes takes (§5.6); where disks are busy, each vote waits for two syncs at each
 * of two servers, and candidates that wait too little end each other's elections for ever. */
static uint32_t patience(const struct raft *raft)
{
    raft_term lost = raft->current_term > raft->led_term + 1 ? raft->current_term - raft->led_term - 1 : 0;
    return MUTANT(285) ? 0 : lost < PATIENCE_MAX ? (uint32_t)lost : PATIENCE_MAX;
}

void election_reset_deadline(struct raft *raft)
{
    uint64_t timeout = raft->options.election_timeout_ms;
    uint64_t wait = timeout + prng_below(&raft->prng, timeout); /* §5.2: randomised, drawn anew each time */
    wait <<= patience(raft);
    uint32_t above = membership_priorities_above(raft);
    wait += (above < 3 ? above : 3) * timeout; /* they come first, if they can; bounded, so that somebody does */
    if (raft->reluctant)
        wait += 3 * timeout; /* leads only when nobody else will: four time-outs without a leader */
    raft->election_deadline = MUTANT(43) ? UINT64_MAX : raft->now + wait;
    if (raft->election_deadline < raft->votes_from) /* its own vote is one, too */
        raft->election_deadline = raft->votes_from + prng_below(&raft->prng, timeout);
}

bool election_sticks_to_leader(const struct raft *raft, node_id candidate)
{
    if (raft->now < raft->votes_from)
        return true; /* before it restarted it may have heard from one */
    if (raft->now < raft->promised_until && raft->promised_to != candidate && !MUTANT(214))
        return true; /* whatever it has heard since: a leader may count on it */
    if (raft->options.no_stickiness)
        return false;
    if (raft->role == RAFT_LEADER) /* one without a quorum steps down by itself: while it leads, it has one */
        return !raft->options.no_check_quorum;
    return raft->leader != 0 && raft->leader != candidate && /* one that campaigns leads no more */
           raft->leader_contact != 0 && raft->now - raft->leader_contact < raft->options.election_timeout_ms;
}

void election_become_follower(struct raft *raft, raft_term term, node_id leader)
{
    CHECK(term >= raft->current_term);
    bool was_leader = raft->role == RAFT_LEADER;
    raft->role = RAFT_FOLLOWER;
    raft->leader = leader;
    raft->votes_count = 0;
    if (was_leader)
        transfer_lost(raft);
    if (term > raft->current_term) {
        raft->current_term = term;
        if (!MUTANT(11))
            raft->voted_for = 0;
        if (!MUTANT(12))
            raft_write_vote(raft);
    }
    read_fail_all(raft);
    /* Seeing a term is no reason to wait longer for a leader; having been one is. */
    if (was_leader || leader != 0)
        election_reset_deadline(raft);
}

/* --- campaigning ------------------------------------------------------------------------------------------------------- */

static uint64_t granted(const struct raft *raft, node_id voter)
{
    for (size_t i = 0; i < raft->votes_count; i++)
        if (raft->votes[i] == voter)
            return 1;
    return MUTANT(9) && voter == raft->configuration.voters[0] ? 1 : 0;
}

static void count_vote(struct raft *raft, node_id voter)
{
    if (granted(raft, voter) == 0 && raft->votes_count < RAFT_MEMBERS_MAX)
        raft->votes[raft->votes_count++] = voter;
}

static bool have_majority(const struct raft *raft)
{
    return membership_agreed(raft, granted) == 1; /* §6: of both sets; its own vote counts where it is a member */
}

static void ask(struct raft *raft, node_id voter, bool pre_vote, bool transfer)
{
    if (voter == raft->options.id)
        return;
    struct raft_message *message = raft_message_new(raft, RAFT_REQUEST_VOTE, voter);
    message->term = pre_vote ? raft->current_term + 1 : raft->current_term;
    message->request_vote.last_log_index = raft->trail.last;
    message->request_vote.last_log_term = trail_last_term(&raft->trail);
    message->request_vote.pre_vote = pre_vote;
    message->request_vote.transfer = transfer;
    message->after_write =
        pre_vote || MUTANT(7) ? 0 : raft->vote_write; /* our own vote is durable before we count on it */
}

static void ask_for_votes(struct raft *raft, bool pre_vote, bool transfer)
{
    const struct raft_configuration *now = &raft->configuration;
    for (size_t i = 0; i < now->voters_count; i++)
        ask(raft, now->voters[i], pre_vote, transfer);
    for (size_t i = 0; i < now->old_voters_count && !MUTANT(225); i++)
        if (!membership_will_vote(now, now->old_voters[i]))
            ask(raft, now->old_voters[i], pre_vote, transfer);
}

/* §5.2: increments the term, votes for itself, asks the others. */
static void become_candidate(struct raft *raft, bool transfer)
{
    raft->role = RAFT_CANDIDATE;
    raft->leader = 0;
    raft->current_term++;
    raft->voted_for = raft->options.id;
    if (!MUTANT(10))
        raft->votes_count = 0;
    count_vote(raft, raft->options.id);
    raft_write_vote(raft);
    election_reset_deadline(raft);
    RAFT_TRACE(raft, "campaign in term %llu", (unsigned long long)raft->current_term);
    if (MUTANT(227) && have_majority(raft))
        replication_become_leader(raft);
    else
        ask_for_votes(raft, false, transfer);
}

/* Its own vote counts when it is durable, also if no other is needed: it could lead the term twice else, with a crash between, and
 * learners would have entries of both. */
void election_count_votes(struct raft *raft)
{
    if (raft->role == RAFT_CANDIDATE && raft->persisted_write >= raft->vote_write && have_majority(raft))
        replication_become_leader(raft);
}

void election_timeout(struct raft *raft)
{
    CHECK(raft->role != RAFT_LEADER);
    if (!membership_may_campaign(raft))
        return;
    if (raft->options.no_pre_vote) {
        become_candidate(raft, false);
        return;
    }
    /* thesis §9.6: first ask whether a campaign could succeed, without touching the term. */
    raft->role = RAFT_PRE_CANDIDATE;
    raft->leader = 0;
    raft->votes_count = 0;
    count_vote(raft, raft->options.id);
    election_reset_deadline(raft);
    RAFT_TRACE(raft, "time-out -> pre-vote for term %llu", (unsigned long long)raft->current_term + 1);
    if (have_majority(raft))
        become_candidate(raft, false);
    else
        ask_for_votes(raft, true, false);
}

/* By order, and not before its time: a leader that it hears may count on that (leases). */
void election_campaign(struct raft *raft)
{
    if (raft->role == RAFT_LEADER || !membership_may_campaign(raft))
        return;
    if (election_sticks_to_leader(raft, raft->options.id)) {
        RAFT_TRACE(raft, "told to campaign: a leader is alive -> ignore");
        return;
    }
    election_timeout(raft);
}

/* thesis §3.10: the leader asks for it, so nobody needs to be asked first whether it lives. */
void election_recv_timeout_now(struct raft *raft, const struct raft_message *message)
{
    bool old = message->term < raft->current_term && !MUTANT(210);
    if (old || raft->role == RAFT_LEADER || !raft_is_voter(raft) || raft->reluctant) {
        RAFT_TRACE(raft, "recv TimeoutNow from %llu term %llu -> ignore", (unsigned long long)message->from,
                   (unsigned long long)message->term);
        return;
    }
    RAFT_TRACE(raft, "recv TimeoutNow from %llu", (unsigned long long)message->from);
    become_candidate(raft, true);
}

/* --- messages ------------------------------------------------------------------------------------------------------------ */

/* §5.4.1: a candidate's log must be at least as up to date as the voter's: last terms first, then lengths. */
static bool up_to_date(const struct raft *raft, const struct raft_request_vote *request)
{
    raft_term last_term = trail_last_term(&raft->trail);
    if (MUTANT(3))
        return request->last_log_index >= raft->trail.last;
    if (MUTANT(4))
        return request->last_log_term >= last_term;
    if (MUTANT(5))
        return request->last_log_term >= last_term && request->last_log_index > raft->trail.last;
    if (request->last_log_term != last_term)
        return request->last_log_term > last_term;
    return request->last_log_index >= raft->trail.last;
}

static const char *why_no_vote(const struct raft *raft, const struct raft_message *message)
{
    const struct raft_request_vote *request = &message->request_vote;
    if (message->term < raft->current_term)
        return "term is lower";
    if (request->pre_vote && election_sticks_to_leader(raft, message->from) && !MUTANT(37))
        return "a leader is alive";
    if (request->pre_vote && message->term == raft->current_term)
        return "the term is not new";
    if (!request->pre_vote && raft->voted_for != 0 && raft->voted_for != message->from && !MUTANT(1))
        return "voted already";
    if (!up_to_date(raft, request) && !MUTANT(2))
        return "log is behind";
    return NULL;
}

void election_recv_request_vote(struct raft *raft, const struct raft_message *message)
{
    bool pre_vote = message->request_vote.pre_vote;
    const char *why_not = why_no_vote(raft, message);
    RAFT_TRACE(raft, "recv %s from %llu term %llu: %s", pre_vote ? "PreVote" : "RequestVote",
               (unsigned long long)message->from, (unsigned long long)message->term,
               why_not != NULL ? why_not : "grant");
    if (MUTANT(33) && pre_vote)
        election_reset_deadline(raft);
    if (why_not == NULL && !pre_vote) {
        if (raft->voted_for != message->from) {
            raft->voted_for = message->from;
            raft_write_vote(raft);
        }
        if (!MUTANT(49))
            election_reset_deadline(raft); /* §5.2: granting a vote is a reason to wait */
    }
    struct raft_message *response = raft_message_new(raft, RAFT_VOTE_RESPONSE, message->from);
    response->vote_response.granted = why_not == NULL;
    response->vote_response.pre_vote = pre_vote;
    if (why_not == NULL && pre_vote)
        response->term = message->term; /* the term it asked about */
    if (why_not == NULL && !pre_vote)
        response->after_write = MUTANT(6) ? 0 : raft->vote_write;
}

void election_recv_vote_response(struct raft *raft, const struct raft_message *message)
{
    bool pre_vote = message->vote_response.pre_vote;
    enum raft_role role = pre_vote ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE;
    raft_term asked = pre_vote ? raft->current_term + 1 : raft->current_term;
    if (raft->role != role || !membership_votes(&raft->configuration, message->from))
        return;
    if ((!message->vote_response.granted && !MUTANT(13)) || (message->term != asked && !MUTANT(8)))
        return;
    count_vote(raft, message->from);
    RAFT_TRACE(raft, "recv %s from %llu", pre_vote ? "pre-vote" : "vote", (unsigned long long)message->from);
    if (pre_vote && have_majority(raft))
        become_candidate(raft, false);
    else if (!pre_vote)
        election_count_votes(raft);
}
