/* A block that grows and shrinks through all sizes in one transaction, with what it held; after a rollback the old
 * block has its old contents, though it was given up several times. */
#include "litmus.h"
#include <malloc.h>

static unsigned char *shared;
static size_t shared_size;
static long changes;

static void fill(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 61)
        p[i] = (unsigned char)(i / 61);
}
static void verify(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 61)
        CHECK_INSIDE(p[i] == (unsigned char)(i / 61));
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 9;
    for (int i = 0; i < 12; i++) {
        uint64_t seed = litmus_random(&random);
        unsigned rollbacks = ame_begin();
        uint64_t sizes = seed | 1;
        verify(shared, shared_size);
        for (int k = 0; k < 8; k++) {
            size_t size = 1 + (size_t)(litmus_random(&sizes) % (k % 3 == 2 ? 300000 : 3000));
            size_t kept = size < shared_size ? size : shared_size;
            shared = realloc(shared, size);
            CHECK_INSIDE(shared && malloc_usable_size(shared) >= size);
            verify(shared, kept);
            for (size_t at = (kept + 60) / 61 * 61; at < size; at += 61)
                shared[at] = (unsigned char)(at / 61);
            shared_size = size;
            if (k == 5 && i % 2)
                roll_back_once(rollbacks);
        }
        changes++;
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    shared_size = 1000;
    shared = malloc(shared_size);
    fill(shared, shared_size);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    verify(shared, shared_size);
    CHECK(changes == 12L * n_threads);
    free(shared);
    puts("ok");
}
