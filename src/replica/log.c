/* replica/log.c - the log's jobs: group commit, what is attached to AppendEntries, reading back, marks.
 *
 * One write is out at a time; what gathers meanwhile is the next one. A cut begins a write of its own, so that it is durable
 * before anything is appended after it.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "replica/state.h"

enum { ATTACH_PARTS_MAX = 48 };

static void submit(struct replica *replica, struct log_job *job)
{
    replica->log_jobs++;
    replica->env.log(replica->env.context, job);
}

/* --- writes -------------------------------------------------------------------------------------------------------------------- */

static void submit_write(struct replica *replica)
{
    if ((replica->write_out != NULL && !MUTANT(64)) || replica->queue_first == NULL)
        return;
    struct log_job *job = replica->queue_first;
    replica->queue_first = job->next;
    if (replica->queue_first == NULL)
        replica->queue_last = NULL;
    replica->write_out = job;
    replica->write_since = replica->now.boot_ms;
    replica->hang_reported = false;
    job->write.records = job->parts;
    submit(replica, job);
}

/* The job that takes the next write: the youngest that waits, if it may be added to. */
static struct log_job *open_job(struct replica *replica, bool cut)
{
    struct log_job *job = replica->queue_last;
    if (job != NULL && !cut && job->write.records_count < LOG_JOB_PARTS_MAX)
        return job;
    job = mem_zalloc(1, sizeof *job);
    job->type = LOG_JOB_WRITE;
    if (replica->queue_last != NULL)
        replica->queue_last->next = job;
    else
        replica->queue_first = job;
    replica->queue_last = job;
    return job;
}

static void add_records(struct replica *replica, struct log_job *job, raft_index first, raft_index last)
{
    struct chunk *chunk = cache_find(&replica->cache, first);
    CHECK(chunk != NULL);
    CHECK_EQ(chunk->first, first);
    CHECK_EQ(chunk->last, last);
    if (job->write.records_count == 0)
        job->write.first = first;
    job->write.last = last;
    job->parts[job->write.records_count] = chunk_records(chunk, first, last);
    job->pinned[job->write.records_count] = chunk;
    chunk_hold(chunk);
    job->write.records_count++;
}

static void make_noop(struct replica *replica, const struct raft_write *write)
{
    clock_lead(replica);
    struct entry entry = {
        .index = write->first, .term = write->append_term, .stamp_ms = clock_stamp(replica), .kind = ENTRY_NOOP};
    struct buffer records = {0};
    entry_encode(&records, &entry, replica->last_chain);
    replica->last_chain = entry.chain;
    (void)cache_append(&replica->cache, &records, write->first, write->last);
}

/* A configuration that the core appends: its own words, and what is known of those members. */
static void make_configuration(struct replica *replica, const struct raft_write *write)
{
    struct buffer payload = {0};
    struct buffer records = {0};
    members_compose(replica, write->first, &payload);
    struct entry entry = {.index = write->first,
                          .term = write->append_term,
                          .stamp_ms = clock_stamp(replica),
                          .kind = ENTRY_CONFIGURATION,
                          .payload = buffer_slice(&payload)};
    entry_encode(&records, &entry, replica->last_chain);
    replica->last_chain = entry.chain;
    log_note(replica, cache_append(&replica->cache, &records, write->first, write->last));
    buffer_close(&payload);
}

void log_note(struct replica *replica, const struct chunk *chunk)
{
    struct entry entry;
    for (raft_index index = chunk->first; index <= chunk->last; index++) {
        CHECK(entry_peek(chunk_records(chunk, index, index), &entry) == STATUS_OK);
        skip_note(replica, &entry);
        members_note(replica, &entry);
    }
}

void log_restore_notes(struct replica *replica, struct storage *storage)
{
    struct buffer bytes = {0};
    raft_index base = storage_base(storage).index;
    raft_index next = replica->applied > base ? replica->applied + 1 : base + 1;
    while (next <= replica->last_index) {
        raft_index got = 0;
        struct entry entry;
        buffer_clear(&bytes);
        if (storage_read(storage, next, replica->last_index, READ_BYTES_MAX, &bytes, &got) != STATUS_OK) {
            replica->membering.unreadable = true;
            break;
        }
        for (struct slice rest = buffer_slice(&bytes); rest.size > 0;
             rest.data += entry.size, rest.size -= entry.size) {
            CHECK(entry_peek(rest, &entry) == STATUS_OK);
            if (!MUTANT(173))
                skip_note(replica, &entry);
            members_note(replica, &entry);
        }
        next = got + 1;
    }
    buffer_close(&bytes);
}

