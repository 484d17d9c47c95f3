/* Statistics and domains: counts add up, also those of threads that have ended. */
#include "litmus.h"

static long counter;

static void body(int number)
{
    struct ame_stats before, after;
    (void)number;
    ame_thread_stats(&before);
    for (int i = 0; i < 500; i++) {
        ame_begin();
        counter++;
        if (ame_should_commit()) {
            ame_commit();
            ame_begin();
        }
        ame_commit();
    }
    ame_thread_stats(&after);
    CHECK(after.commits >= before.commits + 500 && after.begins >= after.commits);
    CHECK(after.writes_first >= before.writes_first + 500 && after.log_bytes_max > 0);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    struct ame_stats total;
    ame_total_stats(&total);
    CHECK(counter == 500L * n_threads && total.commits >= 500u * (unsigned)n_threads);

    ame_domain *one = ame_domain_open("one"), *two = ame_domain_open("two");
    CHECK(one && two && one != two && ame_domain_open("one") == one);
    CHECK(strcmp(ame_domain_name(one), "one") == 0 && strcmp(ame_domain_name(two), "two") == 0);
    ame_domain *main_domain = ame_domain_open("main");
    CHECK(main_domain != NULL);
    struct ame_stats stats;
    ame_domain_stats(main_domain, &stats);
    CHECK(stats.commits == total.commits);
    puts("ok");
}
