/* replica/link.c - links between members: HELLO, formation's exchange, and what the frames carry on.
 *
 * The dialler sends C1 and HELLO; the other side answers HELLO, or GOODBYE with a sentence, on the same connection. From
 * then on messages go from the dialler only. A link counts once the other's HELLO agreed with what is pinned.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum { REASON_BYTES = 240 };

void *link_context(const struct link *link)
{
    return link->context;
}

/* --- sending ---------------------------------------------------------------------------------------------------------------------- */

static bool send_frame(struct replica *replica, struct link *link, const struct message *message,
                       const struct slice *records, size_t records_count, bool mark)
{
    struct slice parts[64];
    size_t bytes = 0;
    CHECK(records_count < 63);
    for (size_t i = 0; i < records_count; i++) {
        parts[i + 1] = records[i];
        bytes += records[i].size;
    }
    buffer_clear(&replica->frame);
    if (mark)
        buffer_append_byte(&replica->frame, MESSAGE_MARK);
    message_encode(&replica->frame, message, bytes);
    parts[0] = buffer_slice(&replica->frame);
    return replica->env.send(replica->env.context, link, parts, records_count + 1);
}

bool link_send_message(struct replica *replica, node_id id, const struct message *message,
                       const struct slice *records, size_t records_count)
{
    struct peer *peer = replica_peer(replica, id);
    if (peer == NULL || peer->out == NULL)
        return false;
    struct message stamped = *message;
    stamped.wall_ms = replica->now.wall_ms;
    if (message->type == MESSAGE_RAFT)
        digest_attach(replica, peer, &stamped);
    return send_frame(replica, peer->out, &stamped, records, records_count, false);
}

bool link_send_piece(struct replica *replica, struct link *link, const struct message *message)
{
    return send_frame(replica, link, message, &message->records, 1, false);
}

static void say_hello(struct replica *replica, struct link *link)
{
    const struct identity *identity = &replica->identity;
    struct message message = {.type = MESSAGE_HELLO};
    message.hello =
        (struct message_hello){.protocol_min = PROTOCOL,
                               .protocol_max = PROTOCOL,
                               .cluster_id = identity->cluster_id,
                               .from = identity->id,
                               .to = link->peer,
                               .incarnation = identity->incarnation,
                               .formation = identity->formation,
                               .line_hash = identity->line_hash,
                               .code_hash = identity->code_hash,
                               .set_hash = identity->cluster_id,
                               .fingerprint = replica->fingerprint,
                               .address = slice_text(replica->address),
                               .last_index = replica->raft != NULL ? replica->persisted_index : 0,
                               .bulk = link->bulk,
                               .restored = identity->restored,
                               .configuration = members_now(replica) != NULL ? members_now(replica)->id : 0};
    (void)send_frame(replica, link, &message, NULL, 0, link->outgoing && !link->marked);
    link->marked = true;
}

/* Formation moved on here: tell everyone who listens. */
void link_hello_all(struct replica *replica)
{
    for (struct link *link = replica->links; link != NULL; link = link->next)
        if (link->peer != 0 && !link->closing && !link->bulk && (link->outgoing || link->agreed))
            say_hello(replica, link);
}

static bool refuse(struct replica *replica, struct link *link, const char *why, bool end)
{
    struct message message = {.type = MESSAGE_GOODBYE, .goodbye = {.text = slice_text(why), .end = end}};
    (void)send_frame(replica, link, &message, NULL, 0, false);
    struct peer *peer = replica_peer(replica, link->peer);
    if (peer != NULL && strcmp(peer->complaint, why) != 0) {
        snprintf(peer->complaint, sizeof peer->complaint, "%s", why);
        LOG(LOG_WARN, "link", "refused node %llu: %s", (unsigned long long)link->peer, why);
    }
    link->closing = true;
    return false;
}

/* --- HELLO ----------------------------------------------------------------------------------------------------------------------------- */

