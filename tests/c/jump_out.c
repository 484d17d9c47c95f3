/* longjmp out of frames in which a transaction runs: it goes on in the frame of setjmp, commits there, and a
 * rollback after the jump still starts at ame_begin. A rollback before the jump undoes all of it. */
#include "litmus.h"
#include <setjmp.h>

static long x, y, commits;

__attribute__((noinline)) static void leave(jmp_buf env, int depth)
{
    volatile long waste[8] = {depth};
    if (depth == 0)
        longjmp(env, 7);
    leave(env, depth - 1);
    waste[1] = waste[0];
}

static void body(int number)
{
    (void)number;
    for (int i = 0; i < 50; i++) {
        jmp_buf env;
        volatile unsigned rollbacks = 0;
        volatile int begun = 0;
        if (setjmp(env) == 0) {
            rollbacks = ame_begin();
            begun = 1;
            x++;
            if (i % 2)
                roll_back_once(rollbacks);
            leave(env, 20);
        }
        CHECK_INSIDE(begun == 1 && ame_in_transaction());
        if (i % 3 == 0)
            x += 0;
        y++;
        commits++;
        CHECK_INSIDE(x == y);
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    CHECK(x == y && x == 50L * n_threads && commits == x);
    puts("ok");
}
