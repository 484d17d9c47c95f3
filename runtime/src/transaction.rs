//! Begin, commit, rollback: the life of a transaction.

use crate::access;
use crate::config::config;
use crate::gate;
use crate::heap;
use crate::hook::Hook;
use crate::host;
use crate::lease;
use crate::peer;
use crate::primitive::Ordering;
use crate::protocol::{self, Doomed, Me, Want};
use crate::report;
use crate::signal;
use crate::stack;
use crate::thread::{Mode, Thread};
use crate::tls::tls;
use crate::{clock, fatal, tables, timing, trace};
use ame_abi::trace::cause;
use std::sync::atomic::compiler_fence;

/// Second half of the outermost `ame_begin`; its caller's registers are in `thread.saved`.
///
/// # Safety
/// Called by `ame_begin` only.
pub unsafe extern "C" fn begin(thread: *mut Thread) -> u32 {
    // SAFETY: the thread's own state, used by no other Rust frame now.
    let thread = unsafe { &mut *thread };
    let sp = thread.saved.sp as usize;
    thread.share.left -= 1;
    if thread.share.left < 0 {
        crate::turns::look(thread);
    }
    thread.attempts = 0;
    thread.stats.begins.add(1);
    thread.fresh_stack = (sp & !15) - thread.stack_low;
    // The time stamp counter costs as much as the rest of a begin: only read when asked for.
    thread.started = 0;
    if timing() {
        stamp(thread);
    }
    thread.age = age_now(thread.me.slot);
    // SAFETY: the calling thread's own errno, which lives as long as the thread.
    thread.errno_at_begin = unsafe { *thread.errno };
    start(thread);
    // SAFETY: sp is the caller's frame.
    unsafe { save(thread, sp) };
    0
}

fn stamp(thread: &mut Thread) {
    thread.started = clock::cycles();
    thread.peer().since.store(thread.started, Ordering::Relaxed);
}

/// What a program's glue wants to do before its threads begin a transaction, and after they have
/// rolled one back: save memory and put it back.
pub static BEGINS: Hook<extern "C" fn()> = Hook::new();
pub static ROLLED_BACK: Hook<extern "C" fn()> = Hook::new();

/// For a host that ends transactions where it likes.
pub static END_WANTED: Hook<extern "C" fn()> = Hook::new();

/// The calling thread's transaction had better end soon.
pub fn ask_for_end() {
    if let Some(hook) = END_WANTED.get() {
        hook();
    }
}

/// Copies what a rollback puts back as a whole: after the start, from which on nobody runs exclusively, who
/// may write to all of it and tells nobody.
///
/// # Safety
/// [sp, base) is live stack of the thread.
#[inline(always)]
unsafe fn save(thread: &mut Thread, sp: usize) {
    // What others have written to the stack before is in place.
    thread.peer().os.forget_stack_writes();
    // SAFETY: the caller's promise.
    unsafe { thread.snapshot.take(sp) };
    if let Some(hook) = BEGINS.get() {
        hook();
    }
}

/// Ages grow with time and are unique.
#[inline(always)]
fn age_now(slot: u32) -> u64 {
    tables::epoch().load(Ordering::Relaxed) << 10 | (slot as u64 + 1)
}

#[inline(always)]
fn start(thread: &mut Thread) {
    if !try_start(thread) {
        start_through_gate(thread);
    }
}

#[inline(always)]
fn try_start(thread: &mut Thread) -> bool {
    thread.keeping.begin(thread.elision.is_on());
    if thread.me.keeps() {
        hold_leases(thread);
    }
    thread.quick = !crate::watched();
    thread.alone = thread.share.holds;
    if !thread.alone {
        access::begin_reads(thread);
    }
    // Armed before others can see the transaction, so that no poke for it comes too early.
    thread.arm(tls());
    gate::start(thread.me, thread.age, thread.alone)
}

