/* The GIL: taking it begins a transaction, dropping it commits.
 *
 * While only one thread state is attached it runs without a transaction ("solo"). A second one that
 * wants to attach asks the first to drop the GIL and waits until it has; the first takes it again in
 * a transaction, and so does the second. So no thread ever runs solo beside a transaction.
 *
 * A transaction may end where CPython looks at the drop request of its evaluation loop. Requests
 * come from a clock thread once per tick, and from whoever waits for a transaction.
 *
 * Threads that do little but wait for each other's memory are slower in transactions than with a GIL. They take turns
 * for a while: only one is attached, solo, for sys.getswitchinterval() when others wait.
 */
#include "shim.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Thread_local struct ame_py_thread *ame_py_self;

/* Guards everything below. Never held in a wait for a transaction. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct ame_py_thread *all, *free_threads;
static int attached;               /* thread states that run, solo or in transactions */
static int in_transactions;        /* those of them that run in transactions */
static int waiting;                /* threads that wait for the solo one to drop the GIL */
static struct ame_py_thread *solo;
static int clock_runs, clock_stops;
static unsigned waits;             /* of transactions for others, since the last tick */
static pthread_t clock_thread;
static pthread_cond_t clock_wanted = PTHREAD_COND_INITIALIZER;
/* Ends the pause between two ticks. */
static pthread_cond_t clock_stopped = PTHREAD_COND_INITIALIZER;
static int always;                 /* AME_ALWAYS: never solo */
static int in_turns;
static long long turns_end, turn_began, turn_end; /* nanoseconds */
static long long turns_length;
static struct ame_py_thread *had_turn;  /* who gave its turn up while others waited */
static pthread_key_t exit_key;

extern _Py_thread_local PyThreadState *_Py_tss_tstate;

void
ame_py_request_drop(struct ame_py_thread *t)
{
    if (t->tstate == NULL) {
        return;
    }
    if (t->atomic != 0) {
        /* Heard when the block ends. */
        __atomic_store_n(&t->unheard, 1, __ATOMIC_RELAXED);
        return;
    }
    _Py_set_eval_breaker_bit(t->tstate, _PY_GIL_DROP_REQUEST_BIT);
}

/* --- threads ----------------------------------------------------------------------------------- */

static void
thread_ended(void *pointer)
{
    struct ame_py_thread *self = pointer;
    pthread_mutex_lock(&mutex);
    self->waits_for_ever = 0;
    self->number = 0;
    self->next_free = free_threads;
    free_threads = self;
    pthread_mutex_unlock(&mutex);
    ame_py_self = NULL;
}

static void received(void **fields, size_t n);
static void somebody_waits(void);
static void end_is_wanted(void);
static void plain_code_comes(void);
static void stop_clock(void);

static void
init_once(void)
{
    const char *text = getenv("AME_ALWAYS");
    always = text != NULL && *text != '\0' && strcmp(text, "0") != 0;
    pthread_key_create(&exit_key, thread_ended);
    pthread_atfork(stop_clock, NULL, NULL);
    ame_set_heirs(received);
    ame_set_hot(ame_py_make_immortal);
    ame_set_wait_hook(somebody_waits);
    ame_set_end_hook(end_is_wanted);
    ame_set_plain_hook(plain_code_comes);
    /* Beside ob_refcnt there is only ob_type. */
    ame_set_headers(1);
    ame_set_fenced(1);
    ame_set_begin_hooks(ame_py_begins, ame_py_rolled_back);
    ame_py_init_host();
    ame_py_init_specialise();
}

