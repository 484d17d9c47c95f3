/* Stacks that grow and move in a transaction: alloca and arrays of variable length in loops, recursion that
 * needs megabytes, begin at great depth with commit far above, and rollbacks from each of them. */
#include "litmus.h"
#include <alloca.h>

enum { DEEP = 20000 };
static long shared[4];

struct link {
    struct link *next;
    long value;
};

__attribute__((noinline)) static long blocks(int n)
{
    struct link *list = NULL;
    for (int i = 0; i < n; i++) {
        struct link *block = alloca(sizeof *block + (size_t)(i % 40));
        *block = (struct link){list, i};
        list = block;
        long row[i + 1];
        for (int k = 0; k <= i; k++)
            row[k] = shared[k % 4];
        list->value += row[i] - row[i % 4];
    }
    long sum = 0;
    for (; list; list = list->next)
        sum += list->value;
    return sum;
}

/* Every frame is pointed to by the next, and written by the deepest ones. */
__attribute__((noinline)) static long down(int depth, long *above, unsigned rollbacks)
{
    long here[6] = {depth, 0};
    if (depth == 0) {
        roll_back_once(rollbacks);
        return shared[0];
    }
    long result = down(depth - 1, here, rollbacks);
    *above += 1;
    CHECK_INSIDE(here[0] == depth + (depth > 1) && here[1] == 0);
    return result;
}

__attribute__((noinline)) static unsigned begin_below(int depth, long *local)
{
    volatile char waste[100];
    waste[depth % 100] = 1;
    unsigned rollbacks = depth == 0 ? ame_begin() : begin_below(depth - 1, local);
    if (depth == 3)
        *local += 1;
    return rollbacks + waste[depth % 100] - 1u;
}

static void body(int number)
{
    (void)number;
    for (int i = 0; i < 4; i++) {
        long local = 0, sum = 0;
        unsigned rollbacks = ame_begin();
        sum = blocks(150);
        roll_back_once(rollbacks);
        ame_commit();
        CHECK(sum == 150 * 149 / 2);

        rollbacks = ame_begin();
        shared[0]++;
        long before = shared[0], got = down(DEEP, &local, rollbacks);
        CHECK_INSIDE(got == before);
        shared[1]++;
        ame_commit();
        CHECK(local == 1);

        local = 0;
        rollbacks = begin_below(2000, &local);
        CHECK_INSIDE(local == 1);
        shared[2]++;
        sum = blocks(50);
        roll_back_once(rollbacks);
        shared[3]++;
        ame_commit();
        CHECK(local == 1 && sum == 50 * 49 / 2);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    for (int i = 0; i < 4; i++)
        CHECK(shared[i] == 4L * n_threads);
    puts("ok");
}
