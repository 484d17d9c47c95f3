//! Read-write locks. Transactions that hold one for reading share its shadow, and run in parallel.

use super::held::Class;
use super::lock::{self, Kind, Patience};
use super::transaction;
use libc::{clockid_t, pthread_rwlock_t, timespec};
use std::ffi::c_int;

extern "C" {
    fn pthread_rwlock_clockrdlock(
        m: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_clockwrlock(
        m: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

macro_rules! acquisitions {
    ($kind:path; $lock:ident = $real_lock:path, $try:ident = $real_try:path,
     $timed:ident, $clock:ident = $real_clock:path) => {
        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $lock(m: *mut pthread_rwlock_t) -> c_int {
            // SAFETY: the caller's promise, as in all functions here.
            unsafe {
                match transaction() {
                    None => $real_lock(m),
                    Some(thread) => lock::acquire(thread, $kind, m as usize, Patience::Forever),
                }
            }
        }

        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $try(m: *mut pthread_rwlock_t) -> c_int {
            // SAFETY: as above.
            unsafe {
                match transaction() {
                    None => $real_try(m),
                    Some(thread) => lock::acquire(thread, $kind, m as usize, Patience::Try),
                }
            }
        }

        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $clock(
            m: *mut pthread_rwlock_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int {
            // SAFETY: as above.
            unsafe {
                let Some(thread) = transaction() else {
                    return $real_clock(m, clock, until);
                };
                let until = lock::private_time(thread, until);
                lock::acquire(thread, $kind, m as usize, Patience::Until(clock, &until))
            }
        }

        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $timed(m: *mut pthread_rwlock_t, until: *const timespec) -> c_int {
            // SAFETY: as above.
            unsafe { $clock(m, libc::CLOCK_REALTIME, until) }
        }
    };
}

acquisitions!(Kind::Read;
    ame_pthread_rwlock_rdlock = libc::pthread_rwlock_rdlock,
    ame_pthread_rwlock_tryrdlock = libc::pthread_rwlock_tryrdlock,
    ame_pthread_rwlock_timedrdlock,
    ame_pthread_rwlock_clockrdlock = pthread_rwlock_clockrdlock);

acquisitions!(Kind::Write;
    ame_pthread_rwlock_wrlock = libc::pthread_rwlock_wrlock,
    ame_pthread_rwlock_trywrlock = libc::pthread_rwlock_trywrlock,
    ame_pthread_rwlock_timedwrlock,
    ame_pthread_rwlock_clockwrlock = pthread_rwlock_clockwrlock);

/// # Safety
/// As pthread_rwlock_unlock.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_rwlock_unlock(m: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: as above.
    unsafe { lock::release(Class::ReadWrite, m as usize) }
}

/// # Safety
/// As pthread_rwlock_destroy.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_rwlock_destroy(m: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        lock::destroy(Class::ReadWrite, m as usize, || {
            libc::pthread_rwlock_destroy(m)
        })
    }
}
