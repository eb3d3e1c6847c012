/* replica/query.c - queries that take longer than a slice of the machine's thread: they wait for a reader, which runs them over a view.
 *
 * The view was taken when the slice ended, after all that the query must see, and goes back as soon as the query has ended or
 * nobody waits for it any more. While a built machine is about to take the place of the one there, no query begins, so that all
 * views come back. Depends on what replica/state.h says.
 */
#include "base/memory.h"
#include "base/mutant.h"
#include "replica/state.h"

enum { QUERY_READERS = REPLICA_READERS - 1 /* one is left for what looks after the state */ };

bool view_none_out(const struct replica *replica)
{
    return replica->views.held == 0 && !replica->query_out;
}

void view_took(struct replica *replica)
{
    replica->views.held++;
}

void view_give_back(struct replica *replica, struct machine_frozen *frozen)
{
    buffer_append(&replica->views.back, &frozen, sizeof frozen);
}

/* All that are not wanted any more, in one job. */
static void give_back(struct replica *replica)
{
    struct views *views = &replica->views;
    if (views->back.size == 0)
        return;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_THAW;
    job->thaw = views->back;
    views->back = (struct buffer){0};
    views->held -= job->thaw.size / sizeof(struct machine_frozen *);
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

void query_later(struct replica *replica, const struct machine_query_item *item)
{
    struct views *views = &replica->views;
    struct pending *request = request_of(replica, item->request);
    bool waits = request != NULL && request->state == REQUEST_QUERYING;
    if (item->frozen != NULL)
        view_took(replica);
    if (!waits || item->frozen == NULL || views->count == LONG_QUERIES_MAX) {
        if (item->frozen != NULL)
            view_give_back(replica, item->frozen);
        if (waits)
            request_fail(replica, request, ERROR_BUSY, "too many long queries in progress; try again");
        return;
    }
    if (views->queries == NULL)
        views->queries = mem_alloc(LONG_QUERIES_MAX * sizeof *views->queries);
    views->queries[(views->first + views->count++) % LONG_QUERIES_MAX] =
        (struct long_query){.token = item->request, .now_ms = item->now_ms, .frozen = item->frozen};
}

void view_submit(struct replica *replica, struct view_job *job)
{
    replica->views.out++;
    replica->views.looking |= job->type != VIEW_JOB_QUERY;
    replica->env.view(replica->env.context, job);
}

static void submit(struct replica *replica, const struct long_query *query, const struct pending *request)
{
    struct view_job *job = mem_zalloc(1, sizeof *job);
    job->type = VIEW_JOB_QUERY;
    job->frozen = query->frozen;
    job->request = query->token;
    job->now_ms = query->now_ms;
    job->name_size = request->name_size;
    job->args_size = request->args_size;
    buffer_append(&job->bytes, request->bytes.data, request->bytes.size);
    replica->views.querying++;
    view_submit(replica, job);
}

void query_turn(struct replica *replica)
{
    struct views *views = &replica->views;
    while (views->count > 0 && views->querying < QUERY_READERS) {
        const struct long_query query = views->queries[views->first];
        struct pending *request = request_of(replica, query.token);
        views->first = (views->first + 1) % LONG_QUERIES_MAX;
        views->count--;
        if (request != NULL && request->state == REQUEST_QUERYING)
            submit(replica, &query, request);
        else
            view_give_back(replica, query.frozen); /* it has timed out */
    }
    give_back(replica);
}

static void answered(struct replica *replica, const struct view_job *job)
{
    struct pending *request = request_of(replica, job->request);
    const struct machine_result *result = &job->results.list[0];
    replica->views.querying--;
    if (!MUTANT(181))
        view_give_back(replica, job->frozen);
    if (request == NULL || request->state != REQUEST_QUERYING)
        return; /* it has timed out */
    if (replica_is_parked(replica))
        request_fail(replica, request, ERROR_PARKED, "this node is parked (see tidelock status); ask another");
    else
        request_end(replica, request, result->ok, true, result->index,
                    slice_make(job->results.bytes.data + result->offset, result->size));
}

void replica_view_done(struct replica *replica, struct view_job *job, struct replica_time now)
{
    replica->now = now;
    replica->views.out--;
    switch (job->type) {
    case VIEW_JOB_QUERY:
        answered(replica, job);
        break;
    case VIEW_JOB_SCRUB:
        replica->views.looking = false;
        scrub_looked(replica, job);
        break;
    default:
        replica->views.looking = false;
        diverge_looked(replica, job);
        break;
    }
    view_job_free(job);
}
