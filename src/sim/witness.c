/* sim/witness.c - see sim/witness.h. */
#include "sim/witness_private.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "wire/pack.h"

struct seen *witness_find(struct witness *witness, node_id id)
{
    for (uint32_t i = 0; i < witness->nodes; i++)
        if (witness->seen[i].id == id)
            return &witness->seen[i];
    return NULL;
}

struct witness *witness_new(uint32_t nodes)
{
    CHECK(nodes <= WITNESS_NODES_MAX);
    struct witness *witness = mem_zalloc(1, sizeof *witness);
    witness->nodes = nodes;
    for (uint32_t i = 0; i < nodes; i++)
        witness->seen[i].id = i + 1;
    return witness;
}

void witness_free(struct witness *witness)
{
    for (uint32_t i = 0; i < witness->nodes; i++)
        mem_free(witness->seen[i].terms);
    mem_free(witness->facts);
    mem_free(witness->leaders);
    mem_free(witness->committed);
    mem_free(witness);
}

const char *witness_broken(const struct witness *witness)
{
    return witness->broken[0] != 0 ? witness->broken : NULL;
}

void witness_break(struct witness *witness, const char *what, uint64_t a, uint64_t b)
{
    if (witness->broken[0] == 0)
        snprintf(witness->broken, sizeof witness->broken, "%s (%llu, %llu)", what, (unsigned long long)a,
                 (unsigned long long)b);
}

void witness_break_text(struct witness *witness, const char *what)
{
    if (witness->broken[0] == 0)
        snprintf(witness->broken, sizeof witness->broken, "%s", what);
}

void *witness_grown(void *list, size_t *capacity, uint64_t index, size_t size)
{
    if (index < *capacity)
        return list;
    size_t more = (size_t)index * 2 + 64;
    list = mem_realloc(list, more * size);
    memset((char *)list + *capacity * size, 0, (more - *capacity) * size);
    *capacity = more;
    return list;
}

/* --- the truth about entries (Log Matching, §5.3) ------------------------------------------------------------------------ */

static struct fact *place_of(struct witness *witness, raft_index index, raft_term term)
{
    uint64_t both[2] = {index, term};
    size_t at = (size_t)hash64(both, sizeof both) & (witness->facts_capacity - 1);
    while (witness->facts[at].index != 0 && (witness->facts[at].index != index || witness->facts[at].term != term))
        at = (at + 1) & (witness->facts_capacity - 1);
    return &witness->facts[at];
}

static void grow_facts(struct witness *witness)
{
    struct fact *old = witness->facts;
    size_t count = witness->facts_capacity;
    witness->facts_capacity = count == 0 ? 1024 : count * 2;
    witness->facts = mem_zalloc(witness->facts_capacity, sizeof *witness->facts);
    for (size_t i = 0; i < count; i++)
        if (old[i].index != 0)
            *place_of(witness, old[i].index, old[i].term) = old[i];
    mem_free(old);
}

/* An entry is durable in some log: at its (index, term) there must never be another. (In memory alone there may: a
 * cluster of one leads before its vote is durable, and after a crash leads the same term again.) */
static void learn(struct witness *witness, raft_index index, raft_term term, uint64_t chain)
{
    if (witness->facts_count * 2 >= witness->facts_capacity)
        grow_facts(witness);
    struct fact *fact = place_of(witness, index, term);
    if (fact->index == 0) {
        *fact = (struct fact){.index = index, .term = term, .chain = chain};
        witness->facts_count++;
    } else if (fact->chain != chain) {
        witness_break(witness, "log matching: two entries with one index and term", index, term);
    }
}

raft_term witness_durable_term(const struct seen *seen, raft_index index)
{
    return index == 0 || index > seen->durable ? 0 : seen->terms[index];
}

static void set_durable(struct seen *seen, raft_index index, raft_term term)
{
    seen->terms = witness_grown(seen->terms, &seen->terms_capacity, index, sizeof *seen->terms);
    seen->terms[index] = term;
    seen->durable = index;
}

/* --- the log ------------------------------------------------------------------------------------------------------------------ */

