/* wire/message.c - see wire/message.h. */
#include "wire/message.h"

#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "wire/pack.h"

static void store32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

/* --- bodies out ---------------------------------------------------------------------------------------------------- */

static void encode_hello(struct buffer *out, const struct message_hello *hello)
{
    pack_array(out, 16);
    pack_u64(out, hello->protocol_min);
    pack_u64(out, hello->protocol_max);
    pack_u64(out, hello->cluster_id);
    pack_u64(out, hello->from);
    pack_u64(out, hello->to);
    pack_u64(out, hello->incarnation);
    pack_u64(out, hello->formation);
    pack_u64(out, hello->line_hash);
    pack_u64(out, hello->code_hash);
    pack_u64(out, hello->set_hash);
    pack_u64(out, hello->fingerprint);
    pack_text(out, hello->address);
    pack_u64(out, hello->last_index);
    pack_boolean(out, hello->bulk);
    pack_u64(out, hello->restored);
    pack_u64(out, hello->configuration);
}

static void encode_hash(struct buffer *out, struct hash128 hash)
{
    pack_u64(out, hash.hi);
    pack_u64(out, hash.lo);
}

enum { DIGESTS_FIELDS = 5, KEY_BYTES = 8 * 1024 /* of a row, at most */ };

static uint32_t digests_fields(const struct message_digests *digests)
{
    return digests->asked != 0 || digests->index != 0 || digests->none ? DIGESTS_FIELDS : 0;
}

static void encode_digests(struct buffer *out, const struct message_digests *digests)
{
    if (digests_fields(digests) == 0)
        return;
    pack_u64(out, digests->asked);
    pack_u64(out, digests->index);
    encode_hash(out, digests->digest);
    pack_boolean(out, digests->none);
}

enum { SNAPSHOT_FIELDS = 6 };

static void encode_snapshot(struct buffer *out, const struct message_snapshot *file)
{
    pack_u64(out, file->index);
    pack_u64(out, file->term);
    pack_u64(out, file->bytes);
    encode_hash(out, file->hash);
    pack_u64(out, file->head_hash);
}

static void encode_raft_head(struct buffer *out, uint32_t count, const struct message *message)
{
    const struct raft_message *raft = &message->raft;
    pack_array(out, count + 5);
    pack_u64(out, raft->type);
    pack_u64(out, raft->from);
    pack_u64(out, raft->to);
    pack_u64(out, raft->term);
    pack_u64(out, message->wall_ms);
}

static void encode_raft(struct buffer *out, const struct message *message)
{
    const struct raft_message *raft = &message->raft;
    switch (raft->type) {
    case RAFT_REQUEST_VOTE:
        encode_raft_head(out, 4, message);
        pack_u64(out, raft->request_vote.last_log_index);
        pack_u64(out, raft->request_vote.last_log_term);
        pack_boolean(out, raft->request_vote.pre_vote);
        pack_boolean(out, raft->request_vote.transfer);
        break;
    case RAFT_VOTE_RESPONSE:
        encode_raft_head(out, 2, message);
        pack_boolean(out, raft->vote_response.granted);
        pack_boolean(out, raft->vote_response.pre_vote);
        break;
    case RAFT_APPEND_ENTRIES:
        encode_raft_head(out, 6 + digests_fields(&message->digests), message);
        pack_u64(out, raft->append_entries.prev_log_index);
        pack_u64(out, raft->append_entries.prev_log_term);
        pack_u64(out, raft->append_entries.last_index);
        pack_u64(out, raft->append_entries.leader_commit);
        pack_u64(out, raft->append_entries.round);
        pack_u64(out, raft->append_entries.epoch);
        encode_digests(out, &message->digests);
        break;
    case RAFT_APPEND_RESPONSE:
        encode_raft_head(out, 8 + digests_fields(&message->digests), message);
        pack_boolean(out, raft->append_response.success);
        pack_u64(out, raft->append_response.match_index);
        pack_u64(out, raft->append_response.reject_index);
        pack_u64(out, raft->append_response.hint_index);
        pack_u64(out, raft->append_response.hint_term);
        pack_u64(out, raft->append_response.round);
        pack_u64(out, raft->append_response.epoch);
        pack_u64(out, raft->append_response.vote_wait_ms);
        encode_digests(out, &message->digests);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        encode_raft_head(out, 3 + SNAPSHOT_FIELDS, message);
        pack_u64(out, raft->install_snapshot.last_included_index);
        pack_u64(out, raft->install_snapshot.last_included_term);
        pack_u64(out, raft->install_snapshot.epoch);
        encode_snapshot(out, &message->snapshot);
        break;
    case RAFT_TIMEOUT_NOW:
        encode_raft_head(out, 0, message);
        break;
    default:
        UNREACHABLE();
    }
}

