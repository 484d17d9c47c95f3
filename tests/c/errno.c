/* errno and thread-local variables are the thread's: what a transaction does to them ends with its rollback,
 * also when it was the C library that wrote errno. */
#include "litmus.h"
#include <errno.h>
#include <math.h>

static _Thread_local long local_array[8];
static _Thread_local char local_byte = 3;
static long shared;
static volatile double minus_one = -1;
static _Thread_local void *volatile none; /* or the compiler knows better than to allocate */

static void body(int number)
{
    for (int i = 0; i < 40; i++) {
        errno = 1000 + i;
        local_byte = 3;
        for (int k = 0; k < 8; k++)
            local_array[k] = number;
        long *address = &local_array[i % 8];
        unsigned rollbacks = ame_begin();
        CHECK_INSIDE(errno == 1000 + i && local_byte == 3 && *address == number);
        shared++;
        *address += 5;
        local_byte++;
        switch (i % 5) {
        case 0:
            errno = EAGAIN;
            break;
        case 1:
            CHECK_INSIDE(strtol("99999999999999999999999", NULL, 10) > 0 && errno == ERANGE);
            break;
        case 2:
            none = malloc((size_t)1 << 60);
            CHECK_INSIDE(none == NULL); /* clang takes malloc to leave errno alone */
            break;
        case 3:
            CHECK_INSIDE(strtod("1e999999", NULL) > 1e300 && errno == ERANGE);
            break;
        case 4: {
            double nan = sqrt(minus_one);
            CHECK_INSIDE(nan != nan && errno == EDOM);
        }
        }
        roll_back_once(rollbacks);
        ame_commit();
        CHECK(errno != 1000 + i && local_byte == 4 && *address == number + 5);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    CHECK(shared == 40L * n_threads);
    puts("ok");
}
