/* litmus.h: what the small test programs share.
 *
 * Usage of each: NAME [threads] [seconds]. Exit code 0 and a line that starts with "ok", or a line on
 * stderr that says what was wrong, and exit code 1. The programs are deterministic in what they
 * check, not in the order of the threads.
 */
#ifndef LITMUS_H
#define LITMUS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 128 };
static int n_threads = 2;
static double n_seconds = 0.15;

#define FAIL(...)                                              \
    do {                                                       \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);        \
        fprintf(stderr, __VA_ARGS__);                          \
        fputc('\n', stderr);                                   \
        exit(1);                                               \
    } while (0)
/* Outside transactions. */
#define CHECK(condition)                                       \
    do {                                                       \
        if (!(condition))                                      \
            FAIL("not true: %s", #condition);                  \
    } while (0)
/* Inside transactions: stops at once, also when the transaction is doomed. */
#define CHECK_INSIDE(condition)                                \
    do {                                                       \
        if (!(condition))                                      \
            __builtin_trap();                                  \
    } while (0)

static inline uint64_t litmus_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static void litmus_arguments(int argc, char **argv)
{
    if (argc > 1)
        n_threads = atoi(argv[1]);
    if (argc > 2)
        n_seconds = atof(argv[2]);
    if (n_threads < 1 || n_threads > MAX_THREADS || !(n_seconds > 0)) {
        fprintf(stderr, "usage: %s [threads] [seconds]\n", argv[0]);
        exit(2);
    }
}

static double litmus_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* For loops outside transactions. Each thread gets a few rounds, however busy the machine is. */
static double litmus_deadline;
static __thread unsigned litmus_rounds;
static inline int time_left(void) { return litmus_rounds++ < 20 || litmus_now() < litmus_deadline; }

static pthread_barrier_t litmus_start;
struct litmus_thread {
    pthread_t id;
    void (*body)(int number);
    int number;
};

static void *litmus_entry(void *arg)
{
    struct litmus_thread *t = arg;
    pthread_barrier_wait(&litmus_start);
    t->body(t->number);
    return NULL;
}

/* Runs body(0) .. body(n - 1) in n threads at once. */
static inline void run_threads(int n, void (*body)(int number))
{
    static struct litmus_thread threads[MAX_THREADS];
    litmus_deadline = litmus_now() + n_seconds;
    pthread_barrier_init(&litmus_start, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        threads[i] = (struct litmus_thread){.body = body, .number = i};
        if (pthread_create(&threads[i].id, NULL, litmus_entry, &threads[i]) != 0)
            FAIL("cannot create thread %d", i);
    }
    for (int i = 0; i < n; i++)
        pthread_join(threads[i].id, NULL);
    pthread_barrier_destroy(&litmus_start);
}

/* --- forcing a rollback: a second thread changes litmus_tick all the time ---------------------- */
static volatile uint64_t litmus_tick __attribute__((aligned(64)));
static int litmus_ticking __attribute__((aligned(64)));
static pthread_t litmus_ticker_id;

static inline void *litmus_ticker(void *arg)
{
    while (__atomic_load_n(&litmus_ticking, __ATOMIC_ACQUIRE)) {
        ame_begin();
        litmus_tick++;
        ame_commit();
        usleep(50);
    }
    return arg;
}

static inline void start_ticker(void)
{
    __atomic_store_n(&litmus_ticking, 1, __ATOMIC_RELEASE);
    if (pthread_create(&litmus_ticker_id, NULL, litmus_ticker, NULL) != 0)
        FAIL("cannot create the ticker");
}

static inline void stop_ticker(void)
{
    __atomic_store_n(&litmus_ticking, 0, __ATOMIC_RELEASE);
    pthread_join(litmus_ticker_id, NULL);
}

/* Rolls the running transaction back if it has not been rolled back so far. */
static inline void roll_back_once(unsigned rollbacks)
{
    if (rollbacks == 0) {
        (void)litmus_tick;
        ame_retry();
    }
}

#endif
