/* A thousand short threads, many at once, each with a transaction, thread-local data with a destructor that runs
 * a transaction too, and memory that one allocates and another frees. */
#include "litmus.h"

enum { AT_ONCE = 50, ROUNDS = 20 };
static pthread_key_t key;
static long lives, ends, *handed;

static void at_end(void *value)
{
    ame_begin();
    ends += *(long *)value;
    ame_commit();
    free(value);
}

static void *life(void *arg)
{
    long *one = malloc(sizeof *one);
    *one = 1;
    pthread_setspecific(key, one);
    ame_begin();
    free(handed);
    handed = malloc(40);
    handed[4] = ++lives;
    ame_commit();
    if ((intptr_t)arg % 3 == 0)
        pthread_exit(NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    pthread_t ids[AT_ONCE];
    pthread_key_create(&key, at_end);
    for (int round = 0; round < ROUNDS; round++) {
        for (intptr_t i = 0; i < AT_ONCE; i++)
            CHECK(pthread_create(&ids[i], NULL, life, (void *)i) == 0);
        for (int i = 0; i < AT_ONCE; i++)
            pthread_join(ids[i], NULL);
    }
    CHECK(lives == AT_ONCE * ROUNDS && ends == lives && handed[4] == lives);
    puts("ok");
}
