//! The C ABI: `ame_rt.h` for instrumented code, `ame.h` for programs. Every entry is a thunk:
//! fetch the thread's state, call the inner function.

use crate::actions::Actions;
use crate::delta::{self, Kind, Width};
use crate::primitive::Ordering;
use crate::protocol::Me;
use crate::segment;
use crate::signal;
use crate::stats::{self, Stats};
use crate::thread::{Mode, Saved, Thread};
use crate::tls::TLS_THREAD;
use crate::transaction::{self, enter_slow_path};
use crate::{access, fatal, heap, host, module};
use ame_abi::trace::cause;
use std::arch::naked_asm;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// Saves what an abort must restore, and goes on in [`transaction::begin`]; `stack::resume` returns
/// from here again. Neither the x87 control word nor that of SSE is among it: only inline assembly
/// and `fesetround` and the like change them, and both make a transaction irrevocable first.
/// (Saving them costs as much as the rest.) Sticky floating-point exception flags are not undone.
#[unsafe(naked)]
#[no_mangle]
pub unsafe extern "C" fn ame_begin() -> u32 {
    naked_asm!(
        "mov rax, qword ptr [rip + ame_tls@GOTTPOFF]",
        "mov rdi, qword ptr fs:[rax + {tls_thread}]",
        "test rdi, rdi",
        "jz 3f",
        "2:",
        "mov eax, [rdi + {depth}]",
        "inc dword ptr [rdi + {depth}]",
        "test eax, eax",
        "jnz 4f",
        "mov [rdi + {rbx}], rbx",
        "mov [rdi + {rbp}], rbp",
        "mov [rdi + {r12}], r12",
        "mov [rdi + {r13}], r13",
        "mov [rdi + {r14}], r14",
        "mov [rdi + {r15}], r15",
        "mov rax, [rsp]",
        "mov [rdi + {ip}], rax",
        "lea rax, [rsp + 8]",
        "mov [rdi + {sp}], rax",
        "jmp {begin}",
        "3:",
        "sub rsp, 8",
        "call {register}",
        "add rsp, 8",
        "mov rdi, rax",
        "jmp 2b",
        "4:",
        "xor eax, eax",
        "ret",
        tls_thread = const TLS_THREAD,
        depth = const offset_of!(Thread, depth),
        rbx = const offset_of!(Saved, rbx),
        rbp = const offset_of!(Saved, rbp),
        r12 = const offset_of!(Saved, r12),
        r13 = const offset_of!(Saved, r13),
        r14 = const offset_of!(Saved, r14),
        r15 = const offset_of!(Saved, r15),
        sp = const offset_of!(Saved, sp),
        ip = const offset_of!(Saved, ip),
        begin = sym transaction::begin,
        register = sym register,
    )
}

extern "C" fn register() -> *mut Thread {
    crate::thread::register()
}

const _: () = assert!(offset_of!(Me, since) == offset_of!(Me, ver) + 2);

