//! Signal handlers of the program, beside its transactions.
//!
//! The kernel calls [`arrive`] instead of the program's handler (`wrappers::signals` puts it there).
//! It runs the handler at once where the thread's state allows it: outside of transactions, and in
//! inevitable and exclusive ones, of which the handler is then a part. While a transaction runs that
//! may be rolled back, or the runtime is in the middle of something ([`hold`]), the signal waits.
//!
//! Signals wait in the kernel: `arrive` sends the signal to its thread once more, as it came, and
//! leaves it blocked; who ends the transaction, or lets go of the last hold, unblocks it
//! ([`deliver`]). So the mask during the handler, its stack, how many signals of a kind wait, and what
//! becomes of them when the action changes meanwhile are the kernel's affair. Between the two runs no
//! code of the program that could look at the mask: calls that can make a transaction inevitable.
//!
//! A fault of the thread itself runs its handler at once, whatever the state: it cannot wait.

use crate::fatal;
use crate::thread::{Mode, Thread};
use crate::tls::tls;
use crate::transaction;
use libc::{sigaction, siginfo_t, ucontext_t};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{compiler_fence, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// While one of these lives, handlers of this thread wait. A rollback leaves frames without dropping
/// what is in them, and forgets all holds ([`hold_for_rollback`]).
pub struct Hold(());

#[inline(always)]
pub fn hold() -> Hold {
    let holds = &tls().holds;
    holds.store(holds.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    Hold(())
}

/// The same in a transaction, for what is done often: in one that can be rolled back, handlers wait anyway.
#[inline(always)]
pub fn hold_in(thread: &Thread) -> Option<Hold> {
    (thread.mode != Mode::Revocable).then(hold)
}

impl Drop for Hold {
    #[inline(always)]
    fn drop(&mut self) {
        let holds = &tls().holds;
        compiler_fence(Ordering::SeqCst);
        holds.store(holds.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        deliver_waiting();
    }
}

/// From here on until [`let_in`] and [`end_rollback`], whatever was held.
pub fn hold_for_rollback() {
    tls().holds.store(1, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
}

/// Runs the handlers that wait, and those that come meanwhile: the thread's state may be used.
pub fn let_in() {
    tls().holds.store(0, Ordering::Relaxed);
    deliver_waiting();
    hold_for_rollback();
}

/// A transaction has begun again.
pub fn end_rollback() {
    compiler_fence(Ordering::SeqCst);
    tls().holds.store(0, Ordering::Relaxed);
}

/// Whether the handler of a signal waits that has come to this thread.
#[inline(always)]
pub fn waiting() -> bool {
    tls().waiting_signals.load(Ordering::Relaxed) != 0
}

/// After a change of the thread's state that may let handlers run.
#[inline(always)]
pub fn deliver_waiting() {
    // A signal that comes before this fence is seen here, one that comes later sees the change.
    compiler_fence(Ordering::SeqCst);
    if waiting() {
        deliver();
    }
}

#[cold]
#[inline(never)]
fn deliver() {
    if must_wait() {
        return;
    }
    let set = tls().waiting_signals.swap(0, Ordering::Relaxed);
    // The handlers run before the call returns.
    change_mask(libc::SIG_UNBLOCK, set);
}

/// Whether a handler that came now would find the runtime's state, or what a rollback takes back,
/// half changed.
fn must_wait() -> bool {
    let thread = Thread::current();
    if tls().holds.load(Ordering::Relaxed) != 0 {
        return true;
    }
    // SAFETY: the thread's own state. Read from memory, because a handler interrupts who writes it.
    !thread.is_null()
        && unsafe {
            (&raw const (*thread).depth).read_volatile() != 0
                && (&raw const (*thread).mode).read_volatile() == Mode::Revocable
        }
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// The system call itself: errno stays, and the C library's own signals can be named.
fn change_mask(how: c_int, set: u64) {
    // SAFETY: the kernel's signal sets have eight bytes; none is returned.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            null::<u64>(),
            size_of::<u64>(),
        )
    };
    debug_assert_eq!(result, 0);
}

/// Sends a signal to the calling thread, with all that is known of it.
fn send_again(signal: c_int, info: &siginfo_t) {
    // SAFETY: the thread's own.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: `info` is valid; to itself a process may send any.
    let send = |info: &siginfo_t| unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            libc::getpid(),
            libc::gettid(),
            signal,
            info as *const siginfo_t,
        )
    };
    if send(info) == 0 {
        return;
    }
    // The queue of real-time signals is full. One without information needs no place in it.
    let mut bare = *info;
    bare.si_code = libc::SI_USER;
    if send(&bare) != 0 {
        fatal!("cannot keep signal {signal} until a transaction ends");
    }
    // SAFETY: the thread's own, and that of the interrupted code.
    unsafe { *libc::__errno_location() = errno };
}

/// Mask at the interrupted code, the part that the kernel knows.
///
/// # Safety
/// `context` is what a handler got as its third argument.
unsafe fn mask_of<'a>(context: *mut c_void) -> &'a mut u64 {
    // SAFETY: the caller's promise; the kernel's set comes first in that of the C library.
    unsafe { &mut *(&raw mut (*context.cast::<ucontext_t>()).uc_sigmask).cast::<u64>() }
}

/// First of the real-time signals, as the kernel counts.
const REAL_TIME: c_int = 32;

/// The oldest waiting signal of each real-time number. None of these gets lost, and their order counts,
/// but what is sent again comes behind what the kernel has kept meanwhile. So only a placeholder is
/// sent, and who gets a signal of that number handles the oldest and keeps its own in turn.
pub struct Oldest([Option<siginfo_t>; SIGNALS - REAL_TIME as usize]);

/// `si_errno` of a placeholder, which is otherwise 0.
const PLACEHOLDER: c_int = c_int::from_ne_bytes(*b"AMEs");

impl Oldest {
    pub fn new() -> Self {
        Oldest([None; SIGNALS - REAL_TIME as usize])
    }

    fn of(&mut self, signal: c_int) -> Option<&mut Option<siginfo_t>> {
        self.0.get_mut(usize::try_from(signal - REAL_TIME).ok()?)
    }

    /// What to send instead of a signal that waits.
    fn keep(&mut self, signal: c_int, info: &mut siginfo_t) {
        // Taken already: a handler has left by a jump before all that waited were handled.
        if let Some(place @ None) = self.of(signal) {
            *place = Some(*info);
            info.si_errno = PLACEHOLDER;
        }
    }

    /// Which one to handle instead of a signal that has come.
    fn exchange(&mut self, signal: c_int, info: &mut siginfo_t) {
        let Some(place) = self.of(signal) else {
            return;
        };
        if let Some(oldest) = place.take() {
            if info.si_errno != PLACEHOLDER {
                *place = Some(*info);
            }
            *info = oldest;
        }
    }
}

/// The kernel's handler for all signals that the program handles.
///
/// # Safety
/// Called by the kernel, or by a handler with its own arguments.
pub unsafe extern "C-unwind" fn arrive(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's record; the handler may have it changed.
    let info = unsafe { &mut *info };
    if cannot_wait(signal, info) || !must_wait() {
        // SAFETY: the caller's promise.
        return unsafe { handle(signal, info, context) };
    }
    // From here on no other comes: it would be blocked in this frame only, and come again.
    change_mask(libc::SIG_BLOCK, !0);
    // SAFETY: the thread's own state; whoever uses it now does not use this.
    if let Some(thread) = unsafe { Thread::current().as_mut() } {
        thread.oldest_signals.keep(signal, info);
        // If the thread is about to sleep until another one wakes it, it looks again.
        thread.peer().park.fetch_add(1, Ordering::SeqCst);
    }
    send_again(signal, info);
    let waiting = tls().waiting_signals.load(Ordering::Relaxed) | bit(signal);
    tls().waiting_signals.store(waiting, Ordering::Relaxed);
    // Those as well that came before the mask changed.
    // SAFETY: the caller's promise.
    unsafe { *mask_of(context) |= waiting };
    transaction::ask_for_end();
}

const FAULTS: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The thread ends: handlers are for others.
pub fn block_all() {
    // Nor do those of the C library, SIGCANCEL and SIGSETXID, wait: other threads may wait for them.
    let never = FAULTS.iter().chain(&[REAL_TIME, REAL_TIME + 1]);
    let set = never.fold(0, |set, &signal| set | bit(signal));
    change_mask(libc::SIG_BLOCK, !set);
}

/// Faults of the thread itself: the instruction would only fault again. And `abort`, which takes no
/// handler for none.
fn cannot_wait(signal: c_int, info: &siginfo_t) -> bool {
    if FAULTS.contains(&signal) {
        return info.si_code > 0;
    }
    // SAFETY: a signal of this code has the sender's process.
    signal == libc::SIGABRT
        && info.si_code == libc::SI_TKILL
        && unsafe { info.si_pid() == libc::getpid() }
}

/// Runs the program's handler.
unsafe fn handle(signal: c_int, info: &mut siginfo_t, context: *mut c_void) {
    // Those that wait already are unblocked when this handler returns, or when it jumps to where
    // they were not blocked; not before, because it may have them blocked itself.
    let others = tls().waiting_signals.load(Ordering::Relaxed);
    if !must_wait() && others != 0 {
        tls().waiting_signals.store(0, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { *mask_of(context) &= !others };
    }
    let thread = Thread::current();
    if !thread.is_null() {
        // SAFETY: as in `arrive`.
        unsafe { (*thread).oldest_signals.exchange(signal, info) };
    }
    let handler = match take_handler(signal) {
        libc::SIG_IGN => return,
        libc::SIG_DFL => {
            // The action has changed since the signal came. It comes again when this returns.
            change_mask(libc::SIG_BLOCK, bit(signal));
            send_again(signal, info);
            return;
        }
        handler => handler,
    };
    // Only a fault finds any. Should its handler jump away, what they were for is over.
    let holds = tls().holds.swap(0, Ordering::Relaxed);
    // SAFETY: the thread's own state, which no other code uses when nothing must wait.
    unsafe {
        if !thread.is_null() && (*thread).depth != 0 {
            let thread = &mut *thread;
            if thread.mode == Mode::Revocable {
                // A rollback out of the handler is a return from it.
                thread.mask_at_fault = Some(*mask_of(context));
                thread.eventful = true;
            }
            if holds == 0 {
                crate::module::prepare_call(thread, handler);
            }
        }
        // Handlers that want the number only do not look for the rest.
        let handler: unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void) =
            std::mem::transmute(handler);
        handler(signal, info, context);
    }
    tls().holds.store(holds, Ordering::Relaxed);
}

/// A rollback left handlers that had interrupted the transaction.
pub fn leave_handlers(thread: &mut Thread) {
    if let Some(mask) = thread.mask_at_fault.take() {
        change_mask(libc::SIG_SETMASK, mask);
    }
}

/// Signals are counted from 1 to 64.
const SIGNALS: usize = 65;

/// What the program wants with each signal that [`arrive`] gets: its handler, and the two flags below
/// in bits that no address has.
static ACTIONS: [AtomicU64; SIGNALS] = [const { AtomicU64::new(0) }; SIGNALS];
/// Back to the default action once a handler runs (SA_RESETHAND). The kernel would do that before the
/// signal waits.
const ONCE: u64 = 1 << 63;
/// Set with SA_SIGINFO, as the program will read it back: for the kernel it is always set.
const INFO: u64 = 1 << 62;

fn handler_of(action: u64) -> usize {
    (action & !(ONCE | INFO)) as usize
}

/// The handler that runs now.
fn take_handler(signal: c_int) -> usize {
    let place = &ACTIONS[signal as usize];
    loop {
        let action = place.load(Ordering::Acquire);
        if action & ONCE == 0 {
            return handler_of(action);
        }
        let reset = place.compare_exchange(action, 0, Ordering::AcqRel, Ordering::Relaxed);
        if reset.is_ok() {
            // SAFETY: an action without a handler; all zero is a valid one.
            unsafe {
                let default: sigaction = std::mem::zeroed();
                libc::sigaction(signal, &default, null_mut());
            }
            return handler_of(action);
        }
    }
}

/// Keeps the table above and the kernel's in step.
static CHANGES: Mutex<()> = Mutex::new(());

/// The process whose actions the table above has. The child of a vfork has this memory, but actions of
/// its own in the kernel: it must not change the table (subprocess of CPython resets all handlers there).
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// When the process starts.
pub fn init() {
    // SAFETY: a plain query.
    PROCESS.store(unsafe { libc::getpid() }, Ordering::Relaxed);
}

/// In the child of a fork, which has inherited no signal that waits.
pub fn start_child() {
    init();
    // SAFETY: the thread's own state.
    if let Some(thread) = unsafe { Thread::current().as_mut() } {
        thread.oldest_signals = Oldest::new();
    }
}

/// Held by `fork`, so that the child can change actions.
pub fn changes() -> MutexGuard<'static, ()> {
    CHANGES.lock().unwrap_or_else(|e| e.into_inner())
}

