/* replica/host_requests.c - requests to the host that become log entries or reads of what the machine keeps: one table.
 *
 * They go the ways of any request (replica/requests.c): forwarded to the leader, proposed, answered by the entry's result. Their
 * names stand for what is proposed. Here is also what the leader proposes unasked because the machine waits for it: that
 * what is due happens, and the next step of a migration. Private to replica/.
 */
#include <stddef.h>

#include "base/mutant.h"
#include "machine/deploy.h"
#include "machine/membership.h"
#include "machine/session.h"
#include "replica/state.h"
#include "wire/pack.h"

/* The one argument by place, or by its name in a map. False: there is none, or something else. */
static bool read_argument(struct slice args, const char *name, struct pack_reader *at)
{
    struct slice key;
    uint32_t count = 0;
    struct pack_item item;
    *at = pack_reader_make(args);
    if (pack_read_array(at, &count) != STATUS_OK || count != 1)
        return false;
    struct pack_reader map = *at;
    if (pack_read(&map, &item) != STATUS_OK || item.type != PACK_MAP)
        return true;
    map = *at;
    *at = (struct pack_reader){0};
    if (pack_read_map(&map, &count) != STATUS_OK || count != 1 || pack_read_text(&map, &key) != STATUS_OK ||
        !slice_equal(key, slice_text(name)))
        return false;
    *at = map;
    return true;
}

static const char *encode_open(struct slice args, struct buffer *payload)
{
    struct pack_reader reader;
    uint64_t ttl_ms = 0;
    if (!read_argument(args, "ttl_ms", &reader) || pack_read_u64(&reader, &ttl_ms) != STATUS_OK ||
        ttl_ms < SESSION_TTL_MIN_MS || ttl_ms > SESSION_TTL_MAX_MS)
        return "tidelock.session_open takes ttl_ms, a whole number from 100 to 604800000";
    pack_array(payload, 2);
    pack_text(payload, slice_text("open"));
    pack_u64(payload, ttl_ms);
    return NULL;
}

static const char *encode_of_session(const char *verb, struct slice args, struct buffer *payload)
{
    struct pack_reader reader;
    struct slice session;
    if (!read_argument(args, "session", &reader) || pack_read_text(&reader, &session) != STATUS_OK ||
        session.size == 0 || session.size > SESSION_TEXT_MAX)
        return "it takes the text that tidelock.session_open gave";
    pack_array(payload, 2);
    pack_text(payload, slice_text(verb));
    pack_text(payload, session);
    return NULL;
}

static const char *encode_keep(struct slice args, struct buffer *payload)
{
    return encode_of_session("keep", args, payload);
}

static const char *encode_end(struct slice args, struct buffer *payload)
{
    return encode_of_session("end", args, payload);
}

static const char *encode_deploy(struct slice args, struct buffer *payload)
{
    return deploy_from_request(args, false, payload);
}

static const char *encode_undeploy(struct slice args, struct buffer *payload)
{
    return deploy_from_request(args, true, payload);
}

static const char *encode_limit(struct slice args, struct buffer *payload)
{
    struct pack_reader reader = pack_reader_make(args);
    struct slice name;
    uint32_t count = 0;
    uint64_t number = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 2 ||
        pack_read_text(&reader, &name) != STATUS_OK || pack_read_u64(&reader, &number) != STATUS_OK)
        return "tidelock.limits takes nothing, or the name of a limit and a whole number";
    buffer_append(payload, args.data, args.size);
    return NULL;
}

static const char *encode_skip(struct slice args, struct buffer *payload)
{
    raft_index index = 0;
    if (!skip_read(args, &index))
        return "tidelock.skip takes the index of the entry at which nodes are parked";
    pack_array(payload, 1);
    pack_u64(payload, index);
    return NULL;
}

/* --- members -------------------------------------------------------------------------------------------------------------- */

static const char members_usage[] = "tidelock.members_change takes a list of changes, each a map with op (add "
                                    "promote demote remove replace address "
                                    "transfer), id, and what the op needs of with, address (HOST:PORT, where "
                                    "others find it), zone, tags, priority; "
                                    "and a map with force, expected, why";
static const char join_usage[] = "tidelock.join takes a map with id, incarnation, address (HOST:PORT, where others "
                                 "find it), zone, tags, priority: a node "
                                 "says it of itself";

/* What a change may say, as requests name it and entries order it. */
struct said_change {
    struct slice op, address, zone, tags;
    uint64_t id, with, incarnation, priority;
};

