/* Deep recursion inside a transaction, with a conflict at the bottom: the rollback must restore
 * registers and stack to the frame that began, from any depth, and locals must be whole. */
#include "litmus.h"

enum { DEPTH = 3000 };
static long hits[4];

static long descend(int depth, long *from_above, int which)
{
    long local[6], base = *from_above;
    for (int i = 0; i < 6; i++)
        local[i] = base + depth + i;
    *from_above += 1;
    if (depth == 0) {
        hits[which]++;
        return 0;
    }
    long below = descend(depth - 1, &local[depth % 6], which);
    /* The callee added 1 to what we passed; nothing else changed. */
    for (int i = 0; i < 6; i++)
        CHECK_INSIDE(local[i] == base + depth + i + (i == depth % 6));
    return below + 1;
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    long done = 0;
    long before[8];
    while (time_left()) {
        int which = (int)(litmus_random(&random) % 4);
        long start = done * 3;
        for (int i = 0; i < 8; i++)
            before[i] = done + i;
        ame_begin();
        long returned = descend(DEPTH, &start, which);
        before[3] += returned;
        ame_commit();
        CHECK(returned == DEPTH);
        CHECK(start == done * 3 + 1);
        for (int i = 0; i < 8; i++)
            CHECK(before[i] == done + i + (i == 3 ? DEPTH : 0));
        done++;
    }
    ame_begin();
    hits[0] -= done;
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(hits[0] + hits[1] + hits[2] + hits[3] == 0);
    puts("ok");
}
