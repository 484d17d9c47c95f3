//! Strings: length, comparison, copy. `search` has the functions that look for something.

use super::scan::{self, rest_of_granule, touch};
use super::transaction;
use crate::access;
use crate::caller::pc;
use crate::heap::ame_malloc;
use crate::thread::Thread;
use std::ffi::{c_char, c_int};

/// # Safety
/// As strlen.
#[no_mangle]
pub unsafe extern "C" fn ame_strlen(s: *const c_char) -> usize {
    // SAFETY: the caller's promise, as in all functions here.
    unsafe {
        match transaction() {
            None => libc::strlen(s),
            Some(thread) => scan::string(thread, s),
        }
    }
}

/// # Safety
/// As strnlen.
#[no_mangle]
pub unsafe extern "C" fn ame_strnlen(s: *const c_char, limit: usize) -> usize {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::strnlen(s, limit),
            Some(thread) => scan::length(thread, s, limit),
        }
    }
}

/// How many of `n` bytes, in eights, are the same in both and not zero.
unsafe fn same_and_without_zero(x: usize, y: usize, n: usize) -> usize {
    let mut done = 0;
    while done + 8 <= n {
        // SAFETY: the caller's promise: n readable bytes.
        let (a, b) = unsafe {
            (
                ((x + done) as *const u64).read_unaligned(),
                ((y + done) as *const u64).read_unaligned(),
            )
        };
        // A byte borrows from its top bit only if it is zero or above 0x80 (Mycroft's test).
        let zero = a.wrapping_sub(0x0101_0101_0101_0101) & !a & 0x8080_8080_8080_8080;
        if a != b || zero != 0 {
            break;
        }
        done += 8;
    }
    done
}

/// Compares up to the first difference, after `fold`; looks at nothing behind it.
unsafe fn compare(
    thread: &mut Thread,
    a: *const c_char,
    b: *const c_char,
    limit: usize,
    fold: impl Fn(u8) -> u8,
) -> c_int {
    let mut done = 0;
    while done < limit {
        let (x, y) = (a as usize + done, b as usize + done);
        touch(thread, x);
        touch(thread, y);
        let n = rest_of_granule(x).min(rest_of_granule(y)).min(limit - done);
        // SAFETY: neither string has ended before, and both have n bytes in their granules.
        let same = unsafe { same_and_without_zero(x, y, n) };
        for i in same..n {
            // SAFETY: neither string has ended before.
            let (x, y) = unsafe { (*((x + i) as *const u8), *((y + i) as *const u8)) };
            let (u, v) = (fold(x), fold(y));
            if u != v || x == 0 {
                return u as c_int - v as c_int;
            }
        }
        done += n;
    }
    0
}

/// # Safety
/// As strcmp.
#[no_mangle]
pub unsafe extern "C" fn ame_strcmp(a: *const c_char, b: *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::strcmp(a, b),
            Some(thread) => compare(thread, a, b, usize::MAX, |byte| byte),
        }
    }
}

/// # Safety
/// As strncmp.
#[no_mangle]
pub unsafe extern "C" fn ame_strncmp(a: *const c_char, b: *const c_char, limit: usize) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::strncmp(a, b, limit),
            Some(thread) => compare(thread, a, b, limit, |byte| byte),
        }
    }
}

fn lower(byte: u8) -> u8 {
    // SAFETY: any value of an unsigned char may be given; the table is that of the locale.
    unsafe { libc::tolower(byte as c_int) as u8 }
}

/// # Safety
/// As strcasecmp.
#[no_mangle]
pub unsafe extern "C" fn ame_strcasecmp(a: *const c_char, b: *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::strcasecmp(a, b),
            Some(thread) => compare(thread, a, b, usize::MAX, lower),
        }
    }
}

/// # Safety
/// As strncasecmp.
#[no_mangle]
pub unsafe extern "C" fn ame_strncasecmp(
    a: *const c_char,
    b: *const c_char,
    limit: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        match transaction() {
            None => libc::strncasecmp(a, b, limit),
            Some(thread) => compare(thread, a, b, limit, lower),
        }
    }
}

/// Copies `length` bytes that were acquired before, and a zero.
unsafe fn put(thread: &mut Thread, to: *mut c_char, from: *const c_char, length: usize) {
    // SAFETY: the caller's `to` has room for the string and its terminator.
    unsafe {
        access::write_range(thread, to as usize, length + 1, pc());
        std::ptr::copy_nonoverlapping(from, to, length);
        *to.add(length) = 0;
    }
}

/// # Safety
/// As stpcpy.
#[no_mangle]
pub unsafe extern "C" fn ame_stpcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::stpcpy(to, from);
        };
        let length = scan::string(thread, from);
        put(thread, to, from, length);
        to.add(length)
    }
}

/// # Safety
/// As strcpy.
#[no_mangle]
pub unsafe extern "C" fn ame_strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe { ame_stpcpy(to, from) };
    to
}

/// # Safety
/// As stpncpy.
#[no_mangle]
pub unsafe extern "C" fn ame_stpncpy(
    to: *mut c_char,
    from: *const c_char,
    size: usize,
) -> *mut c_char {
    // SAFETY: as above; the rest of the buffer is filled with zeroes.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::stpncpy(to, from, size);
        };
        let length = scan::length(thread, from, size);
        access::write_range(thread, to as usize, size, pc());
        std::ptr::copy_nonoverlapping(from, to, length);
        std::ptr::write_bytes(to.add(length), 0, size - length);
        to.add(length)
    }
}

/// # Safety
/// As strncpy.
#[no_mangle]
pub unsafe extern "C" fn ame_strncpy(
    to: *mut c_char,
    from: *const c_char,
    size: usize,
) -> *mut c_char {
    // SAFETY: as above.
    unsafe { ame_stpncpy(to, from, size) };
    to
}

/// # Safety
/// As strcat.
#[no_mangle]
pub unsafe extern "C" fn ame_strcat(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe { ame_strncat(to, from, usize::MAX) }
}

/// # Safety
/// As strncat.
#[no_mangle]
pub unsafe extern "C" fn ame_strncat(
    to: *mut c_char,
    from: *const c_char,
    limit: usize,
) -> *mut c_char {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::strncat(to, from, limit);
        };
        let end = scan::string(thread, to);
        let length = scan::length(thread, from, limit);
        put(thread, to.add(end), from, length);
        to
    }
}

/// # Safety
/// As strdup; the block is freed with `ame_free`.
#[no_mangle]
pub unsafe extern "C" fn ame_strdup(s: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe { ame_strndup(s, usize::MAX) }
}

/// # Safety
/// As strndup; the block is freed with `ame_free`.
#[no_mangle]
pub unsafe extern "C" fn ame_strndup(s: *const c_char, limit: usize) -> *mut c_char {
    // SAFETY: as above. The block is fresh in a transaction, so storing to it needs no barrier.
    unsafe {
        let length = ame_strnlen(s, limit);
        let copy = ame_malloc(length + 1).cast::<c_char>();
        if !copy.is_null() {
            std::ptr::copy_nonoverlapping(s, copy, length);
            *copy.add(length) = 0;
        }
        copy
    }
}