struct ame_py_thread *
ame_py_new_self(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    pthread_mutex_lock(&mutex);
    struct ame_py_thread *self = free_threads;
    if (self != NULL) {
        free_threads = self->next_free;
    }
    else {
        self = aligned_alloc(64, (sizeof *self + 63) & ~(size_t)63);
        if (self == NULL) {
            Py_FatalError("out of memory for a thread's lists");
        }
        memset(self, 0, sizeof *self);
        for (int i = 0; i < NUM_GENERATIONS; i++) {
            ame_py_empty_list(&self->objects[i]);
        }
        ame_py_empty_list(&self->garbage);
        self->next = all;
        __atomic_store_n(&all, self, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&mutex);
    self->mode = AME_PY_OUTSIDE;
    self->number = ame_owner_of(NULL);
    /* Its last owner may have ended in a wait. */
    self->parks = self->kept = self->atomic = self->bare = self->collects = 0;
    self->waits_for_ever = self->internal = self->asked = self->stuck = self->refused = self->gave_way = 0;
    self->n_held = self->block_moves = self->short_ones = 0;
    self->block = NULL;
    ame_py_self = self;
    pthread_setspecific(exit_key, self);
    return self;
}

void *
ame_py_with_room(void *list, size_t need, size_t *room, size_t bytes)
{
    if (need <= *room) {
        return list;
    }
    size_t more = need * 2 + 62;
    void *grown = realloc(list, more * bytes);
    if (grown == NULL) {
        Py_FatalError("out of memory for what a transaction remembers");
    }
    *room = more;
    return grown;
}

struct ame_py_thread *
ame_py_all_threads(void)
{
    return __atomic_load_n(&all, __ATOMIC_ACQUIRE);
}

/* --- ticks ------------------------------------------------------------------------------------- */

static unsigned long
tick_microseconds(void)
{
    /* A fifth of sys.getswitchinterval(): 1 ms unless changed. */
    unsigned long interval = _PyRuntime._main_interpreter._gil.interval / 5;
    return interval < 20 ? 20 : interval;
}

/* Ticks are longer while nobody has to wait: what a transaction does for the first time, touch a granule,
 * costs more than the next time. Who waits asks for an end at once. */
#define LONGEST 256
/* But not where a program has set long ticks. */
#define LONGEST_MICROSECONDS 256000

/* Asks every transaction to end soon. */
static void
request_all(void)
{
    for (struct ame_py_thread *t = all; t != NULL; t = t->next) {
        if (t->mode == AME_PY_PARALLEL) {
            ame_py_request_drop(t);
        }
    }
}

void
ame_py_request_begin_since(unsigned long epoch)
{
    pthread_mutex_lock(&mutex);
    for (struct ame_py_thread *t = all; t != NULL; t = t->next) {
        if (t != ame_py_self && t->mode == AME_PY_PARALLEL && t->epoch < epoch) {
            ame_py_request_drop(t);
        }
    }
    pthread_mutex_unlock(&mutex);
}

/* With the mutex. */
static void
wait_for(pthread_cond_t *condition, unsigned long microseconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += microseconds / 1000000;
    until.tv_nsec += microseconds % 1000000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(condition, &mutex, &until);
}

static long long
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Waits of two threads in a millisecond from which on turns are faster: transactions are so short then that what each
 * touches for the first time costs more than a second processor brings. With more threads, of each pair. */
#define CROWD 30
/* In so many ticks in a row. */
#define CROWDED_TICKS 8
/* Turns are taken for so long, and twice as long each time that threads are as crowded again soon. */
#define FIRST_TURNS 100000000LL
#define LONGEST_TURNS 800000000LL
#define SOON 300000000LL
/* Who waits for its turn, while those who run are in transactions and do not end them, ends the turns: they may wait
 * for it. */
#define TURN_PATIENCE 50000000LL

/* Whether turns begin, at the end of a tick. With the mutex. */
static int
is_crowded(void)
{
    static int ticks;
    static long long last;
    long long time = now(), passed = time - last, pairs = in_transactions * (in_transactions - 1) / 2;
    last = time;
    if (always || pairs == 0 || waits * 1000000LL < CROWD * pairs * passed) {
        ticks = 0;
    }
    return ++ticks > CROWDED_TICKS;
}

static void
begin_turns(void)
{
    long long time = now();
    if (time - turns_end > SOON) {
        turns_length = FIRST_TURNS;
    }
    else if (turns_length < LONGEST_TURNS) {
        turns_length *= 2;
    }
    turns_end = time + turns_length;
    in_turns = 1;
    had_turn = NULL;
}

static void
end_turns(long long time)
{
    in_turns = 0;
    turns_end = time;
}

static void *
run_clock(void *unused)
{
    unsigned long stretch = 1;
    pthread_mutex_lock(&mutex);
    for (;;) {
        /* Ends when nobody needs it for a while: a process is over when its last thread has ended,
         * which is how the child of a fork in a thread ends. */
        for (int idle = 0; in_transactions == 0 || clock_stops; idle = 1) {
            if (idle || clock_stops) {
                if (!clock_stops) {
                    pthread_detach(pthread_self());
                }
                clock_runs = 0;
                pthread_mutex_unlock(&mutex);
                return NULL;
            }
            wait_for(&clock_wanted, 50000);
        }
        if (is_crowded() && !in_turns) {
            begin_turns();
        }
        if (waits == 0) {
            stretch = stretch < LONGEST ? stretch * 2 : LONGEST;
        }
        else {
            /* From one wait to the next. */
            stretch = waits < stretch ? stretch / waits : 1;
        }
        waits = 0;
        unsigned long tick = tick_microseconds(), left = tick * stretch;
        if (left > LONGEST_MICROSECONDS) {
            left = tick > LONGEST_MICROSECONDS ? tick : LONGEST_MICROSECONDS;
        }
        /* In steps: nobody tells when the last transaction has ended. */
        while (left != 0 && in_transactions != 0 && !clock_stops) {
            unsigned long step = left < 50000 ? left : 50000;
            wait_for(&clock_stopped, step);
            left -= step;
        }
        request_all();
    }
    return NULL;
}

static void
start_clock(void)
{
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    if (pthread_create(&clock_thread, NULL, run_clock, NULL) == 0) {
        clock_runs = 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Before a fork: Python counts threads and warns. Whoever joins next starts it again. */
static void
stop_clock(void)
{
    pthread_mutex_lock(&mutex);
    int runs = clock_runs;
    pthread_t running = clock_thread;
    clock_stops = 1;
    pthread_cond_signal(&clock_wanted);
    pthread_cond_signal(&clock_stopped);
    pthread_mutex_unlock(&mutex);
    if (runs) {
        pthread_join(running, NULL);
    }
    pthread_mutex_lock(&mutex);
    clock_stops = 0;
    pthread_mutex_unlock(&mutex);
}

/* In place of posixmodule.c's warn_about_fork_with_threads: without the clock in the count, which Python code that runs
 * after a fork may have started again. */
void
ame_py_warn_about_fork(const char *name)
{
    ame_py_irrevocable();
    int threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks != NULL) {
        for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
            threads += task->d_name[0] != '.';
        }
        closedir(tasks);
    }
    pthread_mutex_lock(&mutex);
    threads -= clock_runs;
    pthread_mutex_unlock(&mutex);
    if (threads > 1) {
        PyErr_WarnFormat(PyExc_DeprecationWarning, 1,
                         "This process (pid=%d) is multi-threaded, "
                         "use of %s() may lead to deadlocks in the child.",
                         getpid(), name);
        /* Only a warning: the child is there. */
        PyErr_Clear();
    }
}

/* The runtime found that the calling thread waits for another transaction. */
static void
somebody_waits(void)
{
    struct ame_py_thread *self = ame_py_self;
    pthread_mutex_lock(&mutex);
    /* Who has to be alone or inevitable waits as long, however short transactions are. */
    waits += self == NULL || self->reason == NULL;
    for (struct ame_py_thread *t = all; t != NULL; t = t->next) {
        if (t != self) {
            ame_py_request_drop(t);
        }
    }
    pthread_mutex_unlock(&mutex);
}

/* The runtime says so: a handler of a signal waits, say. May interrupt any code. */
static void
end_is_wanted(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self != NULL && self->mode == AME_PY_PARALLEL) {
        ame_py_request_drop(self);
    }
}

