//! Leases: the locks and marks that a thread keeps from one transaction to the next.
//!
//! Short transactions of one thread mostly want what the ones before had. To give every lock back and to make every mark
//! worthless at each commit is then most of what they cost. So a thread may keep them: after the commit its state
//! is `KEPT`, its marks from version `Me::since` on stay live, and the locks stay taken. A read of such a granule
//! is then no first read, and a lock is not taken again.
//!
//! What is kept can be taken away between two transactions. Who wants a granule of it makes the state `REVOKED`,
//! gives all locks back in the owner's name, and makes the state `IDLE`, with which the marks are dead. The
//! owner makes it `HELD` before it begins; one of the two comes first. While the owner is in a transaction the granule is
//! as if acquired by that.
//!
//! (Locks that stay with their thread until another one wants them: Bond et al., OOPSLA 2013; in transactional
//! memory: Zhang et al., PPoPP 2015.)

use crate::peer::*;
use crate::primitive::*;
use crate::protocol::{unlock, wake_waiters, Me};
use crate::tables::peer;

/// Most locks that are kept.
#[cfg(not(loom))]
pub const MOST: usize = 1000;
#[cfg(loom)]
pub const MOST: usize = 2;

/// The locks of one thread. Written by it while it is in a transaction, read by who has revoked them. On lines of their
/// own: what others look at all the time is beside it.
#[repr(align(128))]
pub struct Leases {
    n: AtomicU32,
    granules: [AtomicU32; MOST],
}

impl Leases {
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Leases {
            n: AtomicU32::new(0),
            granules: [const { AtomicU32::new(0) }; MOST],
        }
    }

    #[cfg(loom)]
    pub fn new() -> Self {
        Leases {
            n: AtomicU32::new(0),
            granules: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Notes a lock that has just been taken. False when there is no room.
    #[inline(always)]
    pub fn note(&self, g: u32) -> bool {
        let n = self.n.load(Ordering::Relaxed);
        let Some(place) = self.granules.get(n as usize) else {
            return false;
        };
        place.store(g, Ordering::Relaxed);
        self.n.store(n + 1, Ordering::Relaxed);
        true
    }

    /// Gives the locks back that are still those of their owner.
    fn unlock(&self, owner: Me) {
        let n = self.n.load(Ordering::Relaxed) as usize;
        if n == 0 {
            return;
        }
        for place in &self.granules[..n] {
            let g = place.load(Ordering::Relaxed);
            if owner.has_lock(g) {
                unlock(g);
            }
        }
        self.n.store(0, Ordering::Relaxed);
    }
}

impl Me {
    /// Whether the thread keeps what earlier transactions have acquired.
    #[inline(always)]
    pub fn keeps(self) -> bool {
        self.since != self.ver
    }

    /// The state of the thread between two transactions.
    #[inline(always)]
    pub fn at_rest(self) -> u32 {
        state_of(self.since, if self.keeps() { KEPT } else { IDLE })
    }
}

/// Instead of [`crate::protocol::finish`]: what the transaction has acquired is kept. `me.since` stays.
#[inline(always)]
pub fn finish(me: Me) {
    peer(me.slot)
        .state
        .store(state_of(me.since, KEPT), Ordering::Release);
    wake_waiters(me);
}

/// Before a transaction of a thread that keeps something begins: nobody takes it away from here on. False when
/// somebody has: then all of it is gone.
#[inline(always)]
pub fn hold(me: Me) -> bool {
    let (from, to) = (state_of(me.since, KEPT), state_of(me.since, HELD));
    // SeqCst: who wants something of it comes before or after (`revoke`).
    let held = peer(me.slot)
        .state
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::Acquire)
        .is_ok();
    held || await_end(me)
}

#[cold]
fn await_end(me: Me) -> bool {
    // A few stores, unless its processor has been taken away.
    let mut step = 0u32;
    while status(peer(me.slot).state.load(Ordering::Acquire)) == REVOKED {
        step += 1;
        match step % 1000 {
            #[cfg(not(loom))]
            0 => std::thread::yield_now(),
            _ => spin(),
        }
    }
    false
}

/// Gives back what the thread keeps, by itself: in a transaction that ends, or between two. Or for a thread that
/// there is no more, in the child of a fork.
pub fn end(me: Me) {
    peer(me.slot).leases.unlock(me);
}

/// The same between two transactions of the thread, whose state is `IDLE` with its next version then.
pub fn end_at_rest(me: Me) {
    if hold(me) {
        end(me);
        peer(me.slot)
            .state
            .store(state_of(me.ver, IDLE), Ordering::Release);
        wake_waiters(me);
    }
}

/// Takes away what the thread in `slot` keeps, if it still has this state, which is `KEPT`.
#[cold]
pub fn revoke(slot: u32, state: u32) {
    let other = peer(slot);
    debug_assert_eq!(status(state), KEPT);
    let revoked = state_of(version(state), REVOKED);
    let won = other
        .state
        .compare_exchange(state, revoked, Ordering::SeqCst, Ordering::Relaxed)
        .is_ok();
    if won {
        let owner = Me::new(slot, version(state));
        other.leases.unlock(owner);
        // Release: its owner, who begins the next transaction, may take the locks again.
        other
            .state
            .store(state_of(version(state), IDLE), Ordering::Release);
        wake_waiters(owner);
    }
}

/// Whether a thread keeps what its transactions acquire. Its own half.
#[derive(Default)]
pub struct Keeping {
    /// All of its transactions may, and always do (tests).
    always: bool,
    /// The transactions that run now may.
    pub on: bool,
    /// The current one does not, perhaps because it has taken a lock that there was no room for.
    gives_back: bool,
    /// So many do not.
    pause: u32,
    /// How many after the next loss: doubles with each, halves with each row that lasts.
    next_pause: u32,
}

const LEAST_PAUSE: u32 = 16;
const MOST_PAUSE: u32 = 1 << 14;

impl Keeping {
    pub fn new(always: bool) -> Keeping {
        Keeping {
            always,
            ..Default::default()
        }
    }

    /// A transaction begins, which is one of an extension's domain or not.
    #[inline(always)]
    pub fn begin(&mut self, elided: bool) {
        self.on = elided || self.always;
    }

    /// The transaction has taken a lock, which later ones may have without taking it.
    #[inline(always)]
    pub fn note(&mut self, me: Me, g: u32) {
        if self.on && self.pause == 0 && !peer(me.slot).leases.note(g) {
            self.gives_back = true;
        }
    }

    /// The current transaction keeps nothing.
    pub fn give_back(&mut self) {
        self.gives_back = true;
    }

    /// At a commit: whether what the transaction has acquired is kept.
    #[inline(always)]
    pub fn keeps(&mut self, me: Me) -> bool {
        if !self.on {
            return false;
        }
        let wanted = &peer(me.slot).wanted;
        if self.pause == 0 && !self.gives_back && wanted.load(Ordering::Relaxed) == 0 {
            return true;
        }
        self.gives_back = false;
        if self.pause != 0 {
            self.pause -= 1;
        } else if wanted.load(Ordering::Relaxed) != 0 {
            self.lost();
        }
        wanted.store(0, Ordering::Relaxed);
        false
    }

    /// Another thread has wanted what this one kept.
    #[cold]
    pub fn lost(&mut self) {
        if self.always {
            return;
        }
        self.next_pause = (2 * self.next_pause).clamp(LEAST_PAUSE, MOST_PAUSE);
        self.pause = self.next_pause;
    }

    /// A row of transactions has lasted until versions started over.
    pub fn lasted(&mut self) {
        self.next_pause /= 2;
    }
}
