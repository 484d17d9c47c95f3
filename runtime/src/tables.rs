//! Where marks, locks and per-thread state live.
//!
//! All tables have fixed addresses, so that a barrier needs no base but the thread's own mark
//! table, and so that a thread which never registered can read a table of zeroes:
//!
//! | what | address | size |
//! | --- | --- | --- |
//! | lock table, `u16` per granule | `0x1200_0000_0000` | 8 GiB |
//! | zero marks (read-only) | `0x1204_0000_0000` | 8 GiB |
//! | mark table of slot s | `0x1300_0020_0000 + s * (8 GiB + 2 MiB)` | 8 GiB |
//! | logs of slot s | `0x2000_0000_0000 + s * 16 GiB` | 16 GiB |
//! | heap arena | see `window` | |
//!
//! A page before each mark table has its thread's control words (`tls`).
//!
//! They are reserved without backing (`MAP_NORESERVE`) and touched sparsely. The addresses stay
//! clear of AddressSanitizer's shadow, of the executable and of the kernel's mmap area.

use crate::peer::Peer;
use crate::primitive::*;

/// Highest number of threads that can be registered at the same time.
#[cfg(not(loom))]
pub const MAX_THREADS: usize = 1000;
#[cfg(loom)]
pub const MAX_THREADS: usize = 3;

/// log2 of the granules of a region, which one thread can lock without an atomic instruction each.
pub const REGION_SHIFT: u32 = 12;

#[cfg(not(loom))]
pub use fixed::*;
#[cfg(loom)]
pub use modelled::*;

#[cfg(not(loom))]
mod fixed {
    use super::*;
    use crate::fatal;
    use ame_abi::{GRANULE_MASK, LOCK_TABLE, SEGMENT_MARKS};

    const LOCKS: usize = LOCK_TABLE as usize;
    /// What `ame_tls.marks` points to in a thread that has not registered.
    pub const ZERO_MARKS: usize = 0x1204_0000_0000;
    const MARKS: usize = 0x1300_0000_0000 + BEFORE_MARKS;
    /// Room for control words, without an effect on how pages of marks are aligned.
    const BEFORE_MARKS: usize = 2 << 20;
    const LOGS: usize = 0x2000_0000_0000;
    const TABLE_BYTES: usize = (GRANULE_MASK as usize + 1) * 2;
    /// Bytes of address space for the logs of one thread.
    pub const LOG_BYTES: usize = 16 << 30;

    static PEERS: [Peer; MAX_THREADS] = [const { Peer::new() }; MAX_THREADS];
    static SEEN: [Row; MAX_THREADS] =
        [const { Row([const { AtomicU64::new(0) }; MAX_THREADS]) }; MAX_THREADS];
    static REGIONS: [AtomicU16; (GRANULE_MASK as usize >> REGION_SHIFT) + 1] =
        [const { AtomicU16::new(0) }; (GRANULE_MASK as usize >> REGION_SHIFT) + 1];
    static PEER_COUNT: AtomicU32 = AtomicU32::new(0);
    static GATE: AtomicU32 = AtomicU32::new(0);
    static TOKEN: AtomicU32 = AtomicU32::new(0);
    static EPOCH: AtomicU64 = AtomicU64::new(1);
    static PARTICIPANTS: AtomicU32 = AtomicU32::new(0);

    #[repr(align(128))]
    struct Row([AtomicU64; MAX_THREADS]);

