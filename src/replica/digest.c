/* replica/digest.c - do all voters have the same state? (DESIGN.md §5)
 *
 * The leader names one index after another beside the core's fields of AppendEntries; each voter answers with its digest
 * there, beside the core's fields of the answer. What a majority has is agreed, and the leader tells it. So nothing is sent
 * that would not be sent anyway, and an idle cluster stays idle. Named are: what snapshots wait for, in turn, else the latest
 * applied. A node whose digest is not the majority's says so in its log and status.
 *
 * A machine remembers digests of recent indexes only: of a busy one the multiples of MACHINE_DIGEST_STEP for longer, and so
 * these are named. What a voter no longer has it does not answer, and after a while the leader names another. When all that
 * could still be said makes no majority for any digest, all nodes park.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

enum { NAMED_ELECTIONS = 2 }; /* election timeouts that an unanswered name stands while others wait */

static bool same(struct hash128 left, struct hash128 right)
{
    return left.lo == right.lo && left.hi == right.hi;
}

static bool is_self(const struct replica *replica, const struct peer *peer)
{
    return peer->member.id == replica->identity.id;
}

/* --- what this node has ------------------------------------------------------------------------------------------------- */

static void fill(struct digest_slot *slot, raft_index index, const struct hash128 *digest)
{
    if (slot->index != index || slot->known)
        return;
    slot->known = digest != NULL;
    slot->lost = digest == NULL;
    if (digest != NULL)
        slot->digest = *digest;
}

/* The machine's digest at `index`; NULL: it has it no more. */
void digest_at(struct replica *replica, raft_index index, const struct hash128 *digest)
{
    fill(&replica->digests.asked, index, digest);
    fill(&replica->digests.named, index, digest);
}

static bool is_open(const struct replica *replica, const struct digest_slot *slot)
{
    return slot->index != 0 && slot->index <= replica->applied && !slot->known && !slot->lost;
}

/* Asks the machine, one index at a time. */
static void look(struct replica *replica)
{
    struct digests *digests = &replica->digests;
    const struct digest_slot *slot = is_open(replica, &digests->named) ? &digests->named : &digests->asked;
    if (digests->looking || !is_open(replica, slot))
        return;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_LOOK;
    job->index = slot->index;
    digests->looking = true;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

static void set(struct replica *replica, struct digest_slot *slot, raft_index index)
{
    const struct digest_slot *wanted = &replica->digests.wanted;
    if (slot->index == index)
        return;
    *slot = (struct digest_slot){.index = index};
    if (index != 0 && wanted->index == index)
        fill(slot, index, &wanted->digest);
}

void digest_want(struct replica *replica, raft_index index, struct hash128 digest)
{
    replica->digests.wanted = (struct digest_slot){.index = index, .known = index != 0, .digest = digest};
    if (index != 0)
        digest_at(replica, index, &digest);
}

/* Another state is there: what its machine knew is gone. */
void digest_swapped(struct replica *replica)
{
    replica->digests.asked = (struct digest_slot){0};
    replica->digests.named = (struct digest_slot){0};
    replica->digests.differs = false;
}

/* A majority has `digest` at `index`. */
static void agreed(struct replica *replica, raft_index index, struct hash128 digest, const struct digest_slot *own)
{
    struct digests *digests = &replica->digests;
    if (own->index == index && own->known) {
        bool differs = !same(own->digest, digest);
        if (differs && !digests->differs)
            LOG(LOG_ERROR, "replica",
                "the state of this node at entry %llu is not the majority's: its digest is %016llx%016llx, theirs "
                "%016llx%016llx",
                (unsigned long long)index, (unsigned long long)own->digest.hi, (unsigned long long)own->digest.lo,
                (unsigned long long)digest.hi, (unsigned long long)digest.lo);
        digests->differs = differs;
    }
    digests->agreed = (struct digest_slot){.index = index, .known = true, .digest = digest};
    digests->undecided = 0;
    if (digests->wanted.index == index) {
        digests->wanted = (struct digest_slot){0};
        take_agreed(replica, digest);
    }
    if (digests->differs)
        diverge_found(replica, index);
}

/* At `index` no majority has one digest, and none will: nobody can say whose state is right. */
static void none_agrees(struct replica *replica, raft_index index)
{
    char why[200];
    snprintf(
        why, sizeof why,
        "no majority has one state at entry %llu: end all nodes and start them again, so that they apply the log "
        "anew",
        (unsigned long long)index);
    diverge_park(replica, index, why);
}

/* --- leading ------------------------------------------------------------------------------------------------------------- */

void digest_begin_term(struct replica *replica)
{
    replica->digests.named = (struct digest_slot){0};
    replica->digests.asked = (struct digest_slot){0};
    replica->digests.none = 0;
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        peer->answered = peer->wants = 0;
        peer->wants_known = peer->differs = false;
    }
}

