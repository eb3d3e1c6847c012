/* node/join.c - what a directory needs before its node can run in a cluster that others formed: an identity of its own, made before it asks
 * to be let in, and completed when it was. See node/node.h. Depends on node/state.h.
 */
#include <string.h>

#include "node/state.h"
#include "replica/formation.h"
#include "replica/restore.h"

static int open_disk(struct node *node, const struct node_options *options)
{
    enum status status = disk_posix_open(options->data, true, true, &node->disk, node->why);
    if (status == STATUS_OK)
        return NODE_EXIT_OK;
    return status == STATUS_LOCKED || status == STATUS_NOT_FOUND ? NODE_EXIT_CONFIG : NODE_EXIT_FAILED;
}

static int save(struct node *node, const struct identity *identity)
{
    return identity_save(node->disk, identity) == STATUS_OK
               ? NODE_EXIT_OK
               : node_refuse(node, NODE_EXIT_FAILED, node->disk->error(node->disk));
}

static int make_identity(struct node *node, const struct node_options *options, struct identity *identity)
{
    const char *address = options->advertise != NULL ? options->advertise : options->listen;
    enum status status = identity_load(node->disk, identity, node->why);
    if (status == STATUS_OK)
        return formation_check(identity, options->id, NULL, 0, node->why) == STATUS_OK ? NODE_EXIT_OK
                                                                                       : NODE_EXIT_CONFIG;
    if (status != STATUS_NOT_FOUND)
        return NODE_EXIT_CONFIG;
    struct hash128 file = {0};
    if (restore_read_mark(node->disk, &file, node->why) != STATUS_NOT_FOUND)
        return node_refuse(
            node, NODE_EXIT_CONFIG,
            "this directory was restored from a snapshot, to begin a cluster with (--cluster): a node that "
            "joins one begins with an empty directory");
    if (formation_joiner(options->id, address, node_random(), identity, node->why) != STATUS_OK)
        return NODE_EXIT_CONFIG;
    return save(node, identity);
}

int node_join_begin(const struct node_options *options, uint64_t *incarnation, uint64_t *cluster_id,
                    struct buffer *why)
{
    struct node node = {.why = why};
    struct identity identity;
    int exit_code = node_check_address(&node, options);
    if (exit_code == NODE_EXIT_OK)
        exit_code = open_disk(&node, options);
    if (exit_code != NODE_EXIT_OK)
        return exit_code;
    exit_code = make_identity(&node, options, &identity);
    *incarnation = identity.incarnation;
    *cluster_id = identity.cluster_id;
    node.disk->free(node.disk);
    return exit_code;
}

int node_join_end(const struct node_options *options, uint64_t cluster_id, struct buffer *why)
{
    struct node node = {.why = why};
    struct identity identity;
    int exit_code = open_disk(&node, options);
    if (exit_code != NODE_EXIT_OK)
        return exit_code;
    if (identity_load(node.disk, &identity, why) != STATUS_OK)
        exit_code = NODE_EXIT_CONFIG;
    if (exit_code == NODE_EXIT_OK && identity.joined && identity.cluster_id == 0) {
        identity.cluster_id = cluster_id;
        exit_code = save(&node, &identity);
    }
    node.disk->free(node.disk);
    return exit_code;
}
