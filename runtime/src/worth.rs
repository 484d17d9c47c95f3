//! Whether entries of a domain are worth being transactions.
//!
//! One thread alone is faster when it holds the domain: a transaction costs more than an entry does. Threads
//! that want it at the same time may gain or lose by transactions, which depends on what the entries do. So a
//! domain is held until a thread finds it taken. Then it is tried: transactions for some milliseconds, then
//! holding, then transactions again. The way with more entries per time is kept for a while, and then they are
//! tried anew, or, when nobody has waited for the domain all that while, it is simply held again.
//!
//! All this is advice. What keeps a thread that holds the domain apart from transactions in it
//! ([`crate::sharing`]) does not depend on it.

use crate::clock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

/// What entries do. `ALONE`: hold the domain, as nobody has ever waited, or not for long. The others end at a time.
const ALONE: u32 = 0;
const HOLD: u32 = 1;
const ELIDE: u32 = 2;

/// Ways of the windows of a trial. The first one is not counted: transactions find cold tables.
const WINDOWS: [u32; 5] = [ELIDE, HOLD, ELIDE, HOLD, ELIDE];
/// Cycles of the time stamp counter (2 to 4 in a nanosecond).
const WINDOW: u64 = 8_000_000;
/// How long a result counts: the first time, and at most, when it is always the same.
const FIRST_PERIOD: u64 = 250_000_000;
const LONGEST_PERIOD: u64 = 2_000_000_000;
/// Entries of a thread between two looks at the clock.
pub const LOOK: u32 = 16;

#[derive(Default)]
pub struct Worth {
    way: AtomicU32,
    /// When that ends.
    until: AtomicU64,
    /// A thread has found the domain taken since the last trial.
    wanted: AtomicBool,
    /// Whoever does not get it at once leaves it to another: it may stay taken in the child of a fork.
    trial: Mutex<Trial>,
    /// Trials that have ended, and those of them that transactions have won.
    pub trials: AtomicU64,
    pub won: AtomicU64,
}

#[derive(Default)]
struct Trial {
    /// Window of the current one; after the last: none is going on.
    window: usize,
    /// Entries of the domain, and the time, when the window began.
    entries: u64,
    began: u64,
    /// Entries and cycles in the windows of each way.
    held: Rate,
    elided: Rate,
    /// How long the next result counts.
    period: u64,
    last: u32,
}

#[derive(Default, Clone, Copy)]
struct Rate {
    entries: u64,
    cycles: u64,
}

impl Rate {
    fn is_more_than(self, other: Rate) -> bool {
        u128::from(self.entries) * u128::from(other.cycles)
            > u128::from(other.entries) * u128::from(self.cycles)
    }
}

impl Trial {
    /// What comes next, and until when.
    fn next(&mut self, now: u64, entries: u64, wanted: bool) -> (u32, u64) {
        if self.window < WINDOWS.len() {
            let rate = match WINDOWS[self.window] {
                ELIDE => &mut self.elided,
                _ => &mut self.held,
            };
            if self.window != 0 {
                // A thread that ends may be missing for a moment.
                rate.entries += entries.saturating_sub(self.entries);
                rate.cycles += now - self.began;
            }
            self.window += 1;
            if self.window == WINDOWS.len() {
                return self.result(now);
            }
        } else if self.last == HOLD && !wanted {
            return (ALONE, u64::MAX);
        } else {
            self.begin();
        }
        (self.entries, self.began) = (entries, now);
        (WINDOWS[self.window], now + WINDOW)
    }

    fn begin(&mut self) {
        self.window = 0;
        (self.held, self.elided) = Default::default();
    }

    fn result(&mut self, now: u64) -> (u32, u64) {
        let won = self.elided.is_more_than(self.held);
        let way = if won { ELIDE } else { HOLD };
        self.period = match way == self.last {
            true => (2 * self.period).min(LONGEST_PERIOD),
            false => FIRST_PERIOD,
        };
        self.last = way;
        (way, now + self.period)
    }
}

