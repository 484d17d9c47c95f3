//! The contract between the pass, the runtime and the reporter.
//!
//! `runtime/include/ame_rt.h` is the same contract for C readers; a test of the runtime compares
//! the two. Anything that changes here changes [`ABI_VERSION`].

#![forbid(unsafe_code)]

pub mod trace;

/// Checked when an instrumented module registers; a mismatch stops the program with a message.
pub const ABI_VERSION: u32 = 3;

/// log2 of the granule size in bytes: the unit of locking, marking and undo.
pub const GRANULE_SHIFT: u32 = 4;
/// Granule size in bytes.
pub const GRANULE: usize = 1 << GRANULE_SHIFT;
/// Mask of a granule index: addresses equal modulo `WINDOW` share a granule.
pub const GRANULE_MASK: u64 = 0xffff_ffff;
/// Span of addresses, in bytes, within which no two mapped addresses may share a granule.
pub const WINDOW: u64 = (GRANULE_MASK + 1) << GRANULE_SHIFT;

/// The thread's segment, which %gs points to: control words, and from here on its mark table (`u16` per granule).
pub const SEGMENT_MARKS: u64 = 4096;
/// Byte offset in the segment of the `u16` that a mark must reach for a read. 0 outside transactions.
pub const SEGMENT_RVER: u64 = 0;
/// Byte offset of the `u16` that a mark must reach for a write. 0 outside transactions.
pub const SEGMENT_WVER: u64 = 2;
/// Byte offset of the `u16` version of the current transaction, as a read marks it. 0 outside
/// transactions only, while `SEGMENT_RVER` and `SEGMENT_WVER` are 0 in exclusive ones too.
pub const SEGMENT_VER: u64 = 4;

/// Name of the thread-local variable (initial-exec) for code that cannot rely on %gs.
pub const TLS_SYMBOL: &str = "ame_tls";
/// Byte offset in it of the pointer to the mark table.
pub const TLS_MARKS: u64 = 0;
/// Byte offset of a `u16` that is nonzero while reads may be marked inline (see `ame_rt.h`).
pub const TLS_UNFENCED: u64 = 8;
/// Byte offset of a `u16` that is nonzero in transactions that are not exclusive.
pub const TLS_INSIDE: u64 = 10;
/// Address of the lock table: `u16` per granule, 0 when free.
pub const LOCK_TABLE: u64 = 0x1200_0000_0000;
/// Value of `rver`/`wver` that sends every barrier and poll to its slow path.
pub const VER_POKED: u16 = 0xffff;

/// Bytes of prefix data before the entry of an instrumented or `safe` function.
pub const PREFIX_LEN: u64 = 16;
/// First eight bytes of the prefix data ("AMEfn" and two unlikely bytes), little endian.
pub const PREFIX_MAGIC: u64 = 0x01f4_c36e_6645_4d41;

/// Symbols that the pass may emit. One place for both sides; `ame_rt.h` documents each.
pub mod sym {
    pub const READ_SLOW: &str = "ame_read_slow";
    pub const READ_CONTENDED: &str = "ame_read_contended";
    pub const READ_PAIR_CONTENDED: &str = "ame_read_pair_contended";
    pub const WRITE_SLOW: &str = "ame_write_slow";
    pub const IMMUTABLE_SLOW: &str = "ame_immutable_slow";
    pub const POLL_SLOW: &str = "ame_poll_slow";
    pub const CALL_SLOW: &str = "ame_call_slow";
    pub const READ_RANGE: &str = "ame_read_range";
    pub const WRITE_RANGE: &str = "ame_write_range";
    pub const WRITE_STEPS: &str = "ame_write_steps";
    pub const PRIVATE_RANGE: &str = "ame_private_range";
    pub const MAKE_INEVITABLE: &str = "ame_make_inevitable";
    pub const MAKE_EXCLUSIVE: &str = "ame_make_exclusive";
    pub const BOUNDARY_ENTER: &str = "ame_boundary_enter";
    pub const BOUNDARY_LEAVE: &str = "ame_boundary_leave";
    pub const REFCOUNT_ADD32: &str = "ame_refcount_add32";
    pub const REFCOUNT_ADD64: &str = "ame_refcount_add64";
    pub const REFCOUNT_READ32: &str = "ame_refcount_read32";
    pub const REFCOUNT_READ64: &str = "ame_refcount_read64";
    pub const COUNTER_ADD32: &str = "ame_counter_add32";
    pub const COUNTER_ADD64: &str = "ame_counter_add64";
    pub const COUNTER_READ32: &str = "ame_counter_read32";
    pub const COUNTER_READ64: &str = "ame_counter_read64";
    /// Functions that exist a second time under their name plus this, keeping all registers.
    pub const STUB_SUFFIX: &str = "_stub";
    pub const PER_THREAD: &str = "ame_per_thread";
    pub const UNBALANCED: &str = "ame_unbalanced";
    pub const MODULE_REGISTER: &str = "ame_module_register";
}
