/* A byte-code interpreter with computed goto, running in transactions on shared registers. */
#include "litmus.h"

enum { REGISTERS = 8 };
enum { ADD, SUB, MOVE, JUMP_NZ, DEC, HALT };
static long shared_regs[REGISTERS];

static long interpret(const unsigned char *code, long *loop)
{
    static const void *const labels[] = {&&add, &&sub, &&move, &&jump_nz, &&dec, &&halt};
    const unsigned char *pc = code;
    long steps = 0;
#define NEXT() do { steps++; goto *labels[*pc++]; } while (0)
    NEXT();
add:
    shared_regs[pc[0]] += pc[1];
    pc += 2;
    NEXT();
sub:
    shared_regs[pc[0]] -= pc[1];
    pc += 2;
    NEXT();
move:
    shared_regs[pc[0]] += 1;
    shared_regs[pc[1]] -= 1;
    pc += 2;
    NEXT();
jump_nz:
    pc = *loop ? code + pc[0] : pc + 1;
    NEXT();
dec:
    --*loop;
    NEXT();
halt:
    return steps;
}

static const unsigned char program[] = {
    ADD, 0, 5, SUB, 1, 5, MOVE, 2, 3, DEC, JUMP_NZ, 0, MOVE, 4, 5, HALT,
};

static void body(int number)
{
    (void)number;
    while (time_left()) {
        long loop = 10;
        ame_begin();
        long steps = interpret(program, &loop);
        ame_commit();
        CHECK(loop == 0 && steps == 10 * 5 + 2);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    CHECK(shared_regs[0] > 0 && shared_regs[0] == -shared_regs[1]);
    CHECK(shared_regs[2] == -shared_regs[3] && shared_regs[4] == -shared_regs[5]);
    CHECK(shared_regs[0] == 50 * shared_regs[4] && shared_regs[2] == 10 * shared_regs[4]);
    puts("ok");
}
