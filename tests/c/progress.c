/* One long transaction against a stream of short ones that write what it reads: both make progress. */
#include "litmus.h"

enum { WORDS = 200000 };
static long words[WORDS];
static int done;
static long shorts[MAX_THREADS];

static void body(int number)
{
    if (number == 0) {
        for (int round = 0; round < 5; round++) {
            long sum = 0;
            ame_begin();
            for (int i = 0; i < WORDS; i++)
                sum += words[i];
            words[round]++;
            words[round + 10]--;
            ame_commit();
            CHECK(sum == 0);
        }
        __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
        return;
    }
    uint64_t random = (uint64_t)number + 1;
    do {
        ame_begin();
        words[litmus_random(&random) % WORDS]++;
        words[litmus_random(&random) % WORDS]--;
        ame_commit();
        shorts[number]++;
    } while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE));
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    long sum = 0, total = 0;
    for (int i = 0; i < WORDS; i++)
        sum += words[i];
    for (int i = 1; i < n_threads; i++) {
        CHECK(shorts[i] > 0);
        total += shorts[i];
    }
    CHECK(sum == 0);
    printf("ok: 5 long beside %ld short transactions\n", total);
}
