/* replica/diverge.c - a node whose state is not the majority's: it parks, and says which row differs first (DESIGN.md §1, §5).
 *
 * From the moment it knows it answers nothing and leads no more; it goes on to store, acknowledge and vote. Before its machine
 * parks it asks the leader what its rows sum to. Both must look at the state after one entry:
 *
 *     this node                                                 the leader
 *     applies no more; COMPARE, at least its index  ----->      freezes its state as soon as it has applied that much
 *     applies up to there, freezes                  <-----      COMPARED, the index
 *     COMPARE, a range of rows                      ----->      sums them in parts, on a reader's thread
 *     which part is another here? ...               <-----      COMPARED, the sums
 *     parks, with the row's name; COMPARE, end      ----->      gives its view back
 *
 * Each step has a time; when that passes, the node parks without a name. One comparison at a time at the node that is asked.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/trace.h"
#include "replica/state.h"
#include "wire/pack.h"

enum {
    ASK_MS = 500,       /* the first question is asked again */
    FIND_MS = 10000,    /* for somebody to compare with, and for getting to where it looks */
    STEP_MS = 60 * 1000 /* for sums of all rows */
};

bool replica_is_parked(const struct replica *replica)
{
    return replica->machine.parked_at != 0 || replica->diverging.state != DIVERGE_NONE ||
           runtime_differs(replica) != NULL;
}

const char *replica_parked(const struct replica *replica, raft_index *index)
{
    const bool machine = replica->machine.parked_at != 0;
    const bool diverges = replica->diverging.state != DIVERGE_NONE;
    *index = machine ? replica->machine.parked_at : diverges ? replica->diverging.index : replica->applied + 1;
    return machine ? replica->machine.parked_why : diverges ? replica->diverging.why : runtime_differs(replica);
}

/* Entries up to here may be applied. */
raft_index diverge_limit(const struct replica *replica)
{
    switch (replica->diverging.state) {
    case DIVERGE_NONE:
        return runtime_differs(replica) != NULL ? replica->apply_next - 1 : UINT64_MAX;
    case DIVERGE_APPLYING:
        return replica->diverging.until;
    default:
        return replica->apply_next - 1;
    }
}

uint64_t diverge_wake_at(const struct replica *replica)
{
    const struct diverging *own = &replica->diverging;
    const struct comparing *other = &replica->comparing;
    uint64_t at = UINT64_MAX;
    if (own->state == DIVERGE_FOUND)
        at = own->ask_at < own->give_up_at ? own->ask_at : own->give_up_at;
    else if (own->state != DIVERGE_NONE && own->state != DIVERGE_PARKING)
        at = own->give_up_at;
    if (other->with != 0 && other->give_up_at < at)
        at = other->give_up_at;
    return at;
}

/* --- this node's --------------------------------------------------------------------------------------------------------- */

