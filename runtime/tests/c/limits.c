/* Limits and corners: one case each. */
#include "barriers.h"
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ARGS int argc, char **argv
#define UNUSED (void)argc, (void)argv

static struct word w[4096];
static volatile int stop;

static long resident_kib(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
    fclose(f);
    return resident * 4;
}

/* --- errors ------------------------------------------------------------------------------------- */
static void commit_without_begin(ARGS) { UNUSED; ame_commit(); }
static void commit_twice(ARGS)
{
    UNUSED;
    ame_begin();
    ame_commit();
    ame_commit();
}
static void retry_outside(ARGS) { UNUSED; ame_retry(); }
static void retry_inevitable(ARGS)
{
    UNUSED;
    ame_begin();
    ame_inevitable();
    ame_retry();
}
static void *leaves_open(void *arg)
{
    ame_begin();
    W(w[0].v, 1);
    return arg;
}
static void thread_ends_inside(ARGS)
{
    UNUSED;
    join(spawn(leaves_open, NULL));
}
static pthread_barrier_t barrier;
static void *wait_at_barrier(void *arg)
{
    ame_begin();
    ame_commit();
    pthread_barrier_wait(&barrier);
    return arg;
}
static void too_many_threads(ARGS)
{
    UNUSED;
    enum { N = 1001 };
    pthread_barrier_init(&barrier, NULL, N + 1);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    for (int i = 0; i < N; i++) {
        pthread_t id;
        int err = ame_pthread_create(&id, &attr, wait_at_barrier, NULL);
        if (err)
            FAIL("thread %d: %s", i, strerror(err));
    }
    pthread_barrier_wait(&barrier);
}
static void bad_abi_version(ARGS)
{
    UNUSED;
    ame_module_register(AME_ABI_VERSION + 1, "test-module", NULL, 0);
}

/* --- threads --------------------------------------------------------------------------------------*/
static void *count(void *arg)
{
    for (long i = 0; i < (long)arg; i++) {
        ame_begin();
        W(w[0].v, R(w[0].v) + 1);
        W(w[1 + i % 64].v, R(w[1 + i % 64].v) + 1);
        ame_commit();
    }
    return NULL;
}
static void many_threads(ARGS)
{
    UNUSED;
    pthread_t id[64];
    for (int i = 0; i < 64; i++)
        id[i] = spawn(count, (void *)2000L);
    for (int i = 0; i < 64; i++)
        join(id[i]);
    EQUAL(w[0].v, 64 * 2000);
}
/* Slots are reused when threads end. */
static void slot_reuse(ARGS)
{
    UNUSED;
    for (int i = 0; i < 3000; i++) {
        pthread_t a = spawn(count, (void *)5L), b = spawn(count, (void *)5L);
        join(a);
        join(b);
    }
    EQUAL(w[0].v, 30000);
}

/* --- memory ---------------------------------------------------------------------------------------*/
static void gigabyte(ARGS)
{
    UNUSED;
    long before = 0;
    for (int round = 0; round < 6; round++) {
        unsigned again = ame_begin();
        if (again == 0) {
            for (int i = 0; i < 1024; i++) {
                char *block = ame_malloc(1 << 20);
                CHECK(block);
                for (int at = 0; at < 1 << 20; at += 65536)
                    W(block[at], 1);
            }
            for (int i = 0; i < 20000; i++) {
                char *block = ame_malloc(48);
                CHECK(block);
                W(block[0], 1);
            }
            while (AME_CONTROL->rver != 0xffff) { /* AME_CHAOS ends it */
                STUB(ame_poll_slow, NULL);
            }
        }
        ame_commit();
        long now_kib = resident_kib();
        printf("round %d: %ld KiB resident\n", round, now_kib);
        if (round == 2)
            before = now_kib;
        if (round > 2 && now_kib > before + 40960)
            FAIL("%ld KiB resident after the third rollback of a gigabyte, %ld KiB after the sixth", before,
                 now_kib);
    }
}
static void sizes(ARGS)
{
    UNUSED;
    static const size_t size[] = {0,       1,       15,       16,       17,        1000,     65535, 65536,
                                  1 << 20, 32 << 20, 512 << 20, 1UL << 30};
    for (int inside = 0; inside < 2; inside++)
        for (unsigned i = 0; i < sizeof size / sizeof *size; i++) {
            if (inside)
                ame_begin();
            char *p = ame_malloc(size[i]);
            if (!p)
                FAIL("malloc(%zu)", size[i]);
            CHECK(((uintptr_t)p & 15) == 0);
            if (size[i]) {
                W(p[size[i] - 1], 2);
                W(p[0], 1);
            }
            char *q = ame_realloc(p, size[i] / 2 + 100);
            CHECK(q);
            if (size[i])
                EQUAL(R(q[0]), 1);
            W(q[size[i] / 2 + 99], 3);
            char *z = ame_calloc(7, size[i] / 7 + 1);
            for (size_t at = 0; at < size[i]; at += 1 + size[i] / 50)
                EQUAL(R(z[at]), 0);
            ame_free(z);
            ame_free(q);
            if (inside)
                ame_commit();
        }
    CHECK(ame_malloc(1UL << 60) == NULL && errno == ENOMEM);
    CHECK(ame_calloc(1UL << 40, 1UL << 40) == NULL);
}
static void big_undo_log(ARGS)
{
    UNUSED;
    enum { N = 1 << 20 };
    struct word *big = ame_calloc(N, sizeof *big);
    long before = resident_kib();
    for (int round = 0; round < 3; round++) {
        unsigned again = ame_begin();
        for (int i = 0; i < N; i++)
            EQUAL(R(big[i].v), 0);
        for (int i = 0; i < N; i++)
            W(big[i].v, i);
        if (again == 0) /* AME_CHAOS ends it */
            for (;;)
                STUB(ame_poll_slow, NULL);
        for (int i = 0; i < N; i++)
            W(big[i].v, 0);
        ame_commit();
    }
    struct ame_stats s;
    ame_thread_stats(&s);
    double bytes = (double)s.log_bytes_max / N;
    printf("%.1f bytes of log per granule\n", bytes);
    CHECK(bytes <= 48);
    long grown = resident_kib() - before;
    if (grown > 80 << 10)
        FAIL("%ld KiB stay with the thread", grown);
}

