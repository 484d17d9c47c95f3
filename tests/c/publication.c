/* Publication: what was written without a transaction before the committing transaction published
 * it is seen whole by every transaction that finds it. */
#include "litmus.h"

enum { WORDS = 64 };
static struct message {
    long words[WORDS];
} *published;
static int finished;
static long seen; /* messages, by all readers */

static void publisher(void)
{
    long n = 0;
    /* A reader may get no processor for long. If it never finds anything, this does not end. */
    while (time_left() || (n_threads > 1 && !__atomic_load_n(&seen, __ATOMIC_RELAXED))) {
        struct message *m = malloc(sizeof *m), *old;
        n++;
        for (int i = 0; i < WORDS; i++)
            m->words[i] = n * WORDS + i;
        ame_begin();
        old = published;
        published = m;
        ame_commit();
        if (old) {
            /* Privatised: destroy it before it is freed. */
            memset(old, 0xff, sizeof *old);
            free(old);
        }
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
}

static void reader(void)
{
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
        int found = 0;
        ame_begin();
        struct message *m = published;
        if (m) {
            long first = m->words[0];
            CHECK_INSIDE(first > 0 && first % WORDS == 0);
            for (int i = 1; i < WORDS; i++)
                CHECK_INSIDE(m->words[i] == first + i);
            found = 1;
        }
        ame_commit();
        __atomic_fetch_add(&seen, found, __ATOMIC_RELAXED);
    }
}

static void body(int number)
{
    if (number == 0)
        publisher();
    else
        reader();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    free(published);
    puts("ok");
}
