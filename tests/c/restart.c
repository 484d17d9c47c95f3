/* Starts anew when its addresses alias, also where the kernel refuses to switch randomisation off:
 * `personality` is ours, and refuses. Prints how often it was started anew, "PID:N". */
#include "litmus.h"

int personality(unsigned long wanted)
{
    return wanted == 0xffffffff ? 0 : -1;
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
    const char *restarts = getenv("AME_RESTARTS");
    printf("ok %s\n", restarts ? restarts : "");
}