/* An extension module without barriers is called: the thread is bare until its evaluation loop looks at
 * requests again, also in transactions that begin inside of the extension. */
static void
plain_code_comes(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self != NULL && self->mode == AME_PY_PARALLEL) {
        self->bare = 1;
        ame_py_request_drop(self);
    }
}

/* --- take and drop ----------------------------------------------------------------------------- */

static void
leave(struct ame_py_thread *self)
{
    pthread_mutex_lock(&mutex);
    attached--;
    in_transactions -= self->mode == AME_PY_PARALLEL;
    self->tstate = NULL;
    self->mode = AME_PY_OUTSIDE;
    if (solo == self) {
        solo = NULL;
    }
    if (waiting != 0) {
        had_turn = self;
        pthread_cond_broadcast(&changed);
    }
    turn_end = now();
    pthread_mutex_unlock(&mutex);
}

static _Noreturn void
exit_thread(void)
{
    pthread_exit(NULL);
}

/* Whether another thread has run beside this one in the last two milliseconds. A thread that gives the GIL up
 * for short stretches (reading a file, say) is often the only one for a moment; to go solo costs more than that,
 * and its next transactions are exclusive, because it is bare then. With the mutex. */
static int
had_company(int has_it)
{
    static long long last;
    long long time = now();
    if (has_it) {
        last = time;
        return 1;
    }
    return time - last < 2000000;
}

