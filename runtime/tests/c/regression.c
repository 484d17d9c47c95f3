/* What was broken once. Each case is named after it. */
#include "barriers.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct word shared[64];

/* --- private_undo_after_version_wrap: the memory of what was logged outlived its version -------- */
static long private_word;
static void private_undo_after_version_wrap(int argc, char **argv)
{
    (void)argc, (void)argv;
    static volatile int attempt;
    for (int i = 0; i < 20; i++) {
        attempt = 0;
        private_word = i;
        unsigned again = ame_begin();
        ame_private_range(&private_word, sizeof private_word);
        EQUAL(private_word, i);
        private_word = -1;
        if (again == 0) {
            /* roll back by hand: wound ourselves through another thread would take longer */
            attempt = 1;
        }
        ame_commit();
        private_word = i;
    }
    CHECK(attempt == 1);
    /* Now with rollbacks: AME_CHAOS makes polls abort. */
    for (int i = 0; i < 5000; i++) {
        private_word = i;
        ame_begin();
        ame_private_range(&private_word, sizeof private_word);
        EQUAL(private_word, i);
        private_word = -1;
        STUB(ame_poll_slow, NULL);
        ame_commit();
        EQUAL(private_word, -1);
    }
}

/* --- private_undo_in_freed_memory: rollback wrote into a block that was free again ---------------- */
static void private_undo_in_freed_memory(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 400; i++) {
        ame_begin();
        long *block[8];
        for (int k = 0; k < 8; k++) {
            block[k] = ame_malloc(48);
            ame_private_range(block[k], 48);
            memset(block[k], 0x55, 48);
        }
        for (int k = 0; k < 8; k++)
            ame_free(block[k]);
        STUB(ame_poll_slow, NULL); /* chaos */
        ame_commit();
        /* The allocator's free lists must be whole. */
        long *after[8];
        for (int k = 0; k < 8; k++) {
            after[k] = ame_malloc(48);
            for (int j = 0; j < k; j++)
                CHECK(after[j] != after[k]);
            memset(after[k], 0x77, 48);
        }
        for (int k = 0; k < 8; k++)
            ame_free(after[k]);
    }
}

/* --- spare_blocks: small blocks that a transaction frees are its own until the end ----------------- */
static void spare_blocks(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 100; i++) {
        unsigned again = ame_begin();
        char *first = ame_malloc(33);
        ame_free(first);
        /* Another size of the same class, written as far as it goes, without a lock. */
        char *second = ame_malloc(48);
        CHECK(second == first);
        for (int at = 0; at < 48; at += 16)
            CHECK(ame_tls.marks[granule_of(second + at)] >= AME_CONTROL->wver);
        memset(second, 1, 48);
        char *kept = ame_malloc(48);
        CHECK(kept != second);
        ame_free(second);
        if (again == 0)
            ame_roll_back();
        ame_commit();
        /* Each block was given back once: after the rollback, and at commit what was freed. */
        char *after[8];
        for (int k = 0; k < 8; k++) {
            after[k] = ame_malloc(48);
            CHECK(after[k] != kept);
            for (int j = 0; j < k; j++)
                CHECK(after[j] != after[k]);
        }
        for (int k = 0; k < 8; k++)
            ame_free(after[k]);
        ame_free(kept);
    }
}

/* --- empty_range: a copy of nothing locked a granule (CPython's empty string, in all threads) ------- */
static void empty_range(int argc, char **argv)
{
    (void)argc, (void)argv;
    static _Alignas(16) char text[32];
    ame_begin();
    ame_write_range(text + 5, 0);
    ame_read_range(text + 5, 0);
    CHECK(ame_tls.marks[granule_of(text)] < AME_CONTROL->rver);
    ame_commit();
}

