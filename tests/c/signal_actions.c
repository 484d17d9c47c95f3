/* What POSIX says of sigaction and handlers, with handlers that come at once and with such that waited for the end of a
 * transaction: masks, stacks, flags, the old action; faults; jumps out of handlers. */
#include "litmus.h"
#pragma clang diagnostic ignored "-Wdeprecated-declarations" /* siginterrupt */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static volatile int handled, depth, deepest;
static volatile uintptr_t frame;
static sigset_t seen_mask;
static long shared __attribute__((aligned(64)));
static sigjmp_buf out;
static char *page;
static char stack[1 << 16] __attribute__((aligned(16)));

/* The same three ways for every handler: outside, inside a transaction that can be rolled back (so that it waits),
 * inside one that cannot. The signal comes from a function that the pass does not see. */
static volatile int sent __attribute__((aligned(64)));

/* The n-th signal of a play: once, although a transaction may be rolled back and come here again. */
AME_SAFE __attribute__((noinline)) static void send(int signal, int n)
{
    if (sent < n) {
        sent = n;
        kill(getpid(), signal);
    }
}

static void deliver(int signal, int way)
{
    sent = 0;
    if (way == 0) {
        send(signal, 1);
        return;
    }
    ame_begin();
    shared++;
    if (way == 2)
        ame_inevitable();
    int before = handled;
    send(signal, 1);
    CHECK_INSIDE((handled != before) == (way == 2));
    shared++;
    ame_commit();
}

static void note(int signal)
{
    (void)signal;
    char here;
    frame = (uintptr_t)&here;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    seen_mask = mask;
    handled++;
}

static void note_info(int signal, siginfo_t *info, void *context)
{
    CHECK(info->si_signo == signal && info->si_code == SI_USER && info->si_pid == getpid() && context != NULL);
    note(signal);
}

static struct sigaction action_of(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    return action;
}

static void set(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = action_of(handler, flags);
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static int blocked(int signal)
{
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    return sigismember(&mask, signal);
}

static void old_action(void)
{
    struct sigaction first = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
    sigemptyset(&first.sa_mask);
    sigaddset(&first.sa_mask, SIGHUP);
    CHECK(sigaction(SIGUSR1, &first, &old) == 0 && old.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_sigaction == note_info);
    CHECK((old.sa_flags & (SA_SIGINFO | SA_RESTART | SA_RESETHAND)) == (SA_SIGINFO | SA_RESTART));
    CHECK(sigismember(&old.sa_mask, SIGHUP) && !sigismember(&old.sa_mask, SIGUSR2));
    CHECK(signal(SIGUSR1, note) == (void (*)(int))note_info && signal(SIGUSR1, SIG_IGN) == note);
    deliver(SIGUSR1, 0);
    CHECK(handled == 0 && signal(SIGUSR1, SIG_DFL) == SIG_IGN);
    set(SIGUSR1, note, SA_RESETHAND | SA_NODEFER);
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == note);
    CHECK((old.sa_flags & (SA_SIGINFO | SA_RESETHAND | SA_NODEFER)) == (SA_RESETHAND | SA_NODEFER));
    /* What one gets back can be put back. */
    CHECK(signal(SIGUSR1, SIG_IGN) == note && sigaction(SIGUSR1, &old, NULL) == 0);
    deliver(SIGUSR1, 0);
    CHECK(handled == 1 && sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGKILL, &first, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(65, &first, NULL) == -1 && errno == EINVAL && sigaction(0, &first, &old) == -1);
    CHECK(signal(SIGUSR1, SIG_ERR) == SIG_ERR && errno == EINVAL && signal(-1, note) == SIG_ERR);
    CHECK(signal(SIGUSR1, note) == SIG_DFL && sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_flags & SA_RESTART);
    CHECK(siginterrupt(SIGUSR1, 1) == 0 && sigaction(SIGUSR1, NULL, &old) == 0);
    CHECK(old.sa_handler == note && !(old.sa_flags & SA_RESTART));
    CHECK(siginterrupt(SIGUSR1, 0) == 0 && sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_flags & SA_RESTART);
    struct sigaction *shared_action = malloc(sizeof *shared_action);
    ame_begin();
    CHECK_INSIDE(sigaction(SIGUSR1, NULL, shared_action) == 0);
    CHECK_INSIDE(shared_action->sa_handler == note);
    ame_commit();
    free(shared_action);
}

static void masks(int way)
{
    struct sigaction action = action_of(note, 0);
    sigaddset(&action.sa_mask, SIGHUP);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    handled = 0;
    deliver(SIGUSR1, way);
    CHECK(handled == 1 && sigismember(&seen_mask, SIGUSR1) && sigismember(&seen_mask, SIGHUP));
    CHECK(!sigismember(&seen_mask, SIGUSR2) && !blocked(SIGUSR1) && !blocked(SIGHUP));
    set(SIGUSR1, note, SA_NODEFER);
    deliver(SIGUSR1, way);
    CHECK(handled == 2 && !sigismember(&seen_mask, SIGUSR1) && !blocked(SIGUSR1));
}

static void information(int way)
{
    struct sigaction action = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    handled = 0;
    deliver(SIGUSR1, way);
    CHECK(handled == 1);
}

static int on_stack(void) { return frame >= (uintptr_t)stack && frame < (uintptr_t)(stack + sizeof stack); }