/* Not all directories were restored from one file; 0: this one was not. */
static const char *object_to_restored(uint64_t its, uint64_t ours, char text[REASON_BYTES])
{
    if (its == 0)
        return "its directory was not restored, this node's was: restore every directory from the same file";
    if (ours == 0)
        return "its directory was restored, this node's was not: restore every directory from the same file";
    snprintf(
        text, REASON_BYTES,
        "its directory was restored from another snapshot (%016llx, here %016llx): restore every directory from "
        "the same file",
        (unsigned long long)its, (unsigned long long)ours);
    return text;
}

static const char removed_text[] =
    "it is no such member of this cluster (any more): it was removed, or never let in; set "
    "its data directory aside and let it join (start --join)";

/* It is a member in a configuration that this node has yet to hear of: it need not be one in those that it knows. */
static bool is_newer(const struct replica *replica, const struct message_hello *hello)
{
    return replica->identity.formation == FORMATION_FORMED && hello->cluster_id == replica->identity.cluster_id &&
           !MUTANT(296) && hello->configuration > (members_now(replica) != NULL ? members_now(replica)->id : 0);
}

/* What is wrong with it; NULL: nothing. `text` has room for what is not always the same. */
static const char *object_to(const struct replica *replica, const struct message_hello *hello,
                             const struct peer *peer, char text[REASON_BYTES])
{
    const struct identity *identity = &replica->identity;
    if (hello->to != identity->id)
        return "this address is another node's: the --cluster lines do not agree";
    if (hello->from == identity->id)
        return "it has this node's own id: check --id and the --cluster line";
    if (peer == NULL && identity->formation != FORMATION_FORMED)
        return "no such member in this cluster: check --id and the --cluster line";
    if (hello->protocol_min > PROTOCOL || hello->protocol_max < PROTOCOL)
        return "no common protocol version: upgrade the older node";
    if (identity->cluster_id != 0 && hello->cluster_id != 0 && hello->cluster_id != identity->cluster_id &&
        !MUTANT(59))
        return "a member of another cluster: check the addresses, or give that node its own data directory";
    if (identity->formation == FORMATION_NEW || hello->formation == FORMATION_NEW) {
        if (hello->line_hash != identity->line_hash && identity->formation != FORMATION_FORMED)
            return "its --cluster line is another one: give every node the same line";
        if (hello->restored != identity->restored && identity->formation != FORMATION_FORMED && !MUTANT(190))
            return object_to_restored(hello->restored, identity->restored, text);
        if (hello->fingerprint != replica->fingerprint && identity->formation != FORMATION_FORMED && !MUTANT(262)) {
            snprintf(text, REASON_BYTES,
                     "its runtime is another (%016llx, here %016llx): start every node with the same version of "
                     "tidelock",
                     (unsigned long long)hello->fingerprint, (unsigned long long)replica->fingerprint);
            return text;
        }
        if (hello->code_hash != identity->code_hash && identity->formation != FORMATION_FORMED) {
            snprintf(text, REASON_BYTES,
                     "its modules are others (%016llx, here %016llx): give every node the same files",
                     (unsigned long long)hello->code_hash, (unsigned long long)identity->code_hash);
            return text;
        }
    }
    if (hello->incarnation == 0)
        return "it has no incarnation";
    if (is_newer(replica, hello))
        return NULL;
    if (peer == NULL)
        return members_was_removed(replica, hello) ? removed_text : "no such member in this cluster yet";
    /* Before the set is pinned, a node may still begin anew. */
    if (identity->formation != FORMATION_NEW && hello->incarnation != peer->member.incarnation && !MUTANT(74))
        return "its data directory is not the one this id was formed with (wiped, or copied from elsewhere): put "
               "the old "
               "directory back, or give the new one an id of its own (members replace)";
    return NULL;
}

/* A follower says on its own link, before any answer on it, how far its disk goes: less than it has acknowledged to this
 * leader means that the disk was set back (a copy was restored). It must not vote or acknowledge with that. */
