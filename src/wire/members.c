/* wire/members.c - see wire/members.h. */
#include "wire/members.h"

#include <string.h>

#include "base/check.h"
#include "wire/pack.h"

enum { FORMATION_FIELDS = 3, MEMBER_FIELDS = 7 };

static bool is_of_formation(const struct members *members)
{
    for (size_t i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (member->roles != MEMBER_VOTER || member->priority != 0 || member->zone[0] != 0 ||
            member->tags_bytes != 0)
            return false;
    }
    return true;
}

void members_pack(const struct members *members, struct buffer *out)
{
    const bool formation = is_of_formation(members);
    pack_array(out, (uint32_t)members->count);
    for (size_t i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        pack_array(out, formation ? FORMATION_FIELDS : MEMBER_FIELDS);
        pack_u64(out, member->id);
        pack_u64(out, member->incarnation);
        pack_text(out, slice_text(member->address));
        if (formation)
            continue;
        pack_u64(out, member->roles);
        pack_u64(out, member->priority);
        pack_text(out, slice_text(member->zone));
        if (member->tags_bytes > 0)
            buffer_append(out, member->tags, member->tags_bytes);
        else
            pack_map(out, 0);
    }
}

bool members_read_text(struct pack_reader *reader, char *text, size_t room)
{
    struct slice value = {0};
    if (pack_read_text(reader, &value) != STATUS_OK || value.size >= room || !pack_is_utf8(value) ||
        (value.size > 0 && memchr(value.data, 0, value.size) != NULL))
        return false;
    if (value.size > 0)
        memcpy(text, value.data, value.size);
    text[value.size] = 0;
    return true;
}

bool members_read_tags(struct pack_reader *reader, struct member *self)
{
    struct slice tags = {0};
    struct slice before = {0};
    uint32_t count = 0;
    if (pack_skip(reader, 2, &tags) != STATUS_OK || tags.size > MEMBER_TAGS_BYTES)
        return false;
    struct pack_reader inside = pack_reader_make(tags);
    if (pack_read_map(&inside, &count) != STATUS_OK || count > MEMBER_TAGS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct slice key = {0};
        struct slice value = {0};
        if (pack_read_text(&inside, &key) != STATUS_OK || pack_read_text(&inside, &value) != STATUS_OK ||
            (i > 0 && slice_compare(key, before) <= 0))
            return false;
        before = key;
    }
    memcpy(self->tags, tags.data, tags.size);
    self->tags_bytes = count > 0 ? (uint32_t)tags.size : 0;
    return true;
}

static bool is_role(uint64_t roles)
{
    const bool votes = (roles & MEMBER_VOTER) != 0;
    const bool learns = (roles & MEMBER_LEARNER) != 0;
    return roles != 0 && roles <= (MEMBER_VOTER | MEMBER_OLD_VOTER | MEMBER_LEARNER) && !(votes && learns);
}

static bool read_member(struct pack_reader *reader, struct member *member)
{
    uint32_t fields = 0;
    uint64_t roles = MEMBER_VOTER;
    uint64_t priority = 0;
    memset(member, 0, sizeof *member);
    if (pack_read_array(reader, &fields) != STATUS_OK || (fields != FORMATION_FIELDS && fields != MEMBER_FIELDS) ||
        pack_read_u64(reader, &member->id) != STATUS_OK ||
        pack_read_u64(reader, &member->incarnation) != STATUS_OK ||
        !members_read_text(reader, member->address, sizeof member->address))
        return false;
    if (fields == MEMBER_FIELDS &&
        (pack_read_u64(reader, &roles) != STATUS_OK || pack_read_u64(reader, &priority) != STATUS_OK ||
         !members_read_text(reader, member->zone, sizeof member->zone) || !members_read_tags(reader, member)))
        return false;
    member->roles = (uint8_t)roles;
    member->priority = (uint8_t)priority;
    return member->id != 0 && is_role(roles) && priority <= RAFT_PRIORITY_MAX;
}

enum status members_unpack(struct slice payload, struct members *members)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t count = 0;
    bool voter = false;
    if (pack_read_array(&reader, &count) != STATUS_OK || count == 0 || count > RAFT_MEMBERS_MAX)
        return STATUS_INVALID;
    members->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct member *member = &members->list[i];
        if (!read_member(&reader, member) || (i > 0 && member->id <= members->list[i - 1].id))
            return STATUS_INVALID;
        voter = voter || (member->roles & MEMBER_VOTER) != 0;
    }
    return voter && reader.at == reader.end ? STATUS_OK : STATUS_INVALID;
}

const struct member *members_find(const struct members *members, node_id id)
{
    for (size_t i = 0; i < members->count; i++)
        if (members->list[i].id == id)
            return &members->list[i];
    return NULL;
}

void members_to_raft(const struct members *members, struct raft_configuration *configuration)
{
    memset(configuration, 0, sizeof *configuration);
    configuration->id = members->id;
    for (size_t i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (member->roles & MEMBER_VOTER) {
            configuration->priorities[configuration->voters_count] = member->priority;
            configuration->voters[configuration->voters_count++] = member->id;
        }
        if (member->roles & MEMBER_OLD_VOTER)
            configuration->old_voters[configuration->old_voters_count++] = member->id;
        if (member->roles & MEMBER_LEARNER)
            configuration->learners[configuration->learners_count++] = member->id;
    }
}
