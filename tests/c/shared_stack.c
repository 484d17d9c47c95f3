/* Stacks as shared memory: workers change an array in main's frame, and each other's locals. */
#include "litmus.h"

enum { CELLS = 16 };
static long *cells;
static long *published[MAX_THREADS];
static pthread_barrier_t all_here;

static void body(int number)
{
    long mine = 0;
    uint64_t random = (uint64_t)number + 1;
    published[number] = &mine;
    pthread_barrier_wait(&all_here);
    while (time_left()) {
        unsigned from = (unsigned)(litmus_random(&random) % CELLS), to = (unsigned)(litmus_random(&random) % CELLS);
        int friend = (int)(litmus_random(&random) % (unsigned)n_threads);
        ame_begin();
        cells[from]--;
        cells[to]++;
        ++*published[friend];
        mine--;
        ame_commit();
    }
    pthread_barrier_wait(&all_here);
    /* Everybody has stopped. What others added minus what we took off. */
    ame_begin();
    cells[CELLS] += mine;
    ame_commit();
    pthread_barrier_wait(&all_here);
}

int main(int argc, char **argv)
{
    long array[CELLS + 1] = {0};
    litmus_arguments(argc, argv);
    cells = array;
    pthread_barrier_init(&all_here, NULL, (unsigned)n_threads);
    run_threads(n_threads, body);
    long sum = 0;
    for (int i = 0; i < CELLS; i++)
        sum += array[i];
    CHECK(sum == 0 && array[CELLS] == 0);
    puts("ok");
}