static bool has_forgotten(const struct replica *replica, const struct message_hello *hello, char text[REASON_BYTES])
{
    struct raft_status status;
    if (!replica_leads(replica) || (hello->last_index == 0 && hello->formation != FORMATION_FORMED) || MUTANT(65))
        return false;
    raft_get_status(replica->raft, &status);
    for (size_t i = 0; i < status.peers_count; i++) {
        raft_index match = status.peers[i].match_index;
        if (status.peers[i].id != hello->from || hello->last_index >= match)
            continue;
        snprintf(text, REASON_BYTES,
                 "its log ends at entry %llu, and it has acknowledged entries up to %llu: its data directory is an "
                 "older copy; put the newer one back, or set it aside and let the node join anew",
                 (unsigned long long)hello->last_index, (unsigned long long)match);
        return true;
    }
    return false;
}

static void link_agreed(struct replica *replica, struct link *link, struct peer *peer)
{
    link->agreed = true;
    if (link->bulk && link->outgoing) {
        send_bulk_opened(replica, link);
        return;
    }
    if (link->bulk || !link->outgoing || peer->out == link || replica->raft == NULL ||
        peer->formation < FORMATION_PINNED)
        return;
    peer->out = link;
    LOG(LOG_DEBUG, "link", "linked to node %llu", (unsigned long long)peer->member.id);
    struct raft_event event = {.type = RAFT_EVENT_PEER_UP, .peer = {.peer = peer->member.id}};
    replica_step(replica, &event);
    replica->route_again = true;
}

/* A second link from the same peer: the first is dead, whether we know it or not; answers on it are lost. */
static void replace_older(struct replica *replica, const struct link *link)
{
    for (struct link *older = replica->links; older != NULL; older = older->next) {
        if (older == link || older->outgoing || !older->agreed || older->peer != link->peer ||
            older->bulk != link->bulk)
            continue;
        older->agreed = false;
        older->closing = true;
        replica->env.close(replica->env.context, older);
        if (!link->bulk)
            request_link_lost(replica, link->peer);
    }
}

/* It wants to form a cluster with a new directory, where its id has one in a cluster that has formed. */
static bool began_anew(const struct replica *replica, const struct message_hello *hello, const struct peer *peer)
{
    return replica->identity.formation == FORMATION_FORMED && hello->formation != FORMATION_FORMED &&
           peer != NULL && hello->to == replica->identity.id && hello->incarnation != 0 &&
           hello->incarnation != peer->member.incarnation &&
           (hello->cluster_id == 0 || hello->cluster_id == replica->identity.cluster_id);
}

static bool take_hello(struct replica *replica, struct link *link, const struct message_hello *hello)
{
    struct peer *peer = replica_peer(replica, hello->from);
    if (link->outgoing && hello->from != link->peer)
        return refuse(replica, link, "another node answers at this address: the --cluster lines do not agree",
                      false);
    bool first = !link->agreed;
    if (!first && hello->from != link->peer)
        return false;
    link->peer = hello->from;
    char text[REASON_BYTES];
    const char *why = object_to(replica, hello, peer, text);
    if (why != NULL)
        return refuse(replica, link, why, members_was_removed(replica, hello) || began_anew(replica, hello, peer));
    if (is_newer(replica, hello) && (peer == NULL || peer->member.incarnation != hello->incarnation))
        peer = members_adopt(replica, hello);
    if (peer == NULL)
        return refuse(replica, link, "too many nodes speak to this one", false);
    if (first && !link->outgoing)
        link->bulk = hello->bulk;
    if (first && !link->outgoing && has_forgotten(replica, hello, text))
        return refuse(replica, link, text, true);
    if (replica->identity.formation == FORMATION_NEW)
        peer->member.incarnation = hello->incarnation;
    peer->heard = true;
    peer->fingerprint = hello->fingerprint;
    if (link->outgoing)
        peer->complaint[0] = 0; /* both agree: what is said next is news */
    if (hello->formation >= peer->formation) {
        peer->formation = hello->formation;
        peer->set_hash = hello->set_hash;
    }
    if (first && !link->outgoing)
        replace_older(replica, link);
    link_agreed(replica, link, peer);
    if (first && !link->outgoing)
        say_hello(replica, link);
    formation_progress(replica);
    return true;
}

