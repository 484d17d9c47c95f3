/* Long transaction: reads 1,000,000 words (8 MB) and writes 10,000 of them.
 *
 * Variant "disjoint": every thread has an array of its own. Variant "shared": all threads use the
 * same array, so any two transactions conflict, and one thread's throughput is the ideal.
 * The words of an array always add up to 0; every transaction checks that from inside.
 */
#include "driver.h"

enum { WORDS = 1000000, WRITES = 10000, STRIDE = WORDS / WRITES };
static int64_t **arrays;
static unsigned n_arrays;
static uint64_t wrong_sums;

static void setup(void)
{
    n_arrays = strcmp(opt.variant, "shared") == 0 ? 1 : opt.threads;
    arrays = malloc(sizeof *arrays * n_arrays);
    for (unsigned i = 0; i < n_arrays; i++) {
        arrays[i] = calloc(WORDS, sizeof **arrays);
        for (int k = 0; k < WORDS; k++)
            arrays[i][k] = k < WORDS / 2 ? k : k - (WORDS - 1);
    }
}

/* Reads all words, writes every STRIDE-th; the additions cancel out. Returns the sum read. */
TM_SAFE static int64_t pass(int64_t *a)
{
    int64_t sum = 0;
    for (int i = 0; i < WORDS; i++)
        sum += a[i];
    for (int i = 0; i < WRITES; i += 2) {
        a[i * STRIDE] += 1;
        a[(i + 1) * STRIDE] -= 1;
    }
    return sum;
}

static void operation(struct worker *w)
{
    int64_t *a = arrays[w->id % n_arrays];
    int64_t sum;
    TM_BEGIN
    sum = pass(a);
    TM_END
    if (sum != 0)
        __atomic_add_fetch(&wrong_sums, 1, __ATOMIC_RELAXED);
}

static int check(int64_t inserted)
{
    (void)inserted;
    for (unsigned i = 0; i < n_arrays; i++) {
        int64_t sum = 0;
        for (int k = 0; k < WORDS; k++)
            sum += arrays[i][k];
        if (sum != 0) {
            fprintf(stderr, "array %u adds up to %lld, expected 0\n", i, (long long)sum);
            return 1;
        }
    }
    if (wrong_sums) {
        fprintf(stderr, "%llu transactions saw a sum other than 0\n", (unsigned long long)wrong_sums);
        return 1;
    }
    return 0;
}
BENCH_MAIN("long")