/* --- progress -------------------------------------------------------------------------------------*/
static long short_ones;
static void *stream(void *arg)
{
    long n = 0;
    uint64_t seed = (uint64_t)(long)arg + 9;
    while (!stop) {
        struct word *p = &w[next_random(&seed) % 256];
        ame_begin();
        W(p->v, R(p->v) + 1);
        ame_commit();
        n++;
        busy_us(20);
    }
    __atomic_add_fetch(&short_ones, n, __ATOMIC_SEQ_CST);
    return NULL;
}
static void long_against_short(ARGS)
{
    UNUSED;
    pthread_t id = spawn(stream, NULL), id2 = spawn(stream, (void *)1);
    double start = now();
    long attempts = 0;
    for (int round = 0; round < 3; round++) {
        ame_begin();
        double begin = now();
        for (int i = 0; now() < begin + 1.0; i++) {
            R(w[i % 512].v);
            if (i % 16 == 0)
                W(w[i % 512].v, R(w[i % 512].v) + 1);
            poll();
            busy_us(100);
        }
        ame_commit();
    }
    struct ame_stats s;
    ame_thread_stats(&s);
    attempts = (long)(s.commits + s.aborts_conflict);
    stop = 1;
    join(id);
    join(id2);
    printf("3 transactions of 1 s took %.1f s in %ld attempts, beside %ld short ones\n",
           now() - start, attempts, short_ones);
    CHECK(short_ones > 100);
}
static void *exclusively(void *arg)
{
    long n = 0;
    while (!stop) {
        ame_begin();
        if ((long)arg % 2) {
            ame_exclusive();
            w[0].v = w[0].v + 1;
            w[1].v = w[0].v;
        } else {
            long a = R(w[0].v);
            long b = R(w[1].v);
            EQUAL(a, b);
            W(w[0].v, a + 1);
            poll();
            W(w[1].v, a + 1);
        }
        ame_commit();
        n++;
    }
    __atomic_add_fetch(&short_ones, n, __ATOMIC_SEQ_CST);
    printf("%s: %ld\n", (long)arg % 2 ? "exclusive" : "ordinary", n);
    CHECK(n > 0);
    return NULL;
}
static void exclusive_against_many(ARGS)
{
    UNUSED;
    pthread_t id[6];
    for (long i = 0; i < 6; i++)
        id[i] = spawn(exclusively, (void *)(i == 0 ? 1L : 2 * i));
    sleep_ms(1500);
    stop = 1;
    for (int i = 0; i < 6; i++)
        join(id[i]);
    EQUAL(w[0].v, short_ones);
}
static void *inevitably(void *arg)
{
    static __thread volatile int irrevocable;
    for (long i = 0; i < 20000; i++) {
        irrevocable = 0;
        ame_begin();
        if (irrevocable)
            FAIL("an inevitable transaction was rolled back");
        struct word *a = &w[i % 5], *b = &w[(i * 3 + (long)arg) % 5];
        W(a->v, R(a->v) + 1);
        if (i % 3 == 0) {
            ame_inevitable();
            irrevocable = 1;
        }
        W(b->v, R(b->v) + 1);
        poll();
        ame_commit();
    }
    return NULL;
}
static void inevitable_stays(ARGS)
{
    UNUSED;
    pthread_t id[4];
    for (long i = 0; i < 4; i++)
        id[i] = spawn(inevitably, (void *)i);
    for (int i = 0; i < 4; i++)
        join(id[i]);
    long sum = 0;
    for (int i = 0; i < 5; i++)
        sum += w[i].v;
    EQUAL(sum, 4 * 20000 * 2);
}

