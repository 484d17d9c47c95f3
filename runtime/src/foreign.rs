//! What other threads do to a thread: poke its barriers into the slow path, and write to its stack.

use crate::tls::Tls;
use ame_abi::{GRANULE, VER_POKED};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Mutex;

/// Who has locked a granule of this thread's stack for writing.
#[derive(Clone, Copy)]
struct StackWrite {
    writer: u32,
    /// The writer's `Peer::state` then: the entry must survive while that transaction runs.
    state: u32,
}

pub struct Foreign {
    /// The thread's control block; the lock keeps it mapped while another thread pokes it.
    tls: Mutex<usize>,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    /// By granule. Of several writers only the last counts: it has the lock, so that the others are
    /// over.
    stack_writes: Mutex<BTreeMap<usize, StackWrite>>,
    /// Whether `stack_writes` may hold something: saves the lock at every begin.
    any_stack_writes: AtomicUsize,
    /// Thread-local transaction state, for statistics of others. Null when the slot is free.
    pub thread: AtomicPtr<crate::thread::Thread>,
}

/// Lowest address of any stack that a registered thread has had.
static STACKS_LOW: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Below this address there is no stack of a registered thread.
#[inline(always)]
pub fn stacks_low() -> usize {
    STACKS_LOW.load(Ordering::Relaxed)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding these locks (and panics abort).
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Foreign {
    pub const fn new() -> Self {
        Foreign {
            tls: Mutex::new(0),
            stack_low: AtomicUsize::new(0),
            stack_high: AtomicUsize::new(0),
            stack_writes: Mutex::new(BTreeMap::new()),
            any_stack_writes: AtomicUsize::new(0),
            thread: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    pub fn attach(&self, tls: *const Tls, stack_low: usize, stack_high: usize) {
        STACKS_LOW.fetch_min(stack_low, Ordering::SeqCst);
        *locked(&self.tls) = tls as usize;
        self.stack_low.store(stack_low, Ordering::Release);
        self.stack_high.store(stack_high, Ordering::Release);
    }

    pub fn detach(&self) {
        *locked(&self.tls) = 0;
        self.stack_low.store(0, Ordering::Release);
        self.stack_high.store(0, Ordering::Release);
        locked(&self.stack_writes).clear();
    }

    /// Sends the thread's next barrier or poll to its slow path.
    pub fn poke(&self) {
        let tls = locked(&self.tls);
        if *tls != 0 {
            // SAFETY: while the lock is held the thread cannot detach, so its TLS is mapped.
            let tls = unsafe { &*(*tls as *const Tls) };
            let control = tls.control();
            tls.unfenced.store(0, Ordering::Release);
            control.rver.store(VER_POKED, Ordering::Release);
            control.wver.store(VER_POKED, Ordering::Release);
        }
    }

    pub fn owns_stack(&self, address: usize) -> bool {
        address >= self.stack_low.load(Ordering::Acquire)
            && address < self.stack_high.load(Ordering::Acquire)
    }

    /// Another transaction is about to write to `granule` of this thread's stack.
    pub fn note_stack_write(&self, granule: usize, writer: u32, state: u32) {
        let mut writes = locked(&self.stack_writes);
        self.any_stack_writes.store(1, Ordering::Release);
        writes.insert(granule, StackWrite { writer, state });
    }

    /// At begin: forgets the writes of transactions that are over; what they wrote is in the
    /// snapshot that is taken next.
    #[inline(always)]
    pub fn forget_stack_writes(&self) {
        if self.any_stack_writes.load(Ordering::Acquire) != 0 {
            self.forget_finished_writes();
        }
    }

    #[cold]
    fn forget_finished_writes(&self) {
        let mut writes = locked(&self.stack_writes);
        writes.retain(|_, w| {
            let now = crate::tables::peer(w.writer).state.load(Ordering::Acquire);
            crate::peer::version(now) == crate::peer::version(w.state)
                && crate::peer::status(now) != crate::peer::IDLE
        });
        if writes.is_empty() {
            self.any_stack_writes.store(0, Ordering::Release);
        }
    }

    /// Calls `f` with the granules of this thread's stack that others wrote since begin, sorted.
    /// Nobody begins to write to others meanwhile: a granule that is not among them may be put
    /// back without undoing a write.
    pub fn with_stack_writes(&self, f: impl FnOnce(&mut dyn Iterator<Item = Range<usize>>)) {
        f(&mut locked(&self.stack_writes).keys().map(|&g| g..g + GRANULE));
    }
}
