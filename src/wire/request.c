/* wire/request.c - see wire/request.h. */
#include "wire/request.h"

#include <string.h>

#include "base/check.h"
#include "wire/pack.h"

static const uint64_t seq_max = (uint64_t)1 << 53;

static bool is(struct slice text, const char *word)
{
    return slice_equal(text, slice_text(word));
}

static const char *read_session(struct pack_reader *reader, struct request *request)
{
    if (pack_read_text(reader, &request->session) != STATUS_OK || request->session.size == 0 ||
        request->session.size > REQUEST_SESSION_MAX)
        return "session must be the text that tidelock.session_open gave";
    return NULL;
}

static const char *const read_names[] = {
    [READ_LINEARIZABLE] = "linearizable", [READ_LEASE] = "lease", [READ_STALE] = "stale"};

const char *request_read_name(enum request_read read)
{
    return read_names[read];
}

static const char *read_mode(struct pack_reader *reader, struct request *request)
{
    struct slice value;
    if (pack_read_text(reader, &value) == STATUS_OK)
        for (size_t i = 0; i < sizeof read_names / sizeof read_names[0]; i++)
            if (is(value, read_names[i])) {
                request->read = (enum request_read)i;
                return NULL;
            }
    return "read must be \"linearizable\", \"lease\" or \"stale\"";
}

/* One pair of the options. Returns NULL, or why it is refused. */
static const char *read_option(struct pack_reader *reader, struct request *request)
{
    struct slice key;
    uint64_t number = 0;
    if (pack_read_text(reader, &key) != STATUS_OK)
        return "an option's name must be text";
    if (is(key, "timeout_ms")) {
        if (pack_read_u64(reader, &number) != STATUS_OK || number == 0 || number > REQUEST_TIMEOUT_MS_MAX)
            return "timeout_ms must be a whole number from 1 to 600000";
        request->timeout_ms = (uint32_t)number;
        return NULL;
    }
    if (is(key, "read"))
        return read_mode(reader, request);
    if (is(key, "forward"))
        return pack_read_boolean(reader, &request->forward) == STATUS_OK ? NULL : "forward must be true or false";
    if (is(key, "query"))
        return pack_read_boolean(reader, &request->query_only) == STATUS_OK ? NULL : "query must be true or false";
    if (is(key, "dry_run"))
        return pack_read_boolean(reader, &request->dry_run) == STATUS_OK ? NULL : "dry_run must be true or false";
    if (is(key, "session"))
        return read_session(reader, request);
    if (is(key, "seq"))
        return pack_read_u64(reader, &request->seq) == STATUS_OK && request->seq > 0 && request->seq <= seq_max
                   ? NULL
                   : "seq must be a whole number from 1 to 2^53";
    if (is(key, "done_below"))
        return pack_read_u64(reader, &request->done_below) == STATUS_OK ? NULL
                                                                        : "done_below must be a whole number";
    return "an option is not known; there are timeout_ms, read, forward, query, dry_run, session, seq, done_below";
}

static const char *read_options(struct slice bytes, struct request *request)
{
    struct pack_reader reader = pack_reader_make(bytes);
    uint32_t pairs = 0;
    if (pack_read_map(&reader, &pairs) != STATUS_OK)
        return "the fifth element must be a map of options";
    request->has_options = true;
    for (uint32_t i = 0; i < pairs; i++) {
        const char *why = read_option(&reader, request);
        if (why != NULL)
            return why;
    }
    if ((request->session.size > 0) != (request->seq > 0))
        return "session and seq go together";
    if (request->done_below > request->seq)
        return "done_below must be at most seq";
    return NULL;
}

/* Reads [0, id, ...: what must be there for any answer. */
static const char *read_head(struct pack_reader *reader, struct request *request, uint32_t *count)
{
    uint64_t type = 0;
    if (pack_read_array(reader, count) != STATUS_OK || *count < 3 || *count > 5)
        return "a request is a list of four or five elements";
    if (pack_read_u64(reader, &type) != STATUS_OK || type != 0)
        return "a request begins with 0; answers and notifications are not taken";
    if (pack_read_u64(reader, &request->id) != STATUS_OK || request->id > UINT32_MAX)
        return "the second element is the request's id, a whole number from 0 to 2^32 - 1";
    return NULL;
}

