//! Strings to numbers. What is acquired is the longest prefix that could belong to a number, and
//! the byte behind it: a buffer full of numbers is not read whole for each of them.

use super::{scan, transaction};
use crate::entry::ame_write_range;
use crate::thread::Thread;
use std::ffi::{c_char, c_int, c_long, c_longlong, c_ulong, c_ulonglong, CStr};

/// White space, then letters, digits, signs, and what else floating-point numbers are made of:
/// `nan(...)`, and the locale's decimal point.
unsafe fn acquire(thread: &mut Thread, s: *const c_char) {
    // SAFETY: a string of the caller; the locale's record is constant between calls of setlocale,
    // which is exclusive.
    unsafe {
        let point = CStr::from_ptr((*libc::localeconv()).decimal_point).to_bytes();
        let mut leading = true;
        scan::until(thread, s, usize::MAX, |byte| {
            leading = leading && libc::isspace(byte as c_int) != 0;
            let numeric =
                byte.is_ascii_alphanumeric() || b"+-._()".contains(&byte) || point.contains(&byte);
            byte == 0 || !(leading || numeric)
        });
    }
}

/// Acquires what the conversion reads and writes.
unsafe fn prepare(s: *const c_char, end: *mut *mut c_char) {
    if let Some(thread) = transaction() {
        // SAFETY: the caller's string and result.
        unsafe {
            acquire(thread, s);
            if !end.is_null() {
                ame_write_range(end.cast(), size_of::<*mut c_char>());
            }
        }
    }
}

macro_rules! integers {
    ($($name:ident = $function:path => $result:ty;)*) => { $(
        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $name(
            s: *const c_char,
            end: *mut *mut c_char,
            base: c_int,
        ) -> $result {
            // SAFETY: the caller's promise.
            unsafe {
                prepare(s, end);
                $function(s, end, base)
            }
        }
    )* };
}

integers! {
    ame_strtol = libc::strtol => c_long;
    ame_strtoul = libc::strtoul => c_ulong;
    ame_strtoll = libc::strtoll => c_longlong;
    ame_strtoull = libc::strtoull => c_ulonglong;
}

macro_rules! floats {
    ($($name:ident = $function:path => $result:ty;)*) => { $(
        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $name(s: *const c_char, end: *mut *mut c_char) -> $result {
            // SAFETY: the caller's promise.
            unsafe {
                prepare(s, end);
                $function(s, end)
            }
        }
    )* };
}

floats! {
    ame_strtod = libc::strtod => f64;
    ame_strtof = libc::strtof => f32;
}

macro_rules! plain {
    ($($name:ident = $function:path => $result:ty;)*) => { $(
        /// # Safety
        /// As the function of the C library without the prefix.
        #[no_mangle]
        pub unsafe extern "C" fn $name(s: *const c_char) -> $result {
            // SAFETY: the caller's promise.
            unsafe {
                prepare(s, std::ptr::null_mut());
                $function(s)
            }
        }
    )* };
}

plain! {
    ame_atoi = libc::atoi => c_int;
    ame_atol = libc::atol => c_long;
    ame_atoll = libc::atoll => c_longlong;
    ame_atof = libc::atof => f64;
}
