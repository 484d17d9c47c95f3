//! Who called the runtime, for conflict reports. Stubs know: the return address is on the stack. The
//! ordinary entries and the wrappers of the C library do not, and look for it only while a trace is
//! written (a microsecond or two each).

use crate::trace;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Continue, and stop, for `_Unwind_Backtrace` (Itanium C++ ABI, `_Unwind_Reason_Code`).
const GO_ON: c_int = 0;
const STOP: c_int = 4;
/// Frames of ours above an entry, and some to spare.
const DEPTH: usize = 16;

/// Return address in the code that called the runtime; 0 when no trace wants it, or when it cannot
/// be told (the runtime is linked into the program itself).
#[inline(always)]
pub fn pc() -> u64 {
    if trace::enabled() {
        find()
    } else {
        0
    }
}

struct Search {
    ours: Range<usize>,
    depth: usize,
    found: usize,
}

#[cold]
#[inline(never)]
fn find() -> u64 {
    let mut search = Search {
        ours: ours(),
        depth: 0,
        found: 0,
    };
    // SAFETY: `visit` matches, and `search` outlives the call.
    unsafe { _Unwind_Backtrace(visit, (&raw mut search).cast()) };
    search.found as u64
}

extern "C" fn visit(context: *mut c_void, search: *mut c_void) -> c_int {
    // SAFETY: the unwinder's context, and the `Search` of `find`.
    let (address, search) = unsafe { (_Unwind_GetIP(context), &mut *search.cast::<Search>()) };
    search.depth += 1;
    if search.depth > DEPTH {
        return STOP;
    }
    if search.ours.contains(&address) {
        return GO_ON;
    }
    search.found = address;
    STOP
}

/// Addresses of the module that this code is in.
pub fn ours() -> Range<usize> {
    static OURS: OnceLock<Range<usize>> = OnceLock::new();
    OURS.get_or_init(|| {
        let mut range = 0..0;
        // SAFETY: `module` matches, and `range` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(module), (&raw mut range).cast()) };
        range
    })
    .clone()
}

unsafe extern "C" fn module(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    range: *mut c_void,
) -> c_int {
    let here = find as *const () as usize;
    // SAFETY: the loader's record, and the range of `ours`.
    unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize);
        for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD) {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            let segment = start..start + header.p_memsz as usize;
            if segment.contains(&here) {
                *range.cast::<Range<usize>>() = segment;
                return 1;
            }
        }
    }
    0
}
