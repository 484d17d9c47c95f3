/* CPython's own locks. They are words that threads outside of transactions change too, so a
 * transaction that touches one cannot be rolled back any more; it ends at the next opportunity.
 * A thread gets the runtime's one token before it looks at a lock: two transactions that want each
 * other's locks and memory cannot exist. */
#include "shim.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

int
ame_py_mutex_try_unlock(PyMutex *m)
{
    struct ame_py_thread *self = ame_py_self;
    if (ame_py_in_block(self)) {
        return ame_py_block_release(self, m, &ame_py_mutex);
    }
    ame_py_irrevocable();
    return _PyMutex_TryUnlock(m);
}

int
ame_py_mutex_lock_fast(uint8_t *bits)
{
    ame_py_irrevocable();
    uint8_t expected = _Py_UNLOCKED;
    return _Py_atomic_compare_exchange_uint8(bits, &expected, _Py_LOCKED);
}

/* Cycles of the time stamp counter, 2 to 4 in a nanosecond. */
#define LONG 5000000

/* Before a program takes a lock, for which the GIL may be given up. While a transaction waits for the token, who has it may
 * want memory that the transaction holds, and roll it back: one with much to lose ends first. */
static void
end_long_transaction(struct ame_py_thread *self)
{
    if (self != NULL && self->mode == AME_PY_PARALLEL && self->atomic == 0 && ame_at_stake() > LONG) {
        PyThreadState *tstate = self->tstate;
        _PyThreadState_Detach(tstate);
        _PyThreadState_Attach(tstate);
    }
}

/* One of the interpreter's own. */
void
ame_py_mutex_lock_flags(PyMutex *m, _PyLockFlags flags)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic != 0 && self->mode == AME_PY_PARALLEL) {
        ame_py_let_others_release(self, m);
    }
    if (!ame_py_mutex_lock_fast(&m->_bits)) {
        self->internal++;
        _PyMutex_LockTimed(m, -1, flags);
        self->internal--;
    }
}

PyLockStatus
ame_py_mutex_lock_timed(PyMutex *m, PyTime_t timeout, _PyLockFlags flags)
{
    struct ame_py_thread *self = ame_py_self;
    if (ame_py_in_block(self)) {
        if (flags & _PY_LOCK_HANDLE_SIGNALS) {
            return ame_py_block_acquire(self, m, &ame_py_mutex, timeout < 0);
        }
        ame_py_mutex_lock_flags(m, flags);
        return PY_LOCK_ACQUIRED;
    }
    if (flags & _PY_LOCK_HANDLE_SIGNALS) {
        end_long_transaction(self);
    }
    ame_py_irrevocable();
    return _PyMutex_LockTimed(m, timeout, flags);
}

void
ame_py_mutex_lock(PyMutex *m)
{
    ame_py_mutex_lock_flags(m, _PY_LOCK_DETACH);
}

void
ame_py_mutex_unlock(PyMutex *m)
{
    ame_py_irrevocable();
    uint8_t expected = _Py_LOCKED;
    if (!_Py_atomic_compare_exchange_uint8(&m->_bits, &expected, _Py_UNLOCKED) &&
        _PyMutex_TryUnlock(m) < 0) {
        Py_FatalError("unlocking mutex that is not locked");
    }
}

int
ame_py_mutex_is_locked(PyMutex *m)
{
    struct ame_py_thread *self = ame_py_self;
    struct ame_py_held *held = ame_py_in_block(self) ? ame_py_find_held(self, m) : NULL;
    return held != NULL ? held->locked : (_Py_atomic_load_uint8(&m->_bits) & _Py_LOCKED) != 0;
}

int
ame_py_event_wait_timed(PyEvent *event, PyTime_t timeout, int detach)
{
    ame_py_irrevocable();
    return PyEvent_WaitTimed(event, timeout, detach);
}

void
ame_py_event_wait(PyEvent *event)
{
    struct ame_py_thread *self = ame_py_get_self();
    ame_py_irrevocable();
    self->internal++;
    PyEvent_Wait(event);
    self->internal--;
}

void
ame_py_event_notify(PyEvent *event)
{
    ame_py_irrevocable();
    _PyEvent_Notify(event);
}

