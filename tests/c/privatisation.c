/* Privatisation: after the transaction that took a node out has committed, plain accesses to the
 * node race with nobody, not even with transactions that had found it before. */
#include "litmus.h"

struct node {
    long a, pad[7], b;
};
static struct node *shared_node;
static struct node the_node;
static int finished;
static long taken;

static void owner(void)
{
    long rounds = 0;
    while (time_left()) {
        struct node *mine;
        ame_begin();
        mine = shared_node;
        shared_node = NULL;
        ame_commit();
        CHECK(mine == &the_node);
        /* Ours alone now: no transaction. */
        long a = mine->a;
        CHECK(mine->b == a);
        for (int i = 0; i < 50; i++) {
            mine->a = -1 - i;
            mine->b = -1 - i;
            CHECK(*(volatile long *)&mine->a == -1 - i);
            CHECK(*(volatile long *)&mine->b == -1 - i);
        }
        mine->a = mine->b = a;
        ame_begin();
        shared_node = mine;
        ame_commit();
        rounds++;
    }
    taken = rounds;
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
}

static void user(void)
{
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
        ame_begin();
        struct node *n = shared_node;
        if (n) {
            CHECK_INSIDE(n->a == n->b && n->a >= 0);
            n->a++;
            n->b++;
        }
        ame_commit();
    }
}

static void body(int number)
{
    if (number == 0)
        owner();
    else
        user();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    shared_node = &the_node;
    run_threads(n_threads, body);
    CHECK(the_node.a == the_node.b && the_node.a >= 0 && taken > 0);
    printf("ok: taken %ld times\n", taken);
}
