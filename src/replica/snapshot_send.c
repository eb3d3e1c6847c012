/* replica/snapshot_send.c - snapshots to followers whose next entry is in no log any more. See replica/replica.h.
 *
 * The core's offer is repeated at the pace of heartbeats; the follower answers each by saying how far it is, and after each
 * piece it wrote. So many pieces may be under way; they are read by the transfer thread, one at a time for each follower, and
 * go out on a bulk link that is dialled for them. Whoever gets on is waited for, however long it takes: the file stays, and
 * the entries after it, until the follower has caught up with the newest snapshot. Who does not get on is let go.
 */
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"

enum {
    PIECE_BYTES = 256 * 1024,          /* default */
    PIECE_BYTES_MAX = 4 * 1024 * 1024, /* a window of them is far less than a link's queue */
    WINDOW_PIECES = 4,                 /* under way to one follower */
    LET_GO_ELECTIONS = 20,             /* election timeouts without getting on */
    NOT_READING = 0
};

static uint64_t piece_bytes(const struct replica *replica)
{
    uint32_t bytes = replica->snapshots.policy.chunk_bytes;
    return bytes == 0 ? PIECE_BYTES : bytes < PIECE_BYTES_MAX ? bytes : PIECE_BYTES_MAX;
}

static bool same_hash(struct hash128 left, struct hash128 right)
{
    return left.lo == right.lo && left.hi == right.hi;
}

static bool is_moving(const struct replica *replica, const struct send *send)
{
    uint64_t bound = LET_GO_ELECTIONS * (uint64_t)replica->raft_options.election_timeout_ms;
    return replica->now.boot_ms - send->moved_at <= bound;
}

/* --- what is kept for them -------------------------------------------------------------------------------------------------- */

/* Whether the file is under way to somebody. */
bool send_holds(const struct replica *replica, raft_index index)
{
    for (size_t i = 0; i < replica->peers_count; i++)
        if (replica->peers[i].send.file.index == index)
            return true;
    return false;
}

/* Up to where entries may go, of those up to `index`. */
raft_index send_pin(const struct replica *replica, raft_index index)
{
    for (size_t i = 0; i < replica->peers_count; i++) {
        raft_index pin = replica->peers[i].send.pin;
        if (pin != 0 && pin < index && !MUTANT(144))
            index = pin;
    }
    return index;
}

/* --- offers ------------------------------------------------------------------------------------------------------------------- */

/* Says which file, beside the core's fields: the one under way while it gets on, else the newest. False: there is none. */
bool send_offer(struct replica *replica, struct message *message)
{
    const struct snapshots *snapshots = &replica->snapshots;
    const struct peer *peer = replica_peer(replica, message->raft.to);
    struct raft_install_snapshot *install = &message->raft.install_snapshot;
    if (snapshots->files_count == 0 || snapshots->files[0].index == snapshots->damaged || peer == NULL ||
        replica_is_parked(replica))
        return false;
    if (snapshots->files[0].index == replica->restored_at && !MUTANT(300)) {
        if (snapshots->take.asked_for <= replica->restored_at)
            replica->snapshots.take.asked_for = replica->applied; /* one that says who the members are */
        return false;
    }
    message->snapshot = snapshots->files[0];
    if (peer->send.file.index >= install->last_included_index && peer->send.file.index != 0 &&
        is_moving(replica, &peer->send))
        message->snapshot = peer->send.file;
    install->last_included_index = message->snapshot.index;
    install->last_included_term = message->snapshot.term;
    return true;
}

static const struct message_snapshot *find_file(const struct replica *replica, raft_index index,
                                                struct hash128 hash)
{
    const struct snapshots *snapshots = &replica->snapshots;
    for (size_t i = 0; i < snapshots->files_count; i++)
        if (snapshots->files[i].index == index && same_hash(snapshots->files[i].hash, hash))
            return &snapshots->files[i];
    return NULL;
}

/* --- pieces ------------------------------------------------------------------------------------------------------------------- */

/* A rate lets a piece go when those before it have had their time. */
static bool has_turn(const struct replica *replica)
{
    return replica->snapshots.policy.rate == 0 || replica->now.boot_ms * 1000 >= replica->snapshots.send_at;
}

static bool wants_piece(const struct replica *replica, const struct send *send)
{
    return send->pulled && send->bulk != NULL && send->reading == 0 && send->read < send->file.bytes &&
           send->read - send->acked < WINDOW_PIECES * piece_bytes(replica);
}