/* Reads the rest, of which the id is known. */
static const char *read_rest(struct pack_reader *reader, uint32_t count, struct request *request)
{
    if (count < 4)
        return "a request is a list of four or five elements";
    struct pack_item name;
    if (pack_read(reader, &name) != STATUS_OK || name.type != PACK_STR || name.bytes.size == 0 ||
        name.bytes.size > REQUEST_NAME_MAX)
        return "the third element is a name like \"kv.set\", at most 256 bytes";
    request->name = name.bytes;
    if (pack_skip(reader, PACK_DEPTH_MAX, &request->args) != STATUS_OK)
        return "the arguments are nested deeper than 32";
    struct pack_reader args = pack_reader_make(request->args);
    if (pack_read_array(&args, &request->args_count) != STATUS_OK)
        return "the fourth element is the list of arguments";
    if (count < 5)
        return NULL;
    struct slice options;
    if (pack_skip(reader, PACK_DEPTH_MAX, &options) != STATUS_OK)
        return "the options are nested too deep";
    return read_options(options, request);
}

/* How large the request may be that these bytes begin: code is larger than arguments. */
static size_t bytes_max(struct slice bytes)
{
    struct pack_reader reader = pack_reader_make(bytes);
    struct request request;
    uint32_t count = 0;
    struct slice name;
    bool deploys = bytes.size > REQUEST_BYTES_MAX && read_head(&reader, &request, &count) == NULL &&
                   pack_read_text(&reader, &name) == STATUS_OK && is(name, "tidelock.deploy");
    return deploys ? REQUEST_DEPLOY_BYTES_MAX : REQUEST_BYTES_MAX;
}

enum status request_decode(struct slice bytes, struct request *request, size_t *used, const char **why,
                           bool *answerable)
{
    *request = (struct request){.timeout_ms = REQUEST_TIMEOUT_MS, .forward = true};
    *answerable = false;
    *used = 0;
    *why = NULL;
    struct pack_reader reader = pack_reader_make(bytes);
    struct slice whole;
    enum status status = pack_skip(&reader, PACK_SKIP_DEPTH, &whole);
    if (status == STATUS_INCOMPLETE) {
        *why = "a request is larger than 2 MiB";
        return bytes.size > bytes_max(bytes) ? STATUS_TOO_LARGE : STATUS_INCOMPLETE;
    }
    if (status != STATUS_OK) {
        *why = status == STATUS_TOO_DEEP ? "nested deeper than 128"
                                         : "these bytes are not MessagePack, or of an ext type, which is not taken";
        return STATUS_INVALID;
    }
    *used = whole.size;
    if (whole.size > bytes_max(whole)) {
        *why = "a request is larger than 2 MiB";
        return STATUS_TOO_LARGE;
    }
    struct pack_reader inside = pack_reader_make(whole);
    uint32_t count = 0;
    *why = read_head(&inside, request, &count);
    if (*why != NULL)
        return STATUS_INVALID;
    *answerable = true;
    *why = read_rest(&inside, count, request);
    return *why == NULL ? STATUS_OK : STATUS_INVALID;
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

static void response_head(struct buffer *out, const struct request *request)
{
    pack_array(out, request->has_options ? 5 : 4);
    pack_u64(out, 1);
    pack_u64(out, request->id);
}

void response_ok(struct buffer *out, const struct request *request, struct slice value, uint64_t index)
{
    response_head(out, request);
    pack_nil(out);
    buffer_append(out, value.data, value.size);
    if (request->has_options)
        pack_u64(out, index);
}

void response_error(struct buffer *out, const struct request *request, struct slice error, bool definite,
                    uint64_t index)
{
    response_head(out, request);
    struct pack_reader reader = pack_reader_make(error);
    uint32_t pairs = 0;
    CHECK(pack_read_map(&reader, &pairs) == STATUS_OK);
    struct slice rest = pack_rest(&reader);
    pack_map(out, pairs + 2);
    buffer_append(out, rest.data, rest.size);
    pack_text(out, slice_text("definite"));
    pack_boolean(out, definite);
    pack_text(out, slice_text("index"));
    pack_u64(out, index);
    pack_nil(out);
    if (request->has_options)
        pack_u64(out, index);
}
