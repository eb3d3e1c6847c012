/* sim/swarm.c - see sim/swarm.h. */
#include "sim/swarm.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "sim/faults.h"
#include "sim/sim_disk.h"
#include "sim/swarm_private.h"

enum {
    FORM_MS = 30000,    /* the service answers within this, when nothing is broken */
    WATCH_MS = 400,     /* the watchman looks at who is down this often */
    LIVENESS_MS = 4000, /* and LIVENESS_ELECTIONS election timeouts: until all is well after mending */
    LIVENESS_ELECTIONS = 30,
    LIVENESS_SNAPSHOTS = 12, /* and so many jobs of a snapshot thread, when they are slow, and a file at its rate */
    LIVENESS_BYTES = 100000,
    LIVENESS_JOINERS = 4, /* with churn that many may fetch one, one after the other (seed 3305) */
    OFTEN_MS = 1500
};

/* --- drawing ---------------------------------------------------------------------------------------------------------------- */

static void add_strikes(struct swarm *swarm, struct prng *prng, uint32_t place)
{
    const struct fault *fault = fault_at(place);
    static const uint32_t thirds[] = {1, 3, 9}; /* of the usual time between two strikes */
    uint32_t mean = fault->every_ms * thirds[prng_below(prng, 3)] / 3;
    for (uint64_t at = prng_below(prng, 2 * mean); at < swarm->options.fault_ms;
         at += prng_between(prng, 1, 2 * mean)) {
        if (swarm->script_count == SWARM_STRIKES_MAX)
            return;
        struct strike strike = {.at = (uint32_t)at,
                                .fault = place,
                                .node = (uint32_t)prng_below(prng, swarm->field.nodes),
                                .leader = prng_below(prng, 2) == 0,
                                .amount = (uint32_t)prng_below(prng, fault->amount_max + 1u),
                                .lasts = (uint32_t)prng_below(prng, fault->lasts_ms + 1u)};
        strike.peer = (strike.node + 1 + (uint32_t)prng_below(prng, swarm->field.nodes)) % swarm->field.nodes;
        swarm->script[swarm->script_count++] = strike;
    }
}

static void sort_script(struct swarm *swarm)
{
    for (size_t i = 1; i < swarm->script_count; i++) {
        struct strike strike = swarm->script[i];
        size_t place = i;
        for (; place > 0 && swarm->script[place - 1].at > strike.at; place--)
            swarm->script[place] = swarm->script[place - 1];
        swarm->script[place] = strike;
    }
}

/* A quarter of the faults are on, of those that strike often by nature half; in one seed of eight none is, so that the workload is seen alone. */
static void draw_script(struct swarm *swarm, struct prng *prng)
{
    bool quiet = prng_below(prng, 8) == 0;
    swarm->script = mem_zalloc(SWARM_STRIKES_MAX, sizeof *swarm->script);
    swarm->active = mem_zalloc(SWARM_STRIKES_MAX, sizeof *swarm->active);
    for (uint32_t place = 0; place < faults_count(); place++) {
        uint64_t draw = prng_below(prng, fault_at(place)->every_ms <= OFTEN_MS ? 2 : 4);
        bool on = draw == 0 && !quiet && (swarm->options.faults >> place & 1) != 0 &&
                  (!fault_is_own(place) || swarm->options.workload.deploy != NULL) &&
                  (swarm->options.churn == 0 || !fault_destroys(place));
        if (on)
            add_strikes(swarm, prng, place);
    }
    sort_script(swarm);
}

/* Thresholds so small that a seed sees many snapshots, and logs that begin after them; in one seed of four none is taken unless
 * by hand. */
static void draw_snapshots(struct replica_world_options *how, struct prng *prng)
{
    struct replica_snapshots *snapshots = &how->snapshots;
    how->snapshot_ms_max = (uint32_t)prng_below(prng, prng_below(prng, 4) == 0 ? 600 : 100);
    how->segment_bytes = DISK_BLOCK_BYTES * prng_between(prng, 12, 64);
    snapshots->keep = prng_below(prng, prng_below(prng, 2) == 0 ? 4 : 200);
    snapshots->keep_bytes = prng_below(prng, 4) == 0 ? prng_between(prng, 1000, 20000) : 0;
    snapshots->chunk_bytes = (uint32_t)prng_between(prng, 512, prng_below(prng, 2) == 0 ? 1024 : 65536);
    snapshots->rate = prng_below(prng, 4) == 0 ? prng_between(prng, 5000, 100000) : 0;
    snapshots->zstd = prng_below(prng, 4) == 0;
    switch (prng_below(prng, 4)) {
    case 0:
        snapshots->entries = prng_between(prng, 5, 300);
        break;
    case 1:
        snapshots->bytes = prng_between(prng, 1000, 50000);
        break;
    case 2:
        snapshots->every_ms = prng_between(prng, 200, 5000);
        break;
    default:
        break;
    }
}

