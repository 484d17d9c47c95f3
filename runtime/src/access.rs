//! Acquiring granules and ranges: what the barriers' slow paths do.

use crate::clock;
use crate::foreign::stacks_low;
use crate::heap::granule;
use crate::peer;
use crate::protocol::{self, Me, Want};
use crate::tables;
use crate::thread::Thread;
use crate::tls::tls;
use crate::trace;
use crate::transaction::check;
use ame_abi::trace::access;
use ame_abi::GRANULE;
use std::sync::atomic::{compiler_fence, fence, AtomicBool, Ordering};

/// Memory that nobody else can know of: frames entered since begin. It needs no lock and no log.
#[inline(always)]
fn fresh_stack(thread: &Thread, address: usize) -> bool {
    address.wrapping_sub(thread.stack_low) < thread.fresh_stack
}

/// Memory that belongs to a thread as a whole (`ame_own_region`). Its granules are held as if written
/// once they are touched, without a lock; what was there at begin is logged.
#[derive(Clone, Copy, Default)]
pub struct OwnRegion {
    pub low: usize,
    pub bytes: usize,
    /// End of the part that is in use at begin.
    pub top: usize,
}

pub const OWN_REGIONS: usize = 3;

/// Takes the granule if it is in one of the thread's own regions.
#[inline(always)]
fn take_own(thread: &mut Thread, address: usize, pc: u64) -> bool {
    for region in thread.own {
        if address.wrapping_sub(region.low) < region.bytes {
            let start = address & !(GRANULE - 1);
            if start < region.top {
                // SAFETY: mapped memory of the thread.
                unsafe { thread.undo.push_private(start, GRANULE, pc) };
            }
            *thread.mark(granule(address)) = thread.me.ver + 1;
            return true;
        }
    }
    false
}

/// Acquires the granule of `address` for reading.
#[inline(always)]
pub fn read(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    let me = thread.me;
    if take_own(thread, address, pc) {
        return;
    }
    if fresh_stack(thread, address) || thread.allocations.stamp_if_fresh(me, address) {
        *thread.mark(g) = me.ver + 1;
        return;
    }
    thread.stats.reads_first.add(1);
    spend_credit(thread);
    if thread.last_read.wrapping_add(1) == g {
        thread.last_read = g;
        thread.read_run += 1;
        if thread.read_run >= STAMP_AFTER {
            return read_ahead(thread, g, address, pc);
        }
    } else {
        thread.last_read = g;
        thread.read_run = 0;
    }
    let result = protocol::read(me, g, || Want {
        access: access::READ_OF_WRITTEN,
        address: (address & !(GRANULE - 1)) as u64,
        pc,
    });
    check(thread, result, pc);
    if trace::enabled() {
        trace::note_access(me.slot, address, pc);
    }
}

/// Bounds of `Thread::fence_budget`.
pub const LEAST_BUDGET: i32 = 64;
const MOST_BUDGET: i32 = 1 << 16;
/// `Thread::credit` of a thread that does not spend any.
const NO_LIMIT: i32 = i32::MAX;
/// A thread that is asked for a fence sooner than this after it went unfenced, in cycles, has
/// gained less than the handshake cost.
const TOO_SOON: u64 = 5000;

/// Before a transaction starts: may its code mark reads by itself?
#[inline(always)]
pub fn begin_reads(thread: &mut Thread) {
    if !thread.participates {
        first_transaction(thread);
    }
    if thread.peer().unfenced.load(Ordering::Relaxed) != 0 {
        // Whoever pokes this transaction has seen it start, which comes after this store.
        tls().unfenced.store(thread.quick as u16, Ordering::Relaxed);
    } else if thread.credit > MOST_BUDGET {
        thread.credit = thread.fence_budget;
    }
}

#[cold]
#[inline(never)]
fn first_transaction(thread: &mut Thread) {
    crate::window::first_use();
    protocol::participate();
    thread.participates = true;
    if thread.quick {
        go_unfenced(thread);
    }
}

/// Set where transactions are long and write about as much as they read: first reads are few then,
/// and each first write beside an unfenced thread would cost a handshake.
static FENCED: AtomicBool = AtomicBool::new(false);

