/* Locks in atomic blocks (`with ame.atomic`).
 *
 * A block is one step of the serial order, so a lock that another thread holds when the block wants it is
 * not released before the block's end. The block is rolled back then, waits outside of transactions
 * until the lock looks free, and runs again: as if it had come later. For that what a block does to
 * locks must be undone:
 *
 * - It has the runtime's token from its first lock on, so that nobody else looks at lock words, and
 *   can still be rolled back.
 * - It really takes a lock when it acquires it, and gives it back in a rollback.
 * - What it releases is released at its end. Until then only the entry in `self->held` changes.
 *
 * A lock can never be granted when the block itself has taken it; when the transaction cannot be rolled
 * back any more (it has printed, say); or when all other threads wait for ever as well. Then acquire()
 * raises RuntimeError. With a timeout it is not granted. Plain code. */
#include "shim.h"
#include <semaphore.h>
#include <time.h>

/* What there is to know of a kind of lock. */
struct ame_py_lock_kind {
    int (*is_free)(void *lock);
    int (*try_take)(void *lock);
    /* Undoes a try_take that nobody has seen. */
    void (*put_back)(void *lock);
    /* For all to see; wakes who waits. Negative when it was not locked. */
    int (*release)(void *lock);
};

static int
mutex_is_free(void *lock)
{
    return (_Py_atomic_load_uint8(&((PyMutex *)lock)->_bits) & _Py_LOCKED) == 0;
}

static int
mutex_try_take(void *lock)
{
    return (__atomic_fetch_or(&((PyMutex *)lock)->_bits, _Py_LOCKED, __ATOMIC_SEQ_CST) & _Py_LOCKED) == 0;
}

static void
mutex_put_back(void *lock)
{
    __atomic_fetch_and(&((PyMutex *)lock)->_bits, ~_Py_LOCKED, __ATOMIC_SEQ_CST);
}

static int
mutex_release(void *lock)
{
    return _PyMutex_TryUnlock(lock);
}

static int
semaphore_is_free(void *lock)
{
    int value = 0;
    return sem_getvalue(lock, &value) == 0 && value > 0;
}

static int
semaphore_try_take(void *lock)
{
    return sem_trywait(lock) == 0;
}

static void
semaphore_put_back(void *lock)
{
    sem_post(lock);
}

static int
semaphore_release(void *lock)
{
    return sem_post(lock);
}

const struct ame_py_lock_kind ame_py_mutex = {mutex_is_free, mutex_try_take, mutex_put_back,
                                              mutex_release};
/* PyThread_type_lock is a semaphore on Linux (Python/thread_pthread.h). */
const struct ame_py_lock_kind ame_py_semaphore = {semaphore_is_free, semaphore_try_take,
                                                  semaphore_put_back, semaphore_release};

/* --- what the block has done -------------------------------------------------------------------- */

struct ame_py_held *
ame_py_find_held(struct ame_py_thread *self, void *lock)
{
    for (int i = 0; i < self->n_held; i++) {
        if (self->held[i].lock == lock) {
            return &self->held[i];
        }
    }
    return NULL;
}

static void
note(struct ame_py_thread *self, void *lock, const struct ame_py_lock_kind *kind, int taken, int locked)
{
    self->held[self->n_held++] = (struct ame_py_held){lock, kind, taken, locked};
    /* A collection of all in the block may free it before it is released. */
    ame_keep(lock);
}

/* Whether what happens to one more lock has to be noted. A transaction that stays has nothing to undo; and
 * the memory of a lock that it frees may become another one at once. */
static int
must_note(struct ame_py_thread *self)
{
    if (self->n_held == MOST_HELD) {
        ame_make_inevitable();
    }
    return ame_revocable();
}

void
ame_py_locks_rolled_back(struct ame_py_thread *self)
{
    for (int i = 0; i < self->n_held; i++) {
        if (self->held[i].taken) {
            self->held[i].kind->put_back(self->held[i].lock);
        }
    }
    self->n_held = 0;
    self->refused = 0;
}

void
ame_py_block_ends(struct ame_py_thread *self)
{
    self->stuck = self->gave_way = 0;
    if (__atomic_exchange_n(&self->unheard, 0, __ATOMIC_RELAXED)) {
        ame_py_request_drop(self);
    }
    if (self->n_held == 0) {
        return;
    }
    ame_make_inevitable();
    int n = self->n_held;
    self->n_held = 0;
    for (int i = 0; i < n; i++) {
        if (!self->held[i].locked) {
            self->held[i].kind->release(self->held[i].lock);
        }
    }
    ame_py_request_drop(self);
}

/* --- waiting ------------------------------------------------------------------------------------ */

#define POLL_NS 50000
#define LONGEST_POLL_NS 2000000
/* A block runs again at the latest after so long: the lock that it waits for may not exist any more. */
#define AGAIN_NS 100000000
/* So many times in a row nobody else could run: then nobody will. */
#define ENOUGH 8
/* How often a block gives way for locks of the interpreter's own. */
#define MOST_TIMES 50

/* Whether all other threads wait for ever. Who is not attached for another reason may come back. */
static int
all_wait(struct ame_py_thread *self)
{
    int states = 0, waiting = 1;
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *t = self->tstate->interp->threads.head; t != NULL; t = t->next) {
        states++;
    }
    HEAD_UNLOCK(&_PyRuntime);
    for (struct ame_py_thread *t = ame_py_all_threads(); t != NULL; t = t->next) {
        waiting += t != self && __atomic_load_n(&t->waits_for_ever, __ATOMIC_ACQUIRE) != 0;
    }
    return waiting >= states;
}

