/* replica/read.c - linearizable queries at a follower (thesis §6.4): the leader says from which index on, the follower answers.
 *
 * One question a turn for all queries of that turn; the leader answers it after a ReadIndex round, as it would answer a query of its
 * own. An answer stands for all questions before it, too: it was found out later than they were asked. So the leader has a
 * message a turn to do with a follower's queries, and not each of them. What is not answered, because the link broke or leadership
 * went on, is asked anew. Questions are numbered otherwise in each life, so that a late answer to the last life's fits none. A follower that is far behind has its queries answered by the leader instead.
 */
#include "base/memory.h"
#include "base/mutant.h"
#include "replica/state.h"

enum { FAR_ENTRIES = 10000 }; /* behind the leader */

bool read_may_ask(const struct replica *replica, const struct pending *request)
{
    if (request->origin != 0 || request->batch || request->host != NULL || request->dry_run ||
        replica_is_parked(replica) || !apply_code_ready(replica))
        return false;
    if (replica->effects.commit_index > replica->applied + FAR_ENTRIES && request->forward)
        return false;
    const struct slice name = slice_make(request->bytes.data, request->name_size);
    enum catalog_kind kind = catalog_find(replica->catalog, name);
    return kind == CATALOG_QUERY || (kind == CATALOG_RAW && request->query_only);
}

void read_ask(struct replica *replica, struct pending *request)
{
    struct read_wait *wait = request_read(replica, request);
    wait->leader = replica->effects.leader;
    wait->read_id = replica->ask_id + 1;
    replica->asks_new = true;
    replica->asks_strict = replica->asks_strict || !request->lease;
}

void read_send(struct replica *replica)
{
    const node_id leader = replica->effects.leader;
    if (!replica->asks_new)
        return;
    replica->asks_new = false;
    struct message message = {.type = MESSAGE_READ,
                              .read = {.id = ++replica->ask_id, .lease = !replica->asks_strict}};
    replica->asks_strict = false;
    if (leader == 0 || leader == replica->identity.id || !link_send_message(replica, leader, &message, NULL, 0))
        read_lost(replica, leader);
}

/* Another way, or the same once more. */
static void go_on(struct replica *replica, struct read_wait *wait)
{
    struct pending *request = request_of(replica, wait->token);
    wait->token = UINT64_MAX; /* nobody's */
    if (request != NULL && request->state == REQUEST_READING)
        request_wait(replica, request);
}

void read_lost(struct replica *replica, node_id leader)
{
    for (size_t i = 0; i < replica->reads_count; i++) {
        struct read_wait *wait = &replica->reads[i];
        if (wait->leader != 0 && wait->index == 0 && (leader == 0 || wait->leader == leader))
            go_on(replica, wait);
    }
}

void read_told(struct replica *replica, node_id from, const struct message_read *told)
{
    for (size_t i = 0; i < replica->reads_count; i++) {
        struct read_wait *wait = &replica->reads[i];
        bool of_this_life = wait->read_id >> 32 == told->id >> 32;
        if (wait->leader != from || wait->index != 0 || wait->read_id > told->id || !of_this_life)
            continue;
        struct pending *request = request_of(replica, wait->token);
        if (told->index == 0) {
            go_on(replica, wait);
        } else if (told->index > replica->applied + FAR_ENTRIES && request != NULL && request->forward &&
                   request->state == REQUEST_READING) {
            wait->token = UINT64_MAX;
            forward_request(replica, request, from);
        } else {
            wait->index = told->index;
            wait->now_ms = told->now_ms;
        }
    }
}

/* --- leading ------------------------------------------------------------------------------------------------------------- */

static void tell(struct replica *replica, node_id peer, uint64_t id, raft_index index)
{
    struct message message = {.type = MESSAGE_READ_AT};
    message.read = (struct message_read){
        .id = id, .index = index, .now_ms = index != 0 && replica_leads(replica) ? clock_stamp(replica) : 0};
    (void)link_send_message(replica, peer, &message, NULL, 0); /* no link: it asks anew */
}

void read_asked(struct replica *replica, node_id from, const struct message_read *asked)
{
    if (!replica_leads(replica)) {
        tell(replica, from, asked->id, 0);
        return;
    }
    if (MUTANT(187)) {
        tell(replica, from, asked->id, replica->effects.commit_index);
        return;
    }
    /* At most one of each follower for each round. */
    const uint64_t read_id = asked->lease ? READ_UNASKED : replica->read_id + 1;
    for (size_t i = 0; i < replica->asks_count; i++) {
        struct read_ask *ask = &replica->asks[i];
        if (ask->peer == from && ask->read_id == read_id) {
            ask->id = asked->id > ask->id ? asked->id : ask->id;
            return;
        }
    }
    if (replica->asks_count == replica->asks_capacity) {
        replica->asks_capacity = replica->asks_capacity * 2 + 16;
        replica->asks = mem_realloc(replica->asks, replica->asks_capacity * sizeof *replica->asks);
    }
    replica->asks[replica->asks_count++] = (struct read_ask){.peer = from, .id = asked->id, .read_id = read_id};
    replica->reads_new = replica->reads_new || !asked->lease;
    replica->leases_new = replica->leases_new || asked->lease;
}

void read_confirmed(struct replica *replica)
{
    const struct raft_effects *effects = &replica->effects;
    size_t kept = 0;
    for (size_t i = 0; i < replica->asks_count; i++) {
        const struct read_ask ask = replica->asks[i];
        if (ask.read_id == READ_UNASKED)
            replica->asks[kept++] = ask;
        else if ((effects->reads_ready_id != 0 && ask.read_id <= effects->reads_ready_id) ||
                 (effects->read_leased && ask.read_id == replica->read_id))
            tell(replica, ask.peer, ask.id, effects->read_index);
        else if (effects->reads_failed_id != 0 && ask.read_id <= effects->reads_failed_id)
            tell(replica, ask.peer, ask.id, 0);
        else
            replica->asks[kept++] = ask;
    }
    replica->asks_count = kept;
}
