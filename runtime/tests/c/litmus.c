/* Litmus programs on the machine code that ships. Each runs for a while (argument: seconds). */
#include "barriers.h"

static double seconds = 1.0;
static volatile int stop;
static struct word x, y;
#define N_WORDS (1 << 14)
static struct word xs[N_WORDS], ys[N_WORDS];

static void run(int n, void *(*const bodies[])(void *))
{
    pthread_t id[64];
    stop = 0;
    for (int i = 0; i < n; i++)
        id[i] = spawn(bodies[i], (void *)(long)i);
    sleep_ms((long)(seconds * 1000));
    stop = 1;
    for (int i = 0; i < n; i++)
        join(id[i]);
}

/* --- store_buffering: of two transactions that write one word and read the other's, one must see
 * the other ------------------------------------------------------------------------------------- */
static signed char seen_x[N_WORDS], seen_y[N_WORDS];
static volatile long round_x, round_y;
static void rendezvous(volatile long *mine, volatile long *other)
{
    long n = *mine + 1;
    __atomic_store_n(mine, n, __ATOMIC_SEQ_CST);
    for (int spins = 0; __atomic_load_n(other, __ATOMIC_SEQ_CST) < n; spins++)
        if (spins > 200)
            sched_yield();
}
static void *buffer(void *arg)
{
    int first = arg == NULL;
    struct word *mine = first ? xs : ys, *other = first ? ys : xs;
    signed char *seen = first ? seen_y : seen_x;
    for (;;) {
        rendezvous(first ? &round_x : &round_y, first ? &round_y : &round_x);
        if (stop == 2)
            return NULL;
        for (int i = 0; i < N_WORDS; i++) {
            long value = 0;
            ame_begin();
            if (i % 2) {
                W(mine[i].v, 1);
                value = R(other[i].v);
            } else {
                value = R(other[i].v);
                W(mine[i].v, 1);
            }
            ame_commit();
            seen[i] = (signed char)value;
        }
        rendezvous(first ? &round_x : &round_y, first ? &round_y : &round_x);
        if (first) {
            static long rounds;
            for (int i = 0; i < N_WORDS; i++) {
                if (seen_x[i] == 0 && seen_y[i] == 0)
                    FAIL("neither saw the other at %d of round %ld", i, rounds);
                xs[i].v = ys[i].v = 0;
            }
            rounds++;
            if (stop) {
                printf("%ld pairs\n", rounds * N_WORDS);
                stop = 2;
            }
        }
    }
}
static void store_buffering(void) { run(2, (void *(*const[])(void *)){buffer, buffer}); }

