/* sim/swarm_members.c - churn: nodes of a seed join, leave, are promoted, demoted, replaced, lose their disks for good and come back as others.
 * See sim/swarm.h.
 *
 * Somebody plays operator at odd times, from what the leader's node says of its members, and supervisor of the nodes that join. In seeds with
 * a policy that decides, too. What a cluster cannot bear is not done to it: a voter's disk is lost only where the others make a majority
 * without it, and until it is replaced nothing is asked that would need it.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "sim/swarm_private.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { STEP_MS = 250, REQUEST_MS = 1500, UNSURE_MS = 6000, NO_REQUEST = UINT32_MAX };

static const char operators_door[] = "tidelock.members_change";

/* --- what there is ---------------------------------------------------------------------------------------------------------- */

/* Of the leader, as it is known at its node; false: nobody leads. */
static bool look(struct swarm *swarm, struct members *members, bool *pending)
{
    uint32_t leader = replica_world_leader(swarm->world);
    return leader != REPLICA_WORLD_NOBODY && replica_world_members(swarm->world, leader, members, pending);
}

static uint32_t node_of(const struct swarm *swarm, node_id id)
{
    for (uint32_t i = 0; i < swarm->field.nodes; i++)
        if (swarm->churn.slots[i].id == id)
            return i;
    return REPLICA_WORLD_NOBODY;
}

static bool is_dead(const struct swarm *swarm, node_id id)
{
    return node_of(swarm, id) == REPLICA_WORLD_NOBODY;
}

static size_t dead_of(const struct swarm *swarm, const struct members *members)
{
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++)
        count += is_dead(swarm, members->list[i].id);
    return count;
}

static size_t count_voters(const struct members *members)
{
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++)
        count += (members->list[i].roles & MEMBER_VOTER) != 0;
    return count;
}

bool swarm_is_member(struct swarm *swarm, uint32_t node)
{
    struct members *members = &swarm->churn.members;
    bool pending = false;
    if (swarm->options.churn == 0)
        return true;
    return swarm->churn.slots[node].in && look(swarm, members, &pending) &&
           members_find(members, swarm->churn.slots[node].id) != NULL;
}

/* --- requests --------------------------------------------------------------------------------------------------------------- */

static uint32_t ask(struct swarm *swarm, const char *name, struct buffer *args)
{
    const uint32_t node = (uint32_t)prng_below(&swarm->churn.prng, swarm->field.nodes);
    struct request request = {
        .name = slice_text(name), .args = buffer_slice(args), .timeout_ms = REQUEST_MS, .forward = true};
    uint32_t number = NO_REQUEST;
    if (swarm_is_up(swarm, node))
        number = replica_world_ask(swarm->world, node, &request);
    buffer_close(args);
    return number;
}

static void pack_change(struct buffer *out, const char *op, node_id id, node_id with, const char *address)
{
    pack_map(out, 4);
    pack_text(out, slice_text("address"));
    pack_text(out, slice_text(address));
    pack_text(out, slice_text("id"));
    pack_u64(out, id);
    pack_text(out, slice_text("op"));
    pack_text(out, slice_text(op));
    pack_text(out, slice_text("with"));
    pack_u64(out, with);
}

static void pack_options(struct buffer *out, bool force)
{
    pack_map(out, 1);
    pack_text(out, slice_text("force"));
    pack_boolean(out, force);
}

static void ask_change(struct swarm *swarm, const char *op, node_id id, node_id with, const char *address,
                       bool force)
{
    struct buffer args = {0};
    pack_array(&args, 2);
    pack_array(&args, 1);
    pack_change(&args, op, id, with, address);
    pack_options(&args, force);
    swarm->churn.request = ask(swarm, operators_door, &args);
    swarm->churn.asked++;
}

/* One joint change of two members. */
static void ask_two(struct swarm *swarm, const char *op, node_id id, const char *second, node_id other)
{
    struct buffer args = {0};
    pack_array(&args, 2);
    pack_array(&args, 2);
    pack_change(&args, op, id, 0, "");
    pack_change(&args, second, other, 0, "");
    pack_options(&args, false);
    swarm->churn.request = ask(swarm, operators_door, &args);
    swarm->churn.asked++;
}

static void address_of(uint32_t node, char address[REPLICA_WORLD_ADDRESS_BYTES])
{
    replica_world_address(node, address);
}

