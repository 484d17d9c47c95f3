/* C++ exceptions in transactions: thrown and caught inside, thrown out of the frames of a transaction into one that
 * commits, destructors on the way, rethrown, and one that a rollback overtakes. */
#include <ame.h>
#include <pthread.h>
#include <stdexcept>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

static long x, y, destroyed, caught;
static std::vector<std::string> *words;
static volatile long tick;

#define CHECK(condition) ((condition) ? (void)0 : __builtin_trap())

struct Guard {
    ~Guard() { destroyed++; }
};

__attribute__((noinline)) static void dive(int depth, long number)
{
    Guard guard;
    if (depth == 0)
        throw std::runtime_error("number " + std::to_string(number));
    dive(depth - 1, number);
}

static void one(long i)
{
    try {
        ame_begin();
        x++;
        dive(5, i);
    } catch (const std::runtime_error &e) {
        CHECK(ame_in_transaction() && e.what() == "number " + std::to_string(i));
        y++;
        caught++;
        ame_commit();
    }
    ame_begin();
    try {
        try {
            words->push_back("word " + std::to_string(i));
            if (words->size() > 40)
                words->clear();
            dive(2, i);
        } catch (...) {
            x++;
            throw;
        }
    } catch (const std::exception &) {
        y++;
    }
    CHECK(x == y);
    ame_commit();
    unsigned attempt = ame_begin();
    {
        Guard guard; /* gone before the commit: what it counts is shared */
        volatile long local[100] = {};
        local[99] = i;
        x += i;
        if (attempt == 0 && tick >= 0)
            ame_retry();
        y += local[99];
    }
    ame_commit();
}

static void *body(void *)
{
    for (long i = 0; i < 50; i++)
        one(i);
    return nullptr;
}

static int running __attribute__((aligned(64))) = 1;
static void *ticker(void *)
{
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
        ame_begin();
        tick = (tick + 1) % 1000;
        ame_commit();
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 2;
    words = new std::vector<std::string>;
    pthread_t id, ids[64];
    pthread_create(&id, nullptr, ticker, nullptr);
    for (int i = 0; i < n; i++)
        pthread_create(&ids[i], nullptr, body, nullptr);
    for (int i = 0; i < n; i++)
        pthread_join(ids[i], nullptr);
    __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
    pthread_join(id, nullptr);
    CHECK(x == y && caught == 50 * n && destroyed == 50 * n * (6 + 3 + 1));
    puts("ok");
}
