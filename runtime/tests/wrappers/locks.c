/* locks.c: each lock in each mode, given back by rollback, kept until commit, recursive use within a
 * transaction, and against code outside that holds it. */
#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static sem_t semaphore;

static void mutexes(void)
{
    CHECK(ame_pthread_mutex_lock(&mutex) == 0);
    CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
    CHECK(ame_pthread_mutex_lock(&mutex) == 0);
    CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
    CHECK(ame_pthread_mutex_trylock(&mutex) == 0);
    CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
    struct timespec until = from_now(CLOCK_REALTIME, 1000);
    CHECK(ame_pthread_mutex_timedlock(&mutex, &until) == 0);
    CHECK(ame_pthread_mutex_trylock(&mutex) == EBUSY);
    CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
    until = from_now(CLOCK_MONOTONIC, 1000);
    CHECK(ame_pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until) == 0);
    CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(ame_pthread_mutex_lock(&recursive) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(ame_pthread_mutex_unlock(&recursive) == 0);
    CHECK(ame_pthread_mutex_lock(&checked) == 0);
    CHECK(ame_pthread_mutex_lock(&checked) == EDEADLK);
    CHECK(ame_pthread_mutex_unlock(&checked) == 0);
}

static void read_write(void)
{
    CHECK(ame_pthread_rwlock_rdlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_tryrdlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_trywrlock(&rwlock) == EBUSY);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_rdlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
}

