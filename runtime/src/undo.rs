//! The undo log: what memory held before the transaction wrote to it.
//!
//! One contiguous range of address space per thread, so that an append is a store and a bump.
//! 32 bytes per granule written.

use crate::fatal;
use std::ops::Range;

/// Set in `tag` when the transaction holds the granule's lock.
const LOCKED: u64 = 1 << 63;
const LENGTH_SHIFT: u32 = 56;
const ADDRESS: u64 = (1 << LENGTH_SHIFT) - 1;

/// Old contents of up to one granule.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct Entry {
    /// Address, length in bits 56 to 62, [`LOCKED`].
    tag: u64,
    /// The barrier that logged it, for conflict reports.
    pub pc: u64,
    old: [u64; 2],
}

impl Entry {
    #[inline(always)]
    pub fn address(&self) -> usize {
        (self.tag & ADDRESS) as usize
    }
    #[inline(always)]
    fn length(&self) -> usize {
        ((self.tag & !LOCKED) >> LENGTH_SHIFT) as usize
    }
    #[inline(always)]
    pub fn locked(&self) -> bool {
        self.tag & LOCKED != 0
    }

    /// Puts the old bytes back, except for `keep`.
    ///
    /// # Safety
    /// The memory is still mapped and owned by the transaction.
    pub unsafe fn restore(&self, keep: &[Range<usize>]) {
        if !keep.is_empty() {
            // SAFETY: the caller's promise.
            return unsafe { self.restore_around(keep) };
        }
        // SAFETY: the caller's promise; `old` holds `length` valid bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.old.as_ptr().cast::<u8>(),
                self.address() as *mut u8,
                self.length(),
            )
        }
    }
}

impl Entry {
    #[cold]
    unsafe fn restore_around(&self, keep: &[Range<usize>]) {
        for i in 0..self.length() {
            let at = self.address() + i;
            if !keep.iter().any(|range| range.contains(&at)) {
                // SAFETY: the promise of `restore`'s caller, and i < length.
                unsafe { *(at as *mut u8) = *self.old.as_ptr().cast::<u8>().add(i) };
            }
        }
    }
}

/// Reads a byte where a granule is about to be locked and logged. Memory that cannot be read faults here,
/// before anything is held that a handler which jumps away, or is rolled back, would leave locked.
///
/// # Safety
/// `address` is memory of the program, readable or not.
#[inline(always)]
pub unsafe fn touch(address: usize) {
    // SAFETY: the caller's promise. Assembly, because the value is not used, and others may change it.
    unsafe {
        std::arch::asm!(
            "test byte ptr [{address}], 0",
            address = in(reg) address,
            options(nostack, readonly),
        );
    }
}

/// Invariant: `start <= top <= limit`, and `[start, top)` are initialised entries.
pub struct UndoLog {
    start: *mut Entry,
    top: *mut Entry,
    limit: *mut Entry,
}

/// Above this size the memory of a log is given back when the transaction ends.
const KEEP: usize = 32 << 20;

impl UndoLog {
    pub fn new(base: usize, bytes: usize) -> Self {
        let start = base as *mut Entry;
        UndoLog {
            start,
            top: start,
            limit: (base + bytes) as *mut Entry,
        }
    }

    /// Logs the granule at `address` (16-aligned), whose lock the transaction holds.
    ///
    /// # Safety
    /// The granule is readable.
    #[inline(always)]
    pub unsafe fn push_granule(&mut self, address: usize, pc: u64) {
        // SAFETY: a granule never crosses a page, so it is readable as a whole when the byte that
        // is about to be written is.
        let old = unsafe { std::ptr::read(address as *const [u64; 2]) };
        self.push(Entry {
            tag: address as u64 | 16 << LENGTH_SHIFT | LOCKED,
            pc,
            old,
        });
    }

    /// Logs `length` (1 to 16) bytes at `address`, without a lock.
    ///
    /// # Safety
    /// The bytes are readable.
    #[inline(always)]
    pub unsafe fn push_private(&mut self, address: usize, length: usize, pc: u64) {
        let mut old = [0u64; 2];
        // SAFETY: the caller's promise, and length <= 16.
        unsafe {
            std::ptr::copy_nonoverlapping(
                address as *const u8,
                old.as_mut_ptr().cast::<u8>(),
                length,
            )
        };
        self.push(Entry {
            tag: address as u64 | (length as u64) << LENGTH_SHIFT,
            pc,
            old,
        });
    }

    #[inline(always)]
    fn push(&mut self, entry: Entry) {
        if self.top == self.limit {
            self.full();
        }
        // SAFETY: top < limit, inside the reserved range.
        unsafe {
            self.top.write(entry);
            self.top = self.top.add(1);
        }
    }

    #[cold]
    fn full(&self) -> ! {
        fatal!(
            "a transaction wrote to more than {} million granules: its undo log is full. \
             Split it, or call ame_inevitable() before it writes that much",
            self.entries().len() / 1_000_000
        )
    }

    #[inline(always)]
    pub fn entries(&self) -> &[Entry] {
        // SAFETY: the invariant.
        unsafe { std::slice::from_raw_parts(self.start, self.top.offset_from(self.start) as usize) }
    }

    pub fn bytes(&self) -> usize {
        std::mem::size_of_val(self.entries())
    }

    #[inline(always)]
    pub fn clear(&mut self) {
        let bytes = self.bytes();
        self.top = self.start;
        if bytes > KEEP {
            self.shrink(bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn shrink(&self, bytes: usize) {
        crate::tables::give_back(self.start as usize + KEEP, bytes - KEEP);
    }
}