static void make_world(struct swarm *swarm, struct prng *prng)
{
    struct replica_world_options how = {
        .seed = prng_next(prng),
        .nodes = swarm->field.nodes,
        .delay_ms_max = (uint32_t)prng_between(prng, 1, prng_below(prng, 4) == 0 ? 40 : 5),
        .write_ms_max = (uint32_t)prng_below(prng, prng_below(prng, 4) == 0 ? 40 : 4),
        .apply_ms_max = (uint32_t)prng_below(prng, 4),
        .election_ms = (uint32_t)prng_between(prng, 150, 1000),
        .lua_bytes_max = SWARM_LUA_BYTES_MAX,
        .invariants = swarm->options.invariants,
        .keep_log = swarm->options.workload.begun != NULL,
        .cache_bytes = prng_below(prng, 2) == 0 ? 0 : (size_t)1 << prng_between(prng, 8, 16)};
    draw_snapshots(&how, prng);
    how.heartbeat_ms = how.election_ms / (uint32_t)prng_between(prng, 3, 10);
    char line[REPLICA_WORLD_LINE_BYTES];
    replica_world_line(swarm->founders, line);
    swarm->election_ms = how.election_ms;
    swarm->snapshot_ms = (uint64_t)LIVENESS_SNAPSHOTS * how.snapshot_ms_max + 4000;
    if (how.snapshots.rate != 0)
        swarm->snapshot_ms += (swarm->options.churn != 0 ? (uint64_t)LIVENESS_JOINERS : 1) * LIVENESS_BYTES * 1000 /
                              how.snapshots.rate;
    swarm->field.delay_ms_max = how.delay_ms_max;
    swarm->field.write_ms_max = how.write_ms_max;
    swarm->field.apply_ms_max = how.apply_ms_max;
    swarm->field.snapshot_ms_max = how.snapshot_ms_max;
    swarm->world = replica_world_new(&how, line, swarm->options.bundles);
    swarm->field.world = swarm->world;
    if (swarm->options.churn != 0)
        swarm_members_begin(swarm, swarm->founders);
}

struct swarm *swarm_new(const struct swarm_options *options)
{
    static const uint32_t sizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
    struct prng prng;
    struct swarm *swarm = mem_zalloc(1, sizeof *swarm);
    CHECK(options->clients <= SWARM_CLIENTS_MAX);
    swarm->options = *options;
    prng_seed(&prng, options->seed);
    uint32_t drawn = sizes[prng_below(&prng, sizeof sizes / sizeof *sizes)];
    swarm->field.nodes = options->nodes > 0 ? options->nodes : drawn;
    swarm->founders = swarm->field.nodes;
    if (options->churn != 0) {
        swarm->field.nodes = REPLICA_WORLD_NODES_MAX;
        swarm->founders = drawn;
    }
    swarm->early = prng_below(&prng, 4) == 0 && options->churn == 0;
    /* Requests that are kept to be run again by script are each sent once. */
    swarm->sessions = options->workload.begun == NULL && options->seed % 2 == 0;
    swarm->leases = options->workload.begun == NULL && options->seed % 3 == 0;
    prng_seed(&swarm->prng, prng_next(&prng));
    prng_seed(&swarm->watch_prng, ~options->seed);
    prng_seed(&swarm->field.prng, prng_next(&prng));
    swarm->field.workload = &swarm->options.workload;
    make_world(swarm, &prng);
    draw_script(swarm, &prng);
    return swarm;
}

void swarm_free(struct swarm *swarm)
{
    replica_world_free(swarm->world);
    mem_free(swarm->script);
    mem_free(swarm->active);
    swarm_clients_free(swarm);
    mem_free(swarm);
}

struct strike *swarm_script(struct swarm *swarm, size_t **count)
{
    *count = &swarm->script_count;
    return swarm->script;
}