/// Read barrier, cold half. The usual case, a fenced read that meets nobody, is
/// [`crate::protocol::read`] by hand: three registers instead of nine to save keep the store buffer
/// short, which the exchange has to drain. `tests/litmus.rs` runs this very code.
#[unsafe(naked)]
#[no_mangle]
pub unsafe extern "C" fn ame_read_slow() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "cmp word ptr gs:[{rver}], {poked}",
        "je 2f",
        "mov rdx, qword ptr [rip + ame_tls@GOTTPOFF]",
        "mov rdx, qword ptr fs:[rdx + {tls_thread}]",
        "test rdx, rdx",
        "jz 2f",
        "cmp byte ptr [rdx + {quick}], 0",
        "je 2f",
        // Own frames since begin need no lock.
        "mov rax, rdi",
        "sub rax, [rdx + {stack_low}]",
        "cmp rax, [rdx + {fresh_stack}]",
        "jb 2f",
        "mov rax, rdi",
        "shr rax, {shift}",
        "mov eax, eax",
        // A sequential reader stamps ahead, in Rust.
        "mov ecx, [rdx + {last_read}]",
        "inc ecx",
        "cmp ecx, eax",
        "je 2f",
        "dec dword ptr [rdx + {credit}]",
        "js 2f",
        "mov [rdx + {last_read}], rax",
        "inc qword ptr [rdx + {reads_first}]",
        "mov rcx, [rdx + {marks}]",
        "mov edx, dword ptr [rdx + {ver}]",
        // The neighbour as well, unless it is marked, perhaps by an earlier transaction: most objects are larger than a
        // granule. Marks from `since` on are live, which follows the version.
        "rol edx, 16",
        "xor eax, 1",
        "cmp word ptr [rcx + rax * 2], dx",
        "jae 4f",
        "shr edx, 16",
        "and eax, -2",
        "imul edx, edx, 0x10001",
        "xchg dword ptr [rcx + rax * 2], edx",
        "movabs rcx, {locks}",
        "cmp dword ptr [rcx + rax * 2], 0",
        "jne 5f",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        "4:",
        "shr edx, 16",
        "xor eax, 1",
        "xchg word ptr [rcx + rax * 2], dx",
        "movabs rcx, {locks}",
        "cmp word ptr [rcx + rax * 2], 0",
        "jne 3f",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        "2:",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "jmp {generic}",
        "3:",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "jmp {contended}",
        "5:",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "jmp {pair_contended}",
        rver = const ame_abi::SEGMENT_RVER,
        tls_thread = const TLS_THREAD,
        poked = const -1,
        shift = const ame_abi::GRANULE_SHIFT,
        quick = const offset_of!(Thread, quick),
        stack_low = const offset_of!(Thread, stack_low),
        fresh_stack = const offset_of!(Thread, fresh_stack),
        last_read = const offset_of!(Thread, last_read),
        credit = const offset_of!(Thread, credit),
        reads_first = const offset_of!(Thread, stats) + offset_of!(Stats, reads_first),
        marks = const offset_of!(Thread, marks),
        ver = const offset_of!(Thread, me) + offset_of!(Me, ver),
        locks = const ame_abi::LOCK_TABLE,
        generic = sym ame_read_generic,
        contended = sym ame_read_contended,
        pair_contended = sym ame_read_pair_contended,
    )
}

/// A stub preserves the general-purpose registers and calls `f(address, pc, thread)`, in a thread that has registered.
macro_rules! stub {
    ($(#[$doc:meta])* $name:ident => $inner:path) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[no_mangle]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "push rbp",
                "mov rbp, rsp",
                "and rsp, -16",
                "mov rsi, [rbp + 80]",
                "mov rdx, qword ptr [rip + ame_tls@GOTTPOFF]",
                "mov rdx, qword ptr fs:[rdx + {thread}]",
                "cld",
                // Not registered: no transaction, but the segment of another thread.
                "test rdx, rdx",
                "jz 2f",
                "call {inner}",
                "3:",
                "mov rsp, rbp",
                "pop rbp",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "pop rdi",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "ret",
                "2:",
                "call {leave_segment}",
                "jmp 3b",
                thread = const TLS_THREAD,
                inner = sym $inner,
                leave_segment = sym segment::leave,
            )
        }
    };
}

stub! {
    /// Read barrier, every case.
    ame_read_generic => read_slow
}
stub! {
    /// After marking a granule whose lock is taken.
    ame_read_contended => read_contended
}
stub! {
    /// After marking a granule and its neighbour, when a lock is taken.
    ame_read_pair_contended => read_pair_contended
}
stub! {
    /// Write barrier, cold half.
    ame_write_slow => write_slow
}
stub! {
    /// Write to an immutable field that is not fresh.
    ame_immutable_slow => immutable_slow
}
stub! {
    /// Poll.
    ame_poll_slow => poll_slow
}
stub! {
    /// Call of an unknown target in a transaction.
    ame_call_slow => call_slow
}

/// The same for an ordinary function of the ABI: arguments in %rdi, %rsi, %rdx and %rcx, result in
/// %rax. Code
/// that calls these in cold blocks keeps everything else in registers.
macro_rules! function_stub {
    ($($name:ident => $inner:path,)*) => {$(
        #[unsafe(naked)]
        #[no_mangle]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "push rbp",
                "mov rbp, rsp",
                // Nine registers and the return address: `caller` unwinds from inside the call.
                ".cfi_def_cfa rbp, 80",
                ".cfi_offset rbp, -80",
                "and rsp, -16",
                "cld",
                "call {inner}",
                "mov rsp, rbp",
                "pop rbp",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "pop rdi",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "ret",
                ".cfi_endproc",
                inner = sym $inner,
            )
        }
    )*};
}