/* Takes the new ones among a message's records; they were checked when it came (link.c). */
static void take_records(struct replica *replica, const struct raft_write *write, const struct message *message)
{
    struct slice rest = message->records;
    struct buffer records = {0};
    struct entry entry;
    while (rest.size > 0) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        if (entry.index >= write->first) {
            buffer_append(&records, rest.data, rest.size);
            break;
        }
        rest.data += entry.size;
        rest.size -= entry.size;
    }
    for (; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        if (entry.stamp_ms > replica->stamp)
            replica->stamp = entry.stamp_ms;
    }
    replica->last_chain = entry.chain;
    log_note(replica, cache_append(&replica->cache, &records, write->first, write->last));
}

/* A snapshot takes its place in the log (§7): its file counts from this write on. Reset: nothing of the log fits it. */
static void take_base(struct replica *replica, struct log_job *job, const struct raft_write *write)
{
    const struct snapshot_head *head = &replica->snapshots.receive.head;
    CHECK_EQ(head->index, write->base_index);
    job->publish = write->base_index;
    members_installed(replica, write->base_index, head->configuration_index,
                      buffer_slice(&replica->snapshots.receive.configuration), write->reset);
    if (!write->reset)
        return;
    job->write.reset = true;
    job->write.base =
        (struct storage_base){.index = write->base_index, .term = write->base_term, .chain = head->chain};
    cache_close(&replica->cache);
    skip_cut(replica, 1);
    replica->last_index = write->base_index;
    replica->last_chain = head->chain;
    if (replica->persisted_index > write->base_index)
        replica->persisted_index = write->base_index;
}

void log_take_effects(struct replica *replica, const struct raft_write *write, const struct message *message)
{
    if (write->number == 0)
        return;
    struct log_job *job = open_job(replica, write->cut_from != 0 || write->base_index != 0);
    job->number = write->number;
    if (write->vote) {
        job->write.vote = true;
        job->write.term = write->term;
        job->write.voted_for = write->voted_for;
    }
    if (write->cut_from != 0) {
        job->write.cut_from = write->cut_from;
        cache_cut(&replica->cache, write->cut_from);
        skip_cut(replica, write->cut_from);
        members_cut(replica, write->cut_from);
        replica->last_index = write->cut_from - 1;
        if (replica->persisted_index >= write->cut_from && !MUTANT(52))
            replica->persisted_index = write->cut_from - 1;
    }
    if (write->base_index != 0)
        take_base(replica, job, write);
    if (write->source == RAFT_APPEND_NONE)
        return;
    /* Entries behind a cut of an older chunk can leave the cache with a gap at its end: it begins anew then. */
    if (replica->cache.count > 0 && cache_last(&replica->cache) + 1 != write->first)
        cache_close(&replica->cache);
    if (write->source == RAFT_APPEND_NOOP)
        make_noop(replica, write);
    else if (write->source == RAFT_APPEND_CONFIGURATION)
        make_configuration(replica, write);
    else if (write->source == RAFT_APPEND_PROPOSAL)
        requests_encode_batch(replica, write);
    else
        take_records(replica, write, message);
    replica->last_index = write->last;
    add_records(replica, job, write->first, write->last);
}

void log_write_formation(struct replica *replica)
{
    struct entry entry = {.index = replica->formed_at,
                          .term = replica->formed_in,
                          .stamp_ms = replica->stamp,
                          .kind = ENTRY_CONFIGURATION,
                          .payload = buffer_slice(&replica->set)};
    struct buffer records = {0};
    entry_encode(&records, &entry, replica->last_chain);
    log_note(replica, cache_append(&replica->cache, &records, entry.index, entry.index));
    struct log_job *job = open_job(replica, false);
    job->write.vote = true;
    job->write.term = entry.term;
    add_records(replica, job, entry.index, entry.index);
    replica->last_index = entry.index;
    replica->last_chain = entry.chain;
    replica->formation_writing = true;
    submit_write(replica);
}

void log_submit_identity(struct replica *replica, bool drop_bundles)
{
    struct log_job *job = mem_zalloc(1, sizeof *job);
    job->type = LOG_JOB_IDENTITY;
    job->identity = replica->identity;
    job->drop_bundles = drop_bundles;
    replica->identity_saving = true;
    submit(replica, job);
}

