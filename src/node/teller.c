/* node/teller.c - see node/teller.h. */
#include "node/teller.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/trace.h"

enum { TELL_SECONDS = 5, TELL_TERMINAL_SECONDS = 1 };

struct teller {
    enum teller_to to;
    bool terminal; /* and people look at it */
    bool said;
    const char *what;
    struct snapshot_progress *progress;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool stopping; /* under the mutex */
    pthread_t thread;
};

static void tell(struct teller *teller)
{
    unsigned long long done = atomic_load(&teller->progress->rows_done);
    unsigned long long rows = atomic_load(&teller->progress->rows);
    teller->said = true;
    if (teller->to == TELLER_LOG)
        LOG(LOG_INFO, "node", "%s: %llu of %llu rows", teller->what, done, rows);
    else
        fprintf(stderr, teller->terminal ? "\r%s: %llu of %llu rows \033[K" : "%s: %llu of %llu rows\n",
                teller->what, done, rows);
}

static void *thread_main(void *argument)
{
    struct teller *teller = argument;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    pthread_mutex_lock(&teller->mutex);
    while (!teller->stopping) {
        until.tv_sec += teller->terminal ? TELL_TERMINAL_SECONDS : TELL_SECONDS;
        while (!teller->stopping && pthread_cond_timedwait(&teller->ended, &teller->mutex, &until) == 0)
            continue;
        if (!teller->stopping)
            tell(teller);
    }
    pthread_mutex_unlock(&teller->mutex);
    return NULL;
}

struct teller *teller_start(enum teller_to to, const char *what, struct snapshot_progress *progress)
{
    struct teller *teller = mem_zalloc(1, sizeof *teller);
    teller->to = to;
    teller->terminal = to == TELLER_PEOPLE && isatty(STDERR_FILENO) != 0;
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
    if (teller->terminal && teller->said)
        fputs("\r\033[K", stderr);
    pthread_cond_destroy(&teller->ended);
    pthread_mutex_destroy(&teller->mutex);
    mem_free(teller);
}
