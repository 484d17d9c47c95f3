/* set.h: the operation mix of the three set benchmarks, over set_contains/insert/remove.
 *
 * Updates alternate between inserting a random key and removing the key inserted last, so that
 * they nearly always take effect and the population stays constant. The rest are look-ups.
 */
#ifndef SET_H
#define SET_H
#include "driver.h"

TM_SAFE static int set_contains(uint64_t key);
TM_SAFE static int set_insert(uint64_t key);
TM_SAFE static int set_remove(uint64_t key);
static int64_t set_count(void);    /* walks the set and checks its shape; -1 when it is broken */

static int64_t set_initial;

static void set_fill(uint64_t range, uint64_t population)
{
    struct worker w = {.rng = 88172645463325252u};
    while ((uint64_t)set_initial < population)
        set_initial += set_insert(random_below(&w, range));
}

static inline void set_operation(struct worker *w, uint64_t range)
{
    int done;
    if (!is_update(w)) {
        uint64_t key = random_below(w, range);
        TM_BEGIN
        done = set_contains(key);
        TM_END
        __asm__ volatile("" : : "r"(done));
    } else if (!w->have_last) {
        uint64_t key = random_below(w, range);
        TM_BEGIN
        done = set_insert(key);
        TM_END
        if (done) {
            w->inserted++;
            w->last = key;
            w->have_last = 1;
        }
    } else {
        uint64_t key = w->last;
        TM_BEGIN
        done = set_remove(key);
        TM_END
        /* Another thread may have removed and inserted the same key; both counts still add up. */
        w->inserted -= done;
        w->have_last = 0;
    }
}

static int check(int64_t inserted)
{
    int64_t count = set_count();
    if (count != set_initial + inserted) {
        fprintf(stderr, "set holds %lld keys, expected %lld\n", (long long)count,
                (long long)(set_initial + inserted));
        return 1;
    }
    return 0;
}

#endif