function_stub! {
    ame_read_range_full => ame_read_range,
    ame_write_range_full => ame_write_range,
    ame_write_steps_stub => ame_write_steps,
    ame_private_range_full => ame_private_range,
    ame_make_inevitable_stub => ame_make_inevitable,
    ame_make_exclusive_stub => ame_make_exclusive,
    ame_refcount_add32_full => ame_refcount_add32,
    ame_refcount_add64_full => ame_refcount_add64,
    ame_refcount_read32_full => ame_refcount_read32,
    ame_refcount_read64_full => ame_refcount_read64,
    ame_counter_add32_stub => ame_counter_add32,
    ame_counter_add64_stub => ame_counter_add64,
    ame_counter_read32_stub => ame_counter_read32,
    ame_counter_read64_stub => ame_counter_read64,
}

/// Stubs with a way out at the start, for granules that the transaction holds for writing already:
/// what is there needs no log, and counts are changed in place.
macro_rules! quick_stub {
    ($($name:ident, $slow:ident: [$($first:literal),*] [$($work:literal),*];)*) => {$(
        #[unsafe(naked)]
        #[no_mangle]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                // Each operand has to be named; only one of the stubs looks at it.
                "# {headers}",
                $($first,)*
                "mov rax, rdi",
                "shr rax, {shift}",
                "mov eax, eax",
                "movzx eax, word ptr gs:[rax * 2 + {marks}]",
                "cmp ax, word ptr gs:[{wver}]",
                "jb {slow}",
                $($work,)*
                "3:",
                "ret",
                marks = const ame_abi::SEGMENT_MARKS,
                wver = const ame_abi::SEGMENT_WVER,
                shift = const ame_abi::GRANULE_SHIFT,
                slow = sym $slow,
                headers = sym delta::HEADERS,
            )
        }
    )*};
}

/// Stubs with a way out at the start for counts that the transaction has changed lately, in an entry of its
/// [`delta::Deltas`]. One that comes to zero does not take it.
macro_rules! recent_stub {
    ($($name:ident, $slow:ident: $change:literal, $load:literal;)*) => {$(
        #[unsafe(naked)]
        #[no_mangle]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "push rcx",
                "push rdx",
                "mov rcx, qword ptr [rip + ame_tls@GOTTPOFF]",
                "mov rcx, qword ptr fs:[rcx + {thread}]",
                "test rcx, rcx",
                "jz 3f",
                "mov eax, edi",
                "and eax, {mask}",
                "add rax, rcx",
                "cmp qword ptr [rax + {field}], rdi",
                "jne 3f",
                "mov rcx, qword ptr [rax + {entry}]",
                $change,
                "add rdx, qword ptr [rcx + {delta}]",
                $load,
                "add rax, rdx",
                "jz 3f",
                "mov qword ptr [rcx + {delta}], rdx",
                "inc dword ptr [rcx + {changes}]",
                "pop rdx",
                "pop rcx",
                "ret",
                "3:",
                "pop rdx",
                "pop rcx",
                "jmp {slow}",
                thread = const TLS_THREAD,
                mask = const delta::RECENT_MASK,
                field = const offset_of!(Thread, deltas) + delta::RECENT_FIELD,
                entry = const offset_of!(Thread, deltas) + delta::RECENT_DELTA,
                delta = const delta::DELTA_DELTA,
                changes = const delta::DELTA_CHANGES,
                slow = sym $slow,
            )
        }
    )*};
}

recent_stub! {
    ame_refcount_add32_recent, ame_refcount_add32_full: "movsxd rdx, esi", "movsxd rax, dword ptr [rdi]";
    ame_refcount_add64_recent, ame_refcount_add64_full: "mov rdx, rsi", "mov rax, qword ptr [rdi]";
}

quick_stub! {
    ame_refcount_add32_stub, ame_refcount_add32_recent: [] ["mov eax, dword ptr [rdi]", "add eax, esi", "mov dword ptr [rdi], eax"];
    ame_refcount_add64_stub, ame_refcount_add64_recent: [] ["mov rax, qword ptr [rdi]", "add rax, rsi", "mov qword ptr [rdi], rax"];
    ame_refcount_read32_stub, ame_refcount_read32_full:
        // Negative, where headers are on: a count that nobody changes.
        ["mov eax, dword ptr [rdi]", "test eax, eax", "jns 4f", "cmp byte ptr [rip + {headers}], 0", "jne 3f", "4:"]
        ["mov eax, dword ptr [rdi]"];
    ame_refcount_read64_stub, ame_refcount_read64_full: [] ["mov rax, qword ptr [rdi]"];
}

