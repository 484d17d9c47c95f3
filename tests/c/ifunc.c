/* A function that the dynamic loader chooses (ifunc): the resolver runs before thread-local data are in place, so
 * it has no barriers; the function that it chooses is an ordinary one. */
#include "litmus.h"

static long calls;
static int level = 5;

static long chosen_for_five(long x)
{
    ame_begin();
    calls++;
    ame_commit();
    return x + 1;
}

static long chosen_for_others(long x) { return x + 2; }

static long (*resolve(void))(long)
{
    __builtin_cpu_init();
    level += __builtin_cpu_supports("sse2") ? 0 : 1;
    return level == 5 ? chosen_for_five : chosen_for_others;
}

long function(long x) __attribute__((ifunc("resolve")));

static void body(int number)
{
    (void)number;
    for (int i = 0; i < 100; i++) {
        ame_begin();
        CHECK_INSIDE(function(i) == i + 1);
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(calls == 100L * n_threads);
    puts("ok");
}
