/* replica/replica.c - the turn, and the one place where the core's effects are carried out. See replica/replica.h. */
#include "replica/replica.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "machine/membership.h"
#include "replica/recover.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { WINDOW_MESSAGES = 64, WINDOW_BYTES = 16 * 1024 * 1024, MESSAGE_BYTES = 1024 * 1024 };

struct peer *replica_peer(struct replica *replica, node_id id)
{
    for (size_t i = 0; i < replica->peers_count && id != 0; i++)
        if (replica->peers[i].member.id == id)
            return &replica->peers[i];
    return NULL;
}

bool replica_leads(const struct replica *replica)
{
    return replica->raft != NULL && replica->effects.role == RAFT_LEADER;
}

const struct raft *replica_raft(const struct replica *replica)
{
    return replica->raft;
}

const struct events *replica_events(const struct replica *replica)
{
    return replica->events;
}

raft_index replica_applied(const struct replica *replica)
{
    return replica->applied;
}

raft_index replica_parked_at(const struct replica *replica)
{
    return replica->machine.parked_at;
}

const struct identity *replica_identity(const struct replica *replica)
{
    return &replica->identity;
}

size_t replica_peers(const struct replica *replica, struct identity_member peers[REPLICA_PEERS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < replica->peers_count; i++)
        if (replica->peers[i].member.id != replica->identity.id && replica->peers[i].dialled)
            peers[count++] = replica->peers[i].member;
    return count;
}

bool replica_members(const struct replica *replica, struct members *members, bool *pending)
{
    const struct members *now = members_now(replica);
    struct raft_configuration configuration;
    if (now == NULL || replica->raft == NULL)
        return false;
    members_to_raft(now, &configuration);
    *members = *now;
    *pending = replica->changing.decision != 0 || configuration.old_voters_count > 0 ||
               now->id > replica->effects.commit_index;
    return true;
}

uint64_t replica_peers_version(const struct replica *replica)
{
    return replica->membering.version;
}

/* --- life --------------------------------------------------------------------------------------------------------------------------- */

static void count_bundles(struct replica *replica)
{
    struct pack_reader reader = pack_reader_make(buffer_slice(&replica->bundles));
    if (replica->bundles.size > 0)
        CHECK(pack_read_array(&reader, &replica->bundles_count) == STATUS_OK);
}

/* The log's first entry is of the cluster that this node is of. */
static bool has_own_formation(const struct replica *replica, struct storage *storage)
{
    struct buffer bytes = {0};
    struct entry entry;
    raft_index got = 0;
    bool own = storage_read(storage, replica->formed_at, replica->formed_at, 1, &bytes, &got) == STATUS_OK &&
               entry_peek(buffer_slice(&bytes), &entry) == STATUS_OK && entry.kind == ENTRY_CONFIGURATION &&
               formation_cluster_id(entry.payload) == replica->identity.cluster_id;
    buffer_close(&bytes);
    return own;
}

/* What is on disk is this node's: the formation entry, as far as the log still has it, the cluster that a snapshot is
 * of, and before the cluster has formed, the snapshot that was restored. */
static bool is_own_state(const struct replica *replica, struct storage *storage,
                         const struct replica_recovered *recovered)
{
    const struct message_snapshot *file = &recovered->file;
    const bool in_cluster = recovered->configuration.size > 0;
    if (in_cluster && recovered->cluster_id != replica->identity.cluster_id)
        return false;
    if (replica->identity.formation != FORMATION_FORMED && !in_cluster &&
        replica->identity.restored != (file->index != 0 ? formation_restored(file->hash) : 0))
        return false;
    return replica->formed_at == 0 || replica->formed_at <= storage_base(storage).index ||
           replica->formed_at > replica->last_index || has_own_formation(replica, storage);
}

/* Cluster time goes on from the last entry's stamp, or from the snapshot's. */
static void find_stamp(struct replica *replica, struct storage *storage, const struct replica_recovered *recovered)
{
    struct buffer bytes = {0};
    struct entry entry;
    raft_index got = 0;
    replica->stamp = recovered->stamp_ms;
    if (replica->last_index > storage_base(storage).index &&
        storage_read(storage, replica->last_index, replica->last_index, 1, &bytes, &got) == STATUS_OK &&
        entry_peek(buffer_slice(&bytes), &entry) == STATUS_OK && entry.stamp_ms > replica->stamp)
        replica->stamp = entry.stamp_ms;
    buffer_close(&bytes);
}

