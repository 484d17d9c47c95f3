//! The transactional heap: mimalloc confined to an arena, plus what begin and end of transactions
//! add to it.
//!
//! - Memory allocated in a transaction is fresh: no other thread can know of it, so its granules
//!   are stamped as written without lock or log, and it is freed on rollback.
//! - `free` in a transaction is deferred to commit, unless the block is fresh. By the two-phase
//!   rule nobody can still read what a committed transaction has unlinked, so the block is reusable
//!   at once: no epochs.
//! - Every block starts on a granule of its own.

use crate::protocol::Me;
use crate::signal;
use crate::tables;
use crate::thread::{Mode, Thread};
use crate::window::{Arena, ARENA_PIECE};
use crate::{access, fatal};
use ame_abi::{GRANULE, GRANULE_MASK, GRANULE_SHIFT};
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU8, AtomicUsize, Ordering};

#[global_allocator]
static GLOBAL: Runtime = Runtime;

/// Rust's own allocations. mimalloc keeps the pages that it gets first, and serves the program from
/// them later: so it is not used before it has its arena, but the C library's allocator is.
struct Runtime;

// SAFETY: each block goes back to the allocator it came from, which `in_arena` tells.
unsafe impl GlobalAlloc for Runtime {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _hold = signal::hold();
        // SAFETY: forwarded, as below.
        unsafe {
            match OUTLINE.arena_bytes.load(Ordering::Relaxed) {
                0 => System.alloc(layout),
                _ => MiMalloc.alloc(layout),
            }
        }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        let _hold = signal::hold();
        // SAFETY: forwarded.
        unsafe {
            match in_arena(p as usize) {
                false => System.dealloc(p, layout),
                true => MiMalloc.dealloc(p, layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let _hold = signal::hold();
        // SAFETY: forwarded.
        unsafe {
            match OUTLINE.arena_bytes.load(Ordering::Relaxed) {
                0 => System.alloc_zeroed(layout),
                _ => MiMalloc.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _hold = signal::hold();
        // SAFETY: forwarded.
        unsafe {
            match in_arena(p as usize) {
                false => System.realloc(p, layout, size),
                true => MiMalloc.realloc(p, layout, size),
            }
        }
    }
}

extern "C" {
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_malloc_small(size: usize) -> *mut c_void;
    fn mi_zalloc(size: usize) -> *mut c_void;
    fn mi_malloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn mi_realloc(p: *mut c_void, size: usize) -> *mut c_void;
    fn mi_free(p: *mut c_void);
    fn mi_usable_size(p: *const c_void) -> usize;
    fn mi_good_size(size: usize) -> usize;
    // Not in its header: the page of any address, and the block of any address in a page.
    fn _mi_safe_ptr_page(p: *const c_void) -> *const c_void;
    fn _mi_page_ptr_unalign(page: *const c_void, p: *const c_void) -> *mut c_void;
    fn mi_option_set(option: i32, value: c_long);
    fn mi_manage_os_memory(
        start: *mut c_void,
        size: usize,
        is_committed: bool,
        is_large: bool,
        is_zero: bool,
        numa_node: i32,
    ) -> bool;
}

/// What `mi_malloc_small` can allocate (`mimalloc.h`).
const MI_SMALL_SIZE_MAX: usize = 128 * size_of::<*const ()>();

/// `mi_option_disallow_os_alloc` (mimalloc 3, `enum mi_option_e`): only arenas.
const OPTION_DISALLOW_OS_ALLOC: i32 = 17;

/// Index of the granule that contains `address`.
#[inline(always)]
pub fn granule(address: usize) -> u32 {
    (address as u64 >> GRANULE_SHIFT & GRANULE_MASK) as u32
}

/// What each allocation and each free look at: one cache line.
#[repr(align(64))]
struct Outline {
    arena_start: AtomicUsize,
    arena_bytes: AtomicUsize,
    /// Set when a transaction has allocated with an alignment of its own. Such a block may begin within a larger one of
    /// the allocator's, so classes say nothing from then on.
    aligned: AtomicBool,
    /// What the allocator really gives for so many granules, in granules; 0 if there are no spare blocks of that size, as
    /// there are none of class 0.
    good_sizes: [AtomicU8; SPARE_CLASSES],
}

static OUTLINE: Outline = Outline {
    arena_start: AtomicUsize::new(0),
    arena_bytes: AtomicUsize::new(0),
    aligned: AtomicBool::new(false),
    good_sizes: [const { AtomicU8::new(0) }; SPARE_CLASSES],
};
const _: () = assert!(size_of::<Outline>() == 64);

/// Whether the address belongs to the heap.
#[inline(always)]
pub fn in_arena(address: usize) -> bool {
    address.wrapping_sub(OUTLINE.arena_start.load(Ordering::Relaxed))
        < OUTLINE.arena_bytes.load(Ordering::Relaxed)
}

pub fn arena() -> Arena {
    Arena {
        start: OUTLINE.arena_start.load(Ordering::Relaxed),
        bytes: OUTLINE.arena_bytes.load(Ordering::Relaxed),
    }
}

/// Gives the arena to the allocator. Called once, before any transaction.
pub fn init(arena: Arena) {
    for piece in (0..arena.bytes).step_by(ARENA_PIECE) {
        // SAFETY: `window` mapped the range for this purpose; fresh mappings are zero.
        let ok = unsafe {
            mi_manage_os_memory(
                (arena.start + piece) as *mut c_void,
                ARENA_PIECE.min(arena.bytes - piece),
                true,
                false,
                true,
                -1,
            )
        };
        if !ok {
            fatal!(
                "the allocator refused its arena at {:#x}",
                arena.start + piece
            );
        }
    }
    // SAFETY: an option. Memory elsewhere might share granules with other memory.
    unsafe { mi_option_set(OPTION_DISALLOW_OS_ALLOC, 1) };
    for (granules, good) in OUTLINE.good_sizes.iter().enumerate() {
        // SAFETY: arithmetic.
        let size = unsafe { mi_good_size(granules * GRANULE) };
        let whole = size / GRANULE;
        if size % GRANULE == 0 && whole < SPARE_CLASSES {
            good.store(whole as u8, Ordering::Relaxed);
        }
    }
    // Last: from here on Rust allocates in the arena.
    OUTLINE.arena_start.store(arena.start, Ordering::Relaxed);
    OUTLINE.arena_bytes.store(arena.bytes, Ordering::Relaxed);
}

/// Start and length of the allocated block that contains `address`.
pub fn block_of(address: usize) -> Option<(usize, usize)> {
    if !in_arena(address) {
        return None;
    }
    // SAFETY: queries. The address is in a block that nobody frees meanwhile: the caller is about to
    // use it.
    unsafe {
        let page = _mi_safe_ptr_page(address as *const c_void);
        if page.is_null() {
            return None;
        }
        let start = _mi_page_ptr_unalign(page, address as *const c_void);
        let bytes = mi_usable_size(start);
        let start = start as usize;
        (start <= address && address - start < bytes).then_some((start, bytes))
    }
}

/// Blocks from this size on are stamped page by page when they are touched, not at once.
const LAZY: usize = 64 << 10;
/// Granules stamped at a time in a lazily stamped block.
const LAZY_GRANULES: usize = 256;

/// What the current transaction did to the heap.
#[derive(Default)]
pub struct Allocations {
    /// Blocks allocated, and blocks of these freed again, as `address | FREED`, in order.
    log: Vec<usize>,
    /// How many of these are of blocks freed again.
    freed: usize,
    /// Length of `log` at which cancelled pairs are thrown out next.
    compact_at: usize,
    /// Blocks to free at commit.
    frees: Vec<usize>,
    /// Large fresh blocks.
    lazy: Vec<(usize, usize)>,
    /// Starts of blocks that are not given back before the end, also where the transaction is exclusive.
    kept: Vec<usize>,
    /// Small fresh blocks that were freed again, by usable size in granules: still stamped and in `log`,
    /// so that the transaction can use them again for next to nothing. Each begins with the address of the
    /// next; 0 is none.
    spare: [usize; SPARE_CLASSES],
}

const FREED: usize = 1;

/// Spare blocks are smaller than this many granules.
const SPARE_CLASSES: usize = 32;

/// Class of spare blocks for this size; 0 for none.
#[inline(always)]
fn class_of(size: usize) -> u8 {
    // A size that wraps around has class 0.
    let granules = size.wrapping_add(GRANULE - 1) / GRANULE;
    let good = OUTLINE.good_sizes.get(granules);
    good.map_or(0, |good| good.load(Ordering::Relaxed))
}

/// What there is to know of each slice of the heap. Its low byte is the class of the fresh blocks in it, so that a free need
/// not ask the allocator how large the block is: all blocks of a slice have one size; it is noted with each allocation, and
/// a slice gets blocks of another size only when it has none of the old. Above is who has allocated there last
/// ([`owner_of`]).
static SLICES: [AtomicU32; (GRANULE_MASK as usize + 1) >> SLICE_GRANULES_SHIFT] =
    [const { AtomicU32::new(0) }; (GRANULE_MASK as usize + 1) >> SLICE_GRANULES_SHIFT];

/// mimalloc hands out memory in slices of 64 KiB (`MI_ARENA_SLICE_SIZE`), to one thread at a time.
const SLICE_GRANULES_SHIFT: u32 = 16 - GRANULE_SHIFT;

const CLASS_BITS: u32 = 8;

#[inline(always)]
fn slice(address: usize) -> &'static AtomicU32 {
    &SLICES[(granule(address) >> SLICE_GRANULES_SHIFT) as usize]
}

#[inline(always)]
fn note_slice(me: Me, address: usize, class: u8) {
    slice(address).store(number(me) << CLASS_BITS | class as u32, Ordering::Relaxed);
}

/// A thread's number: not 0.
#[inline(always)]
pub fn number(me: Me) -> u32 {
    me.slot + 1
}

/// Number of the thread in whose part of the heap the block lies: whose transactions have allocated there last. 0 when
/// none has.
pub fn owner_of(address: usize) -> u32 {
    match in_arena(address) {
        true => slice(address).load(Ordering::Relaxed) >> CLASS_BITS,
        false => 0,
    }
}

impl Allocations {
    /// A spare block of this size.
    #[inline(always)]
    fn reuse(&mut self, size: usize) -> Option<usize> {
        // The remainder tells the compiler what holds already: classes are lower.
        pop_spare(&mut self.spare[class_of(size) as usize % SPARE_CLASSES])
    }

    /// The class of a fresh block, if that is known: it can hold so many granules.
    #[inline(always)]
    fn class_of_fresh(address: usize) -> Option<u8> {
        let class = slice(address).load(Ordering::Relaxed) as u8;
        (class != 0 && !OUTLINE.aligned.load(Ordering::Relaxed)).then_some(class)
    }

    /// Keeps a fresh block for [`reuse`](Self::reuse), or says that it is none to keep.
    #[inline(always)]
    fn keep(&mut self, address: usize) -> bool {
        let Some(class) = Self::class_of_fresh(address) else {
            return false;
        };
        let class = class as usize;
        debug_assert_eq!(
            // SAFETY: the block is allocated.
            unsafe { mi_usable_size(address as *const c_void) },
            class * GRANULE
        );
        // SAFETY: the program has freed the block, which is at least a granule; and classes are below SPARE_CLASSES.
        unsafe {
            let first = self.spare.get_unchecked_mut(class);
            (address as *mut usize).write(*first);
            *first = address;
        }
        true
    }

    fn push(&mut self, event: usize) {
        // Not when there is little to throw out.
        if self.log.len() >= self.compact_at.max(8192) && self.freed > self.log.len() / 4 {
            self.compact();
            self.compact_at = self.log.len() * 2;
        }
        self.freed += event & FREED;
        self.log.push(event);
    }

    /// Drops pairs of an allocation and its free. A block address alternates between the two, so
    /// an odd number of events means that it is allocated.
    fn compact(&mut self) {
        if self.freed == 0 {
            return;
        }
        self.freed = 0;
        self.log.sort_unstable_by_key(|event| event & !FREED);
        let mut live = Vec::new();
        for events in self.log.chunk_by(|a, b| a & !FREED == b & !FREED) {
            if events.len() % 2 == 1 {
                live.push(events[0] & !FREED);
            }
        }
        self.log = live;
    }

    /// If `address` lies in a large block that this transaction allocated, stamps around it.
    #[inline(always)]
    pub fn stamp_if_fresh(&self, me: Me, address: usize) -> bool {
        !self.lazy.is_empty() && self.stamp_lazily(me, address)
    }

    /// The large block that this transaction allocated and in which `address` lies.
    fn lazy(&self, address: usize) -> Option<(usize, usize)> {
        let has = |(start, end): &&(usize, usize)| (*start..*end).contains(&address);
        self.lazy.iter().rev().find(has).copied()
    }

    /// Whether [`Self::stamp_if_fresh`] would stamp.
    #[inline(always)]
    pub fn is_lazy(&self, address: usize) -> bool {
        !self.lazy.is_empty() && self.lazy(address).is_some()
    }

    #[cold]
    fn stamp_lazily(&self, me: Me, address: usize) -> bool {
        let Some((start, end)) = self.lazy(address) else {
            return false;
        };
        let chunk = LAZY_GRANULES * GRANULE;
        let from = (address & !(chunk - 1)).max(start);
        let to = (from + chunk).min(end);
        stamp(me, from, to - from);
        true
    }

    /// The transaction is over and its effects stand.
    pub fn commit(&mut self) {
        self.log.clear();
        self.freed = 0;
        self.compact_at = 0;
        self.lazy.clear();
        self.kept.clear();
        // Taken, because freeing may run code that frees.
        let mut frees = std::mem::take(&mut self.frees);
        for address in frees.drain(..) {
            // SAFETY: the program freed the block in the transaction, and nobody else can reach it.
            unsafe { release(address as *mut c_void) };
        }
        self.frees = frees;
        for spare in &mut self.spare {
            while let Some(address) = pop_spare(spare) {
                // SAFETY: as above.
                unsafe { mi_free(address as *mut c_void) };
            }
        }
    }

    /// The transaction never happened.
    pub fn abort(&mut self) {
        self.frees.clear();
        self.lazy.clear();
        self.kept.clear();
        // They are in the log.
        self.spare.fill(0);
        self.compact();
        for &address in &self.log {
            // SAFETY: allocated by the transaction, not freed by it, and unreachable now.
            unsafe { mi_free(address as *mut c_void) };
        }
        self.log.clear();
        self.compact_at = 0;
    }

    /// The block that contains `address` stays to the end, also if it is freed where the transaction is exclusive.
    pub fn keep_until_end(&mut self, address: usize) {
        if let Some((start, _)) = block_of(address) {
            self.kept.push(start);
        }
    }

    fn keeps(&self, address: usize) -> bool {
        block_of(address).is_some_and(|(start, _)| self.kept.contains(&start))
    }

    /// Whether there are blocks that are stamped when they are touched.
    pub fn any_lazy(&self) -> bool {
        !self.lazy.is_empty()
    }

    fn forget_lazy(&mut self, address: usize) {
        self.lazy.retain(|(start, _)| *start != address);
    }
}

/// Takes the first block of a list of spare ones.
#[inline(always)]
fn pop_spare(first: &mut usize) -> Option<usize> {
    let address = *first;
    if address == 0 {
        return None;
    }
    // SAFETY: written by `keep`, and the block is nobody's since.
    *first = unsafe { (address as *const usize).read() };
    Some(address)
}

/// Marks the granules of a fresh block as the transaction's own.
#[inline(always)]
fn stamp(me: Me, address: usize, bytes: usize) {
    let n = bytes.div_ceil(GRANULE);
    let first = tables::marks_base(me.slot) as *mut u16;
    // SAFETY: the table covers all granules and the arena does not wrap around its window's end
    // (checked by `window`); nobody else writes to this table.
    unsafe {
        let first = first.add(granule(address) as usize);
        for i in 0..n {
            first.add(i).write(me.ver + 1);
        }
    }
}

/// Takes back what [`stamp`] and reads have marked in a block.
fn unstamp(me: Me, address: usize, bytes: usize) {
    tables::clear_marks_of(me.slot, granule(address), bytes.div_ceil(GRANULE));
}

#[inline(always)]
fn speculative() -> Option<&'static mut Thread> {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_mut() }.filter(|thread| thread.speculative())
}

/// Accounts for a block that was just allocated.
#[inline(always)]
fn allocated(p: *mut c_void, size: usize) -> *mut c_void {
    if let Some(thread) = speculative() {
        if !p.is_null() {
            record(thread, p as usize, size);
        }
    }
    p
}

#[inline(always)]
fn record(thread: &mut Thread, address: usize, size: usize) {
    thread.eventful = true;
    thread.allocations.push(address);
    if size < LAZY {
        let class = class_of(size);
        note_slice(thread.me, address, class);
        // All of a small block, which may be reused for more than it is allocated for.
        stamp(thread.me, address, size.max(class as usize * GRANULE));
    } else {
        note_slice(thread.me, address, 0);
        thread.allocations.lazy.push((address, address + size));
        // Their reads must not take marks that would look like shared ones.
        thread.quick = false;
        access::leave_unfenced(thread);
    }
}

/// Smallest block: a granule, so that blocks never share one.
#[inline(always)]
fn rounded(size: usize) -> usize {
    size.max(GRANULE)
}

/// # Safety
/// As malloc.
#[no_mangle]
pub unsafe extern "C" fn ame_malloc(size: usize) -> *mut c_void {
    let Some(thread) = speculative() else {
        // SAFETY: plain allocation.
        return unsafe { outside(rounded(size)) };
    };
    if thread.mode == Mode::Revocable {
        if let Some(block) = thread.allocations.reuse(size) {
            return block as *mut c_void;
        }
    }
    allocate(thread, rounded(size))
}

/// A plain block, for code outside of transactions. Handlers of signals are not held up, as in the C library.
///
/// # Safety
/// As malloc.
#[inline(always)]
unsafe fn outside(size: usize) -> *mut c_void {
    // SAFETY: plain allocation.
    or_enomem(unsafe {
        if size <= MI_SMALL_SIZE_MAX {
            mi_malloc_small(size)
        } else {
            mi_malloc(size)
        }
    })
}

#[inline(never)]
fn allocate(thread: &mut Thread, size: usize) -> *mut c_void {
    let _hold = signal::hold_in(thread);
    if let Some(block) = thread.allocations.reuse(size) {
        return block as *mut c_void;
    }
    // SAFETY: plain allocation.
    allocated(or_enomem(unsafe { mi_malloc(size) }), size)
}

/// # Safety
/// As calloc.
#[no_mangle]
pub unsafe extern "C" fn ame_calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return or_enomem(std::ptr::null_mut());
    };
    let _hold = signal::hold();
    // SAFETY: plain allocation.
    allocated(or_enomem(unsafe { mi_zalloc(rounded(bytes)) }), bytes)
}

