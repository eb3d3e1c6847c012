/* replica/requests.c - clients' requests from their beginning to their one end: proposals, forwarding, time-outs.
 *
 * A request is found by a token: its slot, and a generation that tells a stale token. Exactly one of request_end ends it.
 * The reads among them are in apply.c, what is sent on to a leader in forward.c, the host's own in host_requests.c.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { ARGS_BYTES_MAX = 1024 * 1024 + 4096, BYTES_KEPT_MAX = 1024 };

uint64_t request_token(const struct replica *replica, const struct pending *request)
{
    return (uint64_t)request->generation << 32 | (uint64_t)(request - replica->requests);
}

struct pending *request_of(struct replica *replica, uint64_t token)
{
    uint32_t slot = (uint32_t)token;
    if (slot >= replica->requests_capacity)
        return NULL;
    struct pending *request = &replica->requests[slot];
    return request->state != REQUEST_FREE && request->generation == token >> 32 ? request : NULL;
}

/* --- ends ------------------------------------------------------------------------------------------------------------------- */

/* Small buffers stay with their slot: no allocation for each command. */
static void drop_bytes(struct replica *replica, struct pending *request)
{
    replica->requests_bytes -= request->bytes.size;
    if (request->bytes.capacity > BYTES_KEPT_MAX)
        buffer_close(&request->bytes);
    else
        buffer_clear(&request->bytes);
}

static void release(struct replica *replica, struct pending *request)
{
    if (request->index > 0) {
        uint32_t *place = &replica->by_index[request->index % UNCOMMITTED_MAX];
        if (*place == (uint32_t)(request - replica->requests) + 1)
            *place = 0;
        replica->proposed_count--;
    }
    drop_bytes(replica, request);
    request->state = REQUEST_FREE;
    request->next_free = replica->requests_free;
    replica->requests_free = (uint32_t)(request - replica->requests);
    replica->requests_count--;
}

static void answer_origin(struct replica *replica, const struct pending *request, bool ok, bool definite,
                          uint64_t index, struct slice value)
{
    struct message message = {.type = MESSAGE_FORWARDED};
    message.forwarded = (struct message_forwarded){
        .id = request->client, .ok = ok, .definite = definite, .index = index, .value = value};
    (void)link_send_message(replica, request->origin, &message, NULL, 0); /* no link: the sender ends it as lost */
}

void request_end(struct replica *replica, struct pending *request, bool ok, bool definite, uint64_t index,
                 struct slice value)
{
    CHECK(request->state != REQUEST_FREE);
    struct buffer lost = {0};
    if (request->unsure && !ok && definite && !forward_settles(index, value)) {
        forward_pack_lost(value, &lost);
        value = buffer_slice(&lost);
        definite = false;
    }
    if (request->origin != 0 && request->origin_gone) {
        LOG(LOG_DEBUG, "replica", "node %llu no longer waits for an answer", (unsigned long long)request->origin);
    } else if (request->origin != 0) {
        answer_origin(replica, request, ok, definite, index, value);
    } else if (request->client != REPLICA_NOBODY) {
        const struct replica_reply reply = {.ok = ok, .definite = definite, .index = index, .value = value};
        replica->env.reply(replica->env.context, request->client, &reply);
    }
    release(replica, request);
    buffer_close(&lost);
}

void request_fail(struct replica *replica, struct pending *request, enum error_code code, const char *message)
{
    struct buffer error = {0};
    error_pack(&error, code, message);
    bool definite = error_row(code)->definite || request->is_query || MUTANT(53);
    request_end(replica, request, false, definite, 0, buffer_slice(&error));
    buffer_close(&error);
}

/* --- beginnings -------------------------------------------------------------------------------------------------------------- */