/* Of comparing, rebuilding and reading at a follower. */
static void encode_later(struct buffer *out, const struct message *message)
{
    switch (message->type) {
    case MESSAGE_COMPARE:
        pack_array(out, 5);
        pack_u64(out, message->compare.number);
        pack_u64(out, message->compare.at_least);
        pack_boolean(out, message->compare.end);
        pack_bin(out, message->compare.lo);
        pack_bin(out, message->compare.hi);
        break;
    case MESSAGE_COMPARED:
        pack_array(out, 3);
        pack_u64(out, message->compared.number);
        pack_u64(out, message->compared.index);
        buffer_append(out, message->compared.told.data, message->compared.told.size);
        break;
    case MESSAGE_REBUILD:
        pack_array(out, 1 + SNAPSHOT_FIELDS);
        pack_u64(out, message->rebuild.need);
        encode_snapshot(out, &message->rebuild.file);
        break;
    case MESSAGE_READ:
    case MESSAGE_READ_AT:
        pack_array(out, 4);
        pack_u64(out, message->read.id);
        pack_u64(out, message->read.index);
        pack_u64(out, message->read.now_ms);
        pack_boolean(out, message->read.lease);
        break;
    default:
        UNREACHABLE();
    }
}

static void encode_body(struct buffer *out, const struct message *message)
{
    switch (message->type) {
    case MESSAGE_HELLO:
        encode_hello(out, &message->hello);
        break;
    case MESSAGE_GOODBYE:
        pack_array(out, 2);
        pack_text(out, message->goodbye.text);
        pack_boolean(out, message->goodbye.end);
        break;
    case MESSAGE_RAFT:
        encode_raft(out, message);
        break;
    case MESSAGE_FORWARD:
        pack_array(out, message->forward.ticket.size > 0 ? 6 : 5);
        pack_u64(out, message->forward.id);
        pack_u64(out, message->forward.timeout_ms);
        pack_u64(out, message->forward.flags);
        pack_text(out, message->forward.name);
        buffer_append(out, message->forward.args.data, message->forward.args.size);
        buffer_append(out, message->forward.ticket.data, message->forward.ticket.size);
        break;
    case MESSAGE_FORWARDED:
        pack_array(out, 5);
        pack_u64(out, message->forwarded.id);
        pack_boolean(out, message->forwarded.ok);
        pack_boolean(out, message->forwarded.definite);
        pack_u64(out, message->forwarded.index);
        buffer_append(out, message->forwarded.value.data, message->forwarded.value.size);
        break;
    case MESSAGE_SNAPSHOT_PULL:
        pack_array(out, 7);
        pack_u64(out, message->pull.index);
        encode_hash(out, message->pull.hash);
        pack_u64(out, message->pull.offset);
        pack_u64(out, message->pull.progress);
        pack_boolean(out, message->pull.again);
        pack_boolean(out, message->pull.bad);
        break;
    case MESSAGE_SNAPSHOT_PIECE:
        pack_array(out, 5);
        pack_u64(out, message->piece.index);
        encode_hash(out, message->piece.hash);
        pack_u64(out, message->piece.offset);
        pack_u64(out, message->piece.crc);
        break;
    default:
        encode_later(out, message);
        break;
    }
}

void message_encode(struct buffer *out, const struct message *message, size_t records_bytes)
{
    size_t start = out->size;
    memset(buffer_reserve(out, MESSAGE_HEADER_BYTES), 0, MESSAGE_HEADER_BYTES);
    out->size += MESSAGE_HEADER_BYTES;
    encode_body(out, message);
    size_t body = out->size - start - MESSAGE_HEADER_BYTES;
    size_t size = MESSAGE_HEADER_BYTES + body + records_bytes;
    CHECK(body <= MESSAGE_BODY_MAX);
    CHECK(size <= MESSAGE_BYTES_MAX);
    uint8_t *at = out->data + start;
    store32(at, (uint32_t)size);
    at[8] = (uint8_t)message->type;
    store32(at + 12, (uint32_t)body);
    store32(at + 4, crc32c(0, at + 8, MESSAGE_HEADER_BYTES - 8 + body));
}

