/* rbtree: a red-black tree with insertion and removal, shared by several threads.
 *
 * Rotations reach up and down the tree: fine-grained locks for it fill research papers. Here it is
 * the sequential algorithm (nodes with parent pointers), and each operation is one transaction.
 * Usage: rbtree [threads] [seconds]
 */
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LEFT, RIGHT };

struct node {
    uint64_t key;
    struct node *parent, *child[2];
    int red;
};
static struct node *root;

static int is_red(const struct node *n) { return n && n->red; }
static int side_of(const struct node *n) { return n->parent->child[RIGHT] == n; }

/* Makes `with` (may be NULL) take the place of n below n's parent. */
static void replace(struct node *n, struct node *with)
{
    *(n->parent ? &n->parent->child[side_of(n)] : &root) = with;
    if (with)
        with->parent = n->parent;
}

/* Moves n down to `side`; its child on the other side takes its place. */
static void rotate(struct node *n, int side)
{
    struct node *up = n->child[!side];
    replace(n, up);
    n->child[!side] = up->child[side];
    if (n->child[!side])
        n->child[!side]->parent = n;
    up->child[side] = n;
    n->parent = up;
}

static int insert(uint64_t key)
{
    struct node *parent = NULL, **link = &root;
    while (*link) {
        parent = *link;
        if (parent->key == key)
            return 0;
        link = &parent->child[key > parent->key];
    }
    struct node *n = malloc(sizeof *n);
    *n = (struct node){.key = key, .parent = parent, .red = 1};
    *link = n;
    /* n is red; repair where its parent is red too. */
    while (is_red(n->parent)) {
        struct node *p = n->parent, *g = p->parent;
        int side = side_of(p);
        if (is_red(g->child[!side])) {
            p->red = g->child[!side]->red = 0;
            g->red = 1;
            n = g;
            continue;
        }
        if (side_of(n) != side) {
            rotate(p, side);
            p = n;
        }
        p->red = 0;
        g->red = 1;
        rotate(g, !side);
        break;
    }
    if (root->red)
        root->red = 0;
    return 1;
}

/* The paths through child `side` of p lack one black node. */
static void repair_removal(struct node *p, int side)
{
    for (;;) {
        struct node *s = p->child[!side];
        if (s->red) {
            s->red = 0;
            p->red = 1;
            rotate(p, side);
            s = p->child[!side];
        }
        if (!is_red(s->child[LEFT]) && !is_red(s->child[RIGHT])) {
            s->red = 1;
            if (p->red || !p->parent) {
                p->red = 0;
                return;
            }
            side = side_of(p);
            p = p->parent;
            continue;
        }
        if (!is_red(s->child[!side])) {
            s->child[side]->red = 0;
            s->red = 1;
            rotate(s, !side);
            s = p->child[!side];
        }
        s->red = p->red;
        p->red = 0;
        s->child[!side]->red = 0;
        rotate(p, side);
        return;
    }
}

static int remove_key(uint64_t key)
{
    struct node *n = root;
    while (n && n->key != key)
        n = n->child[key > n->key];
    if (!n)
        return 0;
    if (n->child[LEFT] && n->child[RIGHT]) {
        /* Remove the next larger node instead, after moving its key here. */
        struct node *next = n->child[RIGHT];
        while (next->child[LEFT])
            next = next->child[LEFT];
        n->key = next->key;
        n = next;
    }
    struct node *only = n->child[LEFT] ? n->child[LEFT] : n->child[RIGHT];
    struct node *parent = n->parent;
    int side = parent ? side_of(n) : LEFT, black = !n->red;
    replace(n, only);
    free(n);
    if (is_red(only))
        only->red = 0;
    else if (black && parent)
        repair_removal(parent, side);
    return 1;
}

/* Black nodes on every way down from n, or -1 where a rule is broken. Counts the keys. */
static int check(const struct node *n, const struct node *parent, uint64_t low, uint64_t high, int64_t *keys)
{
    if (!n)
        return 0;
    int left = check(n->child[LEFT], n, low, n->key, keys);
    int right = check(n->child[RIGHT], n, n->key, high, keys);
    ++*keys;
    if (n->parent != parent || n->key <= low || n->key >= high || left != right || left < 0
        || (n->red && (is_red(parent) || is_red(n->child[LEFT]) || is_red(n->child[RIGHT]))))
        return -1;
    return left + !n->red;
}

enum { KEYS = 20000 };
static int stop;

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t operations;
    int64_t inserted;
} __attribute__((aligned(64)));

static void *work(void *arg)
{
    struct worker *w = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t key = 1 + (w->random >> 33) % KEYS;
        int add = (w->random >> 20) & 1;
        ame_begin();
        int done = add ? insert(key) : remove_key(key);
        ame_commit();
        w->inserted += add ? done : -done;
        w->operations++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 1.0;
    if (threads < 1 || threads > 64 || !(seconds > 0)) {
        fprintf(stderr, "usage: %s [threads, 1 to 64] [seconds]\n", argv[0]);
        return 2;
    }
    static struct worker workers[64];
    for (int i = 0; i < threads; i++) {
        workers[i].random = (uint64_t)i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    uint64_t operations = 0;
    int64_t inserted = 0, keys = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
        inserted += workers[i].inserted;
    }
    int height = check(root, NULL, 0, KEYS + 1, &keys);
    int ok = height >= 0 && !is_red(root) && keys == inserted;
    printf("rbtree: %d threads: %.2f million updates/s, %lld keys, black height %d, invariant %s\n", threads,
           (double)operations / seconds / 1e6, (long long)keys, height, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