static struct pending *new_request(struct replica *replica)
{
    if (replica->requests_free == UINT32_MAX) {
        uint32_t old = replica->requests_capacity;
        uint32_t grown = old == 0 ? 256 : old * 2;
        replica->requests = mem_realloc(replica->requests, (size_t)grown * sizeof *replica->requests);
        memset(replica->requests + old, 0, (size_t)(grown - old) * sizeof *replica->requests);
        for (uint32_t i = grown; i > old; i--) {
            replica->requests[i - 1].next_free = replica->requests_free;
            replica->requests[i - 1].generation = replica->generation;
            replica->requests_free = i - 1;
        }
        replica->requests_capacity = grown;
    }
    struct pending *request = &replica->requests[replica->requests_free];
    uint32_t generation = request->generation + 1;
    replica->requests_free = request->next_free;
    *request = (struct pending){.state = REQUEST_WAITING, .generation = generation, .bytes = request->bytes};
    replica->requests_count++;
    return request;
}

void request_wait(struct replica *replica, struct pending *request)
{
    if (replica->stopping) {
        request_fail(replica, request, ERROR_NO_LEADER, "this node is ending; ask another");
        return;
    }
    request->state = REQUEST_WAITING;
    if (replica->waiting_count == replica->waiting_capacity) {
        replica->waiting_capacity = replica->waiting_capacity * 2 + 64;
        replica->waiting = mem_realloc(replica->waiting, replica->waiting_capacity * sizeof *replica->waiting);
    }
    replica->waiting[replica->waiting_count++] = request_token(replica, request);
}

/* As it goes into the entry (machine/session.h). */
static void add_ticket(struct buffer *out, const struct request *from)
{
    if (from->session.size == 0)
        return;
    pack_array(out, 3);
    pack_text(out, from->session);
    pack_u64(out, from->seq);
    pack_u64(out, from->done_below);
}

uint64_t request_add(struct replica *replica, uint64_t client, node_id origin, const struct request *from,
                     bool batch)
{
    struct pending *request = new_request(replica);
    request->client = client;
    request->origin = origin;
    request->deadline = replica->now.boot_ms + from->timeout_ms;
    request->batch = batch;
    request->query_only = from->query_only;
    request->stale = from->read == READ_STALE && !batch && !from->dry_run;
    request->lease = from->read == READ_LEASE && !batch && !from->dry_run;
    request->dry_run = from->dry_run;
    request->forward = from->forward;
    request->host = batch ? NULL : host_request_find(from->name);
    request->name_size = (uint32_t)from->name.size;
    request->args_size = (uint32_t)from->args.size;
    buffer_append(&request->bytes, from->name.data, from->name.size);
    buffer_append(&request->bytes, from->args.data, from->args.size);
    add_ticket(&request->bytes, from);
    replica->requests_bytes += request->bytes.size;
    bool larger = request->host != NULL && request->host->args_max > 0;
    if (from->args.size > (larger ? request->host->args_max : ARGS_BYTES_MAX)) {
        request_fail(replica, request, ERROR_TOO_LARGE, "the arguments are larger than 1 MiB");
        return 0;
    }
    if (replica->requests_count > REPLICA_REQUESTS_MAX || replica->requests_bytes > REPLICA_PENDING_BYTES_MAX) {
        request_fail(replica, request, ERROR_BUSY, "too many requests in progress; try again");
        return 0;
    }
    if (replica->stopping) {
        request_fail(replica, request, ERROR_NO_LEADER, "this node is ending; ask another");
        return 0;
    }
    return request_token(replica, request);
}

void replica_request(struct replica *replica, uint64_t client, const struct request *from, struct replica_time now)
{
    replica->now = now;
    struct request request = *from;
    bool batch = slice_equal(from->name, slice_text("tidelock.batch"));
    if (batch) {
        /* [0, id, "tidelock.batch", [[name, args], ...]]: the list itself is the argument */
        request.name = slice_make(NULL, 0);
    }
    uint64_t token = request_add(replica, client, 0, &request, batch);
    if (token != 0)
        request_route(replica, token);
}

