/* sim/stage_snapshot.c - snapshots on a stage (§7): made at once, offered as by the core, installed when ordered. See
 * sim/stage.h. */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/stage_private.h"

bool stage_compact(struct stage *stage, node_id id, raft_index index, raft_index base)
{
    struct actor *at = stage_actor(stage, id);
    struct raft_status status;
    CHECK(at->core.raft != NULL);
    CHECK(base <= index);
    raft_get_status(at->core.raft, &status);
    if (index > status.commit_index || index > status.durable_index)
        return false;
    core_node_compact(&at->core, index, base);
    struct raft_event event = {.type = RAFT_EVENT_COMPACTED, .compacted = {.index = base}};
    stage_step(stage, id, &event);
    stage_settle(stage, id);
    return true;
}

void stage_forget_offer(struct actor *actor)
{
    mem_free(actor->offer.terms);
    actor->offer = (struct core_snapshot){0};
}

void stage_note_offer(struct stage *stage, node_id id, const struct raft_message *message)
{
    struct actor *at = stage_actor(stage, id);
    if (!at->core.effects.snapshot_offered)
        return;
    stage_forget_offer(at);
    if (message->from > stage->options.nodes)
        return; /* made by hand, of somebody who has none */
    const struct core_node *leader = stage_node(stage, message->from);
    raft_index first = message->install_snapshot.last_included_index;
    raft_index last = leader->raft != NULL ? leader->effects.commit_index : leader->disk_snapshot;
    if (first > last)
        return;
    at->offer = core_node_snapshot(leader, last);
    at->offer.terms[first] = message->install_snapshot.last_included_term;
    at->offer_from = first;
}

bool stage_offered(const struct stage *stage, node_id id, raft_index *first, raft_index *last)
{
    CHECK(id >= 1 && id <= stage->options.nodes);
    const struct actor *at = &stage->actors[id - 1];
    *first = at->offer_from;
    *last = at->offer.index;
    return at->offer.index != 0;
}

bool stage_install(struct stage *stage, node_id id, raft_index index)
{
    struct actor *at = stage_actor(stage, id);
    index = index == 0 ? at->offer_from : index;
    CHECK(at->offer.index != 0);
    CHECK(index >= at->offer_from && index <= at->offer.index);
    const struct raft_configuration *configuration = core_members_as_of(&stage->members, at->offer.terms, index);
    struct raft_event event = {
        .type = RAFT_EVENT_SNAPSHOT_READY,
        .snapshot_ready = {.index = index, .term = at->offer.terms[index], .configuration = configuration}};
    at->install = (struct core_snapshot){.index = index, .terms = at->offer.terms};
    stage_step(stage, id, &event);
    at->install = (struct core_snapshot){0};
    bool taken = at->core.effects.snapshot_taken;
    stage_settle(stage, id);
    return taken;
}