/* --- bodies in ----------------------------------------------------------------------------------------------------- */

/* Reads the fields of a body one after another; the first failure sticks. */
struct fields {
    struct pack_reader reader;
    uint32_t left;
    bool bad;
};

static struct fields fields_of(struct slice body)
{
    struct fields fields = {.reader = pack_reader_make(body)};
    fields.bad = pack_read_array(&fields.reader, &fields.left) != STATUS_OK;
    return fields;
}

static bool next_field(struct fields *fields)
{
    if (fields->bad || fields->left == 0) {
        fields->bad = true;
        return false;
    }
    fields->left--;
    return true;
}

static uint64_t field_u64(struct fields *fields, uint64_t max)
{
    uint64_t value = 0;
    if (next_field(fields) && (pack_read_u64(&fields->reader, &value) != STATUS_OK || value > max))
        fields->bad = true;
    return value;
}

static bool field_boolean(struct fields *fields)
{
    bool value = false;
    if (next_field(fields) && pack_read_boolean(&fields->reader, &value) != STATUS_OK)
        fields->bad = true;
    return value;
}

static struct slice field_text(struct fields *fields, size_t max)
{
    struct slice value = {0};
    if (next_field(fields) && (pack_read_text(&fields->reader, &value) != STATUS_OK || value.size > max))
        fields->bad = true;
    return value;
}

static struct slice field_value(struct fields *fields)
{
    struct slice value = {0};
    if (next_field(fields) && pack_skip(&fields->reader, PACK_DEPTH_MAX, &value) != STATUS_OK)
        fields->bad = true;
    return value;
}

static struct hash128 field_hash(struct fields *fields)
{
    struct hash128 hash = {0};
    hash.hi = field_u64(fields, UINT64_MAX);
    hash.lo = field_u64(fields, UINT64_MAX);
    return hash;
}

static void decode_hello(struct fields *fields, struct message_hello *hello)
{
    hello->protocol_min = (uint32_t)field_u64(fields, UINT32_MAX);
    hello->protocol_max = (uint32_t)field_u64(fields, UINT32_MAX);
    hello->cluster_id = field_u64(fields, UINT64_MAX);
    hello->from = field_u64(fields, UINT64_MAX);
    hello->to = field_u64(fields, UINT64_MAX);
    hello->incarnation = field_u64(fields, UINT64_MAX);
    hello->formation = (uint8_t)field_u64(fields, FORMATION_FORMED);
    hello->line_hash = field_u64(fields, UINT64_MAX);
    hello->code_hash = field_u64(fields, UINT64_MAX);
    hello->set_hash = field_u64(fields, UINT64_MAX);
    hello->fingerprint = field_u64(fields, UINT64_MAX);
    hello->address = field_text(fields, 255);
    hello->last_index = field_u64(fields, UINT64_MAX);
    hello->bulk = fields->left > 0 && field_boolean(fields);
    hello->restored = fields->left > 0 ? field_u64(fields, UINT64_MAX) : 0;
    hello->configuration = fields->left > 0 ? field_u64(fields, UINT64_MAX) : 0;
    if (hello->from == 0 || hello->to == 0 || hello->protocol_min > hello->protocol_max)
        fields->bad = true;
}

static void decode_append(struct fields *fields, struct raft_append_entries *append)
{
    append->prev_log_index = field_u64(fields, UINT64_MAX);
    append->prev_log_term = field_u64(fields, UINT64_MAX);
    append->last_index = field_u64(fields, UINT64_MAX);
    append->leader_commit = field_u64(fields, UINT64_MAX);
    append->round = field_u64(fields, UINT64_MAX);
    append->epoch = (uint32_t)field_u64(fields, UINT32_MAX);
    append->bytes_max = 0;
    if (append->last_index < append->prev_log_index)
        fields->bad = true;
}

