//! Acquiring granules and ranges: what the barriers' slow paths do.

use crate::clock;
use crate::foreign::stacks_low;
use crate::heap::granule;
use crate::peer;
use crate::protocol::{self, Me, Want};
use crate::signal;
use crate::tables;
use crate::thread::{Mode, Thread};
use crate::tls::tls;
use crate::trace;
use crate::transaction::check;
use crate::undo;
use ame_abi::trace::access;
use ame_abi::GRANULE;
use std::sync::atomic::{compiler_fence, fence, AtomicBool, Ordering};

/// Memory that nobody else can know of: frames entered since begin. It needs no lock and no log.
#[inline(always)]
fn fresh_stack(thread: &Thread, address: usize) -> bool {
    address.wrapping_sub(thread.stack_low) < thread.fresh_stack
}

/// Whether the transaction has allocated this memory: it is held for writing, but not locked.
#[inline(always)]
pub fn fresh(thread: &mut Thread, address: usize) -> bool {
    is_stamped(thread, address)
        || thread.allocations.stamp_if_fresh(thread.me, address)
            && !thread.me.has_lock(granule(address))
}

/// The same, but for large blocks that have not been touched there.
#[inline(always)]
pub fn is_stamped(thread: &mut Thread, address: usize) -> bool {
    *thread.mark(granule(address)) == thread.me.ver + 1 && !thread.me.has_lock(granule(address))
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
    if !thread.has_own {
        return false;
    }
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
    let _hold = signal::hold();
    let g = granule(address);
    let me = thread.me;
    // A poke brings code here that holds the granule; and a handler that has run since the inline check
    // may have written there.
    if thread.alone || *thread.mark(g) >= me.since {
        return;
    }
    if take_own(thread, address, pc) {
        return;
    }
    if fresh_stack(thread, address) || thread.allocations.stamp_if_fresh(me, address) {
        *thread.mark(g) = me.ver + 1;
        return;
    }
    if me.keeps() && me.has_lock(g) {
        *thread.mark(g) = me.ver;
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
        address: address as u64,
        pc,
    });
    check(thread, result, pc);
    if trace::recording() {
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
        let inline = thread.quick && !thread.me.keeps();
        tls().unfenced.store(inline as u16, Ordering::Relaxed);
    } else if thread.credit > MOST_BUDGET {
        thread.credit = thread.fence_budget;
    }
}

#[cold]
#[inline(never)]
fn first_transaction(thread: &mut Thread) {
    // Elision looks itself, and a fork runs none of the program's code.
    if !thread.elision.is_on() && !crate::fork::begins() {
        crate::window::first_use();
    }
    protocol::participate();
    thread.participates = true;
    if thread.quick {
        go_unfenced(thread);
    }
}

/// Undoes [`first_transaction`], between two transactions.
pub fn withdraw(thread: &mut Thread) {
    leave_unfenced(thread);
    thread.peer().unfenced.store(0, Ordering::SeqCst);
    tables::participants().fetch_sub(1, Ordering::SeqCst);
    thread.participates = false;
}

/// Set where transactions are long and write about as much as they read: first reads are few then,
/// and each first write beside an unfenced thread would cost a handshake.
static FENCED: AtomicBool = AtomicBool::new(false);

pub fn set_fenced(on: bool) {
    FENCED.store(on, Ordering::Relaxed);
}

/// False where threads always fence.
fn go_unfenced(thread: &mut Thread) -> bool {
    thread.credit = NO_LIMIT;
    // Inline reads compare neighbours with the transaction's own version.
    if FENCED.load(Ordering::Relaxed) || thread.keeping.on {
        return false;
    }
    thread.unfenced_since = clock::cycles();
    protocol::go_unfenced(thread.me);
    true
}

