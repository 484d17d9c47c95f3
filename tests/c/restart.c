/* Starts anew when its addresses alias, also where the kernel refuses to switch randomisation off:
 * `personality` is ours, and refuses. Prints whether it was started anew, of which the runtime leaves no trace. */
#include "litmus.h"

int personality(unsigned long wanted)
{
    if (wanted == 0xffffffff)
        return 0;
    setenv("STARTED_ANEW", "anew", 1);
    return -1;
}

static long sum;

static void body(int number)
{
    ame_begin();
    sum += number + 1;
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(sum == (long)n_threads * (n_threads + 1) / 2);
    CHECK(getenv("AME_RESTARTS") == NULL);
    const char *anew = getenv("STARTED_ANEW");
    printf("ok %s\n", anew ? anew : "");
}
