/* node/watch.c - see node/watch.h. */
#include "node/watch.h"

#include "base/check.h"
#include "base/memory.h"
#include "node/state.h"
#include "wire/error.h"
#include "wire/pack.h"

enum {
    WATCHES_MAX = 10000,
    EVENTS_A_TURN = 256,            /* for one watch; then the others have their turn */
    PENDING_BYTES_MAX = 1024 * 1024 /* that a client has yet to read; then its events wait in the ring */
};

static uint64_t cluster_of(const struct node *node)
{
    return replica_identity(node->replica)->cluster_id;
}

/* --- beginning -------------------------------------------------------------------------------------------------------------- */

static void refuse(struct node *node, uint64_t call, enum error_code code, const char *why)
{
    struct buffer error = {0};
    error_pack(&error, code, why);
    rpc_reply(node->rpc, call, false, true, 0, buffer_slice(&error));
    buffer_close(&error);
}

static void refuse_compacted(struct node *node, uint64_t call, const char *why, struct event_id first)
{
    struct buffer error = {0};
    events_pack_compacted(why, first, cluster_of(node), &error);
    rpc_reply(node->rpc, call, false, true, 0, buffer_slice(&error));
    buffer_close(&error);
}

static void answer(struct node *node, uint64_t call, struct event_id from)
{
    struct buffer value = {0};
    char id[EVENTS_ID_BYTES];
    events_print_id(from, cluster_of(node), id);
    pack_map(&value, 1);
    pack_text(&value, slice_text("from"));
    pack_text(&value, slice_text(id));
    rpc_reply(node->rpc, call, true, true, 0, buffer_slice(&value));
    buffer_close(&value);
}

void watch_begin(struct node *node, uint64_t call, const struct request *request)
{
    struct watch *watch = mem_zalloc(1, sizeof *watch);
    const struct events *events = replica_events(node->replica);
    struct event_id from = {0};
    struct event_id first = {0};
    bool from_now = false;
    bool compacted = false;
    const char *why =
        events_read_watch(request->args, cluster_of(node), &watch->filter, &from, &from_now, &compacted);
    if (from_now)
        from = (struct event_id){.index = replica_applied(node->replica) + 1};
    if (why != NULL && !compacted) {
        refuse(node, call, ERROR_BAD_ARGS, why);
    } else if (replica_raft(node->replica) == NULL) {
        refuse(node, call, ERROR_NO_LEADER, "the cluster forms yet");
    } else if (replica_parked_at(node->replica) != 0) {
        refuse(node, call, ERROR_PARKED, "this node is parked (see tidelock status); watch another");
    } else if (node->watches.count >= WATCHES_MAX) {
        refuse(node, call, ERROR_BUSY, "too many watch at this node; try another");
    } else if (compacted || !events_seek(events, from, &watch->cursor, &first)) {
        (void)events_seek(events, (struct event_id){0}, &watch->cursor, &first);
        refuse_compacted(node, call, compacted ? why : "events after this id are no longer here", first);
    } else {
        watch->client = rpc_listen(node->rpc, call);
        answer(node, call, from);
    }
    if (watch->client == NULL) {
        mem_free(watch);
        return;
    }
    watch->next = node->watches.list;
    node->watches.list = watch;
    node->watches.count++;
    node->watches.more = true;
}

/* --- telling ---------------------------------------------------------------------------------------------------------------- */

static void notify(struct watch *watch, const char *method, struct slice params)
{
    struct buffer message = {0};
    pack_array(&message, 3);
    pack_u64(&message, 2);
    pack_text(&message, slice_text(method));
    buffer_append(&message, params.data, params.size);
    rpc_tell(watch->client, buffer_slice(&message));
    buffer_close(&message);
}

/* `error`: its map. */
static void end(struct watch *watch, const struct buffer *error)
{
    struct buffer params = {0};
    pack_array(&params, 1);
    buffer_append(&params, error->data, error->size);
    notify(watch, "tidelock.watch_end", buffer_slice(&params));
    rpc_end(watch->client, "its watch cannot go on");
    buffer_close(&params);
}

static void end_lost(struct node *node, struct watch *watch, struct event_id first)
{
    struct buffer error = {0};
    events_pack_compacted("this client was too slow, or the state came from a snapshot: events are no longer here",
                          first, cluster_of(node), &error);
    end(watch, &error);
    buffer_close(&error);
}

/* Tells one client what it has not been told. False: it was told that it cannot go on. */
static bool tell(struct node *node, struct watch *watch)
{
    struct buffer params = {0};
    struct event event;
    struct event_id first;
    enum event_next next = EVENT_NONE;
    uint32_t count = 0;
    while (count < EVENTS_A_TURN && rpc_pending(watch->client) <= PENDING_BYTES_MAX) {
        next = events_next(replica_events(node->replica), &watch->cursor, &event, &first);
        if (next != EVENT_FOUND)
            break;
        count++;
        if (!events_wanted(&watch->filter, &event))
            continue;
        buffer_clear(&params);
        events_pack(&event, cluster_of(node), &params);
        notify(watch, "tidelock.event", buffer_slice(&params));
    }
    buffer_close(&params);
    if (next == EVENT_LOST)
        end_lost(node, watch, first);
    else if (rpc_pending(watch->client) > PENDING_BYTES_MAX)
        node->watches.blocked = true;
    else if (next == EVENT_FOUND)
        node->watches.more = true;
    return next != EVENT_LOST;
}

static void end_all_parked(struct node *node)
{
    struct buffer error = {0};
    error_pack(&error, ERROR_PARKED, "this node is parked (see tidelock status); watch another");
    for (struct watch *watch = node->watches.list, *next = NULL; watch != NULL; watch = next) {
        next = watch->next;
        end(watch, &error);
        mem_free(watch);
    }
    node->watches = (struct watches){0};
    buffer_close(&error);
}

void watch_turn(struct node *node)
{
    struct watches *watches = &node->watches;
    uint64_t version = events_version(replica_events(node->replica));
    if (watches->list == NULL)
        return;
    if (replica_parked_at(node->replica) != 0) {
        end_all_parked(node);
        return;
    }
    if (version == watches->version && !watches->more && !watches->blocked)
        return;
    watches->version = version;
    watches->more = watches->blocked = false;
    for (struct watch **place = &watches->list; *place != NULL;) {
        struct watch *watch = *place;
        if (tell(node, watch)) {
            place = &watch->next;
            continue;
        }
        *place = watch->next;
        watches->count--;
        mem_free(watch);
    }
}

void watch_gone(struct node *node, struct rpc_client *client)
{
    for (struct watch **place = &node->watches.list; *place != NULL;) {
        struct watch *watch = *place;
        if (watch->client != client) {
            place = &watch->next;
            continue;
        }
        *place = watch->next;
        node->watches.count--;
        mem_free(watch);
    }
}