/// Stubs of range barriers with a way out at the start, for ranges of up to [`QUICK_RANGE`] granules that the transaction
/// holds already: copies and fills are mostly short, and of new memory.
macro_rules! range_stub {
    ($($name:ident: $version:ident, $slow:ident;)*) => {$(
        #[unsafe(naked)]
        #[no_mangle]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "push rdx",
                "push rdi",
                "movzx edx, word ptr gs:[{version}]",
                "lea rax, [rdi + rsi - 1]",
                "shr rax, {shift}",
                "shr rdi, {shift}",
                "mov edi, edi",
                // An empty range and one across the end of the table have a lower last granule.
                "sub eax, edi",
                "jb 3f",
                "cmp eax, {granules}",
                "jae 3f",
                "add rdi, rax",
                "2:",
                "cmp word ptr gs:[rdi * 2 + {marks}], dx",
                "jb 3f",
                "dec rdi",
                "dec eax",
                "jns 2b",
                "pop rdi",
                "pop rdx",
                "ret",
                "3:",
                "pop rdi",
                "pop rdx",
                "jmp {slow}",
                marks = const ame_abi::SEGMENT_MARKS,
                version = const ame_abi::$version,
                shift = const ame_abi::GRANULE_SHIFT,
                granules = const QUICK_RANGE,
                slow = sym $slow,
            )
        }
    )*};
}

/// Longer ones are compared four granules at a time, in Rust.
const QUICK_RANGE: u32 = 32;

range_stub! {
    ame_read_range_stub: SEGMENT_RVER, ame_read_range_full;
    ame_write_range_stub: SEGMENT_WVER, ame_write_range_full;
    ame_private_range_stub: SEGMENT_WVER, ame_private_range_full;
}

unsafe extern "C" fn read_slow(address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *thread };
    if enter_slow_path(thread, pc) {
        access::read(thread, address, pc);
    }
}

unsafe extern "C" fn read_contended(address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    if enter_slow_path(thread, pc) {
        access::read_contended(thread, address, pc);
    }
}

unsafe extern "C" fn read_pair_contended(address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    if enter_slow_path(thread, pc) {
        access::read_pair_contended(thread, address, pc);
    }
}

