//! qsort and bsearch, which call back into the program.
//!
//! A comparison may roll the transaction back, and frames of the C library would lose what they
//! have allocated. So transactions sort here: with a merge sort, as glibc does (programs have come
//! to rely on its stability), in a block that rollback frees.

use super::transaction;
use crate::caller::pc;
use crate::heap::{ame_free, ame_malloc};
use crate::{access, module};
use std::ffi::{c_int, c_void};

type Compare = unsafe extern "C" fn(*const c_void, *const c_void) -> c_int;

/// # Safety
/// As qsort.
#[no_mangle]
pub unsafe extern "C" fn ame_qsort(base: *mut c_void, count: usize, size: usize, compare: Compare) {
    // SAFETY: the caller's promise throughout.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::qsort(base, count, size, Some(compare));
        };
        module::prepare_call(thread, compare as usize);
        let bytes = count.saturating_mul(size);
        if count < 2 || size == 0 {
            return;
        }
        access::write_range(thread, base as usize, bytes, pc());
        let room = ame_malloc(bytes);
        if room.is_null() {
            // Nothing can be rolled back any more, so nothing can be lost.
            crate::transaction::make_inevitable(thread, pc());
            return libc::qsort(base, count, size, Some(compare));
        }
        merge_sort(base.cast(), room.cast(), count, size, compare);
        ame_free(room);
    }
}

/// Bottom-up merge sort: runs of 1, 2, 4, ... elements go from one array to the other.
unsafe fn merge_sort(base: *mut u8, room: *mut u8, count: usize, size: usize, compare: Compare) {
    let (mut from, mut to) = (base, room);
    let mut run = 1;
    // SAFETY: all indices are below `count`, and both arrays have as many elements.
    unsafe {
        while run < count {
            let mut start = 0;
            while start < count {
                let middle = (start + run).min(count);
                let end = (start + 2 * run).min(count);
                merge(from, to, [start, middle, end], size, compare);
                start = end;
            }
            std::mem::swap(&mut from, &mut to);
            run *= 2;
        }
        if from != base {
            std::ptr::copy_nonoverlapping(from, base, count * size);
        }
    }
}

/// Merges the sorted elements `[start, middle)` and `[middle, end)`.
unsafe fn merge(
    from: *const u8,
    to: *mut u8,
    [start, middle, end]: [usize; 3],
    size: usize,
    compare: Compare,
) {
    let (mut left, mut right) = (start, middle);
    // SAFETY: the caller's indices; what is compared lies in arrays that were acquired.
    unsafe {
        for out in start..end {
            let (a, b) = (from.add(left * size), from.add(right * size));
            let take_left = right == end || (left < middle && compare(a.cast(), b.cast()) <= 0);
            let chosen = if take_left { a } else { b };
            std::ptr::copy_nonoverlapping(chosen, to.add(out * size), size);
            if take_left {
                left += 1;
            } else {
                right += 1;
            }
        }
    }
}

/// The comparison acquires what it reads; the search itself reads nothing.
///
/// # Safety
/// As bsearch.
#[no_mangle]
pub unsafe extern "C" fn ame_bsearch(
    key: *const c_void,
    base: *const c_void,
    count: usize,
    size: usize,
    compare: Compare,
) -> *mut c_void {
    if let Some(thread) = transaction() {
        module::prepare_call(thread, compare as usize);
    }
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        // SAFETY: the caller's promise.
        unsafe {
            let element = base.byte_add(middle * size);
            match compare(key, element) {
                0 => return element.cast_mut(),
                ..0 => high = middle,
                _ => low = middle + 1,
            }
        }
    }
    std::ptr::null_mut()
}
