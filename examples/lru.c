/* lru: a cache that forgets what was used least recently.
 *
 * A hash table finds entries, a doubly linked list orders them by use. A look-up moves its entry to
 * the front, so even readers write; a miss evicts the last entry and reuses its memory through
 * free() and malloc(). One transaction covers all of it. Usage: lru [threads] [seconds]
 */
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CAPACITY = 1024, BUCKETS = 2048, KEYS = 4096 };

struct entry {
    unsigned key;
    uint64_t value;
    struct entry *chain;             /* next in the bucket */
    struct entry *newer, *older;     /* neighbours in the order of use */
};

static struct cache {
    struct entry *bucket[BUCKETS];
    struct entry *newest, *oldest;
    unsigned entries;
} cache;

/* Stands for the slow computation that the cache saves. */
static uint64_t compute(unsigned key) { return (uint64_t)key * key + 1; }

static void unlink_use(struct cache *c, struct entry *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void link_newest(struct cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void evict(struct cache *c)
{
    struct entry *e = c->oldest, **link = &c->bucket[e->key % BUCKETS];
    while (*link != e)
        link = &(*link)->chain;
    *link = e->chain;
    unlink_use(c, e);
    free(e);
    c->entries--;
}

/* The value of a key, from the cache when it is there. */
static uint64_t get(struct cache *c, unsigned key, int *hit)
{
    struct entry *e = c->bucket[key % BUCKETS];
    while (e && e->key != key)
        e = e->chain;
    *hit = e != NULL;
    if (!e) {
        if (c->entries == CAPACITY)
            evict(c);
        e = malloc(sizeof *e);
        e->key = key;
        e->value = compute(key);
        e->chain = c->bucket[key % BUCKETS];
        c->bucket[key % BUCKETS] = e;
        c->entries++;
        link_newest(c, e);
    } else if (c->newest != e) {
        unlink_use(c, e);
        link_newest(c, e);
    }
    return e->value;
}

static int stop;

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t operations, hits, wrong;
} __attribute__((aligned(64)));

static void *work(void *arg)
{
    struct worker *w = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        /* The square makes small keys more frequent, as in life. */
        uint64_t r = (w->random >> 33) % KEYS;
        unsigned key = (unsigned)(r * r / KEYS);
        int hit;
        ame_begin();
        uint64_t value = get(&cache, key, &hit);
        ame_commit();
        w->wrong += value != compute(key);
        w->hits += (uint64_t)hit;
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
    uint64_t operations = 0, hits = 0, wrong = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
        hits += workers[i].hits;
        wrong += workers[i].wrong;
    }

    /* The list has the same length in both directions, and as many entries as the buckets. */
    unsigned forwards = 0, backwards = 0, chained = 0;
    for (struct entry *e = cache.newest; e && forwards <= CAPACITY; e = e->older)
        forwards++;
    for (struct entry *e = cache.oldest; e && backwards <= CAPACITY; e = e->newer)
        backwards++;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct entry *e = cache.bucket[i]; e && chained <= CAPACITY; e = e->chain)
            chained++;
    int ok = wrong == 0 && forwards == cache.entries && backwards == cache.entries && chained == cache.entries
             && cache.entries <= CAPACITY;
    printf("lru: %d threads: %.2f million look-ups/s, %.0f %% hits, %u entries, invariant %s\n", threads,
           (double)operations / seconds / 1e6, operations ? 100.0 * (double)hits / (double)operations : 0.0,
           cache.entries, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
