/* replica/query.c - queries that take longer than a slice of the machine's thread: they wait for a reader, which runs them over a view.
 *
 * The view was taken when the slice ended, after all that the query must see, and goes back as soon as the query has ended or
 * nobody waits for it any more. While a built machine is about to take the place of the one there, no query begins, so that all
 * views come back. Depends on what replica/state.h says.
 */
#include "base/memory.h"
#include "base/mutant.h"
#include "replica/state.h"

bool query_holds_none(const struct replica *replica)
{
    return replica->long_queries.held == 0 && !replica->query_out;
}

static void thaw(struct replica *replica, struct machine_frozen *frozen)
{
    buffer_append(&replica->long_queries.back, &frozen, sizeof frozen);
}

/* All that are not wanted any more, in one job. */
static void give_back(struct replica *replica)
{
    struct long_queries *queries = &replica->long_queries;
    if (queries->back.size == 0)
        return;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_THAW;
    job->thaw = queries->back;
    queries->back = (struct buffer){0};
    queries->held -= job->thaw.size / sizeof(struct machine_frozen *);
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

void query_later(struct replica *replica, const struct machine_query_item *item)
{
    struct long_queries *queries = &replica->long_queries;
    struct pending *request = request_of(replica, item->request);
    bool waits = request != NULL && request->state == REQUEST_QUERYING;
    queries->held += item->frozen != NULL;
    if (!waits || item->frozen == NULL || queries->count == LONG_QUERIES_MAX) {
        if (item->frozen != NULL)
            thaw(replica, item->frozen);
        if (waits)
            request_fail(replica, request, ERROR_BUSY, "too many long queries in progress; try again");
        return;
    }
    if (queries->list == NULL)
        queries->list = mem_alloc(LONG_QUERIES_MAX * sizeof *queries->list);
    queries->list[(queries->first + queries->count++) % LONG_QUERIES_MAX] =
        (struct long_query){.token = item->request, .now_ms = item->now_ms, .frozen = item->frozen};
}

static void submit(struct replica *replica, const struct long_query *query, const struct pending *request)
{
    struct view_job *job = mem_zalloc(1, sizeof *job);
    job->frozen = query->frozen;
    job->request = query->token;
    job->now_ms = query->now_ms;
    job->name_size = request->name_size;
    buffer_append(&job->bytes, request->bytes.data, request->bytes.size);
    replica->long_queries.out++;
    replica->env.view(replica->env.context, job);
}

void query_turn(struct replica *replica)
{
    struct long_queries *queries = &replica->long_queries;
    while (queries->count > 0 && queries->out < REPLICA_READERS) {
        const struct long_query query = queries->list[queries->first];
        struct pending *request = request_of(replica, query.token);
        queries->first = (queries->first + 1) % LONG_QUERIES_MAX;
        queries->count--;
        if (request != NULL && request->state == REQUEST_QUERYING)
            submit(replica, &query, request);
        else
            thaw(replica, query.frozen); /* it has timed out */
    }
    give_back(replica);
}

void replica_view_done(struct replica *replica, struct view_job *job, struct replica_time now)
{
    replica->now = now;
    replica->long_queries.out--;
    if (!MUTANT(181))
        thaw(replica, job->frozen);
    struct pending *request = request_of(replica, job->request);
    const struct machine_result *result = &job->results.list[0];
    if (request == NULL || request->state != REQUEST_QUERYING)
        ; /* it has timed out */
    else if (replica->machine.parked_at != 0)
        request_fail(replica, request, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
    else
        request_end(replica, request, result->ok, true, result->index,
                    slice_make(job->results.bytes.data + result->offset, result->size));
    view_job_free(job);
}
