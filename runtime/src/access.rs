//! Acquiring granules and ranges: what the barriers' slow paths do.

use crate::clock;
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
use std::sync::atomic::{fence, Ordering};

/// Memory that nobody else can know of: frames entered since begin. It needs no lock and no log.
#[inline(always)]
fn fresh_stack(thread: &Thread, address: usize) -> bool {
    address.wrapping_sub(thread.stack_low) < thread.fresh_stack
}

/// Acquires the granule of `address` for reading.
#[inline(always)]
pub fn read(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    let me = thread.me;
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
            return read_ahead(thread, g, pc);
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
    protocol::participate();
    thread.participates = true;
    if thread.quick {
        go_unfenced(thread);
    }
}

fn go_unfenced(thread: &mut Thread) {
    thread.credit = NO_LIMIT;
    thread.unfenced_since = clock::cycles();
    protocol::go_unfenced(thread.me);
}

/// A first read in fenced mode. After enough of them nobody seems to write here any more.
#[inline(always)]
fn spend_credit(thread: &mut Thread) {
    thread.credit -= 1;
    if thread.credit < 0 && thread.quick {
        go_unfenced(thread);
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
    let soon = clock::cycles() - thread.unfenced_since < TOO_SOON;
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

/// After an inline first read that found the lock taken.
#[cold]
pub fn read_contended(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    *thread.mark(g) = 0;
    read(thread, address, pc);
}

/// Granules read one after the other before the reader counts as sequential.
const STAMP_AFTER: u32 = 3;

/// A sequential reader: marks the granules ahead as well, with one fence for all.
///
/// The marks are stored plainly, then the first granule is acquired with its full fence, and only
/// then the locks of the others are looked at: each mark and lock is ordered as in
/// [`protocol::read`]. A mark whose lock is taken is retracted; its data was not read.
#[cold]
#[inline(never)]
fn read_ahead(thread: &mut Thread, g: u32, pc: u64) {
    let me = thread.me;
    let ahead = (1u32 << (thread.read_run - STAMP_AFTER + 1).min(16))
        .min(crate::config::config().stamp_ahead)
        .min(u32::MAX - g);
    let mut last = g;
    for next in g + 1..=g + ahead {
        let mark = tables::mark(me.slot, next);
        if mark.load(Ordering::Relaxed) >= me.ver {
            break;
        }
        mark.store(me.ver, Ordering::Release);
        last = next;
    }
    let result = protocol::read(me, g, || Want {
        access: access::READ_OF_WRITTEN,
        address: 0,
        pc,
    });
    if result.is_ok() {
        for next in g + 1..=last {
            if tables::lock(next).load(Ordering::Acquire) != 0 {
                for retracted in next..=last {
                    tables::mark(me.slot, retracted).store(0, Ordering::Release);
                }
                last = next - 1;
                break;
            }
        }
        thread.last_read = last;
    }
    check(thread, result, pc);
}

/// Acquires the granule of `address` for writing and logs it.
///
/// # Safety
/// `address` is writable memory of the program.
#[inline(always)]
pub unsafe fn write(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    let me = thread.me;
    if fresh_stack(thread, address) || thread.allocations.stamp_if_fresh(me, address) {
        *thread.mark(g) = me.ver + 1;
        return;
    }
    let start = address & !(GRANULE - 1);
    let want = |access| {
        move || Want {
            access,
            address: start as u64,
            pc,
        }
    };
    let result = protocol::lock_for_write(me, g, want(access::WRITE_OF_WRITTEN));
    check(thread, result, pc);
    // Logged before readers are expelled: a rollback meanwhile gives the lock back through the
    // log, and restores what nobody could have changed.
    // SAFETY: the caller's promise, and the granule is locked.
    unsafe { thread.undo.push_granule(start, pc) };
    let result = protocol::expel_readers(me, g, want(access::WRITE_OF_READ));
    check(thread, result, pc);
    if !crate::heap::in_arena(address) {
        note_foreign_stack(me, start);
    }
    *thread.mark(g) = me.ver + 1;
    if trace::enabled() {
        trace::note_access(me.slot, address, pc);
    }
}

/// Tells the owner of a stack that we write to it, so that its rollback does not undo us.
#[cold]
#[inline(never)]
fn note_foreign_stack(me: Me, start: usize) {
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
    let mut at = address & !(GRANULE - 1);
    while at < address + length {
        if *thread.mark(granule(at)) < thread.me.ver {
            read(thread, at, pc);
        }
        at += GRANULE;
    }
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
