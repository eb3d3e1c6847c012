/* storage/identity.c - see storage/identity.h. The file's content is a MessagePack list:
 *
 *   [version 1, id, incarnation, cluster id, formation, line hash, code hash, [[id, incarnation, address], ...], restored, lease,
 *    joined, begun]
 *
 * The last ones are missing where an older version wrote it.
 */
#include "storage/identity.h"

#include <string.h>

#include "base/check.h"
#include "storage/storage.h"
#include "wire/pack.h"

enum { IDENTITY_VERSION = 1, IDENTITY_FIELDS_MIN = 8, IDENTITY_FIELDS = 12 };

static const char file_name[] = "identity";

static enum status save_as(struct disk *disk, const char *name, const struct identity *identity)
{
    CHECK(identity->id > 0);
    CHECK(identity->members_count <= RAFT_MEMBERS_MAX);
    struct buffer out = {0};
    pack_array(&out, IDENTITY_FIELDS);
    pack_u64(&out, IDENTITY_VERSION);
    pack_u64(&out, identity->id);
    pack_u64(&out, identity->incarnation);
    pack_u64(&out, identity->cluster_id);
    pack_u64(&out, identity->formation);
    pack_u64(&out, identity->line_hash);
    pack_u64(&out, identity->code_hash);
    pack_array(&out, (uint32_t)identity->members_count);
    for (size_t i = 0; i < identity->members_count; i++) {
        pack_array(&out, 3);
        pack_u64(&out, identity->members[i].id);
        pack_u64(&out, identity->members[i].incarnation);
        pack_text(&out, slice_text(identity->members[i].address));
    }
    pack_u64(&out, identity->restored);
    pack_u64(&out, identity->lease_ms);
    pack_boolean(&out, identity->joined);
    pack_boolean(&out, identity->begun);
    enum status status = storage_put_file(disk, name, buffer_slice(&out));
    buffer_close(&out);
    return status;
}

enum status identity_save(struct disk *disk, const struct identity *identity)
{
    return save_as(disk, file_name, identity);
}

enum status identity_save_next(struct disk *disk, const struct identity *identity)
{
    return save_as(disk, IDENTITY_NEXT, identity);
}

static bool read_member(struct pack_reader *reader, struct identity_member *member)
{
    uint32_t fields = 0;
    struct slice address;
    if (pack_read_array(reader, &fields) != STATUS_OK || fields != 3 ||
        pack_read_u64(reader, &member->id) != STATUS_OK ||
        pack_read_u64(reader, &member->incarnation) != STATUS_OK || pack_read_text(reader, &address) != STATUS_OK ||
        address.size >= sizeof member->address)
        return false;
    memcpy(member->address, address.data, address.size);
    member->address[address.size] = 0;
    return true;
}

static bool read_fields(struct pack_reader *reader, uint32_t fields, struct identity *identity)
{
    uint64_t formation = 0;
    uint32_t members = 0;
    if (pack_read_u64(reader, &identity->id) != STATUS_OK || identity->id == 0 ||
        pack_read_u64(reader, &identity->incarnation) != STATUS_OK ||
        pack_read_u64(reader, &identity->cluster_id) != STATUS_OK ||
        pack_read_u64(reader, &formation) != STATUS_OK || formation > 2 ||
        pack_read_u64(reader, &identity->line_hash) != STATUS_OK ||
        pack_read_u64(reader, &identity->code_hash) != STATUS_OK ||
        pack_read_array(reader, &members) != STATUS_OK || members > RAFT_MEMBERS_MAX)
        return false;
    identity->formation = (uint8_t)formation;
    identity->members_count = members;
    for (uint32_t i = 0; i < members; i++)
        if (!read_member(reader, &identity->members[i]))
            return false;
    return (fields <= IDENTITY_FIELDS_MIN || pack_read_u64(reader, &identity->restored) == STATUS_OK) &&
           (fields <= IDENTITY_FIELDS_MIN + 1 || pack_read_u64(reader, &identity->lease_ms) == STATUS_OK) &&
           (fields <= IDENTITY_FIELDS_MIN + 2 || pack_read_boolean(reader, &identity->joined) == STATUS_OK) &&
           (fields <= IDENTITY_FIELDS_MIN + 3 || pack_read_boolean(reader, &identity->begun) == STATUS_OK);
}

static void say(struct buffer *why, const char *text)
{
    buffer_append(why, text, strlen(text));
}

/* What else is in the directory. */
struct beside {
    bool log; /* or a vote: only made after the identity is durable */
    bool snapshot;
    bool restored;
    bool recovering;
};

static void note_file(void *context, const char *name)
{
    struct beside *beside = context;
    beside->log |= strcmp(name, "vote") == 0 || strncmp(name, "log-", 4) == 0;
    beside->snapshot |= strncmp(name, "snapshot-", 9) == 0;
    beside->restored |= strcmp(name, IDENTITY_RESTORED) == 0;
    beside->recovering |= strcmp(name, IDENTITY_RECOVERING) == 0;
}

/* An identity that is missing where it should not be. */
static enum status judge_missing(const struct beside *beside, struct buffer *why)
{
    if (beside->log)
        say(why,
            "file identity is missing beside a log or vote: this node cannot know who it is; put the file back, or "
            "set the directory aside and let the node join anew");
    else if (beside->snapshot && !beside->restored)
        say(why, "there is a snapshot here, but no identity and no log: a restore did not end, or the identity is "
                 "gone; restore again, or start with an empty directory");
    else
        return STATUS_NOT_FOUND;
    return STATUS_CORRUPT;
}

static enum status read_content(struct slice content, struct identity *identity, struct buffer *why)
{
    struct pack_reader reader = pack_reader_make(content);
    uint32_t fields = 0;
    uint64_t version = 0;
    if (pack_read_array(&reader, &fields) != STATUS_OK || pack_read_u64(&reader, &version) != STATUS_OK)
        return STATUS_CORRUPT;
    if (version != IDENTITY_VERSION || fields < IDENTITY_FIELDS_MIN) {
        say(why, "file identity: written by a newer version: start this directory with that version");
        return STATUS_UNSUPPORTED;
    }
    return read_fields(&reader, fields, identity) ? STATUS_OK : STATUS_CORRUPT;
}

enum status identity_load(struct disk *disk, struct identity *identity, struct buffer *why)
{
    struct buffer content = {0};
    struct beside beside = {0};
    memset(identity, 0, sizeof *identity);
    enum status status = disk->list(disk, note_file, &beside);
    if (status == STATUS_OK && beside.recovering) {
        say(why, "a recover of this directory did not end: run tidelock recover --data DIR --force-new-cluster "
                 "again");
        return STATUS_CORRUPT;
    }
    if (status == STATUS_OK)
        status = storage_get_file(disk, file_name, &content);
    if (status == STATUS_NOT_FOUND)
        status = judge_missing(&beside, why);
    else if (status == STATUS_OK)
        status = read_content(buffer_slice(&content), identity, why);
    if (status == STATUS_CORRUPT && why->size == 0)
        say(why, "file identity is damaged: this node cannot know who it is; set the directory aside and let the "
                 "node join anew");
    else if (status == STATUS_IO)
        say(why, disk->error(disk));
    buffer_close(&content);
    return status;
}
