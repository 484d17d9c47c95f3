/* sort.c: qsort and bsearch sort and find, also when the comparison rolls back; an aborted sort
 * leaves no trace; a comparison that is not instrumented makes the transaction exclusive. */
#include "check.h"

struct item {
    int key;
    int order;
    char more[3];
};

enum { N = 200 };
static struct item items[N];
static long calls;

/* As instrumented code: acquires what it reads. (Without prefix data it counts as foreign.) */
static int by_key(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    WRITE(calls, READ(calls) + 1);
    int p = READ(x->key), q = READ(y->key);
    return (p > q) - (p < q);
}

static void fill(void)
{
    unsigned random = 1;
    for (int i = 0; i < N; i++) {
        random = random * 1103515245 + 12345;
        WRITE(items[i].key, (int)(random >> 16) % 50);
        WRITE(items[i].order, i);
    }
}

static void sorts(void)
{
    for (int n = 0; n <= N; n += n < 10 ? 1 : 19) {
        fill();
        ame_qsort(items, (size_t)n, sizeof *items, by_key);
        for (int i = 1; i < n; i++)
            CHECK(items[i - 1].key < items[i].key ||
                  (items[i - 1].key == items[i].key && items[i - 1].order < items[i].order));
        for (int key = -1; key <= 50; key++) {
            struct item wanted = {.key = key};
            struct item *found = ame_bsearch(&wanted, items, (size_t)n, sizeof *items, by_key);
            int there = 0;
            for (int i = 0; i < n; i++)
                there |= items[i].key == key;
            CHECK(found ? found->key == key && there : !there);
        }
    }
}

static void undone(void)
{
    fill();
    unsigned rollbacks = ame_begin();
    if (rollbacks == 0) {
        ame_qsort(items, N, sizeof *items, by_key);
        roll_back();
    }
    for (int i = 0; i < N; i++)
        CHECK(items[i].order == i);
    ame_commit();
}

int main(void)
{
    each_mode(sorts);
    struct ame_stats stats;
    ame_thread_stats(&stats);
    CHECK(stats.exclusive > 0);
    /* Declared harmless, as the pass does with instrumented functions. */
    struct ame_known_function known = {(const void *)by_key, 0};
    ame_module_register(AME_ABI_VERSION, "sort.c", &known, 1);
    unsigned long before = stats.exclusive;
    each_mode(sorts);
    ame_thread_stats(&stats);
    CHECK(stats.exclusive == before + 1); /* the mode that asks for it */
    if (chaos())
        undone();
    puts("ok");
}
