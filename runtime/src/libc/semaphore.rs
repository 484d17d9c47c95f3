//! Semaphores. A unit is taken for real and given back by rollback; a post waits for commit, and
//! may serve a wait of the same transaction before.

use super::held::Class;
use super::lock::{self, Kind, Patience};
use super::{set_errno, transaction};
use crate::access;
use crate::caller::pc;
use libc::{clockid_t, sem_t, timespec};
use std::ffi::c_int;

extern "C" {
    fn sem_clockwait(s: *mut sem_t, clock: clockid_t, until: *const timespec) -> c_int;
}

/// The result of a semaphore function.
fn result(code: c_int) -> c_int {
    if code == 0 {
        return 0;
    }
    set_errno(code);
    -1
}

/// # Safety
/// As sem_wait.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_wait(s: *mut sem_t) -> c_int {
    // SAFETY: the caller's promise, as in all functions here.
    unsafe {
        match transaction() {
            None => libc::sem_wait(s),
            Some(thread) => result(lock::acquire(
                thread,
                Kind::Semaphore,
                s as usize,
                Patience::Forever,
            )),
        }
    }
}

/// # Safety
/// As sem_trywait.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_trywait(s: *mut sem_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::sem_trywait(s),
            Some(thread) => result(lock::acquire(
                thread,
                Kind::Semaphore,
                s as usize,
                Patience::Try,
            )),
        }
    }
}

/// # Safety
/// As sem_clockwait.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_clockwait(
    s: *mut sem_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return sem_clockwait(s, clock, until);
        };
        let until = lock::private_time(thread, until);
        let patience = Patience::Until(clock, &until);
        result(lock::acquire(thread, Kind::Semaphore, s as usize, patience))
    }
}

/// # Safety
/// As sem_timedwait.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_timedwait(s: *mut sem_t, until: *const timespec) -> c_int {
    // SAFETY: as above.
    unsafe { ame_sem_clockwait(s, libc::CLOCK_REALTIME, until) }
}

/// # Safety
/// As sem_post.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_post(s: *mut sem_t) -> c_int {
    // SAFETY: as above.
    unsafe { result(lock::release(Class::Semaphore, s as usize)) }
}

/// The value with the posts of the calling transaction.
///
/// # Safety
/// As sem_getvalue.
#[no_mangle]
pub unsafe extern "C" fn ame_sem_getvalue(s: *mut sem_t, value: *mut c_int) -> c_int {
    // SAFETY: as above.
    unsafe {
        let mut real = 0;
        if libc::sem_getvalue(s, &mut real) != 0 {
            return -1;
        }
        if let Some(thread) = transaction() {
            real += thread.effects.held.pending(s as usize) as c_int;
            access::write_range(thread, value as usize, size_of::<c_int>(), pc());
        }
        *value = real;
        0
    }
}
