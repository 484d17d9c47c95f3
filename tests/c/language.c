/* Corners of C in transactions: structs by value and returned, arrays of variable length, alloca, inline
 * assembly, complex and 128-bit numbers, function pointers in tables, nested initialisers, comma and switch. */
#include "litmus.h"
#include <alloca.h>
#include <complex.h>

struct big {
    long values[12];
    double weight;
};
struct small {
    int a;
    float b;
};
static struct big shared_big;
static struct small shared_small[3];
static double complex shared_complex;
static __int128 shared_wide;
static long shared_sum, control_sum;

__attribute__((noinline)) static struct big twice(struct big b)
{
    for (int i = 0; i < 12; i++)
        b.values[i] *= 2;
    b.weight *= 2;
    return b;
}

__attribute__((noinline)) static struct small swap(struct small s)
{
    return (struct small){.a = (int)s.b, .b = (float)s.a};
}

__attribute__((noinline)) static long variable_length(int n, long start)
{
    long row[n], (*grid)[n] = alloca(sizeof(long[3][n]));
    for (int i = 0; i < n; i++)
        row[i] = start + i;
    for (int k = 0; k < 3; k++)
        memcpy(grid[k], row, sizeof row);
    long sum = 0;
    for (int i = 0; i < n; i++)
        sum += grid[i % 3][i];
    return sum;
}

static long add(long a, long b) { return a + b; }
static long subtract(long a, long b) { return a - b; }
static long (*const table[])(long, long) = {add, subtract};

static long assembly(long value)
{
    __asm__ volatile("addq $3, %0" : "+r"(value) : : "cc");
    return value;
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    long mine = 0;
    while (time_left()) {
        int n = 1 + (int)(litmus_random(&random) % 20), what = (int)(litmus_random(&random) % 7);
        long delta = 0;
        ame_begin();
        switch (what) {
        case 0: {
            struct big doubled = twice(shared_big);
            for (int i = 0; i < 12; i++)
                CHECK_INSIDE(doubled.values[i] == 2 * shared_big.values[i] && shared_big.values[i] == shared_big.values[0]);
            for (int i = 0; i < 12; i++)
                shared_big.values[i] = (doubled.values[i] / 2 + 1) % 1000;
            break;
        }
        case 1:
            shared_small[n % 3] = swap(swap(shared_small[n % 3]));
            CHECK_INSIDE(shared_small[n % 3].a == (int)shared_small[n % 3].b);
            shared_small[n % 3].a = n, shared_small[n % 3].b = (float)n;
            break;
        case 2:
            CHECK_INSIDE(variable_length(n, 5) == 5L * n + (long)n * (n - 1) / 2);
            break;
        case 3:
            CHECK_INSIDE(creal(shared_complex) == -cimag(shared_complex));
            shared_complex += 1.0 - 1.0 * I;
            break;
        case 4:
            CHECK_INSIDE((long)(shared_wide >> 64) == (long)(uint64_t)shared_wide);
            shared_wide += ((__int128)1 << 64) + 1;
            break;
        case 5:
            delta = table[n & 1](n, 4);
            CHECK_INSIDE(delta == (n & 1 ? n - 4 : n + 4));
            break;
        default:
            delta = assembly(n) - n;
            CHECK_INSIDE(delta == 3);
        }
        shared_sum += delta;
        ame_commit();
        mine += delta;
    }
    ame_begin();
    control_sum += mine;
    ame_commit();
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(shared_sum == control_sum);
    puts("ok");
}