/* --- frames ------------------------------------------------------------------------------------------------------------------------------ */

static void add_run(struct replica *replica, size_t *count, const struct entry *entry)
{
    if (*count > 0 && replica->runs[*count - 1].term == entry->term)
        return;
    if (*count == replica->runs_capacity) {
        replica->runs_capacity = replica->runs_capacity * 2 + 16;
        replica->runs = mem_realloc(replica->runs, replica->runs_capacity * sizeof *replica->runs);
    }
    replica->runs[(*count)++] = (struct raft_run){.first = entry->index, .term = entry->term};
}

/* The chain of our own entry at (index, term), if it is at hand. */
static bool own_chain(const struct replica *replica, raft_index index, raft_term term, uint64_t *chain)
{
    struct entry entry;
    if (index > replica->last_index || index == 0 || raft_term_at(replica->raft, index) != term)
        return false;
    if (index == replica->last_index) {
        *chain = replica->last_chain;
        return true;
    }
    const struct chunk *chunk = cache_find(&replica->cache, index);
    if (chunk == NULL || entry_peek(chunk_records(chunk, index, index), &entry) != STATUS_OK)
        return false;
    *chain = entry.chain;
    return true;
}

/* Checks the records of an AppendEntries one by one, and what they follow; collects their terms. Two logs that agree on
 * index and term must agree on the chain: a difference is damage, never a conflict. */
static bool check_records(struct replica *replica, const struct message *message, size_t *count,
                          size_t *configurations)
{
    const struct raft_append_entries *append = &message->raft.append_entries;
    struct slice rest = message->records;
    raft_index expected = append->prev_log_index + 1;
    uint64_t chain = 0;
    uint64_t own = 0;
    bool chained = own_chain(replica, append->prev_log_index, append->prev_log_term, &chain);
    struct entry entry;
    for (; rest.size > 0; expected++) {
        if (entry_decode(rest, &entry) != STATUS_OK || entry.index != expected ||
            !members_collect(replica, &entry, configurations))
            return false;
        if ((chained && entry_chain(slice_make(rest.data, entry.size), chain) != entry.chain) ||
            (own_chain(replica, entry.index, entry.term, &own) && own != entry.chain)) {
            LOG(LOG_ERROR, "log",
                "entry %llu from node %llu does not fit this node's log up to there: one of the two "
                "logs is damaged; nothing was changed",
                (unsigned long long)entry.index, (unsigned long long)message->raft.from);
            return false;
        }
        add_run(replica, count, &entry);
        chain = entry.chain;
        chained = true;
        rest.data += entry.size;
        rest.size -= entry.size;
    }
    return expected == append->last_index + 1;
}

static bool take_raft(struct replica *replica, struct link *link, const struct message *message)
{
    size_t count = 0;
    size_t configurations = 0;
    if (replica->raft == NULL)
        return true; /* it formed before us, and asks again */
    if (message->raft.from != link->peer)
        return false;
    clock_heard(replica, link->peer, message->wall_ms);
    if (link->bulk)
        return false;
    if (message->raft.type == RAFT_APPEND_ENTRIES && !check_records(replica, message, &count, &configurations))
        return false;
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE,
                               .message = {.message = &message->raft,
                                           .runs = replica->runs,
                                           .runs_count = count,
                                           .configurations = replica->membering.configurations,
                                           .configurations_count = configurations}};
    replica->incoming = message;
    replica_step(replica, &event);
    replica->incoming = NULL;
    struct peer *peer = replica_peer(replica, link->peer);
    if (peer != NULL) {
        peer->heard_at = replica->now.boot_ms;
        if (message->raft.type == RAFT_APPEND_ENTRIES &&
            message->raft.append_entries.leader_commit > replica->membering.told_commit)
            replica->membering.told_commit = message->raft.append_entries.leader_commit;
        digest_heard(replica, peer, message);
    }
    if (message->raft.type == RAFT_INSTALL_SNAPSHOT && replica->effects.snapshot_offered)
        receive_offered(replica, link->peer, &message->snapshot);
    return true;
}

