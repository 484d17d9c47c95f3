//! A thread's own half of its transactions.

use crate::access;
use crate::actions::Actions;
use crate::config::config;
use crate::delta::Deltas;
use crate::elision::Elision;
use crate::fatal;
use crate::heap::Allocations;
use crate::lease;
use crate::peer::{self, Peer};
use crate::protocol::{self, Me};
use crate::segment;
use crate::signal::{self, Oldest};
use crate::stack::{self, Snapshot};
use crate::stats::Stats;
use crate::tables;
use crate::tls::{tls, Control, Tls};
use crate::transaction;
use crate::turns::{self, Share};
use crate::undo::UndoLog;
use crate::wrappers::effects::Effects;
use std::sync::atomic::Ordering;
use std::sync::Mutex;

/// Callee-saved registers, stack pointer and return address of the caller of `ame_begin`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Saved {
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub sp: u64,
    pub ip: u64,
}

/// How far the current transaction can still be rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Revocable,
    Inevitable,
    Exclusive,
}

#[repr(C)]
pub struct Thread {
    /// What `ame_begin` saves; first, for the assembly.
    pub saved: Saved,
    pub me: Me,
    /// The thread's mark table.
    pub marks: *mut u16,
    /// Nesting depth; 0 outside transactions.
    pub depth: u32,
    pub mode: Mode,
    /// It has the token: always when it cannot be rolled back, and before that when it has asked for it.
    pub has_token: bool,
    /// Something of the transaction needs more at commit than locks: actions, frees, deltas, mode.
    pub eventful: bool,
    /// Lowest address of the stack, and bytes from there up to the stack pointer at begin: what
    /// lies between is fresh frames.
    pub stack_low: usize,
    pub fresh_stack: usize,
    /// Whether `own` has any.
    pub has_own: bool,
    pub own: [access::OwnRegion; access::OWN_REGIONS],
    pub undo: UndoLog,
    pub snapshot: Snapshot,
    pub age: u64,
    /// Rollbacks of the current transaction so far.
    pub attempts: u32,
    /// Where this thread's errno is, and what a rollback sets it to.
    pub errno: *mut i32,
    pub errno_at_begin: i32,
    /// Time stamp counter at the start of this attempt.
    pub started: u64,
    /// Time stamp counter cycles this attempt spent waiting.
    pub waited: u64,
    /// The last granule read for the first time, and how many in sequence led to it. In this
    /// order, because the assembly stores both at once.
    pub last_read: u32,
    pub read_run: u32,
    /// First reads left before the thread goes unfenced; see `access::spend_credit`.
    pub credit: i32,
    /// Fenced first reads after the next time that another thread asks for a fence.
    pub fence_budget: i32,
    /// Time stamp when the thread last went unfenced.
    pub unfenced_since: u64,
    /// Whether the thread has begun a transaction.
    pub participates: bool,
    /// The assembly of `ame_read_slow` may do a read by itself: a transaction that can fail runs,
    /// and neither chaos, nor a trace, nor lazily stamped blocks want to see its reads.
    pub quick: bool,
    /// The current transaction is one of this thread's turn: no other runs.
    pub alone: bool,
    pub share: Share,
    pub chaos: u64,
    pub actions: Actions,
    pub allocations: Allocations,
    pub deltas: Deltas,
    pub effects: Effects,
    pub elision: Elision,
    pub keeping: lease::Keeping,
    /// Functions without the prefix that were called last and do no harm.
    pub safe_targets: [usize; crate::module::RECENT_TARGETS],
    pub private_seen: Box<[(usize, u32); 256]>,
    pub stats: Stats,
    /// The kernel's number of the thread.
    pub os_id: i32,
    pub abort_cause: u8,
    pub abort_pc: u64,
    /// Where the host's program was.
    pub abort_site: u32,
    pub unsampled: crate::host::Unsampled,
    /// Depths that `ame_boundary_enter` left, innermost last.
    pub boundaries: Vec<u32>,
    pub oldest_signals: Oldest,
    /// While the handler of a fault runs in a transaction that can be rolled back: the signal mask
    /// of the code that it has interrupted.
    pub mask_at_fault: Option<u64>,
}