/* --- AppendEntries out ---------------------------------------------------------------------------------------------------------- */

static void say_sent(struct replica *replica, node_id peer, uint32_t epoch, raft_index last, size_t bytes)
{
    struct raft_event event = {.type = RAFT_EVENT_SENT,
                               .sent = {.peer = peer, .epoch = epoch, .last = last, .bytes = (uint32_t)bytes}};
    replica_step(replica, &event);
}

/* Takes records from the cache, from `first` on, as many as fit. Returns the last one's index; 0: not in the cache. */
static raft_index attach(struct replica *replica, raft_index first, raft_index last, size_t bytes_max,
                         struct slice *parts, size_t *count, size_t *bytes)
{
    raft_index next = first;
    *count = 0;
    *bytes = 0;
    while (next <= last && *count < ATTACH_PARTS_MAX) {
        const struct chunk *chunk = cache_find(&replica->cache, next);
        if (chunk == NULL)
            break;
        raft_index until = chunk->last < last ? chunk->last : last;
        size_t start = chunk->offsets[next - chunk->first];
        raft_index fit = next - 1;
        while (fit < until &&
               (*bytes + (chunk->offsets[fit + 1 - chunk->first + 1] - start) <= bytes_max || fit < first))
            fit++;
        if (fit < next)
            break;
        parts[*count] = chunk_records(chunk, next, fit);
        *bytes += parts[(*count)++].size;
        next = fit + 1;
        if (fit < until)
            break;
    }
    return next > first ? next - 1 : 0;
}

/* The core asks for nothing more until it hears SENT: what cannot go now is tried again. The latest one counts, for it asks
 * anew after a loss or a refusal, while an earlier one may still wait for the disk. */
static void want(struct peer *peer, const struct raft_message *raft)
{
    peer->wanting = true;
    peer->wanted = *raft;
}

void log_send_append(struct replica *replica, struct raft_message *raft)
{
    struct raft_append_entries *append = &raft->append_entries;
    struct message message = {.type = MESSAGE_RAFT, .raft = *raft};
    struct peer *peer = replica_peer(replica, raft->to);
    if (peer == NULL || peer->out == NULL)
        return; /* PEER_UP makes the core ask anew */
    if (append->last_index == append->prev_log_index) {
        (void)link_send_message(replica, raft->to, &message, NULL, 0);
        return;
    }
    peer->wanting = false; /* what was wanted before: the core has changed its mind */
    struct slice parts[ATTACH_PARTS_MAX];
    size_t count = 0;
    size_t bytes = 0;
    raft_index first = append->prev_log_index + 1;
    raft_index last = attach(replica, first, append->last_index, append->bytes_max, parts, &count, &bytes);
    if (last != 0) {
        message.raft.append_entries.last_index = last;
        if (link_send_message(replica, raft->to, &message, parts, count))
            say_sent(replica, raft->to, append->epoch, last, bytes);
        else
            want(peer, raft);
        return;
    }
    if (first <= replica->snapshots.compacted) {
        say_sent(replica, raft->to, append->epoch, append->prev_log_index, 0); /* a snapshot stands for them now */
        return;
    }
    if (peer->reading || first > replica->persisted_index) {
        want(peer, raft);
        return;
    }
    struct log_job *job = mem_zalloc(1, sizeof *job);
    job->type = LOG_JOB_READ;
    job->for_peer = raft->to;
    job->epoch = append->epoch;
    job->append = *raft;
    job->first = first;
    job->last = append->last_index < replica->persisted_index ? append->last_index : replica->persisted_index;
    job->bytes_max = append->bytes_max < READ_BYTES_MAX ? append->bytes_max : READ_BYTES_MAX;
    peer->reading = true;
    submit(replica, job);
}

/* Records for a follower came back from the disk. */
static void send_read(struct replica *replica, struct log_job *job)
{
    struct peer *peer = replica_peer(replica, job->for_peer);
    if (peer == NULL)
        return;
    peer->reading = false;
    if (!replica_leads(replica) || replica->effects.term != job->append.term || peer->wanting)
        return;
    struct message message = {.type = MESSAGE_RAFT, .raft = job->append};
    message.raft.append_entries.last_index = job->got;
    struct slice records = buffer_slice(&job->records);
    if (link_send_message(replica, job->for_peer, &message, &records, 1))
        say_sent(replica, job->for_peer, job->epoch, job->got, records.size);
    else if (peer->out != NULL)
        want(peer, &job->append);
}