/* What a command's session is, from [session, seq, done_below]. */
static bool read_ticket(struct slice ticket, struct request *request)
{
    struct pack_reader reader = pack_reader_make(ticket);
    uint32_t count = 0;
    return ticket.size == 0 ||
           (pack_read_array(&reader, &count) == STATUS_OK && count == 3 &&
            pack_read_text(&reader, &request->session) == STATUS_OK && request->session.size > 0 &&
            request->session.size <= REQUEST_SESSION_MAX && pack_read_u64(&reader, &request->seq) == STATUS_OK &&
            pack_read_u64(&reader, &request->done_below) == STATUS_OK);
}

static bool take_forward(struct replica *replica, struct link *link, const struct message_forward *forward)
{
    struct request request = {.name = forward->name,
                              .args = forward->args,
                              .timeout_ms = forward->timeout_ms,
                              .forward = false,
                              .query_only = (forward->flags & FORWARD_QUERY_ONLY) != 0,
                              .dry_run = (forward->flags & FORWARD_DRY_RUN) != 0,
                              .read = (forward->flags & FORWARD_LEASE) != 0 ? READ_LEASE : READ_LINEARIZABLE};
    if (!read_ticket(forward->ticket, &request))
        return false;
    uint64_t token = request_add(replica, forward->id, link->peer, &request, (forward->flags & FORWARD_BATCH) != 0);
    if (token != 0)
        request_route(replica, token);
    return true;
}

static void take_forwarded(struct replica *replica, struct link *link, const struct message_forwarded *answer)
{
    struct pending *request = request_of(replica, answer->id);
    if (request == NULL || request->state != REQUEST_FORWARDED || request->peer != link->peer)
        return; /* timed out meanwhile */
    request_forwarded(replica, request, answer);
}

static void end_as_told(struct replica *replica, node_id peer, const char *why)
{
    char sentence[400];
    snprintf(sentence, sizeof sentence, "node %llu refused this node: %s", (unsigned long long)peer, why);
    replica->env.fatal(replica->env.context, 78, sentence);
}

/* Of comparing, rebuilding and reading at a follower. */
static bool take_later(struct replica *replica, const struct link *link, const struct message *message)
{
    switch (message->type) {
    case MESSAGE_COMPARE:
        diverge_asked(replica, link->peer, &message->compare);
        return true;
    case MESSAGE_COMPARED:
        diverge_told(replica, link->peer, &message->compared);
        return true;
    case MESSAGE_REBUILD:
        rebuild_heard(replica, replica_peer(replica, link->peer), &message->rebuild);
        return true;
    case MESSAGE_READ:
        read_asked(replica, link->peer, &message->read);
        return true;
    case MESSAGE_READ_AT:
        read_told(replica, link->peer, &message->read);
        return true;
    default:
        return false;
    }
}

