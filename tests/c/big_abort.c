/* A transaction that allocates and touches 1 GB (4096 blocks) and is rolled back leaks nothing. */
#include "litmus.h"

enum { BLOCKS = 4096, SIZE = 256 * 1024 };
static char **blocks;

static long resident_kb(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &pages, &resident) != 2)
        FAIL("cannot read /proc/self/statm");
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    blocks = malloc(BLOCKS * sizeof *blocks);
    long first = 0;
    start_ticker();
    for (int round = 0; round < 6; round++) {
        unsigned rollbacks = ame_begin();
        if (rollbacks == 0)
            for (int i = 0; i < BLOCKS; i++) {
                blocks[i] = malloc(SIZE);
                blocks[i][0] = blocks[i][SIZE - 1] = 1;
            }
        roll_back_once(rollbacks);
        ame_commit();
        /* What the allocator keeps for reuse is there after the first round; a leak grows. */
        if (round == 0)
            first = resident_kb();
    }
    stop_ticker();
    long after = resident_kb();
    free(blocks);
    if (after - first > 16 * 1024)
        FAIL("resident memory grew from %ld KiB after one rollback to %ld KiB after six", first, after);
    if (after > 512 * 1024)
        FAIL("%ld KiB stay resident", after);
    puts("ok");
}