static long long
switch_interval(void)
{
    return _PyRuntime._main_interpreter._gil.interval * 1000LL;
}

/* Asks who is attached to make room, when its turn is over. With the mutex. */
static void
ask_for_turn(long long since)
{
    long long time = now();
    if (in_turns && (time >= turns_end || (solo == NULL && time - since > TURN_PATIENCE))) {
        end_turns(time);
    }
    if (in_turns && time - turn_began < switch_interval()) {
        return;
    }
    if (solo != NULL) {
        ame_py_request_drop(solo);
    }
    else if (in_turns) {
        request_all();
    }
}

/* With the mutex. */
static int
has_to_wait(struct ame_py_thread *self)
{
    return solo != NULL || (in_turns && (attached != 0 || (had_turn == self && waiting > 1)));
}

/* Joins those who run. The mode it returns says whether a transaction has to begin. */
static enum ame_py_mode
join_in(struct ame_py_thread *self, PyThreadState *tstate)
{
    pthread_mutex_lock(&mutex);
    if (in_turns && attached == 0 && waiting == 0 && now() - turn_end > switch_interval()) {
        /* There is no crowd any more. */
        end_turns(now());
    }
    waiting++;
    /* Who was asked to drop the GIL wants it back: both run in parallel then. */
    int company = self->asked;
    unsigned long long since = 0;
    long long began = 0;
    while (has_to_wait(self)) {
        company = 1;
        if (since == 0) {
            since = __builtin_ia32_rdtsc();
            began = now();
        }
        ask_for_turn(began);
        wait_for(&changed, 5000);
        if (_PyThreadState_MustExit(tstate)) {
            waiting--;
            pthread_mutex_unlock(&mutex);
            exit_thread();
        }
    }
    waiting--;
    attached++;
    enum ame_py_mode mode;
    company = had_company(company || attached > 1 || waiting != 0);
    if (in_turns) {
        turn_began = now();
        had_turn = NULL;
        /* A block needs a transaction that can be rolled back. */
        company = self->asked;
    }
    if (!company && !always) {
        mode = AME_PY_SOLO;
        solo = self;
        self->bare = 1;
    }
    else {
        mode = AME_PY_PARALLEL;
        in_transactions++;
        if (!clock_runs) {
            start_clock();
        }
        pthread_cond_signal(&clock_wanted);
    }
    int turns = in_turns;
    self->mode = mode;
    self->epoch = atomic_load(&ame_py_epoch);
    __atomic_store_n(&self->tstate, tstate, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&mutex);
    if (since != 0) {
        ame_py_waited_to_join(since, turns);
    }
    return mode;
}

/* What others have said to all threads meanwhile: pending calls; a signal, also one whose handler a rollback has undone;
 * and the version of the monitoring tools, which changes only where no transaction runs. (RESUME goes round in a circle
 * for ever with a version that is not the interpreter's.) */
static void
hear(PyThreadState *tstate)
{
    PyInterpreterState *interp = tstate->interp;
    if (_Py_atomic_load_int32_relaxed(&interp->ceval.pending.npending) != 0 ||
        (_Py_IsMainThread() &&
         _Py_atomic_load_int32_relaxed(&_PyRuntime.ceval.pending_mainthread.npending) != 0)) {
        _Py_set_eval_breaker_bit(tstate, _PY_CALLS_TO_DO_BIT);
    }
    if (_Py_atomic_load_int(&_PyRuntime.signals.is_tripped) && _Py_ThreadCanHandleSignals(interp)) {
        _Py_set_eval_breaker_bit(tstate, _PY_SIGNALS_PENDING_BIT);
    }
    uintptr_t version = _Py_atomic_load_uintptr_relaxed(&interp->ceval.instrumentation_version) &
                        ~_PY_EVAL_EVENTS_MASK;
    uintptr_t old = _Py_atomic_load_uintptr_relaxed(&tstate->eval_breaker);
    while ((old & ~_PY_EVAL_EVENTS_MASK) != version &&
           !_Py_atomic_compare_exchange_uintptr(&tstate->eval_breaker, &old,
                                                (old & _PY_EVAL_EVENTS_MASK) | version)) {
    }
}

