/* sim/replica_trace.c - what a world of replicas tells its transcript (sim/transcript.h). See sim/replica_world.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "sim/replica_world_private.h"
#include "wire/pack.h"

void replica_world_trace(struct replica_world *world, struct trace_sink sink)
{
    world->transcript.sink = sink;
}

struct transcript *replica_world_transcript(struct replica_world *world)
{
    return &world->transcript;
}

bool world_tells(struct world_node *node, const char *kind)
{
    return transcript_begin(&node->world->transcript, node->world->now, node->number + 1, kind);
}

/* --- lives ------------------------------------------------------------------------------------------------------------------ */

void world_trace_start(struct world_node *node, bool started)
{
    struct transcript *t = &node->world->transcript;
    memset(&node->told, 0, sizeof node->told);
    if (!world_tells(node, started ? "start" : "refuse"))
        return;
    if (!started)
        transcript_text(t, "why", node->fatal);
    transcript_end(t);
}

void world_trace_end(struct world_node *node)
{
    struct transcript *t = &node->world->transcript;
    if (!world_tells(node, node->dying ? "fatal" : node->stopping ? "stopped" : "crash"))
        return;
    if (node->dying) {
        transcript_number(t, "code", (uint64_t)node->fatal_code);
        transcript_text(t, "why", node->fatal);
    }
    transcript_end(t);
}

/* What its core says of itself, where that is something new. */
void world_trace_state(struct world_node *node)
{
    struct transcript *t = &node->world->transcript;
    const struct raft *raft = replica_raft(node->replica);
    if (t->sink.line == NULL || raft == NULL)
        return;
    struct raft_status now;
    raft_get_status(raft, &now);
    struct world_told *told = &node->told;
    if ((!told->any || told->role != now.role || told->term != now.current_term ||
         told->voted_for != now.voted_for || told->leader != now.leader) &&
        world_tells(node, "state")) {
        transcript_text(t, "role", raft_role_name(now.role));
        transcript_number(t, "term", now.current_term);
        transcript_number(t, "votedFor", now.voted_for);
        transcript_number(t, "leader", now.leader);
        transcript_end(t);
    }
    if (told->commit != now.commit_index && world_tells(node, "commit")) {
        transcript_number(t, "index", now.commit_index);
        transcript_end(t);
    }
    *told = (struct world_told){.any = true,
                                .role = now.role,
                                .term = now.current_term,
                                .voted_for = now.voted_for,
                                .leader = now.leader,
                                .commit = now.commit_index};
}

/* --- disks -------------------------------------------------------------------------------------------------------------------- */

/* What a write is to make durable. */
static void tell_write(struct transcript *t, const struct log_job *job)
{
    if (job->write.vote) {
        transcript_number(t, "term", job->write.term);
        transcript_number(t, "votedFor", job->write.voted_for);
    }
    if (job->write.cut_from != 0)
        transcript_number(t, "cutFrom", job->write.cut_from);
    if (job->write.reset)
        transcript_number(t, "resetTo", job->write.base.index);
    if (job->publish != 0)
        transcript_number(t, "snapshot", job->publish);
    if (job->write.records_count > 0) {
        transcript_number(t, "first", job->write.first);
        transcript_number(t, "last", job->write.last);
    }
}

void world_trace_log_job(struct world_node *node, const struct log_job *job, bool ran)
{
    static const char *const names[] = {"write", "read", "identity", "mark", "compact"};
    static const char *const done[] = {"synced", "read", "synced", "marked", "compacted"};
    struct transcript *t = &node->world->transcript;
    if (t->sink.line == NULL || (!ran && job->type != LOG_JOB_WRITE))
        return;
    bool failed = ran && job->status != STATUS_OK;
    if (!world_tells(node, failed ? "failed" : ran ? done[job->type] : "write"))
        return;
    if (failed || job->type == LOG_JOB_IDENTITY)
        transcript_text(t, "what", names[job->type]);
    if (job->type == LOG_JOB_WRITE)
        transcript_number(t, "number", job->number);
    if (!ran)
        tell_write(t, job);
    if (job->type == LOG_JOB_COMPACT)
        transcript_number(t, "last", job->last);
    if (job->type == LOG_JOB_READ) {
        transcript_number(t, "first", job->first);
        transcript_number(t, "last", failed ? job->last : job->got);
    }
    if (failed)
        transcript_text(t, "why", job->why);
    transcript_end(t);
}

void world_trace_snapshot(struct world_node *node, const char *what, raft_index index)
{
    if (!world_tells(node, what))
        return;
    transcript_number(&node->world->transcript, "index", index);
    transcript_end(&node->world->transcript);
}