static void restore_snapshot(struct replica *replica, struct storage *storage,
                             const struct replica_recovered *recovered)
{
    struct snapshots *snapshots = &replica->snapshots;
    snapshots->compacted = storage_base(storage).index;
    replica->applied = recovered->file.index;
    replica->apply_next = recovered->file.index + 1;
    snapshots->log_before = storage_bytes_after(storage, recovered->file.index);
    machine_get_status(recovered->machine, &replica->machine);
    snapshots->take.stretch = (uint32_t)prng_below(&replica->prng, 500);
    if (recovered->file.index == 0)
        return;
    snapshots->files[0] = recovered->file;
    snapshots->files_count = 1;
    snapshots->stamp_ms = recovered->stamp_ms;
    struct machine_job job = {.status = replica->machine};
    machine_catalog(recovered->machine, &job.catalog);
    machine_pack_info(recovered->machine, &job.info);
    catalog_free(replica->catalog);
    replica->catalog = catalog_new(buffer_slice(&job.catalog));
    buffer_append(&replica->info, job.info.data, job.info.size);
    machine_pack_membership(recovered->machine, &job.membership);
    change_heard(replica, buffer_slice(&job.membership));
    buffer_close(&job.catalog);
    buffer_close(&job.info);
    buffer_close(&job.membership);
}

static void restore(struct replica *replica, struct storage *storage, const struct replica_recovered *recovered)
{
    raft_term term = 0;
    node_id voted_for = 0;
    const struct raft_run *runs = NULL;
    size_t count = storage_runs(storage, &runs);
    replica->last_index = storage_last_index(storage);
    replica->persisted_index = replica->last_index;
    replica->last_chain = storage_last_chain(storage);
    /* The first entry, where the log may have it. */
    const bool before = recovered->configuration.size == 0;
    replica->formed_at = before ? recovered->file.index + 1 : storage_base(storage).index == 0 ? 1 : 0;
    replica->restored_at = before ? recovered->file.index : 0;
    replica->formed_in = storage_last_term(storage) + 1;
    replica->set_differs = !is_own_state(replica, storage, recovered);
    restore_snapshot(replica, storage, recovered);
    find_stamp(replica, storage, recovered);
    members_begin(replica, recovered->configuration_index, buffer_slice(&recovered->configuration));
    log_restore_notes(replica, storage);
    if (replica->last_index < replica->formed_at && !replica->identity.joined)
        return;
    replica->raft = raft_new(&replica->raft_options);
    storage_vote(storage, &term, &voted_for);
    raft_restore_vote(replica->raft, term, voted_for);
    const struct storage_base base = storage_base(storage);
    if (base.index != 0)
        raft_restore_base(replica->raft, base.index, base.term);
    for (size_t i = 0; i < count; i++)
        raft_restore_entries(replica->raft, runs[i].first,
                             i + 1 < count ? runs[i + 1].first - 1 : replica->last_index, runs[i].term);
}

struct replica *replica_new(const struct replica_options *options, const struct replica_env *env,
                            struct storage *storage)
{
    struct replica *replica = mem_zalloc(1, sizeof *replica);
    replica->env = *env;
    replica->identity = options->identity;
    replica->fingerprint = options->fingerprint;
    replica->requests_free = UINT32_MAX;
    replica->by_index = mem_zalloc(UNCOMMITTED_MAX, sizeof *replica->by_index);
    replica->cache.bytes_max = options->cache_bytes > 0 ? options->cache_bytes : REPLICA_CACHE_BYTES;
    replica->catalog = catalog_new(slice_make(NULL, 0));
    replica->due_at = UINT64_MAX;
    replica->snapshots.policy = options->snapshots;
    replica->snapshots.machine = options->machine;
    replica->scrubbing.rate = options->scrub_rate;
    buffer_append(&replica->bundles, options->bundles.data, options->bundles.size);
    count_bundles(replica);
    prng_seed(&replica->prng, options->seed);
    replica->generation = (uint32_t)prng_next(&replica->prng);
    replica->ask_id = MUTANT(188) ? 0 : (uint64_t)replica->generation << 32;
    replica->self = options->self;
    snprintf(replica->address, sizeof replica->address, "%s", options->address);
    replica->peers_count = replica->identity.members_count;
    for (size_t i = 0; i < replica->peers_count; i++) {
        replica->peers[i].member = replica->identity.members[i];
        replica->peers[i].dialled = true;
    }
    replica->raft_options = (struct raft_options){.id = options->identity.id,
                                                  .seed = options->seed,
                                                  .election_timeout_ms = options->election_timeout_ms,
                                                  .heartbeat_ms = options->heartbeat_ms,
                                                  .window_messages = WINDOW_MESSAGES,
                                                  .window_bytes = WINDOW_BYTES,
                                                  .message_bytes_max = MESSAGE_BYTES,
                                                  .uncommitted_entries_max = UNCOMMITTED_MAX - 1,
                                                  .follow_priority = true,
                                                  .trace = options->trace};
    lease_begin(replica);
    restore(replica, storage, options->recovered);
    replica->events = events_new(replica->applied, options->events_bytes);
    return replica;
}

