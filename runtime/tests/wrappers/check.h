/* check.h: barriers by hand, and the ways in which every wrapper is tested.
 *
 * A test is a function that calls wrappers and checks what they do; EVERY_MODE runs it outside
 * transactions, in one, twice in one that is rolled back in between (where AME_CHAOS makes that
 * possible), in an inevitable and in an exclusive one.
 */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <ame.h>
#include <ame_rt.h>
#include "../c/registered.h"
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                \
        }                                                                            \
    } while (0)

/* One load and store as the pass writes them. */
#define READ(x) (ame_read_range(&(x), sizeof(x)), (x))
#define WRITE(x, value) (ame_write_range(&(x), sizeof(x)), (x) = (value))

static inline int chaos(void) { return getenv("AME_CHAOS") != NULL; }

/* Rolls the running transaction back: a barrier that chaos makes fail sooner or later. */
static inline void roll_back(void)
{
    static long anything;
    for (;;)
        ame_read_range(&anything, sizeof anything);
}

static inline void each_mode(void (*test)(void))
{
    test();
    ame_begin();
    test();
    ame_commit();
    if (chaos()) {
        unsigned rollbacks = ame_begin();
        test();
        if (rollbacks < 3)
            roll_back();
        ame_commit();
    }
    ame_begin();
    ame_inevitable();
    test();
    ame_commit();
    ame_begin();
    ame_exclusive();
    test();
    ame_commit();
}

static inline struct timespec from_now(clockid_t clock, long milliseconds)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += milliseconds * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* The wrappers have the types of what they replace. */
#define AS(function) extern __typeof__(function) ame_##function
AS(malloc); AS(free);
AS(strlen); AS(strnlen); AS(strcmp); AS(strncmp); AS(strcasecmp); AS(strncasecmp); AS(stpcpy);
AS(strcpy); AS(stpncpy); AS(strncpy); AS(strcat); AS(strncat); AS(strdup); AS(strndup);
AS(strrchr); AS(strcspn); AS(strspn); AS(strtok_r); AS(strsep);
char *ame_strchr(const char *, int);
char *ame_strchrnul(const char *, int);
char *ame_strstr(const char *, const char *);
char *ame_strcasestr(const char *, const char *);
char *ame_strpbrk(const char *, const char *);
void *ame_rawmemchr(const void *, int);
AS(strtol); AS(strtoul); AS(strtoll); AS(strtoull); AS(strtod); AS(strtof);
AS(atoi); AS(atol); AS(atoll); AS(atof);
AS(printf); AS(fprintf); AS(dprintf); AS(snprintf); AS(sprintf); AS(asprintf);
AS(vprintf); AS(vfprintf); AS(vdprintf); AS(vsnprintf); AS(vsprintf); AS(vasprintf);
AS(fwrite); AS(fputs); AS(puts); AS(fputc); AS(putc); AS(putchar); AS(fflush); AS(perror);
AS(write); AS(close);
AS(qsort); AS(bsearch);
AS(pthread_create); AS(fork);
AS(pthread_mutex_lock); AS(pthread_mutex_trylock); AS(pthread_mutex_timedlock);
AS(pthread_mutex_clocklock); AS(pthread_mutex_unlock); AS(pthread_mutex_destroy);
AS(pthread_spin_lock); AS(pthread_spin_trylock); AS(pthread_spin_unlock);
AS(pthread_rwlock_rdlock); AS(pthread_rwlock_tryrdlock); AS(pthread_rwlock_timedrdlock);
AS(pthread_rwlock_clockrdlock); AS(pthread_rwlock_wrlock); AS(pthread_rwlock_trywrlock);
AS(pthread_rwlock_timedwrlock); AS(pthread_rwlock_clockwrlock); AS(pthread_rwlock_unlock);
AS(pthread_rwlock_destroy);
AS(pthread_cond_wait); AS(pthread_cond_timedwait); AS(pthread_cond_clockwait);
AS(pthread_cond_signal); AS(pthread_cond_broadcast); AS(pthread_cond_destroy);
AS(sem_wait); AS(sem_trywait); AS(sem_timedwait); AS(sem_clockwait); AS(sem_post); AS(sem_getvalue);
#endif