/// # Safety
/// As aligned_alloc.
#[no_mangle]
pub unsafe extern "C" fn ame_aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    let _hold = signal::hold();
    OUTLINE
        .aligned
        .fetch_or(alignment > GRANULE, Ordering::Relaxed);
    // SAFETY: plain allocation.
    let p = unsafe { mi_malloc_aligned(rounded(size), alignment.max(GRANULE)) };
    allocated(or_enomem(p), size)
}

/// # Safety
/// As memalign.
#[no_mangle]
pub unsafe extern "C" fn ame_memalign(alignment: usize, size: usize) -> *mut c_void {
    // SAFETY: forwarded.
    unsafe { ame_aligned_alloc(alignment, size) }
}

/// # Safety
/// As posix_memalign; `out` is a valid pointer.
#[no_mangle]
pub unsafe extern "C" fn ame_posix_memalign(
    out: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> i32 {
    if !alignment.is_power_of_two() || alignment % size_of::<usize>() != 0 {
        return libc::EINVAL;
    }
    // SAFETY: forwarded; `out` is written with the barrier that an instrumented store has.
    unsafe {
        let p = ame_aligned_alloc(alignment, size);
        if p.is_null() {
            return libc::ENOMEM;
        }
        crate::entry::ame_write_range(out.cast(), size_of::<usize>());
        *out = p;
    }
    0
}

/// # Safety
/// As free.
#[no_mangle]
pub unsafe extern "C" fn ame_free(p: *mut c_void) {
    let address = p as usize;
    // SAFETY: the caller's promise, and the thread's own state.
    unsafe {
        match Thread::current().as_mut() {
            Some(thread) if thread.speculative() => {
                // Most often a small block of the transaction itself; handlers of signals wait then, without a hold.
                if thread.mode != Mode::Revocable
                    || !in_arena(address)
                    || !access::is_stamped(thread, address)
                    || !thread.allocations.keep(address)
                {
                    forget(thread, p);
                }
            }
            Some(thread) if !thread.allocations.kept.is_empty() => free_beside_kept(thread, p),
            _ => release(p),
        }
    }
}

/// Where the transaction is exclusive, or over, and some blocks stay to its end.
///
/// # Safety
/// As free.
#[cold]
#[inline(never)]
unsafe fn free_beside_kept(thread: &mut Thread, p: *mut c_void) {
    if thread.allocations.keeps(p as usize) {
        let _hold = signal::hold();
        thread.allocations.frees.push(p as usize);
    } else {
        // SAFETY: the caller's promise.
        unsafe { release(p) };
    }
}

/// What the transaction frees: at once if it has allocated it, else when it has committed.
///
/// # Safety
/// As free.
#[inline(never)]
unsafe fn forget(thread: &mut Thread, p: *mut c_void) {
    if p.is_null() {
        return;
    }
    let _hold = signal::hold_in(thread);
    let address = p as usize;
    if is_fresh(thread, address) {
        if thread.allocations.keep(address) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { free_fresh(thread, p) };
    } else {
        thread.eventful = true;
        thread.allocations.frees.push(address);
    }
}

/// A fresh block that is not kept.
///
/// # Safety
/// As free.
#[cold]
#[inline(never)]
unsafe fn free_fresh(thread: &mut Thread, p: *mut c_void) {
    let address = p as usize;
    thread.allocations.push(address | FREED);
    thread.allocations.forget_lazy(address);
    // The allocator may hand the memory to another thread before this transaction ends.
    // SAFETY: the caller's promise.
    unsafe {
        unstamp(thread.me, address, mi_usable_size(p));
        release(p);
    }
}

/// Whether the current transaction allocated the block.
#[inline(always)]
fn is_fresh(thread: &mut Thread, address: usize) -> bool {
    in_arena(address) && access::fresh(thread, address)
}

/// # Safety
/// As realloc.
#[no_mangle]
pub unsafe extern "C" fn ame_realloc(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise throughout.
    unsafe {
        if p.is_null() {
            return ame_malloc(size);
        }
        let Some(thread) = speculative() else {
            if in_arena(p as usize) {
                return or_enomem(mi_realloc(p, rounded(size)));
            }
            return __libc_realloc(p, size);
        };
        let _hold = signal::hold();
        if size == 0 {
            ame_free(p);
            return std::ptr::null_mut();
        }
        let address = p as usize;
        let fresh = thread.mode == Mode::Revocable && is_fresh(thread, address);
        let kept = match Allocations::class_of_fresh(address) {
            // A string that is cut to its length had better not lie in a block for a longer one.
            Some(class) if fresh && class == class_of(size) => return p,
            Some(class) if fresh => (class as usize * GRANULE).min(size),
            _ => {
                let room = ame_malloc_usable_size(p);
                if !fresh {
                    access::read_range(thread, address, room.min(size), 0);
                } else if (room / 2..=room).contains(&size) && room < LAZY {
                    stamp(thread.me, address, size);
                    return p;
                }
                room.min(size)
            }
        };
        let new = ame_malloc(size);
        if !new.is_null() {
            std::ptr::copy_nonoverlapping(p.cast::<u8>(), new.cast::<u8>(), kept);
            ame_free(p);
        }
        new
    }
}

/// # Safety
/// As reallocarray.
#[no_mangle]
pub unsafe extern "C" fn ame_reallocarray(
    p: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: forwarded.
        Some(bytes) => unsafe { ame_realloc(p, bytes) },
        None => or_enomem(std::ptr::null_mut()),
    }
}

