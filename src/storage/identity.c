/* storage/identity.c - see storage/identity.h. The file's content is a MessagePack list:
 *
 *   [version 1, id, incarnation, cluster id, formation, line hash, code hash, [[id, incarnation, address], ...]]
 */
#include "storage/identity.h"

#include <string.h>

#include "base/check.h"
#include "storage/storage.h"
#include "wire/pack.h"

enum { IDENTITY_VERSION = 1, IDENTITY_FIELDS = 8 };

static const char file_name[] = "identity";

enum status identity_save(struct disk *disk, const struct identity *identity)
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
    enum status status = storage_put_file(disk, file_name, buffer_slice(&out));
    buffer_close(&out);
    return status;
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

static bool read_fields(struct pack_reader *reader, struct identity *identity)
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
    return true;
}

static void say(struct buffer *why, const char *text)
{
    buffer_append(why, text, strlen(text));
}

/* What is only made after the identity is durable. */
static void note_later_file(void *context, const char *name)
{
    if (strcmp(name, "vote") == 0 || strncmp(name, "log-", 4) == 0)
        *(bool *)context = true;
}

enum status identity_load(struct disk *disk, struct identity *identity, struct buffer *why)
{
    struct buffer content = {0};
    memset(identity, 0, sizeof *identity);
    enum status status = storage_get_file(disk, file_name, &content);
    if (status == STATUS_OK) {
        struct pack_reader reader = pack_reader_make(buffer_slice(&content));
        uint32_t fields = 0;
        uint64_t version = 0;
        if (pack_read_array(&reader, &fields) != STATUS_OK || pack_read_u64(&reader, &version) != STATUS_OK) {
            status = STATUS_CORRUPT;
        } else if (version != IDENTITY_VERSION || fields < IDENTITY_FIELDS) {
            status = STATUS_UNSUPPORTED;
            say(why, "file identity: written by a newer version: start this directory with that version");
        } else if (!read_fields(&reader, identity)) {
            status = STATUS_CORRUPT;
        }
    }
    bool beside = false;
    if (status == STATUS_NOT_FOUND && disk->list(disk, note_later_file, &beside) == STATUS_OK && beside) {
        say(why,
            "file identity is missing beside a log or vote: this node cannot know who it is; put the file back, or "
            "set the directory aside and let the node join anew");
        buffer_close(&content);
        return STATUS_CORRUPT;
    }
    if (status == STATUS_CORRUPT)
        say(why, "file identity is damaged: this node cannot know who it is; set the directory aside and let the "
                 "node join anew");
    else if (status == STATUS_IO)
        say(why, disk->error(disk));
    buffer_close(&content);
    return status;
}
