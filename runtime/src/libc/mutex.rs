//! Mutexes and spin locks.

use super::held::Class;
use super::lock::{self, Kind, Patience};
use super::transaction;
use libc::{clockid_t, pthread_mutex_t, pthread_spinlock_t, timespec};
use std::ffi::c_int;

extern "C" {
    fn pthread_mutex_clocklock(
        m: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// # Safety
/// As pthread_mutex_lock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_lock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise, as in all functions here.
    unsafe {
        match transaction() {
            None => libc::pthread_mutex_lock(m),
            Some(thread) => lock::acquire(thread, Kind::Mutex, m as usize, Patience::Forever),
        }
    }
}

/// # Safety
/// As pthread_mutex_trylock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_trylock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::pthread_mutex_trylock(m),
            Some(thread) => lock::acquire(thread, Kind::Mutex, m as usize, Patience::Try),
        }
    }
}

/// # Safety
/// As pthread_mutex_clocklock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_clocklock(
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return pthread_mutex_clocklock(m, clock, until);
        };
        let until = lock::private_time(thread, until);
        let patience = Patience::Until(clock, &until);
        lock::acquire(thread, Kind::Mutex, m as usize, patience)
    }
}

/// # Safety
/// As pthread_mutex_timedlock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_timedlock(
    m: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe { ame_pthread_mutex_clocklock(m, libc::CLOCK_REALTIME, until) }
}

/// # Safety
/// As pthread_mutex_unlock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_unlock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe { lock::release(Class::Mutex, m as usize) }
}

/// # Safety
/// As pthread_mutex_destroy.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_mutex_destroy(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe { lock::destroy(Class::Mutex, m as usize, || libc::pthread_mutex_destroy(m)) }
}

/// # Safety
/// As pthread_spin_lock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_spin_lock(m: *mut pthread_spinlock_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::pthread_spin_lock(m),
            Some(thread) => lock::acquire(thread, Kind::Spin, m as usize, Patience::Forever),
        }
    }
}

/// # Safety
/// As pthread_spin_trylock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_spin_trylock(m: *mut pthread_spinlock_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::pthread_spin_trylock(m),
            Some(thread) => lock::acquire(thread, Kind::Spin, m as usize, Patience::Try),
        }
    }
}

/// # Safety
/// As pthread_spin_unlock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_spin_unlock(m: *mut pthread_spinlock_t) -> c_int {
    // SAFETY: as above.
    unsafe { lock::release(Class::Spin, m as usize) }
}