unsafe extern "C" fn write_slow(address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    // SAFETY: the program is about to write there.
    unsafe {
        if thread.control().poked() || !thread.quick {
            write_watched(thread, address, pc);
        } else if thread.alone {
            access::write_alone(thread, address, pc);
        } else {
            access::write_quick(thread, address, pc);
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn write_watched(thread: &mut Thread, address: usize, pc: u64) {
    if enter_slow_path(thread, pc) {
        // SAFETY: the caller's promise.
        unsafe { access::write(thread, address, pc) };
    }
}

unsafe extern "C" fn immutable_slow(address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    if enter_slow_path(thread, pc) && *thread.mark(crate::heap::granule(address)) <= thread.me.ver {
        transaction::make_exclusive(thread, pc);
    }
}

unsafe extern "C" fn poll_slow(_address: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    enter_slow_path(unsafe { &mut *thread }, pc);
}

unsafe extern "C" fn call_slow(target: usize, pc: u64, thread: *mut Thread) {
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    if enter_slow_path(thread, pc) {
        module::call_unknown(thread, target, pc);
    }
}

/// The code that called the current entry: what its return address is.
macro_rules! caller {
    () => {
        crate::caller::pc()
    };
}

/// The calling thread's state if it is in a transaction that can fail.
#[inline(always)]
pub fn speculative() -> Option<&'static mut Thread> {
    // SAFETY: the thread's own state, used by one entry at a time.
    let thread = unsafe { Thread::current().as_mut() }?;
    enter_slow_path(thread, 0).then_some(thread)
}

#[no_mangle]
pub extern "C" fn ame_read_range(address: *const c_void, length: usize) {
    if let Some(thread) = speculative() {
        access::read_range(thread, address as usize, length, caller!());
    }
}

/// # Safety
/// The range is writable.
#[no_mangle]
pub unsafe extern "C" fn ame_write_range(address: *mut c_void, length: usize) {
    if let Some(thread) = speculative() {
        // SAFETY: the caller's promise.
        unsafe { access::write_range(thread, address as usize, length, caller!()) };
    }
}

/// # Safety
/// `size` bytes are writable at each step.
#[no_mangle]
pub unsafe extern "C" fn ame_write_steps(
    address: *mut c_void,
    length: usize,
    step: usize,
    size: usize,
) {
    if let Some(thread) = speculative() {
        // SAFETY: the caller's promise.
        unsafe { access::write_steps(thread, address as usize, length, step, size, caller!()) };
    }
}

/// # Safety
/// The range is readable and written by this thread only.
#[no_mangle]
pub unsafe extern "C" fn ame_private_range(address: *mut c_void, length: usize) {
    if let Some(thread) = speculative() {
        // SAFETY: the caller's promise.
        unsafe { access::private_range(thread, address as usize, length, caller!()) };
    }
}

#[no_mangle]
pub extern "C" fn ame_make_inevitable() {
    if let Some(thread) = speculative() {
        transaction::make_inevitable(thread, caller!());
    }
}

#[no_mangle]
pub extern "C" fn ame_inevitable_from_begin() {
    // SAFETY: the thread's own state.
    if let Some(thread) = unsafe { Thread::current().as_mut() } {
        transaction::inevitable_from_begin(thread);
    }
}

#[no_mangle]
pub extern "C" fn ame_hold_token() {
    if let Some(thread) = speculative() {
        transaction::hold_token(thread, caller!());
    }
}

#[no_mangle]
pub extern "C" fn ame_keep(lock: *const c_void) {
    if let Some(thread) = speculative() {
        let _hold = signal::hold();
        thread.eventful = true;
        thread.allocations.keep_until_end(lock as usize);
    }
}

#[no_mangle]
pub extern "C" fn ame_revocable() -> i32 {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_ref() }
        .is_some_and(|thread| thread.depth > 0 && thread.mode == Mode::Revocable) as i32
}

#[no_mangle]
pub extern "C" fn ame_at_stake() -> u64 {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_ref() }
        .filter(|thread| thread.depth > 0 && thread.mode == Mode::Revocable && thread.started != 0)
        .map_or(0, |thread| crate::clock::cycles() - thread.started)
}

#[no_mangle]
pub extern "C" fn ame_written() -> u64 {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_ref() }
        .filter(|thread| thread.depth > 0)
        .map_or(0, |thread| thread.undo.entries().len() as u64)
}

#[no_mangle]
pub extern "C" fn ame_owner_of(block: *const c_void) -> u32 {
    if block.is_null() {
        // SAFETY: the thread's own state.
        return heap::number(unsafe { (*Thread::get()).me });
    }
    heap::owner_of(block as usize)
}

#[no_mangle]
pub extern "C" fn ame_roll_back() -> ! {
    // SAFETY: the thread's own state.
    match unsafe { Thread::current().as_mut() } {
        Some(thread) if thread.depth > 0 => transaction::abort(thread, cause::LOCK, caller!()),
        _ => fatal!("ame_roll_back() outside a transaction"),
    }
}

#[no_mangle]
pub extern "C" fn ame_make_exclusive() {
    if let Some(thread) = speculative() {
        transaction::make_exclusive(thread, caller!());
    }
}

/// # Safety
/// `function` is a C string.
#[no_mangle]
pub unsafe extern "C" fn ame_unbalanced(function: *const std::ffi::c_char) {
    // SAFETY: the caller's contract.
    let name = unsafe { std::ffi::CStr::from_ptr(function) }.to_string_lossy();
    fatal!(
        "{name} is marked as hot and was entered outside of transactions; a function that it called \
         began a transaction and returned inside it. Commit before returning, or take the mark away"
    )
}

#[no_mangle]
pub extern "C" fn ame_inevitable() {
    ame_make_inevitable();
}

#[no_mangle]
pub extern "C" fn ame_exclusive() {
    ame_make_exclusive();
}