static void read_piece(struct replica *replica, struct peer *peer)
{
    struct send *send = &peer->send;
    if (!wants_piece(replica, send) || !has_turn(replica))
        return;
    struct snapshot_job *job = mem_zalloc(1, sizeof *job);
    uint64_t left = send->file.bytes - send->read;
    job->type = SNAPSHOT_JOB_READ;
    job->file = send->file;
    job->peer = peer->member.id;
    job->offset = send->read;
    job->size = left < piece_bytes(replica) ? left : piece_bytes(replica);
    send->reading = ++replica->snapshots.reads;
    job->number = send->reading;
    if (replica->snapshots.policy.rate != 0) {
        uint64_t now = replica->now.boot_ms * 1000;
        uint64_t from = replica->snapshots.send_at > now ? replica->snapshots.send_at : now;
        replica->snapshots.send_at = from + job->size * 1000000 / replica->snapshots.policy.rate;
    }
    take_submit(replica, job);
}

uint64_t send_wake_at(const struct replica *replica)
{
    if (replica->snapshots.policy.rate == 0 || !replica_leads(replica))
        return UINT64_MAX;
    for (size_t i = 0; i < replica->peers_count; i++)
        if (wants_piece(replica, &replica->peers[i].send))
            return replica->snapshots.send_at / 1000 + 1;
    return UINT64_MAX;
}

/* A piece was read: out with it, if it is still wanted. */
void send_piece(struct replica *replica, struct snapshot_job *job)
{
    struct peer *peer = replica_peer(replica, job->peer);
    struct send *send = peer != NULL ? &peer->send : NULL;
    if (send == NULL || send->reading != job->number)
        return;
    send->reading = NOT_READING;
    if (job->status != STATUS_OK || job->bytes.size == 0) {
        if (!send->failed)
            LOG(LOG_ERROR, "snapshot", "cannot be read for node %llu: %s", (unsigned long long)job->peer, job->why);
        send->failed = true;
        send->pulled = false; /* it asks again */
        return;
    }
    struct message message = {.type = MESSAGE_SNAPSHOT_PIECE, .records = buffer_slice(&job->bytes)};
    message.piece = (struct message_piece){.index = job->file.index,
                                           .hash = job->file.hash,
                                           .offset = job->offset,
                                           .crc = crc32c(0, job->bytes.data, job->bytes.size)};
    send->failed = false;
    if (send->bulk == NULL || !link_send_piece(replica, send->bulk, &message))
        return; /* the link is ending: it goes on from what was written */
    send->read = job->offset + job->bytes.size;
    read_piece(replica, peer);
}

/* --- what followers say -------------------------------------------------------------------------------------------------------- */

static void go_on_from(struct send *send, uint64_t offset)
{
    send->acked = send->read = offset;
    send->reading = NOT_READING; /* what is being read now is not what is wanted next */
}

static void end_file(struct replica *replica, struct peer *peer)
{
    struct send *send = &peer->send;
    if (send->bulk != NULL) {
        send->bulk->closing = true;
        replica->env.close(replica->env.context, send->bulk);
    }
    send->bulk = NULL;
    send->file = (struct message_snapshot){0};
    send->pulled = false;
    send->rebuild = false;
    send->reading = NOT_READING;
    take_clean(replica);
}

void send_rebuilt(struct replica *replica, struct peer *peer)
{
    if (!peer->send.rebuild)
        return;
    replica->snapshots.sent++;
    end_file(replica, peer);
    peer->send.pin = 0;
}

/* A follower says that the file is damaged: is it so here? */
static void check_file(struct replica *replica, const struct message_snapshot *file)
{
    if (replica->snapshots.checking || replica->snapshots.damaged == file->index)
        return;
    struct snapshot_job *job = mem_zalloc(1, sizeof *job);
    job->type = SNAPSHOT_JOB_CHECK;
    job->file = *file;
    replica->snapshots.checking = true;
    take_submit(replica, job);
}

void send_checked(struct replica *replica, const struct snapshot_job *job)
{
    replica->snapshots.checking = false;
    if (job->status != STATUS_CORRUPT)
        return; /* it was damaged on its way, or there */
    LOG(LOG_ERROR, "snapshot", "%s: another is taken in its place", job->why);
    replica->snapshots.damaged = job->file.index;
}

