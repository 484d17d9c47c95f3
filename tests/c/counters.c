/* AME_COUNTER and AME_REFCOUNT fields: additions are neither lost nor a cause of conflicts, each
 * transaction sees its own, and a rollback takes them back. */
#include "litmus.h"

static struct {
    AME_COUNTER long hits;
    AME_COUNTER int small;
    AME_REFCOUNT long refs;
    long plain[2];
} stats_of_program = {.refs = 1};

enum { EACH = 3000 };

static void body(int number)
{
    (void)number;
    for (int i = 0; i < EACH; i++) {
        ame_begin();
        long before = stats_of_program.hits;
        stats_of_program.hits++;
        stats_of_program.hits += 2;
        CHECK_INSIDE(stats_of_program.hits >= before + 3);
        stats_of_program.small--;
        stats_of_program.refs++;
        if (i % 8 == 0) {
            stats_of_program.plain[0]++;
            stats_of_program.plain[1]++;
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    long n = (long)EACH * n_threads;
    if (stats_of_program.hits != 3 * n)
        FAIL("counter is %ld, expected %ld", stats_of_program.hits, 3 * n);
    CHECK(stats_of_program.small == (int)-n && stats_of_program.refs == 1 + n);
    start_ticker();
    for (int i = 0; i < 20; i++) {
        long before = stats_of_program.hits;
        unsigned rollbacks = ame_begin();
        CHECK_INSIDE(stats_of_program.hits == before);
        stats_of_program.hits += 5;
        roll_back_once(rollbacks);
        ame_commit();
        CHECK(stats_of_program.hits == before + 5);
    }
    stop_ticker();
    puts("ok");
}
