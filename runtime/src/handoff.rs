//! A lock of one word that is handed over to who has waited long, and that its owner can lend.
//!
//! Free, it is anybody's: who comes by takes it, awake waiters or not, since handing it over costs two
//! switches of threads each time. A waiter that has lost patience registers as the *heir*, and the next
//! release makes it the owner. Only one thread is the heir at a time; the next waiter gets its turn after.
//!
//! *Lent*, it is still the owner's, until somebody else takes it over: that one decides, by what it sees of the
//! owner, whether it may. The owner claims it back before it goes on, and learns whether it has lost it. The
//! thread that looks at the owner has the lock *pinned* meanwhile, so that the owner cannot go on and end.

use crate::primitive::{
    futex_wait, futex_wake, futex_wake_one, give_way_to_owner, AtomicU32, Ordering,
};

/// Somebody may be asleep. The other bits are the owner's number, 0 when free; free, there is no flag.
const WAITERS: u32 = 1;
/// In `lent`: somebody looks at the owner. The other bits are the owner's number.
const PINNED: u32 = 1;
/// Sleeps end by themselves: what is waited for may be impatience, or that a lender does something else. The
/// first, and the longest.
const SLEEP_NS: (i64, i64) = (50_000, 1_000_000);
/// Numbers of threads are from 1 to this.
pub const MAX_NUMBER: u32 = u32::MAX >> 1;

#[derive(Debug)]
pub struct Lock {
    word: AtomicU32,
    heir: AtomicU32,
    /// 0 when it is not lent.
    lent: AtomicU32,
}

impl Lock {
    #[cfg(not(loom))]
    pub const fn new() -> Lock {
        Lock {
            word: AtomicU32::new(0),
            heir: AtomicU32::new(0),
            lent: AtomicU32::new(0),
        }
    }
    #[cfg(loom)]
    pub fn new() -> Lock {
        Lock {
            word: AtomicU32::new(0),
            heir: AtomicU32::new(0),
            lent: AtomicU32::new(0),
        }
    }

    /// Number of the thread that has it, 0 for none. The answer about the calling thread itself is true;
    /// any other may be old.
    #[inline]
    pub fn owner(&self) -> u32 {
        self.word.load(Ordering::Relaxed) >> 1
    }

    /// Whether nobody has it. What the last owner wrote is seen.
    #[inline(always)]
    pub fn is_free(&self) -> bool {
        self.word.load(Ordering::Acquire) == 0
    }

    #[inline]
    pub fn try_acquire(&self, me: u32) -> bool {
        self.word
            .compare_exchange(0, me << 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// By the owner: others may take it over from now on. What they look at is written.
    #[inline]
    pub fn lend(&self, me: u32) {
        self.lent.store(me << 1, Ordering::Release);
    }

    /// Whether the calling thread is the owner and has lent it, as far as it knows.
    #[inline]
    pub fn lent_by(&self, me: u32) -> bool {
        self.lent.load(Ordering::Relaxed) & !PINNED == me << 1
    }

    /// By who has lent it: it is no longer lent, or it is another's.
    #[inline]
    pub fn claim(&self, me: u32) -> bool {
        loop {
            match self
                .lent
                // Whoever has looked is done with that, and whoever has taken it over.
                .compare_exchange(me << 1, 0, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) if now == me << 1 | PINNED => give_way_to_owner(),
                Err(_) => return false,
            }
        }
    }

    /// Takes it over from who has lent it, if `may` says so of the owner.
    pub fn take_over(&self, me: u32, may: impl FnOnce() -> bool) -> bool {
        let lender = self.lent.load(Ordering::Relaxed);
        if lender == 0
            || lender & PINNED != 0
            || self
                .lent
                .compare_exchange(
                    lender,
                    lender | PINNED,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_err()
        {
            return false;
        }
        let taken = may();
        if taken {
            // Others change it no more than to set the flag, which it gets; the owner claims first.
            self.word.store(me << 1 | WAITERS, Ordering::Relaxed);
            self.lent.store(0, Ordering::Release);
        } else {
            self.lent.store(lender, Ordering::Release);
        }
        taken
    }

    /// Waits for it. Before each sleep `impatient` is asked whether it has been long, and then `may`, where the
    /// lock is lent, whether the owner does without it.
    pub fn acquire(
        &self,
        me: u32,
        mut impatient: impl FnMut() -> bool,
        mut may: impl FnMut() -> bool,
    ) {
        let mut registered = false;
        let mut sleep = SLEEP_NS.0;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word >> 1 == me {
                // Handed over, which took the registration away.
                return;
            }
            if word == 0 {
                // Others may be asleep, too: who sleeps has seen or set the flag, which is lost while free.
                let taken = self.word.compare_exchange(
                    0,
                    me << 1 | WAITERS,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    return self.withdraw(me, registered);
                }
                continue;
            }
            if self.take_over(me, &mut may) {
                return self.withdraw(me, registered);
            }
            if !registered && impatient() {
                registered = self
                    .heir
                    .compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            }
            if word & WAITERS == 0
                && self
                    .word
                    .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            futex_wait(&self.word, word | WAITERS, sleep);
            sleep = (2 * sleep).min(SLEEP_NS.1);
        }
    }

    /// By the owner, who may still be registered as the heir: nobody else has read it since.
    fn withdraw(&self, me: u32, registered: bool) {
        if registered {
            let _ = self
                .heir
                .compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// By the owner, who has not lent it.
    #[inline]
    pub fn release(&self, me: u32) {
        let quick = self
            .word
            .compare_exchange(me << 1, 0, Ordering::Release, Ordering::Relaxed);
        if quick.is_err() {
            self.release_to_waiters();
        }
    }

    #[cold]
    fn release_to_waiters(&self) {
        // Before the word: as long as this thread is the owner, no heir can take the lock by itself.
        let heir = self.heir.swap(0, Ordering::AcqRel);
        if heir != 0 {
            self.word.store(heir << 1 | WAITERS, Ordering::Release);
            futex_wake(&self.word);
        } else {
            self.word.store(0, Ordering::Release);
            futex_wake_one(&self.word);
        }
    }

    /// In the child of a fork, which has one thread.
    pub fn forget_others(&self, me: u32) {
        self.heir.store(0, Ordering::Relaxed);
        let mine = self.owner() == me && me != 0;
        let lent = self.lent.load(Ordering::Relaxed) & !PINNED;
        self.lent
            .store(if mine { lent } else { 0 }, Ordering::Relaxed);
        self.word
            .store(if mine { me << 1 } else { 0 }, Ordering::Relaxed);
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}
