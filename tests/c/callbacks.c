/* libc functions that call back: qsort and bsearch over a shared array, in transactions. */
#include "litmus.h"

enum { N = 64 };
static int shared_array[N];

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int descending(const void *a, const void *b) { return ascending(b, a); }

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        int way = (int)(litmus_random(&random) % 3), key = (int)(litmus_random(&random) % N);
        ame_begin();
        if (way == 0) {
            qsort(shared_array, N, sizeof *shared_array, ascending);
            int *found = bsearch(&key, shared_array, N, sizeof *shared_array, ascending);
            CHECK_INSIDE(found == &shared_array[key]);
        } else if (way == 1) {
            qsort(shared_array, N, sizeof *shared_array, descending);
        } else {
            /* Always a permutation of 0 .. N-1, in one of the two orders. */
            int first = shared_array[0];
            CHECK_INSIDE(first == 0 || first == N - 1);
            for (int i = 0; i < N; i++)
                CHECK_INSIDE(shared_array[i] == (first ? N - 1 - i : i));
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    for (int i = 0; i < N; i++)
        shared_array[i] = i;
    run_threads(n_threads, body);
    puts("ok");
}