pub fn set_fenced(on: bool) {
    FENCED.store(on, Ordering::Relaxed);
}

fn go_unfenced(thread: &mut Thread) {
    thread.credit = NO_LIMIT;
    if FENCED.load(Ordering::Relaxed) {
        return;
    }
    thread.unfenced_since = clock::cycles();
    protocol::go_unfenced(thread.me);
}

/// A first read in fenced mode. After enough of them nobody seems to write here any more.
#[inline(always)]
fn spend_credit(thread: &mut Thread) {
    thread.credit -= 1;
    if thread.credit < 0 && thread.quick {
        go_unfenced(thread);
        if thread.peer().unfenced.load(Ordering::Relaxed) == 0 {
            return;
        }
        tls().unfenced.store(1, Ordering::Relaxed);
        // A poke that came before the store above would be lost, and inline reads never look:
        // either we see what the poke was for, or it comes after our store.
        fence(Ordering::SeqCst);
        if protocol::fence_asked(thread.me) || thread.me.doomed() {
            tls().unfenced.store(0, Ordering::Relaxed);
        }
    }
}

/// Somebody wanted to write: fenced again, for longer if that was too soon.
#[cold]
pub fn fence_asked(thread: &mut Thread) {
    tls().unfenced.store(0, Ordering::Relaxed);
    let soon = clock::cycles().saturating_sub(thread.unfenced_since) < TOO_SOON;
    let budget = if soon {
        thread.fence_budget * 2
    } else {
        thread.fence_budget / 2
    };
    thread.fence_budget = budget.clamp(LEAST_BUDGET, MOST_BUDGET);
    thread.credit = thread.fence_budget;
}

/// Reads go through Rust from here on.
#[cold]
pub fn leave_unfenced(thread: &mut Thread) {
    tls().unfenced.store(0, Ordering::Relaxed);
    thread.credit = NO_LIMIT;
}

/// After a first mark that found the lock taken. The data was not read: the mark is taken back.
#[cold]
pub fn read_contended(thread: &mut Thread, address: usize, pc: u64) {
    *thread.mark(granule(address)) = 0;
    read(thread, address, pc);
}

/// The same after marking a granule and its neighbour, neither of which was marked before.
#[cold]
pub fn read_pair_contended(thread: &mut Thread, address: usize, pc: u64) {
    *thread.mark(granule(address) ^ 1) = 0;
    read_contended(thread, address, pc);
}

/// Granules read one after the other before the reader counts as sequential.
const STAMP_AFTER: u32 = 3;

/// A sequential reader: marks the granules ahead as well, with one fence for all.
#[cold]
#[inline(never)]
fn read_ahead(thread: &mut Thread, g: u32, address: usize, pc: u64) {
    let ahead = (1u32 << (thread.read_run - STAMP_AFTER + 1).min(16))
        .min(crate::config::config().stamp_ahead)
        .min(u32::MAX - g) as usize;
    let wanted = 1 + ahead;
    let mut done = 0;
    while done < wanted {
        let n = (wanted - done).min(BLOCK);
        let acquired = read_block(thread, g + done as u32, n);
        done += acquired;
        if acquired < n {
            break;
        }
    }
    if done == 0 {
        let result = protocol::read(thread.me, g, || Want {
            access: access::READ_OF_WRITTEN,
            address: (address & !(GRANULE - 1)) as u64,
            pc,
        });
        check(thread, result, pc);
        done = 1;
    }
    thread.last_read = g + (done as u32 - 1);
    // What was stamped is what the next sequential miss comes after.
    thread.stats.reads_first.add(done as u64 - 1);
}

/// Most granules acquired with one fence.
const BLOCK: usize = 128;

/// Acquires up to [`BLOCK`] consecutive granules for reading with at most one fence; returns how
/// many from the start it got before one that another transaction has locked.
///
/// The marks are stored plainly, then comes the fence, and only then the locks are looked at: each
/// mark and lock is ordered as in [`protocol::read`]. A mark whose lock is taken is retracted; its
/// data was not read.
fn read_block(thread: &mut Thread, g: u32, n: usize) -> usize {
    match (n == BLOCK, is_x86_feature_detected!("avx2")) {
        // SAFETY: the processor has AVX2.
        (true, true) => unsafe { read_whole_block_avx2(thread, g) },
        (true, false) => read_block_of(thread, g, BLOCK),
        (false, _) => read_block_of(thread, g, n),
    }
}