static void write_then_read(void)
{
    CHECK(ame_pthread_rwlock_wrlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_rdlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_trywrlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    struct timespec until = from_now(CLOCK_REALTIME, 1000);
    CHECK(ame_pthread_rwlock_timedrdlock(&rwlock, &until) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_timedwrlock(&rwlock, &until) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    until = from_now(CLOCK_MONOTONIC, 1000);
    CHECK(ame_pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &until) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &until) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
}

static void spins(void)
{
    CHECK(ame_pthread_spin_lock(&spin) == 0);
    CHECK(ame_pthread_spin_unlock(&spin) == 0);
    CHECK(ame_pthread_spin_trylock(&spin) == 0);
    CHECK(ame_pthread_spin_trylock(&spin) == EBUSY);
    CHECK(ame_pthread_spin_unlock(&spin) == 0);
}

static void semaphores(void)
{
    int value = -1;
    CHECK(ame_sem_post(&semaphore) == 0);
    CHECK(ame_sem_post(&semaphore) == 0);
    CHECK(ame_sem_getvalue(&semaphore, &value) == 0 && value == 2);
    CHECK(ame_sem_wait(&semaphore) == 0);
    CHECK(ame_sem_trywait(&semaphore) == 0);
    CHECK(ame_sem_getvalue(&semaphore, &value) == 0 && value == 0);
    CHECK(ame_sem_trywait(&semaphore) == -1 && errno == EAGAIN);
    CHECK(ame_sem_post(&semaphore) == 0);
    struct timespec until = from_now(CLOCK_REALTIME, 1000);
    CHECK(ame_sem_timedwait(&semaphore, &until) == 0);
    CHECK(ame_sem_post(&semaphore) == 0);
    until = from_now(CLOCK_MONOTONIC, 1000);
    CHECK(ame_sem_clockwait(&semaphore, CLOCK_MONOTONIC, &until) == 0);
}

/* From reading to writing within a transaction: it becomes inevitable. Not rolled back here. */
static void upgrade(void)
{
    ame_begin();
    CHECK(ame_pthread_rwlock_rdlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_wrlock(&rwlock) == 0);
    CHECK(ame_pthread_rwlock_unlock(&rwlock) == 0);
    ame_commit();
    CHECK(pthread_rwlock_trywrlock(&rwlock) == 0 && pthread_rwlock_unlock(&rwlock) == 0);
}

/* --- what another thread finds ------------------------------------------------------------------ */

enum { MUTEX, RWLOCK, SPIN, SEMAPHORE };

static void *try_all(void *result)
{
    int *free = result;
    if ((free[MUTEX] = pthread_mutex_trylock(&mutex) == 0))
        pthread_mutex_unlock(&mutex);
    if ((free[RWLOCK] = pthread_rwlock_trywrlock(&rwlock) == 0))
        pthread_rwlock_unlock(&rwlock);
    if ((free[SPIN] = pthread_spin_trylock(&spin) == 0))
        pthread_spin_unlock(&spin);
    if ((free[SEMAPHORE] = sem_trywait(&semaphore) == 0))
        sem_post(&semaphore);
    return NULL;
}

/* How many of the four another thread could take. */
static int free_for_others(void)
{
    static int free[4];
    pthread_t id;
    CHECK(pthread_create(&id, NULL, try_all, free) == 0);
    pthread_join(id, NULL);
    return free[0] + free[1] + free[2] + free[3];
}

static void take_all(void)
{
    CHECK(ame_pthread_mutex_lock(&mutex) == 0);
    CHECK(ame_pthread_rwlock_rdlock(&rwlock) == 0);
    CHECK(ame_pthread_spin_lock(&spin) == 0);
    CHECK(ame_sem_wait(&semaphore) == 0);
}

static void release_all(void)
{
    ame_sem_post(&semaphore);
    ame_pthread_spin_unlock(&spin);
    ame_pthread_rwlock_unlock(&rwlock);
    ame_pthread_mutex_unlock(&mutex);
}

static void until_commit(void)
{
    sem_post(&semaphore);
    ame_begin();
    take_all();
    CHECK(free_for_others() == 0);
    release_all();
    CHECK(free_for_others() == 0);
    take_all();
    release_all();
    ame_commit();
    CHECK(free_for_others() == 4);
    /* Given back at once when the transaction becomes inevitable. */
    ame_begin();
    take_all();
    release_all();
    CHECK(free_for_others() == 0);
    ame_inevitable();
    CHECK(free_for_others() == 4);
    ame_commit();
    /* Held across the commit, released by another transaction. */
    ame_begin();
    take_all();
    ame_commit();
    CHECK(free_for_others() == 0);
    ame_begin();
    release_all();
    CHECK(free_for_others() == 0);
    ame_commit();
    CHECK(free_for_others() == 4);
    sem_wait(&semaphore);
}

static void given_back(void)
{
    sem_post(&semaphore);
    for (int released = 0; released < 3; released++) {
        unsigned rollbacks = ame_begin();
        if (rollbacks == 0) {
            take_all();
            if (released)
                release_all();
            if (released == 2)
                take_all();
            roll_back();
        }
        CHECK(free_for_others() == 4);
        ame_commit();
    }
    /* Taken outside: a rollback leaves it taken. */
    take_all();
    unsigned rollbacks = ame_begin();
    release_all();
    if (rollbacks == 0)
        roll_back();
    CHECK(free_for_others() == 0);
    ame_commit();
    CHECK(free_for_others() == 4);
    sem_wait(&semaphore);
}

/* --- locks of the transaction's own --------------------------------------------------------------- */

struct object {
    long before;
    pthread_mutex_t mutex;
    long after;
};

static void own(void)
{
    struct object *o = ame_malloc(sizeof *o);
    WRITE(o->before, 1);
    ame_write_range(&o->mutex, sizeof o->mutex);
    pthread_mutex_init(&o->mutex, NULL);
    CHECK(ame_pthread_mutex_lock(&o->mutex) == 0);
    WRITE(o->after, 2);
    CHECK(ame_pthread_mutex_unlock(&o->mutex) == 0);
    CHECK(ame_pthread_mutex_destroy(&o->mutex) == 0);
    ame_free(o);
}

/* Locked, written next to, rolled back; destroyed and freed after use. */
static void shared_granule(void)
{
    struct object *o = ame_malloc(sizeof *o);
    o->before = 1;
    o->after = 2;
    pthread_mutex_init(&o->mutex, NULL);
    unsigned rollbacks = ame_begin();
    if (rollbacks == 0) {
        WRITE(o->before, 3);
        CHECK(ame_pthread_mutex_lock(&o->mutex) == 0);
        WRITE(o->after, 4);
        if (chaos())
            roll_back();
    }
    if (chaos()) {
        CHECK(o->before == 1 && o->after == 2);
        CHECK(pthread_mutex_trylock(&o->mutex) == 0 && pthread_mutex_unlock(&o->mutex) == 0);
        CHECK(ame_pthread_mutex_lock(&o->mutex) == 0);
    }
    CHECK(ame_pthread_mutex_unlock(&o->mutex) == 0);
    CHECK(ame_pthread_mutex_destroy(&o->mutex) == 0);
    ame_free(o);
    ame_commit();
}

static void on_stack(void)
{
    pthread_mutex_t local = PTHREAD_MUTEX_INITIALIZER;
    long volatile neighbour = 1;
    unsigned rollbacks = ame_begin();
    CHECK(neighbour == 1);
    if (rollbacks < 2) {
        neighbour = 2;
        CHECK(ame_pthread_mutex_lock(&local) == 0);
        if (chaos())
            roll_back();
        CHECK(ame_pthread_mutex_unlock(&local) == 0);
    }
    ame_commit();
    CHECK(pthread_mutex_trylock(&local) == 0);
    pthread_mutex_unlock(&local);
}

/* --- held by code outside --------------------------------------------------------------------------- */

static void *hold_for_a_while(void *ready)
{
    CHECK(pthread_mutex_lock(&mutex) == 0);
    pthread_barrier_wait(ready);
    usleep(30000);
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    return NULL;
}

static void waits_for_code_outside(void)
{
    for (int how = 0; how < 4; how++) {
        pthread_barrier_t ready;
        pthread_t id;
        pthread_barrier_init(&ready, NULL, 2);
        CHECK(pthread_create(&id, NULL, hold_for_a_while, &ready) == 0);
        pthread_barrier_wait(&ready);
        ame_begin();
        if (how == 0) {
            CHECK(ame_pthread_mutex_lock(&mutex) == 0);
        } else if (how == 1) {
            CHECK(ame_pthread_mutex_trylock(&mutex) == EBUSY);
        } else if (how == 2) {
            struct timespec until = from_now(CLOCK_REALTIME, 1);
            CHECK(ame_pthread_mutex_timedlock(&mutex, &until) == ETIMEDOUT);
        } else {
            ame_inevitable();
            CHECK(ame_pthread_mutex_lock(&mutex) == 0);
        }
        if (how == 0 || how == 3)
            CHECK(ame_pthread_mutex_unlock(&mutex) == 0);
        ame_commit();
        pthread_join(id, NULL);
        CHECK(pthread_mutex_trylock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
    }
}

int main(void)
{
    CHECK(pthread_spin_init(&spin, 0) == 0 && sem_init(&semaphore, 0, 0) == 0);
    each_mode(mutexes);
    each_mode(spins);
    each_mode(semaphores);
    read_write();
    ame_begin();
    read_write();
    ame_commit();
    write_then_read();
    ame_begin();
    write_then_read();
    ame_commit();
    upgrade();
    if (chaos())
        given_back();
    else
        until_commit();
    each_mode(own);
    shared_granule();
    on_stack();
    waits_for_code_outside();
    puts("ok");
}
