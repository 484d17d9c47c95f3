/* malloc, calloc, realloc, free, strdup and posix_memalign in transactions that are often rolled
 * back: blocks keep their contents, nothing is freed twice, nothing leaks. */
#include "litmus.h"

enum { SLOTS = 64 };
static struct slot {
    unsigned char *block;
    size_t size;
    unsigned char value;
} slots[SLOTS];

static long resident_kb(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &pages, &resident) != 2)
        FAIL("cannot read /proc/self/statm");
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void check_slot(const struct slot *s)
{
    for (size_t i = 0; i < s->size; i++)
        CHECK_INSIDE(s->block[i] == s->value);
}

static void body(int number)
{
    uint64_t random = (uint64_t)number + 1;
    while (time_left()) {
        struct slot *s = &slots[litmus_random(&random) % SLOTS], *t = &slots[litmus_random(&random) % SLOTS];
        size_t size = 1 + litmus_random(&random) % 700;
        unsigned char value = (unsigned char)(1 + litmus_random(&random) % 200);
        int what = (int)(litmus_random(&random) % 6);
        ame_begin();
        check_slot(s);
        switch (what) {
        case 0:
            free(s->block);
            s->block = malloc(size);
            memset(s->block, value, size);
            s->size = size;
            s->value = value;
            break;
        case 1:
            s->block = realloc(s->block, size);
            s->size = size;
            s->value = value;
            memset(s->block, value, size);
            break;
        case 2:
            if (s->size) {
                size_t keep = s->size < size ? s->size : size;
                s->block = realloc(s->block, size);
                memset(s->block + keep, s->value, size - keep);
                s->size = size;
            }
            break;
        case 3: {
            unsigned char *zero = calloc(size, 1);
            for (size_t i = 0; i < size; i++)
                CHECK_INSIDE(zero[i] == 0);
            free(zero);
            void *aligned = NULL;
            CHECK_INSIDE(posix_memalign(&aligned, 256, size) == 0 && ((uintptr_t)aligned & 255) == 0);
            memset(aligned, 7, size);
            free(aligned);
            break;
        }
        case 4: {
            char *copy = strdup("a string that is longer than sixteen bytes");
            CHECK_INSIDE(copy[0] == 'a' && strlen(copy) == 42);
            free(s->block);
            s->block = (unsigned char *)copy;
            s->size = 0;
            s->value = 0;
            break;
        }
        default: {
            struct slot other = *t;
            *t = *s;
            *s = other;
            check_slot(s);
        }
        }
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    run_threads(n_threads, body);
    long before = resident_kb();
    run_threads(n_threads, body);
    run_threads(n_threads, body);
    long after = resident_kb();
    for (int i = 0; i < SLOTS; i++)
        free(slots[i].block);
    /* 64 blocks of at most 700 bytes are alive; the rest is caches. */
    if (after - before > 32 * 1024)
        FAIL("resident memory grew from %ld to %ld KiB", before, after);
    puts("ok");
}
