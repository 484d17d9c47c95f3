/* Calls of code that was made at run time and begins where memory does: there is nothing before it to look at. */
#include "litmus.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* mov $42, %eax; ret */
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
static int (*volatile made)(void);
static long sum;

static void body(int number)
{
    while (time_left()) {
        ame_begin();
        sum += made();
        ame_commit();
    }
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    size_t page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    char *start = memory + page;
    CHECK(mprotect(start, page, PROT_READ | PROT_WRITE) == 0);
    memcpy(start, code, sizeof code);
    CHECK(mprotect(start, page, PROT_READ | PROT_EXEC) == 0);
    made = (int (*)(void))start;
    run_threads(n_threads, body);
    struct ame_stats stats;
    ame_total_stats(&stats);
    CHECK(sum % 42 == 0);
    /* Unknown code runs alone. */
    CHECK(sum == 0 || stats.exclusive > 0);
    puts("ok");
}
