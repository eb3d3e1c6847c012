/* node/open.c - what a node is started on: flags, identity, log, snapshot, port; refused with a sentence if they do not go
 * together. Depends on node/state.h.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/memory.h"
#include "node/state.h"
#include "node/teller.h"
#include "replica/formation.h"
#include "replica/restore.h"
#include "script/bundle.h"
#include "wire/pack.h"

int node_refuse(struct node *node, int exit_code, const char *sentence)
{
    buffer_append(node->why, sentence, strlen(sentence));
    return exit_code;
}

uint64_t node_random(void)
{
    uint64_t value = 0;
    CHECK(getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value);
    return value;
}

static uint64_t hash_bundles(const struct node_options *options, struct buffer *packed)
{
    pack_array(packed, (uint32_t)options->bundles_count);
    for (size_t i = 0; i < options->bundles_count; i++)
        pack_text(packed, options->bundles[i]);
    uint64_t hash = hash64(packed->data, packed->size);
    return hash != 0 ? hash : 1;
}

int node_check_address(struct node *node, const struct node_options *options)
{
    char host[NET_HOST_MAX];
    unsigned port = 0;
    if (address_split(options->listen, host, &port) != STATUS_OK)
        return node_refuse(node, NODE_EXIT_USAGE, "--listen: write HOST:PORT, or [IPV6]:PORT");
    if (!options->insecure && !address_is_loopback(host))
        return node_refuse(
            node, NODE_EXIT_CONFIG,
            "--listen beyond this machine's loopback lets anyone who can reach the port in: give --insecure if "
            "the network is yours alone, or listen on 127.0.0.1");
    return NODE_EXIT_OK;
}

const char node_first_start_needs[] = "there is no node's data in this directory yet: the first start needs "
                                      "--cluster 1=HOST:PORT,... and --machine FILE, or --join HOST:PORT";

static const char restored_needs[] =
    "this directory was restored from a snapshot, and is nobody's yet: the first start needs "
    "--cluster 1=HOST:PORT,... (the services are in the snapshot)";

static bool has_service(const struct node_options *options)
{
    for (size_t i = 0; i < options->bundles_count; i++) {
        enum bundle_kind kind = BUNDLE_FORMAT;
        if (bundle_kind(options->bundles[i], &kind) == STATUS_OK && kind == BUNDLE_MACHINE)
            return true;
    }
    return false;
}

static bool mounts_are_distinct(struct node *node, const struct node_options *options)
{
    for (size_t i = 0; i < options->bundles_count; i++) {
        for (size_t j = 0; j < i; j++) {
            struct slice left = {0};
            struct slice right = {0};
            CHECK(bundle_mount(options->bundles[i], &left) == STATUS_OK);
            CHECK(bundle_mount(options->bundles[j], &right) == STATUS_OK);
            if (left.size == 0 || !slice_equal(left, right))
                continue; /* one format, one policy at the most: flags that are given once */
            char text[160];
            snprintf(text, sizeof text, "--machine: two modules are to be mounted as %.*s: name one, NAME=FILE",
                     (int)left.size, (const char *)left.data);
            (void)node_refuse(node, NODE_EXIT_CONFIG, text);
            return false;
        }
    }
    return true;
}

static enum status save(struct node *node, const struct identity *identity, const struct buffer *packed)
{
    enum status status = STATUS_OK;
    if (packed != NULL)
        status = storage_put_file(node->disk, REPLICA_BUNDLES_FILE, buffer_slice(packed));
    return status == STATUS_OK ? identity_save(node->disk, identity) : status;
}

/* First start: the identity is made and durable, with the bundles or for the snapshot that was restored, before this node says a
 * word. */
static int make_identity(struct node *node, const struct node_options *options, struct identity *identity,
                         const struct buffer *packed, uint64_t code_hash)
{
    struct hash128 file = {0};
    enum status status = restore_read_mark(node->disk, &file, node->why);
    const bool restored = status == STATUS_OK;
    if (!restored && status != STATUS_NOT_FOUND)
        return NODE_EXIT_CONFIG;
    if (options->cluster == NULL || (!has_service(options) && !restored))
        return node_refuse(node, NODE_EXIT_CONFIG, restored ? restored_needs : node_first_start_needs);
    if (!mounts_are_distinct(node, options))
        return NODE_EXIT_CONFIG;
    if (restored && options->bundles_count > 0)
        LOG(LOG_INFO, "node",
            "--machine, --format and --policy are not looked at: the code is in the snapshot that was restored");
    if (formation_identity(options->id, options->cluster, restored ? 0 : code_hash, node_random(), identity,
                           node->why) != STATUS_OK)
        return NODE_EXIT_CONFIG;
    identity->restored = restored ? formation_restored(file) : 0;
    if (save(node, identity, restored ? NULL : packed) != STATUS_OK)
        return node_refuse(node, NODE_EXIT_FAILED, node->disk->error(node->disk));
    return NODE_EXIT_OK;
}

