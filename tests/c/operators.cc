/* C++: new and delete in transactions, which stay parallel; every form of them; no memory. What the standard
 * containers do with them, rolled back at any barrier with AME_CHAOS. */
#include <ame.h>
#include <pthread.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#define CHECK(condition) ((condition) ? (void)0 : __builtin_trap())

struct Node {
    long key, value;
    Node *next;
};
static Node *list_head;
static std::vector<long> *numbers;
static long pushed __attribute__((aligned(64)));
struct alignas(64) Wide {
    long value[8];
};

/* The compiler may leave out what is allocated and freed again, but not this. */
template <typename T> static T *keep(T *pointer)
{
    T *volatile kept = pointer;
    return kept;
}

static void forms(long i)
{
    ame_begin();
    auto plain = keep(new long(i));
    auto array = keep(new long[10]());
    auto wide = keep(new Wide());
    auto wides = keep(new Wide[3]());
    auto maybe = keep(new (std::nothrow) long(i));
    auto maybes = keep(new (std::nothrow) Wide[2]());
    CHECK(*plain == i && array[9] == 0 && (uintptr_t)wide % 64 == 0 && (uintptr_t)wides % 64 == 0);
    CHECK(*maybe == i && maybes[1].value[7] == 0);
    delete plain;
    delete[] array;
    delete wide;
    delete[] wides;
    operator delete(maybe, std::nothrow);
    operator delete[](maybes, std::align_val_t(64), std::nothrow);
    operator delete(operator new(40), (size_t)40);
    operator delete[](operator new[](40), (size_t)40);
    ame_commit();
}

/* A sorted list that all threads change. */
static void insert(long key)
{
    Node **at = &list_head;
    while (*at != nullptr && (*at)->key < key)
        at = &(*at)->next;
    if (*at != nullptr && (*at)->key == key) {
        Node *gone = *at;
        *at = gone->next;
        delete gone;
    } else {
        *at = new Node{key, -key, *at};
    }
}

static int handled;
static void handler()
{
    handled++;
    if (handled % 3 == 0)
        std::set_new_handler(nullptr);
}

/* The handler is called until there is none; then bad_alloc, or null. */
static void no_memory()
{
    volatile size_t much = (size_t)1 << 46;
    for (int inside = 0; inside < 2; inside++) {
        handled = 0;
        std::set_new_handler(handler);
        bool thrown = false;
        if (inside)
            ame_begin();
        try {
            delete[] keep(new char[much]);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        if (inside)
            ame_commit();
        CHECK(thrown && handled == 3);
        if (inside)
            ame_begin();
        char *none = keep(new (std::nothrow) char[much]);
        if (inside)
            ame_commit();
        CHECK(none == nullptr && handled == 3);
    }
}

static void *body(void *seed)
{
    uint64_t random = (uint64_t)seed * 0x9e3779b97f4a7c15u + 1;
    for (long i = 0; i < 3000; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        ame_begin();
        insert((long)(random >> 20 & 63));
        ame_commit();
        if (i % 8 == 0) {
            forms(i);
            ame_begin();
            if (numbers->size() > 500)
                *numbers = std::vector<long>();
            numbers->push_back((long)numbers->size());
            pushed++;
            ame_commit();
        }
        ame_begin();
        auto shared = std::make_unique<std::vector<long>>(100, i);
        CHECK((*shared)[99] == i);
        shared.reset();
        ame_commit();
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 2;
    numbers = new std::vector<long>;
    pthread_t ids[64];
    for (long i = 0; i < n; i++)
        pthread_create(&ids[i], nullptr, body, (void *)(i + 1));
    for (long i = 0; i < n; i++)
        pthread_join(ids[i], nullptr);
    for (Node *node = list_head; node != nullptr; node = node->next)
        CHECK(node->value == -node->key && (node->next == nullptr || node->key < node->next->key));
    for (size_t i = 0; i < numbers->size(); i++)
        CHECK((*numbers)[i] == (long)i);
    CHECK(pushed == 375 * n);
    struct ame_stats stats;
    ame_total_stats(&stats);
    long exclusive = (long)stats.exclusive;
    no_memory();
    /* Threads start, and the standard library's first use of something may; nothing of the loops does. */
    CHECK(exclusive < 100);
    printf("ok %ld exclusive of %ld\n", exclusive, (long)stats.commits);
}
