//! C11's threads.h. In glibc a `mtx_t` is a `pthread_mutex_t` and a `cnd_t` a `pthread_cond_t`; only
//! the return codes differ.

use super::{condition, mutex, threads};
use libc::{pthread_cond_t, pthread_mutex_t, pthread_t, timespec};
use std::ffi::{c_int, c_void};

/// `thrd_success`, `thrd_busy`, `thrd_error`, `thrd_nomem`, `thrd_timedout` (threads.h).
fn thrd(code: c_int) -> c_int {
    match code {
        0 => 0,
        libc::EBUSY => 1,
        libc::ENOMEM => 3,
        libc::ETIMEDOUT => 4,
        _ => 2,
    }
}

/// # Safety
/// As mtx_lock.
#[no_mangle]
pub unsafe extern "C" fn ame_mtx_lock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise, as in all functions here.
    thrd(unsafe { mutex::ame_pthread_mutex_lock(m) })
}

/// # Safety
/// As mtx_trylock.
#[no_mangle]
pub unsafe extern "C" fn ame_mtx_trylock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { mutex::ame_pthread_mutex_trylock(m) })
}

/// # Safety
/// As mtx_timedlock.
#[no_mangle]
pub unsafe extern "C" fn ame_mtx_timedlock(
    m: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { mutex::ame_pthread_mutex_timedlock(m, until) })
}

/// # Safety
/// As mtx_unlock.
#[no_mangle]
pub unsafe extern "C" fn ame_mtx_unlock(m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { mutex::ame_pthread_mutex_unlock(m) })
}

/// # Safety
/// As mtx_destroy.
#[no_mangle]
pub unsafe extern "C" fn ame_mtx_destroy(m: *mut pthread_mutex_t) {
    // SAFETY: as above.
    unsafe { mutex::ame_pthread_mutex_destroy(m) };
}

/// # Safety
/// As cnd_wait.
#[no_mangle]
pub unsafe extern "C" fn ame_cnd_wait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { condition::ame_pthread_cond_wait(c, m) })
}

/// # Safety
/// As cnd_timedwait.
#[no_mangle]
pub unsafe extern "C" fn ame_cnd_timedwait(
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { condition::ame_pthread_cond_timedwait(c, m, until) })
}

/// # Safety
/// As cnd_signal.
#[no_mangle]
pub unsafe extern "C" fn ame_cnd_signal(c: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { condition::ame_pthread_cond_signal(c) })
}

/// # Safety
/// As cnd_broadcast.
#[no_mangle]
pub unsafe extern "C" fn ame_cnd_broadcast(c: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    thrd(unsafe { condition::ame_pthread_cond_broadcast(c) })
}

/// # Safety
/// As cnd_destroy.
#[no_mangle]
pub unsafe extern "C" fn ame_cnd_destroy(c: *mut pthread_cond_t) {
    // SAFETY: as above.
    unsafe { condition::ame_pthread_cond_destroy(c) };
}

type Body = extern "C" fn(*mut c_void) -> c_int;

struct Start {
    body: Body,
    argument: *mut c_void,
}

/// thrd_join takes the result from the thread's pointer.
extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: made by `ame_thrd_create` for this thread alone.
    let Start { body, argument } = unsafe { *Box::from_raw(start.cast::<Start>()) };
    body(argument) as usize as *mut c_void
}

/// # Safety
/// As thrd_create.
#[no_mangle]
pub unsafe extern "C" fn ame_thrd_create(
    id: *mut pthread_t,
    body: Body,
    argument: *mut c_void,
) -> c_int {
    // May roll back, so before there is something to free.
    crate::entry::ame_make_inevitable();
    let start = Box::into_raw(Box::new(Start { body, argument }));
    // SAFETY: the caller's promise; the new thread owns `start`.
    let code = unsafe { threads::ame_pthread_create(id, std::ptr::null(), run, start.cast()) };
    if code != 0 {
        // SAFETY: no thread was created.
        drop(unsafe { Box::from_raw(start) });
    }
    thrd(code)
}