/* What a snapshot somewhere waits for, in turn; 0: none does. */
static raft_index next_wanted(struct replica *replica)
{
    const size_t count = replica->peers_count;
    for (size_t i = 1; i <= count; i++) {
        size_t at = (replica->digests.turn + i) % count;
        const struct peer *peer = &replica->peers[at];
        raft_index wanted = peer->wants_known ? 0 : peer->wants;
        if (is_self(replica, peer))
            wanted = replica->digests.wanted.index;
        if (wanted == 0 || wanted > replica->applied)
            continue;
        replica->digests.turn = at;
        return wanted;
    }
    return 0;
}

static bool is_agreed(const struct replica *replica)
{
    return replica->digests.named.index != 0 && replica->digests.agreed.index == replica->digests.named.index;
}

/* Whether anyone who is linked has still to answer. */
static bool some_owe(const struct replica *replica)
{
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct peer *peer = &replica->peers[i];
        if (peer->out != NULL && !is_self(replica, peer) && members_votes(peer) &&
            peer->answered != replica->digests.named.index)
            return true;
    }
    return false;
}

/* Names the next index, when the one before has had its time. */
static void name(struct replica *replica)
{
    struct digests *digests = &replica->digests;
    const uint64_t stood = replica->now.boot_ms - digests->named_at;
    const bool late = stood > NAMED_ELECTIONS * (uint64_t)replica->raft_options.election_timeout_ms;
    raft_index next = digests->named.index;
    if (digests->named.index == 0 || is_agreed(replica) || late) {
        raft_index wanted = next_wanted(replica);
        raft_index step = replica->applied - replica->applied % MACHINE_DIGEST_STEP;
        if (wanted != 0)
            next = wanted;
        else if (stood >= replica->raft_options.heartbeat_ms && (late || !some_owe(replica)))
            next =
                replica->applied == replica->last_index || step <= digests->named.index ? replica->applied : step;
    }
    if (next == digests->named.index)
        return;
    set(replica, &digests->named, next);
    digests->named_at = replica->now.boot_ms;
}

/* What this one said at the named index; NULL: nothing yet. */
static const struct hash128 *answer_of(const struct replica *replica, const struct peer *peer)
{
    const struct digest_slot *named = &replica->digests.named;
    if (is_self(replica, peer))
        return named->known ? &named->digest : NULL;
    return peer->member.id != 0 && peer->answered == named->index ? &peer->answer : NULL;
}

/* Whether a majority of the voters has `digest` at the named index; or could have, with those who have not answered. */
static bool is_majority(const struct replica *replica, struct hash128 digest, bool with_silent)
{
    bool counts[REPLICA_PEERS_MAX] = {false};
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct hash128 *answer = answer_of(replica, &replica->peers[i]);
        counts[i] = answer != NULL ? same(*answer, digest) : with_silent;
    }
    return members_majority(replica, counts);
}

/* What was agreed on last, to whoever waits for it, also since. */
static void tell_wanting(struct replica *replica)
{
    const struct digest_slot told = replica->digests.agreed;
    if (told.index == 0)
        return;
    if (replica->digests.wanted.index == told.index)
        agreed(replica, told.index, told.digest, &replica->digests.wanted);
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        if (peer->wants != told.index)
            continue;
        peer->wants_known = true;
        peer->wants_digest = told.digest;
    }
}

/* Whether those who have not answered could still make a majority of some digest; and whether there are two by now. */
static void count_none(struct replica *replica)
{
    struct digests *digests = &replica->digests;
    bool silent[REPLICA_PEERS_MAX] = {false};
    bool two = false;
    if (!digests->named.known)
        return;
    for (size_t i = 0; i < replica->peers_count; i++)
        silent[i] = answer_of(replica, &replica->peers[i]) == NULL;
    bool hope = members_majority(replica, silent);
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct hash128 *answer = answer_of(replica, &replica->peers[i]);
        if (answer == NULL || !members_votes(&replica->peers[i]))
            continue;
        hope |= is_majority(replica, *answer, true);
        two |= !same(*answer, digests->named.digest);
    }
    if (!hope && !MUTANT(186)) {
        if (digests->none == 0)
            digests->none_since = replica->now.boot_ms;
        digests->none = digests->named.index;
    } else if (two && digests->undecided == 0 &&
               replica->now.boot_ms >= digests->named_at + replica->raft_options.election_timeout_ms) {
        digests->undecided = digests->named.index;
        LOG(LOG_ERROR, "replica",
            "states differ at entry %llu, and no majority has one: the other nodes must say theirs",
            (unsigned long long)digests->named.index);
    }
}