#[inline(always)]
fn hold_leases(thread: &mut Thread) {
    if !thread.keeping.on {
        thread.end_leases();
    } else if !lease::hold(thread.me) {
        thread.me.since = thread.me.ver;
        thread.keeping.lost();
    }
}

/// Somebody runs exclusively, or it is a thread's turn.
#[cold]
#[inline(never)]
fn start_through_gate(thread: &mut Thread) {
    loop {
        thread.disarm(tls());
        let (closed, since) = (tables::gate().load(Ordering::Relaxed), clock::cycles());
        crate::turns::await_gate(thread);
        if let Some(slot) = gate::exclusive(closed).filter(|&slot| slot != thread.me.slot) {
            report::exclusive(thread.me, slot, 0, since);
        }
        if signal::waiting() {
            // Nothing has begun yet.
            // SAFETY: the thread's own state, of which this frame has nothing in registers.
            unsafe { let_handlers_in(thread) };
            thread.depth = 1;
            signal::end_rollback();
        } else if try_start(thread) {
            break;
        }
    }
}

/// `ame_commit`.
pub fn commit() {
    let current = Thread::current();
    if current.is_null() {
        fatal!("ame_commit() without ame_begin()");
    }
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *current };
    match thread.depth {
        0 => fatal!("ame_commit() without ame_begin()"),
        1 => {}
        _ => {
            thread.depth -= 1;
            return;
        }
    }
    if thread.eventful {
        return commit_eventful(thread);
    }
    release(thread);
    leave(thread);
    signal::deliver_waiting();
}

/// The thread is in no transaction any more: from here on handlers run at once.
#[inline(always)]
fn leave(thread: &mut Thread) {
    compiler_fence(Ordering::SeqCst);
    thread.depth = 0;
}

/// Gives up everything that the transaction holds. Its effects are visible from here on.
#[inline(always)]
fn release(thread: &mut Thread) {
    thread.disarm(tls());
    thread.quick = false;
    let entries = thread.undo.entries();
    // What merged counts lock, and a turn, is not noted.
    let keeps = thread.keeping.keeps(thread.me) && !thread.eventful && !thread.alone;
    for entry in entries {
        if entry.locked() && !keeps {
            protocol::unlock(heap::granule(entry.address()));
        }
    }
    let written = entries.len() as u64;
    if written != 0 {
        thread.stats.writes_first.add(written);
        thread.stats.log_bytes_max.max(thread.undo.bytes() as u64);
        thread.undo.clear();
    }
    thread.stats.commits.add(1);
    if trace::enabled() {
        trace::committed(thread);
    }
    finish(thread, keeps);
}

/// Publishes the end of the transaction. Its marks die with it, unless the next one gets all that this one has.
#[inline(always)]
fn finish(thread: &mut Thread, keeps: bool) {
    let next = thread.next_version();
    let wrapped = next < thread.me.ver;
    if keeps && !wrapped {
        lease::finish(thread.me);
        thread.me.ver = next;
        return;
    }
    if thread.keeping.on {
        lease::end(thread.me);
    }
    if keeps {
        thread.keeping.lasted();
    }
    protocol::finish(thread.me, next);
    thread.me = Me::new(thread.me.slot, next);
}

/// Commit of a transaction with actions, frees, deltas, or that cannot be rolled back.
#[cold]
#[inline(never)]
fn commit_eventful(thread: &mut Thread) {
    let hold = signal::hold();
    // Deltas first: they may meet a conflict, and then the transaction can still be rolled back.
    crate::delta::merge(thread);
    // Before anything is given up: who sees what the transaction wrote prints after it.
    thread.effects.perform();
    thread.actions.run_before_release();
    let mode = std::mem::replace(&mut thread.mode, Mode::Revocable);
    give_token_back(thread);
    release(thread);
    if mode == Mode::Exclusive {
        gate::open();
    }
    thread.eventful = false;
    thread.mask_at_fault = None;
    leave(thread);
    let actions = thread.actions.take_committed();
    thread.allocations.commit();
    let dead = thread.deltas.take_dead();
    drop(hold);
    // From here on this is ordinary code outside a transaction, which may start others.
    for action in actions {
        action();
    }
    crate::delta::deallocate(dead);
}

