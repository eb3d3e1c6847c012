/* node/peers.c - links to the other members: dialling with back-off, and the links that they dial.
 *
 * A link carries messages one way, from who dialled; so every node dials every other. Whom, the replica says, and says anew when
 * members come and go. Depends on node/state.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "node/state.h"

static const double RETRY_SECONDS_MIN = 0.02;
static const double RETRY_SECONDS_MAX = 1.0;

static void dial_peer(struct node_peer *peer);

static size_t on_received(void *owner, struct connection *connection, struct slice bytes, size_t *need, bool *alive)
{
    (void)connection;
    struct node_link *link = owner;
    size_t used = link_receive(link->node->replica, link->link, bytes, node_time(), need, alive);
    /* Whoever takes our bytes and agrees with us is worth dialling again soon after a break. */
    if (link->peer != NULL && used > 0 && *alive)
        link->peer->wait_seconds = RETRY_SECONDS_MIN;
    return used;
}

static void retry_later(struct node_peer *peer)
{
    if (peer->node->ending)
        return;
    double jitter = peer->wait_seconds * 0.25 * (double)(rand() % 1000) / 1000.0;
    peer->retry.repeat = peer->wait_seconds + jitter;
    ev_timer_again(peer->node->loop, &peer->retry);
    peer->wait_seconds = peer->wait_seconds * 2 < RETRY_SECONDS_MAX ? peer->wait_seconds * 2 : RETRY_SECONDS_MAX;
}

static void on_closed(void *owner, struct connection *connection, const char *why)
{
    struct node_link *link = owner;
    LOG(LOG_DEBUG, "net", "link %s %s: %s", link->peer != NULL ? "to" : "from", connection_name(connection), why);
    link_closed(link->node->replica, link->link, node_time());
    if (link->peer != NULL) {
        link->peer->connection = NULL;
        link->peer->node_link = NULL;
        retry_later(link->peer);
    }
    mem_free(link);
}

static const struct connection_owner link_ops = {.received = on_received, .closed = on_closed};

static void on_dialled(void *context, int fd)
{
    struct node_peer *peer = context;
    struct node *node = peer->node;
    peer->dial = NULL;
    if (fd < 0) {
        if (!peer->silent)
            LOG(LOG_INFO, "net", "node %llu does not answer at %s yet; this node goes on trying",
                (unsigned long long)peer->id, peer->address);
        peer->silent = true;
        retry_later(peer);
        return;
    }
    if (peer->silent)
        LOG(LOG_INFO, "net", "node %llu answers at %s", (unsigned long long)peer->id, peer->address);
    peer->silent = false;
    struct node_link *link = mem_zalloc(1, sizeof *link);
    link->node = node;
    link->peer = peer;
    link->connection = connection_new(node->net, fd, &link_ops, link, REPLICA_LINK_QUEUE_MAX);
    peer->connection = link->connection;
    link->link = link_opened(node->replica, peer->id, false, link->connection, node_time());
    peer->node_link = link;
}

static void dial_peer(struct node_peer *peer)
{
    CHECK(peer->connection == NULL);
    CHECK(peer->dial == NULL);
    peer->dial = dial_start(peer->node->net, peer->address, on_dialled, peer);
}

static void on_bulk_dialled(void *context, int fd)
{
    struct node_peer *peer = context;
    struct node *node = peer->node;
    peer->bulk_dial = NULL;
    if (fd < 0) {
        link_not_opened(node->replica, peer->id, node_time());
        return;
    }
    struct node_link *link = mem_zalloc(1, sizeof *link); /* no peer: it is not dialled again by itself */
    link->node = node;
    link->connection = connection_new(node->net, fd, &link_ops, link, REPLICA_LINK_QUEUE_MAX);
    link->link = link_opened(node->replica, peer->id, true, link->connection, node_time());
}

static void on_retry(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    ev_timer_stop(loop, watcher);
    dial_peer(watcher->data);
}

void peers_adopt(struct node *node, struct connection *connection)
{
    struct node_link *link = mem_zalloc(1, sizeof *link);
    link->node = node;
    link->connection = connection;
    connection_set_owner(connection, &link_ops, link, REPLICA_LINK_QUEUE_MAX);
    link->link = link_opened(node->replica, 0, false, connection, node_time());
}

/* Nothing more is dialled for it; its link, if it has one, ends after what is queued went out. */
static void let_go(struct node_peer *peer)
{
    ev_timer_stop(peer->node->loop, &peer->retry);
    if (peer->dial != NULL)
        dial_cancel(peer->dial);
    if (peer->bulk_dial != NULL) {
        dial_cancel(peer->bulk_dial);
        link_not_opened(peer->node->replica, peer->id, node_time());
    }
    if (peer->connection != NULL) {
        peer->node_link->peer = NULL;
        connection_close(peer->connection, "its node is dialled no more");
    }
    *peer = (struct node_peer){.node = peer->node};
}

static struct node_peer *find(struct node *node, node_id id)
{
    for (size_t i = 0; i < REPLICA_PEERS_MAX; i++)
        if (node->peers[i].id == id)
            return &node->peers[i];
    return NULL;
}

void peers_dial_bulk(struct node *node, node_id id)
{
    struct node_peer *peer = find(node, id);
    if (peer == NULL)
        link_not_opened(node->replica, id, node_time()); /* it is dialled no more, or not yet */
    else if (peer->bulk_dial == NULL)
        peer->bulk_dial = dial_start(node->net, peer->address, on_bulk_dialled, peer);
}

static void add(struct node *node, const struct identity_member *member)
{
    struct node_peer *peer = find(node, 0);
    CHECK(peer != NULL);
    peer->node = node;
    peer->id = member->id;
    snprintf(peer->address, sizeof peer->address, "%s", member->address);
    peer->wait_seconds = RETRY_SECONDS_MIN;
    ev_init(&peer->retry, on_retry);
    peer->retry.data = peer;
    dial_peer(peer);
}

void peers_follow(struct node *node)
{
    const uint64_t version = replica_peers_version(node->replica) + 1;
    if (version == node->peers_version || node->ending)
        return;
    node->peers_version = version;
    struct identity_member *members = mem_zalloc(REPLICA_PEERS_MAX, sizeof *members);
    size_t count = replica_peers(node->replica, members);
    for (size_t i = 0; i < REPLICA_PEERS_MAX; i++) {
        struct node_peer *peer = &node->peers[i];
        bool kept = false;
        for (size_t m = 0; m < count && !kept; m++)
            kept = members[m].id == peer->id && strcmp(members[m].address, peer->address) == 0;
        if (peer->id != 0 && !kept)
            let_go(peer);
    }
    for (size_t m = 0; m < count; m++)
        if (find(node, members[m].id) == NULL)
            add(node, &members[m]);
    mem_free(members);
}

void peers_stop(struct node *node)
{
    for (size_t i = 0; i < REPLICA_PEERS_MAX; i++) {
        if (node->peers[i].id == 0)
            continue;
        ev_timer_stop(node->loop, &node->peers[i].retry);
        if (node->peers[i].dial != NULL)
            dial_cancel(node->peers[i].dial);
        if (node->peers[i].bulk_dial != NULL)
            dial_cancel(node->peers[i].bulk_dial);
        node->peers[i].dial = node->peers[i].bulk_dial = NULL;
    }
}