/* --- hot_counts: what several threads count a lot becomes immortal, and stays it -------------------- */
static _Alignas(16) long hot_count[2];
static int times_hot;
static void make_immortal(void *field, unsigned changes)
{
    CHECK(changes > 0);
    CHECK(field == hot_count);
    times_hot++;
    hot_count[0] = 0xffffffff;
}
static void *count_a_lot(void *unused)
{
    (void)unused;
    double end = now() + 20;
    int more = 200;
    while (more > 0 && now() < end) {
        ame_begin();
        for (int i = 0; i < 300; i++) {
            /* As CPython: up and down, unless it is immortal; the end of a transaction may be in between. */
            if ((int)ame_refcount_read64(hot_count) >= 0)
                ame_refcount_add64(hot_count, 1);
            if ((int)ame_refcount_read64(hot_count) >= 0)
                ame_refcount_add64(hot_count, -1);
        }
        busy_us(20);
        ame_commit();
        more -= __atomic_load_n(&hot_count[0], __ATOMIC_SEQ_CST) == 0xffffffff;
    }
    return NULL;
}
static void hot_counts(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_set_headers(1);
    ame_set_hot(make_immortal);
    hot_count[0] = 5;
    pthread_t ids[2] = {spawn(count_a_lot, NULL), spawn(count_a_lot, NULL)};
    for (int i = 0; i < 2; i++)
        join(ids[i]);
    EQUAL(times_hot, 1);
    EQUAL(hot_count[0], 0xffffffff);
}

/* --- hot_counts_of_the_dead: the hook got an object that the transaction had deallocated ------------- */
static _Alignas(16) long dying_count[2];
static int dying_phase;
static void not_called(void *field, unsigned changes)
{
    (void)field, (void)changes;
    FAIL("the count of a dead object is hot");
}
static void *hold_dying_count(void *unused)
{
    (void)unused;
    ame_begin();
    ame_refcount_add64(dying_count, 1);
    ame_refcount_add64(dying_count, -1);
    __atomic_store_n(&dying_phase, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&dying_phase, __ATOMIC_SEQ_CST) == 1)
        busy_us(10);
    ame_commit();
    __atomic_store_n(&dying_phase, 3, __ATOMIC_SEQ_CST);
    return NULL;
}
static void hot_counts_of_the_dead(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_set_headers(1);
    ame_set_hot(not_called);
    dying_count[0] = 1;
    pthread_t other = spawn(hold_dying_count, NULL);
    while (__atomic_load_n(&dying_phase, __ATOMIC_SEQ_CST) != 1)
        busy_us(10);
    ame_begin();
    /* Locked by the other: these go through a delta. */
    for (int i = 0; i < 300; i++) {
        ame_refcount_add64(dying_count, 1);
        ame_refcount_add64(dying_count, -1);
    }
    __atomic_store_n(&dying_phase, 2, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&dying_phase, __ATOMIC_SEQ_CST) != 3)
        busy_us(10);
    EQUAL(ame_refcount_add64(dying_count, -1), 0);
    /* What a deallocator puts there. */
    W(dying_count[0], 0x12345);
    ame_commit();
    join(other);
    EQUAL(dying_count[0], 0x12345);
}

/* --- fork_alone_uses_no_window: fork's own transaction stopped processes that begin no other --------- */
static void fork_alone_uses_no_window(int argc, char **argv)
{
    (void)argc, (void)argv;
    char *const at = (char *)0x480000000000;
    const size_t window = 64ul << 30, bytes = 1 << 20;
    for (int i = 0; i < 2; i++)
        CHECK(mmap(at + i * window, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at + i * window);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(fork() < 0);
        int status = 1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        EQUAL(status, 0);
    }
    /* The first of its own looks, and finds the two. */
    pid_t child = fork();
    if (child == 0) {
        ame_begin();
        _exit(0);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(status != 0);
}

/* --- freed_fresh_memory_is_not_ours: its marks stayed when another thread got it ------------------ */
static void freed_fresh_memory_is_not_ours(int argc, char **argv)
{
    (void)argc, (void)argv;
    /* Smaller ones stay with the transaction: spare_blocks. */
    static const size_t sizes[] = {600, 5000, 40000, 200000};
    ame_begin();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = ame_malloc(sizes[i]);
        for (size_t at = 0; at < sizes[i]; at += 16)
            write_barrier(block + at);
        ame_free(block);
        for (size_t at = 0; at < sizes[i]; at += 16)
            if (ame_tls.marks[granule_of(block + at)] >= AME_CONTROL->rver)
                FAIL("size %zu: granule %zu of the freed block still counts as held", sizes[i],
                     at / 16);
    }
    ame_commit();
}