/* --- retry ----------------------------------------------------------------------------------------*/
enum { MESSAGES = 20000 };
static void *producer(void *arg)
{
    for (long i = 1; i <= MESSAGES; i++) {
        ame_begin();
        if (R(w[0].v) != 0)
            ame_retry();
        W(w[0].v, i);
        ame_commit();
    }
    return arg;
}
static void retry_wakes_up(ARGS)
{
    UNUSED;
    pthread_t id = spawn(producer, NULL);
    double start = now();
    for (long i = 1; i <= MESSAGES; i++) {
        ame_begin();
        long got = R(w[0].v);
        if (got == 0)
            ame_retry();
        W(w[0].v, 0);
        ame_commit();
        EQUAL(got, i);
    }
    join(id);
    double us = (now() - start) * 1e6 / MESSAGES;
    printf("%.1f us per message\n", us);
    if (us > 2000)
        FAIL("%.0f us per message: a wake-up is lost", us);
}

/* --- fork -----------------------------------------------------------------------------------------*/
static void in_child(int again)
{
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    long before = w[0].v;
    pthread_t id[2] = {spawn(count, (void *)500L), spawn(count, (void *)500L)};
    join(id[0]);
    join(id[1]);
    EQUAL(w[0].v, before + 1000);
    char *p = ame_malloc(100000);
    ame_begin();
    ame_exclusive();
    ame_commit();
    ame_free(p);
    if (again) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            in_child(0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    _exit(0);
}
static void fork_beside_transactions(ARGS)
{
    UNUSED;
    pthread_t id[3];
    for (long i = 0; i < 3; i++)
        id[i] = spawn(stream, (void *)i);
    for (int i = 0; i < 30; i++) {
        if (i % 2)
            ame_begin();
        pid_t pid = fork();
        if (pid < 0)
            FAIL("fork: %s", strerror(errno));
        if (i % 2)
            ame_commit();
        if (pid == 0)
            in_child(i % 5 == 0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        if (status)
            FAIL("child %d ended with status %#x", i, status);
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        join(id[i]);
}

/* --- statistics, domains ----------------------------------------------------------------------------*/
static void statistics(ARGS)
{
    UNUSED;
    struct ame_stats a, b, total;
    ame_begin();
    ame_commit();
    ame_thread_stats(&a);
    for (int i = 0; i < 100; i++) {
        ame_begin();
        ame_begin();
        R(w[2 * i].v);
        W(w[1000 + i].v, 1);
        ame_commit();
        if (i % 10 == 0)
            ame_inevitable();
        if (i % 20 == 0)
            ame_exclusive();
        ame_commit();
    }
    ame_thread_stats(&b);
    EQUAL(b.begins - a.begins, 100);
    EQUAL(b.commits - a.commits, 100);
    EQUAL(b.inevitable - a.inevitable, 10);
    EQUAL(b.exclusive - a.exclusive, 5);
    EQUAL(b.writes_first - a.writes_first, 100);
    EQUAL(b.aborts_conflict + b.aborts_chaos + b.retries, 0);
    EQUAL(b.log_bytes_max, 32);
    join(spawn(count, (void *)10L));
    ame_total_stats(&total);
    EQUAL(total.commits, b.commits + 10);

    ame_domain *main_domain = ame_domain_open("main"), *other = ame_domain_open("other");
    CHECK(main_domain && other && main_domain != other);
    CHECK(ame_domain_open("other") == other);
    CHECK(strcmp(ame_domain_name(other), "other") == 0);
    ame_domain_stats(main_domain, &a);
    EQUAL(a.commits, total.commits);
    char name[16];
    int opened = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "d%d", i);
        opened += ame_domain_open(name) != NULL;
    }
    CHECK(opened > 100 && opened < 1000);
    EQUAL(ame_should_commit(), 0);
}

/* --- an interpreter's conflict reports ----------------------------------------------------------- */
static __thread uint32_t where;
static uint32_t thing, reason;
static struct word *block;
static size_t block_bytes;
static volatile int written;

static uint32_t host_site(void) { return where; }
static uint32_t host_object(const void *addr, const void *start, size_t bytes)
{
    if (addr == NULL)
        return reason;
    if (addr != (void *)&block[2].v)
        return 0;
    CHECK(start == block);
    block_bytes = bytes;
    return thing;
}

static void *writes_first(void *site)
{
    where = (uint32_t)(uintptr_t)site;
    /* Rolled back, it has met the other already. */
    if (ame_begin() == 0) {
        W(block[2].v, 1);
        written = 1;
        while (!ame_should_commit())
            poll();
    }
    ame_commit();
    return NULL;
}
static void *becomes_inevitable(void *site)
{
    where = (uint32_t)(uintptr_t)site;
    /* Rolled back, it has met the other already. */
    if (ame_begin() == 0) {
        ame_inevitable();
        written = 1;
        while (!ame_should_commit())
            poll();
    }
    ame_commit();
    return NULL;
}

static void interpreter(ARGS)
{
    UNUSED;
    uint32_t library = ame_host_site("lib.x", "called", 7, ame_host_site("app.x", "f", 3, 0));
    uint32_t other = ame_host_site("app.x", "g", 5, 0);
    CHECK(library != 0 && other != 0 && other != library);
    EQUAL(ame_host_site("app.x", "g", 5, 0), other);
    struct ame_host_place place;
    CHECK(ame_host_get_site(library, &place) && strcmp(place.function, "called") == 0);
    CHECK(place.line == 7 && ame_host_get_site(place.caller, &place) && place.line == 3);
    CHECK(!ame_host_get_site(0, &place) && !ame_host_get_site(1000, &place));
    thing = ame_host_object("table", "word 2", "use another");
    reason = ame_host_object("output", "", "");
    struct ame_host_thing object;
    CHECK(ame_host_get_object(thing, &object) && strcmp(object.part, "word 2") == 0);

    block = ame_malloc(5 * sizeof *block);
    CHECK(ame_host_readable(block, 80) && ame_host_readable(w, 1));
    CHECK(!ame_host_readable(NULL, 1) && !ame_host_readable((void *)-8, 8) &&
          !ame_host_readable((void *)-8, 16));
    ame_set_host(host_site, host_object);
    ame_set_watch(1);
    where = library;
    struct ame_conflict seen[2];
    void *(*first[])(void *) = {writes_first, becomes_inevitable};
    for (int i = 0; i < 2; i++) {
        written = 0;
        pthread_t id = spawn(first[i], (void *)(uintptr_t)other);
        while (!written)
            sched_yield();
        ame_begin();
        W(block[2].v, 2);
        if (i == 1)
            ame_inevitable();
        ame_commit();
        join(id);
        EQUAL(ame_host_conflicts(seen, 2), i + 1);
    }
    for (int i = 0; i < 2; i++) {
        EQUAL(seen[i].site, library);
        EQUAL(seen[i].other_site, other);
        EQUAL(seen[i].count, 1);
        EQUAL(seen[i].object, seen[i].access == 1 ? thing : reason);
        CHECK(seen[i].ns_lost > 0);
    }
    CHECK(seen[0].access + seen[1].access == 1 + 3 && seen[0].ns_lost >= seen[1].ns_lost);
    CHECK(block_bytes >= 5 * sizeof *block);
    EQUAL(ame_host_conflicts(NULL, 0), 2);

    struct ame_host_thread threads[4];
    EQUAL(ame_host_threads(threads, 4), 1);
    EQUAL(threads[0].os_id, (uint64_t)getpid());
    EQUAL(threads[0].stats[1], 2);
    ame_free(block);
    CHECK(ame_host_readable(block, 80));
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"commit_without_begin", commit_without_begin},
        {"commit_twice", commit_twice},
        {"retry_outside", retry_outside},
        {"retry_inevitable", retry_inevitable},
        {"thread_ends_inside", thread_ends_inside},
        {"too_many_threads", too_many_threads},
        {"bad_abi_version", bad_abi_version},
        {"many_threads", many_threads},
        {"slot_reuse", slot_reuse},
        {"gigabyte", gigabyte},
        {"sizes", sizes},
        {"big_undo_log", big_undo_log},
        {"long_against_short", long_against_short},
        {"exclusive_against_many", exclusive_against_many},
        {"inevitable_stays", inevitable_stays},
        {"retry_wakes_up", retry_wakes_up},
        {"fork_beside_transactions", fork_beside_transactions},
        {"statistics", statistics},
        {"interpreter", interpreter},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
