/* replica/status.c - what a node says of itself: tidelock.status. */
#include <stdio.h>

#include "replica/state.h"
#include "wire/pack.h"

static void pack_field(struct buffer *out, const char *name)
{
    pack_text(out, slice_text(name));
}

/* Before the cluster has formed, those of the line; then by id those of the configuration in force. */
static size_t list_members(const struct replica *replica, const struct peer *list[REPLICA_PEERS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct peer *peer = &replica->peers[i];
        if (peer->member.id == 0 || (members_now(replica) != NULL && peer->roles == 0))
            continue;
        size_t at = count++;
        for (; at > 0 && list[at - 1]->member.id > peer->member.id; at--)
            list[at] = list[at - 1];
        list[at] = peer;
    }
    return count;
}

static void pack_members(const struct replica *replica, struct buffer *out, const struct raft_status *raft)
{
    const struct peer *list[REPLICA_PEERS_MAX];
    const size_t count = list_members(replica, list);
    pack_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct peer *peer = list[i];
        pack_map(out, 6);
        pack_field(out, "address");
        pack_text(out, slice_text(peer->member.address));
        pack_field(out, "complaint"); /* why it was refused here, or refused this node */
        pack_text(out, slice_text(peer->complaint));
        pack_field(out, "id");
        pack_u64(out, peer->member.id);
        pack_field(out, "linked");
        pack_boolean(out, peer->out != NULL || peer->member.id == replica->identity.id);
        raft_index match = peer->member.id == replica->identity.id ? raft->durable_index : 0;
        for (size_t p = 0; p < raft->peers_count; p++)
            if (raft->peers[p].id == peer->member.id)
                match = raft->peers[p].match_index;
        pack_field(out, "match");
        pack_u64(out, match);
        pack_field(out, "voter");
        pack_boolean(out, members_votes(peer) || members_now(replica) == NULL);
    }
}

/* Somebody wants a snapshot, and what was acknowledged before is not known, or not applied, here yet. */
static bool is_asked(const struct replica *replica)
{
    for (uint32_t i = 0; i < replica->requests_capacity; i++) {
        const struct pending *request = &replica->requests[i];
        if (request->snapshot && (request->state == REQUEST_READING || request->state == REQUEST_WAITING))
            return true;
    }
    return false;
}

static const char *doing(const struct replica *replica)
{
    static const char *const takes[] = {"", "taking", "taking", "taking", "agreeing", "agreeing"};
    static const char *const receives[] = {"",        "receiving",  "receiving", "reading",
                                           "reading", "installing", "installing"};
    const struct snapshots *snapshots = &replica->snapshots;
    if (snapshots->receive.state != RECEIVE_IDLE)
        return receives[snapshots->receive.state];
    if (snapshots->take.state != TAKE_IDLE)
        return takes[snapshots->take.state];
    for (size_t i = 0; i < replica->peers_count; i++)
        if (replica->peers[i].send.pulled)
            return "sending";
    return is_asked(replica) ? "asked" : "";
}

static uint64_t part(uint64_t done, uint64_t all)
{
    return all == 0 ? 0 : done >= all ? 100 : done * 100 / all;
}

/* Of what `doing` says. */
static uint64_t percent(const struct replica *replica)
{
    const struct snapshots *snapshots = &replica->snapshots;
    const struct receiving *receive = &snapshots->receive;
    const struct snapshot_progress *progress = &snapshots->take.progress;
    if (receive->state == RECEIVE_RESUMING || receive->state == RECEIVE_PULLING)
        return part(receive->offset, receive->file.bytes);
    if (receive->state != RECEIVE_IDLE)
        progress = &receive->progress;
    if (receive->state != RECEIVE_IDLE || snapshots->take.state != TAKE_IDLE)
        return part(atomic_load(&progress->rows_done), atomic_load(&progress->rows));
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < replica->peers_count; i++) {
        const struct send *send = &replica->peers[i].send;
        uint64_t here = part(send->acked, send->file.bytes);
        least = send->pulled && here < least ? here : least;
    }
    return least != UINT64_MAX ? least : 0;
}

void replica_get_snapshots(const struct replica *replica, struct replica_snapshot_status *status)
{
    const struct snapshots *snapshots = &replica->snapshots;
    struct raft_status raft = {0};
    if (replica->raft != NULL)
        raft_get_status(replica->raft, &raft);
    *status = (struct replica_snapshot_status){.taken = snapshots->taken,
                                               .failed = snapshots->failed,
                                               .sent = snapshots->sent,
                                               .received = snapshots->received,
                                               .fetched = snapshots->fetched,
                                               .base = raft.base_index,
                                               .agreed = replica->digests.agreed.index,
                                               .differs = replica->digests.differs,
                                               .installing = receive_installs(replica),
                                               .doing = doing(replica),
                                               .why = snapshots->why};
    if (snapshots->files_count > 0) {
        status->index = snapshots->files[0].index;
        status->bytes = snapshots->files[0].bytes;
    }
    status->percent = status->doing[0] != 0 ? percent(replica) : 0;
}

