/* setjmp and longjmp inside a transaction (it may become exclusive), and across its end. */
#include "litmus.h"
#include <setjmp.h>

static long x, y;

static void body(int number)
{
    (void)number;
    while (time_left()) {
        jmp_buf env;
        volatile int came_back = 0;
        ame_begin();
        x++;
        if (setjmp(env) == 0)
            longjmp(env, 1);
        else
            came_back = 1;
        y++;
        CHECK_INSIDE(came_back == 1 && x == y);
        ame_commit();
        CHECK(came_back == 1);
        if (setjmp(env) == 0) {
            ame_begin();
            x++;
            y++;
            ame_commit();
            longjmp(env, 2);
        }
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(x == y && x > 0);
    puts("ok");
}
