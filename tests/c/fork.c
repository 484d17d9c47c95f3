/* fork between transactions: the child has the memory of some serial order, and its transactions work. */
#include "litmus.h"
#include <sys/wait.h>

static long x, y;
static int stop_working;

static void increment(void)
{
    ame_begin();
    x++;
    y++;
    ame_commit();
}

static void body(int number)
{
    if (number != 0) {
        while (!__atomic_load_n(&stop_working, __ATOMIC_ACQUIRE))
            increment();
        return;
    }
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            long before = x;
            if (x != y)
                _exit(11);
            for (int k = 0; k < 1000; k++)
                increment();
            _exit(x == before + 1000 && x == y ? 0 : 12);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            FAIL("the child ended with status %#x", status);
    }
    __atomic_store_n(&stop_working, 1, __ATOMIC_RELEASE);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(x == y);
    puts("ok");
}