/// Rolls the current transaction back and starts it again: returns from `ame_begin` once more.
pub fn abort(thread: &mut Thread, why: u8, pc: u64) -> ! {
    debug_assert!(thread.depth > 0);
    if thread.mode != Mode::Revocable || (thread.has_token && why == cause::RETRY) {
        fatal!("an inevitable transaction cannot be rolled back (ame_retry() in it?)");
    }
    thread.abort_cause = why;
    thread.abort_pc = pc;
    thread.abort_site = host::site();
    signal::hold_for_rollback();
    let stack = thread.snapshot.rollback_stack();
    // SAFETY: the rollback stack is the thread's own and not in use: rollbacks do not nest,
    // because `on_abort` actions run outside of the transaction.
    unsafe { stack::switch_stack(thread, stack, rollback) }
}

unsafe extern "C" fn rollback(thread: *mut Thread) -> ! {
    // SAFETY: the thread's own state; the frames that used it are gone.
    let thread = unsafe { &mut *thread };
    let why = thread.abort_cause;
    let actions = undo(thread, |thread| {
        // SAFETY: this is the rollback stack.
        unsafe { undo_memory(thread) }
    });
    for action in actions {
        action();
    }
    thread.attempts += 1;
    tables::epoch().fetch_add(1, Ordering::Relaxed);
    if !thread.elision.is_on() {
        if why == cause::WOUNDED {
            protocol::await_wounder(thread.me);
        }
        back_off(thread);
    }
    stamp(thread);
    if why == cause::RETRY {
        thread.age = age_now(thread.me.slot);
    }
    let sp = thread.snapshot.sp;
    // SAFETY: the frames at sp are what they were at begin, and nothing below them is in use.
    unsafe { stack::switch_stack(thread, sp, restart) }
}

/// Undoes what the transaction did, with `memory` what it wrote, and ends it. What its actions are for is left to do.
fn undo(
    thread: &mut Thread,
    memory: impl FnOnce(&mut Thread),
) -> impl Iterator<Item = impl FnOnce()> {
    thread.disarm(tls());
    thread.quick = false;
    signal::leave_handlers(thread);
    let why = thread.abort_cause;
    memory(thread);
    if let Some(hook) = ROLLED_BACK.get() {
        hook();
    }
    thread.effects.abort();
    give_token_back(thread);
    if why == cause::RETRY {
        await_change(thread);
    }
    let lost = match thread.started {
        0 => 0,
        started => clock::cycles() - started,
    };
    thread.stats.ns_aborted.add(lost);
    match why {
        cause::CHAOS => thread.stats.aborts_chaos.add(1),
        cause::RETRY => thread.stats.retries.add(1),
        _ => thread.stats.aborts_conflict.add(1),
    }
    if trace::enabled() || host::known() {
        trace::aborted(thread, why, lost);
    }
    finish(thread, false);
    thread.depth = 0;
    thread.eventful = false;
    let actions = thread.actions.take_aborted();
    thread.deltas.drop_all();
    thread.allocations.abort();
    if thread.alone && why != cause::CHAOS {
        // It waits for somebody, or somebody for it.
        crate::turns::forsake(thread);
    }
    actions
}

/// Of a thread that ends inside: an interpreter that ends has its daemon threads end where they wait for a lock. The
/// transaction's frames are gone, and what lies there now stays; nothing begins again.
pub fn end_with_thread(thread: &mut Thread) {
    if thread.mode != Mode::Revocable || !thread.elision.is_on() {
        fatal!("a thread ended inside a transaction: every ame_begin() needs its ame_commit()");
    }
    thread.abort_cause = cause::LOCK;
    // What actions would free belongs to a program that ends.
    drop(undo(thread, |thread| {
        let end = thread.snapshot.set_base(0);
        undo_log(thread, end - thread.stack_low);
        unlock_written(thread);
    }));
    thread
        .elision
        .rolled_back(thread.me.slot, &mut thread.snapshot);
}

