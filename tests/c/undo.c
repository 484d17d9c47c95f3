/* After a rollback everything is as it was at begin: every type and width, bit fields, structs,
 * thread-locals, locals, memory intrinsics, atomics, and what realloc and free did. */
#include "litmus.h"

struct bits {
    unsigned a : 3, b : 7, c : 22;
};
struct big {
    char bytes[200];
};
typedef float vec4 __attribute__((vector_size(16)));
typedef int vec8i __attribute__((vector_size(32)));

static struct state {
    char c;
    short s;
    int i;
    long l;
    __int128 wide;
    float f;
    double d;
    long double ld;
    void *p;
    struct bits bits;
    struct big big;
    vec4 v;
    vec8i v8;
    _Bool flag;
    char odd[37];
    char string[64];
    _Atomic int atomic;
    long exchange, compare;
    int *heap;
} state;
static __thread long thread_value = 5;
static __thread char thread_bytes[40];

static void fill(struct state *s, int with)
{
    s->c = (char)with;
    s->s = (short)(with * 3);
    s->i = with * 5;
    s->l = with * 7L;
    s->wide = ((__int128)with << 70) + with;
    s->f = (float)with * 0.5f;
    s->d = with * 0.25;
    s->ld = with * 0.125L;
    s->p = &s->big.bytes[with];
    s->bits.a = (unsigned)with & 7u;
    s->bits.b = (unsigned)with & 127u;
    s->bits.c = (unsigned)with * 11u;
    memset(s->big.bytes, with, sizeof s->big.bytes);
    s->v = (vec4){(float)with, 1, 2, 3};
    for (int i = 0; i < 8; i++)
        s->v8[i] = with + i;
    s->flag = with & 1;
    for (unsigned i = 0; i < sizeof s->odd; i++)
        s->odd[i] = (char)(with + (int)i);
    strcpy(s->string, with == 9 ? "nine" : "seventy-seven");
}

static void check(const struct state *s, int with)
{
    CHECK(s->c == (char)with && s->s == (short)(with * 3) && s->i == with * 5 && s->l == with * 7L);
    CHECK(s->wide == ((__int128)with << 70) + with);
    CHECK(s->f == (float)with * 0.5f && s->d == with * 0.25 && s->ld == with * 0.125L);
    CHECK(s->p == &s->big.bytes[with]);
    CHECK(s->bits.a == ((unsigned)with & 7u) && s->bits.b == ((unsigned)with & 127u) && s->bits.c == (unsigned)with * 11u);
    for (unsigned i = 0; i < sizeof s->big.bytes; i++)
        CHECK(s->big.bytes[i] == (char)with);
    CHECK(s->v[0] == (float)with && s->v[3] == 3);
    for (int i = 0; i < 8; i++)
        CHECK(s->v8[i] == with + i);
    CHECK(s->flag == (with & 1));
    for (unsigned i = 0; i < sizeof s->odd; i++)
        CHECK(s->odd[i] == (char)(with + (int)i));
    CHECK(strcmp(s->string, with == 9 ? "nine" : "seventy-seven") == 0);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    start_ticker();
    for (int round = 0; round < 20; round++) {
        struct state copy;
        struct big local;
        long on_stack = 10;
        long double_stack[3] = {1, 2, 3};
        fill(&state, 9);
        state.atomic = 1;
        state.exchange = 2;
        state.compare = 3;
        state.heap = malloc(4 * sizeof *state.heap);
        for (int i = 0; i < 4; i++)
            state.heap[i] = 100 + i;
        thread_value = 5;
        memset(thread_bytes, 1, sizeof thread_bytes);
        memset(&local, 4, sizeof local);
        int *heap_before = state.heap;

        unsigned rollbacks = ame_begin();
        if (rollbacks) {
            /* Rolled back: everything must be as before. */
            check(&state, 9);
            CHECK(state.atomic == 1 && state.exchange == 2 && state.compare == 3);
            CHECK(state.heap == heap_before);
            for (int i = 0; i < 4; i++)
                CHECK(state.heap[i] == 100 + i);
            CHECK(thread_value == 5 && thread_bytes[0] == 1 && thread_bytes[39] == 1);
            CHECK(on_stack == 10 && double_stack[2] == 3 && local.bytes[199] == 4);
        }
        fill(&state, 77);
        state.atomic += 41;
        CHECK_INSIDE(__atomic_exchange_n(&state.exchange, 20, __ATOMIC_SEQ_CST) == 2);
        long old = 3;
        CHECK_INSIDE(__atomic_compare_exchange_n(&state.compare, &old, 30, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        state.heap[1] = -1;
        state.heap = realloc(state.heap, 4000 * sizeof *state.heap);
        state.heap[0] = -1;
        memset(&state.heap[4], 0, 3996 * sizeof *state.heap);
        thread_value += 6;
        memset(thread_bytes, 2, sizeof thread_bytes);
        on_stack += 5;
        double_stack[2] = 99;
        memset(&local, 6, sizeof local);
        memcpy(&copy, &state, sizeof copy);
        free(malloc(100));
        roll_back_once(rollbacks);
        ame_commit();

        CHECK(rollbacks >= 1);
        check(&state, 77);
        CHECK(copy.l == 77 * 7L && copy.heap == state.heap);
        CHECK(state.atomic == 42 && state.exchange == 20 && state.compare == 30);
        CHECK(state.heap[0] == -1 && state.heap[1] == -1 && state.heap[2] == 102 && state.heap[3999] == 0);
        CHECK(thread_value == 11 && thread_bytes[0] == 2 && on_stack == 15 && double_stack[2] == 99);
        CHECK(local.bytes[0] == 6 && local.bytes[199] == 6);
        free(state.heap);
    }
    stop_ticker();
    puts("ok");
}
