/* hashmap: a map that grows while several threads use it.
 *
 * Threads count random keys in one shared map. The map starts with 16 buckets and doubles them when
 * it is crowded: that moves every entry, in the same transaction as the insertion that caused it.
 * Plain sequential code; the transaction is around the call. Usage: hashmap [threads] [seconds]
 */
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct entry {
    uint64_t key;
    uint64_t value;
    struct entry *next;
};

static struct map {
    struct entry **buckets;
    size_t n_buckets;               /* a power of two */
    AME_COUNTER uint64_t n_entries; /* a counter: two insertions do not conflict over it */
} map;

static size_t slot(uint64_t key, size_t n_buckets)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (n_buckets - 1);
}

static void grow(struct map *m)
{
    size_t n = m->n_buckets ? m->n_buckets * 2 : 16;
    struct entry **buckets = calloc(n, sizeof *buckets);
    for (size_t i = 0; i < m->n_buckets; i++)
        for (struct entry *e = m->buckets[i], *next; e; e = next) {
            next = e->next;
            e->next = buckets[slot(e->key, n)];
            buckets[slot(e->key, n)] = e;
        }
    free(m->buckets);
    m->buckets = buckets;
    m->n_buckets = n;
}

/* The value stored under the key; a new key gets 0. */
static uint64_t *map_at(struct map *m, uint64_t key)
{
    if (m->n_buckets)
        for (struct entry *e = m->buckets[slot(key, m->n_buckets)]; e; e = e->next)
            if (e->key == key)
                return &e->value;
    if (m->n_entries >= m->n_buckets)
        grow(m);
    struct entry *e = malloc(sizeof *e);
    struct entry **head = &m->buckets[slot(key, m->n_buckets)];
    *e = (struct entry){.key = key, .value = 0, .next = *head};
    *head = e;
    m->n_entries++;
    return &e->value;
}

enum { KEYS = 100000 };
static int stop;

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t operations;
} __attribute__((aligned(64)));

static void *work(void *arg)
{
    struct worker *w = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t key = (w->random >> 33) % KEYS;
        ame_begin();
        *map_at(&map, key) += 1;
        ame_commit();
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

    /* Every key is in its bucket, the entries are counted, and no count was lost. */
    uint64_t entries = 0, sum = 0;
    int ok = 1;
    for (size_t i = 0; i < map.n_buckets; i++)
        for (struct entry *e = map.buckets[i]; e; e = e->next) {
            ok &= slot(e->key, map.n_buckets) == i;
            entries++;
            sum += e->value;
        }
    ok &= entries == map.n_entries && sum == operations;
    printf("hashmap: %d threads: %.2f million operations/s, %llu entries in %zu buckets, invariant %s\n", threads,
           (double)operations / seconds / 1e6, (unsigned long long)entries, map.n_buckets, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
