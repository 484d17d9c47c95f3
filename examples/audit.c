/* audit: one long transaction against a stream of short ones.
 *
 * One thread adds up a million accounts, again and again, each time in a single transaction. The
 * others transfer money meanwhile. Every audit must find the same total, and both sides must get
 * on: a transaction that was rolled back keeps its age, the oldest one wins, so the long one cannot
 * starve. Usage: audit [threads] [seconds]
 */
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ACCOUNTS = 1000000, OPENING = 100 };

static int64_t *account;
static int stop;

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t done, wrong, again;
} __attribute__((aligned(64)));

static unsigned below(struct worker *w, unsigned n)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((w->random >> 33) % n);
}

static void *audit(void *arg)
{
    struct worker *w = arg;
    /* At least one audit, however short the time. */
    do {
        int64_t total = 0;
        unsigned rollbacks = ame_begin();
        for (int i = 0; i < ACCOUNTS; i++)
            total += account[i];
        ame_commit();
        w->again += rollbacks;
        w->wrong += total != (int64_t)ACCOUNTS * OPENING;
        w->done++;
    } while (!__atomic_load_n(&stop, __ATOMIC_RELAXED));
    return NULL;
}

static void *transfer(void *arg)
{
    struct worker *w = arg;
    do {
        unsigned from = below(w, ACCOUNTS), to = below(w, ACCOUNTS);
        ame_begin();
        account[from] -= 1;
        account[to] += 1;
        ame_commit();
        w->done++;
    } while (!__atomic_load_n(&stop, __ATOMIC_RELAXED));
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 1.0;
    if (threads < 1 || threads > 64 || !(seconds > 0)) {
        fprintf(stderr, "usage: %s [threads, 1 to 64] [seconds]\n", argv[0]);
        return 2;
    }
    account = malloc(ACCOUNTS * sizeof *account);
    for (int i = 0; i < ACCOUNTS; i++)
        account[i] = OPENING;
    static struct worker workers[64];
    for (int i = 0; i < threads; i++) {
        workers[i].random = (uint64_t)i + 1;
        pthread_create(&workers[i].thread, NULL, i == 0 ? audit : transfer, &workers[i]);
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    uint64_t transfers = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        transfers += i ? workers[i].done : 0;
    }
    int64_t total = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        total += account[i];
    int ok = workers[0].wrong == 0 && total == (int64_t)ACCOUNTS * OPENING && (threads == 1 || transfers > 0);
    printf("audit: %d threads: %llu audits of a million accounts (%llu begun again) beside %llu transfers, "
           "invariant %s\n", threads, (unsigned long long)workers[0].done, (unsigned long long)workers[0].again,
           (unsigned long long)transfers, ok ? "holds" : "BROKEN");
    free(account);
    return ok ? 0 : 1;
}
