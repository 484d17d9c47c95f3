/* Random transactions on a few words, heap blocks and counters. Every thread keeps a history of what
 * its committed transactions read and wrote; at the end the histories must have a serial order.
 *
 *     random history THREADS SEED ROUNDS
 *
 * Every word holds the number of the transaction that wrote it last, and every write follows a read,
 * so that the versions of a word are a chain. Edges: writer before reader, reader before the next
 * writer, writer before the next writer. A cycle is a violation (invariant 5). Replaying the
 * transactions in that order must give what memory holds. */
#include "barriers.h"

enum { WORDS = 24, SLOTS = 12, OPS = 12, THREADS = 16 };
#define MAGIC 0x5eed5eed5eed5eedL
#define POISON 0x0dead0dead0deadL

static struct word words[WORDS];
struct block {
    long magic, owner;
    size_t size;
    long body[];
};
static struct {
    struct block *p;
    long spare;
} __attribute__((aligned(16))) slots[SLOTS];
static int64_t counter[2] __attribute__((aligned(16)));
static int64_t refcounts[8][2] __attribute__((aligned(16)));

/* Objects of the history: words, then slots. Version 0 is the initial state. */
enum { OBJECTS = WORDS + SLOTS };
struct access {
    unsigned char object, wrote;
    long saw; /* transaction that wrote what was read */
};
struct record {
    long id;
    unsigned n;
    struct access access[OPS];
};
static struct {
    struct record *records;
    long n, actions, aborts_seen, counted;
    int64_t refs[8];
} history[THREADS];
static long rounds, seed0;
static int n_threads;

static void committed_action(void *arg) { ++*(long *)arg; }
static void aborted_action(void *arg) { ++*(long *)arg; }

static struct block *make(long id, uint64_t *seed)
{
    static const int big[] = {70000, 200000};
    size_t size = next_random(seed) % 64 == 0 ? (size_t)big[id & 1] : 8 + next_random(seed) % 300;
    struct block *b = ame_malloc(sizeof *b + size);
    W(b->magic, MAGIC);
    W(b->owner, id);
    W(b->size, size);
    size_t n = size / 8;
    W(b->body[0], id);
    W(b->body[n - 1], id);
    return b;
}
static void destroy(struct block *b)
{
    W(b->magic, POISON);
    W(b->owner, -1);
    ame_free(b);
}
static long inspect(struct block *b)
{
    long id = R(b->owner);
    size_t n = R(b->size) / 8;
    if (R(b->magic) != MAGIC || R(b->body[0]) != id || R(b->body[n - 1]) != id)
        FAIL("block %p of %ld is corrupt: magic %lx, size %zu, body %ld and %ld", (void *)b, id,
             b->magic, n * 8, b->body[0], b->body[n - 1]);
    return id;
}

