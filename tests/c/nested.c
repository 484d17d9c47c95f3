/* Nesting is flat: inner commits publish nothing, a rollback goes back to the outermost begin. */
#include "litmus.h"

static long x, y;

static void add(void *arg)
{
    long *value = arg;
    CHECK_INSIDE(ame_in_transaction() == 1);
    *value += 1;
}

static void body(int number)
{
    (void)number;
    CHECK(ame_in_transaction() == 0);
    while (time_left()) {
        ame_begin();
        CHECK_INSIDE(x == y);
        ame_begin();
        add(&x);
        ame_commit();
        CHECK_INSIDE(ame_in_transaction() == 1 && x == y + 1);
        ame_atomic(add, &y);
        CHECK_INSIDE(x == y);
        ame_commit();
        CHECK(ame_in_transaction() == 0);
        ame_atomic(add, &x);
        ame_begin();
        x--;
        ame_commit();
    }
}

static void body_balanced(int number)
{
    (void)number;
    while (time_left()) {
        ame_begin();
        CHECK_INSIDE(x == y);
        ame_atomic(add, &x);
        ame_begin();
        ame_begin();
        y++;
        ame_commit();
        ame_commit();
        ame_commit();
    }
}

static void forced(void)
{
    unsigned rollbacks;
    long before = x;
    start_ticker();
    rollbacks = ame_begin();
    CHECK_INSIDE(x == before);
    ame_begin();
    x++;
    ame_commit();
    ame_begin();
    ame_begin();
    roll_back_once(rollbacks);
    ame_commit();
    ame_commit();
    ame_commit();
    CHECK(rollbacks >= 1 && x == before + 1 && !ame_in_transaction());
    stop_ticker();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body_balanced);
    CHECK(x == y && x > 0);
    run_threads(1, body);
    CHECK(x == y);
    forced();
    puts("ok");
}