struct said_options {
    bool force;
    uint64_t expected;
    struct slice why;
};

/* What a map of outsiders may hold, and where it goes. */
struct said_field {
    const char *name;
    enum { SAID_TEXT, SAID_NUMBER, SAID_BOOLEAN, SAID_ANY } kind;
    size_t at;
};

static const struct said_field change_fields[] = {
    {"op", SAID_TEXT, offsetof(struct said_change, op)},
    {"id", SAID_NUMBER, offsetof(struct said_change, id)},
    {"with", SAID_NUMBER, offsetof(struct said_change, with)},
    {"address", SAID_TEXT, offsetof(struct said_change, address)},
    {"incarnation", SAID_NUMBER, offsetof(struct said_change, incarnation)},
    {"zone", SAID_TEXT, offsetof(struct said_change, zone)},
    {"tags", SAID_ANY, offsetof(struct said_change, tags)},
    {"priority", SAID_NUMBER, offsetof(struct said_change, priority)},
    {NULL, SAID_ANY, 0}};

static const struct said_field option_fields[] = {
    {"force", SAID_BOOLEAN, offsetof(struct said_options, force)},
    {"expected", SAID_NUMBER, offsetof(struct said_options, expected)},
    {"why", SAID_TEXT, offsetof(struct said_options, why)},
    {NULL, SAID_ANY, 0}};

static enum status read_field(struct pack_reader *reader, const struct said_field *field, unsigned char *to)
{
    switch (field->kind) {
    case SAID_TEXT:
        return pack_read_text(reader, (struct slice *)(void *)(to + field->at));
    case SAID_NUMBER:
        return pack_read_u64(reader, (uint64_t *)(void *)(to + field->at));
    case SAID_BOOLEAN:
        return pack_read_boolean(reader, (bool *)(to + field->at));
    default:
        return pack_skip(reader, PACK_DEPTH_MAX, (struct slice *)(void *)(to + field->at));
    }
}

/* A map that holds these fields, or some of them, and nothing else. */
static bool read_fields(struct pack_reader *reader, const struct said_field *fields, void *to)
{
    uint32_t count = 0;
    if (pack_read_map(reader, &count) != STATUS_OK)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        const struct said_field *field = fields;
        if (pack_read_text(reader, &name) != STATUS_OK)
            return false;
        while (field->name != NULL && !slice_equal(name, slice_text(field->name)))
            field++;
        if (field->name == NULL || read_field(reader, field, to) != STATUS_OK)
            return false;
    }
    return true;
}

static void pack_said(const struct said_change *said, struct buffer *payload)
{
    pack_array(payload, 8);
    pack_text(payload, said->op);
    pack_u64(payload, said->id);
    pack_u64(payload, said->with);
    pack_text(payload, said->address);
    pack_u64(payload, said->incarnation);
    pack_text(payload, said->zone);
    if (said->tags.size > 0)
        buffer_append(payload, said->tags.data, said->tags.size);
    else
        pack_map(payload, 0);
    pack_u64(payload, said->priority);
}

static void pack_request_head(struct buffer *payload, const char *by, bool force, uint64_t expected,
                              uint32_t fields)
{
    pack_array(payload, fields);
    pack_text(payload, slice_text(by));
    pack_boolean(payload, force);
    pack_u64(payload, expected);
}

static const char *encode_join(struct slice args, struct buffer *payload)
{
    struct pack_reader reader = pack_reader_make(args);
    struct said_change said = {.op = slice_text("add")};
    uint32_t count = 0;
    if (pack_read_array(&reader, &count) != STATUS_OK || count != 1 ||
        !read_fields(&reader, change_fields, &said) || said.id == 0 || said.incarnation == 0 ||
        !formation_address(said.address) || !slice_equal(said.op, slice_text("add")))
        return join_usage;
    pack_request_head(payload, "join", false, 0, 4);
    pack_array(payload, 1);
    pack_said(&said, payload);
    return NULL;
}