/* --- ways ---------------------------------------------------------------------------------------------------------------------- */

struct slice request_name(const struct pending *request)
{
    return slice_make(request->bytes.data, request->name_size);
}

struct slice request_args(const struct pending *request)
{
    return slice_make(request->bytes.data + request->name_size, request->args_size);
}

struct slice request_ticket(const struct pending *request)
{
    size_t before = (size_t)request->name_size + request->args_size;
    return slice_make(request->bytes.data + before, request->bytes.size - before);
}

/* Begins a proposal: its payload is what gets appended to batch_bytes until end_proposal. */
static void begin_proposal(struct replica *replica, uint64_t token, uint8_t kind)
{
    if (replica->batch_count == replica->batch_capacity) {
        replica->batch_capacity = replica->batch_capacity * 2 + 64;
        replica->batch = mem_realloc(replica->batch, replica->batch_capacity * sizeof *replica->batch);
    }
    replica->batch[replica->batch_count++] =
        (struct proposal){.token = token, .kind = kind, .offset = replica->batch_bytes.size};
}

static void end_proposal(struct replica *replica)
{
    struct proposal *proposal = &replica->batch[replica->batch_count - 1];
    proposal->size = replica->batch_bytes.size - proposal->offset;
}

void requests_propose_own(struct replica *replica, uint8_t kind, struct slice payload)
{
    begin_proposal(replica, UINT64_MAX, kind);
    buffer_append(&replica->batch_bytes, payload.data, payload.size);
    end_proposal(replica);
}

static void propose(struct replica *replica, struct pending *request)
{
    begin_proposal(replica, request_token(replica, request), request->batch ? ENTRY_BATCH : ENTRY_COMMAND);
    if (!request->batch)
        pack_text(&replica->batch_bytes, request_name(request));
    buffer_append(&replica->batch_bytes, request_args(request).data, request_args(request).size);
    buffer_append(&replica->batch_bytes, request_ticket(request).data, request_ticket(request).size);
    end_proposal(replica);
    request->state = REQUEST_PROPOSED;
    request->term = 0;
}

/* Puts it among the reads. */
struct read_wait *request_read(struct replica *replica, struct pending *request)
{
    if (replica->reads_count == replica->reads_capacity) {
        replica->reads_capacity = replica->reads_capacity * 2 + 64;
        replica->reads = mem_realloc(replica->reads, replica->reads_capacity * sizeof *replica->reads);
    }
    request->state = REQUEST_READING;
    request->is_query = true;
    struct read_wait *wait_for = &replica->reads[replica->reads_count++];
    *wait_for = (struct read_wait){.token = request_token(replica, request)};
    return wait_for;
}

static void read(struct replica *replica, struct pending *request)
{
    struct read_wait *wait_for = request_read(replica, request);
    if (request->stale) {
        wait_for->index = 1; /* whatever is applied */
    } else if (request->lease) {
        wait_for->read_id = READ_UNASKED;
        replica->leases_new = true;
    } else {
        wait_for->read_id = replica->read_id + 1;
        replica->reads_new = true;
    }
}

static void fail_unknown(struct replica *replica, struct pending *request, const char *what)
{
    const char *migrating = replica->machine.migrating_mount;
    const size_t size = strlen(migrating);
    char text[400];
    struct slice name = request_name(request);
    if (replica->machine.migrating && name.size > size && memcmp(name.data, migrating, size) == 0 &&
        name.data[size] == '.') {
        request->is_query = true; /* it did not enter the log: definite */
        request_fail(replica, request, ERROR_BUSY, "this mount is being migrated; try again");
        return;
    }
    snprintf(text, sizeof text, "there is no %s %.*s", what, (int)name.size, (const char *)name.data);
    request_fail(replica, request, ERROR_UNKNOWN_COMMAND, text);
}