void witness_submitted(struct witness *witness, uint32_t number, const struct log_job *job)
{
    const struct seen *seen = &witness->seen[number];
    if (job->type != LOG_JOB_WRITE)
        return;
    const raft_index cut = job->write.cut_from;
    if (cut != 0 && seen->looked && seen->role == RAFT_LEADER && job->write.term <= seen->term && !job->write.vote)
        witness_break(witness, "leader append-only: a leader cuts its log", number + 1, cut);
    if (cut != 0 && cut <= witness->committed_last &&
        witness_durable_term(seen, cut) == witness->committed[cut].term)
        witness_break(witness, "a committed entry is cut", number + 1, cut);
}

/* The log begins after `base` now: before it stands what was committed. */
static void begin_after(struct witness *witness, struct seen *seen, const struct storage_base *base)
{
    if (base->index > witness->committed_last || witness->committed[base->index].term != base->term) {
        witness_break(witness, "a snapshot stands for what is not committed: index, term", base->index, base->term);
        return;
    }
    for (raft_index index = 1; index <= base->index; index++)
        set_durable(seen, index, witness->committed[index].term);
    learn(witness, base->index, base->term, base->chain);
}

static void keep_write(struct witness *witness, struct seen *seen, const struct log_job *job)
{
    if (job->write.reset)
        begin_after(witness, seen, &job->write.base);
    if (job->write.vote) {
        seen->vote_term = job->write.term;
        seen->voted_for = job->write.voted_for;
    }
    if (job->write.cut_from != 0 && job->write.cut_from <= seen->durable)
        seen->durable = job->write.cut_from - 1;
    for (size_t i = 0; i < job->write.records_count; i++) {
        struct slice rest = job->parts[i];
        struct entry entry;
        for (; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
            CHECK(entry_peek(rest, &entry) == STATUS_OK);
            if (entry.index != seen->durable + 1)
                witness_break(witness, "a log has a gap", entry.index, seen->durable);
            set_durable(seen, entry.index, entry.term);
            learn(witness, entry.index, entry.term, entry.chain);
        }
    }
}

void witness_written(struct witness *witness, uint32_t number, const struct log_job *job)
{
    struct seen *seen = &witness->seen[number];
    if (job->type != LOG_JOB_WRITE)
        return;
    if (job->status == STATUS_OK) {
        keep_write(witness, seen, job);
        return;
    }
    seen->writing = true;
    seen->wrote_vote = job->write.vote;
    seen->wrote_term = job->write.term;
    seen->wrote_for = job->write.voted_for;
    seen->wrote_cut = job->write.cut_from;
    seen->wrote_last = job->write.records_count > 0 ? job->write.last : 0;
    seen->wrote_snapshot = job->publish;
}

/* --- lives --------------------------------------------------------------------------------------------------------------------- */

static raft_term recovered_term(const struct raft_run *runs, size_t count, raft_index index)
{
    raft_term term = 0;
    for (size_t i = 0; i < count && runs[i].first <= index; i++)
        term = runs[i].term;
    return term;
}

/* What was durable must be there; what was being written may be, as far as it goes. */
static void hold_recovered(struct witness *witness, uint32_t number, const struct storage *storage)
{
    const struct seen *seen = &witness->seen[number];
    const struct raft_run *runs = NULL;
    size_t count = storage_runs(storage, &runs);
    raft_index last = storage_last_index(storage);
    raft_index least = seen->durable;
    raft_index most = seen->durable;
    if (seen->writing && seen->wrote_cut != 0 && seen->wrote_cut <= least)
        least = seen->wrote_cut - 1;
    if (seen->writing && seen->wrote_last > most)
        most = seen->wrote_last;
    raft_index base = storage_base(storage).index;
    if (seen->writing && seen->wrote_snapshot != 0 && last == seen->wrote_snapshot)
        return; /* the snapshot was there before the log began after it */
    if (last < least)
        witness_break(witness, "a restart lost durable entries: it found up to, of", last, least);
    if (last > most)
        witness_break(witness, "a restart found entries that were never written: up to, of", last, most);
    for (raft_index index = base + 1; index <= last && index <= least; index++)
        if (recovered_term(runs, count, index) != seen->terms[index])
            witness_break(witness, "a restart found another entry", number + 1, index);
    raft_term term = 0;
    node_id voted_for = 0;
    storage_vote(storage, &term, &voted_for);
    bool old = term == seen->vote_term && voted_for == seen->voted_for;
    bool new = seen->writing && seen->wrote_vote &&term == seen->wrote_term &&voted_for == seen->wrote_for;
    if (!old && !new)
        witness_break(witness, "a restart found another vote: its term, of", term, seen->vote_term);
}