/* --- nested_boundaries: the inner pair overwrote the outer one's depth ----------------------------- */
static void nested_boundaries(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    ame_begin();
    ame_begin();
    W(shared[0].v, 1);
    ame_boundary_enter();
    EQUAL(ame_in_transaction(), 0);
    ame_boundary_enter(); /* no transaction here */
    EQUAL(ame_in_transaction(), 0);
    ame_boundary_leave();
    EQUAL(ame_in_transaction(), 0);
    ame_begin();
    ame_boundary_enter();
    ame_boundary_leave();
    EQUAL(ame_in_transaction(), 1);
    ame_commit();
    EQUAL(ame_in_transaction(), 0);
    ame_boundary_leave();
    EQUAL(ame_in_transaction(), 1);
    ame_commit();
    EQUAL(ame_in_transaction(), 1);
    ame_commit();
    EQUAL(ame_in_transaction(), 1);
    ame_commit();
    EQUAL(ame_in_transaction(), 0);
}

/* --- boundary_depth_survives_rollback ------------------------------------------------------------- */
static void boundary_depth_survives_rollback(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 2000; i++) {
        ame_begin();
        ame_begin();
        ame_boundary_enter();
        ame_boundary_leave();
        STUB(ame_poll_slow, NULL); /* chaos */
        EQUAL(ame_in_transaction(), 1);
        ame_commit();
        EQUAL(ame_in_transaction(), 1);
        ame_commit();
        EQUAL(ame_in_transaction(), 0);
    }
}

/* --- deltas_before_exclusive: pending deltas were not seen in exclusive mode ----------------------- */
static int64_t counts[8] __attribute__((aligned(16)));
static int dead_count;
static void count_dead(void *field)
{
    (void)field;
    dead_count++;
}
static void deltas_before_exclusive(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_set_dealloc(count_dead);
    counts[0] = 1;
    counts[2] = 10;
    ame_begin();
    EQUAL(ame_refcount_add64(&counts[0], 1), 2);
    EQUAL(ame_counter_add64(&counts[2], 5), 15);
    ame_exclusive();
    EQUAL(ame_refcount_read64(&counts[0]), 2);
    EQUAL(ame_refcount_add64(&counts[0], -1), 1);
    EQUAL(ame_counter_read64(&counts[2]), 15);
    EQUAL(ame_counter_add64(&counts[2], 1), 16);
    ame_commit();
    EQUAL(counts[0], 1);
    EQUAL(counts[2], 16);
    EQUAL(dead_count, 0);
}

/* --- counts_in_opposite_orders: two merges waited for each other, and one was rolled back ------------ */
static struct { int64_t n; char rest[56]; } many_counts[64];
static atomic_int go, counts_rolled_back;
static void *count_in_order(void *up)
{
    atomic_fetch_add(&go, 1);
    while (go != 2) {
    }
    for (int i = 0; i < 20000; i++) {
        if (ame_begin() != 0)
            atomic_fetch_add(&counts_rolled_back, 1);
        for (int k = 0; k < 64; k++)
            ame_counter_add64(&many_counts[up ? k : 63 - k].n, 1);
        ame_commit();
    }
    return NULL;
}
static void counts_in_opposite_orders(int argc, char **argv)
{
    (void)argc, (void)argv;
    pthread_t a = spawn(count_in_order, NULL), b = spawn(count_in_order, &go);
    join(a);
    join(b);
    for (int k = 0; k < 64; k++)
        EQUAL(many_counts[k].n, 40000);
    EQUAL(counts_rolled_back, 0);
}

/* --- deltas_beside_a_write: a pending delta was forgotten when the granule was written as well ------ */
static void deltas_beside_a_write(int argc, char **argv)
{
    (void)argc, (void)argv;
    counts[0] = 1;
    counts[1] = 0;
    ame_begin();
    EQUAL(ame_refcount_add64(&counts[0], 1), 2);
    W(counts[1], 77);
    EQUAL(ame_refcount_read64(&counts[0]), 2);
    EQUAL(ame_refcount_add64(&counts[0], -1), 1);
    EQUAL(ame_refcount_read64(&counts[0]), 1);
    EQUAL(ame_refcount_add64(&counts[0], 2), 3);
    ame_commit();
    EQUAL(counts[0], 3);
    EQUAL(counts[1], 77);
}