static void fail_refused(struct replica *replica, struct pending *request)
{
    char text[900];
    catalog_refused(replica->catalog, request_name(request), text, sizeof text);
    request->is_query = true; /* it did not enter the log: definite */
    request_fail(replica, request, ERROR_SCRIPT_ERROR, text);
}

/* A request to the host. */
static void serve_host(struct replica *replica, struct pending *request)
{
    request->is_query = host_request_reads(request);
    if (request->dry_run || request_ticket(request).size > 0) {
        request_fail(replica, request, ERROR_BAD_REQUEST, "dry runs and sessions are for a service's commands");
        return;
    }
    if (request->is_query) {
        read(replica, request);
        return;
    }
    if (request->query_only || request->stale) {
        request_fail(replica, request, ERROR_BAD_REQUEST, "this changes the cluster, and is no query");
        return;
    }
    if (request->host->act != NULL) {
        request->host->act(replica, request);
        return;
    }
    if (request->host->kind == ENTRY_MEMBERSHIP)
        observe_before_request(replica);
    begin_proposal(replica, request_token(replica, request), request->host->kind);
    const char *why = request->host->encode(request_args(request), &replica->batch_bytes);
    bool skips_nothing = why == NULL && request->host->kind == ENTRY_SKIP && !skip_is_way_out(replica, request);
    if (skips_nothing)
        why = "the leader is not parked at this entry: nodes that are get its state by rebuilding them";
    if (why != NULL) {
        replica->batch_bytes.size = replica->batch[--replica->batch_count].offset;
        request_fail(replica, request, skips_nothing ? ERROR_CONFLICT : ERROR_BAD_ARGS, why);
        return;
    }
    end_proposal(replica);
    request->state = REQUEST_PROPOSED;
    request->term = 0;
}

/* A command: for the log, or to be tried. */
static void serve_command(struct replica *replica, struct pending *request)
{
    if (request->dry_run) {
        request->is_query = true;
        read(replica, request);
    } else {
        propose(replica, request);
    }
}

