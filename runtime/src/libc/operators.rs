//! The C++ operators `new` and `delete`. They are not put in the place of others by rule, but have the
//! names of those of libstdc++ and come before them, as `free` does: a program that has its own keeps
//! it, and the library allocates what the program frees with ours too.
//!
//! The forms for arrays, and those of `delete` with sizes, call the simple ones by name, as the
//! standard says, so that a program can replace just these.
//!
//! A call of one is a call of unknown code, which `directory` knows. Link the runtime before libstdc++, as
//! `ame c++` does; in the other order `new` is libstdc++'s, and transactions that call it run alone.
//!
//! Out of memory is told as the standard says. The handler (`std::set_new_handler`) and the exception are
//! code that is not instrumented, so the transaction is exclusive from there on. One thing is not done: an
//! exception of the handler goes through `new(std::nothrow)`, whose callers expect none.

use crate::entry::ame_make_exclusive;
use crate::heap::{ame_aligned_alloc, ame_free, ame_malloc};
use std::arch::naked_asm;
use std::ffi::{c_char, c_void, CStr};

/// A function of the program or of its C++ library.
fn function(name: &CStr) -> Option<unsafe extern "C" fn() -> *const c_void> {
    // SAFETY: a lookup; functions and data have pointers of one size.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast::<c_char>());
        (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, _>(found))
    }
}

/// std::get_new_handler().
fn new_handler() -> *const c_void {
    match function(c"_ZSt15get_new_handlerv") {
        // SAFETY: its signature.
        Some(get) => unsafe { get() },
        None => std::ptr::null(),
    }
}

/// What `new` calls when there is no memory, before it tries again: the handler, or what throws.
extern "C" fn out_of_memory() -> *const c_void {
    ame_make_exclusive();
    let handler = new_handler();
    if !handler.is_null() {
        return handler;
    }
    match function(c"_ZSt17__throw_bad_allocv") {
        Some(throw) => throw as *const c_void,
        None => crate::fatal!("out of memory in operator new"),
    }
}

/// The same for `new(std::nothrow)`; null: nothing more can be done.
extern "C" fn out_of_memory_nothrow() -> *const c_void {
    ame_make_exclusive();
    new_handler()
}

/// Any of them; what it takes and returns does not matter for its address.
type Operator = unsafe extern "C-unwind" fn();

unsafe extern "C" fn allocate(bytes: usize) -> *mut c_void {
    // SAFETY: plain allocation.
    unsafe { ame_malloc(bytes) }
}

unsafe extern "C" fn allocate_aligned(bytes: usize, alignment: usize) -> *mut c_void {
    // SAFETY: plain allocation.
    unsafe { ame_aligned_alloc(alignment, bytes) }
}

/// In assembly, because exceptions pass through: frames of Rust stop them.
macro_rules! operators_new {
    ($($name:ident: $allocate:ident, $otherwise:ident;)*) => {
        const NEW: &[Operator] = &[$($name),*];
        $(
        #[unsafe(naked)]
        #[no_mangle]
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                "push rsi",
                "push rdi",
                "sub rsp, 8",
                ".cfi_def_cfa_offset 32",
                "2:",
                "call {allocate}",
                "test rax, rax",
                "jnz 3f",
                "call {otherwise}",
                "test rax, rax",
                "jz 3f",
                "call rax",
                "mov rdi, [rsp + 8]",
                "mov rsi, [rsp + 16]",
                "jmp 2b",
                "3:",
                "add rsp, 24",
                ".cfi_def_cfa_offset 8",
                "ret",
                ".cfi_endproc",
                allocate = sym $allocate,
                otherwise = sym $otherwise,
            )
        }
        )*
    };
}

operators_new! {
    _Znwm: allocate, out_of_memory;
    _ZnwmSt11align_val_t: allocate_aligned, out_of_memory;
    _ZnwmRKSt9nothrow_t: allocate, out_of_memory_nothrow;
    _ZnwmSt11align_val_tRKSt9nothrow_t: allocate_aligned, out_of_memory_nothrow;
}

/// Forms that do what another does, which the program may have replaced.
macro_rules! forwarded {
    ($($name:ident = $to:literal;)*) => {
        const FORWARDED: &[Operator] = &[$($name),*];
        $(
        #[unsafe(naked)]
        #[no_mangle]
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $name() {
            naked_asm!(concat!("jmp ", $to, "@PLT"))
        }
        )*
    };
}

forwarded! {
    _Znam = "_Znwm";
    _ZnamSt11align_val_t = "_ZnwmSt11align_val_t";
    _ZnamRKSt9nothrow_t = "_ZnwmRKSt9nothrow_t";
    _ZnamSt11align_val_tRKSt9nothrow_t = "_ZnwmSt11align_val_tRKSt9nothrow_t";
    _ZdaPv = "_ZdlPv";
    _ZdlPvm = "_ZdlPv";
    _ZdaPvm = "_ZdaPv";
    _ZdlPvRKSt9nothrow_t = "_ZdlPv";
    _ZdaPvRKSt9nothrow_t = "_ZdaPv";
    _ZdaPvSt11align_val_t = "_ZdlPvSt11align_val_t";
    _ZdlPvmSt11align_val_t = "_ZdlPvSt11align_val_t";
    _ZdaPvmSt11align_val_t = "_ZdaPvSt11align_val_t";
    _ZdlPvSt11align_val_tRKSt9nothrow_t = "_ZdlPvSt11align_val_t";
    _ZdaPvSt11align_val_tRKSt9nothrow_t = "_ZdaPvSt11align_val_t";
}

/// # Safety
/// As operator delete.
#[no_mangle]
#[allow(non_snake_case)]
pub unsafe extern "C" fn _ZdlPv(p: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { ame_free(p) }
}

/// # Safety
/// As operator delete.
#[no_mangle]
#[allow(non_snake_case)]
pub unsafe extern "C" fn _ZdlPvSt11align_val_t(p: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { ame_free(p) }
}

/// Addresses of those that the program uses: it may have its own, or be linked with libstdc++ before
/// us. Others run exclusively, unless they are instrumented.
pub fn own() -> impl Iterator<Item = usize> {
    let delete = [
        _ZdlPv as *const () as usize,
        _ZdlPvSt11align_val_t as *const () as usize,
    ];
    // What a name stands for is looked up in the whole program.
    let all = NEW
        .iter()
        .chain(FORWARDED)
        .map(|&f| f as usize)
        .chain(delete);
    let ours = crate::caller::ours();
    all.filter(move |address| ours.contains(address))
}
