/* A transaction may begin and end in any frames: begin in a callee that returns, commit in a
 * deeper or a higher function. A rollback must bring back stack frames that are gone. */
#include "litmus.h"

static long x, y;

__attribute__((noinline)) static unsigned start(long *local)
{
    long here = *local * 2;
    unsigned rollbacks = ame_begin();
    /* `here` and `local` live in this frame, which is gone by the time of a conflict. */
    CHECK_INSIDE(here == *local * 2);
    *local += 1;
    return rollbacks;
}

__attribute__((noinline)) static void finish_deep(int depth)
{
    if (depth == 0) {
        ame_commit();
        return;
    }
    finish_deep(depth - 1);
    __asm__ volatile("" : : "r"(depth));
}

/* Overwrites the part of the stack where start() was. */
__attribute__((noinline)) static long scribble(long seed)
{
    volatile long waste[64];
    long sum = 0;
    for (int i = 0; i < 64; i++)
        waste[i] = seed + i;
    for (int i = 0; i < 64; i++)
        sum += waste[i];
    return sum;
}

__attribute__((noinline)) static long begin_and_work(long *local)
{
    start(local);
    long sum = scribble(*local);
    x++;
    sum += scribble(x);
    y++;
    return sum;
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        long local = 20, guard[4] = {1, 2, 3, 4};
        switch (litmus_random(&random) % 4) {
        case 0: /* begin below, commit here */
            begin_and_work(&local);
            ame_commit();
            break;
        case 1: /* begin below, commit further below */
            begin_and_work(&local);
            guard[2] += local;
            finish_deep(30);
            CHECK(guard[2] == 24);
            break;
        case 2: /* begin here, commit below */
            ame_begin();
            local++;
            x++;
            scribble(x);
            y++;
            finish_deep(3);
            break;
        default: /* begin two down, nested, commit here and there */
            begin_and_work(&local);
            start(&guard[0]);
            CHECK_INSIDE(guard[0] == 2);
            finish_deep(2);
            ame_commit();
        }
        CHECK(local == 21 && guard[1] == 2 && guard[3] == 4);
        ame_begin();
        CHECK_INSIDE(x == y);
        ame_commit();
    }
}

static void forced(void)
{
    for (int i = 0; i < 50; i++) {
        long local = 7;
        unsigned rollbacks = start(&local);
        scribble(i);
        CHECK_INSIDE(local == 8);
        roll_back_once(rollbacks);
        finish_deep(10);
        CHECK(local == 8 && rollbacks >= 1);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(x == y);
    start_ticker();
    forced();
    stop_ticker();
    puts("ok");
}
