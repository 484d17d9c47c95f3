/* Output in transactions: every line exactly once, in the order of the transactions, whatever was
 * rolled back in between; printf, puts, fputs, fwrite and putchar. The test counts the lines on stdout:
 * "N thread i" with N = 0, 1, 2, ... */
#include "litmus.h"

enum { EACH = 300 };
static long next_number;
static long noise[8];

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    for (int i = 0; i < EACH; i++) {
        ame_begin();
        long n = next_number;
        noise[litmus_random(&random) % 8]++;
        switch (i % 4) {
        case 0:
            printf("%ld thread %d\n", n, number);
            break;
        case 1:
            printf("%ld ", n);
            noise[litmus_random(&random) % 8]++;
            printf("thread %d", number);
            putchar('\n');
            break;
        case 2:
            fprintf(stdout, "%ld thread %d", n, number);
            puts("");
            break;
        default:
            printf("%ld", n);
            fputs(" thread ", stdout);
            printf("%d", number);
            fwrite("\n", 1, 1, stdout);
        }
        next_number = n + 1;
        noise[litmus_random(&random) % 8]++;
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(next_number == (long)EACH * n_threads);
    fprintf(stderr, "ok: %ld lines\n", next_number);
}
