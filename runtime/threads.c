/* The threads that share the work of one call.
 *
 * Each has a processor of its own besides the caller's: a thread that another wakes
 * starts on the waker's, and not every scheduler takes it from there soon enough.
 *
 * A call is shared in pieces of some microseconds with a meeting after each, so those
 * who wait look again and again before they sleep; and they sleep only between calls.
 * Inside a call they give the processor away, so that a team larger than the machine
 * still comes to an end. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum {
    LOOKS = 1000,             /* before a waiting thread gives its processor to another */
    LOOKS_FOR_WORK = 20000    /* before one without work goes to sleep: about 0.2 ms */
};

struct Threads {
    Context *c;
    int count;                /* with the caller */
    int started;              /* threads besides the caller */
    pthread_t *thread;
    void (*work)(void *argument, const Team *team);
    void *argument;
    cpu_set_t processors;     /* of the process; OpenMP may bind the caller to one of them later */
    int caller;               /* the processor that the caller ran on when the others got theirs */
    atomic_uint call;         /* how many calls have begun */
    atomic_int busy;          /* threads besides the caller that are not yet done with it */
    atomic_bool closing;
    atomic_int waiting;       /* of the team, at a meeting */
    atomic_uint meeting;      /* how many have ended */
    pthread_mutex_t lock;     /* of sleep */
    pthread_cond_t wake;
};

typedef struct Start { Threads *t; int thread; } Start;

static void pause_briefly(int looks)
{
    if (looks < LOOKS) {
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}

/* Until another call than the last one has begun. */
static void wait_for_call(Threads *t, unsigned last)
{
    for (int looks = 0; looks < LOOKS_FOR_WORK; looks++) {
        if (atomic_load_explicit(&t->call, memory_order_acquire) != last || atomic_load(&t->closing))
            return;
        pause_briefly(0);
    }
    pthread_mutex_lock(&t->lock);
    while (atomic_load(&t->call) == last && !atomic_load(&t->closing))
        pthread_cond_wait(&t->wake, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void *serve(void *argument)
{
    const Start start = *(Start *)argument;
    Threads *t = start.t;
    const Team team = {start.thread, t->count, t};
    for (unsigned call = 0;; call++) {
        wait_for_call(t, call);
        if (atomic_load(&t->closing))
            return NULL;
        t->work(t->argument, &team);
        atomic_fetch_sub_explicit(&t->busy, 1, memory_order_release);
    }
}

void threads_close(Threads *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->closing, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->started; i++)
        pthread_join(t->thread[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
}

Threads *threads_open(Context *c, int count)
{
    if (count < 2)
        return NULL;
    Threads *t = NEW(c, Threads);
    Start *start = NEW_ARRAY(c, Start, count);
    t->c = c;
    t->count = count;
    t->caller = -1;
    if (sched_getaffinity(0, sizeof t->processors, &t->processors) != 0)
        CPU_ZERO(&t->processors);
    t->thread = NEW_ARRAY(c, pthread_t, count);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (int i = 1; i < count; i++) {
        start[i] = (Start){t, i};
        int error = pthread_create(&t->thread[t->started], NULL, serve, &start[i]);
        if (error) {
            threads_close(t);
            fail(c, STATUS_INPUT, "threads: cannot start number %d of %d: %s", i + 1, count, strerror(error));
        }
        t->started++;
    }
    return t;
}

/* Processors of this process but the caller's, in turn.  Best effort: results do not
 * depend on where a thread runs. */
static void spread(Threads *t)
{
    int here = sched_getcpu(), next = here;
    if (here == t->caller || here < 0 || CPU_COUNT(&t->processors) < 2)
        return;
    t->caller = here;
    for (int i = 0; i < t->started; i++) {
        do
            next = (next + 1) % CPU_SETSIZE;
        while (!CPU_ISSET(next, &t->processors) || next == here);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(next, &one);
        pthread_setaffinity_np(t->thread[i], sizeof one, &one);
    }
}

void threads_run(Threads *t, void (*work)(void *argument, const Team *team), void *argument)
{
    spread(t);
    t->work = work;
    t->argument = argument;
    atomic_store(&t->busy, t->started);
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add_explicit(&t->call, 1, memory_order_release);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    work(argument, &(Team){0, t->count, t});
    for (int looks = 0; atomic_load_explicit(&t->busy, memory_order_acquire); looks++)
        pause_briefly(looks);
}

/* The last to come opens the next meeting. */
void team_meet(const Team *team)
{
    Threads *t = team->pool;
    if (!t)                                      /* a team of one */
        return;
    unsigned meeting = atomic_load_explicit(&t->meeting, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->waiting, 1, memory_order_acq_rel) == t->count - 1) {
        atomic_store_explicit(&t->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&t->meeting, meeting + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&t->meeting, memory_order_acquire) == meeting; looks++)
        pause_briefly(looks);
}

int processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}
