//! What other threads do to a thread: poke its barriers into the slow path, and write to its stack.

use crate::tls::Tls;
use ame_abi::{GRANULE, VER_POKED};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Mutex;

/// A granule of this thread's stack that another transaction has locked for writing.
#[derive(Clone, Copy)]
struct StackWrite {
    granule: usize,
    writer: u32,
    /// The writer's `Peer::state` then: the entry must survive while that transaction runs.
    state: u32,
}

pub struct Foreign {
    /// The thread's control block; the lock keeps it mapped while another thread pokes it.
    tls: Mutex<usize>,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    stack_writes: Mutex<Vec<StackWrite>>,
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
            stack_writes: Mutex::new(Vec::new()),
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
            tls.unfenced.store(0, Ordering::Release);
            tls.rver.store(VER_POKED, Ordering::Release);
            tls.wver.store(VER_POKED, Ordering::Release);
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
        writes.push(StackWrite {
            granule,
            writer,
            state,
        });
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
        writes.retain(|w| {
            let now = crate::tables::peer(w.writer).state.load(Ordering::Acquire);
            crate::peer::version(now) == crate::peer::version(w.state)
                && crate::peer::status(now) != crate::peer::IDLE
        });
        if writes.is_empty() {
            self.any_stack_writes.store(0, Ordering::Release);
        }
    }

    /// Granules of this thread's stack that others wrote since begin.
    pub fn stack_writes(&self) -> Vec<Range<usize>> {
        if self.any_stack_writes.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        locked(&self.stack_writes)
            .iter()
            .map(|w| w.granule..w.granule + GRANULE)
            .collect()
    }
}