/// Address space of a thread's logs: first the undo log, then the snapshot with its stack.
const SNAPSHOT_BYTES: usize = 1 << 30;

/// Serialises registration: slots are taken and given back rarely.
static REGISTRY: Mutex<()> = Mutex::new(());

impl Thread {
    /// The calling thread's state, or null.
    #[inline(always)]
    pub fn current() -> *mut Thread {
        tls().thread.load(Ordering::Relaxed)
    }

    /// The calling thread's state; registers the thread when it is new.
    #[inline(always)]
    pub fn get() -> *mut Thread {
        let thread = Self::current();
        if thread.is_null() {
            return register();
        }
        thread
    }

    #[inline(always)]
    pub fn mark(&mut self, g: u32) -> &mut u16 {
        // SAFETY: the table covers every granule index; only this thread writes to it, and others
        // read it atomically (plain stores of two bytes are atomic on x86-64).
        unsafe { &mut *self.marks.add(g as usize) }
    }

    #[inline(always)]
    pub fn control(&self) -> &'static Control {
        Control::of(self.marks as usize)
    }

    pub fn peer(&self) -> &'static Peer {
        tables::peer(self.me.slot)
    }

    /// In a transaction whose accesses need marks and locks.
    #[inline(always)]
    pub fn speculative(&self) -> bool {
        self.depth != 0 && self.mode != Mode::Exclusive
    }

    /// Lets the inline checks of this thread fail where they must.
    #[inline(always)]
    pub fn arm(&self, tls: &Tls) {
        let control = self.control();
        // Alone, it reads what it likes.
        let reads = if self.alone { 0 } else { self.me.since };
        control.rver.store(reads, Ordering::Relaxed);
        control.wver.store(self.me.ver + 1, Ordering::Relaxed);
        control.ver.store(self.me.ver, Ordering::Relaxed);
        tls.inside.store(1, Ordering::Relaxed);
    }

    /// No transaction.
    #[inline(always)]
    pub fn disarm(&self, tls: &Tls) {
        self.quieten(tls);
        self.control().ver.store(0, Ordering::Relaxed);
    }

    /// No barrier is slow: outside of transactions, and in exclusive ones.
    #[inline(always)]
    pub fn quieten(&self, tls: &Tls) {
        let control = self.control();
        control.rver.store(0, Ordering::Relaxed);
        control.wver.store(0, Ordering::Relaxed);
        tls.unfenced.store(0, Ordering::Relaxed);
        tls.inside.store(0, Ordering::Relaxed);
    }

    /// Between two transactions: keeps nothing any more.
    pub fn end_leases(&mut self) {
        if self.me.keeps() {
            lease::end_at_rest(self.me);
            self.me.since = self.me.ver;
        }
    }

    /// The version after this one; forgets all marks when they wrap.
    #[inline(always)]
    pub fn next_version(&mut self) -> u16 {
        let next = self.me.ver + 2;
        if next < config_max_version() {
            return next;
        }
        self.wrap()
    }

    #[cold]
    #[inline(never)]
    fn wrap(&mut self) -> u16 {
        tables::clear_marks(self.me.slot);
        protocol::wrap(self.me);
        // So are the stamps in here, which have versions in them.
        self.private_seen.fill((0, 0));
        2
    }
}

#[cold]
#[inline(never)]
fn first_look(max: &std::sync::atomic::AtomicU16) -> u16 {
    max.store(config().max_version, Ordering::Relaxed);
    config().max_version
}

#[inline(always)]
fn config_max_version() -> u16 {
    use std::sync::atomic::AtomicU16;
    // A plain load on the commit path instead of the OnceLock's two.
    static MAX: AtomicU16 = AtomicU16::new(0);
    match MAX.load(Ordering::Relaxed) {
        0 => first_look(&MAX),
        max => max,
    }
}