int
ame_py_call_once_slow(_PyOnceFlag *flag, _Py_once_fn_t *function, void *argument)
{
    struct ame_py_thread *self = ame_py_get_self();
    ame_py_irrevocable();
    self->internal++;
    int result = _PyOnceFlag_CallOnceSlow(flag, function, argument);
    self->internal--;
    return result;
}

/* Other threads cannot end the wait of an atomic block in a transaction: they would need the token. One that
 * has ended, and only has to say so, can. */
static int
park_in_block(struct ame_py_thread *self, const void *address, const void *expected, size_t size,
              PyTime_t timeout)
{
    const PyTime_t step = 1000000, patience = 100 * step;
    for (PyTime_t left = timeout < 0 ? patience : timeout; left > 0; left -= step) {
        if (memcmp(address, expected, size) != 0) {
            return Py_PARK_AGAIN;
        }
        struct timespec pause = {0, left < step ? left : step};
        nanosleep(&pause, NULL);
    }
    if (timeout >= 0) {
        return Py_PARK_TIMEOUT;
    }
    ame_py_refuse_to_wait(self);
    return Py_PARK_INTR;
}

/* After a wait that was interrupted, or refused. */
int
ame_py_make_pending_calls(void)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->refused) {
        self->refused = 0;
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    return Py_MakePendingCalls();
}

int
ame_py_park(const void *address, const void *expected, size_t size, PyTime_t timeout, void *argument,
            int detach)
{
    struct ame_py_thread *self = ame_py_get_self();
    ame_py_irrevocable();
    if (self->atomic != 0 && self->internal == 0) {
        return park_in_block(self, address, expected, size, timeout);
    }
    /* A thread that has waited takes the GIL again in there, in another transaction, and then takes itself
     * out of the list of waiters, or changes the lock: all that must happen once. */
    self->parks++;
    self->waits_for_ever += timeout < 0;
    int result = _PyParkingLot_Park(address, expected, size, timeout, argument, detach);
    self->waits_for_ever -= timeout < 0;
    self->parks--;
    ame_py_irrevocable();
    return result;
}

void
ame_py_unpark(const void *address, _Py_unpark_fn_t *function, void *argument)
{
    ame_py_irrevocable();
    _PyParkingLot_Unpark(address, function, argument);
}

void
ame_py_unpark_all(const void *address)
{
    ame_py_irrevocable();
    _PyParkingLot_UnparkAll(address);
}

int
ame_py_acquire_lock(PyThread_type_lock lock, int wait)
{
    struct ame_py_thread *self = ame_py_self;
    if (ame_py_in_block(self) && ame_py_block_acquire_internal(self, lock)) {
        return 1;
    }
    ame_py_irrevocable();
    return PyThread_acquire_lock(lock, wait);
}

/* A buffered file's, which another thread has. In an atomic block that cannot be rolled back, or that no other thread runs
 * beside, nobody can give it back. */
PyLockStatus
ame_py_acquire_file_lock(PyThread_type_lock lock)
{
    struct ame_py_thread *self = ame_py_self;
    if (!ame_py_in_block(self)) {
        return ame_py_acquire_lock(lock, 1) ? PY_LOCK_ACQUIRED : PY_LOCK_FAILURE;
    }
    return ame_py_block_acquire_internal(self, lock) ? PY_LOCK_ACQUIRED : PY_LOCK_INTR;
}

int
ame_py_file_is_busy(void)
{
    ame_py_refuse_to_wait(ame_py_get_self());
    return 0;
}

/* C code that waits for a lock with its interpreter's GIL may wait for an interpreter that has another.
 * Here they share the one token, so the wait gives the GIL up. */
static int
others_have_gils(void)
{
    PyInterpreterState *main = PyInterpreterState_Main();
    for (PyInterpreterState *i = PyInterpreterState_Head(); i != NULL; i = PyInterpreterState_Next(i)) {
        if (i != main && i->ceval.own_gil) {
            return 1;
        }
    }
    return 0;
}

