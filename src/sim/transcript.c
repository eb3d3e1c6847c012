/* sim/transcript.c - see sim/transcript.h. */
#include "sim/transcript.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wire/json.h"
#include "wire/pack.h"

/* --- lines ----------------------------------------------------------------------------------------------------------------- */

static void add(struct buffer *line, const char *text)
{
    buffer_append(line, text, strlen(text));
}

static void add_number(struct buffer *line, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    add(line, digits);
}

static void add_name(struct buffer *line, const char *name)
{
    add(line, ",\"");
    add(line, name);
    add(line, "\":");
}

bool transcript_begin(struct transcript *transcript, uint64_t at_ms, node_id node, const char *kind)
{
    if (transcript->sink.line == NULL)
        return false;
    buffer_clear(&transcript->line);
    add(&transcript->line, "{\"at\":");
    add_number(&transcript->line, at_ms);
    if (node != 0)
        transcript_number(transcript, "node", node);
    transcript_text(transcript, "kind", kind);
    return true;
}

void transcript_number(struct transcript *transcript, const char *name, uint64_t number)
{
    add_name(&transcript->line, name);
    add_number(&transcript->line, number);
}

void transcript_boolean(struct transcript *transcript, const char *name, bool value)
{
    add_name(&transcript->line, name);
    add(&transcript->line, value ? "true" : "false");
}

void transcript_text(struct transcript *transcript, const char *name, const char *text)
{
    struct buffer packed = {0};
    pack_text(&packed, slice_text(text));
    transcript_packed(transcript, name, buffer_slice(&packed));
    buffer_close(&packed);
}

void transcript_packed(struct transcript *transcript, const char *name, struct slice packed)
{
    add_name(&transcript->line, name);
    if (json_write(&transcript->line, packed) != STATUS_OK)
        add(&transcript->line, "null");
}

void transcript_end(struct transcript *transcript)
{
    buffer_append(&transcript->line, "}", 2);
    transcript->sink.line(transcript->sink.context, (const char *)transcript->line.data);
}

void transcript_close(struct transcript *transcript)
{
    buffer_close(&transcript->line);
    transcript->sink.line = NULL;
}

void transcript_gather(void *buffer, const char *line)
{
    buffer_append(buffer, line, strlen(line));
    buffer_append_byte(buffer, '\n');
}

/* --- messages ---------------------------------------------------------------------------------------------------------------- */

static void add_raft(struct transcript *t, const struct raft_message *message)
{
    static const char *const names[][2] = {[RAFT_REQUEST_VOTE] = {"RequestVote", "PreVote"},
                                           [RAFT_VOTE_RESPONSE] = {"VoteReply", "PreVoteReply"},
                                           [RAFT_APPEND_ENTRIES] = {"AppendEntries", "AppendEntries"},
                                           [RAFT_APPEND_RESPONSE] = {"AppendReply", "AppendReply"},
                                           [RAFT_INSTALL_SNAPSHOT] = {"InstallSnapshot", "InstallSnapshot"},
                                           [RAFT_TIMEOUT_NOW] = {"TimeoutNow", "TimeoutNow"}};
    bool pre_vote = (message->type == RAFT_REQUEST_VOTE && message->request_vote.pre_vote) ||
                    (message->type == RAFT_VOTE_RESPONSE && message->vote_response.pre_vote);
    transcript_text(t, "message", names[message->type][pre_vote]);
    transcript_number(t, "term", message->term);
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        transcript_number(t, "lastLogIndex", message->request_vote.last_log_index);
        transcript_number(t, "lastLogTerm", message->request_vote.last_log_term);
        break;
    case RAFT_VOTE_RESPONSE:
        transcript_boolean(t, "voteGranted", message->vote_response.granted);
        break;
    case RAFT_APPEND_ENTRIES:
        transcript_number(t, "prevLogIndex", message->append_entries.prev_log_index);
        transcript_number(t, "prevLogTerm", message->append_entries.prev_log_term);
        transcript_number(t, "entries",
                          message->append_entries.last_index - message->append_entries.prev_log_index);
        transcript_number(t, "leaderCommit", message->append_entries.leader_commit);
        transcript_number(t, "round", message->append_entries.round);
        transcript_number(t, "epoch", message->append_entries.epoch);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        transcript_number(t, "lastIncludedIndex", message->install_snapshot.last_included_index);
        transcript_number(t, "lastIncludedTerm", message->install_snapshot.last_included_term);
        transcript_number(t, "epoch", message->install_snapshot.epoch);
        break;
    default:
        transcript_boolean(t, "success", message->append_response.success);
        if (message->append_response.success) {
            transcript_number(t, "matchIndex", message->append_response.match_index);
        } else {
            transcript_number(t, "rejectIndex", message->append_response.reject_index);
            transcript_number(t, "hintIndex", message->append_response.hint_index);
            transcript_number(t, "hintTerm", message->append_response.hint_term);
        }
        transcript_number(t, "round", message->append_response.round);
        transcript_number(t, "epoch", message->append_response.epoch);
        break;
    }
}

