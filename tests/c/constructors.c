/* Transactions before and after main: in constructors of every priority, in destructors, and in atexit functions. */
#include "litmus.h"

static long order[8], n_order;

static void note(long what)
{
    ame_begin();
    order[n_order++] = what;
    ame_commit();
}

__attribute__((constructor(101))) static void first(void) { note(1); }
__attribute__((constructor(5000))) static void second(void) { note(2); }
__attribute__((constructor)) static void third(void) { note(3); }
static void leaving(void)
{
    note(4);
    if (n_order != 4 || order[3] != 4)
        _exit(3);
}
__attribute__((destructor)) static void last(void)
{
    note(5);
    if (n_order != 5 || order[4] != 5)
        _exit(4);
}

static void body(int number)
{
    (void)number;
    ame_begin();
    CHECK_INSIDE(n_order == 3);
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    CHECK(n_order == 3 && order[0] == 1 && order[1] == 2 && order[2] == 3);
    atexit(leaving);
    run_threads(n_threads, body);
    puts("ok");
}
