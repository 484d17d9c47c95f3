/* Unbalanced binary search tree: keys below 65,536, 32,768 of them present, inserted at random. */
#include "set.h"

enum { RANGE = 65536, POPULATION = 32768 };

struct node {
    uint64_t key;
    struct node *left, *right;
};
static struct node *root;

TM_SAFE static int set_contains(uint64_t key)
{
    struct node *n = root;
    while (n && n->key != key)
        n = key < n->key ? n->left : n->right;
    return n != NULL;
}

TM_SAFE static int set_insert(uint64_t key)
{
    struct node **link = &root;
    struct node *n;
    while ((n = *link)) {
        if (n->key == key)
            return 0;
        link = key < n->key ? &n->left : &n->right;
    }
    n = malloc(sizeof *n);
    n->key = key;
    n->left = n->right = NULL;
    *link = n;
    return 1;
}

TM_SAFE static int set_remove(uint64_t key)
{
    struct node **link = &root;
    struct node *n;
    while ((n = *link) && n->key != key)
        link = key < n->key ? &n->left : &n->right;
    if (!n)
        return 0;
    if (!n->left) {
        *link = n->right;
    } else if (!n->right) {
        *link = n->left;
    } else {
        /* Put the smallest node of the right subtree in its place. */
        struct node **least = &n->right;
        struct node *m = *least;
        while (m->left) {
            least = &m->left;
            m = *least;
        }
        *least = m->right;
        m->left = n->left;
        m->right = n->right;
        *link = m;
    }
    free(n);
    return 1;
}

static int64_t count_between(const struct node *n, int64_t low, int64_t high)
{
    if (!n)
        return 0;
    int64_t key = (int64_t)n->key;
    if (key <= low || key >= high)
        return INT32_MIN;
    return 1 + count_between(n->left, low, key) + count_between(n->right, key, high);
}

static int64_t set_count(void) { return count_between(root, -1, RANGE); }

static void setup(void) { set_fill(RANGE, POPULATION); }
static void operation(struct worker *w) { set_operation(w, RANGE); }
BENCH_MAIN("tree")
