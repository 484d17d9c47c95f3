//! What a thread finds by its thread pointer (`ame_tls` of `ame_rt.h`) and by %gs (its control words, `struct ame_control`).
//!
//! Inline checks need the mark table and two versions. By %gs they need no register for that: the register allocator
//! has 15, and an evaluation loop wants more. `segment` says what %gs points to when.
//!
//! Stable Rust cannot define a thread-local with C linkage. A static in section `.tdata` becomes a
//! symbol of type `STT_TLS`, which is what C code and the pass refer to; Rust itself must never
//! name it (it would read the initial image), and goes through the thread pointer in [`tls`].

use crate::tables::ZERO_MARKS;
use crate::thread::Thread;
use ame_abi::{SEGMENT_MARKS, VER_POKED};
use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Layout fixed by `ame_rt.h` and `ame_abi::SEGMENT_*`. Atomic, because others poke `rver` and `wver`.
#[repr(C)]
pub struct Control {
    pub rver: AtomicU16,
    pub wver: AtomicU16,
    pub ver: AtomicU16,
}

/// Layout fixed by `ame_rt.h` and `ame_abi::TLS_*`.
#[repr(C)]
pub struct Tls {
    pub marks: AtomicUsize,
    pub unfenced: AtomicU16,
    pub inside: AtomicU16,
    pub thread: AtomicPtr<Thread>,
    /// What follows is for [`crate::signal`]: how many holds there are, and which signals wait.
    pub holds: AtomicU32,
    pub waiting_signals: AtomicU64,
}

impl Control {
    /// The control words before a mark table.
    #[inline(always)]
    pub fn of(marks: usize) -> &'static Control {
        // SAFETY: they are mapped as long as the table, which is never unmapped.
        unsafe { &*((marks - SEGMENT_MARKS as usize) as *const Control) }
    }

    /// Whether somebody wants the thread in a slow path, or did. Both words count: a thread that
    /// repairs the first before the second is poked has a stale poke left in the second.
    #[inline(always)]
    pub fn poked(&self) -> bool {
        self.rver.load(Ordering::Relaxed) == VER_POKED
            || self.wver.load(Ordering::Relaxed) == VER_POKED
    }
}

impl Tls {
    /// For the calling thread: those of zeroes until it registers.
    #[inline(always)]
    pub fn control(&self) -> &'static Control {
        Control::of(self.marks.load(Ordering::Relaxed))
    }
}

const _: () = {
    assert!(core::mem::offset_of!(Tls, marks) == ame_abi::TLS_MARKS as usize);
    assert!(core::mem::offset_of!(Control, rver) == ame_abi::SEGMENT_RVER as usize);
    assert!(core::mem::offset_of!(Control, wver) == ame_abi::SEGMENT_WVER as usize);
    assert!(core::mem::offset_of!(Control, ver) == ame_abi::SEGMENT_VER as usize);
    assert!(core::mem::offset_of!(Tls, unfenced) == ame_abi::TLS_UNFENCED as usize);
    assert!(core::mem::offset_of!(Tls, inside) == ame_abi::TLS_INSIDE as usize);
    assert!(core::mem::offset_of!(Tls, thread) == TLS_THREAD);
};
/// Offset of `thread`, for the assembly stubs.
pub const TLS_THREAD: usize = 16;

#[unsafe(no_mangle)]
#[unsafe(link_section = ".tdata")]
#[allow(non_upper_case_globals)]
pub static ame_tls: Tls = Tls {
    marks: AtomicUsize::new(ZERO_MARKS),
    unfenced: AtomicU16::new(0),
    inside: AtomicU16::new(0),
    thread: AtomicPtr::new(std::ptr::null_mut()),
    holds: AtomicU32::new(0),
    waiting_signals: AtomicU64::new(0),
};

/// The calling thread's control block.
#[inline(always)]
pub fn tls() -> &'static Tls {
    let address: *const Tls;
    // SAFETY: the initial-exec TLS sequence of the x86-64 ABI. The block lives as long as the
    // thread, and the reference does not leave it except through `Foreign`, which guards it.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + ame_tls@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) address,
            options(pure, readonly, nostack),
        );
        &*address
    }
}
