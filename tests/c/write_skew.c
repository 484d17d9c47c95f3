/* Write skew: both read x + y, each writes another one of them. Snapshot isolation would let both
 * through and make the sum negative. */
#include "litmus.h"

static long x, y __attribute__((aligned(64)));

static void body(int number)
{
    while (time_left()) {
        ame_begin();
        CHECK_INSIDE(x + y >= 0);
        if (x + y >= 1) {
            if (number & 1)
                x--;
            else
                y--;
        }
        ame_commit();
        ame_begin();
        if (x + y == 0) {
            x = number % 3;
            y = 2 - x;
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    x = y = 1;
    run_threads(n_threads, body);
    CHECK(x + y >= 0);
    puts("ok");
}