/* A directory that was restored: what its snapshot stands for was committed in another cluster, and is this one's beginning. */
static void begin_restored(struct witness *witness, struct seen *seen, const struct storage_base *base,
                           const struct message_snapshot *file)
{
    if (witness->committed_last == 0) {
        witness->committed = witness_grown(witness->committed, &witness->committed_capacity, file->index,
                                           sizeof *witness->committed);
        for (raft_index index = 1; index <= file->index; index++)
            witness->committed[index] = (struct committed){.term = file->term, .in = file->term};
        witness->committed_last = file->index;
        witness->restored = file->index;
    }
    if (seen->durable == 0 && base->index > 0)
        begin_after(witness, seen, base);
}

void witness_named(struct witness *witness, uint32_t number, uint64_t id)
{
    struct seen *seen = &witness->seen[number];
    if (seen->id == id)
        return;
    mem_free(seen->terms);
    *seen = (struct seen){.id = id};
}

void witness_started(struct witness *witness, uint32_t number, struct storage *storage,
                     const struct replica_recovered *recovered)
{
    struct seen *seen = &witness->seen[number];
    const struct raft_run *runs = NULL;
    const struct storage_base begins_after = storage_base(storage);
    if (recovered->file.index > 0 && recovered->configuration.size == 0)
        begin_restored(witness, seen, &begins_after, &recovered->file);
    if (!seen->damaged)
        hold_recovered(witness, number, storage);
    size_t count = storage_runs(storage, &runs);
    raft_index last = storage_last_index(storage);
    seen->durable = 0;
    const struct storage_base base = storage_base(storage);
    if (base.index > 0)
        begin_after(witness, seen, &base);
    for (raft_index index = base.index + 1; index <= last; index++)
        set_durable(seen, index, recovered_term(runs, count, index));
    if (recovered->file.index > witness->committed_last)
        witness_break(witness, "a snapshot counts that is of what is not committed: node, index", number + 1,
                      recovered->file.index);
    if (last > base.index)
        learn(witness, last, storage_last_term(storage), storage_last_chain(storage));
    storage_vote(storage, &seen->vote_term, &seen->voted_for);
    seen->writing = false;
    seen->up = true;
    seen->looked = false;
    seen->distrusted = seen->starved = false;
    seen->applied = recovered->file.index;
}

void witness_ended(struct witness *witness, uint32_t number)
{
    witness->seen[number].up = false;
    witness->seen[number].looked = false;
}

void witness_damaged(struct witness *witness, uint32_t number)
{
    witness->seen[number].damaged = true;
}

/* --- what is said ---------------------------------------------------------------------------------------------------------------- */

/* Promises are votes, asking for votes, leading, and acknowledging. A term alone is none: a follower may answer a heartbeat
 * in a term that its disk does not hold yet. If it forgets that term, it has voted for nobody in it; the majority that did
 * vote remembers, so no second leader comes of it (§5.2), and what it acknowledged was durable. */
void witness_sent(struct witness *witness, uint32_t number, const struct raft_message *message)
{
    const struct seen *seen = &witness->seen[number];
    const raft_term term = message->term;
    bool voted = seen->vote_term > term;
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        voted |= seen->vote_term == term && seen->voted_for == message->from;
        if (!voted && !message->request_vote.pre_vote)
            witness_break(witness, "a candidate asks before its own vote is durable: node, term", message->from,
                          term);
        break;
    case RAFT_VOTE_RESPONSE:
        voted |= seen->vote_term == term && seen->voted_for == message->to;
        if (!voted && message->vote_response.granted && !message->vote_response.pre_vote)
            witness_break(witness, "a vote leaves before it is durable: node, term", message->from, term);
        break;
    case RAFT_APPEND_ENTRIES:
    case RAFT_INSTALL_SNAPSHOT:
        voted |= seen->vote_term == term && seen->voted_for == message->from;
        if (!voted)
            witness_break(witness, "a leader speaks whose own vote is not durable: node, term", message->from,
                          term);
        break;
    default:
        if (message->append_response.success && message->append_response.match_index > seen->durable)
            witness_break(witness, "an entry is acknowledged before it is durable: index, on disk",
                          message->append_response.match_index, seen->durable);
        break;
    }
}

