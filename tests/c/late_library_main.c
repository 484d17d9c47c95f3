/* Plain: starts threads, loads the library argv[1], and calls it in threads that were there before, in those that they
 * make, and in itself. One thread blocks all signals and is told of. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 4
#define TIMES 20000

static pthread_barrier_t started, loaded, alone;
static void (*count)(long, int);
static long (*sum_of_squares)(long *, long);

static void *work(void *unused)
{
    count(TIMES, 1);
    return unused;
}

/* Never in a transaction, while the thread that has made this one is. */
static void *beside(void *unused)
{
    for (long n = 1; n <= 1000; n++) {
        long own[16] = {0};
        if (sum_of_squares(own, n) != (n - 1) * n * (2 * n - 1) / 6)
            abort();
    }
    return unused;
}

static void *early(void *number)
{
    pthread_barrier_wait(&started);
    pthread_barrier_wait(&loaded);
    /* One after the other: not in transactions. */
    for (long turn = 0; turn < THREADS; turn++) {
        if (turn == (long)number)
            count(TIMES, 0);
        pthread_barrier_wait(&alone);
    }
    pthread_t child;
    pthread_create(&child, NULL, work, NULL);
    work(NULL);
    pthread_join(child, NULL);
    pthread_create(&child, NULL, beside, NULL);
    work(NULL);
    pthread_join(child, NULL);
    return NULL;
}

static void *deaf(void *unused)
{
    sigset_t every;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, NULL);
    pthread_barrier_wait(&started);
    pthread_barrier_wait(&loaded);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS + 1];
    pthread_barrier_init(&started, NULL, THREADS + 2);
    pthread_barrier_init(&loaded, NULL, THREADS + 2);
    pthread_barrier_init(&alone, NULL, THREADS);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, early, (void *)i);
    pthread_create(&threads[THREADS], NULL, deaf, NULL);
    pthread_barrier_wait(&started);
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    count = (void (*)(long, int))dlsym(library, "count");
    sum_of_squares = (long (*)(long *, long))dlsym(library, "sum_of_squares");
    long (*counted)(void) = (long (*)(void))dlsym(library, "counted");
    pthread_barrier_wait(&loaded);
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    work(NULL);
    long expected = TIMES * (4 * THREADS + 1);
    if (counted() != expected) {
        printf("%ld instead of %ld\n", counted(), expected);
        return 1;
    }
    puts("ok");
    return 0;
}