static void ask_to_join(struct swarm *swarm, uint32_t node)
{
    struct churn_slot *slot = &swarm->churn.slots[node];
    struct buffer args = {0};
    char address[REPLICA_WORLD_ADDRESS_BYTES];
    const uint64_t incarnation = replica_world_joiner(swarm->world, node, 0);
    if (incarnation == 0)
        return; /* its disk is at fault: again, later */
    address_of(node, address);
    pack_array(&args, 1);
    pack_map(&args, 4);
    pack_text(&args, slice_text("address"));
    pack_text(&args, slice_text(address));
    pack_text(&args, slice_text("id"));
    pack_u64(&args, slot->id);
    pack_text(&args, slice_text("incarnation"));
    pack_u64(&args, incarnation);
    pack_text(&args, slice_text("zone"));
    pack_text(&args, slice_text(node % 2 == 0 ? "a" : "b"));
    slot->request = ask(swarm, "tidelock.join", &args);
}

static bool ended(struct swarm *swarm, uint32_t request, struct replica_world_reply *reply)
{
    *reply = replica_world_reply(swarm->world, request);
    return reply->replies > 0 || reply->node_died;
}

/* --- nodes that join -------------------------------------------------------------------------------------------------------- */

static uint64_t cluster_id(const struct swarm *swarm)
{
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        struct replica_world_status status;
        replica_world_status(swarm->world, i, &status);
        if (status.up && status.raft)
            return status.cluster_id;
    }
    return 0;
}

/* A directory that belongs to nobody: asks, and starts when it was let in. */
static void step_joiner(struct swarm *swarm, uint32_t node)
{
    struct churn_slot *slot = &swarm->churn.slots[node];
    struct replica_world_reply reply;
    if (slot->request == NO_REQUEST) {
        ask_to_join(swarm, node);
        return;
    }
    if (!ended(swarm, slot->request, &reply))
        return;
    slot->request = NO_REQUEST;
    const uint64_t id = cluster_id(swarm);
    if (reply.replies > 0 && reply.ok && id != 0 && replica_world_joiner(swarm->world, node, id) != 0) {
        slot->in = true;
        swarm->churn.joined++;
        (void)replica_world_start(swarm->world, node);
        return;
    }
    char address[REPLICA_WORLD_ADDRESS_BYTES];
    address_of(node, address);
    if (reply.replies > 0 && !reply.ok && swarm->churn.request == NO_REQUEST)
        ask_change(swarm, "add", slot->id, 0, address, false); /* nobody invited it */
}

/* Its directory is lost, and the node is another from now on. */
static void make_anew(struct swarm *swarm, uint32_t node)
{
    struct churn_slot *slot = &swarm->churn.slots[node];
    replica_world_crash(swarm->world, node);
    replica_world_wipe(swarm->world, node);
    *slot = (struct churn_slot){.id = ++swarm->churn.last_id, .request = NO_REQUEST};
    replica_world_flags(swarm->world, node, slot->id, "", swarm->options.bundles);
    swarm->field.starved[node] = false;
}

/* Who ended because it was told that it is no member: it must be so, wherever more is committed than it knew. */
static void look_at_removed(struct swarm *swarm, uint32_t node)
{
    struct replica_world_status status;
    struct members *members = &swarm->churn.members;
    bool pending = false;
    replica_world_status(swarm->world, node, &status);
    const char *why = replica_world_fatal(swarm->world, node);
    if (status.up || (strstr(why, "was removed") == NULL && strstr(why, "no such member") == NULL &&
                      strstr(why, "not the one this id") == NULL))
        return;
    if (!look(swarm, members, &pending) || pending)
        return;
    const struct member *member = members_find(members, swarm->churn.slots[node].id);
    if (member != NULL && replica_world_joiner(swarm->world, node, 0) == member->incarnation) {
        char what[1200];
        snprintf(what, sizeof what, "node %llu, a member of configuration %llu, was told that it is none: %s",
                 (unsigned long long)member->id, (unsigned long long)members->id, why);
        swarm_broke(swarm, what);
        return;
    }
    swarm->churn.removed++;
    make_anew(swarm, node);
}

/* --- the operator ----------------------------------------------------------------------------------------------------------- */

static const struct member *pick(struct swarm *swarm, const struct members *members, uint8_t roles)
{
    const struct member *list[RAFT_MEMBERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++)
        if ((members->list[i].roles & roles) != 0)
            list[count++] = &members->list[i];
    return count > 0 ? list[prng_below(&swarm->churn.prng, count)] : NULL;
}

