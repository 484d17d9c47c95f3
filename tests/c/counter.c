/* Increments of one counter: no update is lost, also when threads come and go. */
#include "litmus.h"

enum { EACH = 2000, ROUNDS = 4 };
static long counter;

static void body(int number)
{
    (void)number;
    for (int i = 0; i < EACH; i++) {
        ame_begin();
        counter++;
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    for (int round = 0; round < ROUNDS; round++)
        run_threads(n_threads, body);
    CHECK(counter == (long)EACH * ROUNDS * n_threads);
    puts("ok");
}