static void add_slice(struct transcript *t, const char *name, struct slice text)
{
    struct buffer packed = {0};
    pack_text(&packed, text);
    transcript_packed(t, name, buffer_slice(&packed));
    buffer_close(&packed);
}

/* All 64 bits of it matter: more than many readers of JSON keep of a number. */
static void add_id(struct transcript *t, uint64_t id)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, id);
    transcript_text(t, "id", digits);
}

void transcript_message(struct transcript *t, const struct message *message)
{
    switch (message->type) {
    case MESSAGE_RAFT:
        add_raft(t, &message->raft);
        break;
    case MESSAGE_HELLO:
        transcript_text(t, "message", "Hello");
        transcript_number(t, "formation", message->hello.formation);
        transcript_number(t, "last", message->hello.last_index);
        break;
    case MESSAGE_GOODBYE:
        transcript_text(t, "message", "Goodbye");
        add_slice(t, "why", message->goodbye.text);
        break;
    case MESSAGE_FORWARD:
        transcript_text(t, "message", "Forward");
        add_id(t, message->forward.id);
        add_slice(t, "name", message->forward.name);
        transcript_packed(t, "args", message->forward.args);
        break;
    case MESSAGE_FORWARDED:
        transcript_text(t, "message", "Forwarded");
        add_id(t, message->forwarded.id);
        transcript_boolean(t, "ok", message->forwarded.ok);
        transcript_boolean(t, "definite", message->forwarded.definite);
        transcript_number(t, "index", message->forwarded.index);
        transcript_packed(t, "value", message->forwarded.value);
        break;
    case MESSAGE_SNAPSHOT_PULL:
        transcript_text(t, "message", "Pull");
        transcript_number(t, "index", message->pull.index);
        transcript_number(t, "offset", message->pull.offset);
        transcript_boolean(t, "again", message->pull.again);
        transcript_boolean(t, "bad", message->pull.bad);
        break;
    case MESSAGE_SNAPSHOT_PIECE:
        transcript_text(t, "message", "Piece");
        transcript_number(t, "index", message->piece.index);
        transcript_number(t, "offset", message->piece.offset);
        transcript_number(t, "bytes", message->records.size);
        break;
    case MESSAGE_COMPARE:
        transcript_text(t, "message", "Compare");
        transcript_number(t, "atLeast", message->compare.at_least);
        transcript_boolean(t, "end", message->compare.end);
        break;
    case MESSAGE_COMPARED:
        transcript_text(t, "message", "Compared");
        transcript_number(t, "index", message->compared.index);
        break;
    case MESSAGE_REBUILD:
        transcript_text(t, "message", "Rebuild");
        transcript_number(t, "need", message->rebuild.need);
        transcript_number(t, "index", message->rebuild.file.index);
        break;
    case MESSAGE_READ:
    case MESSAGE_READ_AT:
        transcript_text(t, "message", message->type == MESSAGE_READ ? "Read" : "ReadAt");
        add_id(t, message->read.id);
        transcript_number(t, "index", message->read.index);
        break;
    }
}