static void free_queue(struct replica *replica)
{
    while (replica->queue_first != NULL) {
        struct log_job *next = replica->queue_first->next;
        log_job_free(replica->queue_first);
        replica->queue_first = next;
    }
}

void replica_free(struct replica *replica)
{
    CHECK(replica->links == NULL);
    CHECK_EQ(replica->log_jobs + replica->machine_jobs + replica->views.out, 0);
    CHECK_EQ(replica->snapshots.jobs + replica->snapshots.machine_jobs, 0);
    replica_abandon(replica);
}

void replica_abandon(struct replica *replica)
{
    link_free_all(replica);
    free_queue(replica);
    for (uint32_t i = 0; i < replica->requests_capacity; i++)
        buffer_close(&replica->requests[i].bytes);
    cache_close(&replica->cache);
    catalog_free(replica->catalog);
    if (replica->raft != NULL)
        raft_free(replica->raft);
    buffer_close(&replica->set);
    buffer_close(&replica->bundles);
    buffer_close(&replica->frame);
    buffer_close(&replica->info);
    buffer_close(&replica->batch_bytes);
    mem_free(replica->runs);
    mem_free(replica->outbox);
    mem_free(replica->held);
    mem_free(replica->requests);
    mem_free(replica->by_index);
    mem_free(replica->waiting);
    mem_free(replica->batch);
    mem_free(replica->reads);
    mem_free(replica->asks);
    mem_free(replica->views.queries);
    buffer_close(&replica->views.back);
    buffer_close(&replica->diverging.lo);
    buffer_close(&replica->diverging.hi);
    buffer_close(&replica->comparing.lo);
    buffer_close(&replica->comparing.hi);
    buffer_close(&replica->scrubbing.from);
    mem_free(replica->skips);
    events_free(replica->events);
    members_free(replica);
    buffer_close(&replica->snapshots.receive.configuration);
    if (replica->snapshots.receive.built != NULL)
        machine_free(replica->snapshots.receive.built);
    mem_free(replica);
}

/* Raft starts: the formation entry is durable, here and now or since long. */
void replica_begin_raft(struct replica *replica)
{
    const raft_index formed_at = replica->identity.joined ? 0 : replica->formed_at;
    if (replica->raft == NULL) {
        replica->raft = raft_new(&replica->raft_options);
        raft_restore_vote(replica->raft, replica->formed_in, 0);
        if (formed_at > 1)
            raft_restore_base(replica->raft, formed_at - 1, replica->formed_in - 1);
        raft_restore_entries(replica->raft, formed_at, formed_at, replica->formed_in);
        replica->persisted_index = formed_at;
    }
    members_restore_raft(replica);
    replica->snapshots.counted_at = replica->now.boot_ms;
    raft_start(replica->raft, replica->now.boot_ms, replica->applied > formed_at ? replica->applied : formed_at,
               &replica->effects);
    replica->membering.alone_since = replica->now.boot_ms;
    log_take_effects(replica, &replica->effects.write, NULL);
    if (members_now(replica) != NULL)
        members_sync(replica);
    /* Links that agreed while the cluster formed count from now on. */
    for (struct link *link = replica->links; link != NULL; link = link->next) {
        struct peer *peer = link->peer != 0 ? replica_peer(replica, link->peer) : NULL;
        if (peer != NULL && link->outgoing && !link->bulk && link->agreed && peer->formation >= FORMATION_PINNED)
            peer->out = link;
    }
}

static const char log_is_gone[] =
    "this data directory was part of a cluster, and its log is gone: set the directory "
    "aside and let the node join anew";

