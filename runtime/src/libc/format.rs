//! `printf` and its relatives: the exported names, and what `stdio.c` asks of the runtime.

use super::{output, scan, transaction};
use libc::FILE;
use std::arch::naked_asm;
use std::ffi::{c_char, c_int, c_long};

/// Exports a function of `stdio.c`. A jump passes all arguments on, variadic ones too; Rust hides
/// what C libraries linked into a shared object define.
macro_rules! exported {
    ($($name:ident = $inner:ident;)*) => {
        extern "C" { $(fn $inner();)* }
        $(
            /// # Safety
            /// As the function of the C library without the prefix.
            #[unsafe(naked)]
            #[no_mangle]
            pub unsafe extern "C" fn $name() {
                naked_asm!("jmp {}", sym $inner)
            }
        )*
    };
}

exported! {
    ame_printf = ame_c_printf;
    ame_fprintf = ame_c_fprintf;
    ame_dprintf = ame_c_dprintf;
    ame_snprintf = ame_c_snprintf;
    ame_sprintf = ame_c_sprintf;
    ame_asprintf = ame_c_asprintf;
    ame_vprintf = ame_c_vprintf;
    ame_vfprintf = ame_c_vfprintf;
    ame_vdprintf = ame_c_vdprintf;
    ame_vsnprintf = ame_c_vsnprintf;
    ame_vsprintf = ame_c_vsprintf;
    ame_vasprintf = ame_c_vasprintf;
    ame_printf_chk = ame_c_printf_chk;
    ame_fprintf_chk = ame_c_fprintf_chk;
    ame_snprintf_chk = ame_c_snprintf_chk;
    ame_sprintf_chk = ame_c_sprintf_chk;
    ame_vprintf_chk = ame_c_vprintf_chk;
    ame_vfprintf_chk = ame_c_vfprintf_chk;
    ame_vsnprintf_chk = ame_c_vsnprintf_chk;
    ame_vsprintf_chk = ame_c_vsprintf_chk;
}

#[no_mangle]
extern "C" fn ame_stdio_in_transaction() -> c_int {
    transaction().is_some() as c_int
}

/// # Safety
/// `stream` is open.
#[no_mangle]
unsafe extern "C" fn ame_stdio_defers(stream: *mut FILE) -> c_int {
    transaction().is_some_and(|thread| output::defers_stream(thread, stream)) as c_int
}

/// # Safety
/// `n` readable bytes that need no barriers.
#[no_mangle]
unsafe extern "C" fn ame_stdio_defer(stream: *mut FILE, bytes: *const c_char, n: usize) {
    // SAFETY: the thread's own state; no barrier, so that the caller's buffer is not lost.
    let thread = unsafe { &mut *crate::thread::Thread::get() };
    // SAFETY: the caller's promise.
    output::defer_stream(thread, stream, unsafe {
        std::slice::from_raw_parts(bytes.cast::<u8>(), n)
    });
}

/// Deferred or direct, without acquiring the bytes, which are private.
///
/// # Safety
/// `n` readable bytes that need no barriers.
#[no_mangle]
unsafe extern "C" fn ame_stdio_write(fd: c_int, bytes: *const c_char, n: usize) -> c_long {
    // SAFETY: as above.
    unsafe {
        let thread = &mut *crate::thread::Thread::get();
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), n);
        output::write_private(thread, fd, bytes) as c_long
    }
}

/// # Safety
/// As strnlen.
#[no_mangle]
unsafe extern "C" fn ame_stdio_read_string(s: *const c_char, limit: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { transaction().map_or(0, |thread| scan::length(thread, s, limit)) }
}
