/* Threads that take turns, and writes in steps: one case each. */
#include "barriers.h"

#define ARGS int argc, char **argv
#define UNUSED (void)argc, (void)argv

static volatile int stop;

/* --- turns: nobody waits long for a thread that does not begin transactions --------------------------*/
static struct word counter;
static double longest_wait;

static void *sleeper(void *arg)
{
    long *mine = arg;
    while (!stop) {
        for (double end = now() + 0.05; now() < end && !stop; ++*mine) {
            ame_begin();
            W(counter.v, R(counter.v) + 1);
            ame_commit();
        }
        sleep_ms(100);
    }
    return NULL;
}
static void *steady(void *arg)
{
    long *mine = arg;
    for (double last = now(); !stop; ++*mine) {
        ame_begin();
        W(counter.v, R(counter.v) + 1);
        ame_commit();
        double t = now();
        longest_wait = t - last > longest_wait ? t - last : longest_wait;
        last = t;
    }
    return NULL;
}
static void turn_of_a_sleeper(ARGS)
{
    UNUSED;
    static long a, b __attribute__((aligned(128)));
    pthread_t one = spawn(sleeper, &a), two = spawn(steady, &b);
    sleep_ms(1500);
    stop = 1;
    join(one);
    join(two);
    printf("%ld and %ld increments, longest wait %.1f ms\n", a, b, longest_wait * 1e3);
    EQUAL(counter.v, a + b);
    CHECK(a > 100 && b > 100);
    /* Far below the sleep, were it not for other programs on the machine. */
    CHECK(longest_wait < 1.0);
}

/* --- steps: locks taken by plain stores, beside others of all kinds ----------------------------------*/
enum { WORDS = 20000 }; /* three regions and a bit */
static long array[WORDS] __attribute__((aligned(64)));

static void whole_sum(void)
{
    long sum = 0;
    ame_begin();
    ame_read_range(array, sizeof array);
    for (int i = 0; i < WORDS; i++)
        sum += array[i];
    ame_commit();
    EQUAL(sum, 0);
}
static void in_steps(uint64_t *rng)
{
    static const size_t strides[] = {1, 2, 3, 5, 10, 100};
    size_t stride = strides[next_random(rng) % 6];
    size_t n = 2 * (next_random(rng) % 80);
    size_t first = next_random(rng) % (WORDS - n * stride);
    ame_begin();
    ame_write_steps(&array[first], n * stride * 8, stride * 8, 8);
    for (size_t i = 0; i < n; i++) {
        array[first + i * stride] += i % 2 ? -1 : 1;
        poll();
    }
    ame_commit();
}
static void one_by_one(uint64_t *rng)
{
    long *from = &array[next_random(rng) % WORDS], *to = &array[next_random(rng) % WORDS];
    ame_begin();
    W(*from, R(*from) - 1);
    poll();
    W(*to, R(*to) + 1);
    ame_commit();
}
static void *worker(void *arg)
{
    uint64_t rng = 88172645463325252ull * ((long)arg + 1);
    while (!stop) {
        switch (next_random(&rng) % 8) {
        case 0: whole_sum(); break;
        case 1:
        case 2:
        case 3: in_steps(&rng); break;
        default: one_by_one(&rng);
        }
    }
    return NULL;
}
static void steps_beside_others(ARGS)
{
    UNUSED;
    pthread_t ids[3];
    for (long i = 0; i < 3; i++)
        ids[i] = spawn(worker, (void *)i);
    sleep_ms(1500);
    stop = 1;
    for (int i = 0; i < 3; i++)
        join(ids[i]);
    whole_sum();
}
/* Exactly the granules of the steps are held. */
static void exact_steps(ARGS)
{
    UNUSED;
    static const struct {
        size_t first, n, stride, size;
    } walks[] = {{0, 1, 16, 8},    {8, 300, 24, 8},   {12, 100, 40, 8}, {4, 64, 800, 16},
                 {0, 65, 16, 1},   {1, 3, 1600, 33},  {0, 1000, 8, 8},  {15, 200, 17, 2}};
    char *bytes = (char *)array;
    for (size_t k = 0; k < sizeof walks / sizeof *walks; k++) {
        memset(array, 1, sizeof array);
        ame_begin();
        ame_write_steps(bytes + walks[k].first, walks[k].n * walks[k].stride, walks[k].stride, walks[k].size);
        static char held[sizeof array / 16];
        memset(held, 0, sizeof held);
        for (size_t i = 0; i < walks[k].n; i++)
            for (size_t b = 0; b < walks[k].size; b++)
                held[(walks[k].first + i * walks[k].stride + b) / 16] = 1;
        for (size_t g = 0; g < sizeof held; g++)
            EQUAL(ame_tls.marks[granule_of(bytes + g * 16)] >= AME_CONTROL->wver, held[g]);
        for (size_t i = 0; i < walks[k].n; i++)
            memset(bytes + walks[k].first + i * walks[k].stride, 2, walks[k].size);
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"turn_of_a_sleeper", turn_of_a_sleeper},
        {"steps_beside_others", steps_beside_others},
        {"exact_steps", exact_steps},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
