/* Hot functions of three files, named by a set: one has a clone elsewhere, one is not instrumented. */
#include "litmus.h"

void twice(long *value);       /* hot_files_other.c */
long thrice(long value);       /* hot_files_plain.c */
static long shared;

__attribute__((noinline)) void step(long *value)
{
    *value = thrice(*value);
    twice(value);
}

static void body(int number)
{
    (void)number;
    while (time_left()) {
        ame_begin();
        long before = shared;
        step(&shared);
        CHECK_INSIDE(shared == before * 6);
        shared = before + 1;
        ame_commit();
        long own = 7;
        step(&own);
        CHECK(own == 42);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(shared > 0);
    puts("ok");
}
