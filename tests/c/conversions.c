/* printf and scanf write through pointers: %n, undone by rollback, and the results of sscanf, which makes the
 * transaction irrevocable. */
#include "litmus.h"

static int shared_count, shared_value;
static long shared_long;
static char shared_text[48], shared_word[16];
static long commits;

static void body(int number)
{
    for (int i = 0; i < 30; i++) {
        unsigned rollbacks = ame_begin();
        int old = shared_value;
        CHECK_INSIDE(shared_count == (commits ? 5 : 0));
        int length = snprintf(shared_text, sizeof shared_text, "%-5d%n|%08.3f|%lld%ln", i, &shared_count, 1.5, 7ll, &shared_long);
        CHECK_INSIDE(length == 16 && shared_count == 5 && shared_long == 16);
        roll_back_once(rollbacks);
        int n = sscanf("12 words 34", "%d %15s %ld", &shared_value, shared_word, &shared_long);
        CHECK_INSIDE(n == 3 && shared_value == 12 && shared_long == 34 && strcmp(shared_word, "words") == 0);
        shared_value = old + 1;
        commits++;
        ame_commit();
    }
    (void)number;
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    CHECK(shared_value == 30 * n_threads && commits == shared_value);
    puts("ok");
}