void replica_start(struct replica *replica, struct replica_time now)
{
    replica->now = now;
    if (replica->identity.cluster_id != 0 && !replica->identity.joined) {
        formation_pack_set(replica->identity.members, replica->identity.members_count, &replica->set);
        if (formation_cluster_id(buffer_slice(&replica->set)) != replica->identity.cluster_id) {
            replica->env.fatal(replica->env.context, 78,
                               "file identity does not agree with itself: set the data directory aside and let the "
                               "node join anew");
            return;
        }
    }
    if (replica->set_differs) {
        replica->env.fatal(replica->env.context, 78,
                           "file identity and the log, or the snapshot, are of different clusters: the data "
                           "directory is a mixture; put the "
                           "right files back, or set it aside and let the node join anew");
        return;
    }
    if (replica->membering.unreadable) {
        replica->env.fatal(replica->env.context, 78,
                           "the log cannot be read, or has a configuration that is none: mend the disk, or set the "
                           "data directory aside and let the node join anew");
        return;
    }
    if (replica->identity.begun && replica->last_index == 0 && !MUTANT(303)) {
        replica->env.fatal(replica->env.context, 78, log_is_gone);
        return;
    }
    if (replica->raft != NULL) {
        if (replica->identity.formation != FORMATION_FORMED) {
            replica->identity.formation = FORMATION_FORMED;
            log_submit_identity(replica, false);
        }
        replica->told_pinned = true;
        replica->told_formed = true;
        replica_begin_raft(replica);
    } else if (replica->identity.formation == FORMATION_FORMED) {
        replica->env.fatal(replica->env.context, 78, log_is_gone);
    } else {
        formation_progress(replica);
    }
}

/* --- the core's effects ------------------------------------------------------------------------------------------------------------ */

static void post(struct raft_message **list, size_t *count, size_t *capacity, const struct raft_message *message)
{
    if (*count == *capacity) {
        *capacity = *capacity * 2 + 32;
        *list = mem_realloc(*list, *capacity * sizeof **list);
    }
    (*list)[(*count)++] = *message;
}

static void leadership_changed(struct replica *replica)
{
    const struct raft_effects *effects = &replica->effects;
    replica->route_again = true;
    read_lost(replica, 0);
    digest_begin_term(replica);
    if (effects->leader != 0)
        handover_leader_known(replica);
    if (effects->role == RAFT_LEADER)
        LOG(LOG_INFO, "raft", "leads in term %llu", (unsigned long long)effects->term);
    else if (effects->leader != 0)
        LOG(LOG_INFO, "raft", "follows node %llu in term %llu", (unsigned long long)effects->leader,
            (unsigned long long)effects->term);
}

void replica_step(struct replica *replica, struct raft_event *event)
{
    if (replica->raft == NULL || replica->effects.wake_at == 0)
        return;
    event->now = replica->now.boot_ms;
    struct raft_effects *effects = &replica->effects;
#ifdef DEBUG_INVARIANTS
    struct raft_digest before;
    raft_get_digest(replica->raft, &before);
#endif
    raft_step(replica->raft, event, effects);
#ifdef DEBUG_INVARIANTS
    const char *broken = raft_invariants(replica->raft, &before);
    if (broken != NULL)
        check_failed(__FILE__, __LINE__, broken);
#endif
    log_take_effects(replica, &effects->write, replica->incoming);
    members_follow(replica);
    for (size_t i = 0; i < effects->messages_count; i++)
        post(&replica->outbox, &replica->outbox_count, &replica->outbox_capacity, &effects->messages[i]);
    if (effects->transfer != RAFT_TRANSFER_NONE) {
        handover_effects(replica);
        change_transfer_ended(replica);
    }
    if (effects->leadership_changed)
        leadership_changed(replica);
    if (effects->reads_ready_id != 0 || effects->reads_failed_id != 0 || effects->read_leased)
        apply_read_effects(replica);
}

static void send_message(struct replica *replica, struct raft_message *raft)
{
    if (raft->type == RAFT_APPEND_ENTRIES) {
        log_send_append(replica, raft);
        return;
    }
    struct message message = {.type = MESSAGE_RAFT, .raft = *raft};
    if (raft->type == RAFT_INSTALL_SNAPSHOT && !send_offer(replica, &message))
        return;
    (void)link_send_message(replica, raft->to, &message, NULL, 0);
}

/* Sends what may go. Sending entries steps the core, which may want more sent: the outbox grows while it is drained. */
void replica_drain(struct replica *replica)
{
    size_t kept = 0;
    for (size_t i = 0; i < replica->held_count; i++) {
        if (replica->held[i].after_write <= replica->persisted)
            post(&replica->outbox, &replica->outbox_count, &replica->outbox_capacity, &replica->held[i]);
        else
            replica->held[kept++] = replica->held[i];
    }
    replica->held_count = kept;
    for (size_t i = 0; i < replica->outbox_count; i++) {
        struct raft_message message = replica->outbox[i];
        if (message.after_write > replica->persisted && !MUTANT(50))
            post(&replica->held, &replica->held_count, &replica->held_capacity, &message);
        else
            send_message(replica, &message);
    }
    replica->outbox_count = 0;
}