void send_pulled(struct replica *replica, struct peer *peer, const struct message_pull *pull)
{
    struct send *send = &peer->send;
    const struct message_snapshot *file = find_file(replica, pull->index, pull->hash);
    if (!replica_leads(replica) || replica_is_parked(replica) || file == NULL || pull->offset > file->bytes)
        return; /* the next offer says what there is */
    if (pull->bad) {
        check_file(replica, file);
        if (send->file.index == file->index)
            end_file(replica, peer);
        return;
    }
    if (send->file.index != file->index || !send->pulled || pull->again) {
        if (send->file.index != file->index)
            LOG(LOG_INFO, "snapshot", "node %llu fetches the one at entry %llu, from byte %llu of %llu",
                (unsigned long long)peer->member.id, (unsigned long long)file->index,
                (unsigned long long)pull->offset, (unsigned long long)file->bytes);
        send->file = *file;
        send->pulled = true;
        send->moved_at = replica->now.boot_ms;
        go_on_from(send, pull->offset);
    }
    if (pull->progress != send->progress || pull->offset > send->acked)
        send->moved_at = replica->now.boot_ms;
    send->pin = file->index;
    send->progress = pull->progress;
    if (pull->offset > send->acked)
        send->acked = pull->offset;
    if (send->read < send->acked)
        send->read = send->acked;
    if (send->bulk == NULL && !send->dialling && send->acked < file->bytes) {
        send->dialling = true;
        replica->env.dial_bulk(replica->env.context, peer->member.id);
    }
    read_piece(replica, peer);
}

void send_bulk_opened(struct replica *replica, struct link *link)
{
    struct peer *peer = replica_peer(replica, link->peer);
    peer->send.dialling = false;
    peer->send.bulk = link;
    go_on_from(&peer->send, peer->send.acked);
    read_piece(replica, peer);
}

void send_bulk_closed(struct replica *replica, const struct link *link)
{
    struct peer *peer = replica_peer(replica, link->peer);
    if (peer == NULL || !link->outgoing)
        return;
    peer->send.dialling = false;
    if (peer->send.bulk == link)
        peer->send.bulk = NULL;
}

void link_not_opened(struct replica *replica, node_id id, struct replica_time now)
{
    replica->now = now;
    struct peer *peer = replica_peer(replica, id);
    if (peer != NULL)
        peer->send.dialling = false; /* its next word has it dialled again */
}

/* --- ends ------------------------------------------------------------------------------------------------------------------------ */

static void let_go(struct replica *replica, struct peer *peer, bool said)
{
    if (said && peer->send.file.index != 0)
        LOG(LOG_INFO, "snapshot", "node %llu does not get on with the one at entry %llu; it is not kept for it",
            (unsigned long long)peer->member.id, (unsigned long long)peer->send.file.index);
    peer->send.pin = 0;
    if (peer->send.file.index != 0)
        end_file(replica, peer);
}

static void look_after(struct replica *replica, struct peer *peer, const struct raft_peer_status *status)
{
    struct send *send = &peer->send;
    const struct snapshots *snapshots = &replica->snapshots;
    if (send->file.index != 0 && !send->rebuild && !status->snapshot && status->match_index >= send->file.index) {
        LOG(LOG_INFO, "snapshot", "node %llu has taken the one at entry %llu", (unsigned long long)peer->member.id,
            (unsigned long long)send->file.index);
        replica->snapshots.sent++;
        send->moved_at = replica->now.boot_ms;
        end_file(replica, peer);
    }
    if (send->file.index == 0 && status->match_index > send->pin) {
        send->pin = status->match_index;
        send->moved_at = replica->now.boot_ms;
    }
    bool caught_up = send->file.index == 0 && snapshots->files_count > 0 && send->pin >= snapshots->files[0].index;
    if (caught_up || !is_moving(replica, send))
        let_go(replica, peer, !caught_up);
    else
        read_piece(replica, peer);
}

void send_turn(struct replica *replica)
{
    struct raft_status status = {0};
    for (size_t i = 0; i < replica->peers_count; i++) {
        struct peer *peer = &replica->peers[i];
        if (peer->send.pin == 0 && peer->send.file.index == 0)
            continue;
        if (!replica_leads(replica)) {
            let_go(replica, peer, false);
            continue;
        }
        if (status.id == 0)
            raft_get_status(replica->raft, &status);
        for (size_t p = 0; p < status.peers_count; p++)
            if (status.peers[p].id == peer->member.id)
                look_after(replica, peer, &status.peers[p]);
    }
}