/* State Machine Safety, §5.4.3: what was applied at an index is the same everywhere. */
void witness_applied(struct witness *witness, uint32_t number, const struct machine_status *status)
{
    struct seen *seen = &witness->seen[number];
    raft_index index = status->applied;
    if (index == 0 || status->parked_at != 0)
        return;
    if (index < seen->applied)
        witness_break(witness, "a machine went back", index, seen->applied);
    if (seen->looked && index > seen->commit)
        witness_break(witness, "a machine is ahead of the commit index", index, seen->commit);
    seen->applied = index;
    if (index > witness->committed_last || seen->distrusted)
        return;
    struct committed *known = &witness->committed[index];
    if (known->applied && (known->digest.hi != status->digest.hi || known->digest.lo != status->digest.lo))
        witness_break(witness, "two machines differ at an index", index, number + 1);
    known->applied = true;
    known->digest = status->digest;
}

/* The index of the event at the front of `events`, and its bytes. */
static raft_index take_event(struct slice *events, struct slice *event)
{
    struct pack_reader reader = pack_reader_make(*events);
    uint32_t parts = 0;
    raft_index index = 0;
    CHECK(pack_skip(&reader, PACK_SKIP_DEPTH, event) == STATUS_OK);
    *events = pack_rest(&reader);
    reader = pack_reader_make(*event);
    CHECK(pack_read_array(&reader, &parts) == STATUS_OK && pack_read_u64(&reader, &index) == STATUS_OK);
    return index;
}

static void told_by(struct witness *witness, raft_index index, uint64_t hash)
{
    witness->committed =
        witness_grown(witness->committed, &witness->committed_capacity, index, sizeof *witness->committed);
    struct committed *entry = &witness->committed[index];
    if (entry->told != 0 && entry->told != hash)
        witness_break(witness, "an entry told other events than before (its index, twice)", index, index);
    entry->told = hash;
}

void witness_told(struct witness *witness, struct slice events)
{
    raft_index last = 0;
    uint64_t hash = 0;
    while (events.size > 0) {
        struct slice event;
        raft_index index = take_event(&events, &event);
        if (index != last && last != 0)
            told_by(witness, last, hash);
        if (index < last)
            witness_break(witness, "events are out of order", last, index);
        const uint64_t parts[2] = {index != last ? 0 : hash, hash64(event.data, event.size)};
        hash = hash64(parts, sizeof parts);
        last = index;
    }
    if (last != 0)
        told_by(witness, last, hash);
}

void witness_installed(struct witness *witness, uint32_t number, const struct machine_status *status)
{
    struct seen *seen = &witness->seen[number];
    bool again = status->applied == seen->applied && (seen->distrusted || seen->starved);
    if (status->applied <= seen->applied && !again)
        witness_break(witness, "a snapshot was installed that is no news: index, applied", status->applied,
                      seen->applied);
    if (status->applied > witness->committed_last)
        witness_break(witness, "a snapshot was installed that is not committed: node, index", number + 1,
                      status->applied);
    seen->distrusted = seen->starved = false;
    witness_applied(witness, number, status);
}

void witness_starved(struct witness *witness, uint32_t number)
{
    witness->seen[number].starved = true;
}

void witness_distrusts(struct witness *witness, uint32_t number)
{
    witness->seen[number].distrusted = true;
}

void witness_compare_all(struct witness *witness, uint32_t number, const struct raft *raft)
{
    const struct seen *seen = &witness->seen[number];
    if (raft == NULL || !seen->looked)
        return;
    struct raft_status now;
    raft_get_status(raft, &now);
    for (raft_index index = now.base_index > 0 ? now.base_index : 1; index <= seen->commit; index++)
        if (raft_term_at(raft, index) != witness->committed[index].term)
            witness_break(witness, "a log differs from what is committed: node, index", number + 1, index);
}

raft_index witness_committed(const struct witness *witness, raft_term *term)
{
    *term = witness->committed_last > 0 ? witness->committed[witness->committed_last].term : 0;
    return witness->committed_last;
}