static bool take_message(struct replica *replica, struct link *link, const struct message *message)
{
    if (message->type == MESSAGE_HELLO)
        return take_hello(replica, link, &message->hello);
    if (message->type == MESSAGE_GOODBYE) {
        struct peer *peer = replica_peer(replica, link->peer);
        char why[256];
        const struct slice text = message->goodbye.text;
        snprintf(why, sizeof why, "%.*s", (int)(text.size < 250 ? text.size : 250), (const char *)text.data);
        if (peer != NULL && strcmp(peer->complaint, why) != 0) {
            memcpy(peer->complaint, why, sizeof why);
            LOG(LOG_WARN, "link", "node %llu refused this node: %s", (unsigned long long)link->peer, why);
        }
        if (peer != NULL && message->goodbye.end && members_may_end(replica))
            end_as_told(replica, link->peer, why);
        return false;
    }
    if (!link->agreed || link->outgoing)
        return false;
    if (replica->raft != NULL && message->type == MESSAGE_SNAPSHOT_PIECE)
        return link->bulk && receive_piece(replica, message);
    if (message->type == MESSAGE_RAFT)
        return take_raft(replica, link, message);
    if (replica->raft != NULL && message->type == MESSAGE_SNAPSHOT_PULL) {
        send_pulled(replica, replica_peer(replica, link->peer), &message->pull);
        return true;
    }
    if (replica->raft != NULL && take_later(replica, link, message))
        return true;
    if (message->type == MESSAGE_FORWARD)
        return take_forward(replica, link, &message->forward);
    if (message->type == MESSAGE_FORWARDED)
        take_forwarded(replica, link, &message->forwarded);
    return true;
}

size_t link_receive(struct replica *replica, struct link *link, struct slice bytes, struct replica_time now,
                    size_t *need, bool *alive)
{
    replica->now = now;
    size_t used = 0;
    *need = 0;
    *alive = !link->closing;
    if (!link->outgoing && !link->marked && bytes.size > 0) {
        *alive = bytes.data[0] == MESSAGE_MARK;
        link->marked = true;
        used = 1;
    }
    while (*alive && used < bytes.size) {
        struct message message;
        size_t size = 0;
        enum status status = message_decode(slice_make(bytes.data + used, bytes.size - used), &message, &size);
        if (status == STATUS_INCOMPLETE) {
            *need = size;
            break;
        }
        *alive = status == STATUS_OK && take_message(replica, link, &message);
        used += status == STATUS_OK ? size : 0;
        if (status != STATUS_OK)
            LOG(LOG_WARN, "link", "a frame from node %llu is %s", (unsigned long long)link->peer,
                status_text(status));
    }
    return *alive ? used : bytes.size;
}

/* --- life -------------------------------------------------------------------------------------------------------------------------------- */

struct link *link_opened(struct replica *replica, node_id peer, bool bulk, void *context, struct replica_time now)
{
    replica->now = now;
    struct link *link = mem_zalloc(1, sizeof *link);
    link->replica = replica;
    link->context = context;
    link->peer = peer;
    link->outgoing = peer != 0;
    link->bulk = bulk;
    link->next = replica->links;
    replica->links = link;
    if (link->outgoing)
        say_hello(replica, link);
    return link;
}

/* Before the set is pinned, who is gone may come back with another directory: only who is here is counted. */
static void forget_unpinned(struct replica *replica, node_id id)
{
    struct peer *peer = replica_peer(replica, id);
    if (peer == NULL || replica->identity.formation != FORMATION_NEW)
        return;
    for (const struct link *link = replica->links; link != NULL; link = link->next)
        if (link->peer == id && link->agreed)
            return;
    peer->member.incarnation = 0;
    peer->formation = FORMATION_NEW;
    peer->set_hash = 0;
}

void link_closed(struct replica *replica, struct link *link, struct replica_time now)
{
    replica->now = now;
    struct link **at = &replica->links;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    struct peer *peer = link->peer != 0 ? replica_peer(replica, link->peer) : NULL;
    if (link->bulk) {
        send_bulk_closed(replica, link);
    } else if (peer != NULL && peer->out == link) {
        peer->out = NULL;
        struct raft_event event = {.type = RAFT_EVENT_PEER_DOWN, .peer = {.peer = link->peer}};
        replica_step(replica, &event);
        request_link_lost(replica, link->peer);
    } else if (peer != NULL && !link->outgoing && link->agreed) {
        request_link_lost(replica, link->peer); /* its answers came on this one */
    }
    if (link->agreed)
        forget_unpinned(replica, link->peer);
    mem_free(link);
}

void link_free_all(struct replica *replica)
{
    while (replica->links != NULL) {
        struct link *next = replica->links->next;
        mem_free(replica->links);
        replica->links = next;
    }
}
