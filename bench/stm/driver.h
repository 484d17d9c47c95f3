/* driver.h: threads, clock, random numbers and the result line of every benchmark.
 *
 * A benchmark defines the four functions declared below and ends with BENCH_MAIN(name).
 * Usage of the program: NAME [-t threads] [-s seconds] [-u update percent] [-v variant]
 * It prints one JSON object, and exits with 1 when its invariant does not hold.
 */
#ifndef DRIVER_H
#define DRIVER_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tm.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What one thread owns. Only touched outside transactions. */
struct worker {
    uint64_t rng;
    uint64_t ops;
    int64_t inserted;   /* insertions minus removals that took effect */
    uint64_t last;      /* key that the last insertion put in */
    int have_last;      /* the next update removes `last` again: the population stays constant */
    unsigned id;
    double cpu;         /* seconds of processor time */
    pthread_t thread;
} __attribute__((aligned(128)));

struct options {
    unsigned threads;
    double seconds;
    unsigned update;       /* percent */
    const char *variant;
};
static struct options opt = {1, 1.0, 10, ""};

/* --- what a benchmark defines --- */
static void setup(void);
static void operation(struct worker *w);
/* Returns 0 when the invariant holds. inserted: sum of the workers' counts. */
static int check(int64_t inserted);

static inline uint64_t next_random(struct worker *w)
{
    uint64_t x = w->rng;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return w->rng = x;
}

/* A number below n (n < 2^32), without a division. */
static inline uint64_t random_below(struct worker *w, uint64_t n)
{
    return ((next_random(w) >> 32) * n) >> 32;
}

static inline int is_update(struct worker *w)
{
    return random_below(w, 100) < opt.update;
}

static double clock_seconds(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static pthread_barrier_t bench_start;
static int bench_stop __attribute__((aligned(128)));

static void bench_pin(unsigned id)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    CPU_ZERO(&set);
    CPU_SET(id % (unsigned)(n > 0 ? n : 1), &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *bench_worker(void *arg)
{
    struct worker *w = arg;
    bench_pin(w->id);
    pthread_barrier_wait(&bench_start);
    double before = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    while (!__atomic_load_n(&bench_stop, __ATOMIC_RELAXED)) {
        operation(w);
        w->ops++;
    }
    w->cpu = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - before;
    return NULL;
}

static void bench_print_stats(void)
{
#ifdef TM_AME
    struct ame_stats s;
    ame_total_stats(&s);
    printf(", \"begins\": %llu, \"commits\": %llu, \"aborts\": %llu, \"waits\": %llu, "
           "\"reads_first\": %llu, \"writes_first\": %llu, \"inevitable\": %llu, "
           "\"exclusive\": %llu, \"log_bytes_max\": %llu",
           (unsigned long long)s.begins, (unsigned long long)s.commits,
           (unsigned long long)s.aborts_conflict, (unsigned long long)s.waits,
           (unsigned long long)s.reads_first, (unsigned long long)s.writes_first,
           (unsigned long long)s.inevitable, (unsigned long long)s.exclusive,
           (unsigned long long)s.log_bytes_max);
#endif
}

static int bench_main(const char *name, int argc, char **argv)
{
    int c;
    while ((c = getopt(argc, argv, "t:s:u:v:")) != -1) {
        switch (c) {
        case 't': opt.threads = (unsigned)atoi(optarg); break;
        case 's': opt.seconds = atof(optarg); break;
        case 'u': opt.update = (unsigned)atoi(optarg); break;
        case 'v': opt.variant = optarg; break;
        default:
            fprintf(stderr, "usage: %s [-t threads] [-s seconds] [-u update%%] [-v variant]\n", argv[0]);
            return 2;
        }
    }
    if (opt.threads < 1 || opt.threads > 256) {
        fprintf(stderr, "%s: -t must be 1 to 256\n", argv[0]);
        return 2;
    }
#ifdef TM_NONE
    if (opt.threads != 1) {
        fprintf(stderr, "%s: the unsynchronised build runs with one thread only\n", argv[0]);
        return 2;
    }
#endif
    setup();
    struct worker *workers = aligned_alloc(128, sizeof *workers * opt.threads);
    memset(workers, 0, sizeof *workers * opt.threads);
    pthread_barrier_init(&bench_start, NULL, opt.threads + 1);
    for (unsigned i = 0; i < opt.threads; i++) {
        workers[i].id = i;
        workers[i].rng = UINT64_C(0x9e3779b97f4a7c15) * (i + 1);
        pthread_create(&workers[i].thread, NULL, bench_worker, &workers[i]);
    }
    pthread_barrier_wait(&bench_start);
    double begin = clock_seconds(CLOCK_MONOTONIC);
    struct timespec pause = {(time_t)opt.seconds, (long)((opt.seconds - (double)(time_t)opt.seconds) * 1e9)};
    nanosleep(&pause, NULL);
    __atomic_store_n(&bench_stop, 1, __ATOMIC_RELAXED);
    uint64_t ops = 0;
    int64_t inserted = 0;
    double cpu = 0;
    for (unsigned i = 0; i < opt.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        ops += workers[i].ops;
        inserted += workers[i].inserted;
        cpu += workers[i].cpu;
    }
    double seconds = clock_seconds(CLOCK_MONOTONIC) - begin;
    int broken = check(inserted);
    printf("{\"bench\": \"%s\", \"variant\": \"%s\", \"backend\": \"%s\", \"threads\": %u, \"update\": %u, "
           "\"ops\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"ok\": %s",
           name, opt.variant, TM_NAME, opt.threads, opt.update, (unsigned long long)ops, seconds, cpu,
           broken ? "false" : "true");
    bench_print_stats();
    printf("}\n");
    if (broken)
        fprintf(stderr, "%s (%s): INVARIANT BROKEN\n", name, TM_NAME);
    return broken ? 1 : 0;
}

#define BENCH_MAIN(name) \
    int main(int argc, char **argv) { return bench_main(name, argc, argv); }

#endif
