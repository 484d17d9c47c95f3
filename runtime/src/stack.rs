//! The stack half of rollback.
//!
//! At begin the live stack, from the stack pointer up to the base of the thread's stack, is copied.
//! Rollback copies it back, so that spilled registers and locals that need no barriers are what
//! they were, whatever frames the transaction has entered or left since. Two kinds of stack memory
//! are not private: what other transactions wrote through pointers in the meantime (kept: see
//! `foreign`), and what this transaction wrote through pointers above its begin (the undo log
//! knows). Memory below the stack pointer at begin is fresh: dead after a rollback.

use crate::fatal;
use crate::thread::Saved;
use std::arch::naked_asm;
use std::mem::offset_of;
use std::ops::Range;

/// Bytes of the stack that rollback runs on, and `on_abort` actions with it.
const ROLLBACK_STACK: usize = 1 << 20;

pub struct Snapshot {
    /// Stack pointer at begin: that of the caller of `ame_begin`.
    pub sp: usize,
    /// First address above the thread's stack that frames can use.
    base: usize,
    /// Lowest address of the thread's stack.
    low: usize,
    copy: *mut u8,
    capacity: usize,
    rollback_stack: usize,
}

impl Snapshot {
    /// `low` and `base`: bounds of the stack. `area`: address space for the copy, `capacity` bytes.
    pub fn new(low: usize, base: usize, area: usize, capacity: usize) -> Self {
        Snapshot {
            sp: base,
            base,
            low,
            copy: (area + ROLLBACK_STACK) as *mut u8,
            capacity: capacity - ROLLBACK_STACK,
            rollback_stack: area + ROLLBACK_STACK,
        }
    }

    /// Frames from here up stay as they are; returns what it was.
    pub fn set_base(&mut self, base: usize) -> usize {
        std::mem::replace(&mut self.base, base)
    }

    /// # Safety
    /// `sp` is the stack pointer of a caller's frame on the thread's stack.
    #[inline(always)]
    pub unsafe fn take(&mut self, sp: usize) {
        self.sp = sp;
        let n = self.base.wrapping_sub(sp);
        if n > self.capacity - 64 {
            self.bad_stack();
        }
        // SAFETY: [sp, base) is live stack, and so are the 63 bytes above base (the frame that ends
        // there, or what the kernel put above the first); the copy area is large enough, and they
        // are disjoint.
        unsafe {
            if n > 1024 {
                return self.take_deep(n);
            }
            // Whole 64-byte blocks: beats a call of memcpy for the usual few hundred bytes.
            let (mut from, mut to) = (sp as *const [u64; 8], self.copy.cast::<[u64; 8]>());
            let end = self.base as *const [u64; 8];
            while from < end {
                to.write_unaligned(from.read_unaligned());
                from = from.add(1);
                to = to.add(1);
            }
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn take_deep(&mut self, n: usize) {
        // Another stack is never nearer than this.
        if self.sp < self.low {
            self.bad_stack();
        }
        // SAFETY: as in `take`.
        unsafe { std::ptr::copy_nonoverlapping(self.sp as *const u8, self.copy, n) };
    }

    #[cold]
    fn bad_stack(&self) -> ! {
        fatal!(
            "ame_begin() called with a stack pointer ({:#x}) outside the thread's stack (which ends \
             at {:#x}), or on a stack deeper than {} MiB. Transactions on coroutine stacks, or \
             on the alternate stacks of signal handlers, are not supported",
            self.sp,
            self.base,
            self.capacity >> 20
        )
    }

    /// Puts the stack back, except for `keep`: memory that others may have written, in the order of
    /// its addresses.
    ///
    /// # Safety
    /// Runs on another stack; nothing uses the thread's stack meanwhile.
    pub unsafe fn restore(&self, keep: &[Range<usize>]) {
        let mut from = self.sp;
        for range in keep.iter().filter(|range| range.end > self.sp) {
            // SAFETY: as below.
            unsafe { self.restore_part(from, range.start.max(self.sp).min(self.base)) };
            from = from.max(range.end);
        }
        // SAFETY: the caller's promise; the parts lie in [sp, base), which `take` copied.
        unsafe { self.restore_part(from, self.base) };
    }

    unsafe fn restore_part(&self, from: usize, to: usize) {
        if from < to && to <= self.base {
            // SAFETY: see `restore`.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.copy.add(from - self.sp),
                    from as *mut u8,
                    to - from,
                )
            };
        }
    }

    pub fn rollback_stack(&self) -> usize {
        self.rollback_stack
    }
}

/// Continues on another stack with `f(arg)`.
#[unsafe(naked)]
pub unsafe extern "C" fn switch_stack(
    _arg: *mut crate::thread::Thread,
    _stack: usize,
    _f: unsafe extern "C" fn(*mut crate::thread::Thread) -> !,
) -> ! {
    naked_asm!("mov rsp, rsi", "and rsp, -16", "call rdx", "ud2")
}

/// Returns from `ame_begin` again with `value`.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(_saved: *const Saved, _value: u32) -> ! {
    naked_asm!(
        "mov eax, esi",
        "mov rbx, [rdi + {rbx}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rsp, [rdi + {sp}]",
        "jmp [rdi + {ip}]",
        rbx = const offset_of!(Saved, rbx),
        rbp = const offset_of!(Saved, rbp),
        r12 = const offset_of!(Saved, r12),
        r13 = const offset_of!(Saved, r13),
        r14 = const offset_of!(Saved, r14),
        r15 = const offset_of!(Saved, r15),
        sp = const offset_of!(Saved, sp),
        ip = const offset_of!(Saved, ip),
    )
}

/// Lowest and highest address of the calling thread's stack.
pub fn bounds() -> (usize, usize) {
    // SAFETY: plain pthread queries with local out-parameters.
    unsafe {
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        let err = libc::pthread_getattr_np(libc::pthread_self(), &mut attr);
        if err != 0 {
            fatal!(
                "pthread_getattr_np failed: {}",
                std::io::Error::from_raw_os_error(err)
            );
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        libc::pthread_attr_getstack(&attr, &mut low, &mut size);
        libc::pthread_attr_destroy(&mut attr);
        (low as usize, low as usize + size)
    }
}

/// End of the part of the stack that frames use. Above it lie the thread's control block and TLS
/// (other threads), or arguments, environment and auxiliary vector (main thread).
pub fn frames_end(low: usize, high: usize) -> usize {
    extern "C" {
        static __libc_stack_end: *const u8;
    }
    // SAFETY: set by the dynamic loader before any code of ours runs, then constant; the fs:0 word
    // is the address of the thread control block itself (x86-64 TLS ABI).
    unsafe {
        let main_end = __libc_stack_end as usize;
        if (low..high).contains(&main_end) {
            return main_end;
        }
    }
    // Static TLS lies between the frames and the control block. It must not be part of a snapshot:
    // the runtime's own state is in there.
    struct Search {
        stack: std::ops::Range<usize>,
        end: usize,
    }
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut libc::c_void,
    ) -> i32 {
        // SAFETY: called by dl_iterate_phdr with its own record and our `Search`.
        let (info, search) = unsafe { (&*info, &mut *data.cast::<Search>()) };
        let tls = info.dlpi_tls_data as usize;
        if search.stack.contains(&tls) {
            search.end = search.end.min(tls);
        }
        0
    }
    let mut search = Search {
        stack: low..high,
        end: high,
    };
    // SAFETY: `visit` matches the expected signature and `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.end & !15
}
