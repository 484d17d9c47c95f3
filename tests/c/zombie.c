/* Opacity: no transaction ever sees x != y, not even one that will be rolled back. A zombie would
 * trap, run over the end of the array, or loop for ever. */
#include "litmus.h"

enum { PAIRS = 4 };
static struct pair {
    long x;
    char far[120];
    long y;
} pairs[PAIRS];
static long table[64];

static void body(int number)
{
    uint64_t random = (uint64_t)number * 7919 + 1;
    long keep = 0;
    while (time_left()) {
        struct pair *p = &pairs[litmus_random(&random) % PAIRS];
        int writer = litmus_random(&random) & 1;
        ame_begin();
        if (writer) {
            p->x = (p->x + 1) % 64;
            p->y = (p->y + 1) % 64;
        } else {
            long x = p->x;
            for (int i = 0; i < 20; i++)
                keep += pairs[i % PAIRS].x;
            long y = p->y;
            CHECK_INSIDE(x == y);
            /* An index and a loop bound that are only right when x == y. */
            keep += table[63 + x - y];
            for (long i = x; i != y; i += 2)
                keep++;
        }
        ame_commit();
    }
    if (keep == 42)
        table[0] = 0;
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    for (int i = 0; i < PAIRS; i++)
        CHECK(pairs[i].x == pairs[i].y);
    puts("ok");
}