static void
begin(struct ame_py_thread *self)
{
    /* Returns again after a rollback, with this frame as it is now. */
    ame_begin();
    if (self->parks != 0) {
        ame_inevitable_from_begin();
    }
    if (_PyThreadState_MustExit(self->tstate)) {
        /* Python was finalised while it waited for its turn. */
        ame_commit();
        leave(self);
        exit_thread();
    }
    if (self->bare) {
        self->reason = __func__;
        ame_make_exclusive();
    }
    self->reason = NULL;
    hear(self->tstate);
    if (self->short_ones != 0) {
        ame_py_request_drop(self);
    }
}

static void
commit(struct ame_py_thread *self)
{
    ame_commit();
    if (self->short_ones != 0) {
        self->short_ones--;
    }
}

void
ame_py_take_gil(PyThreadState *tstate)
{
    int err = errno;
    if (_PyThreadState_MustExit(tstate)) {
        exit_thread();
    }
    struct ame_py_thread *self = ame_py_get_self();
    /* Before a transaction begins: who asks from then on is heard. */
    _Py_unset_eval_breaker_bit(tstate, _PY_GIL_DROP_REQUEST_BIT);
    if (self->kept != 0) {
        /* Inside `with ame.atomic` nothing was dropped. */
        self->kept--;
    }
    else if (self->mode != AME_PY_OUTSIDE) {
        /* A child after fork: the GIL was made anew, the thread never let go. */
        self->tstate = tstate;
    }
    else {
        ame_py_await_starter(tstate);
        if (join_in(self, tstate) == AME_PY_PARALLEL) {
            begin(self);
        }
    }
    if (self->mode == AME_PY_SOLO && _PyThreadState_MustExit(tstate)) {
        leave(self);
        exit_thread();
    }
    struct _gil_runtime_state *gil = tstate->interp->ceval.gil;
    __atomic_store_n(&gil->locked, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&gil->last_holder, tstate, __ATOMIC_RELAXED);
    tstate->_status.holds_gil = 1;
    if (self->mode == AME_PY_SOLO ? self->last == AME_PY_PARALLEL : self->bare) {
        /* The evaluation loop is in the wrong copy: it has to look (copies.c). */
        ame_py_request_drop(self);
    }
    self->last = self->mode;
    if (self->mode == AME_PY_SOLO) {
        hear(tstate);
    }
    if (self->collected_by != tstate->interp) {
        /* Last: it wants the end of the transaction. */
        ame_py_change_interpreter(self, tstate->interp);
    }
    errno = err;
}

void
ame_py_leave_to_burial(PyObject *op)
{
    struct ame_py_thread *self = ame_py_get_self();
    self->dead = ame_py_with_room(self->dead, self->n_dead + 1, &self->room_for_dead, sizeof *self->dead);
    self->dead[self->n_dead++] = op;
}

/* Merged counts that came to nothing: called by the runtime right after a commit. */
static void
received(void **fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ame_py_leave_to_burial(fields[i]);
    }
}

/* Deallocates what the last commit left, in transactions, with the thread state as if attached.
 * Deallocators may run Python code and drop the GIL themselves. */
static void
bury(struct ame_py_thread *self, PyThreadState *tstate)
{
    PyThreadState *current = _Py_tss_tstate;
    PyObject **dead = self->dead;
    size_t n = self->n_dead, done = 0;
    self->dead = NULL;
    self->n_dead = self->room_for_dead = 0;
    /* What this plain code stores is not undone: all that is restored later is read before begin. */
    int state = tstate->state, bare = self->bare;
    PyObject *exception = tstate->current_exception;
    /* Nothing here is plain code that waits, except for this function. */
    self->bare = 0;
    begin(self);
    _Py_tss_tstate = tstate;
    tstate->state = _Py_THREAD_ATTACHED;
    tstate->current_exception = NULL;
    pyame_bury(dead, n, &done);
    tstate->current_exception = exception;
    tstate->state = state;
    _Py_tss_tstate = current;
    if (self->mode == AME_PY_PARALLEL) {
        ame_commit();
    }
    self->bare = bare || self->mode == AME_PY_SOLO;
    free(dead);
}