PyLockStatus
ame_py_acquire_lock_timed(PyThread_type_lock lock, PY_TIMEOUT_T microseconds, int interruptible)
{
    struct ame_py_thread *self = ame_py_get_self();
    if (self->atomic != 0 && ame_py_block_acquire_internal(self, lock)) {
        return PY_LOCK_ACQUIRED;
    }
    ame_py_irrevocable();
    PyThreadState *detached = NULL;
    if (microseconds != 0 && others_have_gils() && _PyThreadState_GET() != NULL) {
        if (PyThread_acquire_lock_timed(lock, 0, 0) == PY_LOCK_ACQUIRED) {
            return PY_LOCK_ACQUIRED;
        }
        detached = PyEval_SaveThread();
    }
    self->waits_for_ever += microseconds < 0;
    PyLockStatus status = PyThread_acquire_lock_timed(lock, microseconds, interruptible);
    self->waits_for_ever -= microseconds < 0;
    if (detached != NULL) {
        PyEval_RestoreThread(detached);
    }
    return status;
}

PyLockStatus
ame_py_acquire_lock_with_retries(PyThread_type_lock lock, PY_TIMEOUT_T timeout)
{
    struct ame_py_thread *self = ame_py_self;
    if (ame_py_in_block(self)) {
        return ame_py_block_acquire(self, lock, &ame_py_semaphore, timeout < 0);
    }
    end_long_transaction(self);
    return PyThread_acquire_lock_timed_with_retries(lock, timeout);
}

void
ame_py_release_lock(PyThread_type_lock lock)
{
    struct ame_py_thread *self = ame_py_self;
    if (ame_py_in_block(self)) {
        ame_py_block_release(self, lock, &ame_py_semaphore);
        return;
    }
    ame_py_irrevocable();
    PyThread_release_lock(lock);
}

void
ame_py_free_lock(PyThread_type_lock lock)
{
    ame_py_irrevocable();
    PyThread_free_lock(lock);
}

/* --- starting threads --------------------------------------------------------------------------- */

/* The new thread gets what the transaction that starts it has made, and nobody else knows: such memory is not
 * locked. With the GIL it would come to run Python code when its starter lets go, so it waits for that here. */
struct start {
    void (*function)(void *);
    void *argument;
    struct ame_py_thread *starter;
    unsigned long serial;
};

/* Of this thread, until its starter's transaction has ended. */
static _Thread_local struct start origin;

static void
started(void *pointer)
{
    origin = *(struct start *)pointer;
    free(pointer);
    origin.function(origin.argument);
}

static struct start *
start_of(void (*function)(void *), void *argument)
{
    struct ame_py_thread *self = ame_py_self;
    ame_py_irrevocable_for("ame_py_start");
    struct start *start = malloc(sizeof *start);
    if (start != NULL) {
        int in_transaction = self != NULL && self->mode == AME_PY_PARALLEL;
        *start = (struct start){function, argument, in_transaction ? self : NULL, self != NULL ? self->serial : 0};
    }
    return start;
}

int
ame_py_start_joinable_thread(void (*function)(void *), void *argument, PyThread_ident_t *ident,
                             PyThread_handle_t *handle)
{
    if (ame_py_in_block(ame_py_self)) {
        /* threading waits for the thread to say that it runs. */
        PyErr_SetString(PyExc_RuntimeError, "cannot start a thread inside an atomic block: nobody would know of it before the "
                                            "block is over. Start it before the block, or leave the block first");
        return -1;
    }
    struct start *start = start_of(function, argument);
    int result = start == NULL ? -1 : PyThread_start_joinable_thread(started, start, ident, handle);
    if (result != 0) {
        free(start);
    }
    return result;
}

unsigned long
ame_py_start_new_thread(void (*function)(void *), void *argument)
{
    struct start *start = start_of(function, argument);
    unsigned long ident = start == NULL ? PYTHREAD_INVALID_THREAD_ID : PyThread_start_new_thread(started, start);
    if (ident == PYTHREAD_INVALID_THREAD_ID) {
        free(start);
    }
    return ident;
}

void
ame_py_await_starter(PyThreadState *tstate)
{
    while (origin.starter != NULL && __atomic_load_n(&origin.starter->serial, __ATOMIC_ACQUIRE) == origin.serial &&
           __atomic_load_n(&origin.starter->mode, __ATOMIC_ACQUIRE) == AME_PY_PARALLEL &&
           !_PyThreadState_MustExit(tstate)) {
        struct timespec pause = {0, 20000};
        nanosleep(&pause, NULL);
    }
    origin.starter = NULL;
}