/// Second half of a rollback, on the program's stack, below the frame that began.
unsafe extern "C" fn restart(thread: *mut Thread) -> ! {
    // SAFETY: the thread's own state, used by no other frame now.
    if unsafe { (*thread).elision.is_on() } {
        // SAFETY: as above; the frames of begin are what they were.
        unsafe { return_rolled_back(&mut *thread) }
    }
    if signal::waiting() {
        // SAFETY: the thread's own state, used by no other frame now.
        unsafe { let_handlers_in(thread) };
    }
    // SAFETY: as above.
    let thread = unsafe { &mut *thread };
    let sp = thread.snapshot.sp;
    thread.depth = 1;
    start(thread);
    // SAFETY: [sp, base) holds the frames as they were at begin.
    unsafe { save(thread, sp) };
    signal::end_rollback();
    // The C library writes it without a barrier, and so may what a rollback does.
    // SAFETY: the thread's own errno. `ame_begin` saved the registers, and the stack is what it was
    // then.
    unsafe {
        *thread.errno = thread.errno_at_begin;
        stack::resume(&thread.saved, thread.attempts)
    }
}

/// Of an entry to a domain: it is for the caller of begin to begin again, or to hold the domain.
unsafe fn return_rolled_back(thread: &mut Thread) -> ! {
    thread
        .elision
        .rolled_back(thread.me.slot, &mut thread.snapshot);
    signal::end_rollback();
    // SAFETY: as in `restart`.
    unsafe {
        *thread.errno = thread.errno_at_begin;
        stack::resume(&thread.saved, thread.attempts)
    }
}

/// Runs the handlers that have waited, which may run transactions of their own in the meantime.
#[cold]
unsafe fn let_handlers_in(thread: *mut Thread) {
    // SAFETY: the thread's own state; no reference to it lives while handlers run.
    unsafe {
        let saved = (*thread).saved;
        let sp = (*thread).snapshot.sp;
        let fresh_stack = (*thread).fresh_stack;
        let (age, attempts) = ((*thread).age, (*thread).attempts);
        let errno = (*thread).errno_at_begin;
        (*thread).depth = 0;
        signal::let_in();
        (*thread).saved = saved;
        (*thread).snapshot.sp = sp;
        (*thread).fresh_stack = fresh_stack;
        ((*thread).age, (*thread).attempts) = (age, attempts);
        (*thread).errno_at_begin = errno;
    }
}

/// Puts memory and stack back and unlocks what was written.
///
/// Memory first: a frame that was entered after begin may lie where frames of begin had returned,
/// and what the log says of its variables is not what was there at begin. The snapshot is. (Only
/// what others have written to our stack is left to the log, if we wrote there after them.)
///
/// # Safety
/// Runs on the rollback stack.
unsafe fn undo_memory(thread: &mut Thread) {
    undo_log(thread, thread.fresh_stack);
    let locks = thread.effects.held.ranges();
    thread.peer().os.with_stack_writes(|writes| {
        let mut keep: Vec<_> = writes.chain(locks.iter().cloned()).collect();
        keep.sort_unstable_by_key(|range| range.start);
        // SAFETY: the caller's promise.
        unsafe { thread.snapshot.restore(&keep) };
    });
    unlock_written(thread);
}

/// Puts back what the transaction has written, but for so many bytes from the end of the thread's stack on.
fn undo_log(thread: &Thread, fresh: usize) {
    let locks = thread.effects.held.ranges();
    let low = thread.stack_low;
    for entry in thread.undo.entries().iter().rev() {
        // Frames below begin are gone; what lies there now is not theirs.
        if entry.address().wrapping_sub(low) >= fresh {
            // SAFETY: frees are deferred, so what the transaction wrote to is still mapped, and
            // it holds the lock, or the memory is private.
            unsafe { entry.restore(&locks) };
        }
    }
}

