/* node/peers.c - links to the other members: dialling with back-off, and the links that they dial.
 *
 * A link carries messages one way, from who dialled; so every node dials every other. Depends on node/state.h.
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
        link->peer->link = NULL;
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
    peer->link = link->link;
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

void peers_dial_bulk(struct node *node, node_id id)
{
    for (size_t i = 0; i < node->peers_count; i++) {
        struct node_peer *peer = &node->peers[i];
        if (peer->id == id && peer->bulk_dial == NULL)
            peer->bulk_dial = dial_start(node->net, peer->address, on_bulk_dialled, peer);
    }
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

void peers_start(struct node *node)
{
    struct identity_member *members = mem_zalloc(RAFT_MEMBERS_MAX, sizeof *members);
    node->peers_count = replica_peers(node->replica, members);
    for (size_t i = 0; i < node->peers_count; i++) {
        struct node_peer *peer = &node->peers[i];
        peer->node = node;
        peer->id = members[i].id;
        snprintf(peer->address, sizeof peer->address, "%s", members[i].address);
        peer->wait_seconds = RETRY_SECONDS_MIN;
        ev_init(&peer->retry, on_retry);
        peer->retry.data = peer;
        dial_peer(peer);
    }
    mem_free(members);
}

void peers_stop(struct node *node)
{
    for (size_t i = 0; i < node->peers_count; i++) {
        ev_timer_stop(node->loop, &node->peers[i].retry);
        if (node->peers[i].dial != NULL)
            dial_cancel(node->peers[i].dial);
        if (node->peers[i].bulk_dial != NULL)
            dial_cancel(node->peers[i].bulk_dial);
        node->peers[i].dial = node->peers[i].bulk_dial = NULL;
    }
}
