/* Threads that are created in a transaction, and end: one thread for each committed transaction, it sees
 * what the transaction wrote, and many short lives reuse the runtime's slots. */
#include "litmus.h"

static long started, announced;

static void *life(void *arg)
{
    long *ticket = arg;
    CHECK(ame_in_transaction() == 0);
    ame_begin();
    CHECK_INSIDE(*ticket > 0 && *ticket <= announced);
    started++;
    ame_commit();
    free(ticket);
    return NULL;
}

static void body(int number)
{
    (void)number;
    for (int i = 0; i < 60; i++) {
        pthread_t id;
        int error;
        long *ticket;
        ame_begin();
        ticket = malloc(sizeof *ticket);
        *ticket = ++announced;
        error = pthread_create(&id, NULL, life, ticket);
        ame_commit();
        CHECK(error == 0);
        pthread_join(id, NULL);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(started == 60L * n_threads && announced == started);
    puts("ok");
}
