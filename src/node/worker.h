/* node/worker.h - a thread that runs jobs in order and hands them back to the loop.
 *
 * Jobs go in by one ring and come back by another (base/ring.h); an eventfd wakes the thread, an ev_async the loop. The
 * log thread and the machine thread are workers: what a job is, they alone know. Depends on base, libev, threads.
 */
#ifndef NODE_WORKER_H
#define NODE_WORKER_H

#include <stdbool.h>
#include <stddef.h>

struct ev_loop;
struct worker;

enum { WORKER_JOBS_MAX = 1024 }; /* out at once, a power of two; the replica keeps far fewer out */

struct worker_ops {
    const char *name;                      /* of the thread, at most 15 bytes */
    int nice;                              /* of long jobs, above 0: it gives way to the other threads */
    void (*run)(void *context, void *job); /* on the thread */
    bool (*idle)(void *context);          /* on the thread, when no job waits: one small step of work that can wait;
                                                * true while there is more. May be NULL */
    void (*done)(void *owner, void *job); /* on the loop, in order */
};

/* Starts the thread. `context` goes to run and idle, `owner` to done. */
struct worker *worker_start(struct ev_loop *loop, const struct worker_ops *ops, void *context, void *owner);

/* Loop: hands a job to the thread. At most WORKER_JOBS_MAX may be out (checked). */
void worker_submit(struct worker *worker, void *job);

/* Loop: wakes the thread if it sleeps and jobs were submitted. Once a turn, when the sockets are written. */
void worker_wake(struct worker *worker);

/* Loop: calls done for all jobs that have come back. The bell does it too. */
void worker_collect(struct worker *worker);

/* Loop: jobs that are out. */
size_t worker_out(const struct worker *worker);

/* Loop: lets the thread finish the jobs that are out, joins it, frees; jobs that come back now still go to done. */
void worker_stop(struct worker *worker);

#endif
