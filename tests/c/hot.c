/* Hot functions: plain clones outside transactions, barriers inside, with computed goto, recursion,
 * calls by pointer, and calls between hot functions. */
#include "litmus.h"

enum { ADD, SUB, JUMP_NZ, DEC, HALT };
static long shared_regs[8];

AME_HOT __attribute__((noinline)) static void add(long *reg, long amount) { *reg += amount; }

AME_HOT __attribute__((noinline)) static long interpret(const unsigned char *code, long loop)
{
    static const void *const labels[] = {&&add, &&sub, &&jump_nz, &&dec, &&halt};
    const unsigned char *pc = code;
    long steps = 0;
#define NEXT() do { steps++; goto *labels[*pc++]; } while (0)
    NEXT();
add:
    add(&shared_regs[pc[0]], pc[1]);
    pc += 2;
    NEXT();
sub:
    shared_regs[pc[0]] -= pc[1];
    pc += 2;
    NEXT();
jump_nz:
    pc = loop ? code + pc[0] : pc + 1;
    NEXT();
dec:
    --loop;
    NEXT();
halt:
    return steps;
}

/* Recursive, and called through a pointer. */
AME_HOT long fibonacci(long n, long *calls)
{
    ++*calls;
    return n < 2 ? n : fibonacci(n - 1, calls) + fibonacci(n - 2, calls);
}
static long (*volatile by_pointer)(long, long *) = fibonacci;

static const unsigned char program[] = {ADD, 0, 5, SUB, 1, 5, DEC, JUMP_NZ, 0, HALT};
static long shared_calls;

static void body(int number)
{
    while (time_left()) {
        ame_begin();
        long steps = interpret(program, 10);
        ame_commit();
        CHECK(steps == 41);
        ame_begin();
        long f = by_pointer(8, &shared_calls);
        ame_commit();
        CHECK(f == 21);
        /* Outside: memory of its own. */
        long calls = 0;
        CHECK(by_pointer(7, &calls) == 13 && calls == 41);
        (void)number;
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    CHECK(interpret(program, 10) == 41);
    CHECK(shared_regs[0] == 50 && shared_regs[1] == -50);
    run_threads(n_threads, body);
    CHECK(shared_regs[0] > 50 && shared_regs[0] == -shared_regs[1] && shared_regs[0] % 50 == 0);
    CHECK(shared_calls == (shared_regs[0] / 50 - 1) * 67);
    puts("ok");
}