/// The kernel's action alone, of a process that shares this memory with its parent and will soon call
/// exec. What it reads back of a handler is only that there is one.
fn change_own_action(signal: c_int, new: Option<&sigaction>) -> Result<sigaction, ()> {
    let new = new.map_or(null(), |new| new as *const _);
    // SAFETY: valid actions, and all zero is one.
    let mut old: sigaction = unsafe { std::mem::zeroed() };
    match unsafe { libc::sigaction(signal, new, &mut old) } {
        0 => Ok(old),
        _ => Err(()),
    }
}

/// sigaction, without a transaction's barriers. An error of the kernel is in errno.
pub fn change_action(signal: c_int, new: Option<&sigaction>) -> Result<sigaction, ()> {
    let process = PROCESS.load(Ordering::Relaxed);
    // SAFETY: a plain query.
    if process != 0 && unsafe { libc::getpid() } != process {
        return change_own_action(signal, new);
    }
    let _hold = hold();
    let _changes = changes();
    let place = usize::try_from(signal).ok().and_then(|s| ACTIONS.get(s));
    let before = place.map_or(0, |place| place.load(Ordering::Relaxed));
    let mut kernel = new.copied();
    let mut action = 0;
    if let Some(kernel) = &mut kernel {
        action = kernel.sa_sigaction as u64;
        if ![libc::SIG_DFL, libc::SIG_IGN].contains(&kernel.sa_sigaction) {
            let flag = |flag, bit| if kernel.sa_flags & flag != 0 { bit } else { 0 };
            action |= flag(libc::SA_RESETHAND, ONCE) | flag(libc::SA_SIGINFO, INFO);
            kernel.sa_sigaction = arrive as *const () as usize;
            kernel.sa_flags = (kernel.sa_flags | libc::SA_SIGINFO) & !libc::SA_RESETHAND;
            // Before the kernel's: `arrive` must find it. The other way round it finds the old one.
            if let Some(place) = place {
                place.store(action, Ordering::Release);
            }
        }
    }
    let new = kernel.as_ref().map_or(null(), |kernel| kernel as *const _);
    // SAFETY: valid actions, and all zero is one.
    let mut old: sigaction = unsafe { std::mem::zeroed() };
    let result = unsafe { libc::sigaction(signal, new, &mut old) };
    if let (Some(place), Some(_)) = (place, kernel) {
        place.store(if result == 0 { action } else { before }, Ordering::Release);
    }
    if result != 0 {
        return Err(());
    }
    if old.sa_sigaction == arrive as *const () as usize {
        old.sa_sigaction = handler_of(before);
        old.sa_flags &= !libc::SA_SIGINFO;
        if before & ONCE != 0 {
            old.sa_flags |= libc::SA_RESETHAND;
        }
        if before & INFO != 0 {
            old.sa_flags |= libc::SA_SIGINFO;
        }
    }
    Ok(old)
}
