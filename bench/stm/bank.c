/* Bank: an array of 16,384 balances. Updates move 1 between two random accounts, the other
 * operations add up four random accounts. Money is neither made nor lost. */
#include "driver.h"

enum { ACCOUNTS = 16384, INITIAL = 1000, READS = 4 };
static int64_t balance[ACCOUNTS] __attribute__((aligned(64)));

static void setup(void)
{
    for (int i = 0; i < ACCOUNTS; i++)
        balance[i] = INITIAL;
}

static void operation(struct worker *w)
{
    if (is_update(w)) {
        uint64_t from = random_below(w, ACCOUNTS), to = random_below(w, ACCOUNTS);
        TM_BEGIN
        balance[from] -= 1;
        balance[to] += 1;
        TM_END
    } else {
        uint64_t a = random_below(w, ACCOUNTS), b = random_below(w, ACCOUNTS);
        uint64_t c = random_below(w, ACCOUNTS), d = random_below(w, ACCOUNTS);
        int64_t sum;
        TM_BEGIN
        sum = balance[a] + balance[b] + balance[c] + balance[d];
        TM_END
        __asm__ volatile("" : : "r"(sum));
    }
}

static int check(int64_t inserted)
{
    int64_t total = 0;
    (void)inserted;
    for (int i = 0; i < ACCOUNTS; i++)
        total += balance[i];
    if (total == (int64_t)ACCOUNTS * INITIAL)
        return 0;
    fprintf(stderr, "bank holds %lld, expected %lld\n", (long long)total, (long long)ACCOUNTS * INITIAL);
    return 1;
}
BENCH_MAIN("bank")