/* --- read_of_own_lock_after_half_a_poke: an inline read took the own write lock for another's ------ */
static void read_of_own_lock_after_half_a_poke(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    W(shared[0].v, 7);
    W(shared[1].v, 8);
    /* A poke whose two halves are far apart: barriers fail, and reads are still marked inline. */
    ame_tls.unfenced = 1;
    AME_CONTROL->rver = 0xffff;
    AME_CONTROL->wver = 0xffff;
    EQUAL(R(shared[0].v), 7);
    EQUAL(R(shared[1].v), 8);
    W(shared[0].v, 9);
    ame_commit();
    EQUAL(shared[0].v, 9);
}

/* --- write_of_own_lock_after_late_poke: the second half of a poke came after the repair of the first - */
static void write_of_own_lock_after_late_poke(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    W(shared[0].v, 7);
    AME_CONTROL->wver = 0xffff;
    W(shared[0].v, 8); /* waited for itself */
    CHECK(AME_CONTROL->wver != 0xffff);
    ame_commit();
    EQUAL(shared[0].v, 8);
}

/* --- foreign stack writes --------------------------------------------------------------------------*/
/* foreign_write_above_the_frames: a write to thread-local memory of a thread made its rollback leave
 * the whole stack as it was. */
static __thread struct word local_word;
static struct word *volatile published;
static void *owner(void *arg)
{
    volatile long spilled[64] __attribute__((aligned(16)));
    published = arg ? &local_word : NULL;
    for (int i = 0; i < 64; i++)
        spilled[i] = i;
    unsigned again = ame_begin();
    for (int i = 0; i < 64; i++)
        EQUAL(spilled[i], i); /* restored */
    for (int i = 0; i < 64; i++)
        spilled[i] = -1;
    if (again == 0) {
        R(shared[3].v);
        signal_step(1); /* the other writes to our memory, commits, then wounds us */
        double end = now() + 10;
        while (now() < end)
            poll();
        FAIL("not wounded");
    }
    ame_commit();
    EQUAL(local_word.v, 5);
    return NULL;
}
static void foreign_write_above_the_frames(int argc, char **argv)
{
    (void)argc, (void)argv;
    pthread_t id;
    unsigned again = ame_begin(); /* older than the owner's transaction */
    if (again)
        FAIL("the oldest was rolled back");
    ame_commit();
    /* Slot 0 is older at the same epoch: the main thread wounds. */
    id = spawn(owner, &local_word);
    await_step(1);
    ame_begin();
    W(published->v, 5);
    W(shared[3].v, 1);
    ame_commit();
    join(id);
}

/* foreign_stack_writes_do_not_pile_up: the list of writes to an idle thread's stack grew for ever. */
static void *stack_writer(void *arg)
{
    struct word *words = arg;
    for (int i = 0; i < 1000000; i++) {
        ame_begin();
        W(words[i % 4].v, i);
        ame_commit();
    }
    return NULL;
}
static long resident_kib(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
    fclose(f);
    return resident * 4;
}
static void foreign_stack_writes_do_not_pile_up(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct word words[4] = {0};
    ame_begin();
    ame_commit();
    join(spawn(stack_writer, words));
    long before = resident_kib();
    join(spawn(stack_writer, words));
    long grown = resident_kib() - before;
    if (grown > 4096)
        FAIL("%ld KiB more after a million writes to a stack", grown);
}

/* stack_write_beside_a_rollback: a rollback that began before another thread's write to the stack
 * put the old value back over it. Chaos makes the owner roll back all the time. */