/// The body for a constant length and wider vectors: twice as fast on long ranges.
#[target_feature(enable = "avx2")]
fn read_whole_block_avx2(thread: &mut Thread, g: u32) -> usize {
    read_block_of(thread, g, BLOCK)
}

#[inline(always)]
fn read_block_of(thread: &mut Thread, g: u32, n: usize) -> usize {
    debug_assert!(n <= BLOCK && g as u64 + n as u64 <= u32::MAX as u64 + 1);
    let me = thread.me;
    // SAFETY: both tables cover the indices. Only this thread writes its marks, and others read
    // them as two-byte words, which vector stores do not tear. The locks are read as plain words
    // that others change; a stale zero is excluded by the fence, or by the handshake.
    let (marks, locks) = unsafe {
        (
            std::slice::from_raw_parts_mut(thread.marks.add(g as usize), n),
            std::slice::from_raw_parts((ame_abi::LOCK_TABLE as *const u16).add(g as usize), n),
        )
    };
    let ver = me.ver;
    if marks.iter().fold(true, |all, &m| all & (m >= ver)) {
        return n;
    }
    let mut old = [0u16; BLOCK];
    old[..n].copy_from_slice(marks);
    for mark in marks.iter_mut() {
        *mark = (*mark).max(ver);
    }
    if thread.peer().unfenced.load(Ordering::Relaxed) == 0 {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
    let free = locks.iter().fold(0, |any, &lock| any | lock) == 0;
    compiler_fence(Ordering::SeqCst);
    if free {
        return n;
    }
    let mut acquired = None;
    for i in 0..n {
        let holder = tables::lock(g + i as u32).load(Ordering::Acquire);
        if old[i] < ver && holder != 0 && acquired.is_none() {
            acquired = Some(i);
        }
        // Marks behind the first contended one are retracted as well: nothing asked for them yet.
        if old[i] < ver && acquired.is_some() {
            tables::mark(me.slot, g + i as u32).store(old[i], Ordering::Release);
        }
    }
    acquired.unwrap_or(n)
}

/// Acquires the granule of `address` for writing and logs it: the usual case, in a transaction that
/// is `quick` and meets nobody. Small, so that few registers are saved before the CAS.
///
/// # Safety
/// `address` is writable memory of the program.
#[inline(always)]
pub unsafe fn write_quick(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    let me = thread.me;
    if take_own(thread, address, pc) {
        return;
    }
    if !fresh_stack(thread, address) {
        if protocol::try_lock(me, g).is_err() {
            // SAFETY: the caller's promise.
            return unsafe { write(thread, address, pc) };
        }
        // SAFETY: the caller's promise, and the granule is locked.
        unsafe { thread.undo.push_granule(address & !(GRANULE - 1), pc) };
        if !protocol::alone(me, g) || address >= stacks_low() {
            return finish_write(thread, address, pc);
        }
    }
    *thread.mark(g) = me.ver + 1;
    crate::delta::fold(thread, address & !(GRANULE - 1));
}

/// Acquires the granule of `address` for writing and logs it.
///
/// # Safety
/// `address` is writable memory of the program.
#[cold]
#[inline(never)]
pub unsafe fn write(thread: &mut Thread, address: usize, pc: u64) {
    let me = thread.me;
    if take_own(thread, address, pc) {
        return;
    }
    if fresh_stack(thread, address) || thread.allocations.stamp_if_fresh(me, address) {
        *thread.mark(granule(address)) = me.ver + 1;
        return;
    }
    let start = address & !(GRANULE - 1);
    let result = protocol::lock_for_write(me, granule(address), || Want {
        access: access::WRITE_OF_WRITTEN,
        address: start as u64,
        pc,
    });
    check(thread, result, pc);
    // Logged before readers are expelled: a rollback meanwhile gives the lock back through the
    // log, and restores what nobody could have changed.
    // SAFETY: the caller's promise, and the granule is locked.
    unsafe { thread.undo.push_granule(start, pc) };
    finish_write(thread, address, pc);
}

/// With the granule of `address` locked and logged: makes it writable.
#[cold]
#[inline(never)]
fn finish_write(thread: &mut Thread, address: usize, pc: u64) {
    let me = thread.me;
    let g = granule(address);
    let start = address & !(GRANULE - 1);
    let result = protocol::expel_readers(me, g, || Want {
        access: access::WRITE_OF_READ,
        address: start as u64,
        pc,
    });
    check(thread, result, pc);
    if address >= stacks_low() {
        note_foreign_stack(me, start);
    }
    *thread.mark(g) = me.ver + 1;
    crate::delta::fold(thread, start);
    if trace::enabled() {
        trace::note_access(me.slot, address, pc);
    }
}

/// Tells the owner of a stack that we write to it, so that its rollback does not undo us.
#[cold]
#[inline(never)]
pub fn note_foreign_stack(me: Me, start: usize) {
    for slot in 0..tables::peer_count().load(Ordering::Acquire) {
        if slot != me.slot && tables::peer(slot).os.owns_stack(start) {
            let state = tables::peer(me.slot).state.load(Ordering::Relaxed);
            debug_assert_ne!(peer::status(state), peer::IDLE);
            tables::peer(slot)
                .os
                .note_stack_write(start, me.slot, state);
        }
    }
}

/// Acquires every granule of a range for reading.
pub fn read_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    if length == 0 {
        return;
    }
    let mut at = address & !(GRANULE - 1);
    let end = address + length;
    while at < end {
        let g = granule(at);
        let n = (end - at).div_ceil(GRANULE).min(BLOCK);
        // Blocks need shared memory, and indices that do not wrap around.
        let acquired = if n < 4 || g > u32::MAX - BLOCK as u32 || special(thread, at) {
            0
        } else {
            read_block(thread, g, n)
        };
        if acquired == n {
            thread.stats.reads_first.add(n as u64);
        } else if *thread.mark(granule(at + acquired * GRANULE)) < thread.me.ver {
            read(thread, at + acquired * GRANULE, pc);
        }
        if acquired == n {
            at += n * GRANULE;
        } else {
            at += (acquired + 1) * GRANULE;
        }
        // A long range must not outlive a wound.
        if !crate::transaction::enter_slow_path(thread, pc) {
            return;
        }
    }
}

