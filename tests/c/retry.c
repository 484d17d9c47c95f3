/* ame_retry: producers wait while the buffer is full, consumers while it is empty. Every item
 * arrives once, and those of one producer in order. */
#include "litmus.h"

enum { SLOTS = 4, EACH = 3000 };
struct item {
    int producer;
    long number;
};
static struct {
    struct item slot[SLOTS];
    unsigned first, count;
    long to_come;
} queue;
static long expected_next[MAX_THREADS];
static long consumed;

static void produce(int producer)
{
    for (long n = 0; n < EACH; n++) {
        ame_begin();
        if (queue.count == SLOTS)
            ame_retry();
        queue.slot[(queue.first + queue.count) % SLOTS] = (struct item){producer, n};
        queue.count++;
        ame_commit();
    }
}

static void consume(void)
{
    for (;;) {
        int end = 0;
        ame_begin();
        if (queue.to_come == 0) {
            end = 1;
        } else if (queue.count == 0) {
            ame_retry();
        } else {
            struct item it = queue.slot[queue.first];
            queue.first = (queue.first + 1) % SLOTS;
            queue.count--;
            queue.to_come--;
            CHECK_INSIDE(expected_next[it.producer] == it.number);
            expected_next[it.producer]++;
            consumed++;
        }
        ame_commit();
        if (end)
            return;
    }
}

static void body(int number)
{
    if (number & 1)
        consume();
    else
        produce(number);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    if (n_threads < 2)
        n_threads = 2;
    int producers = (n_threads + 1) / 2;
    queue.to_come = (long)producers * EACH;
    run_threads(n_threads, body);
    CHECK(consumed == (long)producers * EACH && queue.count == 0);
    puts("ok");
}
