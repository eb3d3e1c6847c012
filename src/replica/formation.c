/* replica/formation.c - see replica/formation.h: the set, its line, its checks. The protocol itself is in forming.c. */
#include "replica/formation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/prng.h"
#include "wire/message.h"
#include "wire/pack.h"

static enum status say(struct buffer *why, enum status status, const char *format, const char *detail)
{
    char line[1024];
    int size = snprintf(line, sizeof line, format, detail);
    buffer_append(why, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    return status;
}

/* HOST:PORT, [IPV6]:PORT. Whether the host can be found is for the dial to say. */
static bool good_address(const char *text, size_t size)
{
    size_t colon = size;
    while (colon > 0 && text[colon - 1] != ':')
        colon--;
    if (colon < 2 || colon == size || size - colon > 5)
        return false;
    unsigned port = 0;
    for (size_t i = colon; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if ((colon == 8 && memcmp(text, "0.0.0.0", 7) == 0) || (colon == 5 && memcmp(text, "[::]", 4) == 0))
        return false; /* every address of a machine is none at which another finds it */
    bool brackets = text[0] == '[' && text[colon - 2] == ']';
    for (size_t i = 0; i + 1 < colon; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '=' || (text[i] == ':' && !brackets))
            return false;
    return port >= 1 && port <= 65535;
}

bool formation_address(struct slice address)
{
    return address.size < sizeof((struct identity_member *)NULL)->address &&
           good_address((const char *)address.data, address.size);
}

/* One "ID=HOST:PORT". */
static bool parse_member(const char *text, size_t size, struct identity_member *member)
{
    char *end = NULL;
    unsigned long long id = strtoull(text, &end, 10);
    size_t digits = (size_t)(end - text);
    if (text[0] < '1' || text[0] > '9' || digits == 0 || digits > 18 || digits + 1 >= size || *end != '=')
        return false;
    size_t rest = size - digits - 1;
    if (rest >= sizeof member->address || !good_address(end + 1, rest))
        return false;
    *member = (struct identity_member){.id = id};
    memcpy(member->address, end + 1, rest);
    return true;
}

enum status formation_parse_line(const char *line, struct identity_member members[RAFT_MEMBERS_MAX], size_t *count,
                                 struct buffer *why)
{
    *count = 0;
    for (const char *at = line; *at != 0;) {
        size_t size = strcspn(at, ",");
        struct identity_member member;
        if (*count == RAFT_MEMBERS_MAX)
            return say(why, STATUS_INVALID, "--cluster %s: more than 32 members", line);
        if (!parse_member(at, size, &member))
            return say(why, STATUS_INVALID, "--cluster %s: write it as 1=HOST:PORT,2=HOST:PORT,...", line);
        size_t place = *count;
        for (size_t i = 0; i < *count; i++)
            if (members[i].id == member.id || strcmp(members[i].address, member.address) == 0)
                return say(why, STATUS_INVALID, "--cluster %s: an id or address stands there twice", line);
        for (; place > 0 && members[place - 1].id > member.id; place--)
            members[place] = members[place - 1];
        members[place] = member;
        (*count)++;
        at += size;
        if (*at == ',' && *++at == 0)
            return say(why, STATUS_INVALID, "--cluster %s: it ends with a comma", line);
    }
    return *count > 0 ? STATUS_OK : say(why, STATUS_INVALID, "--cluster %s: names no member", "''");
}

static uint64_t hash_line(const struct identity_member *members, size_t count)
{
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++) {
        pack_u64(&text, members[i].id);
        pack_text(&text, slice_text(members[i].address));
    }
    uint64_t hash = hash64(text.data, text.size);
    buffer_close(&text);
    return hash != 0 ? hash : 1;
}

/* Never 0, and a number that Lua can say: requests and the history of members have it. */
static uint64_t draw_incarnation(struct prng *prng)
{
    return (prng_next(prng) & ((1ULL << 53) - 1)) | 1;
}

enum status formation_identity(node_id id, const char *line, uint64_t code_hash, uint64_t seed,
                               struct identity *identity, struct buffer *why)
{
    memset(identity, 0, sizeof *identity);
    enum status status = formation_parse_line(line, identity->members, &identity->members_count, why);
    if (status != STATUS_OK)
        return status;
    struct prng prng;
    prng_seed(&prng, seed);
    identity->id = id;
    identity->incarnation = draw_incarnation(&prng);
    identity->line_hash = hash_line(identity->members, identity->members_count);
    identity->code_hash = code_hash;
    bool found = false;
    for (size_t i = 0; i < identity->members_count; i++) {
        if (identity->members[i].id != id)
            continue;
        identity->members[i].incarnation = identity->incarnation;
        found = true;
    }
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    return found ? STATUS_OK
                 : say(why, STATUS_MISMATCH, "--id %s is not in the --cluster line: add it, or give the id that is",
                       text);
}

enum status formation_joiner(node_id id, const char *address, uint64_t seed, struct identity *identity,
                             struct buffer *why)
{
    struct prng prng;
    memset(identity, 0, sizeof *identity);
    if (strlen(address) >= sizeof identity->members[0].address || !good_address(address, strlen(address)))
        return say(why, STATUS_INVALID,
                   "%s is no address at which others could find this node: --advertise HOST:PORT", address);
    prng_seed(&prng, seed);
    identity->id = id;
    identity->incarnation = draw_incarnation(&prng);
    identity->formation = FORMATION_FORMED;
    identity->joined = true;
    identity->members_count = 1;
    identity->members[0] = (struct identity_member){.id = id, .incarnation = identity->incarnation};
    snprintf(identity->members[0].address, sizeof identity->members[0].address, "%s", address);
    return STATUS_OK;
}

enum status formation_check(const struct identity *identity, node_id id, const char *line, uint64_t code_hash,
                            struct buffer *why)
{
    char text[160];
    if (identity->id != id) {
        snprintf(text, sizeof text, "node %llu, not of node %llu", (unsigned long long)identity->id,
                 (unsigned long long)id);
        return say(why, STATUS_MISMATCH, "this data directory is that of %s: give the matching --id or --data",
                   text);
    }
    if (identity->formation == FORMATION_FORMED || line == NULL)
        return STATUS_OK;
    struct identity_member members[RAFT_MEMBERS_MAX];
    size_t count = 0;
    enum status status = formation_parse_line(line, members, &count, why);
    if (status != STATUS_OK)
        return status;
    if (hash_line(members, count) != identity->line_hash)
        return say(
            why, STATUS_MISMATCH,
            "this data directory was first started with another --cluster line than %s: give the same line, or "
            "an empty --data directory",
            line);
    if (code_hash != 0 && identity->restored == 0 && code_hash != identity->code_hash) {
        snprintf(text, sizeof text, "%016llx, then %016llx", (unsigned long long)identity->code_hash,
                 (unsigned long long)code_hash);
        return say(
            why, STATUS_MISMATCH,
            "the modules differ from those of the first start (%s): give the same files until the cluster has "
            "formed",
            text);
    }
    return STATUS_OK;
}

uint64_t formation_restored(struct hash128 file)
{
    uint64_t hash = hash64(&file, sizeof file);
    return hash != 0 ? hash : 1;
}

void formation_pack_set(const struct identity_member *members, size_t count, struct buffer *out)
{
    pack_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pack_array(out, 3);
        pack_u64(out, members[i].id);
        pack_u64(out, members[i].incarnation);
        pack_text(out, slice_text(members[i].address));
    }
}

enum status formation_unpack_set(struct slice payload, struct identity_member members[RAFT_MEMBERS_MAX],
                                 size_t *count)
{
    struct pack_reader reader = pack_reader_make(payload);
    uint32_t listed = 0;
    if (pack_read_array(&reader, &listed) != STATUS_OK || listed == 0 || listed > RAFT_MEMBERS_MAX)
        return STATUS_INVALID;
    for (uint32_t i = 0; i < listed; i++) {
        uint32_t fields = 0;
        struct slice address;
        memset(&members[i], 0, sizeof members[i]);
        if (pack_read_array(&reader, &fields) != STATUS_OK || fields != 3 ||
            pack_read_u64(&reader, &members[i].id) != STATUS_OK ||
            pack_read_u64(&reader, &members[i].incarnation) != STATUS_OK ||
            pack_read_text(&reader, &address) != STATUS_OK || address.size >= sizeof members[i].address)
            return STATUS_INVALID;
        memcpy(members[i].address, address.data, address.size);
    }
    *count = listed;
    return STATUS_OK;
}

uint64_t formation_cluster_id(struct slice set)
{
    uint64_t id = hash64(set.data, set.size);
    return id != 0 ? id : 1;
}
