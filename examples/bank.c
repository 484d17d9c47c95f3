/* bank: transfers between accounts, several threads, no lock anywhere.
 *
 *     ame cc -O2 bank.c -o bank && ./bank 2                        transactions
 *     cc -O2 -pthread -DUSE_MUTEX bank.c -o bank-mutex && ./bank-mutex 2    one big mutex
 *
 * An order carries a PIN. The bank keeps PINs stretched (hashed many times over with a salt), so
 * checking one takes a while: under the mutex everybody waits for it, transactions overlap. Then the
 * customer's eight accounts together must cover the amount, and two accounts change. A race would
 * make money, or let somebody overdraw. Usage: bank [threads] [seconds]
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef USE_MUTEX
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
#define BEGIN() pthread_mutex_lock(&big_lock)
#define COMMIT() pthread_mutex_unlock(&big_lock)
#else
#include <ame.h>
#define BEGIN() ame_begin()
#define COMMIT() ame_commit()
#endif

enum { CUSTOMERS = 4096, PER_CUSTOMER = 8, OPENING = 100, STRETCH = 200 };

static struct customer {
    uint64_t salt, stretched_pin;
    int64_t account[PER_CUSTOMER];
} bank[CUSTOMERS] __attribute__((aligned(64)));

static int stop;

static int64_t wealth(const struct customer *c)
{
    int64_t sum = 0;
    for (int i = 0; i < PER_CUSTOMER; i++)
        sum += c->account[i];
    return sum;
}

/* A toy, not cryptography. */
static uint64_t stretch(uint64_t pin, uint64_t salt)
{
    uint64_t hash = pin ^ salt;
    for (int i = 0; i < STRETCH; i++)
        hash = (hash ^ (hash >> 29)) * UINT64_C(0x9e3779b97f4a7c15) + salt;
    return hash;
}

/* Moves the amount, or does nothing and returns 0. */
static int transfer(struct customer *from, struct customer *to, int account, int64_t amount, uint64_t pin)
{
    if (stretch(pin, from->salt) != from->stretched_pin || wealth(from) < amount)
        return 0;
    from->account[account] -= amount;
    to->account[account] += amount;
    return 1;
}

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t operations;
} __attribute__((aligned(64)));

static unsigned below(struct worker *w, unsigned n)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((w->random >> 33) % n);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned number = below(w, CUSTOMERS);
        struct customer *from = &bank[number], *to = &bank[below(w, CUSTOMERS)];
        uint64_t pin = number + (below(w, 16) == 0); /* one in sixteen mistypes */
        int account = (int)below(w, PER_CUSTOMER);
        int64_t amount = 1 + below(w, 200);
        BEGIN();
        transfer(from, to, account, amount, pin);
        COMMIT();
        w->operations++;
    }
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
    for (int i = 0; i < CUSTOMERS; i++) {
        bank[i].salt = (uint64_t)i * 7919;
        bank[i].stretched_pin = stretch((uint64_t)i, bank[i].salt);
        for (int k = 0; k < PER_CUSTOMER; k++)
            bank[i].account[k] = OPENING;
    }

    static struct worker workers[64];
    for (int i = 0; i < threads; i++) {
        workers[i].random = (uint64_t)i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    uint64_t operations = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
    }

    int64_t total = 0;
    int ok = 1;
    for (int i = 0; i < CUSTOMERS; i++) {
        total += wealth(&bank[i]);
        ok &= wealth(&bank[i]) >= 0;
    }
    ok &= total == (int64_t)CUSTOMERS * PER_CUSTOMER * OPENING;
#ifdef USE_MUTEX
    const char *how = "one mutex";
#else
    const char *how = "transactions";
#endif
    printf("bank: %s, %d threads: %.2f million orders/s, total %lld, invariant %s\n", how, threads,
           (double)operations / seconds / 1e6, (long long)total, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
