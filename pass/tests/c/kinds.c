// Every kind of field and function; prints the same in and outside of transactions.
#include <ame.h>
#include <stdio.h>

struct object {
    AME_REFCOUNT long refs;
    AME_IMMUTABLE struct object *type;
    AME_PRIVATE int scratch[4];
    AME_COUNTER int visits;
    AME_UNIQUE unsigned next_id;
    AME_RACY int hint;
    long shared;
    struct object *link;
};

AME_PER_THREAD static int current;
AME_COUNTER static long total;
static __thread int local;

AME_PURE int pure_function(int x);
AME_INEVITABLE void irrevocable(void);
AME_EXCLUSIVE void alone(void);
AME_BOUNDARY int wait_for_it(int x);
AME_PURE AME_READS(1, 2) AME_WRITES(0, 2) void fast_copy(void *to, const void *from, unsigned long n);
AME_REPLACE("replacement") int replaced(int x);
AME_SAFE __attribute__((noinline)) int safe_function(long *p) { return (int)++*p; }
int replacement(int x) { return x + 1000; }
int replaced(int x) { return x; }

__attribute__((noinline)) int pure_function(int x) { return x * 2; }
__attribute__((noinline)) void irrevocable(void) { puts("irrevocable"); }
__attribute__((noinline)) void alone(void) { puts("alone"); }
__attribute__((noinline)) int wait_for_it(int x) { return x; }
__attribute__((noinline)) void fast_copy(void *to, const void *from, unsigned long n) {
    for (unsigned long i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
}

static inline void incref(struct object *o) {
    unsigned long now = (unsigned long)o->refs, then = now + 1;
    if (then == 0) return;
    o->refs = (long)then;
}
static inline int decref(struct object *o) { return --o->refs == 0; }

__attribute__((noinline)) long use(struct object *o, int n) {
    long sum = 0;
    for (int i = 0; i < n; i++) {
        incref(o);
        o->scratch[i & 3] += i;
        o->visits++;
        o->shared += o->type->shared;
        sum += o->next_id++;
        if (o->hint++ > 3) o->hint = 0;
        current += i;
        total += 2;
        local += i;
        struct object **slot = &o->link;   // as CPython's Py_SETREF
        struct object *old = *slot;
        *slot = o->type;
        sum += old != 0;
    }
    for (int i = 0; i < n; i++) sum += decref(o);
    return sum + current + total + local;
}

int main(void) {
    struct object type = {.shared = 3}, o = {.refs = 1, .type = &type};
    long sum = use(&o, 10);
    int (*function)(int) = replaced;
    char text[40], copy[40];
    for (int i = 0; i < 40; i++) text[i] = (char)('a' + i % 26);
    fast_copy(copy, text, sizeof copy);
    irrevocable();
    alone();
    printf("%ld %ld %d %d %d %u %ld\n", sum, o.refs, o.visits, o.scratch[1], o.hint, o.next_id, o.shared);
    printf("%d %d %d %d %.40s\n", pure_function(4), wait_for_it(5), function(1), safe_function(&o.shared), copy);
    return 0;
}
