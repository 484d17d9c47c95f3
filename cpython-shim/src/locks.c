/* CPython's own locks. They are words that threads outside of transactions change too, so a
 * transaction that touches one cannot be rolled back any more; it ends at the next opportunity.
 * A thread gets the runtime's one token before it looks at a lock: two transactions that want each
 * other's locks and memory cannot exist. */
#include "shim.h"

PyLockStatus
ame_py_mutex_lock_timed(PyMutex *m, PyTime_t timeout, _PyLockFlags flags)
{
    ame_py_irrevocable();
    return _PyMutex_LockTimed(m, timeout, flags);
}

int
ame_py_mutex_try_unlock(PyMutex *m)
{
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

void
ame_py_mutex_lock_flags(PyMutex *m, _PyLockFlags flags)
{
    if (!ame_py_mutex_lock_fast(&m->_bits)) {
        _PyMutex_LockTimed(m, -1, flags);
    }
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
    return (_Py_atomic_load_uint8(&m->_bits) & _Py_LOCKED) != 0;
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
    ame_py_irrevocable();
    PyEvent_Wait(event);
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
    ame_py_irrevocable();
    return _PyOnceFlag_CallOnceSlow(flag, function, argument);
}

int
ame_py_park(const void *address, const void *expected, size_t size, PyTime_t timeout, void *argument,
            int detach)
{
    struct ame_py_thread *self = ame_py_get_self();
    ame_py_irrevocable();
    /* A thread that has waited takes the GIL again in there, in another transaction, and then takes itself
     * out of the list of waiters, or changes the lock: all that must happen once. */
    self->parks++;
    int result = _PyParkingLot_Park(address, expected, size, timeout, argument, detach);
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
    ame_py_irrevocable();
    return PyThread_acquire_lock(lock, wait);
}

PyLockStatus
ame_py_acquire_lock_timed(PyThread_type_lock lock, PY_TIMEOUT_T microseconds, int interruptible)
{
    ame_py_irrevocable();
    return PyThread_acquire_lock_timed(lock, microseconds, interruptible);
}

void
ame_py_release_lock(PyThread_type_lock lock)
{
    ame_py_irrevocable();
    PyThread_release_lock(lock);
}

void
ame_py_free_lock(PyThread_type_lock lock)
{
    ame_py_irrevocable();
    PyThread_free_lock(lock);
}

int
ame_py_start_joinable_thread(void (*function)(void *), void *argument, PyThread_ident_t *ident,
                             PyThread_handle_t *handle)
{
    ame_py_irrevocable();
    return PyThread_start_joinable_thread(function, argument, ident, handle);
}
