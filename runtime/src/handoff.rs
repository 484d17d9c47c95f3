//! A lock of one word that is handed over to who has waited long, that its owner can lend, and that stays with who
//! uses it alone.
//!
//! Free, it is anybody's: who comes by takes it, awake waiters or not, since handing it over costs two
//! switches of threads each time. Waking a waiter costs the owner a system call, so each release does that for who has
//! not been woken yet; who came too late sleeps for a while. A waiter that has lost patience registers as the *heir*,
//! and the next release makes it the owner. Only one thread is the heir at a time; the next waiter gets its turn after.
//!
//! *Lent*, it is still the owner's, until somebody else takes it over: that one decides, by what it sees of the
//! owner, whether it may. The owner claims it back before it goes on, and learns whether it has lost it. The
//! thread that looks at the owner has the lock *pinned* meanwhile, so that the owner cannot go on and end.
//!
//! *Biased*, it is its owner's also while that does without it: taking it and giving it back are a store to a word of the
//! thread's own and a look at the lock's, without an atomic instruction. Who wants it takes the bias away first
//! ([`Lock::unbias`]): says so in the lock's word, has all processors fence (`membarrier`), and finds the owner inside,
//! where it is an ordinary owner from then on, or outside, and then gives the lock back in its name (Kawachiya, Koseki,
//! Onodera 2002; the asymmetric fence is that of Dice, Huang and Yang 2001). The words are one for each thread, because
//! a thread may lose its processor, and with it the bias, between its first look at the word and its store. The owner lends
//! it in the same way, by a store to its word. Who takes the bias away and finds that there writes it down where everybody
//! looks; who has taken no bias away takes nothing over.

use crate::primitive::{
    futex_wait, futex_wake, futex_wake_one, give_way_to_owner, heavy_fence, light_fence, AtomicU32,
    Ordering,
};

/// Flags of the word; the other bits are the owner's number, 0 when free. Free, there is no flag.
///
/// | word | |
/// | --- | --- |
/// | 0 | free |
/// | owner, perhaps `WAITERS` | held; somebody may be asleep who wants to be woken |
/// | owner, `BIASED` | held, perhaps lent, if the owner says so in `inside`; it alone takes the lock and gives it back |
/// | owner, `BIASED`, `ENDING` | somebody takes the bias away: nobody else changes the word |
const WAITERS: u32 = 1;
const BIASED: u32 = 2;
const ENDING: u32 = 4;
const SHIFT: u32 = 3;

const fn held_by(me: u32) -> u32 {
    me << SHIFT
}

/// In `inside`: the thread does not have the lock, has it, has it and has lent it.
const OUTSIDE: u32 = 0;
const INSIDE: u32 = 1;
const LENT: u32 = 2;
/// In `lent`: somebody looks at the owner. The other bits are the owner's number.
const PINNED: u32 = 1;
/// Sleeps end by themselves: what is waited for may be impatience, or that a lender does something else. The
/// first, and the longest.
const SLEEP_NS: (i64, i64) = (50_000, 1_000_000);
/// Numbers of threads are from 1 to this.
pub const MAX_NUMBER: u32 = u32::MAX >> SHIFT;

#[derive(Debug)]
#[repr(C)]
pub struct Lock {
    word: AtomicU32,
    heir: AtomicU32,
    /// 0 when it is not lent, or by `inside`.
    lent: AtomicU32,
    /// With a bias: which of `inside` is that of the owner.
    slot: AtomicU32,
    /// What the thread with this slot does, if the bias is its. Nobody else writes there.
    inside: [AtomicU32; SLOTS],
}

/// Threads that can have a bias at the same time.
#[cfg(not(loom))]
pub const SLOTS: usize = 64;
#[cfg(loom)]
pub const SLOTS: usize = 2;

/// The word of a lock with a bias to this thread.
pub const fn biased_to(me: u32) -> u32 {
    held_by(me) | BIASED
}