static const struct member *pick_dead(const struct swarm *swarm, const struct members *members)
{
    for (size_t i = 0; i < members->count; i++)
        if (is_dead(swarm, members->list[i].id))
            return &members->list[i];
    return NULL;
}

/* The cluster is fine without this voter; or it never votes. */
static bool may_lose(struct swarm *swarm, const struct members *members, bool pending, const struct member *member)
{
    const size_t voters = count_voters(members);
    return !pending && dead_of(swarm, members) == 0 && swarm_now(swarm) >= swarm->churn.unsure_until &&
           ((member->roles & MEMBER_VOTER) == 0 ? voters >= 2 : voters >= 3);
}

static void operate(struct swarm *swarm)
{
    struct members *members = &swarm->churn.members;
    struct prng *prng = &swarm->churn.prng;
    bool pending = false;
    if (!look(swarm, members, &pending))
        return;
    const struct member *dead = pick_dead(swarm, members);
    const struct member *learner = pick(swarm, members, MEMBER_LEARNER);
    const struct member *voter = pick(swarm, members, MEMBER_VOTER);
    const struct member *any = &members->list[prng_below(prng, members->count)];
    const bool force = prng_below(prng, 16) == 0 && dead == NULL && count_voters(members) > 3;
    switch (prng_below(prng, dead != NULL ? 4 : 9)) {
    case 0:
        if (learner != NULL && !is_dead(swarm, learner->id))
            ask_change(swarm, "promote", learner->id, 0, "", false);
        return;
    case 1:
        ask_change(swarm, "transfer", voter != NULL ? voter->id : 1, 0, "", false);
        return;
    case 2:
    case 3:
        if (dead != NULL)
            ask_change(swarm, "remove", dead->id, 0, "", false);
        else if (learner != NULL && voter != NULL)
            ask_change(swarm, "replace", voter->id, learner->id, "", false);
        return;
    case 4:
        ask_change(swarm, "demote", voter != NULL ? voter->id : 1, 0, "", force);
        return;
    case 5:
        ask_change(swarm, "remove", any->id, 0, "", force);
        return;
    case 6:
        if (learner != NULL && voter != NULL)
            ask_two(swarm, "promote", learner->id, prng_below(prng, 2) == 0 ? "demote" : "remove", voter->id);
        return;
    default: {
        const uint32_t node = node_of(swarm, any->id);
        if (node != REPLICA_WORLD_NOBODY && may_lose(swarm, members, pending, any)) {
            swarm->churn.lost++;
            make_anew(swarm, node);
        }
        return;
    }
    }
}

/* --- the turn --------------------------------------------------------------------------------------------------------------- */

void swarm_members_begin(struct swarm *swarm, uint32_t founders)
{
    struct churn *churn = &swarm->churn;
    prng_seed(&churn->prng, swarm->options.seed * 31 + 7);
    churn->request = NO_REQUEST;
    churn->last_id = swarm->field.nodes;
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        churn->slots[i] = (struct churn_slot){.id = i + 1, .in = i < founders, .request = NO_REQUEST};
        if (i >= founders)
            replica_world_flags(swarm->world, i, i + 1, "", swarm->options.bundles);
    }
}

bool swarm_may_start(const struct swarm *swarm, uint32_t node)
{
    return swarm->options.churn == 0 || swarm->churn.slots[node].in;
}

void swarm_members_step(struct swarm *swarm)
{
    struct churn *churn = &swarm->churn;
    struct replica_world_reply reply;
    churn->next_at = swarm_now(swarm) + 1 + prng_below(&churn->prng, 2 * STEP_MS);
    for (uint32_t i = 0; i < swarm->field.nodes && swarm->report->broken == NULL; i++) {
        if (churn->slots[i].in)
            look_at_removed(swarm, i);
        else if (prng_below(&churn->prng, 4) == 0)
            step_joiner(swarm, i);
    }
    if (churn->request != NO_REQUEST && ended(swarm, churn->request, &reply)) {
        churn->request = NO_REQUEST;
        churn->granted += reply.ok;
        if (!reply.ok && !reply.definite)
            churn->unsure_until = swarm_now(swarm) + UNSURE_MS;
    }
    if (churn->request == NO_REQUEST && swarm->report->broken == NULL)
        operate(swarm);
}