impl Worth {
    /// Whether the next entry may be a transaction. `taken`: whether the domain is another thread's now;
    /// `entries`: how many there were.
    #[inline(always)]
    pub fn elides(
        &self,
        looks: &mut u32,
        taken: impl FnOnce() -> bool,
        entries: impl FnOnce() -> u64,
    ) -> bool {
        let way = self.way.load(Relaxed);
        if way == ALONE {
            if taken() {
                self.first_wanted(entries);
            }
            return false;
        }
        if way == HOLD && !self.wanted.load(Relaxed) && taken() {
            self.wanted.store(true, Relaxed);
        }
        *looks = looks.wrapping_sub(1);
        if *looks >= LOOK {
            *looks = LOOK - 1;
            if clock::cycles() >= self.until.load(Relaxed) {
                self.next(entries);
            }
        }
        way == ELIDE
    }

    #[cold]
    fn first_wanted(&self, entries: impl FnOnce() -> u64) {
        let Ok(mut trial) = self.trial.try_lock() else {
            return;
        };
        // Another thread may have been first.
        if self.way.load(Relaxed) == ALONE {
            trial.begin();
            (trial.entries, trial.began) = (entries(), clock::cycles());
            self.go_on(WINDOWS[0], trial.began + WINDOW);
        }
    }

    #[cold]
    fn next(&self, entries: impl FnOnce() -> u64) {
        let Ok(mut trial) = self.trial.try_lock() else {
            return;
        };
        let now = clock::cycles();
        if now >= self.until.load(Relaxed) {
            let wanted = self.wanted.swap(false, Relaxed);
            let in_trial = trial.window < WINDOWS.len();
            let (way, until) = trial.next(now, entries(), wanted);
            if in_trial && trial.window == WINDOWS.len() {
                self.trials.fetch_add(1, Relaxed);
                self.won.fetch_add(u64::from(way == ELIDE), Relaxed);
            }
            self.go_on(way, until);
        }
    }

    /// Whether nobody waits for the domain.
    pub fn is_alone(&self) -> bool {
        self.way.load(Relaxed) == ALONE
    }

    fn go_on(&self, way: u32, until: u64) {
        self.until.store(until, Relaxed);
        self.way.store(way, Relaxed);
    }

    /// The child of a fork has one thread.
    pub fn forget_others(&self) {
        self.go_on(ALONE, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a trial in which the two ways have these rates, in entries per window.
    fn play(trial: &mut Trial, held: u64, elided: u64) -> (u32, u64) {
        let (mut now, mut entries) = (0, 0);
        trial.begin();
        (trial.entries, trial.began) = (entries, now);
        for way in WINDOWS {
            now += WINDOW;
            entries += if way == ELIDE { elided } else { held };
            let (next, until) = trial.next(now, entries, true);
            if trial.window == WINDOWS.len() {
                return (next, until - now);
            }
            assert_eq!((next, until - now), (WINDOWS[trial.window], WINDOW));
        }
        unreachable!()
    }

    #[test]
    fn the_faster_way_is_kept_longer_each_time() {
        let mut trial = Trial::default();
        assert_eq!(play(&mut trial, 100, 101), (ELIDE, FIRST_PERIOD));
        assert_eq!(play(&mut trial, 100, 101), (ELIDE, 2 * FIRST_PERIOD));
        assert_eq!(play(&mut trial, 100, 99), (HOLD, FIRST_PERIOD));
        for _ in 0..10 {
            play(&mut trial, 100, 99);
        }
        assert_eq!(play(&mut trial, 100, 99), (HOLD, LONGEST_PERIOD));
    }

    #[test]
    fn what_nobody_waits_for_is_held_until_somebody_does() {
        let worth = Worth::default();
        let mut looks = 0;
        let mut elides = |taken| worth.elides(&mut looks, || taken, || 0);
        assert!(!elides(false) && !elides(false));
        assert_eq!(worth.way.load(Relaxed), ALONE);
        assert!(!elides(true));
        assert!(elides(false), "a trial begins");
        {
            let mut trial = worth.trial.try_lock().unwrap();
            play(&mut trial, 100, 99);
            assert_eq!(trial.next(u64::MAX / 2, 0, true).0, ELIDE, "the next trial");
            play(&mut trial, 100, 99);
            assert_eq!(trial.next(u64::MAX / 2, 0, false), (ALONE, u64::MAX));
        }
    }
}