/// Commits the whole transaction, whatever its depth, and remembers the depth.
#[no_mangle]
pub extern "C" fn ame_boundary_enter() {
    // SAFETY: the thread's own state.
    let Some(thread) = (unsafe { Thread::current().as_mut() }) else {
        return;
    };
    let depth = thread.depth;
    if depth > 0 {
        thread.depth = 1;
        transaction::commit();
    }
    let _hold = signal::hold();
    // A stack: what runs between enter and leave may have boundaries of its own.
    thread.boundaries.push(depth);
}

/// Begins again at the depth that the matching `ame_boundary_enter` left. Naked, so that the
/// transaction begins in the caller's frame; the depth stays there for restarts.
#[unsafe(naked)]
#[no_mangle]
pub unsafe extern "C" fn ame_boundary_leave() {
    naked_asm!(
        "sub rsp, 8",
        "call {depth}",
        "mov [rsp], rax",
        "test eax, eax",
        "jz 2f",
        "call {begin}",
        "mov rdi, [rsp]",
        "call {restore}",
        "2:",
        "add rsp, 8",
        "ret",
        depth = sym boundary_depth,
        begin = sym ame_begin,
        restore = sym restore_depth,
    )
}

extern "C" fn boundary_depth() -> u32 {
    // SAFETY: the thread's own state.
    let thread = unsafe { Thread::current().as_mut() };
    thread.and_then(|t| t.boundaries.pop()).unwrap_or(0)
}

extern "C" fn restore_depth(depth: u32) {
    // SAFETY: the thread's own state; a transaction has just begun, so it is registered.
    let thread = unsafe { &mut *Thread::current() };
    thread.depth = depth;
}

macro_rules! delta_entries {
    ($kind:expr, $width:expr, $ty:ty, $add:ident, $read:ident) => {
        /// # Safety
        /// `field` is a valid, aligned field.
        #[no_mangle]
        pub unsafe extern "C" fn $add(field: *mut $ty, delta: $ty) -> $ty {
            // SAFETY: the caller's promise.
            unsafe { delta::add(field as usize, $width, $kind, delta as i64, 0) as $ty }
        }

        /// # Safety
        /// `field` is a valid, aligned field.
        #[no_mangle]
        pub unsafe extern "C" fn $read(field: *const $ty) -> $ty {
            // SAFETY: the caller's promise.
            unsafe { delta::read(field as usize, $width) as $ty }
        }
    };
}

delta_entries!(
    Kind::Refcount,
    Width::W32,
    i32,
    ame_refcount_add32,
    ame_refcount_read32
);
delta_entries!(
    Kind::Refcount,
    Width::W64,
    i64,
    ame_refcount_add64,
    ame_refcount_read64
);
delta_entries!(
    Kind::Counter,
    Width::W32,
    i32,
    ame_counter_add32,
    ame_counter_read32
);
delta_entries!(
    Kind::Counter,
    Width::W64,
    i64,
    ame_counter_add64,
    ame_counter_read64
);

type Copies = HashMap<usize, *mut c_void>;

thread_local! {
    /// Copies of per_thread objects, by the address of the original. A leaked map, because a
    /// thread-local without a destructor can still be used in those of pthread keys.
    static COPIES: Cell<Option<&'static RefCell<Copies>>> = const { Cell::new(None) };
}

/// # Safety
/// `object` has `length` readable bytes, always the same for one address.
#[no_mangle]
pub unsafe extern "C" fn ame_per_thread(object: *mut c_void, length: usize) -> *mut c_void {
    let _hold = signal::hold();
    COPIES.with(|cell| {
        let copies = cell.get().unwrap_or_else(|| Box::leak(Box::default()));
        cell.set(Some(copies));
        *copies
            .borrow_mut()
            .entry(object as usize)
            .or_insert_with(|| {
                // Granules of its own. Never freed: its address may be kept as long as the thread.
                let bytes = length.div_ceil(16) * 2;
                let copy = Box::leak(vec![0u64; bytes].into_boxed_slice()).as_mut_ptr();
                // SAFETY: the caller's promise.
                unsafe {
                    std::ptr::copy_nonoverlapping(object.cast::<u8>(), copy.cast::<u8>(), length)
                };
                copy.cast()
            })
    })
}

#[no_mangle]
pub extern "C" fn ame_commit() {
    transaction::commit();
}

/// # Safety
/// `f(argument)` may be called, several times if it is rolled back.
#[no_mangle]
pub unsafe extern "C" fn ame_atomic(f: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) {
    // SAFETY: the caller's promise; the frame is restored by rollback like any other.
    unsafe {
        ame_begin();
        f(argument);
    }
    ame_commit();
}

