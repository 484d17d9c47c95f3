/* Variadic functions in transactions: our own with ints, doubles and structs, and vsnprintf. */
#include "litmus.h"
#include <stdarg.h>

struct point {
    long x, y;
};
static long total, check_total;
static char shared_text[64];

__attribute__((noinline)) static long sum(int n, ...)
{
    va_list list, copy;
    long result = 0;
    va_start(list, n);
    va_copy(copy, list);
    for (int i = 0; i < n; i++) {
        result += va_arg(list, int);
        result += (long)va_arg(list, double);
        struct point p = va_arg(list, struct point);
        result += p.x - p.y;
    }
    va_end(list);
    result += va_arg(copy, int);
    va_end(copy);
    total += result;
    return result;
}

__attribute__((noinline, format(printf, 1, 2))) static int format(const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    int n = vsnprintf(shared_text, sizeof shared_text, fmt, list);
    va_end(list);
    return n;
}

static void body(int number)
{
    long mine = 0;
    for (int i = 0; time_left(); i++) {
        long got;
        ame_begin();
        got = sum(3, i, 1.0, (struct point){10, 3}, 2, 2.0, (struct point){20, 3}, 3, 3.0, (struct point){number, number});
        ame_commit();
        CHECK(got == i + 1 + 7 + 2 + 2 + 17 + 3 + 3 + i);
        mine += got;
        if (i % 16 == 0) {
            char expected[64], copy[64];
            int n = snprintf(expected, sizeof expected, "%d:%s:%.2f", number, "text", (double)i);
            ame_begin();
            int m = format("%d:%s:%.2f", number, "text", (double)i);
            memcpy(copy, shared_text, sizeof copy);
            ame_commit();
            CHECK(n == m && strcmp(copy, expected) == 0);
        }
    }
    ame_begin();
    check_total += mine;
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(total == check_total);
    puts("ok");
}
