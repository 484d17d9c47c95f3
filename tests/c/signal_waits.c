/* When handlers run: not before the end of a transaction that can be rolled back, nor in its middle; before it
 * starts again; and whenever it would otherwise wait for something that takes for ever. */
#include "litmus.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>

static pthread_t victim;
/* A step of the play that two threads perform; transactions and handlers see and set it at once. */
static volatile AME_RACY int step __attribute__((aligned(64)));
static volatile int handled, last_value, in_order __attribute__((aligned(64)));
static int pipe_ends[2];
static long shared __attribute__((aligned(64)));
static long flag __attribute__((aligned(64)));

static void reach(int n)
{
    while (step < n)
        ;
}

/* Goes on to step n, unless that was before a rollback. */
static void go_to(int n)
{
    if (step < n)
        step = n;
}

/* Without AME_CHAOS only the play itself rolls back. */
static int calm;

static void on_signal(int signal)
{
    (void)signal;
    handled++;
}

static void on_queued(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    in_order = in_order && info->si_code == SI_QUEUE && info->si_value.sival_int == last_value + 1 &&
               info->si_errno == 0 && info->si_pid == getpid();
    last_value++;
}

static void on_wake(int signal)
{
    (void)signal;
    int saved = errno;
    handled++;
    if (write(pipe_ends[1], "x", 1) != 1)
        abort();
    errno = saved;
}

static void on_flag(int signal)
{
    (void)signal;
    flag = 1;
    handled++;
}

static void catch(int signal, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(signal, &action, NULL) == 0);
    handled = 0;
}

static void with_helper(void *(*helper)(void *), void (*f)(void))
{
    pthread_t id;
    step = 0;
    victim = pthread_self();
    CHECK(pthread_create(&id, NULL, helper, NULL) == 0);
    f();
    CHECK(pthread_join(id, NULL) == 0);
}

static void interrupt(int signal) { CHECK(pthread_kill(victim, signal) == 0); }
static void enqueue(int signal, int value)
{
    CHECK(pthread_sigqueue(victim, signal, (union sigval){.sival_int = value}) == 0);
}

/* --- counted, in order, at the end --------------------------------------------------------------- */
static void *sends_many(void *arg)
{
    reach(1);
    for (int i = 1; i <= 3; i++)
        interrupt(SIGUSR1);
    for (int i = 1; i <= 20; i++)
        enqueue(SIGRTMIN + 1, i);
    interrupt(SIGUSR2);
    go_to(2);
    reach(3);
    enqueue(SIGRTMIN + 1, 21);
    go_to(4);
    return arg;
}

static void at_commit(void)
{
    ame_begin();
    shared++;
    go_to(1);
    reach(2);
    for (volatile int i = 0; i < 100000; i++)
        ;
    CHECK_INSIDE(!calm || (handled == 0 && last_value == 0));
    go_to(3);
    reach(4);
    CHECK_INSIDE(!calm || (handled == 0 && last_value == 0));
    ame_commit();
    /* Signals without a queue count once, those with one each, in order. */
    CHECK(last_value == 21 && in_order && (handled == 2 || !calm));
}

static void *sends_one(void *arg)
{
    reach(1);
    interrupt(SIGUSR1);
    go_to(2);
    return arg;
}

static void at_rollback(void)
{
    unsigned rollbacks = ame_begin();
    shared++;
    go_to(1);
    reach(2);
    CHECK_INSIDE(handled == (int)rollbacks || !calm);
    if (handled == 0)
        roll_back_once(0);
    ame_commit();
    CHECK(handled == 1);
}

/* --- the handler is what ends the wait ---------------------------------------------------------- */
static void read_byte(void)
{
    char byte;
    CHECK_INSIDE(read(pipe_ends[0], &byte, 1) == 1);
}

/* It came while the transaction could still be rolled back. */
static void before_inevitable_read(void)
{
    ame_begin();
    shared++;
    go_to(1);
    reach(2);
    CHECK_INSIDE(handled == 0 || !calm);
    read_byte();
    ame_commit();
    CHECK(handled == 1);
}

static void *sends_late(void *arg)
{
    reach(1);
    usleep(20000);
    interrupt(SIGUSR1);
    return arg;
}

static void during_inevitable_read(void)
{
    ame_begin();
    shared++;
    ame_inevitable();
    go_to(1);
    read_byte();
    ame_commit();
    CHECK(handled == 1);
}

static void during_exclusive_read(void)
{
    ame_begin();
    ame_exclusive();
    go_to(1);
    read_byte();
    ame_commit();
    CHECK(handled == 1);
}

/* The victim waits for a transaction that ends when the victim's handler has run. */
static int exclusive;
static void *holds(void *arg)
{
    ame_begin();
    shared++;
    if (exclusive)
        ame_exclusive();
    else
        ame_inevitable();
    go_to(1);
    usleep(20000);
    interrupt(SIGUSR1);
    read_byte();
    ame_commit();
    return arg;
}

static void waits_for_holder(void)
{
    reach(1);
    ame_begin();
    shared++;
    ame_commit();
    CHECK(handled == 1);
}

static void waits_for_token(void)
{
    reach(1);
    ame_begin();
    ame_inevitable();
    ame_commit();
    CHECK(handled == 1);
}

static void retries(void)
{
    ame_begin();
    go_to(1);
    if (flag == 0)
        ame_retry();
    ame_commit();
    CHECK(handled == 1);
}

int main(void)
{
    calm = getenv("AME_CHAOS") == NULL;
    CHECK(pipe(pipe_ends) == 0);
    struct sigaction queued = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGRTMIN + 1, &queued, NULL) == 0);
    catch(SIGUSR1, on_signal);
    catch(SIGUSR2, on_signal);
    for (int i = 0; i < 20; i++) {
        handled = last_value = 0;
        in_order = 1;
        with_helper(sends_many, at_commit);
    }
    start_ticker();
    for (int i = 0; i < 20; i++) {
        handled = 0;
        with_helper(sends_one, at_rollback);
    }
    stop_ticker();
    for (int i = 0; i < 4; i++) {
        catch(SIGUSR1, on_wake);
        with_helper(sends_one, before_inevitable_read);
        catch(SIGUSR1, on_wake);
        with_helper(sends_late, during_inevitable_read);
        catch(SIGUSR1, on_wake);
        with_helper(sends_late, during_exclusive_read);
        for (exclusive = 0; exclusive < 2; exclusive++) {
            catch(SIGUSR1, on_wake);
            with_helper(holds, waits_for_holder);
            catch(SIGUSR1, on_wake);
            with_helper(holds, waits_for_token);
        }
        catch(SIGUSR1, on_flag);
        flag = 0;
        with_helper(sends_late, retries);
    }
    puts("ok");
}
