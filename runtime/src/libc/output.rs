//! Output to streams and descriptors. In a transaction that can be rolled back the bytes are
//! copied and wait for commit (`effects`); else they go to the C library.
//!
//! Streams without a descriptor (`fmemopen`, `open_memstream`, cookies) write to memory that the
//! program may look at before it commits: these calls run exclusively.

use super::effects::Effect;
use super::{defers, errno, scan, set_errno, transaction};
use crate::access;
use crate::caller::pc;
use crate::thread::Thread;
use crate::transaction::make_exclusive;
use libc::FILE;
use std::ffi::{c_char, c_int, c_void};

extern "C" {
    static stdout: *mut FILE;
    static stderr: *mut FILE;
}

/// Whether output to the stream is to be deferred. What the call reads has been acquired.
pub fn defers_stream(thread: &mut Thread, stream: *mut FILE) -> bool {
    let code = errno();
    // SAFETY: the program's open stream.
    let file = unsafe { libc::fileno(stream) } >= 0;
    set_errno(code);
    if !file {
        make_exclusive(thread, pc());
    }
    file && defers(thread)
}

pub fn defer_stream(thread: &mut Thread, stream: *mut FILE, bytes: &[u8]) {
    thread.eventful = true;
    thread.effects.stream(stream, bytes);
}

/// Puts bytes that were acquired, or are private, into the stream at commit; false if the caller is
/// to write them now.
unsafe fn put(thread: &mut Thread, stream: *mut FILE, bytes: *const c_void, n: usize) -> bool {
    let deferred = defers_stream(thread, stream);
    if deferred {
        // SAFETY: the caller's bytes.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), n) };
        defer_stream(thread, stream, bytes);
    }
    deferred
}

/// # Safety
/// As fwrite.
#[no_mangle]
pub unsafe extern "C" fn ame_fwrite(
    data: *const c_void,
    size: usize,
    count: usize,
    stream: *mut FILE,
) -> usize {
    if let (Some(thread), Some(n @ 1..)) = (transaction(), size.checked_mul(count)) {
        access::read_range(thread, data as usize, n, pc());
        // SAFETY: the caller's promise.
        if unsafe { put(thread, stream, data, n) } {
            return count;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { libc::fwrite(data, size, count, stream) }
}

/// # Safety
/// As fputs.
#[no_mangle]
pub unsafe extern "C" fn ame_fputs(s: *const c_char, stream: *mut FILE) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(thread) = transaction() {
            let n = scan::string(thread, s);
            if put(thread, stream, s.cast(), n) {
                return 1;
            }
        }
        libc::fputs(s, stream)
    }
}

/// # Safety
/// As puts.
#[no_mangle]
pub unsafe extern "C" fn ame_puts(s: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(thread) = transaction() {
            let n = scan::string(thread, s);
            if put(thread, stdout, s.cast(), n) {
                defer_stream(thread, stdout, b"\n");
                return i32::try_from(n + 1).unwrap_or(i32::MAX);
            }
        }
        libc::puts(s)
    }
}

/// # Safety
/// As fputc.
#[no_mangle]
pub unsafe extern "C" fn ame_fputc(c: c_int, stream: *mut FILE) -> c_int {
    if let Some(thread) = transaction() {
        let byte = c as u8;
        // SAFETY: a byte of our own, and the caller's stream.
        if unsafe { put(thread, stream, (&raw const byte).cast(), 1) } {
            return byte as c_int;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { libc::fputc(c, stream) }
}

/// # Safety
/// As putc.
#[no_mangle]
pub unsafe extern "C" fn ame_putc(c: c_int, stream: *mut FILE) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { ame_fputc(c, stream) }
}

#[no_mangle]
pub extern "C" fn ame_putchar(c: c_int) -> c_int {
    // SAFETY: stdout is a stream, open or not.
    unsafe { ame_fputc(c, stdout) }
}

/// # Safety
/// As fflush.
#[no_mangle]
pub unsafe extern "C" fn ame_fflush(stream: *mut FILE) -> c_int {
    if let Some(thread) = transaction() {
        let deferred = if stream.is_null() {
            defers(thread)
        } else {
            defers_stream(thread, stream)
        };
        if deferred {
            thread.eventful = true;
            thread.effects.defer(Effect::Flush { stream });
            return 0;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { libc::fflush(stream) }
}

/// The message is that of `errno` now, written at commit.
///
/// # Safety
/// As perror.
#[no_mangle]
pub unsafe extern "C" fn ame_perror(s: *const c_char) {
    // SAFETY: the caller's promise; the message is copied before anything else runs.
    unsafe {
        let code = errno();
        if let Some(thread) = transaction() {
            let n = if s.is_null() {
                0
            } else {
                scan::string(thread, s)
            };
            if defers_stream(thread, stderr) {
                let mut text = Vec::new();
                if n > 0 {
                    text.extend_from_slice(std::slice::from_raw_parts(s.cast::<u8>(), n));
                    text.extend_from_slice(b": ");
                }
                let mut message = [0 as c_char; 128];
                libc::strerror_r(code, message.as_mut_ptr(), message.len());
                text.extend_from_slice(std::ffi::CStr::from_ptr(message.as_ptr()).to_bytes());
                text.push(b'\n');
                defer_stream(thread, stderr, &text);
                set_errno(code);
                return;
            }
            set_errno(code);
        }
        libc::perror(s)
    }
}

/// Whether the descriptor is open, as the transaction sees it.
fn is_open(thread: &Thread, fd: c_int) -> bool {
    // SAFETY: asks about a descriptor.
    !thread.effects.closes(fd) && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0
}

/// Most bytes that Linux writes at a time.
const WRITE_MAX: usize = 0x7fff_f000;

/// # Safety
/// As write.
#[no_mangle]
pub unsafe extern "C" fn ame_write(fd: c_int, data: *const c_void, n: usize) -> isize {
    if let Some(thread) = transaction() {
        let n = n.min(WRITE_MAX);
        access::read_range(thread, data as usize, n, pc());
        // SAFETY: the caller's bytes, acquired above.
        return write_private(thread, fd, unsafe {
            std::slice::from_raw_parts(data.cast::<u8>(), n)
        });
    }
    // SAFETY: the caller's promise.
    unsafe { libc::write(fd, data, n) }
}

/// write(2) of bytes that nobody else changes. No barrier is in here.
pub fn write_private(thread: &mut Thread, fd: c_int, bytes: &[u8]) -> isize {
    if thread.depth == 0 || !defers(thread) {
        // SAFETY: a plain write.
        return unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    }
    if !is_open(thread, fd) {
        set_errno(libc::EBADF);
        return -1;
    }
    if !bytes.is_empty() {
        thread.eventful = true;
        thread.effects.write(fd, bytes);
    }
    bytes.len() as isize
}

/// The descriptor stays open until commit, so its number is not used again before.
///
/// # Safety
/// As close.
#[no_mangle]
pub unsafe extern "C" fn ame_close(fd: c_int) -> c_int {
    if let Some(thread) = transaction().filter(|thread| defers(thread)) {
        if !is_open(thread, fd) {
            set_errno(libc::EBADF);
            return -1;
        }
        thread.eventful = true;
        thread.effects.defer(Effect::Close { fd });
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { libc::close(fd) }
}