#[no_mangle]
pub extern "C" fn ame_in_transaction() -> i32 {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_ref() }.is_some_and(|thread| thread.depth > 0) as i32
}

/// For code that is compiled without the pass, which has no clones.
#[no_mangle]
pub extern "C" fn ame_is_clone() -> i32 {
    0
}

#[no_mangle]
pub extern "C" fn ame_is_fresh(address: *const c_void) -> i32 {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_mut() }
        .is_some_and(|thread| thread.depth > 0 && access::fresh(thread, address as usize))
        as i32
}

#[no_mangle]
pub extern "C" fn ame_is_written(address: *const c_void) -> i32 {
    let address = address as usize;
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_mut() }.is_some_and(|thread| {
        thread.depth > 0
            && (*thread.mark(heap::granule(address)) == thread.me.ver + 1
                || access::fresh(thread, address))
    }) as i32
}

#[no_mangle]
pub extern "C" fn ame_retry() -> ! {
    // SAFETY: the thread's own state.
    match unsafe { Thread::current().as_mut() } {
        Some(thread) if thread.depth > 0 => {
            transaction::share_the_gate(thread, 0);
            transaction::abort(thread, cause::RETRY, 0)
        }
        _ => fatal!("ame_retry() outside a transaction"),
    }
}

#[no_mangle]
pub extern "C" fn ame_should_commit() -> i32 {
    // SAFETY: the thread's own state.
    let Some(thread) = (unsafe { Thread::current().as_ref() }) else {
        return 0;
    };
    let waited_for = thread.peer().waiters.load(Ordering::Relaxed) != 0;
    let closed = crate::tables::gate().load(Ordering::Relaxed) != 0;
    let asked = waited_for || thread.me.doomed() || (closed && !thread.alone) || signal::waiting();
    (thread.depth > 0 && asked) as i32
}

/// Notes something for the end of the transaction; false outside of one.
fn at_end(note: impl FnOnce(&mut Actions)) -> bool {
    // SAFETY: the thread's own state.
    match unsafe { Thread::current().as_mut() } {
        Some(thread) if thread.depth > 0 => {
            let _hold = signal::hold();
            thread.eventful = true;
            note(&mut thread.actions);
            true
        }
        _ => false,
    }
}

/// # Safety
/// `f(argument)` may be called when the transaction commits, and uses no transactions itself.
#[no_mangle]
pub unsafe extern "C" fn ame_before_release(
    f: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    if !at_end(|actions| actions.before_release(f, argument)) {
        // SAFETY: the caller's promise.
        unsafe { f(argument) }
    }
}

/// # Safety
/// `f(argument)` may be called when the transaction commits.
#[no_mangle]
pub unsafe extern "C" fn ame_on_commit(
    f: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    if !at_end(|actions| actions.on_commit(f, argument)) {
        // SAFETY: the caller's promise.
        unsafe { f(argument) }
    }
}

/// # Safety
/// `f(argument)` may be called when the transaction is rolled back.
#[no_mangle]
pub unsafe extern "C" fn ame_on_abort(f: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) {
    at_end(|actions| actions.on_abort(f, argument));
}

#[no_mangle]
pub extern "C" fn ame_set_dealloc(dealloc: Option<unsafe extern "C" fn(*mut c_void)>) {
    delta::DEALLOC.set(dealloc);
}

#[no_mangle]
pub extern "C" fn ame_set_heirs(heirs: Option<unsafe extern "C" fn(*const usize, usize)>) {
    delta::HEIRS.set(heirs);
}

#[no_mangle]
pub extern "C" fn ame_set_hot(hot: Option<unsafe extern "C" fn(*mut c_void, u32)>) {
    delta::HOT.set(hot);
}

#[no_mangle]
pub extern "C" fn ame_set_fenced(on: i32) {
    access::set_fenced(on != 0);
}

#[no_mangle]
pub extern "C" fn ame_set_headers(on: i32) {
    delta::set_headers(on != 0);
}

#[no_mangle]
pub extern "C" fn ame_own_region(index: u32, low: usize, bytes: usize, top: usize) {
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *Thread::get() };
    thread.has_own = true;
    thread.own[index as usize] = access::OwnRegion { low, bytes, top };
}

