/* Data that do not fit granules: packed structs with unaligned members, bit-fields of all widths, structs by
 * value as arguments on the stack, unaligned vectors, a union; each whole at every look, and undone whole. */
#include "litmus.h"

typedef long vector __attribute__((vector_size(32)));
typedef long loose __attribute__((vector_size(32), aligned(1)));

struct __attribute__((packed)) packed {
    char tag;
    uint64_t a;
    short b;
    __int128 c;
    double d;
    char end;
};
/* Packed too, so that pointers to it promise no alignment. */
struct __attribute__((packed)) bits {
    unsigned a : 1, b : 3, c : 13, d : 15;
    uint64_t e : 37, f : 27;
    int64_t g : 63;
    signed h : 5;
};
struct argument {
    char before[9];
    struct packed p;
    struct bits b;
};
union mix {
    struct packed p;
    char bytes[sizeof(struct packed)];
};

static struct {
    char odd;
    struct packed packed[3];
    char vectors[7 + 3 * 32];
    struct bits bits;
    union mix mix;
} __attribute__((packed)) shared;

__attribute__((noinline)) static uint64_t by_value(int unused, struct argument s, long double x, struct argument t)
{
    s.p.a += t.p.a;
    t.before[8] = (char)(s.before[8] + unused);
    return s.p.a + (uint64_t)s.b.g + t.b.c + (uint64_t)x + (unsigned char)t.before[8];
}

static void set_all(unsigned value)
{
    for (int i = 0; i < 3; i++) {
        struct packed *p = &shared.packed[i];
        p->tag = (char)value;
        p->a = value * 0x100000001ull;
        p->b = (short)value;
        p->c = (__int128)value << 64 | value;
        p->d = value;
        p->end = (char)value;
        *(loose *)(shared.vectors + 7 + 32 * i) = (vector){value, value, value, value};
    }
    struct bits *b = &shared.bits;
    b->a = value, b->b = value, b->c = value, b->d = value;
    b->e = value * 0x10001ull, b->f = value, b->g = -(int64_t)value, b->h = (int)(value % 16);
    shared.mix.p = shared.packed[1];
}

static unsigned check_all(void)
{
    unsigned value = (unsigned)shared.packed[0].a;
    for (int i = 0; i < 3; i++) {
        struct packed p = shared.packed[i];
        CHECK_INSIDE(p.tag == (char)value && p.a == value * 0x100000001ull && p.b == (short)value);
        CHECK_INSIDE(p.c == ((__int128)value << 64 | value) && p.d == value && p.end == (char)value);
        vector v = *(loose *)(shared.vectors + 7 + 32 * i);
        CHECK_INSIDE(v[0] == value && v[1] == value && v[2] == value && v[3] == value);
    }
    struct bits *b = &shared.bits;
    CHECK_INSIDE(b->a == (value & 1) && b->b == (value & 7) && b->c == (value & 0x1fff) && b->d == (value & 0x7fff));
    CHECK_INSIDE(b->e == (value * 0x10001ull & ((1ull << 37) - 1)) && b->f == (value & ((1u << 27) - 1)));
    CHECK_INSIDE(b->g == -(int64_t)value && b->h == (int)(value % 16));
    CHECK_INSIDE(memcmp(shared.mix.bytes, &shared.packed[1], sizeof(struct packed)) == 0);
    return value;
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        unsigned next = (unsigned)(litmus_random(&random) % 100000);
        struct argument above = {.before = "12345678", .p.a = 1};
        unsigned rollbacks = ame_begin();
        unsigned value = check_all();
        struct argument now = {.p = shared.packed[value % 3], .b = shared.bits};
        now.before[8] = 7;
        CHECK_INSIDE(by_value(3, now, 2.5L, now) == now.p.a * 2 + (uint64_t)now.b.g + now.b.c + 2 + 10);
        above.p.a += now.p.a;
        CHECK_INSIDE(above.p.a == now.p.a + 1);
        if (next % 4 == 0) {
            set_all(next);
            if (next % 64 == 0)
                roll_back_once(rollbacks);
            CHECK_INSIDE(check_all() == next);
        }
        ame_commit();
        CHECK(above.p.a == now.p.a + 1);
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    CHECK((uintptr_t)&shared % 16 == 0 && sizeof shared > 250);
    set_all(0);
    start_ticker();
    run_threads(n_threads, body);
    stop_ticker();
    check_all();
    puts("ok");
}