static void stacks(int way)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, none = {.ss_flags = SS_DISABLE};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    set(SIGUSR1, note, SA_ONSTACK);
    deliver(SIGUSR1, way);
    CHECK(on_stack());
    set(SIGUSR1, note, 0);
    deliver(SIGUSR1, way);
    CHECK(!on_stack());
    CHECK(sigaltstack(&none, NULL) == 0);
}

static void once(int way)
{
    set(SIGUSR1, note, SA_RESETHAND);
    handled = 0;
    deliver(SIGUSR1, way);
    CHECK(handled == 1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        deliver(SIGUSR1, way);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

/* The action changes while the signal waits: the new one counts. */
static void ignored_meanwhile(void)
{
    set(SIGUSR1, note, 0);
    handled = sent = 0;
    ame_begin();
    shared++;
    send(SIGUSR1, 1);
    if (handled == 0)
        set(SIGUSR1, note, SA_RESTART);
    ame_commit();
    CHECK(handled == 1);
}

static void nest(int signal)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    ame_begin();
    shared++;
    if (depth < 5)
        send(signal, depth + 1);
    ame_commit();
    depth--;
    handled++;
}

static void nested(int way)
{
    set(SIGUSR1, nest, SA_NODEFER);
    handled = deepest = 0;
    deliver(SIGUSR1, way);
    CHECK(handled == 5 && depth == 0 && deepest == 5);
    set(SIGUSR1, note, 0);
}

static void jump(int signal)
{
    handled++;
    siglongjmp(out, signal);
}

static void jumps_out(int way)
{
    set(SIGUSR1, jump, 0);
    handled = 0;
    int from = sigsetjmp(out, 1);
    if (from == 0)
        deliver(SIGUSR1, way);
    CHECK(from == SIGUSR1 && handled == 1 && !blocked(SIGUSR1));
    if (way == 2) {
        CHECK(ame_in_transaction());
        ame_commit();
    }
    CHECK(!ame_in_transaction());
    ame_begin();
    shared++;
    ame_commit();
}

static void fault_outside(void)
{
    set(SIGSEGV, jump, 0);
    for (int i = 0; i < 3; i++) {
        handled = 0;
        int from = sigsetjmp(out, 1);
        if (from == 0)
            *(volatile char *)page = 1;
        CHECK(from == SIGSEGV && handled == 1 && !blocked(SIGSEGV));
    }
}

static void allow(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    handled++;
    if (info->si_addr < (void *)page || info->si_addr >= (void *)(page + 4096))
        abort();
    if (mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0)
        abort();
}

/* A handler that repairs what was wrong, in a transaction. */
static void fault_repaired(void)
{
    struct sigaction action = {.sa_sigaction = allow, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(mprotect(page, 4096, PROT_NONE) == 0);
        handled = 0;
        ame_begin();
        shared++;
        page[i + 100]++;
        shared--;
        ame_commit();
        CHECK(handled == 1 && page[i + 100] == 1);
    }
    CHECK(mprotect(page, 4096, PROT_NONE) == 0);
}

static volatile AME_RACY int again;
static void back(int signal)
{
    (void)signal;
    handled++;
    again++;
    if (again == 1) {
        (void)litmus_tick;
        ame_retry();
    }
    siglongjmp(out, 1);
}

static void touch(int how)
{
    if (how == 0)
        (void)*(volatile char *)page;
    else if (how == 1)
        *(volatile char *)page = 1;
    else
        memset(page, 1, 2000);
}

/* A handler of a fault that rolls back, and then one that jumps away: the signal is not left blocked, nor the
 * memory left locked, nor are other signals held. */
static void fault_left(int how)
{
    set(SIGSEGV, back, 0);
    set(SIGUSR1, note, 0);
    again = 0;
    if (sigsetjmp(out, 1) == 0) {
        ame_begin();
        shared++;
        touch(how);
        CHECK(0);
    }
    CHECK_INSIDE(ame_in_transaction());
    ame_commit();
    CHECK(!blocked(SIGSEGV));
    handled = 0;
    deliver(SIGUSR1, 0);
    CHECK(handled == 1);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    ame_begin();
    touch(how);
    ame_commit();
    CHECK(mprotect(page, 4096, PROT_NONE) == 0);
}

static void own_abort(int signal)
{
    (void)signal;
    _exit(7);
}

static void aborts(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        set(SIGABRT, own_abort, 0);
        ame_begin();
        shared++;
        abort();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* The child of a vfork has the parent's memory, but not its actions. */
static void vforked(void)
{
    set(SIGUSR1, note, 0);
    pid_t child = vfork();
    if (child == 0) {
        set(SIGUSR1, SIG_DFL, 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    int before = handled;
    deliver(SIGUSR1, 1);
    CHECK(handled == before + 1);
}

static void *play(void *arg)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    old_action();
    for (int way = 0; way < 3; way++) {
        masks(way);
        information(way);
        stacks(way);
        once(way);
        nested(way);
        jumps_out(way);
    }
    ignored_meanwhile();
    vforked();
    fault_outside();
    fault_repaired();
    for (int how = 0; how < 3; how++)
        fault_left(how);
    aborts();
    return arg;
}

int main(int argc, char **argv)
{
    litmus_arguments(argc, argv);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    /* Signals are for the thread that plays. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    start_ticker();
    pthread_t id;
    CHECK(pthread_create(&id, NULL, play, NULL) == 0);
    CHECK(pthread_join(id, NULL) == 0);
    stop_ticker();
    puts("ok");
}