uint32_t swarm_struck(const struct swarm *swarm, size_t fault)
{
    CHECK(fault < faults_count());
    return swarm->struck[fault];
}

struct replica_world *swarm_world(struct swarm *swarm)
{
    return swarm->world;
}

/* --- telling ------------------------------------------------------------------------------------------------------------------ */

void swarm_broke(struct swarm *swarm, const char *what)
{
    if (swarm->report->broken != NULL)
        return;
    snprintf(swarm->broken, sizeof swarm->broken, "%s", what);
    struct transcript *t = replica_world_transcript(swarm->world);
    if (transcript_begin(t, swarm_now(swarm), 0, "failed")) {
        transcript_text(t, "what", what);
        transcript_end(t);
    }
    swarm->report->broken = swarm->broken;
}

static void say_unsettled(struct swarm *swarm, const char *what)
{
    char said[400];
    size_t size = (size_t)snprintf(said, sizeof said, "%s:", what);
    for (uint32_t i = 0; i < swarm->field.nodes && size < sizeof said; i++) {
        struct replica_world_status s;
        replica_world_status(swarm->world, i, &s);
        size += (size_t)snprintf(
            said + size, sizeof said - size, " [%u %s %s term %llu commit %llu last %llu applied %llu]", i + 1,
            s.up ? "up" : replica_world_fatal(swarm->world, i),
            s.raft ? raft_role_name((enum raft_role)s.role) : "forming", (unsigned long long)s.term,
            (unsigned long long)s.commit, (unsigned long long)s.last, (unsigned long long)s.applied);
    }
    swarm_broke(swarm, said);
}

/* --- the first phase ------------------------------------------------------------------------------------------------------------ */

static void run_to(struct swarm *swarm, uint64_t at)
{
    if (at <= swarm_now(swarm) || swarm->report->broken != NULL)
        return;
    const char *broken = replica_world_run(swarm->world, at - swarm_now(swarm));
    if (broken != NULL)
        swarm_broke(swarm, broken);
}

static void trace_strike(struct swarm *swarm, const char *kind, const struct strike *strike)
{
    struct transcript *t = replica_world_transcript(swarm->world);
    if (!transcript_begin(t, swarm_now(swarm), strike->node + 1, kind))
        return;
    transcript_text(t, "fault", fault_at(strike->fault)->name);
    transcript_number(t, "peer", strike->peer + 1);
    transcript_number(t, "amount", strike->amount);
    transcript_number(t, "lasts", strike->lasts);
    transcript_end(t);
}

static void strike_now(struct swarm *swarm, const struct strike *scripted)
{
    const struct fault *fault = fault_at(scripted->fault);
    struct strike strike = *scripted;
    uint32_t leader = strike.leader ? replica_world_leader(swarm->world) : REPLICA_WORLD_NOBODY;
    if (leader != REPLICA_WORLD_NOBODY)
        strike.node = leader;
    trace_strike(swarm, "strike", &strike);
    fault->strike(&swarm->field, &strike);
    swarm->report->strikes++;
    swarm->struck[strike.fault]++;
    if (fault->mend != NULL)
        swarm->active[swarm->active_count++] = strike;
}

static void mend_at(struct swarm *swarm, size_t place)
{
    struct strike strike = swarm->active[place];
    swarm->active[place] = swarm->active[--swarm->active_count];
    trace_strike(swarm, "mend", &strike);
    fault_at(strike.fault)->mend(&swarm->field, &strike);
}

/* Or says that the disk failed just then: the fault of a write names no file. */
static bool names_a_file(const char *why)
{
    static const char *const files[] = {"log-", "vote", "identity", "bundles", "snapshot-", "simulated failure"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strstr(why, files[i]) != NULL)
            return true;
    return false;
}

/* Starts who is down, sometimes: a supervisor that takes its time. A node whose disk lost what it promised may refuse, and
 * must say which file. */
static void watch(struct swarm *swarm, uint32_t chance)
{
    struct replica_world_status status;
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        replica_world_status(swarm->world, i, &status);
        if (status.up || !swarm_may_start(swarm, i) || prng_below(&swarm->watch_prng, chance) != 0 ||
            replica_world_start(swarm->world, i))
            continue;
        const char *why = replica_world_fatal(swarm->world, i);
        if (swarm->field.destroyed[i] && !names_a_file(why))
            say_unsettled(swarm, "a node with a damaged disk does not name the file");
    }
    swarm->watch_at = swarm_now(swarm) + WATCH_MS;
}

