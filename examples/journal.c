/* journal: an append-only log, written with stdio inside transactions.
 *
 * Each transaction takes the next number, moves some stock, and writes a line about it. Output to a
 * stream is held back until commit: a transaction that is rolled back and runs again writes its
 * line once, and the lines are in the order of the transactions. No lock, and the transactions stay
 * parallel where they touch different goods. Usage: journal [threads] [lines per thread]
 */
#include <ame.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { GOODS = 16, OPENING = 1000 };

static struct {
    long number;
    long stock[GOODS];
    FILE *file;
} journal;

static int lines_each = 2000;

static void move(int from, int to, long amount)
{
    if (journal.stock[from] < amount)
        amount = journal.stock[from];
    journal.stock[from] -= amount;
    journal.stock[to] += amount;
    fprintf(journal.file, "%ld %d %d %ld\n", journal.number++, from, to, amount);
}

static void *work(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg + 1;
    for (int i = 0; i < lines_each; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        int from = (int)((random >> 60) % GOODS), to = (int)((random >> 52) % GOODS);
        ame_begin();
        move(from, to, 1 + (long)(random >> 40) % 50);
        ame_commit();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    if (argc > 2)
        lines_each = atoi(argv[2]);
    if (threads < 1 || threads > 64 || lines_each < 1) {
        fprintf(stderr, "usage: %s [threads, 1 to 64] [lines per thread]\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < GOODS; i++)
        journal.stock[i] = OPENING;
    journal.file = tmpfile();
    if (!journal.file) {
        perror("journal: cannot create a temporary file");
        return 1;
    }
    pthread_t thread[64];
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);

    /* Replay: every number once and in order, and the same stock at the end. */
    long stock[GOODS], expected = 0, number, amount;
    int from, to, ok = 1;
    for (int i = 0; i < GOODS; i++)
        stock[i] = OPENING;
    rewind(journal.file);
    while (fscanf(journal.file, "%ld %d %d %ld", &number, &from, &to, &amount) == 4) {
        ok &= number == expected++ && from >= 0 && from < GOODS && to >= 0 && to < GOODS;
        if (!ok)
            break;
        stock[from] -= amount;
        stock[to] += amount;
        ok &= stock[from] >= 0;
    }
    ok &= expected == (long)threads * lines_each;
    for (int i = 0; i < GOODS; i++)
        ok &= stock[i] == journal.stock[i];
    printf("journal: %d threads: %ld lines in order, invariant %s\n", threads, expected, ok ? "holds" : "BROKEN");
    return ok ? 0 : 1;
}