/* A leader whose service has no code yet proposes what it was formed with. */
static void propose_bundles(struct replica *replica)
{
    if (!replica_leads(replica) || replica->bundles_count == 0 || apply_code_ready(replica) ||
        replica->bundles_proposed == replica->effects.term || replica->batch_count > 0)
        return;
    raft_index last = replica->last_index;
    if (raft_term_at(replica->raft, replica->applied) != replica->effects.term || replica->applied < last)
        return; /* first everything that is in the log already */
    replica->bundles_proposed = replica->effects.term;
    struct pack_reader reader = pack_reader_make(buffer_slice(&replica->bundles));
    uint32_t count = 0;
    CHECK(pack_read_array(&reader, &count) == STATUS_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice bundle;
        CHECK(pack_read_text(&reader, &bundle) == STATUS_OK);
        requests_propose_own(replica, ENTRY_BUNDLE, bundle);
    }
}

/* What is in the log already ends with a real answer first; then leadership is given up. */
static void end_leading(struct replica *replica)
{
    if (!replica->stopping || replica->requests_count > 0 || !replica_leads(replica) ||
        handover_before_end(replica))
        return;
    struct raft_event event = {.type = RAFT_EVENT_STEP_DOWN, .step_down = {.why = "the node ends"}};
    replica_step(replica, &event);
    replica_drain(replica);
}

void replica_turn(struct replica *replica, struct replica_time now)
{
    replica->now = now;
    if (replica->raft != NULL) {
        if (now.boot_ms >= replica->effects.wake_at && !(MUTANT(61) && replica->machine_jobs > 0)) {
            struct raft_event event = {.type = RAFT_EVENT_TIMEOUT};
            replica_step(replica, &event);
        }
        members_turn(replica);
        runtime_turn(replica);
        propose_bundles(replica);
        host_requests_turn(replica);
        observe_turn(replica);
        change_turn(replica);
        announce_turn(replica);
        requests_turn(replica);
        apply_queries(replica);
        query_turn(replica);
        receive_turn(replica);
        send_turn(replica);
        digest_turn(replica);
        diverge_turn(replica);
        rebuild_turn(replica);
        scrub_turn(replica);
        take_turn(replica);
        lease_turn(replica);
        log_maintain(replica);
        replica_drain(replica);
        skip_turn(replica);
        apply_committed(replica);
    } else {
        requests_turn(replica);
        log_maintain(replica);
    }
    requests_scan(replica);
    end_leading(replica);
}

uint64_t replica_wake_at(const struct replica *replica)
{
    uint64_t at = UINT64_MAX;
    if (replica->raft != NULL) {
        uint64_t take = take_wake_at(replica);
        uint64_t send = send_wake_at(replica);
        at = replica->effects.wake_at;
        at = take < at ? take : at;
        at = send < at ? send : at;
        const uint64_t more[] = {diverge_wake_at(replica), rebuild_wake_at(replica), scrub_wake_at(replica),
                                 replica->due_at};
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            at = more[i] < at ? more[i] : at;
    }
    if (replica->membering.removed_at != 0 && replica->now.boot_ms + replica->raft_options.heartbeat_ms < at)
        at = replica->now.boot_ms + replica->raft_options.heartbeat_ms;
    if (replica->requests_count > 0 && replica->next_scan < at)
        at = replica->next_scan;
    if (replica->written_at != 0 && !replica->marking && replica->written_at + MARK_MS < at)
        at = replica->written_at + MARK_MS;
    uint64_t hang = replica->write_since + replica->raft_options.election_timeout_ms + 1;
    if (replica->write_out != NULL && !replica->hang_reported && hang < at)
        at = hang;
    return at;
}

/* --- ending ------------------------------------------------------------------------------------------------------------------------------ */

void replica_stop(struct replica *replica, struct replica_time now)
{
    replica->now = now;
    replica->stopping = true;
    replica->route_again = true;
    for (uint32_t i = 0; i < replica->requests_capacity; i++)
        if (replica->requests[i].state == REQUEST_WAITING || replica->requests[i].state == REQUEST_SNAPSHOT ||
            replica->requests[i].state == REQUEST_REBUILD)
            request_fail(replica, &replica->requests[i], ERROR_NO_LEADER, "this node is ending; ask another");
}

bool replica_stopped(const struct replica *replica)
{
    return replica->requests_count == 0 && replica->log_jobs == 0 && replica->queue_first == NULL &&
           replica->machine_jobs == 0 && view_none_out(replica) && replica->snapshots.jobs == 0 &&
           replica->snapshots.machine_jobs == 0 && !receive_installs(replica) && !replica_leads(replica);
}