    /// Up to which version `mine` knows the transactions of `slot` to have ended, as
    /// `Peer::wraps << 32 | version`. Only used by the thread in `mine`.
    #[inline(always)]
    pub fn seen(mine: u32, slot: u32) -> &'static AtomicU64 {
        debug_assert!((mine as usize) < MAX_THREADS && (slot as usize) < MAX_THREADS);
        // SAFETY: as for `peer`.
        unsafe {
            SEEN.get_unchecked(mine as usize)
                .0
                .get_unchecked(slot as usize)
        }
    }

    #[inline(always)]
    pub fn lock(g: u32) -> &'static AtomicU16 {
        // SAFETY: `init` mapped the whole table before any transaction could start.
        unsafe { &*((LOCKS + g as usize * 2) as *const AtomicU16) }
    }

    /// 0, or the slot + 1 of the thread that locks granules of `g`'s region by plain stores.
    #[inline(always)]
    pub fn region(g: u32) -> &'static AtomicU16 {
        &REGIONS[(g >> REGION_SHIFT) as usize]
    }

    #[inline(always)]
    pub fn marks_base(slot: u32) -> usize {
        MARKS + slot as usize * (TABLE_BYTES + BEFORE_MARKS)
    }

    #[inline(always)]
    pub fn mark(slot: u32, g: u32) -> &'static AtomicU16 {
        // SAFETY: slots below `peer_count` have a mapped table, which is never unmapped.
        unsafe { &*((marks_base(slot) + g as usize * 2) as *const AtomicU16) }
    }

    #[inline(always)]
    pub fn peer(slot: u32) -> &'static Peer {
        debug_assert!((slot as usize) < MAX_THREADS);
        // SAFETY: slots are handed out below MAX_THREADS and only come from the registry, from
        // lock words and from loops below `peer_count`. (The check costs on every begin.)
        unsafe { PEERS.get_unchecked(slot as usize) }
    }

    /// Slots that are or were in use; those above have no tables.
    #[inline(always)]
    pub fn peer_count() -> &'static AtomicU32 {
        &PEER_COUNT
    }

    /// 0, or the slot + 1 of the thread that runs exclusively or asks for it.
    #[inline(always)]
    pub fn gate() -> &'static AtomicU32 {
        &GATE
    }

    /// 0, or the slot + 1 of the inevitable transaction.
    #[inline(always)]
    pub fn token() -> &'static AtomicU32 {
        &TOKEN
    }

    /// The clock that orders transactions by age. It ticks at every rollback, which is enough: a
    /// transaction that is rolled back keeps its age, so that all that begin later are younger.
    #[inline(always)]
    pub fn epoch() -> &'static AtomicU64 {
        &EPOCH
    }

    /// Threads that have begun a transaction and not ended.
    #[inline(always)]
    pub fn participants() -> &'static AtomicU32 {
        &PARTICIPANTS
    }

    fn reserve(address: usize, bytes: usize, protection: i32, what: &str) {
        // SAFETY: MAP_FIXED_NOREPLACE never touches existing mappings.
        let got = unsafe {
            libc::mmap(
                address as *mut libc::c_void,
                bytes,
                protection,
                libc::MAP_PRIVATE
                    | libc::MAP_ANONYMOUS
                    | libc::MAP_NORESERVE
                    | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if got as usize != address {
            let why = std::io::Error::last_os_error();
            fatal!(
                "cannot reserve {} GiB of address space at {address:#x} for {what}: {why}. \
                 Ame needs address space without a limit: check `ulimit -v` (want: unlimited) and \
                 /proc/sys/vm/overcommit_memory (want: 0 or 1); `ame doctor` tells more",
                bytes >> 30
            );
        }
    }

    /// A mark table, and the control words before it.
    fn reserve_segment(marks: usize, protection: i32, what: &str) {
        let before = SEGMENT_MARKS as usize;
        reserve(marks - before, before + TABLE_BYTES, protection, what);
    }

    /// Maps what all threads share. Called once, before anything else.
    pub fn init() {
        reserve(
            LOCKS,
            TABLE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            "the lock table",
        );
        reserve_segment(ZERO_MARKS, libc::PROT_READ, "the table of zero marks");
        // SAFETY: registers the process for the expedited command; no memory is passed.
        let r = unsafe {
            libc::syscall(
                libc::SYS_membarrier,
                libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
                0,
                0,
            )
        };
        if r != 0 {
            fatal!(
                "the kernel has no membarrier(2) with private expedited commands ({}); \
                 Linux 4.14 or newer is needed",
                std::io::Error::last_os_error()
            );
        }
    }

    /// Maps what slot `slot` needs; the first thread in a slot does it, later ones reuse it.
    pub fn init_slot(slot: u32) {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        reserve_segment(marks_base(slot), rw, "the marks of another thread");
        reserve(log_base(slot), LOG_BYTES, rw, "the logs of another thread");
    }

    pub fn log_base(slot: u32) -> usize {
        LOGS + slot as usize * LOG_BYTES
    }

    /// Forgets every mark of the slot (version wrap, thread exit) and gives the memory back.
    pub fn clear_marks(slot: u32) {
        give_back(marks_base(slot), TABLE_BYTES);
    }

    /// Forgets the slot's marks of `n` granules from `first` on.
    pub fn clear_marks_of(slot: u32, first: u32, n: usize) {
        /// From this many bytes on, whole pages are given back. Below that they are written, because a page that is
        /// given back is read first when it is needed again, and then written: two faults, the second of which
        /// interrupts the processors of all threads.
        const LARGE: usize = 4 << 20;
        const PAGE: usize = 4096;
        let start = marks_base(slot) + first as usize * 2;
        let end = start + n * 2;
        let (mut low, mut high) = (end, end);
        if end - start >= LARGE {
            (low, high) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
            give_back(low, high - low);
        }
        // SAFETY: inside the slot's table, which only the calling thread writes to.
        unsafe {
            std::ptr::write_bytes(start as *mut u8, 0, low - start);
            std::ptr::write_bytes(high as *mut u8, 0, end - high);
        }
    }

    pub fn give_back(address: usize, bytes: usize) {
        // SAFETY: only called with ranges inside our own anonymous mappings; the pages read as
        // zero afterwards, which for marks means "not held".
        unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;

    const GRANULES: usize = 2;

    loom::lazy_static! {
        static ref LOCKS: Vec<AtomicU16> = (0..GRANULES).map(|_| AtomicU16::new(0)).collect();
        static ref REGIONS: Vec<AtomicU16> =
            (0..=GRANULES >> REGION_SHIFT).map(|_| AtomicU16::new(0)).collect();
        static ref MARKS: Vec<AtomicU16> =
            (0..GRANULES * MAX_THREADS).map(|_| AtomicU16::new(0)).collect();
        static ref PEERS: Vec<Peer> = (0..MAX_THREADS).map(|_| Peer::new()).collect();
        static ref SEEN: Vec<AtomicU64> =
            (0..MAX_THREADS * MAX_THREADS).map(|_| AtomicU64::new(0)).collect();
        static ref PEER_COUNT: AtomicU32 = AtomicU32::new(0);
        static ref GATE: AtomicU32 = AtomicU32::new(0);
        static ref TOKEN: AtomicU32 = AtomicU32::new(0);
        static ref PARTICIPANTS: AtomicU32 = AtomicU32::new(0);
    }

    pub fn lock(g: u32) -> &'static AtomicU16 {
        &LOCKS[g as usize]
    }
    pub fn region(g: u32) -> &'static AtomicU16 {
        &REGIONS[g as usize >> REGION_SHIFT]
    }
    pub fn mark(slot: u32, g: u32) -> &'static AtomicU16 {
        &MARKS[slot as usize * GRANULES + g as usize]
    }
    pub fn seen(mine: u32, slot: u32) -> &'static AtomicU64 {
        &SEEN[mine as usize * MAX_THREADS + slot as usize]
    }
    pub fn peer(slot: u32) -> &'static Peer {
        &PEERS[slot as usize]
    }
    pub fn peer_count() -> &'static AtomicU32 {
        &PEER_COUNT
    }
    pub fn gate() -> &'static AtomicU32 {
        &GATE
    }
    pub fn token() -> &'static AtomicU32 {
        &TOKEN
    }
    pub fn participants() -> &'static AtomicU32 {
        &PARTICIPANTS
    }
}
