/* threads.c: locks, condition variables and semaphores between threads, some in transactions and some
 * not; fork; C11 threads. A run that hangs has failed. */
#include "check.h"
#include <sys/wait.h>
#include <threads.h>

AS(mtx_lock); AS(mtx_trylock); AS(mtx_timedlock); AS(mtx_unlock); AS(cnd_wait); AS(cnd_timedwait);
AS(cnd_signal); AS(cnd_broadcast); AS(cnd_destroy); AS(thrd_create);
void ame_mtx_destroy(mtx_t *);

enum { THREADS = 4, ROUNDS = 300 };

static void run(void *(*body)(void *))
{
    pthread_t id[THREADS];
    for (long i = 0; i < THREADS; i++)
        CHECK(ame_pthread_create(&id[i], NULL, body, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(id[i], NULL);
}

/* --- a counter under two mutexes, taken in both orders, inside and outside transactions ------------- */

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static long counter __attribute__((aligned(64)));
static long touched[THREADS * 2] __attribute__((aligned(64)));

static void *count(void *number)
{
    long n = (long)number;
    for (int i = 0; i < ROUNDS; i++) {
        int inside = (i + n) % 4 != 0;
        int order = inside && (i + n) % 2; /* outside always in the same order */
        if (inside) {
            ame_begin();
            WRITE(touched[i % 8], READ(touched[i % 8]) + 1);
        }
        ame_pthread_mutex_lock(order ? &b : &a);
        ame_pthread_mutex_lock(order ? &a : &b);
        WRITE(counter, READ(counter) + 1);
        ame_pthread_mutex_unlock(&a);
        ame_pthread_mutex_unlock(&b);
        if (inside)
            ame_commit();
    }
    return NULL;
}

/* --- one inevitable at times, against others that hold what it wants ---------------------------------- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *mixed_modes(void *number)
{
    long n = (long)number;
    for (int i = 0; i < ROUNDS; i++) {
        ame_begin();
        WRITE(touched[i % 8], READ(touched[i % 8]) + 1);
        if ((i + n) % 5 == 0)
            ame_inevitable();
        if ((i + n) % 17 == 0)
            ame_exclusive();
        if ((i + n) % 3 == 0) {
            ame_pthread_rwlock_wrlock(&rwlock);
            WRITE(counter, READ(counter) + 1);
        } else {
            ame_pthread_rwlock_rdlock(&rwlock);
            ame_read_range(&counter, sizeof counter);
        }
        WRITE(touched[(i + n) % 8], READ(touched[(i + n) % 8]) + 1);
        ame_pthread_rwlock_unlock(&rwlock);
        ame_commit();
    }
    return NULL;
}

/* --- a bounded queue with condition variables, waited for in transactions --------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static long queue[4], length, taken_sum, taken;

static void *pass_on(void *number)
{
    long n = (long)number;
    int inside = n < 2; /* one producer and one consumer in transactions, one of each outside */
    for (int i = 0; i < ROUNDS; i++) {
        if (inside)
            ame_begin();
        ame_pthread_mutex_lock(&lock);
        if (n % 2) {
            while (READ(length) == 4)
                CHECK(ame_pthread_cond_wait(&not_full, &lock) == 0);
            WRITE(queue[length], i);
            WRITE(length, length + 1);
            ame_pthread_cond_signal(&not_empty);
        } else {
            while (READ(length) == 0) {
                struct timespec until = from_now(CLOCK_REALTIME, 1000);
                int error = ame_pthread_cond_timedwait(&not_empty, &lock, &until);
                CHECK(error == 0 || error == ETIMEDOUT);
            }
            WRITE(length, length - 1);
            WRITE(taken_sum, READ(taken_sum) + READ(queue[length]));
            WRITE(taken, READ(taken) + 1);
            ame_pthread_cond_broadcast(&not_full);
        }
        ame_pthread_mutex_unlock(&lock);
        if (inside)
            ame_commit();
    }
    return NULL;
}

/* --- waking and destroying in one transaction: destroying waits for those who were woken ------------------- */

static pthread_cond_t once = PTHREAD_COND_INITIALIZER;
static long woken;

static void *wait_once(void *arg)
{
    ame_begin();
    ame_pthread_mutex_lock(&lock);
    while (READ(woken) == 0)
        CHECK(ame_pthread_cond_wait(&once, &lock) == 0);
    ame_pthread_mutex_unlock(&lock);
    ame_commit();
    return arg;
}

static void wake_and_destroy(void)
{
    pthread_t id;
    CHECK(ame_pthread_create(&id, NULL, wait_once, NULL) == 0);
    usleep(5000);
    ame_begin();
    ame_pthread_mutex_lock(&lock);
    WRITE(woken, 1);
    CHECK(ame_pthread_cond_broadcast(&once) == 0);
    ame_pthread_mutex_unlock(&lock);
    CHECK(ame_pthread_cond_destroy(&once) == 0);
    ame_commit();
    pthread_join(id, NULL);
}

/* --- semaphores as a handover and as a mutex ----------------------------------------------------------------- */

static sem_t items, room, binary;
static long handed;

static void *hand_over(void *number)
{
    long n = (long)number;
    for (int i = 0; i < ROUNDS; i++) {
        int inside = (n / 2 + i) % 2;
        if (inside)
            ame_begin();
        CHECK(ame_sem_wait(n % 2 ? &room : &items) == 0);
        /* Not before: it would wait for what another may only do after it. */
        if (inside && i % 31 == 0)
            ame_inevitable();
        CHECK(ame_sem_wait(&binary) == 0);
        WRITE(handed, READ(handed) + 1);
        CHECK(ame_sem_post(&binary) == 0);
        CHECK(ame_sem_post(n % 2 ? &items : &room) == 0);
        if (inside)
            ame_commit();
    }
    return NULL;
}

/* --- waiting with a timeout; the depth survives -------------------------------------------------------------- */

static void timeouts(void)
{
    ame_begin();
    ame_begin();
    CHECK(ame_pthread_mutex_lock(&lock) == 0);
    struct timespec until = from_now(CLOCK_REALTIME, 5);
    CHECK(ame_pthread_cond_timedwait(&not_empty, &lock, &until) == ETIMEDOUT);
    until = from_now(CLOCK_MONOTONIC, 5);
    CHECK(ame_pthread_cond_clockwait(&not_empty, &lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
    CHECK(ame_pthread_mutex_unlock(&lock) == 0);
    ame_commit();
    CHECK(ame_in_transaction());
    ame_commit();
    CHECK(!ame_in_transaction());
    CHECK(pthread_mutex_trylock(&lock) == 0 && pthread_mutex_unlock(&lock) == 0);
}

/* --- fork ------------------------------------------------------------------------------------------------------- */

static void forks(void)
{
    for (int inside = 0; inside < 2; inside++) {
        if (inside) {
            ame_begin();
            ame_printf("once\n");
            WRITE(counter, 7);
        }
        pid_t child = ame_fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (inside) {
                CHECK(ame_in_transaction() && counter == 7);
                ame_commit();
            }
            ame_begin();
            WRITE(counter, 8);
            ame_commit();
            _exit(counter == 8 ? 0 : 1);
        }
        if (inside)
            ame_commit();
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(counter == 7);
}

/* --- C11 ---------------------------------------------------------------------------------------------------------- */

static mtx_t mtx;
static cnd_t cnd;
static long ready;

static int c11_body(void *arg)
{
    ame_begin();
    CHECK(ame_mtx_lock(&mtx) == thrd_success);
    WRITE(ready, READ(ready) + 1);
    CHECK(ame_cnd_signal(&cnd) == thrd_success && ame_cnd_broadcast(&cnd) == thrd_success);
    CHECK(ame_mtx_unlock(&mtx) == thrd_success);
    ame_commit();
    return (int)(long)arg;
}

static void c11(void)
{
    CHECK(mtx_init(&mtx, mtx_timed) == thrd_success && cnd_init(&cnd) == thrd_success);
    thrd_t id;
    CHECK(ame_thrd_create(&id, c11_body, (void *)42) == thrd_success);
    ame_begin();
    CHECK(ame_mtx_lock(&mtx) == thrd_success);
    CHECK(ame_mtx_trylock(&mtx) == thrd_busy);
    while (READ(ready) == 0)
        CHECK(ame_cnd_wait(&cnd, &mtx) == thrd_success);
    struct timespec until = from_now(CLOCK_REALTIME, 1);
    CHECK(ame_cnd_timedwait(&cnd, &mtx, &until) == thrd_timedout);
    CHECK(ame_mtx_unlock(&mtx) == thrd_success);
    CHECK(ame_mtx_timedlock(&mtx, &until) == thrd_success);
    CHECK(ame_mtx_unlock(&mtx) == thrd_success);
    ame_commit();
    int result;
    CHECK(thrd_join(id, &result) == thrd_success && result == 42);
    ame_mtx_destroy(&mtx);
    ame_cnd_destroy(&cnd);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    run(count);
    CHECK(counter == THREADS * ROUNDS);
    counter = 0;
    run(mixed_modes);
    CHECK(counter == THREADS * ROUNDS / 3);
    run(pass_on);
    CHECK(taken == 2 * ROUNDS && length == 0 && taken_sum == (long)ROUNDS * (ROUNDS - 1));
    CHECK(sem_init(&items, 0, 0) == 0 && sem_init(&room, 0, 3) == 0 && sem_init(&binary, 0, 1) == 0);
    run(hand_over);
    CHECK(handed == THREADS * ROUNDS);
    timeouts();
    wake_and_destroy();
    forks();
    c11();
    puts("ok");
}
