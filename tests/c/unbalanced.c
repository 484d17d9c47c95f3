/* A hot function whose callee leaves it in a transaction: stopped with a message. */
#include "litmus.h"

static long shared;
__attribute__((noinline)) void opens(void) { ame_begin(); }
static void (*volatile by_pointer)(void) = opens;

AME_HOT __attribute__((noinline)) static void hot(void)
{
    by_pointer();
    shared++;
    ame_commit();
}

int main(void) { hot(); }
