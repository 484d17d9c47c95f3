/* Signals at a high rate beside transfers between accounts: handlers that run transactions of their own, and
 * handlers that only add to a counter. No transfer and no signal is lost, whatever was interrupted. A transaction
 * that can be rolled back never has a handler in its middle; one that cannot may, as any other code. */
#include "litmus.h"
#include <errno.h>
#include <signal.h>
#include <sys/time.h>

enum { ACCOUNTS = 64, START = 1000 };
static long accounts[ACCOUNTS];
static AME_COUNTER long transfers_counted;
static long alarms, same_alarms, profs __attribute__((aligned(64)));
static __thread volatile sig_atomic_t my_alarms, my_profs;
static long total_alarms, total_profs, total_transfers;

static void move(long from, long to, long amount)
{
    accounts[from % ACCOUNTS] -= amount;
    accounts[to % ACCOUNTS] += amount;
}

static void on_alarm(int signal)
{
    int saved = errno;
    ame_begin();
    CHECK_INSIDE(alarms == same_alarms);
    alarms++;
    same_alarms++;
    ame_commit();
    my_alarms++;
    CHECK_INSIDE(signal == SIGALRM);
    errno = saved;
}

/* No transaction of its own: an atomic instruction is right beside those of other handlers. */
static void on_prof(int signal, siginfo_t *info, void *context)
{
    __atomic_fetch_add(&profs, 1, __ATOMIC_RELAXED);
    my_profs++;
    CHECK_INSIDE(signal == SIGPROF && info->si_signo == SIGPROF && context != NULL);
}

static long sum(void)
{
    long total = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        total += accounts[i];
    return total;
}

/* On a busy machine the time may be over before the timers have done anything. */
static int enough_signals(void)
{
    return __atomic_load_n(&alarms, __ATOMIC_RELAXED) > 20 && __atomic_load_n(&profs, __ATOMIC_RELAXED) > 0;
}

static void body(int number)
{
    uint64_t random = 88172645463325252u + (uint64_t)number;
    long done = 0;
    while (time_left() || (number == 0 && !enough_signals())) {
        uint64_t r = litmus_random(&random);
        unsigned rollbacks = ame_begin();
        int revocable = r % 97 != 0 && r % 499 != 0;
        if (r % 97 == 0)
            ame_inevitable();
        else if (r % 499 == 0)
            ame_exclusive();
        else if (r % 1001 == 0)
            roll_back_once(rollbacks);
        long *fresh = malloc(sizeof(long));
        *fresh = (long)(r >> 40 & 15);
        move((long)(r >> 8), (long)(r >> 20), *fresh);
        free(fresh);
        transfers_counted++;
        if (r % 13 == 0)
            CHECK_INSIDE(sum() == ACCOUNTS * START);
        if (r % 11 == 0 && revocable) {
            long before = alarms;
            for (volatile int i = 0; i < 300; i++)
                ;
            CHECK_INSIDE(before == same_alarms);
        }
        ame_commit();
        /* Handlers outside of transactions: in the allocator as well. */
        free(malloc(r % 5000));
        done++;
    }
    ame_begin();
    total_transfers += done;
    ame_commit();
    /* What is sent to the process goes to others from here on. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    ame_begin();
    total_alarms += my_alarms;
    total_profs += my_profs;
    ame_commit();
}

/* A handler that touches what the inevitable transaction is about to touch: neighbours in the same granules, which
 * the interrupted barrier then finds acquired. */
enum { CELLS = 256 };
static struct { long of_program, of_handler; } cells[2][CELLS] __attribute__((aligned(64)));
static volatile long interruptions __attribute__((aligned(64)));
static volatile int interrupting __attribute__((aligned(64)));

static void on_interruption(int signal)
{
    (void)signal;
    ame_begin();
    for (int i = 0; i < CELLS; i++) {
        cells[0][i].of_handler++;
        cells[1][i].of_handler++;
    }
    ame_commit();
    interruptions++;
}

/* Waits for each handler: it may take longer than any fixed time, and the thread must come to something else too. */
static void *interrupt(void *victim)
{
    uint64_t random = 1;
    for (long n = 1; interrupting; n++) {
        CHECK(pthread_kill(*(pthread_t *)victim, SIGUSR1) == 0);
        while (interrupting && interruptions < n)
            ;
        for (volatile uint64_t i = litmus_random(&random) % 2000; i > 0; i--)
            ;
    }
    return NULL;
}

static void interrupted_barriers(void)
{
    struct sigaction action = {.sa_handler = on_interruption, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t self = pthread_self(), id;
    interrupting = 1;
    CHECK(pthread_create(&id, NULL, interrupt, &self) == 0);
    long rounds = 0, seen = 0;
    litmus_deadline = litmus_now() + n_seconds;
    while (time_left() || interruptions < 20) {
        ame_begin();
        ame_inevitable();
        for (int i = 0; i < CELLS; i++) {
            cells[0][i].of_program++;
            seen += *(volatile long *)&cells[1][i].of_program;
        }
        ame_commit();
        rounds++;
    }
    interrupting = 0;
    CHECK(pthread_join(id, NULL) == 0 && seen == 0);
    for (int i = 0; i < CELLS; i++) {
        CHECK(cells[0][i].of_program == rounds && cells[0][i].of_handler == interruptions);
        CHECK(cells[1][i].of_program == 0 && cells[1][i].of_handler == interruptions);
    }
}

static void set_timer(int which, long microseconds)
{
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    CHECK(setitimer(which, &timer, NULL) == 0);
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    for (int i = 0; i < ACCOUNTS; i++)
        accounts[i] = START;
    interrupted_barriers();
    struct sigaction alarm = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct sigaction prof = {.sa_sigaction = on_prof, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGALRM, &alarm, NULL) == 0 && sigaction(SIGPROF, &prof, NULL) == 0);
    start_ticker();
    set_timer(ITIMER_REAL, 200);
    set_timer(ITIMER_PROF, 1000);
    run_threads(n_threads, body);
    set_timer(ITIMER_REAL, 0);
    set_timer(ITIMER_PROF, 0);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    /* The ticker gets signals too. */
    stop_ticker();
    CHECK(sum() == ACCOUNTS * START);
    CHECK(transfers_counted == total_transfers);
    total_alarms += my_alarms;
    total_profs += my_profs;
    long elsewhere = alarms - total_alarms;
    CHECK(elsewhere >= 0 && profs >= total_profs);
    printf("ok %ld alarms, %ld elsewhere, %ld profs, %ld transfers\n", alarms, elsewhere, profs, total_transfers);
}