/* This node leads, or the request is content with what it has. */
static void serve(struct replica *replica, struct pending *request)
{
    if (replica_is_parked(replica) && !skip_is_way_out(replica, request)) {
        request->is_query = true; /* it did not enter the log: definite */
        request_fail(replica, request, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
        return;
    }
    if (request->host != NULL) {
        serve_host(replica, request);
        return;
    }
    if (request->batch) {
        if (request->query_only)
            request_fail(replica, request, ERROR_BAD_REQUEST, "a batch is made of commands: call it");
        else
            serve_command(replica, request);
        return;
    }
    switch (catalog_find(replica->catalog, request_name(request))) {
    case CATALOG_QUERY:
        request->is_query = true;
        read(replica, request);
        return;
    case CATALOG_COMMAND:
        if (request->query_only || request->stale)
            request_fail(replica, request, ERROR_BAD_REQUEST, "this is a command, not a query: use call");
        else
            serve_command(replica, request);
        return;
    case CATALOG_RAW:
        request->is_query = request->query_only || request->stale;
        if (request->is_query)
            read(replica, request);
        else
            serve_command(replica, request);
        return;
    case CATALOG_REFUSED:
        fail_refused(replica, request);
        return;
    default:
        if (replica_leads(replica) && raft_term_at(replica->raft, replica->applied) != replica->effects.term)
            request_wait(replica, request); /* the log may hold code that is not applied yet */
        else
            fail_unknown(replica, request, request->query_only ? "query" : "command or query");
    }
}

/* This node's own snapshot: not before it has applied what was acknowledged anywhere. */
static void route_snapshot(struct replica *replica, struct pending *request, node_id leader)
{
    if (replica_leads(replica))
        read(replica, request);
    else if (leader != 0 && leader != replica->identity.id)
        read_ask(replica, request);
    else
        request_wait(replica, request);
}

void request_route(struct replica *replica, uint64_t token)
{
    struct pending *request = request_of(replica, token);
    CHECK(request != NULL);
    node_id leader = replica->raft != NULL ? replica->effects.leader : 0;
    if (request->snapshot && !MUTANT(284))
        route_snapshot(replica, request, leader);
    else if (request->snapshot)
        take_asked(replica, request);
    else if (request->stale && replica->raft != NULL && catalog_mounts(replica->catalog) > 0)
        serve(replica, request);
    else if (replica_leads(replica) && (apply_code_ready(replica) || replica_is_parked(replica)))
        serve(replica, request);
    else if (leader != 0 && leader != replica->identity.id && read_may_ask(replica, request))
        read_ask(replica, request);
    else if (leader != 0 && leader != replica->identity.id && request->origin == 0 && request->forward)
        forward_request(replica, request, leader);
    else if (leader != 0 && leader != replica->identity.id)
        forward_refuse(replica, request, leader); /* also what was forwarded to us too late */
    else if (leader == 0 && !request->forward)
        request_fail(replica, request, ERROR_NO_LEADER, "no leader is known here");
    else
        request_wait(replica, request);
}

/* --- the turn -------------------------------------------------------------------------------------------------------------------- */

void requests_turn(struct replica *replica)
{
    if (replica->route_again && replica->waiting_count > 0) {
        size_t count = replica->waiting_count;
        uint64_t *tokens = replica->waiting;
        replica->waiting = NULL;
        replica->waiting_count = replica->waiting_capacity = 0;
        replica->route_again = false;
        for (size_t i = 0; i < count; i++) {
            const struct pending *request = request_of(replica, tokens[i]);
            if (request != NULL && request->state == REQUEST_WAITING)
                request_route(replica, tokens[i]);
        }
        mem_free(tokens);
    }
    replica->route_again = false;
    if (replica->batch_count == 0)
        return;
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE, .propose = {.count = replica->batch_count}};
    replica_step(replica, &event);
    if (replica->effects.proposal_refused)
        requests_refuse_batch(replica);
    replica->batch_count = 0;
    buffer_clear(&replica->batch_bytes);
}

void requests_refuse_batch(struct replica *replica)
{
    bool leads = replica_leads(replica);
    for (size_t i = 0; i < replica->batch_count; i++) {
        struct pending *request = request_of(replica, replica->batch[i].token);
        if (request == NULL)
            continue;
        if (leads && !handover_goes_on(replica))
            request_fail(replica, request, ERROR_BUSY, "too much waits to be replicated; try again");
        else
            request_wait(replica, request);
    }
    replica->route_again = true;
}

/* The batch has its place in the log: its records are made here, once and for all. */
void requests_encode_batch(struct replica *replica, const struct raft_write *write)
{
    CHECK_EQ(write->last - write->first + 1, replica->batch_count);
    struct buffer records = {0};
    uint64_t stamp = clock_stamp(replica);
    for (size_t i = 0; i < replica->batch_count; i++) {
        const struct proposal *proposal = &replica->batch[i];
        struct entry entry = {.index = write->first + i,
                              .term = write->append_term,
                              .stamp_ms = stamp,
                              .kind = proposal->kind,
                              .payload = slice_make(replica->batch_bytes.data + proposal->offset, proposal->size)};
        entry_encode(&records, &entry, replica->last_chain);
        replica->last_chain = entry.chain;
        if (proposal->kind == ENTRY_MIGRATE) {
            replica->migrate_index = entry.index;
            replica->migrate_term = entry.term;
        }
        if (proposal->kind == ENTRY_DUE) {
            replica->due_index = entry.index;
            replica->due_term = entry.term;
        }
        if (proposal->kind == ENTRY_OBSERVATION) {
            replica->observing.brought = entry.index;
            replica->observing.brought_in = entry.term;
        }
        struct pending *request = request_of(replica, proposal->token);
        if (request == NULL)
            continue;
        request->index = entry.index;
        request->term = entry.term;
        drop_bytes(replica, request);
        uint32_t *place = &replica->by_index[entry.index % UNCOMMITTED_MAX];
        *place = (uint32_t)(request - replica->requests) + 1;
        replica->proposed_count++;
    }
    log_note(replica, cache_append(&replica->cache, &records, write->first, write->last));
}

