//! Looking for bytes and substrings in strings.

use super::{scan, transaction};
use crate::thread::Thread;
use std::ffi::{c_char, c_int};

/// # Safety
/// As strchrnul.
#[no_mangle]
pub unsafe extern "C" fn ame_strchrnul(s: *const c_char, c: c_int) -> *mut c_char {
    extern "C" {
        fn strchrnul(s: *const c_char, c: c_int) -> *mut c_char;
    }
    // SAFETY: the caller's promise, as in all functions here.
    unsafe {
        let Some(thread) = transaction() else {
            return strchrnul(s, c);
        };
        let at = scan::find(thread, s, usize::MAX, c as u8);
        s.add(at).cast_mut()
    }
}

/// # Safety
/// As strchr.
#[no_mangle]
pub unsafe extern "C" fn ame_strchr(s: *const c_char, c: c_int) -> *mut c_char {
    // SAFETY: as above; what was found has been acquired.
    unsafe {
        if transaction().is_none() {
            return libc::strchr(s, c);
        }
        let found = ame_strchrnul(s, c);
        if *found == c as c_char {
            found
        } else {
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// As strrchr.
#[no_mangle]
pub unsafe extern "C" fn ame_strrchr(s: *const c_char, c: c_int) -> *mut c_char {
    // SAFETY: as above; the whole string has been acquired.
    unsafe {
        if let Some(thread) = transaction() {
            scan::string(thread, s);
        }
        libc::strrchr(s, c)
    }
}

/// # Safety
/// As rawmemchr.
#[no_mangle]
pub unsafe extern "C" fn ame_rawmemchr(s: *const libc::c_void, c: c_int) -> *mut libc::c_void {
    extern "C" {
        fn rawmemchr(s: *const libc::c_void, c: c_int) -> *mut libc::c_void;
    }
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return rawmemchr(s, c);
        };
        let at = scan::until(thread, s.cast(), usize::MAX, |byte| byte == c as u8);
        s.cast_mut().add(at)
    }
}

/// # Safety
/// As strstr.
#[no_mangle]
pub unsafe extern "C" fn ame_strstr(s: *const c_char, what: *const c_char) -> *mut c_char {
    // SAFETY: as above; both have been acquired as a whole. Where `what` is, is known only after a
    // search that looks further, so a shorter read would save little.
    unsafe {
        if let Some(thread) = transaction() {
            scan::string(thread, what);
            scan::string(thread, s);
        }
        libc::strstr(s, what)
    }
}

/// # Safety
/// As strcasestr.
#[no_mangle]
pub unsafe extern "C" fn ame_strcasestr(s: *const c_char, what: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe {
        if let Some(thread) = transaction() {
            scan::string(thread, what);
            scan::string(thread, s);
        }
        libc::strcasestr(s, what)
    }
}

/// A set of bytes.
struct Bytes([bool; 256]);

impl Bytes {
    /// The bytes of a string, which is acquired.
    unsafe fn of(thread: &mut Thread, string: *const c_char) -> Bytes {
        let mut bytes = Bytes([false; 256]);
        // SAFETY: a string of the caller.
        unsafe {
            scan::until(thread, string, usize::MAX, |byte| {
                bytes.0[byte as usize] = byte != 0;
                byte == 0
            })
        };
        bytes
    }
}

/// # Safety
/// As strcspn.
#[no_mangle]
pub unsafe extern "C" fn ame_strcspn(s: *const c_char, reject: *const c_char) -> usize {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::strcspn(s, reject);
        };
        let reject = Bytes::of(thread, reject);
        scan::until(thread, s, usize::MAX, |byte| {
            byte == 0 || reject.0[byte as usize]
        })
    }
}

/// # Safety
/// As strspn.
#[no_mangle]
pub unsafe extern "C" fn ame_strspn(s: *const c_char, accept: *const c_char) -> usize {
    // SAFETY: as above; the terminator is never accepted.
    unsafe {
        let Some(thread) = transaction() else {
            return libc::strspn(s, accept);
        };
        let accept = Bytes::of(thread, accept);
        scan::until(thread, s, usize::MAX, |byte| !accept.0[byte as usize])
    }
}

/// # Safety
/// As strpbrk.
#[no_mangle]
pub unsafe extern "C" fn ame_strpbrk(s: *const c_char, accept: *const c_char) -> *mut c_char {
    // SAFETY: as above.
    unsafe {
        let at = s.add(ame_strcspn(s, accept));
        // Acquired: it is where the scan stopped.
        if *at == 0 {
            std::ptr::null_mut()
        } else {
            at.cast_mut()
        }
    }
}

/// Takes the next piece of a string apart, as strtok_r does.
///
/// # Safety
/// As strtok_r; `rest` is the caller's own variable.
#[no_mangle]
pub unsafe extern "C" fn ame_strtok_r(
    s: *mut c_char,
    delimiters: *const c_char,
    rest: *mut *mut c_char,
) -> *mut c_char {
    // SAFETY: as above; what is written is acquired first.
    unsafe {
        if transaction().is_none() {
            return libc::strtok_r(s, delimiters, rest);
        }
        crate::entry::ame_write_range(rest.cast(), size_of::<usize>());
        let s = if s.is_null() { *rest } else { s };
        if s.is_null() {
            return std::ptr::null_mut();
        }
        let token = s.add(ame_strspn(s, delimiters));
        if *token == 0 {
            *rest = token;
            return std::ptr::null_mut();
        }
        let end = token.add(ame_strcspn(token, delimiters));
        if *end == 0 {
            *rest = end;
        } else {
            crate::entry::ame_write_range(end.cast(), 1);
            *end = 0;
            *rest = end.add(1);
        }
        token
    }
}

/// # Safety
/// As strsep; `rest` is the caller's own variable.
#[no_mangle]
pub unsafe extern "C" fn ame_strsep(
    rest: *mut *mut c_char,
    delimiters: *const c_char,
) -> *mut c_char {
    extern "C" {
        fn strsep(rest: *mut *mut c_char, delimiters: *const c_char) -> *mut c_char;
    }
    // SAFETY: as above.
    unsafe {
        if transaction().is_none() {
            return strsep(rest, delimiters);
        }
        crate::entry::ame_write_range(rest.cast(), size_of::<usize>());
        let token = *rest;
        if token.is_null() {
            return token;
        }
        let end = token.add(ame_strcspn(token, delimiters));
        if *end == 0 {
            *rest = std::ptr::null_mut();
        } else {
            crate::entry::ame_write_range(end.cast(), 1);
            *end = 0;
            *rest = end.add(1);
        }
        token
    }
}