fn unlock_written(thread: &mut Thread) {
    for entry in thread.undo.entries() {
        if entry.locked() {
            protocol::unlock(heap::granule(entry.address()));
        }
    }
    thread.stats.log_bytes_max.max(thread.undo.bytes() as u64);
    thread.undo.clear();
}

/// `ame_retry`: the marks are kept, so that whoever wants to write what was read must wound us.
fn await_change(thread: &mut Thread) {
    let mine = thread.peer();
    mine.age.store(peer::YOUNGEST, Ordering::Release);
    loop {
        let ticket = mine.park.load(Ordering::SeqCst);
        // A wounder unparks only those that say they wait.
        mine.waiting_for.store(thread.me.slot + 1, Ordering::SeqCst);
        if thread.me.doomed() || signal::waiting() {
            break;
        }
        crate::primitive::futex_wait(&mine.park, ticket, 50_000_000);
    }
    mine.waiting_for.store(0, Ordering::SeqCst);
}

/// After repeated rollbacks, lets others go first for a short random while. Wound-wait needs no
/// back-off for progress; it only keeps cores from fighting over the same lines.
fn back_off(thread: &mut Thread) {
    if thread.abort_cause == cause::LOCK {
        // Code outside of transactions holds it, which nobody can hurry.
        let micros = 20u64 << thread.attempts.min(6);
        std::thread::sleep(std::time::Duration::from_micros(micros));
    }
    if thread.attempts < 2 {
        return;
    }
    let bound = 1u64 << thread.attempts.min(10);
    for _ in 0..random(thread) % (bound * 8) {
        std::hint::spin_loop();
    }
    if thread.attempts > 8 {
        std::thread::yield_now();
    }
}

fn random(thread: &mut Thread) -> u64 {
    // xorshift64 (Marsaglia 2003); the seed is never 0.
    let mut x = thread.chaos | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    thread.chaos = x;
    x
}

/// What every slow path does first: notice a wound, repair a stale poke, be unlucky (chaos).
/// False when the access needs nothing more, because no transaction that can fail runs.
#[inline(always)]
pub fn enter_slow_path(thread: &mut Thread, pc: u64) -> bool {
    if thread.control().poked() {
        poked(thread, pc);
    }
    if !thread.speculative() {
        return false;
    }
    if crate::chaos_enabled() {
        chaos(thread, pc);
    }
    true
}

#[cold]
#[inline(never)]
fn poked(thread: &mut Thread, pc: u64) {
    let _hold = signal::hold();
    if protocol::answer_fence(thread.me) {
        access::fence_asked(thread);
    }
    if !thread.speculative() {
        thread.quieten(tls());
        return;
    }
    thread.arm(tls());
    // Either this sees the wound, or the wounder's poke comes after our repair.
    crate::primitive::fence(Ordering::SeqCst);
    if thread.me.doomed() {
        abort(thread, cause::WOUNDED, pc);
    }
}

#[cold]
#[inline(never)]
fn chaos(thread: &mut Thread, pc: u64) {
    if thread.mode == Mode::Revocable
        && ((random(thread) >> 16) as u32) < config().chaos_rate
        // Every transaction must end: after enough bad luck it is left alone.
        && thread.attempts < 50
    {
        abort(thread, cause::CHAOS, pc);
    }
}

/// Leaves when the protocol says so.
#[inline(always)]
pub fn check(thread: &mut Thread, result: Result<(), Doomed>, pc: u64) {
    if result.is_err() {
        abort(thread, cause::WOUNDED, pc);
    }
}

/// Before what may wait for others, or needs marks: a transaction in its thread's turn is begun again
/// outside of it.
#[inline(always)]
pub fn share_the_gate(thread: &mut Thread, pc: u64) {
    if thread.alone {
        abort(thread, cause::TURN, pc);
    }
}

