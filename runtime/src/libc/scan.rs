//! Reading strings in transactions: granule by granule, up to where the function stops.

use crate::access;
use crate::caller::pc;
use crate::heap::granule;
use crate::thread::Thread;
use ame_abi::GRANULE;
use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    _mm_setzero_si128,
};
use std::ffi::c_char;

/// Acquires the granule of `address` for reading.
#[inline(always)]
pub fn touch(thread: &mut Thread, address: usize) {
    if *thread.mark(granule(address)) < thread.me.since {
        access::read(thread, address, pc());
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

/// Index of the first zero or `wanted` byte, at most `limit`: `until` with a granule in a register.
///
/// # Safety
/// The bytes up to there are readable.
pub unsafe fn find(thread: &mut Thread, string: *const c_char, limit: usize, wanted: u8) -> usize {
    const { assert!(GRANULE == size_of::<__m128i>()) };
    let start = string as usize;
    let mut done = 0;
    while done < limit {
        let at = start + done;
        touch(thread, at);
        // SAFETY: one byte of the granule is readable, so all of it is: it lies in one page.
        // SSE2 belongs to every x86-64.
        let found = unsafe {
            let bytes = _mm_load_si128((at & !(GRANULE - 1)) as *const __m128i);
            let zero = _mm_cmpeq_epi8(bytes, _mm_setzero_si128());
            let same = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(wanted as i8));
            _mm_movemask_epi8(_mm_or_si128(zero, same)) as u32 >> (at % GRANULE)
        };
        if found != 0 {
            return limit.min(done + found.trailing_zeros() as usize);
        }
        done += rest_of_granule(at);
    }
    limit
}

/// Length of a string, at most `limit`. Acquires it, with its terminator where that comes first.
///
/// # Safety
/// The string ends with a zero, or has `limit` bytes.
pub unsafe fn length(thread: &mut Thread, string: *const c_char, limit: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { find(thread, string, limit, 0) }
}

/// Acquires a whole string.
///
/// # Safety
/// The string ends with a zero.
pub unsafe fn string(thread: &mut Thread, string: *const c_char) -> usize {
    // SAFETY: the caller's promise.
    unsafe { length(thread, string, usize::MAX) }
}
