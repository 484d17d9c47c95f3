/* A library that a program of other people loads when it has threads already: late_library_main.c. Their first calls are
 * outside of transactions, in threads that the runtime has never seen. */
#include <ame.h>

static struct counter {
    long steps;
    long others[64];
} counter;

__attribute__((noinline)) static void step(struct counter *c, long i)
{
    c->steps++;
    c->others[i & 63] += i;
}

void count(long times, int in_transactions)
{
    for (long i = 0; i < times; i++) {
        if (in_transactions)
            ame_begin();
        step(&counter, i);
        if (in_transactions)
            ame_commit();
    }
}

/* Of the caller's own memory. */
long sum_of_squares(long *own, long n)
{
    for (long i = 0; i < n; i++)
        own[i & 15] += i * i;
    long sum = 0;
    for (long i = 0; i < 16; i++)
        sum += own[i];
    return sum;
}

long counted(void) { return counter.steps; }
