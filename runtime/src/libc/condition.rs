//! Condition variables.
//!
//! A wait releases the mutex so that others can change what is waited for; an open transaction
//! would keep them out. So it is a boundary: the transaction commits, the thread waits, and a new
//! transaction begins, at the same depth. POSIX programs expect no less, as they must look at
//! everything again after a wait. The mutex is let go between the wait and the new transaction,
//! which takes it as any transaction does: what happens in between is a spurious wakeup, which POSIX
//! allows, and nobody waits for a transaction with the mutex held.
//!
//! Signals wait for commit.

use super::effects::Effect;
use super::lock::{self, Kind, Patience};
use super::{defers, transaction};
use crate::caller::pc;
use crate::{access, entry};
use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, timespec};
use std::ffi::c_int;

extern "C" {
    fn pthread_cond_clockwait(
        c: *mut pthread_cond_t,
        m: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Runs `wait` outside of the transaction. It must not own memory: the transaction that begins
/// behind it may return here several times.
unsafe fn outside(m: *mut pthread_mutex_t, wait: impl Fn() -> c_int) -> c_int {
    if entry::ame_in_transaction() == 0 {
        return wait();
    }
    entry::ame_boundary_enter();
    let mut code = wait();
    // With any other error the mutex has not been touched.
    let waited = code == 0 || code == libc::ETIMEDOUT;
    // SAFETY: a successful wait returns with the mutex held.
    unsafe {
        if waited {
            libc::pthread_mutex_unlock(m);
        }
        entry::ame_boundary_leave();
        if waited {
            let relocked = match transaction() {
                None => libc::pthread_mutex_lock(m),
                Some(thread) => lock::acquire(thread, Kind::Mutex, m as usize, Patience::Forever),
            };
            if relocked != 0 {
                code = relocked;
            }
        }
    }
    code
}

/// # Safety
/// As pthread_cond_wait.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_wait(
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's promise, as in all functions here.
    unsafe { outside(m, || libc::pthread_cond_wait(c, m)) }
}

/// # Safety
/// As pthread_cond_timedwait.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_timedwait(
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above. The time is read after the commit: it is the thread's own.
    unsafe { outside(m, || libc::pthread_cond_timedwait(c, m, until)) }
}

/// # Safety
/// As pthread_cond_clockwait.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_clockwait(
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe { outside(m, || pthread_cond_clockwait(c, m, clock, until)) }
}

unsafe fn wake(condition: *mut pthread_cond_t, all: bool) -> c_int {
    if let Some(thread) = transaction().filter(|thread| defers(thread)) {
        thread.eventful = true;
        thread.effects.defer(Effect::Wake { condition, all });
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe {
        if all {
            libc::pthread_cond_broadcast(condition)
        } else {
            libc::pthread_cond_signal(condition)
        }
    }
}

/// # Safety
/// As pthread_cond_signal.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_signal(c: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    unsafe { wake(c, false) }
}

/// # Safety
/// As pthread_cond_broadcast.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_broadcast(c: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    unsafe { wake(c, true) }
}

/// Waits until threads that were woken have gone. When the transaction is to wake them, that is at
/// commit too.
///
/// # Safety
/// As pthread_cond_destroy.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_cond_destroy(condition: *mut pthread_cond_t) -> c_int {
    if let Some(thread) = transaction() {
        if thread.effects.wakes(condition) {
            thread.effects.defer(Effect::Destroy { condition });
            return 0;
        }
        let size = size_of::<pthread_cond_t>();
        // SAFETY: the caller's object.
        unsafe { access::write_range(thread, condition as usize, size, pc()) };
    }
    // SAFETY: the caller's promise.
    unsafe { libc::pthread_cond_destroy(condition) }
}
