//! Reading strings in transactions: granule by granule, up to where the function stops.

use crate::access;
use crate::heap::granule;
use crate::thread::Thread;
use ame_abi::GRANULE;
use std::ffi::c_char;

/// Acquires the granule of `address` for reading.
#[inline(always)]
pub fn touch(thread: &mut Thread, address: usize) {
    if *thread.mark(granule(address)) < thread.me.ver {
        access::read(thread, address, 0);
    }
}

/// Bytes from `address` to the end of its granule.
#[inline(always)]
pub fn rest_of_granule(address: usize) -> usize {
    GRANULE - address % GRANULE
}

/// Index of the first of at most `limit` bytes that `stop` wants, or `limit`. Acquires what it
/// looks at.
///
/// # Safety
/// The bytes up to there are readable.
pub unsafe fn until(
    thread: &mut Thread,
    string: *const c_char,
    limit: usize,
    mut stop: impl FnMut(u8) -> bool,
) -> usize {
    let start = string as usize;
    let mut done = 0;
    while done < limit {
        let at = start + done;
        touch(thread, at);
        let n = rest_of_granule(at).min(limit - done);
        for i in 0..n {
            // SAFETY: the caller's promise: nothing before has stopped the scan.
            if stop(unsafe { *((at + i) as *const u8) }) {
                return done + i;
            }
        }
        done += n;
    }
    limit
}

/// Length of a string, at most `limit`. Acquires it, with its terminator where that comes first.
///
/// # Safety
/// The string ends with a zero, or has `limit` bytes.
pub unsafe fn length(thread: &mut Thread, string: *const c_char, limit: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { until(thread, string, limit, |byte| byte == 0) }
}

/// Acquires a whole string.
///
/// # Safety
/// The string ends with a zero.
pub unsafe fn string(thread: &mut Thread, string: *const c_char) -> usize {
    // SAFETY: the caller's promise.
    unsafe { length(thread, string, usize::MAX) }
}
