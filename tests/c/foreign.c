/* Calls to code that was not instrumented (foreign_plain.c, compiled without the plugin), direct
 * and through a pointer: they run exclusively, so their plain accesses race with nobody, and what
 * they do is done once. */
#include "litmus.h"

extern long foreign_pair[2];
extern long foreign_calls;
void foreign_bump(void);
long foreign_apply(long (*fn)(long), long value);
static void (*volatile bump_pointer)(void) = foreign_bump;
static long ours[2];
static long total_calls;

static long twice(long value)
{
    ours[0]++;
    ours[1]++;
    return 2 * value;
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    long calls = 0;
    while (time_left()) {
        int way = (int)(litmus_random(&random) % 8);
        ame_begin();
        CHECK_INSIDE(ours[0] == ours[1]);
        if (way == 0) {
            foreign_bump();
        } else if (way == 1) {
            bump_pointer();
        } else if (way == 2) {
            CHECK_INSIDE(foreign_apply(twice, 21) == 42);
        } else {
            CHECK_INSIDE(foreign_pair[0] == foreign_pair[1]);
            ours[0]++;
            ours[1]++;
        }
        ame_commit();
        calls += way <= 1;
    }
    ame_begin();
    total_calls += calls;
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    struct ame_stats stats;
    ame_total_stats(&stats);
    CHECK(foreign_pair[0] == foreign_pair[1] && ours[0] == ours[1]);
    if (foreign_calls != total_calls)
        FAIL("foreign_bump ran %ld times in %ld committed transactions", foreign_calls, total_calls);
    CHECK(total_calls == 0 || n_threads == 1 || stats.exclusive > 0);
    puts("ok");
}