static void *worker(void *arg)
{
    long me = (long)arg;
    uint64_t plan = (uint64_t)(seed0 * 1000003 + me * 7919 + 1);
    static __thread volatile int irrevocable;
    for (long i = 0; i < rounds; i++) {
        long id = 1 + i * n_threads + me;
        uint64_t start = next_random(&plan);
        struct record *r = &history[me].records[i];
        int64_t refs[8] = {0};
        long counted = 0;
        irrevocable = 0;

        unsigned again = ame_begin();
        if (irrevocable)
            FAIL("an inevitable or exclusive transaction was rolled back (attempt %u)", again);
        uint64_t seed = start | 1; /* every attempt takes the same steps */
        unsigned n = 0;
        int nested = next_random(&seed) % 4 == 0;
        ame_on_commit(committed_action, &history[me].actions);
        ame_on_abort(aborted_action, &history[me].aborts_seen);
        if (nested)
            ame_begin();
        unsigned ops = 1 + (unsigned)(next_random(&seed) % OPS);
        struct access access[OPS];
        for (unsigned k = 0; k < ops; k++) {
            uint64_t what = next_random(&seed) % 100;
            if (what < 35) {
                int w = (int)(next_random(&seed) % WORDS);
                access[n++] = (struct access){(unsigned char)w, 0, R(words[w].v)};
            } else if (what < 65) {
                int w = (int)(next_random(&seed) % WORDS);
                access[n++] = (struct access){(unsigned char)w, 1, R(words[w].v)};
                W(words[w].v, id);
            } else if (what < 75) {
                int s = (int)(next_random(&seed) % SLOTS);
                struct block *b = R(slots[s].p);
                access[n++] = (struct access){(unsigned char)(WORDS + s), 0, b ? inspect(b) : 0};
            } else if (what < 85) {
                int s = (int)(next_random(&seed) % SLOTS);
                struct block *b = R(slots[s].p);
                access[n++] = (struct access){(unsigned char)(WORDS + s), 1, b ? inspect(b) : 0};
                if (b && next_random(&seed) % 4 == 0) {
                    struct block *moved = ame_realloc(b, sizeof *b + 1000);
                    W(moved->owner, id);
                    W(moved->size, 1000);
                    W(moved->body[0], id);
                    W(moved->body[1000 / 8 - 1], id);
                    W(slots[s].p, moved);
                } else {
                    W(slots[s].p, make(id, &seed));
                    if (b)
                        destroy(b);
                }
            } else if (what < 88) {
                struct block *b = make(id, &seed); /* fresh, and freed again */
                EQUAL(inspect(b), id);
                destroy(b);
            } else if (what < 92) {
                ame_counter_add64(&counter[0], 3);
                counted += 3;
            } else if (what < 97) {
                int o = (int)(next_random(&seed) % 8);
                int delta = next_random(&seed) % 2 ? 1 : -1;
                ame_refcount_add64(&refcounts[o][0], delta);
                refs[o] += delta;
            } else if (what < 98 && next_random(&seed) % 4 == 0) {
                ame_inevitable();
                irrevocable = 1;
            } else if (what < 99 && next_random(&seed) % 4 == 0) {
                ame_exclusive();
                irrevocable = 1;
            } else {
                poll();
                sched_yield(); /* so that transactions overlap on a busy machine, too */
            }
        }
        if (nested)
            ame_commit();
        ame_commit();

        r->id = id;
        r->n = n;
        memcpy(r->access, access, sizeof access);
        history[me].n++;
        history[me].counted += counted;
        for (int o = 0; o < 8; o++)
            history[me].refs[o] += refs[o];
    }
    return NULL;
}

/* --- the check -------------------------------------------------------------------------------------*/
static struct record **by_id;
static long n_ids;
struct edges {
    long *to;
    unsigned n, room;
};
static struct edges *graph;
static unsigned *in_degree;
static void edge(long from, long to)
{
    if (from == to || from == 0)
        return;
    struct edges *e = &graph[from];
    if (e->n == e->room) {
        e->room = e->room ? e->room * 2 : 8;
        e->to = realloc(e->to, e->room * sizeof *e->to);
    }
    e->to[e->n++] = to;
    in_degree[to]++;
}
static long (*next_writer)[OBJECTS]; /* by version and object: who overwrote it */