/// `ame_inevitable`.
pub fn make_inevitable(thread: &mut Thread, pc: u64) {
    if thread.depth == 0 || thread.mode != Mode::Revocable {
        return;
    }
    if thread.elision.is_on() {
        return crate::elision::irrevocable(thread, pc, c"what the runtime cannot undo".as_ptr());
    }
    hold_token(thread, pc);
    became_inevitable(thread, pc);
}

/// `ame_hold_token`: nobody else becomes irrevocable, and nobody wounds this transaction, which can still be
/// rolled back by itself.
pub fn hold_token(thread: &mut Thread, pc: u64) {
    if thread.depth == 0 || thread.has_token {
        return;
    }
    if thread.elision.is_on() {
        return crate::elision::irrevocable(thread, pc, c"a lock of plain code".as_ptr());
    }
    share_the_gate(thread, pc);
    let result = protocol::become_inevitable(thread.me, token(pc));
    check(thread, result, pc);
    got_token(thread);
}

/// Before `protocol::finish`, which wakes those who wait for it.
fn give_token_back(thread: &mut Thread) {
    if std::mem::take(&mut thread.has_token) {
        protocol::release_token();
    }
}

/// `ame_inevitable_from_begin`: the transaction has done nothing yet, so where it would be rolled back it
/// starts again, and the stack is left as it is.
pub fn inevitable_from_begin(thread: &mut Thread) {
    if thread.depth == 0 || thread.mode != Mode::Revocable {
        return;
    }
    while thread.alone || protocol::become_inevitable(thread.me, token(0)).is_err() {
        signal::hold_for_rollback();
        thread.disarm(tls());
        finish(thread, false);
        if thread.alone {
            crate::turns::forsake(thread);
        }
        protocol::await_wounder(thread.me);
        if signal::waiting() {
            // SAFETY: the thread's own state, of which this frame has nothing in registers.
            unsafe { let_handlers_in(thread) };
            thread.depth = 1;
        }
        start(thread);
        let sp = thread.saved.sp as usize;
        // SAFETY: the frames of begin are still there.
        unsafe { save(thread, sp) };
        signal::end_rollback();
    }
    got_token(thread);
    became_inevitable(thread, 0);
}

fn token(pc: u64) -> Want {
    Want {
        access: ame_abi::trace::access::TOKEN,
        address: 0,
        pc,
    }
}

fn got_token(thread: &mut Thread) {
    thread.has_token = true;
    access::leave_unfenced(thread);
    thread.eventful = true;
}

fn became_inevitable(thread: &mut Thread, pc: u64) {
    let _hold = signal::hold();
    thread.mode = Mode::Inevitable;
    // Handlers run between the steps of reads and counts that are not made in Rust.
    thread.quick = false;
    thread.deltas.forget_recent();
    // It can no longer be rolled back, and what comes next is not deferred.
    thread.effects.perform();
    thread.stats.inevitable.add(1);
    trace::irrevocable(thread, pc, 0);
}

/// Steps of patience with others before they are wounded for an exclusive transaction.
const GRACE: u32 = 60;

/// `ame_exclusive`.
pub fn make_exclusive(thread: &mut Thread, pc: u64) {
    if thread.depth == 0 || thread.mode == Mode::Exclusive {
        return;
    }
    if thread.elision.is_on() {
        return crate::elision::irrevocable(thread, pc, c"what the runtime cannot undo".as_ptr());
    }
    make_inevitable(thread, pc);
    let _hold = signal::hold();
    trace::irrevocable(thread, pc, 1);
    let since = clock::cycles();
    gate::close(thread.me, GRACE);
    // From here on counts are changed in place.
    crate::delta::merge(thread);
    thread.mode = Mode::Exclusive;
    thread.stats.exclusive.add(1);
    thread.quieten(tls());
    thread.quick = false;
    // All others wait for it.
    ask_for_end();
    report::exclusive(thread.me, thread.me.slot, pc, since);
}
