//! `pthread_create` of instrumented code: the new thread registers before its first instruction,
//! so that code which keeps the address of its mark table in a register has the right one.

use crate::{entry, thread};
use std::ffi::c_void;

type Routine = extern "C" fn(*mut c_void) -> *mut c_void;

struct Start {
    routine: Routine,
    argument: *mut c_void,
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: made by `ame_pthread_create` for this thread alone.
    let Start { routine, argument } = unsafe { *Box::from_raw(start.cast::<Start>()) };
    // Frames above this one do not change while transactions run: they need no snapshot.
    let end_of_frames = 0u8;
    thread::register_below(std::hint::black_box(&raw const end_of_frames) as usize);
    routine(argument)
}

/// pthread_create. The new thread may look at anything at once, so a transaction that starts one
/// becomes inevitable first. What it has written stays locked until it commits.
///
/// # Safety
/// As pthread_create.
#[no_mangle]
pub unsafe extern "C" fn ame_pthread_create(
    id: *mut libc::pthread_t,
    attr: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> i32 {
    entry::ame_make_inevitable();
    // SAFETY: `id` is written by pthread_create; the caller's promise.
    unsafe { entry::ame_write_range(id.cast(), size_of::<libc::pthread_t>()) };
    let start = Box::into_raw(Box::new(Start { routine, argument }));
    // SAFETY: the caller's promise; `start` is owned by the new thread from here on.
    let err = unsafe { libc::pthread_create(id, attr, run, start.cast()) };
    if err != 0 {
        // SAFETY: no thread was created.
        drop(unsafe { Box::from_raw(start) });
    }
    err
}

/// fork. The transaction is the only one while it forks, and goes on in both processes; what it has
/// deferred is performed before, once. `crate::fork` has the rest.
#[no_mangle]
pub extern "C" fn ame_fork() -> libc::pid_t {
    entry::ame_make_exclusive();
    // SAFETY: no other thread is in a transaction.
    unsafe { libc::fork() }
}