impl Lock {
    #[cfg(not(loom))]
    pub const fn new() -> Lock {
        Lock {
            word: AtomicU32::new(0),
            heir: AtomicU32::new(0),
            lent: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            inside: [const { AtomicU32::new(0) }; SLOTS],
        }
    }
    #[cfg(loom)]
    pub fn new() -> Lock {
        Lock {
            word: AtomicU32::new(0),
            heir: AtomicU32::new(0),
            lent: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            inside: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Number of the thread that has it, 0 for none. The answer about the calling thread itself is true;
    /// any other may be old.
    #[inline]
    pub fn owner(&self) -> u32 {
        let word = self.word.load(Ordering::Relaxed);
        if word & BIASED != 0 && self.owner_inside().load(Ordering::Relaxed) == OUTSIDE {
            return 0;
        }
        word >> SHIFT
    }

    /// Whether nobody has it, nor a bias. What the last owner wrote is seen.
    #[inline(always)]
    pub fn is_free(&self) -> bool {
        self.word.load(Ordering::Acquire) == 0
    }

    /// With a bias: the owner's.
    #[inline(always)]
    fn owner_inside(&self) -> &AtomicU32 {
        &self.inside[self.slot.load(Ordering::Relaxed) as usize]
    }

    /// By a thread that does not hold it, nor has the bias.
    #[inline]
    pub fn try_acquire(&self, me: u32) -> bool {
        self.try_word(me) || self.unbias() && self.try_word(me)
    }

    #[inline(always)]
    fn try_word(&self, me: u32) -> bool {
        // SeqCst: before the holder asks whether transactions have ever been in the domain (`elision::is_empty`).
        self.word
            .compare_exchange(0, held_by(me), Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// By any thread: takes it, if it is biased to that. `ame_extension_enter_biased` of domain.h does this inline.
    #[inline(always)]
    pub fn enter(&self, me: u32, slot: u32) -> bool {
        let inside = &self.inside[slot as usize];
        if self.word.load(Ordering::Relaxed) != biased_to(me)
            || inside.load(Ordering::Relaxed) != OUTSIDE
        {
            return false;
        }
        inside.store(INSIDE, Ordering::Relaxed);
        // Pairs with the heavy fence in `unbias`: either that sees us inside, or we see the word.
        light_fence();
        self.word.load(Ordering::Relaxed) == biased_to(me) || self.enter_without_bias(me)
    }

    /// It has said that it is inside, and who takes the bias away may have seen that.
    #[cold]
    pub fn enter_without_bias(&self, me: u32) -> bool {
        self.is_left_with(me)
    }

    /// By who holds it by a bias: gives it back. Inline as well, but for what comes after.
    #[inline(always)]
    fn leave(&self, me: u32) {
        self.owner_inside().store(OUTSIDE, Ordering::Release);
        // As in `enter`.
        light_fence();
        if self.word.load(Ordering::Relaxed) != biased_to(me) {
            self.leave_without_bias(me);
        }
    }

    /// It is no longer inside, but who took the bias away may have found it there.
    #[cold]
    pub fn leave_without_bias(&self, me: u32) {
        if self.is_left_with(me) {
            self.release(me);
        }
    }

    /// The bias is being taken from the calling thread, or has been: whether that has left it the lock.
    #[cold]
    fn is_left_with(&self, me: u32) -> bool {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word != biased_to(me) | ENDING {
                return word & !WAITERS == held_by(me);
            }
            give_way_to_owner();
        }
    }

    /// Takes the bias away, if there is one. Whether there was.
    #[cold]
    pub fn unbias(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        if word & BIASED == 0 {
            return false;
        }
        if word & ENDING != 0
            || self
                .word
                // Acquire: the owner's slot, and all that it has written while it had the lock before.
                .compare_exchange(word, word | ENDING, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            give_way_to_owner();
            return true;
        }
        // Pairs with the light fences in `enter`, `leave`, `lend` and `claim`.
        heavy_fence();
        let inside = self.owner_inside().load(Ordering::Acquire);
        if inside == LENT {
            // Release: who takes it over has seen all that the owner wrote before.
            self.lent.store(word >> SHIFT << 1, Ordering::Release);
        }
        // Nobody need be woken: who sleeps without the flag looks again by itself.
        let left = if inside == OUTSIDE { 0 } else { word & !BIASED };
        self.word.store(left, Ordering::Release);
        true
    }

    /// By a thread that ends: nobody looks at its slot any more.
    pub fn give_bias_up(&self, me: u32) {
        while self.word.load(Ordering::Relaxed) & !ENDING == biased_to(me) {
            self.unbias();
        }
    }

    /// By the owner: others may take it over from now on. What they look at is written. `ame_extension_lend_biased` of
    /// domain.h does the first half inline.
    #[inline]
    pub fn lend(&self, me: u32, slot: u32) {
        // Also where the bias is being taken away: `lent_by` asks `inside` then.
        if self.word.load(Ordering::Relaxed) & !ENDING != biased_to(me) {
            return self.lent.store(me << 1, Ordering::Release);
        }
        self.inside[slot as usize].store(LENT, Ordering::Release);
        // As in `enter`.
        light_fence();
        if self.word.load(Ordering::Relaxed) != biased_to(me) {
            self.lend_without_bias(me);
        }
    }

    /// It has said that it lends the lock, and who took the bias away may have seen that.
    #[cold]
    pub fn lend_without_bias(&self, me: u32) {
        // Lost, it has been seen; and so it was where `lent` says so.
        if self.is_left_with(me)
            && self.lent.load(Ordering::Acquire) == 0
            && self.word.load(Ordering::Relaxed) >> SHIFT == me
        {
            self.lent.store(me << 1, Ordering::Release);
        }
    }

    /// Whether the calling thread is the owner and has lent it, as far as it knows: who takes it over writes the word first,
    /// and then `lent`.
    #[inline]
    pub fn lent_by(&self, me: u32, slot: u32) -> bool {
        // Acquire, both: what who took a bias away has written to `lent`, and the word of who has taken it over.
        let word = self.word.load(Ordering::Acquire);
        match word & !ENDING == biased_to(me) {
            true => self.inside[slot as usize].load(Ordering::Relaxed) == LENT,
            false => word >> SHIFT == me && self.lent.load(Ordering::Acquire) & !PINNED == me << 1,
        }
    }

    /// Whether the calling thread is the owner and has not lent it.
    #[inline]
    pub fn has(&self, me: u32, slot: u32) -> bool {
        // In this order: what is lent may be taken over in between.
        !self.lent_by(me, slot) && self.owner() == me
    }

    /// By who has lent it: it is no longer lent, or it is another's. `ame_extension_claim_biased` of domain.h does the first
    /// half inline.
    #[inline]
    pub fn claim(&self, me: u32, slot: u32) -> bool {
        if self.word.load(Ordering::Relaxed) == biased_to(me) {
            self.inside[slot as usize].store(INSIDE, Ordering::Relaxed);
            // As in `enter`.
            light_fence();
            if self.word.load(Ordering::Relaxed) == biased_to(me) {
                return true;
            }
        }
        self.claim_without_bias(me)
    }

    /// It has lent the lock, and perhaps said that it has not any more, which who took the bias away may have seen.
    pub fn claim_without_bias(&self, me: u32) -> bool {
        while self.is_left_with(me) {
            match self
                .lent
                // Whoever has looked is done with that, and whoever has taken it over.
                .compare_exchange(me << 1, 0, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) if now == me << 1 | PINNED => give_way_to_owner(),
                // Not lent any more before the bias ended, or taken over: the word says which.
                Err(_) => return self.word.load(Ordering::Relaxed) >> SHIFT == me,
            }
        }
        false
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
        // Pinned, it cannot be given a bias; while it has one, the word is not ours to change.
        let taken = self.word.load(Ordering::Relaxed) & BIASED == 0 && may();
        if taken {
            // Others change it no more than to set the flag, which it gets; the owner claims first. Release: what has been
            // looked at may change from now on.
            self.word.store(held_by(me) | WAITERS, Ordering::Release);
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
        let (mut registered, mut slept) = (false, false);
        let mut sleep = SLEEP_NS.0;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word & BIASED != 0 {
                // Its owner has come in often while this thread slept.
                match slept && !impatient() {
                    true => self.sleep(word, &mut sleep),
                    false => _ = self.unbias(),
                }
                continue;
            }
            if word >> SHIFT == me {
                // Handed over, which took the registration away.
                return;
            }
            if word == 0 {
                // Others may be asleep, too: who sleeps has seen or set the flag, which is lost while free.
                let taken = self.word.compare_exchange(
                    0,
                    held_by(me) | WAITERS,
                    Ordering::SeqCst,
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
            let awaited = match registered || !slept {
                true => word | WAITERS,
                false => word,
            };
            if awaited != word
                && self
                    .word
                    .compare_exchange(word, awaited, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            self.sleep(awaited, &mut sleep);
            slept = true;
        }
    }

    /// While the word is this one; twice as long the next time.
    fn sleep(&self, word: u32, ns: &mut i64) {
        futex_wait(&self.word, word, *ns);
        *ns = (2 * *ns).min(SLEEP_NS.1);
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
        self.release_or_keep(me, None);
    }

    /// The same; with a bias from now on, if the thread has a slot for it and nobody waits.
    #[inline(always)]
    pub fn release_or_keep(&self, me: u32, slot: Option<u32>) {
        let word = self.word.load(Ordering::Relaxed);
        if word & BIASED != 0 {
            return self.leave(me);
        }
        let left = slot.map_or(0, |slot| {
            self.slot.store(slot, Ordering::Relaxed);
            self.inside[slot as usize].store(OUTSIDE, Ordering::Relaxed);
            word | BIASED
        });
        let quick = word & WAITERS == 0
            && self
                .word
                .compare_exchange(word, left, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !quick {
            self.release_to_waiters();
        }
    }

    #[cold]
    fn release_to_waiters(&self) {
        // Before the word: as long as this thread is the owner, no heir can take the lock by itself.
        let heir = self.heir.swap(0, Ordering::AcqRel);
        if heir != 0 {
            self.word.store(held_by(heir) | WAITERS, Ordering::Release);
            futex_wake(&self.word);
        } else {
            self.word.store(0, Ordering::Release);
            futex_wake_one(&self.word);
        }
    }

    /// In the child of a fork, which has one thread.
    pub fn forget_others(&self, me: u32, slot: u32) {
        self.heir.store(0, Ordering::Relaxed);
        let mine = self.owner() == me && me != 0;
        let lent = mine && self.lent_by(me, slot);
        self.lent
            .store(if lent { me << 1 } else { 0 }, Ordering::Relaxed);
        self.word
            .store(if mine { held_by(me) } else { 0 }, Ordering::Relaxed);
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}