static void count(struct replica *replica)
{
    const struct digest_slot named = replica->digests.named;
    if (named.index == 0 || is_agreed(replica))
        return;
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct hash128 *answer = answer_of(replica, &replica->peers[i]);
        if (answer == NULL || (!is_majority(replica, *answer, false) && !MUTANT(140)))
            continue;
        agreed(replica, named.index, *answer, &named);
        return;
    }
    count_none(replica);
}

/* Who answers otherwise than the majority is named once. */
static void compare(struct peer *peer, const struct digest_slot *agreed_on)
{
    if (peer->answered != agreed_on->index)
        return;
    bool differs = !same(peer->answer, agreed_on->digest);
    if (differs && !peer->differs)
        LOG(LOG_ERROR, "replica", "the state of node %llu at entry %llu is not the majority's",
            (unsigned long long)peer->member.id, (unsigned long long)agreed_on->index);
    peer->differs = differs;
}

void digest_turn(struct replica *replica)
{
    if (replica_is_parked(replica))
        return;
    if (replica_leads(replica) && replica->digests.none != 0) {
        /* the others are told, and then nobody leads for a while */
        if (replica->now.boot_ms >= replica->digests.none_since + replica->raft_options.election_timeout_ms)
            none_agrees(replica, replica->digests.none);
    } else if (replica_leads(replica) && replica->applied > 0) {
        tell_wanting(replica);
        name(replica);
        count(replica);
        if (is_agreed(replica)) { /* nothing may happen for long: the next one now */
            tell_wanting(replica);
            name(replica);
            count(replica);
            tell_wanting(replica);
        }
        for (size_t i = 0; i < replica->peers_count && is_agreed(replica); i++)
            compare(&replica->peers[i], &replica->digests.agreed);
    }
    look(replica);
}

/* --- beside the core's messages --------------------------------------------------------------------------------------------- */

void digest_attach(struct replica *replica, struct peer *peer, struct message *message)
{
    const struct digests *digests = &replica->digests;
    struct message_digests *said = &message->digests;
    if (message->raft.type == RAFT_APPEND_ENTRIES) {
        const struct digest_slot *told = &digests->agreed;
        said->asked = digests->named.index;
        said->index = peer->wants_known ? peer->wants : told->index;
        said->digest = peer->wants_known ? peer->wants_digest : told->digest;
        said->none = digests->none != 0;
        said->index = said->none ? digests->none : said->index;
    } else if (message->raft.type == RAFT_APPEND_RESPONSE) {
        said->asked = digests->wanted.index;
        said->none = replica_is_parked(replica);
        said->index = digests->asked.known ? digests->asked.index : 0;
        if (said->index != 0)
            said->digest = digests->asked.digest;
    }
}

void digest_heard(struct replica *replica, struct peer *peer, const struct message *message)
{
    const struct message_digests *said = &message->digests;
    if (message->raft.term != replica->effects.term || replica_is_parked(replica))
        return;
    if (message->raft.type == RAFT_APPEND_ENTRIES && replica->effects.leader == peer->member.id) {
        const struct digest_slot own = replica->digests.asked;
        if (said->none && own.index == said->index && own.known)
            none_agrees(replica, said->index);
        else if (said->index != 0 && !said->none)
            agreed(replica, said->index, said->digest,
                   replica->digests.wanted.index == said->index ? &replica->digests.wanted : &own);
        if (said->asked != 0)
            set(replica, &replica->digests.asked, said->asked);
    } else if (message->raft.type == RAFT_APPEND_RESPONSE && replica_leads(replica)) {
        peer->parked = said->none;
        if (said->index != 0) {
            peer->answered = said->index;
            peer->answer = said->digest;
        }
        if (peer->wants != said->asked)
            peer->wants_known = false;
        peer->wants = said->asked;
    }
}
