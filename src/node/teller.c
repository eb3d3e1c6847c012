/* node/teller.c - see node/teller.h. */
#include "node/teller.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"

enum { TELL_SECONDS = 5 };

struct teller {
    const char *what;
    struct snapshot_progress *progress;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool stopping; /* under the mutex */
    pthread_t thread;
};

static void *thread_main(void *argument)
{
    struct teller *teller = argument;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    pthread_mutex_lock(&teller->mutex);
    while (!teller->stopping) {
        until.tv_sec += TELL_SECONDS;
        while (!teller->stopping && pthread_cond_timedwait(&teller->ended, &teller->mutex, &until) == 0)
            continue;
        if (!teller->stopping)
            LOG(LOG_INFO, "node", "%s: %llu of %llu rows", teller->what,
                (unsigned long long)atomic_load(&teller->progress->rows_done),
                (unsigned long long)atomic_load(&teller->progress->rows));
    }
    pthread_mutex_unlock(&teller->mutex);
    return NULL;
}

struct teller *teller_start(const char *what, struct snapshot_progress *progress)
{
    struct teller *teller = mem_zalloc(1, sizeof *teller);
    teller->what = what;
    teller->progress = progress;
    CHECK_EQ(pthread_mutex_init(&teller->mutex, NULL), 0);
    CHECK_EQ(pthread_cond_init(&teller->ended, NULL), 0);
    /* Signals are not its business. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    CHECK_EQ(pthread_create(&teller->thread, NULL, thread_main, teller), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return teller;
}

void teller_stop(struct teller *teller)
{
    pthread_mutex_lock(&teller->mutex);
    teller->stopping = true;
    pthread_cond_signal(&teller->ended);
    pthread_mutex_unlock(&teller->mutex);
    CHECK_EQ(pthread_join(teller->thread, NULL), 0);
    pthread_cond_destroy(&teller->ended);
    pthread_mutex_destroy(&teller->mutex);
    mem_free(teller);
}