struct pending *request_by_index(struct replica *replica, raft_index index)
{
    uint32_t place = replica->by_index[index % UNCOMMITTED_MAX];
    if (place == 0 || replica->requests[place - 1].index != index)
        return NULL;
    return &replica->requests[place - 1];
}

/* Entries first..last were applied, or the machine parked before them. */
void requests_applied(struct replica *replica, raft_index first, raft_index last, const struct machine_job *job)
{
    size_t at = 0;
    for (raft_index index = first; index <= last && replica->proposed_count > 0; index++) {
        struct pending *request = request_by_index(replica, index);
        while (at < job->results.count && job->results.list[at].index < index)
            at++;
        if (request == NULL)
            continue;
        if (raft_term_at(replica->raft, index) != request->term && !MUTANT(55)) {
            /* Another entry stands there: ours certainly did nothing. */
            request_fail(replica, request, ERROR_NO_LEADER, "leadership was lost before it was replicated");
        } else if (index > job->applied || at >= job->results.count || job->results.list[at].index != index) {
            request_fail(replica, request, ERROR_LOST,
                         "this node parked before it could answer; the outcome is unknown");
        } else {
            const struct machine_result *result = &job->results.list[at];
            request_end(replica, request, result->ok, true, index,
                        slice_make(job->results.bytes.data + result->offset, result->size));
        }
    }
}

/* Forgets tokens whose requests have ended, so that the list stays in proportion. */
static void trim_waiting(struct replica *replica)
{
    if (replica->waiting_count <= 2 * replica->requests_count + 64)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < replica->waiting_count; i++) {
        const struct pending *request = request_of(replica, replica->waiting[i]);
        if (request != NULL && request->state == REQUEST_WAITING)
            replica->waiting[kept++] = replica->waiting[i];
    }
    replica->waiting_count = kept;
}

void requests_scan(struct replica *replica)
{
    if (replica->now.boot_ms < replica->next_scan || replica->requests_count == 0)
        return;
    replica->next_scan = replica->now.boot_ms + SCAN_MS;
    trim_waiting(replica);
    for (uint32_t i = 0; i < replica->requests_capacity; i++) {
        struct pending *request = &replica->requests[i];
        if (request->state == REQUEST_FREE || request->deadline > replica->now.boot_ms)
            continue;
        bool sent =
            request->state == REQUEST_FORWARDED || (request->state == REQUEST_PROPOSED && request->index > 0);
        if (request->snapshot && request->is_query)
            request_fail(replica, request, ERROR_TIMEOUT,
                         "what was acknowledged before is not known here in time: is a majority of nodes up? see "
                         "tidelock status");
        else if (sent || request->is_query)
            request_fail(replica, request, ERROR_TIMEOUT, "no answer in time");
        else if (request->state == REQUEST_HANDOVER)
            request_fail(replica, request, ERROR_TIMEOUT,
                         "leadership has not gone over yet; tidelock status says who leads");
        else if (request->state == REQUEST_SNAPSHOT)
            request_fail(replica, request, ERROR_TIMEOUT,
                         "the snapshot does not count yet; tidelock status says how far it is");
        else if (request->state == REQUEST_REBUILD)
            request_fail(replica, request, ERROR_TIMEOUT,
                         "no state has taken this one's place yet; tidelock status says how far it is");
        else if (replica_is_parked(replica))
            request_fail(replica, request, ERROR_PARKED,
                         "this node is parked (see tidelock status), and no other was found in time");
        else
            request_fail(replica, request, ERROR_NO_LEADER, "no leader was found in time");
    }
}