/* --- the machine ---------------------------------------------------------------------------------------------------------------- */

static const struct machine_result *result_at(const struct machine_job *job, raft_index index)
{
    for (size_t i = 0; i < job->results.count; i++)
        if (job->results.list[i].index == index)
            return &job->results.list[i];
    return NULL;
}

static void trace_entry(struct world_node *node, const struct machine_job *job, const struct entry *entry)
{
    struct transcript *t = &node->world->transcript;
    const struct machine_result *result = result_at(job, entry->index);
    struct pack_reader reader = pack_reader_make(entry->payload);
    struct slice name;
    if (!world_tells(node, "apply"))
        return;
    transcript_number(t, "index", entry->index);
    transcript_number(t, "term", entry->term);
    transcript_text(t, "entry", entry_kind_name(entry->kind));
    if (entry->kind == ENTRY_COMMAND && pack_skip(&reader, 1, &name) == STATUS_OK) {
        transcript_packed(t, "name", name);
        transcript_packed(t, "args", pack_rest(&reader));
    } else if (entry->kind == ENTRY_BATCH) {
        transcript_packed(t, "args", entry->payload);
    }
    if (result != NULL) {
        transcript_boolean(t, "ok", result->ok);
        transcript_packed(t, "value", slice_make(job->results.bytes.data + result->offset, result->size));
    }
    transcript_end(t);
}

void world_trace_applied(struct world_node *node, const struct machine_job *job)
{
    struct transcript *t = &node->world->transcript;
    char digest[40];
    struct slice rest = job->records;
    struct entry entry;
    if (t->sink.line == NULL)
        return;
    for (; rest.size > 0; rest.data += entry.size, rest.size -= entry.size) {
        CHECK(entry_peek(rest, &entry) == STATUS_OK);
        if (entry.index <= job->applied)
            trace_entry(node, job, &entry);
    }
    if (!world_tells(node, job->status.parked_at != 0 ? "parked" : "applied"))
        return;
    transcript_number(t, "index", job->applied);
    if (job->status.parked_at != 0)
        transcript_text(t, "why", job->status.parked_why);
    snprintf(digest, sizeof digest, "%016" PRIx64 "%016" PRIx64, job->status.digest.hi, job->status.digest.lo);
    transcript_text(t, "digest", digest);
    transcript_end(t);
}

/* --- messages -------------------------------------------------------------------------------------------------------------------- */

void world_trace_frames(struct world_node *node, const char *kind, uint32_t other, struct slice bytes)
{
    struct transcript *t = &node->world->transcript;
    struct message message;
    size_t used = 0;
    if (t->sink.line == NULL || bytes.size == 0)
        return;
    if (bytes.data[0] == MESSAGE_MARK && message_decode(bytes, &message, &used) != STATUS_OK)
        bytes = slice_make(bytes.data + 1, bytes.size - 1);
    while (bytes.size > 0 && message_decode(bytes, &message, &used) == STATUS_OK && world_tells(node, kind)) {
        if (other != REPLICA_WORLD_NOBODY)
            transcript_number(t, strcmp(kind, "receive") == 0 ? "from" : "to", other + 1);
        transcript_message(t, &message);
        transcript_end(t);
        used = used < bytes.size ? used : bytes.size; /* its records are sent from elsewhere */
        bytes = slice_make(bytes.data + used, bytes.size - used);
    }
}

/* --- clients ---------------------------------------------------------------------------------------------------------------------- */

void world_trace_request(struct world_node *node, uint32_t number, const struct request *request)
{
    struct transcript *t = &node->world->transcript;
    struct buffer name = {0};
    if (!world_tells(node, "request"))
        return;
    pack_text(&name, request->name);
    transcript_number(t, "request", number);
    transcript_packed(t, "name", buffer_slice(&name));
    transcript_packed(t, "args", request->args);
    transcript_number(t, "timeout", request->timeout_ms);
    transcript_text(t, "read", request_read_name(request->read));
    transcript_boolean(t, "forward", request->forward);
    transcript_end(t);
    buffer_close(&name);
}

void world_trace_reply(struct world_node *node, uint64_t number, const struct replica_reply *reply)
{
    struct transcript *t = &node->world->transcript;
    if (!world_tells(node, "reply"))
        return;
    transcript_number(t, "request", number);
    transcript_boolean(t, "ok", reply->ok);
    transcript_boolean(t, "definite", reply->definite);
    transcript_number(t, "index", reply->index);
    transcript_packed(t, "value", reply->value);
    transcript_end(t);
}
