/* Hash set with chained nodes: 16,384 buckets, keys below 32,768, 16,384 of them present. */
#include "set.h"

enum { BUCKETS = 16384, RANGE = 32768, POPULATION = 16384 };

struct node {
    uint64_t key;
    struct node *next;
};
static struct node *buckets[BUCKETS];

TM_SAFE static inline struct node **bucket_of(uint64_t key)
{
    return &buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 50];
}

TM_SAFE static int set_contains(uint64_t key)
{
    struct node *n = *bucket_of(key);
    while (n && n->key != key)
        n = n->next;
    return n != NULL;
}

TM_SAFE static int set_insert(uint64_t key)
{
    struct node **head = bucket_of(key);
    for (struct node *n = *head; n; n = n->next)
        if (n->key == key)
            return 0;
    struct node *n = malloc(sizeof *n);
    n->key = key;
    n->next = *head;
    *head = n;
    return 1;
}

TM_SAFE static int set_remove(uint64_t key)
{
    struct node **link = bucket_of(key);
    struct node *n = *link;
    while (n && n->key != key) {
        link = &n->next;
        n = *link;
    }
    if (!n)
        return 0;
    *link = n->next;
    free(n);
    return 1;
}

static int64_t set_count(void)
{
    int64_t count = 0;
    for (int i = 0; i < BUCKETS; i++)
        for (struct node *n = buckets[i]; n; n = n->next) {
            if (bucket_of(n->key) != &buckets[i])
                return -1;
            count++;
        }
    return count;
}

static void setup(void) { set_fill(RANGE, POPULATION); }
static void operation(struct worker *w) { set_operation(w, RANGE); }
BENCH_MAIN("hash")
