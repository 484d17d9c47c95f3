//! The thread's control block, `ame_tls` of `ame_rt.h`.
//!
//! Stable Rust cannot define a thread-local with C linkage. A static in section `.tdata` becomes a
//! symbol of type `STT_TLS`, which is what C code and the pass refer to; Rust itself must never
//! name it (it would read the initial image), and goes through the thread pointer in [`tls`].

use crate::thread::Thread;
use ame_abi::VER_POKED;
use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Layout fixed by `ame_rt.h` and `ame_abi::TLS_*`. Atomic, because others poke `rver` and `wver`.
#[repr(C)]
pub struct Tls {
    pub marks: AtomicUsize,
    pub rver: AtomicU16,
    pub wver: AtomicU16,
    pub ver: AtomicU16,
    pub unfenced: AtomicU16,
    pub thread: AtomicPtr<Thread>,
    /// What follows is for [`crate::signal`]: how many holds there are, and which signals wait.
    pub holds: AtomicU32,
    pub waiting_signals: AtomicU64,
}

impl Tls {
    /// Whether somebody wants the thread in a slow path, or did. Both words count: a thread that
    /// repairs the first before the second is poked has a stale poke left in the second.
    #[inline(always)]
    pub fn poked(&self) -> bool {
        self.rver.load(Ordering::Relaxed) == VER_POKED
            || self.wver.load(Ordering::Relaxed) == VER_POKED
    }
}

const _: () = {
    assert!(core::mem::offset_of!(Tls, marks) == ame_abi::TLS_MARKS as usize);
    assert!(core::mem::offset_of!(Tls, rver) == ame_abi::TLS_RVER as usize);
    assert!(core::mem::offset_of!(Tls, wver) == ame_abi::TLS_WVER as usize);
    assert!(core::mem::offset_of!(Tls, ver) == ame_abi::TLS_VER as usize);
    assert!(core::mem::offset_of!(Tls, unfenced) == ame_abi::TLS_UNFENCED as usize);
    assert!(core::mem::offset_of!(Tls, thread) == TLS_THREAD);
};
/// Offset of `thread`, for the assembly stubs.
pub const TLS_THREAD: usize = 16;

#[unsafe(no_mangle)]
#[unsafe(link_section = ".tdata")]
#[allow(non_upper_case_globals)]
pub static ame_tls: Tls = Tls {
    marks: AtomicUsize::new(crate::tables::ZERO_MARKS),
    rver: AtomicU16::new(0),
    wver: AtomicU16::new(0),
    ver: AtomicU16::new(0),
    unfenced: AtomicU16::new(0),
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