static volatile int stop;
static struct word *volatile target;
static long written_last;
static void *increment_target(void *arg)
{
    (void)arg;
    while (!target)
        sched_yield();
    struct word *word = target;
    long n = 0;
    while (!stop) {
        ame_begin();
        W(word->v, R(word->v) + 1);
        ame_commit();
        n++;
    }
    written_last = n;
    return NULL;
}
static void stack_write_beside_a_rollback(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct word word = {0, 0};
    target = &word;
    pthread_t id = spawn(increment_target, NULL);
    double end = now() + 3;
    volatile long filler[512];
    long own = 0;
    while (now() < end) {
        for (int i = 0; i < 512; i++)
            filler[i] = i;
        ame_begin();
        for (int i = 0; i < 8; i++) {
            R(shared[i].v); /* chaos */
            filler[i] = -1;
        }
        ame_commit();
        if (own % 64 == 0) {
            ame_begin();
            W(word.v, R(word.v) + 1);
            ame_commit();
        } else {
            own++;
            continue;
        }
        own++;
    }
    stop = 1;
    join(id);
    EQUAL(word.v, written_last + (own + 63) / 64);
}

/* --- starvation ------------------------------------------------------------------------------------*/
/* A thread in a higher slot must get a lock that one in a lower slot takes again at once. */
static volatile long hog_rounds;
static struct word hog_word;
static void *starved(void *arg)
{
    double start = now(), *took = arg;
    ame_begin();
    W(hog_word.v, -1);
    ame_commit();
    *took = now() - start;
    stop = 1;
    return NULL;
}
static void later_slot_is_not_starved(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    ame_commit();
    double worst = 0;
    for (int round = 0; round < 5; round++) {
        double took = 0;
        stop = 0;
        pthread_t id = spawn(starved, &took);
        double end = now() + 10;
        while (!stop && now() < end) {
            ame_begin();
            W(hog_word.v, hog_rounds);
            busy_us(1000);
            ame_commit();
            hog_rounds++;
        }
        if (!stop)
            FAIL("starved for 10 s while the other committed %ld times", hog_rounds);
        join(id);
        if (took > worst)
            worst = took;
    }
    printf("waited at most %.1f ms for a lock\n", worst * 1e3);
}
/* The same for the token of inevitable transactions. */
static void *wants_token(void *arg)
{
    double start = now(), *took = arg;
    ame_begin();
    ame_inevitable();
    ame_commit();
    *took = now() - start;
    stop = 1;
    return NULL;
}
static void token_is_not_hogged(int argc, char **argv)
{
    int exclusive = argc > 0 && argv[0][0] == 'e';
    double worst = 0;
    for (int round = 0; round < 5; round++) {
        double took = 0;
        stop = 0;
        pthread_t id = spawn(wants_token, &took);
        double end = now() + 10;
        while (!stop && now() < end) {
            ame_begin();
            if (exclusive)
                ame_exclusive();
            else
                ame_inevitable();
            busy_us(1000);
            ame_commit();
            hog_rounds++;
        }
        if (!stop)
            FAIL("starved for 10 s while the other committed %ld times", hog_rounds);
        join(id);
        if (took > worst)
            worst = took;
    }
    printf("waited at most %.1f ms\n", worst * 1e3);
}

/* --- per_thread_in_key_destructors ------------------------------------------------------------------*/
static long per_thread_object = 42;
static pthread_key_t key;
static void in_destructor(void *arg)
{
    (void)arg;
    long *copy = ame_per_thread(&per_thread_object, sizeof per_thread_object);
    EQUAL(*copy, 43);
    ame_begin();
    W(shared[5].v, 1);
    ame_commit();
}
static void *with_key(void *arg)
{
    pthread_setspecific(key, arg);
    long *copy = ame_per_thread(&per_thread_object, sizeof per_thread_object);
    *copy = 43;
    return NULL;
}
static void per_thread_in_key_destructors(int argc, char **argv)
{
    (void)argc, (void)argv;
    CHECK(pthread_key_create(&key, in_destructor) == 0);
    for (int i = 0; i < 10; i++)
        join(spawn(with_key, &key));
    EQUAL(per_thread_object, 42);
}

/* exclusive_write_to_a_waiting_stack: a thread that met the closed gate had saved its stack before, and
 * a later rollback undid what the exclusive transaction had written there, which tells nobody. */