/// Memory that single accesses treat specially: fresh frames, lazily stamped blocks; or a trace
/// wants every access.
#[inline(always)]
fn special(thread: &Thread, address: usize) -> bool {
    !thread.quick || fresh_stack(thread, address)
}

/// Acquires every granule of a range for writing.
///
/// # Safety
/// The range is writable memory of the program.
pub unsafe fn write_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    let mut at = address & !(GRANULE - 1);
    while at < address + length {
        if *thread.mark(granule(at)) <= thread.me.ver {
            // SAFETY: a granule never crosses a page, so it is writable when a byte of it is.
            unsafe { write(thread, at, pc) };
        }
        at += GRANULE;
    }
}

/// Logs a range of private memory for undo, without locks.
///
/// # Safety
/// The range is readable and written by this thread only.
pub unsafe fn private_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    let end = address + length;
    let mut at = address;
    while at < end {
        let next = ((at & !(GRANULE - 1)) + GRANULE).min(end);
        // Fresh memory needs no undo, and must not have one: it may be freed before the rollback,
        // which would write into a block of somebody else. What is locked is logged as a whole.
        if *thread.mark(granule(at)) == thread.me.ver + 1
            || fresh_stack(thread, at)
            || thread.allocations.stamp_if_fresh(thread.me, at)
        {
            at = next;
            continue;
        }
        if take_own(thread, at, pc) {
            at = next;
            continue;
        }
        let seen = &mut thread.private_seen[(at >> 3) & 255];
        // Logged before in this transaction: a loop must not fill the log.
        let stamp = (thread.me.ver as u32) << 16 | (next - at) as u32;
        if *seen != (at, stamp) {
            *seen = (at, stamp);
            // SAFETY: the caller's promise; at most one granule.
            unsafe { thread.undo.push_private(at, next - at, pc) };
        }
        at = next;
    }
}