/* Fields that came after the first ones: an older node sends none, and who has nothing to say neither. */
static void decode_digests(struct fields *fields, struct message_digests *digests)
{
    if (fields->left == 0)
        return;
    digests->asked = field_u64(fields, UINT64_MAX);
    digests->index = field_u64(fields, UINT64_MAX);
    digests->digest = field_hash(fields);
    digests->none = fields->left > 0 && field_boolean(fields);
}

static void decode_snapshot(struct fields *fields, struct message_snapshot *file)
{
    file->index = field_u64(fields, UINT64_MAX);
    file->term = field_u64(fields, UINT64_MAX);
    file->bytes = field_u64(fields, UINT64_MAX);
    file->hash = field_hash(fields);
    file->head_hash = field_u64(fields, UINT64_MAX);
}

static void decode_install(struct fields *fields, struct message *message)
{
    struct raft_install_snapshot *install = &message->raft.install_snapshot;
    install->last_included_index = field_u64(fields, UINT64_MAX);
    install->last_included_term = field_u64(fields, UINT64_MAX);
    install->epoch = (uint32_t)field_u64(fields, UINT32_MAX);
    decode_snapshot(fields, &message->snapshot);
}

static void decode_raft(struct fields *fields, struct message *message)
{
    struct raft_message *raft = &message->raft;
    memset(raft, 0, sizeof *raft);
    raft->type = (enum raft_message_type)field_u64(fields, RAFT_TIMEOUT_NOW);
    raft->from = field_u64(fields, UINT64_MAX);
    raft->to = field_u64(fields, UINT64_MAX);
    raft->term = field_u64(fields, UINT64_MAX);
    message->wall_ms = field_u64(fields, UINT64_MAX);
    if (raft->from == 0 || raft->to == 0)
        fields->bad = true;
    switch (raft->type) {
    case RAFT_REQUEST_VOTE:
        raft->request_vote.last_log_index = field_u64(fields, UINT64_MAX);
        raft->request_vote.last_log_term = field_u64(fields, UINT64_MAX);
        raft->request_vote.pre_vote = field_boolean(fields);
        raft->request_vote.transfer = field_boolean(fields);
        break;
    case RAFT_VOTE_RESPONSE:
        raft->vote_response.granted = field_boolean(fields);
        raft->vote_response.pre_vote = field_boolean(fields);
        break;
    case RAFT_APPEND_ENTRIES:
        decode_append(fields, &raft->append_entries);
        decode_digests(fields, &message->digests);
        break;
    case RAFT_APPEND_RESPONSE:
        raft->append_response.success = field_boolean(fields);
        raft->append_response.match_index = field_u64(fields, UINT64_MAX);
        raft->append_response.reject_index = field_u64(fields, UINT64_MAX);
        raft->append_response.hint_index = field_u64(fields, UINT64_MAX);
        raft->append_response.hint_term = field_u64(fields, UINT64_MAX);
        raft->append_response.round = field_u64(fields, UINT64_MAX);
        raft->append_response.epoch = (uint32_t)field_u64(fields, UINT32_MAX);
        raft->append_response.vote_wait_ms = (uint32_t)field_u64(fields, UINT32_MAX);
        decode_digests(fields, &message->digests);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        decode_install(fields, message);
        break;
    case RAFT_TIMEOUT_NOW:
        break;
    default:
        fields->bad = true;
    }
}

/* Of comparing, rebuilding and reading at a follower. */
static bool decode_later(struct fields *fields, struct message *message)
{
    switch (message->type) {
    case MESSAGE_COMPARE:
        message->compare.number = field_u64(fields, UINT64_MAX);
        message->compare.at_least = field_u64(fields, UINT64_MAX);
        message->compare.end = field_boolean(fields);
        message->compare.lo = field_text(fields, KEY_BYTES);
        message->compare.hi = field_text(fields, KEY_BYTES);
        return true;
    case MESSAGE_COMPARED:
        message->compared.number = field_u64(fields, UINT64_MAX);
        message->compared.index = field_u64(fields, UINT64_MAX);
        message->compared.told = field_value(fields);
        return true;
    case MESSAGE_REBUILD:
        message->rebuild.need = field_u64(fields, UINT64_MAX);
        decode_snapshot(fields, &message->rebuild.file);
        return true;
    case MESSAGE_READ:
    case MESSAGE_READ_AT:
        message->read.id = field_u64(fields, UINT64_MAX);
        message->read.index = field_u64(fields, UINT64_MAX);
        message->read.now_ms = field_u64(fields, UINT64_MAX);
        message->read.lease = fields->left > 0 && field_boolean(fields);
        return true;
    default:
        return false;
    }
}

