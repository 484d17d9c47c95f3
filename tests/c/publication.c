/* Publication: what was written without a transaction before the committing transaction published
 * it is seen whole by every transaction that finds it. */
#include "litmus.h"

enum { WORDS = 64 };
static struct message {
    long words[WORDS];
} *published;
static int finished;
static long seen[MAX_THREADS];

static void publisher(void)
{
    long n = 0;
    while (time_left()) {
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

static void reader(int number)
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
        seen[number] += found;
    }
}

static void body(int number)
{
    if (number == 0)
        publisher();
    else
        reader(number);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    free(published);
    long total = 0;
    for (int i = 0; i < n_threads; i++)
        total += seen[i];
    CHECK(n_threads == 1 || total > 0);
    puts("ok");
}