static void pack_snapshot(const struct replica *replica, struct buffer *out)
{
    struct replica_snapshot_status status;
    const uint64_t stamp = replica->snapshots.stamp_ms;
    replica_get_snapshots(replica, &status);
    pack_map(out, 7);
    pack_field(out, "age"); /* ms of cluster time */
    pack_u64(out, status.index != 0 && replica->now.wall_ms > stamp ? replica->now.wall_ms - stamp : 0);
    pack_field(out, "bytes");
    pack_u64(out, status.bytes);
    pack_field(out, "doing");
    pack_text(out, slice_text(status.doing));
    pack_field(out, "failed"); /* why the last attempt did */
    pack_text(out, slice_text(status.why));
    pack_field(out, "index");
    pack_u64(out, status.index);
    pack_field(out, "percent");
    pack_u64(out, status.percent);
    pack_field(out, "taken");
    pack_u64(out, status.taken);
}

/* Digests that were compared: the last index on which a majority agreed, and who had another. */
static void pack_agreement(const struct replica *replica, struct buffer *out)
{
    uint32_t count = 0;
    for (size_t i = 0; i < replica->peers_count; i++)
        count += replica->peers[i].differs;
    pack_map(out, 3);
    pack_field(out, "differs"); /* this node's was not the majority's */
    pack_boolean(out, replica->digests.differs);
    pack_field(out, "index");
    pack_u64(out, replica->digests.agreed.index);
    pack_field(out, "others"); /* of a leader: whose was not */
    pack_array(out, count);
    for (size_t i = 0; i < replica->peers_count; i++)
        if (replica->peers[i].differs)
            pack_u64(out, replica->peers[i].member.id);
}

/* A lone voter's never ends. */
static uint64_t lease_left(const struct replica *replica, const struct raft_status *raft)
{
    const uint64_t now = replica->now.boot_ms;
    if (raft->lease_until == UINT64_MAX)
        return replica->raft_options.election_timeout_ms;
    return raft->lease_until > now ? raft->lease_until - now : 0;
}

void replica_pack_status(const struct replica *replica, struct buffer *out)
{
    static const char *const roles[] = {"follower", "candidate", "candidate", "leader"};
    static const char *const formations[] = {"forming", "forming", "formed"};
    struct raft_status raft = {0};
    char text[64];
    if (replica->raft != NULL)
        raft_get_status(replica->raft, &raft);
    pack_map(out, 26);
    pack_field(out, "agreed");
    pack_agreement(replica, out);
    pack_field(out, "applied");
    pack_u64(out, replica->applied);
    pack_field(out, "base"); /* the log begins after it */
    pack_u64(out, raft.base_index);
    pack_field(out, "bytes");
    pack_u64(out, replica->machine.bytes);
    pack_field(out, "cluster");
    snprintf(text, sizeof text, "%016llx", (unsigned long long)replica->identity.cluster_id);
    pack_text(out, slice_text(text));
    pack_field(out, "commit");
    pack_u64(out, raft.commit_index);
    pack_field(out, "digest");
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)replica->machine.digest.hi,
             (unsigned long long)replica->machine.digest.lo);
    pack_text(out, slice_text(text));
    pack_field(out, "id");
    pack_u64(out, replica->identity.id);
    pack_field(out, "last");
    pack_u64(out, raft.last_log_index);
    pack_field(out, "leader");
    pack_u64(out, raft.leader);
    pack_field(out, "lease_ms"); /* for so long this leader may still answer reads by lease */
    pack_u64(out, lease_left(replica, &raft));
    pack_field(out, "members");
    pack_members(replica, out, &raft);
    pack_field(out, "now");
    pack_u64(out, replica->machine.now_ms);
    pack_field(out, "parked_at");
    raft_index parked_at = 0;
    const char *parked = replica_parked(replica, &parked_at);
    pack_u64(out, parked != NULL ? parked_at : 0);
    pack_field(out, "parked_why");
    pack_text(out, slice_text(parked != NULL ? parked : ""));
    pack_field(out, "quota_bytes"); /* of what the limit quota bounds */
    pack_u64(out, replica->machine.quota_bytes);
    pack_field(out, "role");
    pack_text(out, slice_text(replica->raft == NULL ? formations[replica->identity.formation] : roles[raft.role]));
    pack_field(out, "rows");
    pack_u64(out, replica->machine.rows);
    pack_field(out, "scrubbed"); /* passes over the whole state, in this life */
    pack_u64(out, replica_scrubbed(replica));
    pack_field(out, "service");
    if (replica->info.size > 0)
        buffer_append(out, replica->info.data, replica->info.size);
    else
        pack_map(out, 0);
    pack_field(out, "sessions");
    pack_u64(out, replica->machine.sessions);
    pack_field(out, "snapshot");
    pack_snapshot(replica, out);
    pack_field(out, "term");
    pack_u64(out, raft.current_term);
    pack_field(out, "timers");
    pack_u64(out, replica->machine.timers);
    pack_field(out, "timers_failed");
    pack_u64(out, replica->machine.timers_failed);
    pack_field(out, "version");
    pack_text(out, slice_text(TIDELOCK_VERSION));
}