/// # Safety
/// As malloc_usable_size.
#[no_mangle]
pub unsafe extern "C" fn ame_malloc_usable_size(p: *mut c_void) -> usize {
    // SAFETY: the caller's promise; each heap is asked about its own blocks.
    unsafe {
        if in_arena(p as usize) {
            mi_usable_size(p)
        } else {
            libc::malloc_usable_size(p)
        }
    }
}

/// Frees a block of ours or of libc (strdup in uninstrumented code, getline, ...).
///
/// # Safety
/// As free.
#[inline(always)]
unsafe fn release(p: *mut c_void) {
    // SAFETY: each heap gets its own blocks back.
    unsafe {
        if in_arena(p as usize) {
            mi_free(p)
        } else {
            __libc_free(p)
        }
    }
}

extern "C" {
    // The C library's own, under names that it exports for interposers like us.
    fn __libc_free(p: *mut c_void);
    fn __libc_realloc(p: *mut c_void, size: usize) -> *mut c_void;
}

/// free for code that is not instrumented: a library may own what the program allocated (the answer
/// of a callback of readline, for example). Programs find this before the C library's.
///
/// # Safety
/// As free.
#[no_mangle]
pub unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: the caller's promise; each heap gets its own blocks back.
    unsafe {
        if in_arena(p as usize) {
            ame_free(p)
        } else {
            __libc_free(p)
        }
    }
}

/// realloc for code that is not instrumented.
///
/// # Safety
/// As realloc.
#[no_mangle]
pub unsafe extern "C" fn realloc(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: as above. A new block is for uninstrumented code, so the C library makes it.
    unsafe {
        if in_arena(p as usize) {
            ame_realloc(p, size)
        } else {
            __libc_realloc(p, size)
        }
    }
}

#[inline(always)]
fn or_enomem(p: *mut c_void) -> *mut c_void {
    #[cold]
    fn set() {
        // SAFETY: errno is the thread's own.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
    }
    if p.is_null() {
        set();
    }
    p
}
