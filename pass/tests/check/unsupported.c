#include "./include/python3/python.h"

typedef long jmp_buf[25];
int setjmp(jmp_buf) __attribute__((returns_twice));
void longjmp(jmp_buf, int);
int pthread_create(void *, void *, void *(*)(void *), void *);
static jmp_buf here;

int assembly(int x) {
    __asm__("bswap %0" : "+r"(x));
    __asm__ volatile("" ::: "memory");
    return x;
}
int jump(int x) { return setjmp(here) ? 1 : (longjmp(here, x), 0); }
static void *run(void *p) { return p; }
void start(void) { pthread_create(0, 0, run, 0); }
static int any(int n, ...) { return n; }
int (*entry)(int, ...) = any;
void *capsule(void) { return PyCapsule_Import("other.api", 0); }
void slow(void) { void *state = PyEval_SaveThread(); PyEval_RestoreThread(state); }
