/* node/worker.c - see node/worker.h. */
#include "node/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <ev.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/ring.h"
#include "base/trace.h"

enum { SLOW_US = 5000 }; /* of one job: whoever waits behind it notices */

struct worker {
    struct worker_ops ops;
    void *context;
    void *owner;
    struct ev_loop *loop;
    struct ring *in;
    struct ring *out;
    int bell;
    ev_async back;
    size_t jobs_out;
    bool wakes; /* jobs were submitted since worker_wake */
    atomic_bool stopping;
    atomic_bool sleeping; /* the thread waits at the bell, or is about to */
    pthread_t thread;
};

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void note_slow(const struct worker *worker, uint64_t began_us, const char *what)
{
    uint64_t took = clock_us() - began_us;
    if (took >= SLOW_US && worker->ops.nice == 0)
        LOG(LOG_DEBUG, "node", "thread %s was busy for %llu us with one %s", worker->ops.name,
            (unsigned long long)took, what);
}

static void run_jobs(struct worker *worker)
{
    for (void *job = ring_pop(worker->in); job != NULL; job = ring_pop(worker->in)) {
        uint64_t began = clock_us();
        worker->ops.run(worker->context, job);
        note_slow(worker, began, "job");
        CHECK(ring_push(worker->out, job));
        ev_async_send(worker->loop, &worker->back);
    }
}

static void wait_for_bell(struct worker *worker)
{
    uint64_t rings = 0;
    while (read(worker->bell, &rings, sizeof rings) < 0)
        CHECK(errno == EINTR);
}

static void *thread_main(void *argument)
{
    struct worker *worker = argument;
    if (worker->ops.nice > 0) /* refused: it is as quick as the others */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), worker->ops.nice);
    for (;;) {
        atomic_store(&worker->sleeping, false);
        run_jobs(worker);
        if (worker->ops.idle != NULL && !atomic_load(&worker->stopping)) {
            uint64_t began = clock_us();
            bool more = worker->ops.idle(worker->context);
            note_slow(worker, began, "step of its own");
            if (more)
                continue;
        }
        /* Say that we sleep, then look once more: whoever pushed before that word is seen here, whoever pushes after it
         * rings. */
        atomic_store(&worker->sleeping, true);
        if (ring_count(worker->in) > 0)
            continue;
        if (atomic_load(&worker->stopping))
            return NULL;
        wait_for_bell(worker);
    }
}

static void on_back(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop;
    (void)events;
    worker_collect(watcher->data);
}

static void ring_bell(struct worker *worker)
{
    uint64_t one = 1;
    CHECK(write(worker->bell, &one, sizeof one) == (ssize_t)sizeof one);
}

struct worker *worker_start(struct ev_loop *loop, const struct worker_ops *ops, void *context, void *owner)
{
    struct worker *worker = mem_zalloc(1, sizeof *worker);
    worker->ops = *ops;
    worker->context = context;
    worker->owner = owner;
    worker->loop = loop;
    worker->in = ring_new(WORKER_JOBS_MAX);
    worker->out = ring_new(WORKER_JOBS_MAX);
    worker->bell = eventfd(0, EFD_CLOEXEC);
    CHECK(worker->bell >= 0);
    ev_async_init(&worker->back, on_back);
    worker->back.data = worker;
    ev_async_start(loop, &worker->back);
    /* Signals are the loop's business: the thread inherits a full mask. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    CHECK_EQ(pthread_create(&worker->thread, NULL, thread_main, worker), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_setname_np(worker->thread, ops->name);
    return worker;
}

void worker_submit(struct worker *worker, void *job)
{
    CHECK(job != NULL);
    CHECK(ring_push(worker->in, job));
    worker->jobs_out++;
    worker->wakes = true;
}

void worker_wake(struct worker *worker)
{
    if (!worker->wakes)
        return;
    worker->wakes = false;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&worker->sleeping))
        ring_bell(worker);
}

void worker_collect(struct worker *worker)
{
    for (void *job = ring_pop(worker->out); job != NULL; job = ring_pop(worker->out)) {
        worker->jobs_out--;
        worker->ops.done(worker->owner, job);
    }
}

size_t worker_out(const struct worker *worker)
{
    return worker->jobs_out;
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    ring_bell(worker);
    CHECK_EQ(pthread_join(worker->thread, NULL), 0);
    worker_collect(worker);
    CHECK_EQ(worker->jobs_out, 0);
    ev_async_stop(worker->loop, &worker->back);
    close(worker->bell);
    ring_free(worker->in);
    ring_free(worker->out);
    mem_free(worker);
}
