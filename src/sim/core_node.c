/* sim/core_node.c - see sim/core_node.h. */
#include "sim/core_node.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

void core_node_init(struct core_node *node, struct core_members *members)
{
    memset(node, 0, sizeof *node);
    node->members = members;
    node->terms = mem_zalloc(CORE_LOG_MAX, sizeof *node->terms);
    node->disk_terms = mem_zalloc(CORE_LOG_MAX, sizeof *node->disk_terms);
}

void core_node_close(struct core_node *node)
{
    core_node_crash(node);
    mem_free(node->terms);
    mem_free(node->disk_terms);
}

/* The snapshot's configuration, and those of the entries after it. */
static void restore_configurations(struct core_node *node)
{
    const struct raft_configuration *configuration = core_members_as_of(node->members, node->terms, node->base);
    if (configuration != NULL)
        raft_restore_configuration(node->raft, configuration);
    for (raft_index index = node->base + 1; index <= node->last; index++) {
        configuration = core_members_at(node->members, index, node->terms[index]);
        if (configuration != NULL)
            raft_restore_configuration(node->raft, configuration);
    }
}

void core_node_start(struct core_node *node, const struct raft_options *options, raft_time now,
                     raft_index committed)
{
    CHECK(node->raft == NULL);
    node->raft = raft_new(options);
    node->persisted = 0;
    node->base = node->disk_base;
    node->last = node->disk_last;
    memcpy(node->terms, node->disk_terms, (size_t)(node->disk_last + 1) * sizeof *node->terms);
    raft_restore_vote(node->raft, node->disk_term, node->disk_vote);
    if (node->base > 0)
        raft_restore_base(node->raft, node->base, node->terms[node->base]);
    for (raft_index index = node->base + 1; index <= node->last; index++)
        raft_restore_entries(node->raft, index, index, node->terms[index]);
    restore_configurations(node);
    raft_start(node->raft, now, committed > node->disk_snapshot ? committed : node->disk_snapshot, &node->effects);
}

void core_node_crash(struct core_node *node)
{
    if (node->raft != NULL)
        raft_free(node->raft);
    node->raft = NULL;
    memset(&node->effects, 0, sizeof node->effects);
}

static raft_term *copy_of(const raft_term *terms, size_t count)
{
    raft_term *copy = mem_alloc(count * sizeof *copy);
    memcpy(copy, terms, count * sizeof *copy);
    return copy;
}

static void take_base(struct core_node *node, const struct core_snapshot *snapshot, struct core_write *out)
{
    raft_index base = out->write.base_index;
    CHECK(snapshot != NULL);
    CHECK_EQ(snapshot->index, base);
    memcpy(node->terms + 1, snapshot->terms + 1, (size_t)base * sizeof *node->terms);
    node->base = base;
    if (out->write.reset)
        node->last = base;
    out->terms = copy_of(node->terms + 1, (size_t)base);
}

bool core_node_take_write(struct core_node *node, const struct core_snapshot *snapshot, struct core_write *out)
{
    const struct raft_write *write = &node->effects.write;
    *out = (struct core_write){.write = *write};
    if (write->number == 0)
        return false;
    if (write->cut_from != 0)
        node->last = write->cut_from - 1;
    if (write->base_index != 0)
        take_base(node, snapshot, out);
    if (write->source == RAFT_APPEND_NONE)
        return true;
    CHECK_EQ(write->first, node->last + 1);
    CHECK(write->last < CORE_LOG_MAX);
    for (raft_index index = write->first; index <= write->last; index++)
        node->terms[index] = raft_term_at(node->raft, index);
    node->last = write->last;
    if (write->source == RAFT_APPEND_CONFIGURATION) {
        struct raft_configuration configuration;
        raft_get_configuration(node->raft, &configuration);
        CHECK_EQ(configuration.id, write->first);
        core_members_add(node->members, write->append_term, &configuration);
    }
    out->terms = copy_of(node->terms + write->first, (size_t)(write->last - write->first + 1));
    return true;
}

void core_node_written(struct core_node *node, const struct core_write *done)
{
    const struct raft_write *write = &done->write;
    if (write->vote) {
        node->disk_term = write->term;
        node->disk_vote = write->voted_for;
    }
    if (write->cut_from != 0)
        node->disk_last = write->cut_from - 1;
    if (write->base_index != 0) {
        memcpy(node->disk_terms + 1, done->terms, (size_t)write->base_index * sizeof(raft_term));
        node->disk_base = write->base_index;
        node->disk_snapshot = write->base_index;
        if (write->reset)
            node->disk_last = write->base_index;
    }
    if (write->source != RAFT_APPEND_NONE) {
        CHECK_EQ(write->first, node->disk_last + 1);
        memcpy(node->disk_terms + write->first, done->terms,
               (size_t)(write->last - write->first + 1) * sizeof(raft_term));
        node->disk_last = write->last;
    }
}

void core_node_compact(struct core_node *node, raft_index index, raft_index base)
{
    CHECK(base <= index);
    CHECK(index <= node->disk_last);
    if (index > node->disk_snapshot)
        node->disk_snapshot = index;
    if (base > node->disk_base)
        node->disk_base = base;
    if (base > node->base)
        node->base = base;
}

struct core_snapshot core_node_snapshot(const struct core_node *node, raft_index index)
{
    CHECK(index <= node->last);
    return (struct core_snapshot){.index = index, .terms = copy_of(node->terms, (size_t)index + 1)};
}

size_t core_node_runs(const struct core_node *node, struct raft_append_entries *append, struct raft_run *runs,
                      size_t runs_max)
{
    size_t count = 0;
    for (raft_index index = append->prev_log_index + 1; index <= append->last_index; index++) {
        if (count > 0 && runs[count - 1].term == node->terms[index])
            continue;
        if (count == runs_max) {
            append->last_index = index - 1;
            break;
        }
        runs[count++] = (struct raft_run){.first = index, .term = node->terms[index]};
    }
    return count;
}