static int open_identity(struct node *node, const struct node_options *options, struct identity *identity,
                         struct buffer *bundles)
{
    struct buffer packed = {0};
    uint64_t code_hash = options->bundles_count > 0 ? hash_bundles(options, &packed) : 0;
    enum status status = identity_load(node->disk, identity, node->why);
    int exit_code = NODE_EXIT_OK;
    if (status == STATUS_NOT_FOUND)
        exit_code = make_identity(node, options, identity, &packed, code_hash);
    else if (status != STATUS_OK ||
             formation_check(identity, options->id, options->cluster, code_hash, node->why) != STATUS_OK)
        exit_code = NODE_EXIT_CONFIG;
    buffer_close(&packed);
    if (exit_code == NODE_EXIT_OK && identity->joined && identity->cluster_id == 0)
        exit_code =
            node_refuse(node, NODE_EXIT_CONFIG,
                        "this directory was made to join a cluster, and none has let it in yet: start it with "
                        "--join HOST:PORT");
    if (exit_code != NODE_EXIT_OK)
        return exit_code;
    status = storage_get_file(node->disk, REPLICA_BUNDLES_FILE, bundles);
    if (status == STATUS_IO)
        return node_refuse(node, NODE_EXIT_FAILED, node->disk->error(node->disk));
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return node_refuse(node, NODE_EXIT_CONFIG, REPLICA_BUNDLES_DAMAGED);
    return NODE_EXIT_OK;
}

static int open_storage(struct node *node, const struct node_options *options)
{
    const struct storage_options how = {.segment_bytes = options->segment_bytes, .seed = node_random()};
    enum status status = storage_open(node->disk, &how, &node->storage, node->why);
    if (status != STATUS_OK)
        return status == STATUS_CORRUPT || status == STATUS_UNSUPPORTED ? NODE_EXIT_CONFIG : NODE_EXIT_FAILED;
    if (storage_was_torn(node->storage))
        LOG(LOG_INFO, "log", "the last write was cut short by a crash; it was never acknowledged, and is gone");
    return NODE_EXIT_OK;
}

/* What is there: the newest snapshot, read whole, and the log that goes with it. */
static int open_state(struct node *node, const struct node_options *options, struct replica_recovered *recovered)
{
    const struct machine_options how = {.lua_bytes_max = options->lua_bytes_max};
    int exit_code = open_storage(node, options);
    if (exit_code != NODE_EXIT_OK)
        return exit_code;
    enum status status = disk_posix_open(options->data, false, false, &node->snapshot_disk, node->why);
    if (status == STATUS_OK)
        status = disk_posix_open(options->data, false, false, &node->transfer_disk, node->why);
    if (status == STATUS_OK) {
        struct snapshot_progress progress = {0};
        struct teller *teller = teller_start(TELLER_LOG, "reading the snapshot", &progress);
        status = replica_recover(node->disk, node->storage, &how, &progress, recovered, node->why);
        teller_stop(teller);
    }
    if (status == STATUS_OK)
        return NODE_EXIT_OK;
    return status == STATUS_IO || status == STATUS_NO_SPACE ? NODE_EXIT_FAILED : NODE_EXIT_CONFIG;
}

static int listen_here(struct node *node, const struct node_options *options)
{
    return listener_open(node->net, options->listen, node_accepted, node, &node->listener, node->why) == STATUS_OK
               ? NODE_EXIT_OK
               : NODE_EXIT_CONFIG;
}

/* On a first start the port comes first: a refused one leaves no identity behind. Else the state does, for reading it may take
 * long, and whoever connects wants answers. Nothing is accepted before the loop runs. */
int node_open(struct node *node, const struct node_options *options, struct identity *identity,
              struct buffer *bundles, struct replica_recovered *recovered)
{
    struct buffer ignored = {0};
    bool first = identity_load(node->disk, identity, &ignored) == STATUS_NOT_FOUND;
    buffer_close(&ignored);
    int exit_code = first ? listen_here(node, options) : NODE_EXIT_OK;
    if (exit_code == NODE_EXIT_OK)
        exit_code = open_identity(node, options, identity, bundles);
    if (exit_code == NODE_EXIT_OK)
        exit_code = open_state(node, options, recovered);
    if (exit_code == NODE_EXIT_OK && !first)
        exit_code = listen_here(node, options);
    return exit_code;
}
