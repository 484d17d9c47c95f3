/* Two threads and more on the Judy arrays of somebody else's library, compiled unmodified.
 *
 * Judy does no locking: a change rearranges the nodes of the whole array, and its callers must lock.
 * Here three of its containers are kept consistent by transactions alone:
 *
 *     forward    JudyL   key   -> value
 *     backward   JudyL   value -> key
 *     names      JudySL  "key" as text -> key
 *
 * Every operation touches all three, and look-ups check inside the transaction that they agree.
 * With -DUSE_MUTEX the same program uses one mutex. Usage: judy_maps [threads] [seconds]
 */
#include <Judy.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
/* Stops at once, inside a transaction or not. */
#define CHECK(condition) do { if (!(condition)) __builtin_trap(); } while (0)

enum { KEYS = 4096 };
static Pvoid_t forward, backward, names;
static int stop;

/* Keys of every density, so that all of Judy's node types occur. */
static Word_t key_of(unsigned i)
{
    switch (i % 4) {
    case 0: return i;
    case 1: return (Word_t)i << 8;
    case 2: return (Word_t)i * UINT64_C(0x9e3779b97f4a7c15);
    default: return UINT64_C(0x1234567800000000) + (i % 64) * 256 + i / 64;
    }
}

static void name_of(Word_t key, uint8_t name[32])
{
    static const char digit[] = "0123456789abcdef";
    int n = 0;
    name[n++] = 'k';
    do {
        name[n++] = (uint8_t)digit[key & 15];
        key >>= 4;
    } while (key);
    name[n] = 0;
}

static void erase(Word_t key)
{
    uint8_t name[32];
    PWord_t value = (PWord_t)JudyLGet(forward, key, PJE0);
    if (!value)
        return;
    name_of(key, name);
    CHECK(JudyLDel(&backward, *value, PJE0) == 1);
    CHECK(JudyLDel(&forward, key, PJE0) == 1);
    CHECK(JudySLDel(&names, name, PJE0) == 1);
}

static void put(Word_t key, Word_t value)
{
    uint8_t name[32];
    PWord_t slot;
    if ((slot = (PWord_t)JudyLGet(backward, value, PJE0)))
        erase(*slot);
    erase(key);
    slot = (PWord_t)JudyLIns(&forward, key, PJE0);
    CHECK(slot && *slot == 0);
    *slot = value;
    slot = (PWord_t)JudyLIns(&backward, value, PJE0);
    CHECK(slot && *slot == 0);
    *slot = key;
    name_of(key, name);
    slot = (PWord_t)JudySLIns(&names, name, PJE0);
    CHECK(slot && *slot == 0);
    *slot = key;
}

/* The three agree about this key. */
static int look_up(Word_t key)
{
    uint8_t name[32];
    PWord_t value = (PWord_t)JudyLGet(forward, key, PJE0);
    name_of(key, name);
    PWord_t named = (PWord_t)JudySLGet(names, name, PJE0);
    CHECK((value != NULL) == (named != NULL));
    if (!value)
        return 0;
    PWord_t back = (PWord_t)JudyLGet(backward, *value, PJE0);
    CHECK(back && *back == key && *named == key);
    return 1;
}

/* The next few keys from here on are in order. */
static void walk(Word_t key)
{
    Word_t last = key;
    PWord_t value = (PWord_t)JudyLFirst(forward, &key, PJE0);
    for (int i = 0; value && i < 10; i++) {
        CHECK(key >= last);
        last = key;
        value = (PWord_t)JudyLNext(forward, &key, PJE0);
        CHECK(!value || key > last);
    }
}

struct worker {
    pthread_t thread;
    uint64_t random, operations;
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
        unsigned what = below(w, 10);
        Word_t key = key_of(below(w, KEYS)), value = 1 + key_of(below(w, KEYS));
        BEGIN();
        if (what == 0)
            put(key, value);
        else if (what == 1)
            erase(key);
        else if (what == 2)
            walk(key);
        else
            look_up(key);
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
    static struct worker workers[64];
    for (unsigned i = 0; i < KEYS; i += 2)
        put(key_of(i), 1 + key_of(KEYS - 1 - i));
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

    /* Walk everything, in both directions, and compare with Judy's own count. */
    Word_t key = 0, last = 0, forwards = 0, backwards = 0, named = 0;
    for (PWord_t v = (PWord_t)JudyLFirst(forward, &key, PJE0); v; v = (PWord_t)JudyLNext(forward, &key, PJE0)) {
        CHECK(forwards == 0 || key > last);
        last = key;
        CHECK(look_up(key) == 1);
        forwards++;
    }
    key = ~(Word_t)0;
    for (PWord_t v = (PWord_t)JudyLLast(backward, &key, PJE0); v; v = (PWord_t)JudyLPrev(backward, &key, PJE0)) {
        PWord_t there = (PWord_t)JudyLGet(forward, *v, PJE0);
        CHECK(there && *there == key);
        backwards++;
    }
    uint8_t name[32] = "";
    for (PWord_t v = (PWord_t)JudySLFirst(names, name, PJE0); v; v = (PWord_t)JudySLNext(names, name, PJE0))
        named++;
    int ok = forwards == backwards && forwards == named && JudyLCount(forward, 0, ~(Word_t)0, PJE0) == forwards
             && JudyLCount(backward, 0, ~(Word_t)0, PJE0) == forwards;
    /* Free everything: Judy returns the bytes it gave back. */
    Word_t used = JudyLMemUsed(forward) + JudyLMemUsed(backward);
    Word_t freed = JudyLFreeArray(&forward, PJE0) + JudyLFreeArray(&backward, PJE0);
    JudySLFreeArray(&names, PJE0);
    ok &= used == freed;
#ifdef USE_MUTEX
    const char *how = "one mutex";
#else
    const char *how = "transactions";
#endif
    printf("judy: %s, %d threads: %.2f million operations/s, %lu keys, invariant %s\n", how, threads,
           (double)operations / seconds / 1e6, forwards, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
