/* raft/progress.c - see raft/progress.h (§5.3). */
#include "raft/progress.h"

#include "base/check.h"
#include "base/mutant.h"

void progress_init(struct progress *progress, node_id id, raft_index last_log_index, uint32_t window, raft_time now)
{
    CHECK(window > 0);
    CHECK(window <= PROGRESS_INFLIGHT_MAX);
    uint32_t epoch = progress->epoch + 1;
    raft_time sent = progress->sent;
    *progress = (struct progress){.id = id,
                                  .next_index = last_log_index + 1,
                                  .epoch = epoch,
                                  .contact = now,
                                  .sent = sent,
                                  .window = window,
                                  .catch_target = last_log_index,
                                  .catch_began = now};
    if (MUTANT(57))
        progress->match_index = last_log_index;
}

void progress_reset(struct progress *progress)
{
    progress->epoch++;
    progress->state = PROGRESS_PROBE;
    progress->probe_out = false;
    if (!MUTANT(41))
        progress->sending = false;
    progress->inflight_first = 0;
    if (!MUTANT(40))
        progress->inflight_count = 0;
    progress->inflight_bytes = 0;
    progress->window = progress->window > 1 ? progress->window / 2 : 1;
}

void progress_wait_for_snapshot(struct progress *progress, raft_index base)
{
    CHECK(progress->match_index < base);
    progress->state = PROGRESS_SNAPSHOT;
    progress->next_index = base + 1;
}

void progress_sent(struct progress *progress, raft_index last, uint32_t bytes)
{
    CHECK(progress->sending);
    progress->sending = false;
    if (progress->state == PROGRESS_PROBE) {
        progress->probe_out = true;
        return;
    }
    CHECK(progress->inflight_count < PROGRESS_INFLIGHT_MAX);
    size_t at = (progress->inflight_first + progress->inflight_count) % PROGRESS_INFLIGHT_MAX;
    progress->inflight[at] = (struct progress_inflight){.last = last, .bytes = bytes};
    progress->inflight_count++;
    progress->inflight_bytes += bytes;
    progress->next_index = last + 1;
}

bool progress_acknowledged(struct progress *progress, raft_index match, raft_index base, uint32_t window_max)
{
    bool news = match > progress->match_index;
    if (news)
        progress->match_index = match;
    while (progress->inflight_count > 0 && progress->inflight[progress->inflight_first].last <= match) {
        progress->inflight_bytes -= progress->inflight[progress->inflight_first].bytes;
        progress->inflight_first = (progress->inflight_first + 1) % PROGRESS_INFLIGHT_MAX;
        progress->inflight_count--;
        if (progress->window < window_max)
            progress->window++;
    }
    if (progress->state == PROGRESS_SNAPSHOT && match < base && !MUTANT(108))
        return news;
    progress->probe_out = false;
    progress->state = PROGRESS_REPLICATE;
    if (progress->next_index <= progress->match_index)
        progress->next_index = progress->match_index + 1;
    return news;
}

void progress_catch_up(struct progress *progress, raft_index last_log_index, raft_time now, uint32_t limit_ms)
{
    if (progress->match_index < progress->catch_target)
        return;
    progress->caught_up = now - progress->catch_began < limit_ms;
    progress->catch_rounds++;
    progress->catch_target = last_log_index;
    progress->catch_began = now;
}

bool progress_may_send(const struct progress *progress, uint32_t window_bytes)
{
    if (progress->sending || progress->state == PROGRESS_SNAPSHOT)
        return false;
    if (progress->state == PROGRESS_PROBE)
        return !progress->probe_out;
    return progress->inflight_count < progress->window && progress->inflight_bytes < window_bytes;
}