void
ame_py_renew(struct ame_py_thread *self)
{
    commit(self);
    while (self->n_dead != 0) {
        bury(self, self->tstate);
    }
    /* Before it begins: who asks from then on is heard. */
    _Py_unset_eval_breaker_bit(self->tstate, _PY_GIL_DROP_REQUEST_BIT);
    if (self->mode == AME_PY_PARALLEL) {
        begin(self);
    }
}

void
ame_py_drop_gil(PyInterpreterState *interp, PyThreadState *tstate, int final_release)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->mode == AME_PY_OUTSIDE) {
        Py_FatalError("drop_gil: GIL is not locked");
    }
    if (self->atomic != 0 && final_release) {
        /* The thread ends in the block (of a generator, say, that somebody else has): so does the block. */
        self->atomic = 0;
        ame_py_block_ends(self);
    }
    else if (self->atomic != 0) {
        if (self->mode == AME_PY_PARALLEL) {
            self->reason = __func__;
            ame_make_inevitable();
            self->reason = NULL;
        }
        self->kept++;
        return;
    }
    if (tstate == NULL) {
        tstate = self->tstate;
    }
    if (self->mode == AME_PY_PARALLEL) {
        commit(self);
        while (self->n_dead != 0) {
            bury(self, tstate);
        }
    }
    tstate->_status.holds_gil = 0;
    leave(self);
}

/* The child of a fork has one thread, and it holds the GIL. */
void
ame_py_recreate_gil(struct _gil_runtime_state *gil)
{
    struct ame_py_thread *self = ame_py_get_self();
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&changed, NULL);
    pthread_cond_init(&clock_wanted, NULL);
    pthread_cond_init(&clock_stopped, NULL);
    clock_runs = 0;
    waiting = in_turns = 0;
    attached = self->mode == AME_PY_OUTSIDE ? 0 : 1;
    in_transactions = self->mode == AME_PY_PARALLEL;
    solo = self->mode == AME_PY_SOLO ? self : NULL;
    for (struct ame_py_thread *t = all; t != NULL; t = t->next) {
        if (t != self) {
            t->tstate = NULL;
            t->mode = AME_PY_OUTSIDE;
            t->waits_for_ever = 0;
        }
    }
    __atomic_store_n(&gil->locked, 1, __ATOMIC_RELAXED);
}

/* A signal or a pending call. Runs in signal handlers: takes no lock. Whoever runs looks. */
void
ame_py_signal_active_thread(PyInterpreterState *interp, uintptr_t bit)
{
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        PyThreadState *tstate = __atomic_load_n(&t->tstate, __ATOMIC_ACQUIRE);
        if (tstate != NULL && tstate->interp == interp) {
            _Py_set_eval_breaker_bit(tstate, bit);
        }
    }
}

/* From here on other threads end where they want the GIL: those that run have to come there first. */
void
ame_py_set_finalizing(_PyRuntimeState *runtime, PyThreadState *tstate)
{
    if (tstate != NULL) {
        ame_py_alone();
    }
    _PyRuntimeState_SetFinalizing(runtime, tstate);
}

/* Its body is plain: what it adds, under a lock, is there at once. */
_Py_add_pending_call_result
ame_py_add_pending_call(PyInterpreterState *interp, _Py_pending_call_func function, void *argument, int flags)
{
    ame_py_irrevocable();
    return _PyEval_AddPendingCall(interp, function, argument, flags);
}

/* --- irrevocable ------------------------------------------------------------------------------- */

void
ame_py_irrevocable_for(const char *reason)
{
    struct ame_py_thread *self = ame_py_self;
    if (self != NULL && self->mode == AME_PY_PARALLEL && ame_in_transaction()) {
        self->reason = reason;
        ame_make_inevitable();
        self->reason = NULL;
        self->short_ones = 2;
        ame_py_request_drop(self);
    }
}

void
ame_py_alone_for(const char *reason)
{
    struct ame_py_thread *self = ame_py_self;
    if (self != NULL && self->mode == AME_PY_PARALLEL && ame_in_transaction()) {
        self->reason = reason;
        /* It asks for its end itself. */
        ame_make_exclusive();
        self->reason = NULL;
    }
}
