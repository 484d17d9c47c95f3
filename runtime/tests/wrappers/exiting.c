/* exiting.c: exit in a transaction, after output that waits for its commit. The pass puts
 * ame_make_inevitable() before the call. */
#include "check.h"

static void *leave(void *arg)
{
    ame_begin();
    ame_printf("deferred\n");
    ame_make_inevitable();
    exit(arg != NULL);
}

int main(void)
{
    pthread_t id;
    CHECK(ame_pthread_create(&id, NULL, leave, NULL) == 0);
    pthread_join(id, NULL);
    CHECK(0);
}