static const char *encode_members(struct slice args, struct buffer *payload)
{
    struct pack_reader reader = pack_reader_make(args);
    struct said_options options = {0};
    struct buffer changes = {0};
    uint32_t count = 0;
    uint32_t listed = 0;
    bool good = pack_read_array(&reader, &count) == STATUS_OK && (count == 1 || count == 2) &&
                pack_read_array(&reader, &listed) == STATUS_OK && listed > 0 && listed <= MEMBERSHIP_CHANGES_MAX;
    for (uint32_t i = 0; good && i < listed; i++) {
        struct said_change said = {0};
        good = read_fields(&reader, change_fields, &said) &&
               (said.address.size == 0 || formation_address(said.address));
        if (good)
            pack_said(&said, &changes);
    }
    good = good && (count == 1 || read_fields(&reader, option_fields, &options));
    if (good) {
        pack_request_head(payload, "operator", options.force, options.expected, options.why.size > 0 ? 5 : 4);
        pack_array(payload, listed);
        buffer_append(payload, changes.data, changes.size);
        if (options.why.size > 0)
            pack_text(payload, options.why);
    }
    buffer_close(&changes);
    return good ? NULL : members_usage;
}

static const struct host_request requests[] = {
    {.name = "tidelock.code"}, /* the machine answers it: machine_query */
    {.name = "tidelock.deploy", .kind = ENTRY_DEPLOY, .args_max = DEPLOY_BYTES_MAX, .encode = encode_deploy},
    {.name = "tidelock.join", .kind = ENTRY_MEMBERSHIP, .encode = encode_join},
    {.name = "tidelock.limits", .kind = ENTRY_LIMIT, .reads_bare = true, .encode = encode_limit},
    {.name = "tidelock.members"},
    {.name = "tidelock.members_change", .kind = ENTRY_MEMBERSHIP, .encode = encode_members},
    {.name = "tidelock.members_history"},
    {.name = "tidelock.session_end", .kind = ENTRY_SESSION, .encode = encode_end},
    {.name = "tidelock.session_keep", .kind = ENTRY_SESSION, .encode = encode_keep},
    {.name = "tidelock.session_open", .kind = ENTRY_SESSION, .encode = encode_open},
    {.name = "tidelock.skip", .kind = ENTRY_SKIP, .encode = encode_skip},
    {.name = "tidelock.transfer", .act = handover_serve},
    {.name = "tidelock.undeploy", .kind = ENTRY_DEPLOY, .encode = encode_undeploy}};

const struct host_request *host_request_find(struct slice name)
{
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (slice_equal(slice_text(requests[i].name), name))
            return &requests[i];
    return NULL;
}

const char *replica_takes_name(size_t at)
{
    return at < sizeof requests / sizeof requests[0] ? requests[at].name : NULL;
}

bool host_request_reads(const struct pending *request)
{
    static const uint8_t no_arguments = 0x90;
    return request->host != NULL && request->host->act == NULL &&
           (request->host->kind == 0 ||
            (request->host->reads_bare && slice_equal(request_args(request), slice_make(&no_arguments, 1))));
}

bool replica_takes(struct slice name)
{
    return host_request_find(name) != NULL;
}

/* When a stamp given here may be that late: clocks are slewed by a tenth at most (clock.c). */
static uint64_t reaches(const struct replica *replica, uint64_t stamp, uint64_t due)
{
    uint64_t left = due - stamp;
    uint64_t wait = left - left / 11;
    return replica->now.boot_ms + (wait > 0 ? wait : 1);
}

/* A migration that wants to go on: the leader proposes its next step, one at a time. A step too many does nothing. */
static void propose_step(struct replica *replica)
{
    if (replica->migrate_term == replica->effects.term && replica->applied < replica->migrate_index)
        return;
    struct buffer payload = {0};
    pack_text(&payload, slice_text(replica->machine.migrating_mount));
    requests_propose_own(replica, ENTRY_MIGRATE, buffer_slice(&payload));
    buffer_close(&payload);
}

/* What is due: the leader proposes that it happens, one entry at a time, once it has applied what was before its term. */
static void propose_due(struct replica *replica)
{
    uint64_t due = replica->machine.next_due_ms;
    if (due == UINT64_MAX || raft_term_at(replica->raft, replica->applied) != replica->effects.term)
        return;
    if ((replica->due_term == replica->effects.term || MUTANT(171)) && replica->applied < replica->due_index &&
        !MUTANT(172))
        return; /* it is on its way, and tells when it is applied what is due next */
    uint64_t stamp = clock_look(replica);
    if (stamp >= due || MUTANT(177))
        requests_propose_own(replica, ENTRY_DUE, slice_make(NULL, 0));
    else
        replica->due_at = reaches(replica, stamp, due);
}

void host_requests_turn(struct replica *replica)
{
    replica->due_at = UINT64_MAX;
    if (!replica_leads(replica) || replica->machine.parked_at != 0 || replica->stopping)
        return;
    if (replica->machine.migrating && !MUTANT(153))
        propose_step(replica);
    propose_due(replica);
}
