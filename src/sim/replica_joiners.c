/* sim/replica_joiners.c - nodes of a world that join a cluster which others formed. See sim/replica_world.h. */
#include <stdio.h>

#include "base/check.h"
#include "sim/replica_world_private.h"
#include "sim/sim_disk.h"

void replica_world_address(uint32_t node, char address[REPLICA_WORLD_ADDRESS_BYTES])
{
    snprintf(address, REPLICA_WORLD_ADDRESS_BYTES, "h:730%u", node);
}

bool replica_world_members(const struct replica_world *world, uint32_t node, struct members *members, bool *pending)
{
    const struct replica *replica = world->nodes[node].replica;
    return replica != NULL && replica_members(replica, members, pending);
}

uint64_t replica_world_joiner(struct replica_world *world, uint32_t number, uint64_t cluster_id)
{
    struct world_node *node = &world->nodes[number];
    struct identity identity;
    struct buffer why = {0};
    char address[REPLICA_WORLD_ADDRESS_BYTES];
    CHECK(node->replica == NULL);
    replica_world_address(number, address);
    enum status status = identity_load(node->disk, &identity, &why);
    buffer_close(&why);
    if (status == STATUS_NOT_FOUND)
        status = formation_joiner(node->id, address, prng_next(&world->prng), &identity, &why);
    if (status == STATUS_OK && cluster_id != 0 && identity.joined)
        identity.cluster_id = cluster_id;
    if (status == STATUS_OK)
        status = identity_save(node->disk, &identity);
    if (status != STATUS_OK)
        sim_disk_restart(node->disk, prng_next(&world->prng));
    buffer_close(&why);
    return status == STATUS_OK ? identity.incarnation : 0;
}