/// Calls [`unregister`] when a registered thread ends. A pthread key and not a Rust thread-local,
/// because destructors of other keys may run transactions and register the thread once more.
fn exit_key() -> libc::pthread_key_t {
    use std::sync::OnceLock;
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    unsafe extern "C" fn at_exit(_: *mut libc::c_void) {
        unregister();
    }
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is a valid out-parameter; the destructor has the right signature.
        let err = unsafe { libc::pthread_key_create(&mut key, Some(at_exit)) };
        if err != 0 {
            fatal!(
                "pthread_key_create failed: {}",
                std::io::Error::from_raw_os_error(err)
            );
        }
        key
    })
}

/// Gives the calling thread a slot. Cheap to call again.
pub fn register() -> *mut Thread {
    register_with(None)
}

/// The same for a thread whose transactions all run in frames below `end_of_frames`.
pub fn register_below(end_of_frames: usize) -> *mut Thread {
    register_with(Some(end_of_frames & !15))
}

#[cold]
#[inline(never)]
fn register_with(end_of_frames: Option<usize>) -> *mut Thread {
    // A handler may begin a transaction, and so register the thread: not from here on.
    let _hold = signal::hold();
    let existing = Thread::current();
    if !existing.is_null() {
        return existing;
    }
    let (low, high) = stack::bounds();
    let end_of_frames = end_of_frames.unwrap_or_else(|| stack::frames_end(low, high));
    crate::init();
    let guard = REGISTRY.lock().unwrap_or_else(|e| e.into_inner());
    let used = tables::peer_count().load(Ordering::Acquire);
    let free = (0..used).find(|&s| tables::peer(s).os.thread.load(Ordering::Acquire).is_null());
    let slot = free.unwrap_or(used);
    if slot as usize >= tables::MAX_THREADS {
        fatal!(
            "more than {} threads use transactions at the same time; end some, or share them",
            tables::MAX_THREADS
        );
    }
    if free.is_none() {
        tables::init_slot(slot);
    }
    let logs = tables::log_base(slot);
    let undo_bytes = tables::LOG_BYTES - SNAPSHOT_BYTES;
    let peer = tables::peer(slot);
    let ver = match peer::version(peer.state.load(Ordering::Acquire)) {
        0 => 2,
        v => v,
    };
    peer.state
        .store(peer::state_of(ver, peer::IDLE), Ordering::Release);
    let thread = Box::into_raw(Box::new(Thread {
        saved: Saved::default(),
        me: Me::new(slot, ver),
        marks: tables::marks_base(slot) as *mut u16,
        depth: 0,
        mode: Mode::Revocable,
        has_token: false,
        eventful: false,
        stack_low: low,
        fresh_stack: 0,
        has_own: false,
        own: Default::default(),
        undo: UndoLog::new(logs, undo_bytes),
        snapshot: Snapshot::new(low, end_of_frames, logs + undo_bytes, SNAPSHOT_BYTES),
        age: 0,
        attempts: 0,
        // SAFETY: a plain query; the address is the same for the thread's life.
        errno: unsafe { libc::__errno_location() },
        errno_at_begin: 0,
        started: 0,
        waited: 0,
        last_read: 0,
        read_run: 0,
        credit: 0,
        fence_budget: access::LEAST_BUDGET,
        unfenced_since: 0,
        participates: false,
        quick: false,
        alone: false,
        share: Share::new(),
        chaos: config().chaos_seed ^ (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        actions: Actions::default(),
        allocations: Allocations::default(),
        deltas: Deltas::default(),
        effects: Effects::default(),
        elision: Elision::default(),
        keeping: lease::Keeping::new(config().leases),
        safe_targets: [0; crate::module::RECENT_TARGETS],
        private_seen: Box::new([(0, 0); 256]),
        stats: Stats::default(),
        // SAFETY: a plain query.
        os_id: unsafe { libc::gettid() },
        abort_cause: 0,
        abort_pc: 0,
        abort_site: 0,
        unsampled: Default::default(),
        boundaries: Vec::new(),
        oldest_signals: Oldest::new(),
        mask_at_fault: None,
    }));
    let tls = tls();
    tls.marks.store(tables::marks_base(slot), Ordering::Relaxed);
    segment::set(tables::marks_base(slot));
    // SAFETY: just made. A fork may have left the words of the slot's last thread as they were.
    unsafe { &*thread }.disarm(tls);
    peer.os.attach(tls, low, high);
    peer.os.thread.store(thread, Ordering::Release);
    tables::peer_count().fetch_max(slot + 1, Ordering::SeqCst);
    drop(guard);
    tls.thread.store(thread, Ordering::Relaxed);
    // SAFETY: the key exists; any non-null value arms its destructor.
    unsafe { libc::pthread_setspecific(exit_key(), thread.cast()) };
    thread
}

/// Ends the calling thread's use of its slot.
fn unregister() {
    // A handler might register the thread again, when nobody is left to unregister it.
    signal::block_all();
    let _hold = signal::hold();
    let tls = tls();
    let thread = tls.thread.load(Ordering::Relaxed);
    if thread.is_null() {
        return;
    }
    // SAFETY: made by `register` for this thread, and freed only here.
    let mut owned = unsafe { Box::from_raw(thread) };
    turns::leave(&mut owned);
    if owned.depth != 0 {
        transaction::end_with_thread(&mut owned);
    }
    crate::trace::thread_end(&owned);
    owned.elision.retire();
    owned.end_leases();
    let _guard = REGISTRY.lock().unwrap_or_else(|e| e.into_inner());
    crate::stats::retire(&owned.stats);
    tls.thread.store(std::ptr::null_mut(), Ordering::Relaxed);
    let peer = owned.peer();
    if owned.participates {
        tables::participants().fetch_sub(1, Ordering::SeqCst);
    }
    peer.unfenced.store(0, Ordering::SeqCst);
    peer.os.detach();
    owned.quieten(tls);
    tls.marks.store(tables::ZERO_MARKS, Ordering::Relaxed);
    segment::set(tables::ZERO_MARKS);
    // Marks of ended transactions are dead, but their memory is not ours to keep.
    tables::clear_marks(owned.me.slot);
    peer.os
        .thread
        .store(std::ptr::null_mut(), Ordering::Release);
}

/// Runs `f` on every registered thread's state, which may be running.
pub fn for_each(mut f: impl FnMut(&Thread)) {
    let _hold = signal::hold();
    let _guard = REGISTRY.lock().unwrap_or_else(|e| e.into_inner());
    for slot in 0..tables::peer_count().load(Ordering::Acquire) {
        let thread = tables::peer(slot).os.thread.load(Ordering::Acquire);
        if !thread.is_null() {
            // SAFETY: freed only under the registry lock, after it was unlinked.
            f(unsafe { &*thread });
        }
    }
}

/// In a fork's child: only the calling thread exists.
pub fn forget_others() {
    let mine = Thread::current();
    for slot in 0..tables::peer_count().load(Ordering::Acquire) {
        let peer = tables::peer(slot);
        if peer.os.thread.load(Ordering::Acquire) != mine {
            let state = peer.state.load(Ordering::Relaxed);
            lease::end(Me::new(slot, peer::version(state)));
            peer.state.store(
                peer::state_of(peer::version(state), peer::IDLE),
                Ordering::Release,
            );
            peer.waiting_for.store(0, Ordering::Relaxed);
            peer.shared.store(0, Ordering::Relaxed);
            peer.os
                .thread
                .store(std::ptr::null_mut(), Ordering::Release);
            tables::clear_marks(slot);
        }
        peer.waiters.store(0, Ordering::Relaxed);
    }
}

/// Held by `fork` so that the child's registry is whole.
pub fn registry_lock() -> std::sync::MutexGuard<'static, ()> {
    REGISTRY.lock().unwrap_or_else(|e| e.into_inner())
}