static void *exclusive_writer(void *arg)
{
    long *sum = arg;
    for (int i = 0; i < 20000; i++) {
        ame_begin();
        ame_exclusive();
        ++*sum;
        ame_commit();
    }
    stop = 1;
    return NULL;
}
/* Transactions of this thread beside exclusive ones that write to its memory. */
static void beside_exclusive_writer(long *sum)
{
    pthread_t id = spawn(exclusive_writer, sum);
    while (!stop) {
        ame_begin();
        for (int i = 0; i < 4; i++)
            R(shared[i].v); /* chaos */
        ame_commit();
    }
    join(id);
    EQUAL(*sum, 20000);
}
static void exclusive_write_to_a_waiting_stack(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct word word = {0, 0};
    beside_exclusive_writer(&word.v);
}

/* exclusive_write_to_saved_memory: what a program's glue had saved at begin was older than an exclusive
 * transaction between that and the start, or put back after one that came at the end of the rollback. */
static long glued, glue_copy;
static _Thread_local int has_glue;
static void glue_begins(void)
{
    if (has_glue)
        glue_copy = glued;
}
static void glue_rolled_back(void)
{
    if (has_glue)
        glued = glue_copy;
}
static void exclusive_write_to_saved_memory(int argc, char **argv)
{
    (void)argc, (void)argv;
    has_glue = 1;
    ame_set_begin_hooks(glue_begins, glue_rolled_back);
    beside_exclusive_writer(&glued);
}

/* errno_survives_a_wait: a barrier that slept left its ETIMEDOUT in the program's errno. */
static struct word held;
static void *read_held(void *arg)
{
    (void)arg;
    ame_begin();
    errno = 12345;
    long seen = R(held.v);
    EQUAL(errno, 12345);
    EQUAL(seen, 1);
    ame_commit();
    EQUAL(errno, 12345);
    return NULL;
}
static void errno_survives_a_wait(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    W(held.v, 1);
    /* The thread in the lower slot is the older one. */
    pthread_t id = spawn(read_held, NULL);
    for (double end = now() + 0.05; now() < end;)
        poll();
    ame_commit();
    join(id);
}

/* before_release_of_what_stays: plain code that publishes what a transaction found out did so before it was
 * certain that the transaction commits. */
static struct word found_out;
static long told;
static void publish(void *arg)
{
    /* Nobody else can see the word yet. */
    CHECK(AME_LOCK_TABLE[((uintptr_t)&found_out >> 4) & 0xffffffff] != 0);
    EQUAL(found_out.v, *(long *)arg);
    told++;
}
static void before_release_of_what_stays(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (long i = 1; i <= 2000; i++) {
        ame_begin();
        W(found_out.v, i);
        ame_before_release(publish, &i);
        STUB(ame_poll_slow, NULL); /* chaos */
        EQUAL(told, i - 1);
        ame_commit();
        EQUAL(told, i);
    }
}

/* fresh_until_commit: what a transaction has allocated, and nothing else. */
static void fresh_until_commit(int argc, char **argv)
{
    (void)argc, (void)argv;
    long *small = NULL, *large = NULL;
    ame_begin();
    CHECK(!ame_is_fresh(&shared[0]));
    R(shared[0].v);
    W(shared[1].v, 1);
    CHECK(!ame_is_fresh(&shared[0]) && !ame_is_fresh(&shared[1]));
    small = ame_malloc(32);
    large = ame_malloc(1 << 20);
    CHECK(ame_is_fresh(small) && ame_is_fresh(large + 1000));
    ame_commit();
    CHECK(!ame_is_fresh(small));
    ame_begin();
    CHECK(!ame_is_fresh(small) && !ame_is_fresh(large + 1000));
    W(small[0], 1);
    CHECK(!ame_is_fresh(small));
    ame_commit();
}

/* inevitable_before_the_stack_is_restored: plain code of other threads writes to the entry of a waiter, which
 * lies on its stack; a rollback right after begin put back what was there before. */
static long *volatile entry_of_waiter;
static void *wait_with_entry(void *arg)
{
    (void)arg;
    volatile long entry = 0;
    entry_of_waiter = (long *)&entry;
    signal_step(1);
    ame_begin();
    signal_step(2);
    ame_inevitable_from_begin(); /* the other thread is inevitable */
    EQUAL(entry, 1);
    ame_commit();
    return NULL;
}
static void inevitable_before_the_stack_is_restored(int argc, char **argv)
{
    (void)argc, (void)argv;
    ame_begin();
    ame_make_inevitable();
    pthread_t id = spawn(wait_with_entry, NULL);
    await_step(2);
    busy_us(1000);
    __atomic_store_n(entry_of_waiter, 1, __ATOMIC_SEQ_CST);
    ame_make_exclusive(); /* wounds it */
    ame_commit();
    join(id);
}

