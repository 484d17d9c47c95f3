/* C11 atomics inside transactions belong to the transaction: undone with it, seen whole. */
#include "litmus.h"
#include <stdatomic.h>

static _Atomic long x, y;
static atomic_flag flag = ATOMIC_FLAG_INIT;
static _Atomic int small[4];

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        int way = (int)(litmus_random(&random) % 5);
        ame_begin();
        switch (way) {
        case 0:
            atomic_fetch_add(&x, 3);
            atomic_fetch_add_explicit(&y, 3, memory_order_relaxed);
            break;
        case 1: {
            long old = atomic_load(&x);
            CHECK_INSIDE(atomic_compare_exchange_strong(&x, &old, old + 1));
            CHECK_INSIDE(atomic_exchange(&y, old + 1) == old);
            break;
        }
        case 2:
            CHECK_INSIDE(atomic_load(&x) == atomic_load_explicit(&y, memory_order_acquire));
            break;
        case 3:
            CHECK_INSIDE(!atomic_flag_test_and_set(&flag));
            small[0]++;
            small[3] = small[0];
            atomic_thread_fence(memory_order_seq_cst);
            atomic_flag_clear(&flag);
            break;
        default:
            CHECK_INSIDE(small[0] == small[3]);
            x++;
            y++;
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(x == y && small[0] == small[3]);
    puts("ok");
}
