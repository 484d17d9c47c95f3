/* A comparison function that writes shared data, starts nested transactions, and is rolled back in the middle of
 * qsort: the sort is abandoned, its memory given back, and the array as it was. */
#include "litmus.h"

enum { N = 300 };
struct item {
    long key;
    char padding[29];
} __attribute__((packed));
static struct item items[N];
static long comparisons, sorts;
static _Thread_local int fuse;

static int compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    ame_begin();
    comparisons++;
    ame_commit();
    if (fuse > 0 && --fuse == 0) {
        fuse = 0;
        (void)litmus_tick;
        ame_retry();
    }
    return (x->key > y->key) - (x->key < y->key);
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    for (int i = 0; i < 6; i++) {
        unsigned long shift = litmus_random(&random) % N;
        ame_begin();
        for (unsigned long k = 0; k < N; k++)
            items[k].key = (long)((k * 7 + shift) % N); /* 7 and N have no common factor */
        ame_commit();
        fuse = 0;
        unsigned rollbacks = ame_begin();
        if (rollbacks == 0)
            fuse = 200;
        long before = comparisons;
        qsort(items, N, sizeof *items, compare);
        for (long k = 0; k < N; k++)
            CHECK_INSIDE(items[k].key == k);
        CHECK_INSIDE(comparisons > before);
        struct item wanted = {.key = 17};
        CHECK_INSIDE(bsearch(&wanted, items, N, sizeof *items, compare) == &items[17]);
        sorts++;
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    CHECK(sorts == 6L * n_threads);
    puts("ok");
}
