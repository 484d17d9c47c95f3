/* One thread, one transaction: what the parts cost.
 *
 * - an empty transaction and an uncontended pthread mutex lock/unlock pair, before and after the
 *   process has a second thread (glibc skips the atomic instructions before);
 * - the long transaction of long.c: first pass over 1,000,000 words, second pass over the same
 *   words in the same transaction, and the size of the undo log per granule written.
 *
 * Built with -DTM_NONE it prints the same loop without transactions. Times are medians of ROUNDS.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tm.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAIRS = 2000000, WORDS = 1000000, WRITES = 10000, STRIDE = WORDS / WRITES, ROUNDS = 15 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t parked = PTHREAD_MUTEX_INITIALIZER;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

static double time_mutex(void)
{
    double v[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double begin = now_ns();
        for (int i = 0; i < PAIRS / ROUNDS; i++) {
            pthread_mutex_lock(&mutex);
            pthread_mutex_unlock(&mutex);
        }
        v[r] = (now_ns() - begin) / (PAIRS / ROUNDS);
    }
    return median(v);
}

static double time_empty(void)
{
    double v[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double begin = now_ns();
        for (int i = 0; i < PAIRS / ROUNDS; i++) {
            TM_BEGIN
            TM_END
        }
        v[r] = (now_ns() - begin) / (PAIRS / ROUNDS);
    }
    return median(v);
}

__attribute__((noinline)) static int64_t pass(int64_t *a)
{
    int64_t sum = 0;
    for (int i = 0; i < WORDS; i++)
        sum += a[i];
    for (int i = 0; i < WRITES; i += 2) {
        a[i * STRIDE] += 1;
        a[(i + 1) * STRIDE] -= 1;
    }
    return sum;
}

static int time_long(double *first, double *second)
{
    static double v1[ROUNDS], v2[ROUNDS];
    int64_t *a = calloc(WORDS, sizeof *a);
    int64_t sum = 0;
    for (int i = 0; i < WORDS; i++)
        a[i] = i < WORDS / 2 ? i : i - (WORDS - 1);
    for (int r = 0; r < ROUNDS; r++) {
        double t0, t1, t2;
        TM_BEGIN
        t0 = now_ns();
        sum += pass(a);
        t1 = now_ns();
        sum += pass(a);
        t2 = now_ns();
        TM_END
        v1[r] = t1 - t0;
        v2[r] = t2 - t1;
    }
    *first = median(v1);
    *second = median(v2);
    free(a);
    return sum == 0;
}

static void *wait_for_end(void *arg)
{
    pthread_mutex_lock(&parked);
    pthread_mutex_unlock(&parked);
    return arg;
}

int main(void)
{
    double first, second;
    double mutex_alone = time_mutex();
    pthread_t other;
    pthread_mutex_lock(&parked);
    pthread_create(&other, NULL, wait_for_end, NULL);
    double mutex_pair = time_mutex();
    double empty = time_empty();
    int ok = time_long(&first, &second);
    pthread_mutex_unlock(&parked);
    pthread_join(other, NULL);
    printf("{\"bench\": \"micro\", \"backend\": \"%s\", \"ok\": %s, \"mutex_alone_ns\": %.2f, \"mutex_ns\": %.2f, "
           "\"empty_ns\": %.2f, \"first_ns\": %.0f, \"second_ns\": %.0f",
           TM_NAME, ok ? "true" : "false", mutex_alone, mutex_pair, empty, first, second);
#ifdef TM_AME
    struct ame_stats s;
    ame_total_stats(&s);
    printf(", \"bytes_per_granule\": %.1f, \"log_bytes_max\": %llu", (double)s.log_bytes_max / WRITES,
           (unsigned long long)s.log_bytes_max);
#endif
    printf("}\n");
    return ok ? 0 : 1;
}
