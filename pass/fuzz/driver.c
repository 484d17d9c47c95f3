// Runs a csmith program (whose main is called csmith_main here) as pass/fuzz/one asks, by FUZZ_MODE:
//
//   outside   as it is
//   inside    as one transaction
//   undone    the same, rolled back twice at its end
//   noise     the same, while a second thread reads and rewrites random words of the program's data
//
// FUZZ_STEP=n: fuzz_step, which pass/fuzz/one has put after every statement, ends a transaction and
// begins another at every n-th call.
#include "ame.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int csmith_main(int argc, char **argv);
extern char __data_start[], _end[];

static unsigned step_every;
static unsigned steps; // in transactions, so that a rolled-back one counts again

void fuzz_step(void) {
    if (step_every && ++steps % step_every == 0) {
        ame_commit();
        ame_begin();
    }
}

// On the heap: the noise rewrites everything in .data and .bss. One granule each: `done` is written
// outside transactions while others run.
struct control {
    _Alignas(16) int begun;
    _Alignas(16) int done;
    _Alignas(16) unsigned retry_seen;
};

static int load(int *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
static void store(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); }

static void *waker(void *argument) {
    struct control *control = argument;
    while (!load(&control->done)) {
        ame_begin();
        control->retry_seen++;
        ame_commit();
    }
    return 0;
}

static void *noise(void *argument) {
    struct control *control = argument;
    unsigned long random = 88172645463325252ul;
    unsigned long words = (unsigned long)(_end - __data_start) / 8 - 1;
    volatile unsigned long *data = (volatile unsigned long *)(((unsigned long)__data_start + 7) & ~7ul);
    while (!load(&control->done)) {
        ame_begin();
        // Older than the transaction that the program is about to begin, so that it wins.
        store(&control->begun, 1);
        for (int i = 0; i < 20; i++) {
            for (volatile int pause = 0; pause < 500; pause++)
                ;
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            unsigned long value = data[random % words];
            if (random & 1ul << 40)
                data[random % words] = value;
        }
        ame_commit();
    }
    return 0;
}

int main(void) {
    char *arguments[] = {"csmith", 0};
    const char *mode = getenv("FUZZ_MODE"), *every = getenv("FUZZ_STEP");
    if (!mode)
        return fprintf(stderr, "FUZZ_MODE is not set\n"), 2;
    step_every = every ? (unsigned)atoi(every) : 0;
    if (!strcmp(mode, "outside"))
        return csmith_main(1, arguments);
    struct control *control = calloc(1, sizeof *control);
    pthread_t other;
    int undone = !strcmp(mode, "undone"), with_other = undone || !strcmp(mode, "noise");
    if (with_other)
        pthread_create(&other, 0, undone ? waker : noise, control);
    if (with_other && !undone)
        while (!load(&control->begun))
            ;
    unsigned attempt = ame_begin();
    int result = csmith_main(1, arguments);
    if (undone && attempt < 2 && control->retry_seen != ~0u)
        ame_retry();
    ame_commit();
    store(&control->done, 1);
    if (with_other)
        pthread_join(other, 0);
    return result;
}