static void share(struct replica *replica, uint64_t number)
{
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_SHARE;
    job->number = number;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

static bool ask(struct replica *replica, raft_index at_least, bool end)
{
    const struct diverging *own = &replica->diverging;
    struct message message = {.type = MESSAGE_COMPARE};
    message.compare = (struct message_compare){.number = own->number,
                                               .at_least = at_least,
                                               .end = end,
                                               .lo = buffer_slice(&own->lo),
                                               .hi = buffer_slice(&own->hi)};
    return link_send_message(replica, own->with, &message, NULL, 0);
}

/* The machine parks, for the reason that is known by now. */
static void park(struct replica *replica, const char *what)
{
    struct diverging *own = &replica->diverging;
    const size_t size = strlen(own->why);
    if (what[0] != 0)
        snprintf(own->why + size, sizeof own->why - size, ": %s", what);
    if (own->with != 0)
        (void)ask(replica, 0, true);
    if (own->frozen != NULL)
        view_give_back(replica, own->frozen);
    own->frozen = NULL;
    own->state = DIVERGE_PARKING;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_PARK;
    buffer_append(&job->bytes, own->why, strlen(own->why) + 1);
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

/* From here on nothing of this node's state is told. */
static void begin(struct replica *replica, raft_index index, const char *why)
{
    struct diverging *own = &replica->diverging;
    own->state = DIVERGE_FOUND;
    own->index = index;
    own->number = prng_next(&replica->prng);
    own->with = 0;
    own->ask_at = replica->now.boot_ms;
    own->give_up_at = replica->now.boot_ms + FIND_MS;
    buffer_clear(&own->lo);
    buffer_clear(&own->hi);
    snprintf(own->why, sizeof own->why, "%s", why);
    LOG(LOG_ERROR, "replica", "%s; this node answers nothing from now on", why);
    take_drop(replica);
    apply_step_aside(replica);
}

void diverge_found(struct replica *replica, raft_index index)
{
    char why[128];
    if (replica_is_parked(replica) || MUTANT(183))
        return;
    snprintf(why, sizeof why, "the state is not the majority's at entry %llu", (unsigned long long)index);
    begin(replica, index, why);
}

void diverge_park(struct replica *replica, raft_index index, const char *why)
{
    if (replica_is_parked(replica))
        return;
    begin(replica, index, why);
    park(replica, "");
}

void diverge_reset(struct replica *replica)
{
    struct diverging *own = &replica->diverging;
    if (own->frozen != NULL)
        view_give_back(replica, own->frozen);
    own->frozen = NULL;
    own->state = DIVERGE_NONE;
}

static void look_on(struct replica *replica)
{
    struct diverging *own = &replica->diverging;
    own->state = DIVERGE_ASKING;
    own->give_up_at = replica->now.boot_ms + STEP_MS;
    if (!ask(replica, 0, false))
        park(replica, "the link to who compares is gone");
}

/* Somebody said something: where it looks, or sums. */
void diverge_told(struct replica *replica, node_id from, const struct message_compared *told)
{
    struct diverging *own = &replica->diverging;
    if (own->with != from || own->number != told->number)
        return;
    if (own->state == DIVERGE_FOUND && told->index >= replica->apply_next - 1) {
        own->until = told->index;
        own->state = DIVERGE_APPLYING;
        own->give_up_at = replica->now.boot_ms + FIND_MS;
    } else if (own->state == DIVERGE_ASKING && told->index == own->until && !replica->views.looking) {
        struct view_job *job = mem_zalloc(1, sizeof *job);
        job->type = VIEW_JOB_COMPARE;
        job->frozen = own->frozen;
        job->request = own->number;
        buffer_append(&job->lo, own->lo.data, own->lo.size);
        buffer_append(&job->hi, own->hi.data, own->hi.size);
        buffer_append(&job->told, told->told.data, told->told.size);
        own->state = DIVERGE_LOOKING;
        own->give_up_at = UINT64_MAX; /* what it waits for is here */
        view_submit(replica, job);
    }
}

static void compared(struct replica *replica, struct view_job *job)
{
    struct diverging *own = &replica->diverging;
    if (own->state != DIVERGE_LOOKING)
        return;
    switch (job->verdict) {
    case COMPARE_PART:
        buffer_close(&own->lo);
        buffer_close(&own->hi);
        own->lo = job->lo;
        own->hi = job->hi;
        job->lo = job->hi = (struct buffer){0};
        look_on(replica);
        break;
    case COMPARE_ROW:
        buffer_append_byte(&job->what, 0);
        park(replica, (const char *)job->what.data);
        break;
    case COMPARE_SAME:
        park(replica, "all rows are the leader's, so an earlier answer was not");
        break;
    default:
        park(replica, "what the leader said of its rows makes no sense");
        break;
    }
}

static void find_other(struct replica *replica)
{
    struct diverging *own = &replica->diverging;
    const node_id leader = replica->effects.leader;
    if (replica->now.boot_ms < own->ask_at)
        return;
    own->ask_at = replica->now.boot_ms + ASK_MS;
    if (leader == 0 || leader == replica->identity.id)
        return;
    own->with = leader;
    (void)ask(replica, replica->apply_next - 1, false);
}

static void own_turn(struct replica *replica)
{
    struct diverging *own = &replica->diverging;
    if (own->state == DIVERGE_NONE || own->state == DIVERGE_PARKING)
        return;
    if (replica->machine.parked_at != 0) {
        own->state = DIVERGE_PARKING; /* for another reason, meanwhile */
        return;
    }
    if (replica->now.boot_ms >= own->give_up_at) {
        park(replica, "no other node said in time which row differs");
    } else if (own->state == DIVERGE_FOUND) {
        find_other(replica);
    } else if (own->state == DIVERGE_APPLYING && replica->applied == own->until) {
        own->state = DIVERGE_SHARING;
        share(replica, SHARE_OWN);
    }
}

/* --- for another node ---------------------------------------------------------------------------------------------------- */

static void tell(struct replica *replica, node_id with, uint64_t number, raft_index index, struct slice told)
{
    static const uint8_t nil[1] = {0xC0};
    struct message message = {.type = MESSAGE_COMPARED};
    message.compared = (struct message_compared){
        .number = number, .index = index, .told = told.size > 0 ? told : slice_make(nil, sizeof nil)};
    (void)link_send_message(replica, with, &message, NULL, 0);
}

static void forget_other(struct replica *replica)
{
    struct comparing *other = &replica->comparing;
    if (other->frozen != NULL && !other->looking)
        view_give_back(replica, other->frozen);
    if (!other->looking)
        other->frozen = NULL;
    other->with = 0;
}

void diverge_asked(struct replica *replica, node_id from, const struct message_compare *asked)
{
    struct comparing *other = &replica->comparing;
    const bool known = other->with == from && other->number == asked->number;
    if (replica_is_parked(replica))
        return;
    if (known && asked->end) {
        forget_other(replica);
    } else if (known) {
        other->give_up_at = replica->now.boot_ms + STEP_MS;
        if (asked->at_least > other->index && other->frozen != NULL && !other->looking) {
            view_give_back(replica, other->frozen);
            other->frozen = NULL;
            other->at_least = asked->at_least;
        } else if (asked->at_least != 0 && other->frozen != NULL) {
            tell(replica, from, other->number, other->index, slice_make(NULL, 0));
        } else if (asked->at_least == 0 && other->frozen != NULL && !other->looking && !other->wanted) {
            other->wanted = true;
            buffer_clear(&other->lo);
            buffer_clear(&other->hi);
            buffer_append(&other->lo, asked->lo.data, asked->lo.size);
            buffer_append(&other->hi, asked->hi.data, asked->hi.size);
        }
    } else if (asked->at_least != 0 && other->with == 0 && other->frozen == NULL && !other->sharing) {
        other->with = from;
        other->number = asked->number;
        other->at_least = asked->at_least;
        other->wanted = false;
        other->give_up_at = replica->now.boot_ms + STEP_MS;
    }
}

static void other_turn(struct replica *replica)
{
    struct comparing *other = &replica->comparing;
    if (other->with == 0)
        return;
    if (replica->now.boot_ms >= other->give_up_at || replica_is_parked(replica)) {
        forget_other(replica);
    } else if (other->frozen == NULL && !other->sharing && replica->applied >= other->at_least &&
               replica->snapshots.receive.state != RECEIVE_READY) {
        other->sharing = true;
        share(replica, SHARE_OTHER);
    } else if (other->wanted && !replica->views.looking) {
        struct view_job *job = mem_zalloc(1, sizeof *job);
        job->type = VIEW_JOB_TELL;
        job->frozen = other->frozen;
        job->request = other->number;
        buffer_append(&job->lo, other->lo.data, other->lo.size);
        buffer_append(&job->hi, other->hi.data, other->hi.size);
        other->wanted = false;
        other->looking = true;
        view_submit(replica, job);
    }
}

static void summed(struct replica *replica, const struct view_job *job)
{
    struct comparing *other = &replica->comparing;
    other->looking = false;
    if (other->with != 0 && other->number == job->request)
        tell(replica, other->with, other->number, other->index, buffer_slice(&job->told));
    else
        forget_other(replica); /* it was not waited for */
}

/* --- both ---------------------------------------------------------------------------------------------------------------- */

/* A state was frozen to be looked at. */
void diverge_shared(struct replica *replica, struct machine_job *job)
{
    struct diverging *own = &replica->diverging;
    struct comparing *other = &replica->comparing;
    struct machine_frozen *frozen = job->frozen;
    job->frozen = NULL;
    if (frozen != NULL)
        view_took(replica);
    if (job->number == SHARE_OWN && own->state == DIVERGE_SHARING && frozen != NULL) {
        own->frozen = frozen;
        look_on(replica);
        return;
    }
    if (job->number == SHARE_OTHER && other->sharing) {
        other->sharing = false;
        if (other->with != 0 && frozen != NULL) {
            other->frozen = frozen;
            other->index = machine_frozen_head(frozen)->index;
            tell(replica, other->with, other->number, other->index, slice_make(NULL, 0));
            return;
        }
    }
    if (frozen != NULL)
        view_give_back(replica, frozen);
}

void diverge_looked(struct replica *replica, struct view_job *job)
{
    if (job->type == VIEW_JOB_TELL)
        summed(replica, job);
    else
        compared(replica, job);
}

/* --- for proofs ---------------------------------------------------------------------------------------------------------- */

void replica_request_rot(struct replica *replica, uint64_t client, uint64_t rank, struct replica_time now)
{
    replica->now = now;
    const struct request request = {.name = slice_text("tidelock.tamper"), .timeout_ms = REQUEST_TIMEOUT_MS};
    uint64_t token = request_add(replica, client, 0, &request, false);
    struct pending *pending = token != 0 ? request_of(replica, token) : NULL;
    if (pending == NULL)
        return;
    pending->state = REQUEST_ROT;
    struct machine_job *job = mem_zalloc(1, sizeof *job);
    job->type = MACHINE_JOB_ROT;
    job->number = rank;
    job->request = token;
    replica->snapshots.machine_jobs++;
    replica->env.apply(replica->env.context, job);
}

void diverge_rotted(struct replica *replica, const struct machine_job *job)
{
    struct pending *request = request_of(replica, job->request);
    struct buffer value = {0};
    if (request == NULL || request->state != REQUEST_ROT)
        return;
    pack_map(&value, 1);
    pack_text(&value, slice_text("row"));
    pack_text(&value, buffer_slice(&job->bytes));
    if (job->found)
        request_end(replica, request, true, true, replica->applied, buffer_slice(&value));
    else
        request_fail(replica, request, ERROR_NOT_FOUND, "there is no row that could rot");
    buffer_close(&value);
}

void diverge_turn(struct replica *replica)
{
    own_turn(replica);
    other_turn(replica);
}
