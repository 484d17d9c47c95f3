//! `sigaction` and the older ways to say what a signal does: all go through `crate::signal`, which
//! runs the handlers. What a signal does is the process's affair and cannot be changed on trial, so a
//! transaction that changes it becomes inevitable.

use super::{set_errno, transaction};
use crate::access;
use crate::caller::pc;
use crate::signal::change_action;
use crate::transaction::make_inevitable;
use libc::{c_int, sighandler_t};
use std::sync::atomic::{AtomicU64, Ordering};

/// # Safety
/// As sigaction.
#[no_mangle]
pub unsafe extern "C" fn ame_sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    let size = size_of::<libc::sigaction>();
    if let Some(thread) = transaction() {
        make_inevitable(thread, pc());
        // Null: no memory.
        if !new.is_null() {
            access::read_range(thread, new as usize, size, pc());
        }
        if !old.is_null() {
            // SAFETY: the caller's promise.
            unsafe { access::write_range(thread, old as usize, size, pc()) };
        }
    }
    // Copied here, where a bad pointer faults before anything is held.
    // SAFETY: the caller's promise.
    let new = unsafe { new.as_ref() }.copied();
    match change_action(signal, new.as_ref()) {
        Err(()) => -1,
        Ok(before) => {
            if !old.is_null() {
                // SAFETY: the caller's promise.
                unsafe { *old = before };
            }
            0
        }
    }
}

/// Signals that interrupt system calls although their handler was set by `signal` (siginterrupt).
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

fn bit(signal: c_int) -> u64 {
    1u64.checked_shl(signal as u32 - 1).unwrap_or(0)
}

/// Sets a handler with `flags`, and the signal itself in the mask or not; returns the old handler.
fn set_handler(signal: c_int, handler: sighandler_t, flags: c_int) -> sighandler_t {
    if let Some(thread) = transaction() {
        make_inevitable(thread, pc());
    }
    if handler == libc::SIG_ERR {
        set_errno(libc::EINVAL);
        return libc::SIG_ERR;
    }
    // SAFETY: all zero is a valid action.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    match change_action(signal, Some(&new)) {
        Ok(before) => before.sa_sigaction,
        Err(()) => libc::SIG_ERR,
    }
}

/// signal, as BSD has it.
#[no_mangle]
pub extern "C" fn ame_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    let interrupts = signal > 0 && INTERRUPTING.load(Ordering::Relaxed) & bit(signal) != 0;
    let flags = if interrupts { 0 } else { libc::SA_RESTART };
    set_handler(signal, handler, flags)
}

/// signal, as System V has it.
#[no_mangle]
pub extern "C" fn ame_sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    set_handler(signal, handler, libc::SA_RESETHAND | libc::SA_NODEFER)
}

#[no_mangle]
pub extern "C" fn ame_siginterrupt(signal: c_int, interrupts: c_int) -> c_int {
    if let Some(thread) = transaction() {
        make_inevitable(thread, pc());
    }
    let Ok(mut action) = change_action(signal, None) else {
        return -1;
    };
    if interrupts != 0 {
        INTERRUPTING.fetch_or(bit(signal), Ordering::Relaxed);
        action.sa_flags &= !libc::SA_RESTART;
    } else {
        INTERRUPTING.fetch_and(!bit(signal), Ordering::Relaxed);
        action.sa_flags |= libc::SA_RESTART;
    }
    match change_action(signal, Some(&action)) {
        Ok(_) => 0,
        Err(()) => -1,
    }
}