static bool decode_body(struct slice body, struct message *message)
{
    struct fields fields = fields_of(body);
    switch (message->type) {
    case MESSAGE_HELLO:
        decode_hello(&fields, &message->hello);
        break;
    case MESSAGE_GOODBYE:
        message->goodbye.text = field_text(&fields, 4096);
        message->goodbye.end = field_boolean(&fields);
        break;
    case MESSAGE_RAFT:
        decode_raft(&fields, message);
        break;
    case MESSAGE_FORWARD:
        message->forward.id = field_u64(&fields, UINT64_MAX);
        message->forward.timeout_ms = (uint32_t)field_u64(&fields, UINT32_MAX);
        message->forward.flags = (uint32_t)field_u64(&fields, UINT32_MAX);
        message->forward.name = field_text(&fields, 256);
        message->forward.args = field_value(&fields);
        message->forward.ticket = (struct slice){0};
        if (fields.left > 0)
            message->forward.ticket = field_value(&fields);
        break;
    case MESSAGE_FORWARDED:
        message->forwarded.id = field_u64(&fields, UINT64_MAX);
        message->forwarded.ok = field_boolean(&fields);
        message->forwarded.definite = field_boolean(&fields);
        message->forwarded.index = field_u64(&fields, UINT64_MAX);
        message->forwarded.value = field_value(&fields);
        break;
    case MESSAGE_SNAPSHOT_PULL:
        message->pull.index = field_u64(&fields, UINT64_MAX);
        message->pull.hash = field_hash(&fields);
        message->pull.offset = field_u64(&fields, UINT64_MAX);
        message->pull.progress = field_u64(&fields, UINT64_MAX);
        message->pull.again = field_boolean(&fields);
        message->pull.bad = field_boolean(&fields);
        break;
    case MESSAGE_SNAPSHOT_PIECE:
        message->piece.index = field_u64(&fields, UINT64_MAX);
        message->piece.hash = field_hash(&fields);
        message->piece.offset = field_u64(&fields, UINT64_MAX);
        message->piece.crc = (uint32_t)field_u64(&fields, UINT32_MAX);
        break;
    default:
        if (!decode_later(&fields, message))
            return false;
        break;
    }
    /* What a newer node adds at the end is skipped, but must be whole. */
    while (!fields.bad && fields.left > 0)
        (void)field_value(&fields);
    return !fields.bad && fields.reader.at == fields.reader.end;
}

enum status message_decode(struct slice bytes, struct message *message, size_t *used)
{
    *used = 0;
    if (bytes.size < MESSAGE_HEADER_BYTES)
        return STATUS_INCOMPLETE;
    const uint8_t *at = bytes.data;
    uint32_t size = load32(at);
    uint32_t body = load32(at + 12);
    if (size > MESSAGE_BYTES_MAX || body > MESSAGE_BODY_MAX)
        return STATUS_TOO_LARGE;
    if (size < MESSAGE_HEADER_BYTES + (size_t)body)
        return STATUS_CORRUPT;
    *used = size;
    if (bytes.size < size)
        return STATUS_INCOMPLETE;
    if (load32(at + 4) != crc32c(0, at + 8, MESSAGE_HEADER_BYTES - 8 + body))
        return STATUS_CORRUPT;
    message->type = (enum message_type)at[8];
    message->records = slice_make(at + MESSAGE_HEADER_BYTES + body, size - MESSAGE_HEADER_BYTES - body);
    message->wall_ms = 0;
    message->digests = (struct message_digests){0};
    message->snapshot = (struct message_snapshot){0};
    if (!decode_body(slice_make(at + MESSAGE_HEADER_BYTES, body), message))
        return STATUS_INVALID;
    bool may_have_records = (message->type == MESSAGE_RAFT && message->raft.type == RAFT_APPEND_ENTRIES) ||
                            message->type == MESSAGE_SNAPSHOT_PIECE;
    return message->records.size > 0 && !may_have_records ? STATUS_INVALID : STATUS_OK;
}
