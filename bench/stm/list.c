/* Sorted linked list: keys below 512, 256 of them present; a look-up walks 128 nodes on average. */
#include "set.h"

enum { RANGE = 512, POPULATION = 256 };

struct node {
    uint64_t key;
    struct node *next;
};
static struct node *head;

TM_SAFE static int set_contains(uint64_t key)
{
    struct node *n = head;
    while (n && n->key < key)
        n = n->next;
    return n && n->key == key;
}

TM_SAFE static int set_insert(uint64_t key)
{
    struct node **link = &head;
    struct node *n;
    while ((n = *link) && n->key < key)
        link = &n->next;
    if (n && n->key == key)
        return 0;
    struct node *fresh = malloc(sizeof *fresh);
    fresh->key = key;
    fresh->next = n;
    *link = fresh;
    return 1;
}

TM_SAFE static int set_remove(uint64_t key)
{
    struct node **link = &head;
    struct node *n;
    while ((n = *link) && n->key < key)
        link = &n->next;
    if (!n || n->key != key)
        return 0;
    *link = n->next;
    free(n);
    return 1;
}

static int64_t set_count(void)
{
    int64_t count = 0;
    for (struct node *n = head; n; n = n->next) {
        if (n->next && n->next->key <= n->key)
            return -1;
        count++;
    }
    return count;
}

static void setup(void) { set_fill(RANGE, POPULATION); }
static void operation(struct worker *w) { set_operation(w, RANGE); }
BENCH_MAIN("list")