/* token_of_a_transaction_that_is_rolled_back: it is held until then, and free for others afterwards; the program's
 * hook and what the transaction does to plain memory see it held. */
static int attempts_with_token;
static void *want_token(void *arg)
{
    (void)arg;
    await_step(1);
    ame_begin();
    ame_make_inevitable();
    CHECK(!ame_revocable());
    EQUAL(shared[0].v, 0);
    W(shared[1].v, 1);
    ame_commit();
    signal_step(2);
    return NULL;
}
static void await_other(void *arg)
{
    (void)arg;
    CHECK(!ame_in_transaction());
    await_step(2);
}
static void token_of_a_transaction_that_is_rolled_back(int argc, char **argv)
{
    (void)argc, (void)argv;
    CHECK(!ame_revocable());
    pthread_t id = spawn(want_token, NULL);
    unsigned again = ame_begin();
    __atomic_fetch_add(&attempts_with_token, 1, __ATOMIC_SEQ_CST);
    ame_hold_token();
    ame_hold_token();
    CHECK(ame_revocable());
    W(shared[0].v, 5);
    if (again == 0) {
        signal_step(1);
        busy_us(2000);
        EQUAL(__atomic_load_n(&shared[1].v, __ATOMIC_SEQ_CST), 0);
        ame_on_abort(await_other, NULL);
        ame_roll_back();
    }
    R(shared[1].v);
    EQUAL(shared[1].v, 1);
    ame_make_inevitable();
    CHECK(!ame_revocable());
    ame_commit();
    EQUAL(shared[0].v, 5);
    EQUAL(attempts_with_token, 2);
    join(id);
    /* And it is free after a commit. */
    ame_begin();
    ame_hold_token();
    ame_commit();
    ame_begin();
    ame_make_inevitable();
    ame_commit();
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"token_of_a_transaction_that_is_rolled_back", token_of_a_transaction_that_is_rolled_back},
        {"spare_blocks", spare_blocks},
        {"empty_range", empty_range},
        {"hot_counts", hot_counts},
        {"hot_counts_of_the_dead", hot_counts_of_the_dead},
        {"fork_alone_uses_no_window", fork_alone_uses_no_window},
        {"before_release_of_what_stays", before_release_of_what_stays},
        {"fresh_until_commit", fresh_until_commit},
        {"inevitable_before_the_stack_is_restored", inevitable_before_the_stack_is_restored},
        {"errno_survives_a_wait", errno_survives_a_wait},
        {"exclusive_write_to_a_waiting_stack", exclusive_write_to_a_waiting_stack},
        {"exclusive_write_to_saved_memory", exclusive_write_to_saved_memory},
        {"private_undo_after_version_wrap", private_undo_after_version_wrap},
        {"private_undo_in_freed_memory", private_undo_in_freed_memory},
        {"freed_fresh_memory_is_not_ours", freed_fresh_memory_is_not_ours},
        {"nested_boundaries", nested_boundaries},
        {"boundary_depth_survives_rollback", boundary_depth_survives_rollback},
        {"counts_in_opposite_orders", counts_in_opposite_orders},
        {"deltas_beside_a_write", deltas_beside_a_write},
        {"deltas_before_exclusive", deltas_before_exclusive},
        {"read_of_own_lock_after_half_a_poke", read_of_own_lock_after_half_a_poke},
        {"write_of_own_lock_after_late_poke", write_of_own_lock_after_late_poke},
        {"foreign_write_above_the_frames", foreign_write_above_the_frames},
        {"foreign_stack_writes_do_not_pile_up", foreign_stack_writes_do_not_pile_up},
        {"stack_write_beside_a_rollback", stack_write_beside_a_rollback},
        {"later_slot_is_not_starved", later_slot_is_not_starved},
        {"token_is_not_hogged", token_is_not_hogged},
        {"per_thread_in_key_destructors", per_thread_in_key_destructors},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