static long
nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Outside of transactions, after the rollback. */
static void
await(void *pointer)
{
    struct ame_py_thread *self = pointer;
    long end = nanoseconds() + AGAIN_NS, poll = POLL_NS;
    __atomic_store_n(&self->waits_for_ever, 1, __ATOMIC_RELEASE);
    while (!self->awaited_kind->is_free(self->awaited) && nanoseconds() < end) {
        struct timespec pause = {0, poll};
        nanosleep(&pause, NULL);
        poll = poll * 2 < LONGEST_POLL_NS ? poll * 2 : LONGEST_POLL_NS;
    }
    if (!all_wait(self) || self->awaited_kind->is_free(self->awaited)) {
        self->stuck = 0;
    }
    else {
        self->stuck++;
    }
    __atomic_store_n(&self->waits_for_ever, 0, __ATOMIC_RELEASE);
}

static PyLockStatus
refuse(struct ame_py_thread *self, const char *why)
{
    self->stuck = 0;
    PyErr_Format(PyExc_RuntimeError,
                 "cannot wait inside an atomic block: %s. Wait before the block, or leave the block first", why);
    return PY_LOCK_INTR;
}

/* For waits that are no acquire(): of plain code that makes what it waits for true only after the block. */
void
ame_py_refuse_to_wait(struct ame_py_thread *self)
{
    refuse(self, "no other thread can end this wait before the block is over");
    self->refused = 1;
}

/* Rolls back, if that is possible, and runs the block again when the lock looks free. */
static void
give_way(struct ame_py_thread *self, void *lock, const struct ame_py_lock_kind *kind)
{
    if (ame_revocable() && self->stuck < ENOUGH) {
        self->awaited = lock;
        self->awaited_kind = kind;
        ame_on_abort(await, self);
        ame_roll_back();
    }
}

void
ame_py_let_others_release(struct ame_py_thread *self, PyMutex *m)
{
    ame_hold_token();
    if (!mutex_is_free(m)) {
        give_way(self, m, &ame_py_mutex);
    }
}

PyLockStatus
ame_py_block_acquire(struct ame_py_thread *self, void *lock, const struct ame_py_lock_kind *kind,
                     int may_wait)
{
    int own = 0;
    if (self->mode != AME_PY_PARALLEL) {
        if (kind->try_take(lock)) {
            return PY_LOCK_ACQUIRED;
        }
    }
    else {
        ame_hold_token();
        struct ame_py_held *held = ame_py_find_held(self, lock);
        if (held != NULL) {
            if (!held->locked) {
                held->locked = 1;
                return PY_LOCK_ACQUIRED;
            }
            own = 1;
        }
        else if (ame_is_fresh(lock)) {
            /* Nobody else knows it, and a rollback forgets it. */
            if (kind->try_take(lock)) {
                return PY_LOCK_ACQUIRED;
            }
            own = 1;
        }
        else {
            int noted = must_note(self);
            if (kind->try_take(lock)) {
                if (noted) {
                    note(self, lock, kind, 1, 1);
                }
                return PY_LOCK_ACQUIRED;
            }
        }
    }
    if (!may_wait) {
        return PY_LOCK_FAILURE;
    }
    if (PyErr_CheckSignals() < 0) {
        return PY_LOCK_INTR;
    }
    if (own) {
        return refuse(self, "the block itself has taken this lock, which nobody can release before its end "
                            "(conditions, events and queues wait for such a lock)");
    }
    if (self->mode != AME_PY_PARALLEL) {
        return refuse(self, "the lock is held, and no other thread runs before the block is over");
    }
    give_way(self, lock, kind);
    if (self->stuck != 0) {
        return refuse(self, "the lock is held, and all other threads wait for ever as well");
    }
    return refuse(self, "the lock is held, and what the block has done so far cannot be rolled back to let its "
                        "holder go first");
}

int
ame_py_block_acquire_internal(struct ame_py_thread *self, void *lock)
{
    if (ame_py_block_acquire(self, lock, &ame_py_semaphore, 0) == PY_LOCK_ACQUIRED) {
        return 1;
    }
    /* Not for ever: a file whose lock this thread has taken before the block says so when it cannot have it. */
    if (self->mode == AME_PY_PARALLEL && ame_py_find_held(self, lock) == NULL &&
        self->gave_way++ < MOST_TIMES) {
        give_way(self, lock, &ame_py_semaphore);
    }
    return 0;
}

int
ame_py_block_release(struct ame_py_thread *self, void *lock, const struct ame_py_lock_kind *kind)
{
    if (self->mode != AME_PY_PARALLEL) {
        return kind->release(lock);
    }
    ame_hold_token();
    struct ame_py_held *held = ame_py_find_held(self, lock);
    if (held != NULL) {
        int locked = held->locked;
        held->locked = 0;
        return locked ? 0 : -1;
    }
    if (kind->is_free(lock)) {
        return -1;
    }
    if (ame_is_fresh(lock)) {
        kind->put_back(lock);
    }
    else if (must_note(self)) {
        note(self, lock, kind, 0, 0);
    }
    else {
        return kind->release(lock);
    }
    return 0;
}