/* --- zombie: no code, doomed or not, ever sees x != y ---------------------------------------------*/
static long committed[64];
static void *keep_equal(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        W(x.v, R(x.v) + 1);
        if (n % 3 == 0)
            poll();
        W(y.v, R(y.v) + 1);
        ame_commit();
        n++;
        if (n % 16 == 0)
            busy_us(5);
    }
    committed[(long)arg] = n;
    return NULL;
}
static void *see_equal(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        long a = R(x.v);
        if (n % 5 == 0)
            poll();
        for (int i = 0; i < n % 128; i++)
            R(xs[(n * 131 + i * 7) % N_WORDS].v);
        long b = R(y.v);
        if (a != b)
            FAIL("x is %ld, y is %ld", a, b);
        ame_commit();
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void zombie(void)
{
    run(4, (void *(*const[])(void *)){keep_equal, see_equal, see_equal, keep_equal});
    EQUAL(x.v, committed[0] + committed[3]);
    printf("%ld writes, %ld reads\n", x.v, committed[1] + committed[2]);
}

/* --- neighbours: a granule that was marked alone, perhaps by an earlier transaction, stays marked when the other one of
 * its pair is found locked ------------------------------------------------------------------------ */
enum { PAIRS = 64 };
static struct word *pair(long i)
{
    return &xs[2 * (i % PAIRS) + ((uintptr_t)xs / sizeof *xs) % 2];
}
static void *write_pairs(void *arg)
{
    long n = 0;
    while (!stop) {
        struct word *two = pair(n * 7 + 3);
        ame_begin();
        W(two[1].v, R(two[1].v) + 1);
        W(two[0].v, R(two[0].v) + 1);
        ame_commit();
        n++;
        if (n % 8 == 0)
            busy_us(2);
    }
    return NULL;
}
static void *read_pairs(void *arg)
{
    long n = 0;
    while (!stop) {
        struct word *two = pair(n);
        ame_begin();
        ame_read_range(two, sizeof two->v);
        ame_commit();
        ame_begin();
        long a = R(two[0].v);
        for (int i = 0; i < n % 200; i++)
            R(ys[i].v);
        long b = R(two[1].v);
        if (a != b)
            FAIL("one is %ld, its neighbour %ld", a, b);
        ame_commit();
        n++;
    }
    return NULL;
}
static void neighbours(void) { run(2, (void *(*const[])(void *)){write_pairs, read_pairs}); }

/* --- unfenced_reader: long unfenced read transactions against a writer -----------------------------*/
static void *scan(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        long first = R(xs[0].v);
        for (int i = 0; i < 512; i++)
            if (R(xs[(i * 37) % 512].v) != first)
                FAIL("word %d is %ld, the first is %ld", i, xs[(i * 37) % 512].v, first);
        ame_commit();
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void *scan_range(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        ame_read_range(xs, 512 * sizeof *xs);
        for (int i = 1; i < 512; i++)
            if (xs[i].v != xs[0].v)
                FAIL("range: word %d is %ld, the first is %ld", i, xs[i].v, xs[0].v);
        ame_commit();
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void *scan_in_order(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        long first = R(xs[0].v);
        for (int i = 0; i < 512; i++)
            if (R(xs[i].v) != first)
                FAIL("in order: word %d is %ld, the first is %ld", i, xs[i].v, first);
        ame_commit();
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void *bump_all(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        for (int i = 0; i < 512; i++) {
            struct word *w = &xs[(i * 91) % 512];
            W(w->v, R(w->v) + 1);
        }
        ame_commit();
        n++;
        busy_us(50);
    }
    committed[(long)arg] = n;
    return NULL;
}
static void unfenced_reader(void)
{
    run(4, (void *(*const[])(void *)){bump_all, scan, scan_range, scan_in_order});
    printf("%ld writes, %ld + %ld + %ld scans\n", committed[0], committed[1], committed[2],
           committed[3]);
    CHECK(committed[0] > 0 && committed[1] > 0 && committed[2] > 0 && committed[3] > 0);
    for (int i = 0; i < 512; i++)
        EQUAL(xs[i].v, committed[0]);
}

/* --- privatisation: what was unlinked in a transaction is ours afterwards, without barriers --------*/
struct node {
    long value, spare;
    struct node *next;
} __attribute__((aligned(16)));
static struct node *list;
static void *privatise(void *arg)
{
    (void)arg;
    long n = 0;
    while (!stop) {
        struct node *mine;
        ame_begin();
        mine = R(list);
        if (mine)
            W(list, R(mine->next));
        ame_commit();
        if (mine) {
            long v = mine->value;
            for (int i = 0; i < 50; i++) {
                mine->value = i;
                __asm__ volatile("" ::: "memory");
                EQUAL(mine->value, i);
            }
            mine->value = v;
            ame_begin();
            W(mine->next, R(list));
            W(list, mine);
            ame_commit();
            n++;
        }
    }
    committed[(long)arg] = n;
    return NULL;
}
static void *walk(void *arg)
{
    (void)arg;
    while (!stop) {
        ame_begin();
        for (struct node *p = R(list); p; p = R(p->next)) {
            long v = R(p->value);
            if (v != 100 && v != 101)
                FAIL("a node of the list is %ld", v);
            W(p->value, 100 + (v + 1) % 2);
        }
        ame_commit();
    }
    return NULL;
}
static void privatisation(void)
{
    for (int i = 0; i < 4; i++) {
        struct node *p = ame_malloc(sizeof *p);
        p->value = 100;
        p->next = list;
        list = p;
    }
    run(4, (void *(*const[])(void *)){privatise, privatise, walk, walk});
    int n = 0;
    for (struct node *p = list; p; p = p->next)
        n++;
    EQUAL(n, 4);
    printf("%ld times\n", committed[0] + committed[1]);
}

/* --- publication: what was written before its flag is seen with the flag ---------------------------*/
static void *publish(void *arg)
{
    (void)arg;
    long n = 0;
    while (!stop) {
        n++;
        struct node *fresh = ame_malloc(sizeof *fresh); /* outside: plain writes */
        fresh->value = n;
        fresh->spare = ~n;
        ame_begin();
        struct node *old = R(list);
        W(list, fresh);
        if (old)
            ame_free(old);
        ame_commit();
    }
    return NULL;
}
static void *consume(void *arg)
{
    (void)arg;
    long last = 0;
    while (!stop) {
        long value = 0, spare = ~0L;
        ame_begin();
        struct node *p = R(list);
        if (p) {
            value = R(p->value);
            spare = R(p->spare);
        }
        ame_commit();
        if (spare != ~value || value < last)
            FAIL("value %ld with %ld after %ld", value, ~spare, last);
        last = value;
    }
    printf("%ld published\n", last);
    return NULL;
}
static void publication(void) { run(3, (void *(*const[])(void *)){publish, consume, consume}); }

/* --- write_skew: each may take one only while both are there ---------------------------------------*/

static void *take_one(void *arg)
{
    struct word *mine = arg ? ys : xs;
    for (;;) {
        rendezvous(arg ? &round_y : &round_x, arg ? &round_x : &round_y);
        if (stop == 2)
            return NULL;
        for (int i = 0; i < N_WORDS; i++) {
            ame_begin();
            if (R(xs[i].v) + R(ys[i].v) == 0)
                W(mine[i].v, -1);
            ame_commit();
        }
        rendezvous(arg ? &round_y : &round_x, arg ? &round_x : &round_y);
        if (!arg) {
            for (int i = 0; i < N_WORDS; i++) {
                EQUAL(xs[i].v + ys[i].v, -1);
                xs[i].v = ys[i].v = 0;
            }
            if (stop)
                stop = 2;
        }
    }
}
static void write_skew(void) { run(2, (void *(*const[])(void *)){take_one, take_one}); }

/* --- upgrade: read, then write the same few words, from many threads -------------------------------*/
static void *add_one(void *arg)
{
    uint64_t seed = (uint64_t)(long)arg * 77 + 1;
    long n = 0;
    while (!stop) {
        struct word *a = &xs[next_random(&seed) % 3], *b = &xs[next_random(&seed) % 3];
        ame_begin();
        long va = R(a->v);
        poll();
        W(a->v, va + 1);
        long vb = R(b->v);
        W(b->v, vb + 1);
        ame_commit();
        n += 2;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void upgrade(void)
{
    run(4, (void *(*const[])(void *)){add_one, add_one, add_one, add_one});
    long sum = 0;
    for (int i = 0; i < 4; i++)
        sum += committed[i];
    EQUAL(xs[0].v + xs[1].v + xs[2].v, sum);
    printf("%ld increments\n", sum);
}

/* --- dining: transactions that lock in opposite orders always end ----------------------------------*/
static void *forth_and_back(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        for (int i = 0; i < 16; i++) {
            struct word *w = &xs[arg ? 15 - i : i];
            W(w->v, R(w->v) + 1);
        }
        ame_commit();
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void opposite_orders(void)
{
    run(3, (void *(*const[])(void *)){forth_and_back, forth_and_back, forth_and_back});
    EQUAL(xs[0].v, committed[0] + committed[1] + committed[2]);
    EQUAL(xs[15].v, xs[0].v);
    printf("%ld, %ld, %ld\n", committed[0], committed[1], committed[2]);
}

/* --- stacks ----------------------------------------------------------------------------------------*/
static __attribute__((noinline)) void set(struct word *w, long value) { W(w->v, value); }
static __attribute__((noinline)) long get(struct word *w) { return R(w->v); }
static struct word *volatile others[4];
static void *own_and_foreign(void *arg)
{
    long me = (long)arg;
    struct word mine[3] = {{0}};
    long private_count = 0, n = 0;
    uint64_t seed = (uint64_t)me + 5;
    others[me] = mine;
    while (!stop) {
        struct word *theirs = others[next_random(&seed) % 4];
        volatile long guard[4] = {n, n + 1, n + 2, n + 3};
        ame_begin();
        long before = private_count++;
        set(&mine[0], get(&mine[0]) + 1);
        guard[n % 4] = -1;
        if (theirs)
            set(&theirs[1], get(&theirs[1]) + 1);
        poll();
        guard[n % 4] = n + n % 4;
        set(&mine[2], get(&mine[2]) + 1);
        CHECK(private_count == before + 1);
        ame_commit();
        for (int i = 0; i < 4; i++)
            EQUAL(guard[i], n + i);
        if (theirs)
            n++;
        else
            mine[0].v--, mine[2].v--, private_count--;
    }
    EQUAL(private_count, n);
    EQUAL(mine[0].v, n);
    EQUAL(mine[2].v, n);
    committed[me] = n;
    /* Nobody writes any more when all have come here. */
    static volatile int arrived;
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < 4)
        sched_yield();
    static long sum;
    __atomic_add_fetch(&sum, mine[1].v, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < 8)
        sched_yield();
    if (me == 0) {
        EQUAL(sum, committed[0] + committed[1] + committed[2] + committed[3]);
        printf("%ld writes to stacks\n", sum);
    }
    return NULL;
}
static void stacks(void)
{
    run(4, (void *(*const[])(void *)){own_and_foreign, own_and_foreign, own_and_foreign,
                                      own_and_foreign});
}

/* frames: begin in a callee and commit in the caller, and the other way round, under chaos. */
static __attribute__((noinline)) unsigned begin_below(volatile long *frame)
{
    volatile long local[8] = {0};
    for (int i = 0; i < 8; i++)
        local[i] = frame[i % 4];
    unsigned again = ame_begin();
    for (int i = 0; i < 8; i++)
        EQUAL(local[i], frame[i % 4]);
    local[3] = -5;
    return again;
}
static __attribute__((noinline)) void commit_below(volatile long *frame)
{
    volatile long local[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    W(y.v, R(y.v) + 1);
    EQUAL(local[7], 8);
    frame[0]++;
    ame_commit();
    EQUAL(local[0], 1);
}
static __attribute__((noinline)) long deep(int depth, int begin_at, int commit_at, volatile long *top)
{
    volatile long local[6];
    for (int i = 0; i < 6; i++)
        local[i] = depth * 10 + i;
    if (depth == begin_at)
        ame_begin();
    if (depth == 0) {
        W(x.v, R(x.v) + 1);
        poll();
        return 0;
    }
    long sum = deep(depth - 1, begin_at, commit_at, top);
    for (int i = 0; i < 6; i++)
        EQUAL(local[i], depth * 10 + i);
    if (depth == commit_at)
        ame_commit();
    return sum + local[5];
}
static void *frames_body(void *arg)
{
    long n = 0;
    uint64_t seed = (uint64_t)(long)arg + 3;
    while (!stop) {
        volatile long frame[4] = {n, n + 1, n + 2, n + 3};
        begin_below(frame);
        W(x.v, R(x.v) + 1);
        frame[1] = frame[1] + 1;
        ame_commit();
        EQUAL(frame[1], n + 2);
        ame_begin();
        W(x.v, R(x.v) + 1);
        commit_below(frame);
        EQUAL(frame[0], n + 1);
        begin_below(frame);
        commit_below(frame);
        EQUAL(frame[0], n + 2);
        int depth = 3 + (int)(next_random(&seed) % 200);
        int at = (int)(next_random(&seed) % (uint64_t)depth);
        /* begin on the way down, commit on the way up, in another frame */
        deep(depth, at + 1, 1 + (int)(next_random(&seed) % (uint64_t)(depth)), frame);
        n++;
    }
    committed[(long)arg] = n;
    return NULL;
}
static void frames(void)
{
    run(3, (void *(*const[])(void *)){frames_body, frames_body, frames_body});
    long n = committed[0] + committed[1] + committed[2];
    EQUAL(x.v, 3 * n);
    EQUAL(y.v, 2 * n);
    printf("%ld rounds\n", n);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"store_buffering", store_buffering}, {"zombie", zombie}, {"neighbours", neighbours},
        {"unfenced_reader", unfenced_reader}, {"privatisation", privatisation},
        {"publication", publication},         {"write_skew", write_skew},
        {"upgrade", upgrade},                 {"opposite_orders", opposite_orders},
        {"stacks", stacks},                   {"frames", frames},
    };
    if (argc > 2)
        seconds = atof(argv[2]);
    for (unsigned i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 0;
        }
    return 2;
}