static uint64_t next_time(const struct swarm *swarm, uint64_t until)
{
    uint64_t at = until < swarm->watch_at ? until : swarm->watch_at;
    if (swarm->next_strike < swarm->script_count) {
        uint64_t strike_at = swarm->script_began + swarm->script[swarm->next_strike].at;
        at = strike_at < at ? strike_at : at;
    }
    for (size_t i = 0; i < swarm->active_count; i++) {
        uint64_t mend_at_ms = swarm->script_began + swarm->active[i].at + swarm->active[i].lasts;
        at = mend_at_ms < at ? mend_at_ms : at;
    }
    for (uint32_t i = 0; i < swarm->options.clients; i++)
        at = swarm->clients[i].next_at < at ? swarm->clients[i].next_at : at;
    if (swarm->options.churn != 0 && swarm->churn.next_at < at)
        at = swarm->churn.next_at;
    return at;
}

/* Clients that are due. */
static void step_clients(struct swarm *swarm, bool may_begin)
{
    for (uint32_t i = 0; i < swarm->options.clients; i++)
        if (swarm->clients[i].next_at <= swarm_now(swarm))
            swarm_client_step(swarm, i, may_begin);
}

static void fault_phase(struct swarm *swarm)
{
    uint64_t until = swarm->script_began + swarm->options.fault_ms;
    while (swarm_now(swarm) < until && swarm->report->broken == NULL) {
        run_to(swarm, next_time(swarm, until));
        uint64_t now = swarm_now(swarm);
        for (; swarm->next_strike < swarm->script_count &&
               swarm->script_began + swarm->script[swarm->next_strike].at <= now;
             swarm->next_strike++)
            strike_now(swarm, &swarm->script[swarm->next_strike]);
        for (size_t i = swarm->active_count; i > 0; i--)
            if (swarm->script_began + swarm->active[i - 1].at + swarm->active[i - 1].lasts <= now)
                mend_at(swarm, i - 1);
        step_clients(swarm, true);
        if (swarm->options.churn != 0 && swarm->churn.next_at <= now)
            swarm_members_step(swarm);
        if (swarm->watch_at <= now)
            watch(swarm, 8);
    }
}

/* --- mending, and what must come of it ------------------------------------------------------------------------------------------ */

static void mend_all(struct swarm *swarm)
{
    while (swarm->active_count > 0)
        mend_at(swarm, swarm->active_count - 1);
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        sim_disk_calm(replica_world_disk(swarm->world, i));
        replica_world_hang(swarm->world, i, 0);
        replica_world_resume(swarm->world, i);
        faults_feed(&swarm->field, i);
    }
    watch(swarm, 1);
}

/* All that can be up have applied everything, the same, and know one leader. */
static bool is_settled(struct swarm *swarm)
{
    struct replica_world_status first = {0};
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        struct replica_world_status status;
        replica_world_status(swarm->world, i, &status);
        if ((!status.up && swarm->field.destroyed[i]) || !swarm_is_member(swarm, i))
            continue;
        if (!status.raft || status.applied < status.commit || status.applied < status.last)
            return false;
        if (first.raft && (status.applied != first.applied || status.digest_hi != first.digest_hi ||
                           status.digest_lo != first.digest_lo || status.leader != first.leader))
            return false;
        first = status;
    }
    return first.raft && first.leader != 0;
}

/* Nobody sleeps over an answer from here on. */
static void wake_clients(struct swarm *swarm)
{
    for (uint32_t i = 0; i < swarm->options.clients; i++)
        if (swarm->clients[i].busy)
            swarm->clients[i].next_at = swarm_now(swarm);
}

/* Clients go on until one has a fresh answer, then stop; everything must come to rest. */
static void liveness_phase(struct swarm *swarm)
{
    uint64_t until =
        swarm_now(swarm) + LIVENESS_MS + (uint64_t)LIVENESS_ELECTIONS * swarm->election_ms + swarm->snapshot_ms;
    uint64_t before = swarm->answers;
    while (swarm->report->broken == NULL) {
        bool fresh = swarm->answers > before || swarm->options.requests != NULL;
        if (fresh && !swarm_clients_busy(swarm) && is_settled(swarm))
            return;
        if (swarm_now(swarm) >= until) {
            say_unsettled(swarm, fresh ? "no rest after mending" : "no answer after mending");
            return;
        }
        run_to(swarm, swarm_now(swarm) + 5);
        wake_clients(swarm);
        step_clients(swarm, !fresh);
        if (swarm->watch_at <= swarm_now(swarm))
            watch(swarm, 1);
    }
}

