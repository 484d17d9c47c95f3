/* After ame_inevitable() or ame_exclusive() a transaction is not rolled back: an effect that cannot
 * be undone (a byte into a pipe) happens exactly once per transaction. */
#include "litmus.h"
#include <fcntl.h>

static int pipe_ends[2];
static long x, y, sent;

AME_INEVITABLE ssize_t send_byte(const char *byte);
ssize_t send_byte(const char *byte) { return write(pipe_ends[1], byte, 1); }

static long body_sent[MAX_THREADS];

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        int way = (int)(litmus_random(&random) % 16);
        ame_begin();
        long before = x;
        x = before + 1;
        if (way == 0) {
            ame_inevitable();
            long after = sent;
            y = before + 1;
            sent = after + 1;
        } else if (way == 1) {
            ame_exclusive();
            CHECK_INSIDE(x == before + 1);
            y = x;
        } else {
            y = before + 1;
        }
        CHECK_INSIDE(x == y);
        ame_commit();
        body_sent[number] += way == 0;
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    struct ame_stats stats;
    ame_total_stats(&stats);
    long total = 0;
    for (int i = 0; i < n_threads; i++)
        total += body_sent[i];
    CHECK(x == y && sent == total);
    CHECK(stats.commits > 0);
    CHECK(total == 0 || n_threads == 1 || stats.inevitable > 0);

    /* The call of a function of kind inevitable, with a rollback wanted before and after it. */
    CHECK(pipe(pipe_ends) == 0);
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    start_ticker();
    for (int i = 0; i < 20; i++) {
        unsigned rollbacks = ame_begin();
        roll_back_once(rollbacks);
        long tick = (long)litmus_tick;
        send_byte("x");
        usleep(100);
        CHECK_INSIDE((long)litmus_tick == tick);
        ame_commit();
    }
    stop_ticker();
    char bytes[64];
    CHECK(read(pipe_ends[0], bytes, sizeof bytes) == 20);
    puts("ok");
}