/// A first read in fenced mode. After enough of them nobody seems to write here any more.
#[inline(always)]
fn spend_credit(thread: &mut Thread) {
    thread.credit -= 1;
    if thread.credit < 0 && thread.quick && go_unfenced(thread) {
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
            address: address as u64,
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
const BLOCK: usize = 512;
/// For the rest of a range.
const SMALL_BLOCK: usize = 128;

/// Acquires up to [`BLOCK`] consecutive granules for reading with at most one fence; returns how
/// many from the start it got before one that another transaction has locked.
///
/// The marks are stored plainly, then comes the fence, and only then the locks are looked at: each
/// mark and lock is ordered as in [`protocol::read`]. A mark whose lock is taken is retracted; its
/// data was not read.
fn read_block(thread: &mut Thread, g: u32, n: usize) -> usize {
    match n {
        BLOCK => read_whole_block::<BLOCK>(thread, g),
        SMALL_BLOCK => read_whole_block::<SMALL_BLOCK>(thread, g),
        _ => read_block_of(thread, g, n),
    }
}

/// The body for constant lengths and wider vectors: twice as fast on long ranges.
fn read_whole_block<const N: usize>(thread: &mut Thread, g: u32) -> usize {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
        // SAFETY: the processor has them.
        unsafe { read_whole_block_avx512::<N>(thread, g) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        unsafe { read_whole_block_avx2::<N>(thread, g) }
    } else {
        read_block_of(thread, g, N)
    }
}

#[target_feature(enable = "avx512bw,avx512vl")]
fn read_whole_block_avx512<const N: usize>(thread: &mut Thread, g: u32) -> usize {
    read_block_of(thread, g, N)
}

#[target_feature(enable = "avx2")]
fn read_whole_block_avx2<const N: usize>(thread: &mut Thread, g: u32) -> usize {
    read_block_of(thread, g, N)
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
    let since = me.since;
    if !marks.iter().fold(true, |all, &m| all & (m < since)) {
        return match marks.iter().fold(true, |all, &m| all & (m >= since)) {
            true => n,
            false => read_marked_block(thread, g, n),
        };
    }
    marks.fill(me.ver);
    publish_marks(thread);
    let free = locks.iter().fold(0, |any, &lock| any | lock) == 0;
    compiler_fence(Ordering::SeqCst);
    match free {
        true => n,
        false => read_free_part(me, g, n),
    }
}

/// Between the marks of a block and the look at its locks. An unfenced thread is asked for the fence.
#[inline(always)]
fn publish_marks(thread: &Thread) {
    if thread.peer().unfenced.load(Ordering::Relaxed) == 0 {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// Of a block that was just marked and had no marks before: keeps the marks up to the first granule
/// that another transaction has locked. Those behind it are retracted as well: nothing asked for
/// them yet.
#[cold]
#[inline(never)]
fn read_free_part(me: Me, g: u32, n: usize) -> usize {
    let free = |i: &usize| tables::lock(g + *i as u32).load(Ordering::Acquire) == 0;
    let acquired = (0..n).take_while(free).count();
    for i in acquired..n {
        tables::mark(me.slot, g + i as u32).store(0, Ordering::Release);
    }
    acquired
}

/// The same for a block in which some granules are held already, whose marks stay.
#[inline(never)]
fn read_marked_block(thread: &mut Thread, g: u32, n: usize) -> usize {
    let me = thread.me;
    let mut missing = [false; BLOCK];
    for (i, missing) in missing[..n].iter_mut().enumerate() {
        let mark = thread.mark(g + i as u32);
        *missing = *mark < me.since;
        *mark = (*mark).max(me.ver);
    }
    publish_marks(thread);
    let taken = |i: &usize| missing[*i] && tables::lock(g + *i as u32).load(Ordering::Acquire) != 0;
    let acquired = (0..n).find(taken).unwrap_or(n);
    for i in (acquired..n).filter(|&i| missing[i]) {
        tables::mark(me.slot, g + i as u32).store(0, Ordering::Release);
    }
    acquired
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
        // SAFETY: the caller's promise.
        unsafe { undo::touch(address) };
        if thread.elision.is_on() {
            crate::elision::check_window(thread, address, pc);
        }
        // SAFETY: the caller's promise.
        if thread.me.keeps() && unsafe { write_kept(thread, address, pc) } {
            return;
        }
        if protocol::try_lock(me, g).is_err() {
            // SAFETY: the caller's promise.
            return unsafe { write(thread, address, pc) };
        }
        // SAFETY: the caller's promise, and the granule is locked.
        unsafe { thread.undo.push_granule(address & !(GRANULE - 1), pc) };
        thread.keeping.note(me, g);
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
    // What is neither locked nor logged is not read either: a new page would become one of zeros that is only read, and
    // exchanging that when it is written interrupts the processors of all threads.
    let lazy = thread.allocations.is_lazy(address);
    if !lazy {
        // SAFETY: the caller's promise.
        unsafe { undo::touch(address) };
    }
    let _hold = signal::hold();
    let me = thread.me;
    // As in `read`.
    if *thread.mark(granule(address)) > me.ver {
        return;
    }
    if take_own(thread, address, pc) {
        return;
    }
    if fresh_stack(thread, address) || lazy && thread.allocations.stamp_if_fresh(me, address) {
        *thread.mark(granule(address)) = me.ver + 1;
        return;
    }
    if thread.alone {
        // SAFETY: the caller's promise.
        return unsafe { write_shared_alone(thread, address, pc) };
    }
    if thread.elision.is_on() {
        crate::elision::check_window(thread, address, pc);
    }
    // SAFETY: the caller's promise.
    if thread.me.keeps() && unsafe { write_kept(thread, address, pc) } {
        return;
    }
    let start = address & !(GRANULE - 1);
    let result = protocol::lock_for_write(me, granule(address), || Want {
        access: access::WRITE_OF_WRITTEN,
        address: address as u64,
        pc,
    });
    check(thread, result, pc);
    // Logged before readers are expelled: a rollback meanwhile gives the lock back through the
    // log, and restores what nobody could have changed.
    // SAFETY: the caller's promise, and the granule is locked.
    unsafe { thread.undo.push_granule(start, pc) };
    thread.keeping.note(me, granule(address));
    finish_write(thread, address, pc);
}

/// [`write_quick`] of a granule whose lock an earlier transaction has left to this one: nobody else reads there.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn write_kept(thread: &mut Thread, address: usize, pc: u64) -> bool {
    let g = granule(address);
    if !thread.me.has_lock(g) {
        return false;
    }
    // SAFETY: the caller's promise, and the granule is locked.
    unsafe { thread.undo.push_granule(address & !(GRANULE - 1), pc) };
    if address >= stacks_low() {
        finish_write(thread, address, pc);
    } else {
        *thread.mark(g) = thread.me.ver + 1;
        crate::delta::fold(thread, address & !(GRANULE - 1));
    }
    true
}

/// [`write_quick`] in this thread's turn.
///
/// # Safety
/// As there.
#[inline(never)]
pub unsafe fn write_alone(thread: &mut Thread, address: usize, pc: u64) {
    if take_own(thread, address, pc) {
        return;
    }
    if fresh_stack(thread, address) {
        *thread.mark(granule(address)) = thread.me.ver + 1;
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { write_shared_alone(thread, address, pc) }
}

#[inline(always)]
unsafe fn write_shared_alone(thread: &mut Thread, address: usize, pc: u64) {
    let g = granule(address);
    let start = address & !(GRANULE - 1);
    // Logged first: this faults where there is no memory.
    // SAFETY: the caller's promise, and nobody else can lock the granule.
    unsafe { thread.undo.push_granule(start, pc) };
    // Nobody looks at the lock, but who has it is how the runtime tells what is logged.
    protocol::lock_in_turn(thread.me, g);
    if address >= stacks_low() {
        note_foreign_stack(thread.me, start);
    }
    *thread.mark(g) = thread.me.ver + 1;
    crate::delta::fold(thread, start);
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
        address: address as u64,
        pc,
    });
    check(thread, result, pc);
    if address >= stacks_low() {
        if note_foreign_stack(me, start) {
            // The owner looks whether this transaction is over.
            thread.keeping.give_back();
        }
    }
    *thread.mark(g) = me.ver + 1;
    crate::delta::fold(thread, start);
    if trace::recording() {
        trace::note_access(me.slot, address, pc);
    }
}

/// Tells the owner of a stack that we write to it, so that its rollback does not undo us. Whether there is one.
#[cold]
#[inline(never)]
pub fn note_foreign_stack(me: Me, start: usize) -> bool {
    let mut found = false;
    for slot in 0..tables::peer_count().load(Ordering::Acquire) {
        if slot != me.slot && tables::peer(slot).os.owns_stack(start) {
            let state = tables::peer(me.slot).state.load(Ordering::Relaxed);
            debug_assert_ne!(peer::status(state), peer::IDLE);
            tables::peer(slot)
                .os
                .note_stack_write(start, me.slot, state);
            found = true;
        }
    }
    found
}

/// Acquires every granule of a range for reading.
pub fn read_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    let _hold = signal::hold();
    if length == 0 || thread.alone {
        return;
    }
    let mut at = address & !(GRANULE - 1);
    let end = address + length;
    if holds(thread, at, end, false) {
        return;
    }
    while at < end {
        let g = granule(at);
        let n = match (end - at).div_ceil(GRANULE) {
            BLOCK.. => BLOCK,
            SMALL_BLOCK.. => SMALL_BLOCK,
            n => n,
        };
        // Blocks need shared memory, and indices that do not wrap around.
        let acquired = if n < 4 || g > u32::MAX - n as u32 || special(thread, at) {
            0
        } else {
            read_block(thread, g, n)
        };
        if acquired == n {
            thread.stats.reads_first.add(n as u64);
        } else if *thread.mark(granule(at + acquired * GRANULE)) < thread.me.since {
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

/// Whether the transaction holds all granules from the one at `start` to below `end`.
#[inline(always)]
fn holds(thread: &mut Thread, start: usize, end: usize, for_writing: bool) -> bool {
    let (first, n) = (granule(start), (end - start).div_ceil(GRANULE));
    if first as usize + n > u32::MAX as usize {
        return false;
    }
    // A mark is `ver` or `ver + 1`, and `ver` is even.
    let (held, since) = (thread.me.ver + 1, thread.me.since);
    let also = if for_writing { 0 } else { 1 };
    // SAFETY: the table covers all granules.
    let marks = unsafe { std::slice::from_raw_parts(thread.mark(first), n) };
    if thread.me.keeps() && !for_writing {
        return marks.iter().all(|&m| m >= since);
    }
    let (fours, rest) = marks.as_chunks::<4>();
    // Four marks at a time.
    let word = |marks: &[u16; 4]| {
        marks
            .iter()
            .rev()
            .fold(0, |word, &m| word << 16 | u64::from(m))
    };
    let all = |mark: u16| word(&[mark; 4]);
    fours.iter().all(|m| word(m) | all(also) == all(held)) && rest.iter().all(|m| m | also == held)
}

/// Memory that single accesses treat specially: fresh frames, lazily stamped blocks; or a trace
/// wants every access.
#[inline(always)]
fn special(thread: &Thread, address: usize) -> bool {
    let plain = thread.quick
        || (thread.mode == Mode::Inevitable && !crate::watched() && !thread.allocations.any_lazy());
    !plain || fresh_stack(thread, address)
}

/// Acquires every granule of a range for writing.
///
/// # Safety
/// The range is writable memory of the program.
pub unsafe fn write_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    if length == 0 {
        return;
    }
    let start = address & !(GRANULE - 1);
    // SAFETY: a granule never crosses a page, so it is writable when a byte of it is.
    unsafe { write_steps(thread, start, address + length - start, GRANULE, 1, pc) }
}

/// Acquires for writing what a loop writes: `size` bytes at `address`, `address + step` and so on,
/// below `address + length`.
///
/// # Safety
/// These bytes are writable memory of the program, and `step` is not 0.
pub unsafe fn write_steps(
    thread: &mut Thread,
    address: usize,
    length: usize,
    step: usize,
    size: usize,
    pc: u64,
) {
    let _hold = signal::hold();
    let end = address + length;
    let mut at = address;
    // Most often all of it is ours: new memory, or written before.
    if step <= GRANULE && size <= GRANULE && holds(thread, at & !(GRANULE - 1), end, true) {
        return;
    }
    let mut batch = Batch {
        addresses: [0; BATCH],
        granules: [0; BATCH],
        n: 0,
    };
    while at < end {
        let mut start = at & !(GRANULE - 1);
        while start < at + size {
            // SAFETY: the caller's promise.
            unsafe { batch.write(thread, start, pc) };
            start += GRANULE;
        }
        at += step;
    }
    // SAFETY: the caller's promise.
    unsafe { batch.finish(thread, pc) };
}

/// Has the cache fetch what writing to a granule needs.
#[inline(always)]
fn fetch(start: usize, g: u32) {
    let lock = ame_abi::LOCK_TABLE as usize + g as usize * 2;
    // SAFETY: hints, which access nothing.
    unsafe {
        std::arch::asm!(
            "prefetchw [{lock}]",
            "prefetchw [{start}]",
            lock = in(reg) lock,
            start = in(reg) start,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Granules of one region that are going to be locked together.
struct Batch {
    addresses: [usize; BATCH],
    granules: [u32; BATCH],
    n: usize,
}

const BATCH: usize = 64;

impl Batch {
    /// Acquires the granule at `start` at the latest when the batch is finished.
    #[inline(always)]
    unsafe fn write(&mut self, thread: &mut Thread, start: usize, pc: u64) {
        let g = granule(start);
        if *thread.mark(g) > thread.me.ver {
            return;
        }
        if special(thread, start) || start >= stacks_low() || thread.keeping.on {
            // SAFETY: the caller's promise.
            return unsafe { write(thread, start, pc) };
        }
        let other_region = (g ^ self.granules[0]) >> tables::REGION_SHIFT != 0;
        if self.n == BATCH || (self.n != 0 && other_region) {
            // SAFETY: the caller's promise.
            unsafe { self.finish(thread, pc) };
        }
        fetch(start, g);
        self.addresses[self.n] = start;
        self.granules[self.n] = g;
        self.n += 1;
    }

    /// May roll back: all that is locked is in the log before anything can fail.
    #[inline(never)]
    unsafe fn finish(&mut self, thread: &mut Thread, pc: u64) {
        let n = std::mem::take(&mut self.n);
        let (addresses, granules) = (&self.addresses[..n], &self.granules[..n]);
        let me = thread.me;
        if thread.alone {
            for &start in addresses {
                // Steps smaller than a granule come to the same one twice.
                if *thread.mark(granule(start)) <= me.ver {
                    // SAFETY: the promise of `write`'s caller.
                    unsafe { write_shared_alone(thread, start, pc) };
                }
            }
            crate::transaction::enter_slow_path(thread, pc);
            return;
        }
        let all = match n {
            BATCH => u64::MAX,
            _ => (1 << n) - 1,
        };
        for &start in addresses {
            // SAFETY: the promise of `write`'s caller.
            unsafe { undo::touch(start) };
        }
        // A few are not worth the fence.
        let got = match n {
            0..4 => 0,
            _ => protocol::lock_together(me, granules),
        };
        for (i, &start) in addresses.iter().enumerate() {
            if got >> i & 1 != 0 {
                // SAFETY: the promise of `write`'s caller, and the granule is locked.
                unsafe { thread.undo.push_granule(start, pc) };
            }
        }
        if got == all && protocol::alone_on_all(me, granules.iter().copied()) {
            for (&g, &start) in granules.iter().zip(addresses) {
                *thread.mark(g) = me.ver + 1;
                crate::delta::fold(thread, start);
            }
        } else {
            for (i, &start) in addresses.iter().enumerate() {
                if got >> i & 1 != 0 {
                    finish_write(thread, start, pc);
                }
            }
            for &start in addresses {
                if *thread.mark(granule(start)) <= me.ver {
                    // SAFETY: the promise of `write`'s caller.
                    unsafe { write(thread, start, pc) };
                }
            }
        }
        // A long range must not outlive a wound.
        crate::transaction::enter_slow_path(thread, pc);
    }
}

/// Logs a range of private memory for undo, without locks.
///
/// # Safety
/// The range is readable and written by this thread only.
pub unsafe fn private_range(thread: &mut Thread, address: usize, length: usize, pc: u64) {
    let _hold = signal::hold();
    let end = address + length;
    if holds(thread, address & !(GRANULE - 1), end, true) {
        return;
    }
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