/* Waits until a client has an answer: the cluster has formed, and applies. */
static void form(struct swarm *swarm)
{
    uint64_t until = swarm_now(swarm) + FORM_MS;
    while (swarm->report->broken == NULL && swarm->answers == 0) {
        if (swarm_now(swarm) >= until)
            say_unsettled(swarm, swarm->options.workload.begun != NULL && swarm->list_count == 0
                                     ? "the workload asked for nothing all the time"
                                     : "the service does not answer");
        run_to(swarm, swarm_now(swarm) + 20);
        for (uint32_t i = 0; i < swarm->options.clients; i++)
            swarm_client_step(swarm, i, true);
    }
}

/* By script: as long as that took when the script was made. */
static void form_scripted(struct swarm *swarm)
{
    uint64_t until = swarm->began + swarm->options.form_ms;
    while (swarm->report->broken == NULL && swarm_now(swarm) < until) {
        uint64_t at = until;
        for (uint32_t i = 0; i < swarm->options.clients; i++)
            at = swarm->clients[i].next_at < at ? swarm->clients[i].next_at : at;
        run_to(swarm, at > swarm_now(swarm) ? at : swarm_now(swarm) + 1);
        step_clients(swarm, true);
    }
}

static void verdicts(struct swarm *swarm)
{
    for (uint32_t i = 0; i < swarm->field.nodes && swarm->report->broken == NULL; i++) {
        const char *wrong = NULL;
        if (swarm_is_up(swarm, i) && swarm_is_member(swarm, i))
            wrong = swarm->options.workload.verdict(swarm->options.workload.context, swarm->world, i);
        if (wrong != NULL)
            swarm_broke(swarm, wrong);
    }
}

/* What is broken was so in the phase before. */
static void enter_phase(struct swarm *swarm, const char *phase)
{
    struct transcript *t = replica_world_transcript(swarm->world);
    if (swarm->report->broken != NULL)
        return;
    swarm->report->phase = phase;
    if (transcript_begin(t, swarm_now(swarm), 0, "phase")) {
        transcript_text(t, "phase", phase);
        transcript_end(t);
    }
}

void swarm_run(struct swarm *swarm, struct swarm_report *report)
{
    *report = (struct swarm_report){0};
    swarm->report = report;
    enter_phase(swarm, "forming");
    swarm->began = swarm_now(swarm);
    swarm_clients_begin(swarm);
    for (uint32_t i = 0; i < swarm->field.nodes; i++) {
        run_to(swarm, swarm_now(swarm) + prng_below(&swarm->prng, 200));
        if (swarm_may_start(swarm, i))
            (void)replica_world_start(swarm->world, i);
    }
    if (swarm->options.requests != NULL)
        form_scripted(swarm);
    else if (!swarm->early)
        form(swarm);
    enter_phase(swarm, "faults");
    swarm->script_began = swarm_now(swarm);
    swarm->watch_at = swarm_now(swarm) + WATCH_MS;
    fault_phase(swarm);
    enter_phase(swarm, "mending");
    if (report->broken == NULL)
        mend_all(swarm);
    enter_phase(swarm, "liveness");
    liveness_phase(swarm);
    enter_phase(swarm, "verdict");
    verdicts(swarm);
    report->nodes = swarm->field.nodes;
    report->form_ms = (uint32_t)(swarm->script_began - swarm->began);
    report->ms = swarm_now(swarm) - swarm->began;
    report->events = replica_world_events(swarm->world);
    report->committed = replica_world_committed(swarm->world);
    report->taken = replica_world_taken(swarm->world);
    report->installed = replica_world_installed(swarm->world);
    report->asked = swarm->churn.asked;
    report->granted = swarm->churn.granted;
    report->joined = swarm->churn.joined;
    report->removed = swarm->churn.removed;
    report->lost = swarm->churn.lost;
    report->hash = replica_world_hash(swarm->world);
}