static void check(void)
{
    n_ids = rounds * n_threads + 1;
    by_id = calloc((size_t)n_ids, sizeof *by_id);
    graph = calloc((size_t)n_ids, sizeof *graph);
    in_degree = calloc((size_t)n_ids, sizeof *in_degree);
    next_writer = calloc((size_t)n_ids, sizeof *next_writer);
    for (int t = 0; t < n_threads; t++)
        for (long i = 0; i < history[t].n; i++)
            by_id[history[t].records[i].id] = &history[t].records[i];
    /* Versions: the first access to an object tells what others had written. */
    for (long id = 1; id < n_ids; id++) {
        struct record *r = by_id[id];
        for (unsigned k = 0; k < r->n; k++) {
            struct access *a = &r->access[k];
            if (a->saw < 0 || a->saw >= n_ids)
                FAIL("transaction %ld saw version %ld of object %d", id, a->saw, a->object);
            if (a->wrote && a->saw != id) {
                long *next = &next_writer[a->saw][a->object];
                if (*next && *next != id)
                    FAIL("lost update: %ld and %ld both overwrote version %ld of object %d", *next,
                         id, a->saw, a->object);
                *next = id;
            }
        }
    }
    for (long id = 1; id < n_ids; id++) {
        struct record *r = by_id[id];
        long first[OBJECTS];
        memset(first, -1, sizeof first);
        int wrote[OBJECTS] = {0};
        for (unsigned k = 0; k < r->n; k++) {
            struct access *a = &r->access[k];
            int o = a->object;
            if (wrote[o] ? a->saw != id : first[o] != -1 && a->saw != first[o])
                FAIL("transaction %ld: object %d changed under it (%ld, then %ld)", id, o, first[o],
                     a->saw);
            if (first[o] == -1)
                first[o] = a->saw;
            wrote[o] |= a->wrote;
            if (a->saw != id) {
                edge(a->saw, id);
                if (next_writer[a->saw][o])
                    edge(id, next_writer[a->saw][o]);
            }
        }
    }
    /* Kahn's algorithm, replaying as it goes. */
    long *queue = malloc((size_t)n_ids * sizeof *queue), head = 0, tail = 0;
    for (long id = 1; id < n_ids; id++)
        if (in_degree[id] == 0)
            queue[tail++] = id;
    long state[OBJECTS] = {0};
    while (head < tail) {
        long id = queue[head++];
        struct record *r = by_id[id];
        for (unsigned k = 0; k < r->n; k++) {
            struct access *a = &r->access[k];
            if (state[a->object] != a->saw)
                FAIL("replay: transaction %ld saw %ld in object %d, not %ld", id, a->saw, a->object,
                     state[a->object]);
            if (a->wrote)
                state[a->object] = id;
        }
        for (unsigned k = 0; k < graph[id].n; k++)
            if (--in_degree[graph[id].to[k]] == 0)
                queue[tail++] = graph[id].to[k];
    }
    if (tail != n_ids - 1)
        FAIL("no serial order: %ld of %ld transactions are in cycles", n_ids - 1 - tail, n_ids - 1);
    for (int w = 0; w < WORDS; w++)
        EQUAL(words[w].v, state[w]);
    for (int s = 0; s < SLOTS; s++)
        EQUAL(slots[s].p ? inspect(slots[s].p) : 0, state[WORDS + s]);
    int64_t refs[8] = {0};
    long counted = 0, actions = 0;
    for (int t = 0; t < n_threads; t++) {
        counted += history[t].counted;
        actions += history[t].actions;
        for (int o = 0; o < 8; o++)
            refs[o] += history[t].refs[o];
    }
    EQUAL(counter[0], counted);
    EQUAL(actions, n_ids - 1);
    for (int o = 0; o < 8; o++)
        EQUAL(refcounts[o][0], 1000000 + refs[o]);
    struct ame_stats s;
    ame_total_stats(&s);
    long aborts = (long)(s.aborts_conflict + s.aborts_chaos + s.retries), seen = 0;
    for (int t = 0; t < n_threads; t++)
        seen += history[t].aborts_seen;
    if (seen > aborts)
        FAIL("%ld abort actions ran in %ld rollbacks", seen, aborts);
    printf("%ld transactions, %ld rollbacks, %lu inevitable, %lu exclusive\n", n_ids - 1, aborts,
           (unsigned long)s.inevitable, (unsigned long)s.exclusive);
}

static void history_case(int argc, char **argv)
{
    CHECK(argc == 3);
    n_threads = atoi(argv[0]);
    seed0 = atol(argv[1]);
    rounds = atol(argv[2]) / n_threads;
    CHECK(n_threads > 0 && n_threads <= THREADS);
    pthread_t id[THREADS];
    for (int o = 0; o < 8; o++)
        refcounts[o][0] = 1000000;
    for (int t = 0; t < n_threads; t++)
        history[t].records = calloc((size_t)rounds, sizeof(struct record));
    for (int t = 0; t < n_threads; t++)
        id[t] = spawn(worker, (void *)(long)t);
    for (int t = 0; t < n_threads; t++)
        join(id[t]);
    check();
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {{"history", history_case}, {NULL, NULL}};
    return run_case(cases, argc, argv);
}
