/* The barriers that the pass emits, by hand, and what the test programs share. */
#ifndef BARRIERS_H
#define BARRIERS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ame.h>
#include <ame_rt.h>
#include "registered.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern __thread struct ame_tls ame_tls __attribute__((tls_model("initial-exec")));
int ame_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
void *ame_malloc(size_t);
void *ame_calloc(size_t, size_t);
void *ame_realloc(void *, size_t);
void ame_free(void *);

#define INLINE static inline __attribute__((always_inline, unused))
#define STUB_CLOBBERS                                                                              \
    "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
/* Through the GOT, as lazy binding does not preserve all registers. */
#define STUB(name, argument) \
    __asm__ volatile("call *" #name "@GOTPCREL(%%rip)" ::"D"(argument) : STUB_CLOBBERS)

INLINE uint64_t granule_of(const void *p) { return ((uint64_t)p >> 4) & 0xffffffff; }

INLINE void read_barrier(const void *p)
{
    uint64_t g = granule_of(p);
    if (__builtin_expect(ame_tls.marks[g] < AME_CONTROL->rver, 0)) {
#if INLINE_READS
        uint16_t ver = AME_CONTROL->ver;
        if (ame_tls.unfenced != 0 && ame_tls.marks[g] < ver && ame_tls.marks[g ^ 1] < ver) {
            *(volatile uint32_t *)&ame_tls.marks[g & ~1ul] = ver * 0x10001u;
            if (*(volatile const uint32_t *)&AME_LOCK_TABLE[g & ~1ul] != 0)
                STUB(ame_read_pair_contended, p);
        } else {
            STUB(ame_read_slow, p);
        }
#else
        STUB(ame_read_slow, p);
#endif
    }
    __asm__ volatile("" ::: "memory");
}
INLINE void write_barrier(void *p)
{
    if (__builtin_expect(ame_tls.marks[granule_of(p)] < AME_CONTROL->wver, 0))
        STUB(ame_write_slow, p);
    __asm__ volatile("" ::: "memory");
}
INLINE void poll(void)
{
    if (__builtin_expect(AME_CONTROL->rver == 0xffff, 0))
        STUB(ame_poll_slow, NULL);
}
#define R(place) (read_barrier((const void *)&(place)), *(volatile __typeof__(place) *)&(place))
#define W(place, value)                                                \
    do {                                                               \
        __typeof__(place) value_ = (value);                            \
        write_barrier((void *)&(place));                                       \
        *(volatile __typeof__(place) *)&(place) = value_;              \
    } while (0)

/* A word on a granule of its own. */
struct word {
    volatile long v;
    long unused;
} __attribute__((aligned(16)));

#define FAIL(...)                                             \
    do {                                                      \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);       \
        fprintf(stderr, __VA_ARGS__);                         \
        fputc('\n', stderr);                                  \
        _exit(1);                                             \
    } while (0)
#define CHECK(condition)                       \
    do {                                       \
        if (!(condition))                      \
            FAIL("not true: %s", #condition);  \
    } while (0)
#define EQUAL(a, b)                                                            \
    do {                                                                       \
        long a_ = (long)(a), b_ = (long)(b);                                   \
        if (a_ != b_)                                                          \
            FAIL("%s is %ld (%#lx), not %s = %ld (%#lx)", #a, a_, a_, #b, b_, b_); \
    } while (0)

INLINE double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
INLINE void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}
INLINE void busy_us(double us)
{
    double end = now() + us * 1e-6;
    while (now() < end)
        ;
}
INLINE uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}
INLINE pthread_t spawn(void *(*f)(void *), void *arg)
{
    pthread_t id;
    int err = ame_pthread_create(&id, NULL, f, arg);
    if (err)
        FAIL("pthread_create: %s", strerror(err));
    return id;
}
INLINE void join(pthread_t id) { CHECK(pthread_join(id, NULL) == 0); }

/* Steps that threads of a scripted case take in order. Not transactional. */
static volatile int step_;
INLINE void signal_step(int n) { __atomic_store_n(&step_, n, __ATOMIC_SEQ_CST); }
INLINE void await_step(int n)
{
    double end = now() + 20;
    while (__atomic_load_n(&step_, __ATOMIC_SEQ_CST) < n) {
        if (now() > end)
            FAIL("step %d was not reached, %d was", n, step_);
        sched_yield();
    }
}

struct test_case {
    const char *name;
    void (*run)(int argc, char **argv);
};
INLINE int run_case(const struct test_case *cases, int argc, char **argv)
{
    for (; argc > 1 && cases->name; cases++)
        if (strcmp(cases->name, argv[1]) == 0) {
            cases->run(argc - 2, argv + 2);
            return 0;
        }
    fprintf(stderr, "no such case\n");
    return 2;
}
#endif