static void send_wanted(struct replica *replica)
{
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        if (!peer->wanting || peer->reading)
            continue;
        struct raft_message wanted = peer->wanted;
        peer->wanting = false;
        if (replica_leads(replica) && replica->effects.term == wanted.term)
            log_send_append(replica, &wanted);
    }
}

/* --- what comes back ---------------------------------------------------------------------------------------------------------------- */

static void written(struct replica *replica, const struct log_job *job)
{
    replica->write_out = NULL;
    replica->written_at = replica->now.boot_ms;
    if (job->write.records_count > 0)
        replica->persisted_index = job->write.last < replica->last_index ? job->write.last : replica->last_index;
    if (job->write.reset)
        replica->persisted_index =
            job->write.records_count > 0 ? job->write.last : job->write.base.index; /* nothing before it is there */
    for (const struct log_job *next = replica->queue_first; next != NULL; next = next->next)
        if (next->write.cut_from != 0 && replica->persisted_index >= next->write.cut_from)
            replica->persisted_index = next->write.cut_from - 1; /* what is there now is not what will be */
    if (replica->identity.joined && !replica->identity.begun && replica->persisted_index > 0 &&
        !replica->identity_saving) {
        replica->identity.begun = true;
        log_submit_identity(replica, false);
    }
    if (replica->formation_writing) {
        replica->formation_writing = false;
        replica->identity.formation = FORMATION_FORMED;
        log_submit_identity(replica, false);
        replica_begin_raft(replica);
    } else {
        if (job->publish != 0)
            receive_written(replica);
        replica->persisted = job->number + (MUTANT(66) && replica->queue_first != NULL ? 1 : 0);
        struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persisted = {.write_number = job->number}};
        replica_step(replica, &event);
    }
}

void replica_log_done(struct replica *replica, struct log_job *job, struct replica_time now)
{
    replica->now = now;
    replica->log_jobs--;
    if (job->type == LOG_JOB_COMPACT) {
        take_compacted(replica, job);
        log_job_free(job);
        return;
    }
    if (job->status != STATUS_OK && !(MUTANT(51) && job->type == LOG_JOB_WRITE)) {
        char sentence[900];
        snprintf(sentence, sizeof sentence,
                 "the log failed: %s (%s); nothing that was acknowledged is lost: mend the "
                 "disk and start this node again",
                 job->why, status_text(job->status));
        replica->env.fatal(replica->env.context, 1, sentence);
        log_job_free(job);
        return;
    }
    switch (job->type) {
    case LOG_JOB_WRITE:
        written(replica, job);
        break;
    case LOG_JOB_READ:
        if (job->for_peer != 0)
            send_read(replica, job);
        else
            apply_read_back(replica, job);
        break;
    case LOG_JOB_MARK:
        replica->marking = false;
        break;
    default:
        replica->identity_saving = false;
        formation_progress(replica);
        break;
    }
    log_job_free(job);
}

/* Once a turn: the next write, the mark of an idle log, a disk that hangs. */
void log_maintain(struct replica *replica)
{
    submit_write(replica);
    send_wanted(replica);
    if (replica->write_out == NULL && replica->written_at != 0 && !replica->marking &&
        replica->now.boot_ms >= replica->written_at + MARK_MS) {
        struct log_job *job = mem_zalloc(1, sizeof *job);
        job->type = LOG_JOB_MARK;
        replica->marking = true;
        replica->written_at = 0;
        submit(replica, job);
    }
    uint64_t bound = replica->raft_options.election_timeout_ms;
    if (replica->write_out != NULL && !replica->hang_reported && replica->raft != NULL && !MUTANT(62) &&
        replica->now.boot_ms - replica->write_since > bound) {
        replica->hang_reported = true;
        LOG(LOG_WARN, "log", "the disk has not answered a write for %llu ms%s", (unsigned long long)bound,
            replica_leads(replica) ? ": stepping down" : "");
        if (!replica_leads(replica))
            return; /* a candidate waits: its election has a time-out of its own */
        struct raft_event event = {.type = RAFT_EVENT_STEP_DOWN, .step_down = {.why = "the disk hangs"}};
        replica_step(replica, &event);
    }
}