#[no_mangle]
pub extern "C" fn ame_set_begin_hooks(
    begins: Option<extern "C" fn()>,
    rolled_back: Option<extern "C" fn()>,
) {
    transaction::ROLLED_BACK.set(rolled_back);
    transaction::BEGINS.set(begins);
}

#[no_mangle]
pub extern "C" fn ame_set_wait_hook(hook: Option<extern "C" fn()>) {
    crate::protocol::WAIT_HOOK.set(hook);
}

#[no_mangle]
pub extern "C" fn ame_set_end_hook(hook: Option<extern "C" fn()>) {
    transaction::END_WANTED.set(hook);
}

#[no_mangle]
pub extern "C" fn ame_set_host(
    site: Option<unsafe extern "C" fn() -> u32>,
    object: Option<unsafe extern "C" fn(*const c_void, *const c_void, usize) -> u32>,
) {
    host::set(site, object);
}

/// # Safety
/// `file` and `function` are C strings.
#[no_mangle]
pub unsafe extern "C" fn ame_host_site(
    file: *const c_char,
    function: *const c_char,
    line: u32,
    caller: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { host::intern_site(file, function, line, caller) }
}

/// # Safety
/// All three are C strings.
#[no_mangle]
pub unsafe extern "C" fn ame_host_object(
    kind: *const c_char,
    part: *const c_char,
    advice: *const c_char,
) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { host::intern_object([kind, part, advice]) }
}

#[no_mangle]
pub extern "C" fn ame_host_readable(address: *const c_void, n: usize) -> i32 {
    host::readable(address as usize, n) as i32
}

/// `struct ame_host_place` of `ame_rt.h`.
#[repr(C)]
pub struct Place {
    file: *const c_char,
    function: *const c_char,
    line: u32,
    caller: u32,
}

/// # Safety
/// `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_host_get_site(number: u32, out: *mut Place) -> i32 {
    let Some(site) = host::get_site(number) else {
        return 0;
    };
    let place = Place {
        file: site.file.as_ptr(),
        function: site.function.as_ptr(),
        line: site.line,
        caller: site.caller,
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(place) };
    1
}

/// # Safety
/// `out` is valid: `struct ame_host_thing` of `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_host_get_object(number: u32, out: *mut [*const c_char; 3]) -> i32 {
    let Some(object) = host::get_object(number) else {
        return 0;
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(object.each_ref().map(|text| text.as_ptr())) };
    1
}

/// # Safety
/// `out` has room for `room` entries.
#[no_mangle]
pub unsafe extern "C" fn ame_host_conflicts(out: *mut host::Conflict, room: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { give(host::conflicts(), out, room) }
}

/// # Safety
/// `out` has room for `room` entries.
#[no_mangle]
pub unsafe extern "C" fn ame_host_threads(out: *mut stats::OfThread, room: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { give(stats::of_threads(), out, room) }
}

/// # Safety
/// `out` has room for `room` entries.
unsafe fn give<T>(all: Vec<T>, out: *mut T, room: usize) -> usize {
    let n = all.len();
    for (i, entry) in all.into_iter().take(room).enumerate() {
        // SAFETY: the caller's promise.
        unsafe { out.add(i).write(entry) };
    }
    n
}

#[no_mangle]
pub extern "C" fn ame_host_waited(object: u32, since: u64) {
    // SAFETY: the thread's own state.
    host::waited(unsafe { &mut *Thread::get() }, object, since);
}

#[no_mangle]
pub extern "C" fn ame_set_watch(on: i32) {
    crate::watch(on != 0);
}

#[no_mangle]
pub extern "C" fn ame_set_plain_hook(hook: Option<extern "C" fn()>) {
    module::PLAIN_HOOK.set(hook);
}

#[no_mangle]
pub extern "C" fn ame_is_instrumented(address: *const c_void) -> i32 {
    module::is_registered(address as usize) as i32
}

/// # Safety
/// `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_thread_stats(out: *mut Stats) {
    // SAFETY: the caller's promise, and the thread's own state.
    unsafe { out.write(stats::of_thread(&*Thread::get())) };
}

/// # Safety
/// `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_total_stats(out: *mut Stats) {
    // SAFETY: the caller's promise.
    unsafe { out.write(stats::total()) };
}
