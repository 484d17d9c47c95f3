/* Code that locks, called from transactions: a mutex taken in a transaction is given back when the
 * transaction is rolled back, and excludes code outside transactions until commit.
 *
 * Rollback restores granules of 16 bytes: what plain code changes at the same time (the mutex, and
 * what it guards) is kept apart from what transactions write without holding the mutex. */
#include "litmus.h"

static pthread_mutex_t mutex __attribute__((aligned(64))) = PTHREAD_MUTEX_INITIALIZER;
static long guarded[8] __attribute__((aligned(64)));
static struct {
    long count;
    char apart[56];
} others __attribute__((aligned(64)));

static void legacy_add(void)
{
    pthread_mutex_lock(&mutex);
    guarded[0]++;
    guarded[1]++;
    pthread_mutex_unlock(&mutex);
}

static void body(int number)
{
    for (int i = 0; time_left(); i++) {
        if ((i + number) % 3 == 0) {
            /* Outside. */
            pthread_mutex_lock(&mutex);
            CHECK(guarded[0] == guarded[1]);
            guarded[0]++;
            guarded[1]++;
            pthread_mutex_unlock(&mutex);
        } else {
            ame_begin();
            others.count++;
            legacy_add();
            CHECK_INSIDE(guarded[0] == guarded[1]);
            others.count--;
            ame_commit();
        }
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(guarded[0] == guarded[1] && guarded[0] > 0 && others.count == 0);
    start_ticker();
    for (int i = 0; i < 10; i++) {
        long before = guarded[0];
        unsigned rollbacks = ame_begin();
        legacy_add();
        roll_back_once(rollbacks);
        ame_commit();
        CHECK(rollbacks >= 1 && guarded[0] == before + 1);
        CHECK(pthread_mutex_trylock(&mutex) == 0);
        pthread_mutex_unlock(&mutex);
    }
    stop_ticker();
    puts("ok");
}
