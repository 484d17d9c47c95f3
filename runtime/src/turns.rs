//! Taking turns: short transactions of several threads on the same data, one thread after the other.
//!
//! Two threads whose transactions touch the same memory can be slower together than one of them
//! alone, without a single conflict: every cache line they need is with the other processor. A mutex
//! does better there, because whoever has it often gets it again, and keeps its cache. So can we:
//! from time to time the threads try to begin transactions only while it is their turn, of which
//! each is long enough to make up for a cold cache. If transactions per time then grow by more than
//! what the others lose by waiting, they go on like that for a while, else they do not.
//!
//! All this is advice. A thread waits before it begins a transaction, when it holds nothing and has
//! no age yet; it waits a bounded time; a turn that is lost, or taken twice, costs time only. No
//! invariant depends on it, and no order of these accesses matters.

use crate::clock;
use crate::config::config;
use crate::primitive::{processors, spin};
use crate::tables;
use crate::thread::Thread;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Everybody runs when they like.
const TOGETHER: u32 = 0;
/// In turns, to see whether that is faster.
const TRIAL: u32 = 1;
/// In turns, because it was.
const IN_TURNS: u32 = 2;

/// Cycles of the time stamp counter (2 to 4 in a nanosecond) between two looks at it.
const LOOK: u64 = 200_000;
/// Longest wait for a turn, in turns of each thread.
const PATIENCE: u64 = 2;
/// Running together is measured over at least so many cycles.
const WINDOW: u64 = 1_000_000;
/// How long threads run together before the first trial, and at most.
const FIRST_GAP: u64 = 20_000_000;
const LONGEST_GAP: u64 = 2_600_000_000;
/// How long they run together to be compared with before another trial.
const COMPARISON: u64 = 4_000_000;
/// How long they take turns after the first successful trial, and at most.
const FIRST_PERIOD: u64 = 40_000_000;
const LONGEST_PERIOD: u64 = 1_300_000_000;
/// Turns must be faster by so much to be worth it.
const MARGIN: f64 = 1.1;
/// A trial may end halfway when turns are slower by so much.
const HOPELESS: f64 = 0.85;
/// A turn is too short when its second half is faster than the first by so much.
const COLD: f64 = 1.1;

/// What waiting threads look at.
#[repr(align(128))]
struct Turn {
    mode: AtomicU32,
    /// Slot + 1 of the thread whose turn it is, or 0.
    holder: AtomicU32,
}

static TURN: Turn = Turn {
    mode: AtomicU32::new(TOGETHER),
    holder: AtomicU32::new(0),
};

/// What decides about the mode.
#[repr(align(128))]
struct Record {
    /// Time stamp of the next decision.
    decide_at: AtomicU64,
    gap: AtomicU64,
    /// Cycles of a turn; 0 before the first.
    turn: AtomicU64,
    period: AtomicU64,
    /// Of the current trial: turns, sum of their speeds relative to running together (in 1/256), and
    /// most threads that wanted one at the same time.
    turns: AtomicU32,
    speed: AtomicU64,
    threads: AtomicU32,
    /// Turns of all time, for statistics.
    total: AtomicU64,
}

static RECORD: Record = Record {
    decide_at: AtomicU64::new(0),
    gap: AtomicU64::new(FIRST_GAP),
    turn: AtomicU64::new(0),
    period: AtomicU64::new(FIRST_PERIOD),
    turns: AtomicU32::new(0),
    speed: AtomicU64::new(0),
    threads: AtomicU32::new(0),
    total: AtomicU64::new(0),
};

/// A thread's own half.
pub struct Share {
    /// Transactions until the next look at the clock, and of the last stretch.
    pub left: i32,
    stretch: i32,
    looked: u64,
    /// What is being measured: since when, how many transactions, in which mode.
    since: u64,
    count: u64,
    mode: u32,
    /// In the first half of a turn.
    half: (u64, u64),
    /// It is our turn, as far as we know.
    holds: bool,
    /// Transactions per cycle while running together, or 0.
    together: f64,
}

impl Share {
    pub const fn new() -> Self {
        Share {
            left: 0,
            stretch: 1,
            looked: 0,
            since: 0,
            count: 0,
            mode: TOGETHER,
            half: (0, 0),
            holds: false,
            together: 0.0,
        }
    }

    fn measure(&mut self, mode: u32, now: u64) {
        self.mode = mode;
        self.since = now;
        self.count = 0;
        self.half = (0, 0);
    }
}

/// How many turns were taken.
pub fn total() -> u64 {
    RECORD.total.load(Relaxed)
}

/// Before a transaction, once in a stretch: may we go on?
#[cold]
#[inline(never)]
pub fn look(thread: &mut Thread) {
    let now = clock::cycles();
    let slot = thread.me.slot;
    let share = &mut thread.share;
    share.count += share.stretch as u64;
    let took = now.saturating_sub(share.looked);
    share.looked = now;
    if took < LOOK / 2 {
        share.stretch = (share.stretch * 2).min(1 << 12);
    } else if took > LOOK * 2 {
        share.stretch = (share.stretch / 2).max(1);
    }
    share.left = share.stretch;
    let participants = tables::participants().load(Relaxed);
    let longest = config().turn;
    if participants < 2 || participants > processors() || longest == 0 {
        share.together = 0.0;
        share.measure(TOGETHER, now);
        return;
    }
    match TURN.mode.load(Relaxed) {
        TOGETHER => together(share, slot, now),
        mode => in_turns(share, slot, now, mode, longest),
    }
}

fn together(share: &mut Share, slot: u32, now: u64) {
    share.holds = false;
    let took = now.saturating_sub(share.since);
    if share.mode != TOGETHER || took > WINDOW * 20 {
        // The first stretch is that of a cold cache, or nothing ran.
        return share.measure(TOGETHER, now);
    }
    if took < WINDOW {
        return;
    }
    let rate = share.count as f64 / took as f64;
    share.together = match share.together {
        0.0 => rate,
        old => old * 0.5 + rate * 0.5,
    };
    share.measure(TOGETHER, now);
    let due = RECORD.decide_at.load(Relaxed);
    if due == 0 {
        RECORD.decide_at.store(now + FIRST_GAP, Relaxed);
    } else if now >= due
        && TURN
            .mode
            .compare_exchange(TOGETHER, TRIAL, Relaxed, Relaxed)
            .is_ok()
    {
        TURN.holder.store(slot + 1, Relaxed);
        RECORD.turns.store(0, Relaxed);
        RECORD.speed.store(0, Relaxed);
        RECORD.threads.store(1, Relaxed);
        share.holds = true;
        share.measure(TRIAL, now);
    }
}

fn in_turns(share: &mut Share, slot: u32, now: u64, mode: u32, longest: u64) {
    let turn = match RECORD.turn.load(Relaxed) {
        0 => longest / 8,
        turn => turn,
    };
    if share.holds && TURN.holder.load(Relaxed) == slot + 1 {
        let took = now.saturating_sub(share.since);
        if took < turn {
            if share.half.0 == 0 && took >= turn / 2 {
                share.half = (took, share.count);
            }
            return;
        }
        adapt(share, took, turn, longest);
        let rate = share.count as f64 / took as f64;
        let speed = if share.together > 0.0 {
            rate / share.together
        } else {
            0.0
        };
        judge(mode, speed, now);
        share.measure(mode, now);
        if TURN.mode.load(Relaxed) == TOGETHER {
            share.holds = false;
            return;
        }
        match next(slot) {
            Some(other) => TURN.holder.store(other + 1, Relaxed),
            None => return,
        }
    }
    share.holds = await_turn(slot, now, turn);
    let now = clock::cycles();
    share.looked = now;
    share.measure(TURN.mode.load(Relaxed), now);
}

/// Turns just so long that little of them goes into warming the cache.
fn adapt(share: &Share, took: u64, turn: u64, longest: u64) {
    let (early, count) = share.half;
    if early == 0 || took > turn * 2 {
        return;
    }
    let first = count as f64 / early as f64;
    let second = (share.count - count) as f64 / (took - early) as f64;
    let better = if second > first * COLD {
        turn + turn / 4
    } else {
        turn - turn / 32
    };
    RECORD
        .turn
        .store(better.clamp(longest / 16, longest), Relaxed);
}

/// Who wants a turn and comes after `slot`.
fn next(slot: u32) -> Option<u32> {
    let n = tables::peer_count().load(Relaxed);
    (1..n).map(|i| (slot + i) % n).find(|&other| wants(other))
}

fn wants(slot: u32) -> bool {
    tables::peer(slot).wants_turn.load(Relaxed) != 0
}

/// After a turn: how does it compare?
fn judge(mode: u32, speed: f64, now: u64) {
    let record = &RECORD;
    record.total.fetch_add(1, Relaxed);
    let n = tables::peer_count().load(Relaxed);
    let threads = 1 + (0..n).filter(|&other| wants(other)).count() as u32;
    let threads = threads.max(record.threads.fetch_max(threads, Relaxed));
    if mode == IN_TURNS {
        if now >= record.decide_at.load(Relaxed) || speed < threads as f64 {
            run_together(now, COMPARISON);
        }
        return;
    }
    let sum = (speed * 256.0) as u64;
    let sum = sum + record.speed.fetch_add(sum, Relaxed);
    let turns = 1 + record.turns.fetch_add(1, Relaxed);
    let mean = sum as f64 / 256.0 / turns as f64;
    let hopeless = turns >= threads.max(2) && mean < HOPELESS * threads as f64;
    if turns < 2 * threads.max(2) && !hopeless {
        return;
    }
    if threads > 1 && mean > MARGIN * threads as f64 {
        let period = record.period.load(Relaxed);
        record
            .period
            .store((period * 2).min(LONGEST_PERIOD), Relaxed);
        record.gap.store(FIRST_GAP, Relaxed);
        record.decide_at.store(now + period, Relaxed);
        TURN.mode.store(IN_TURNS, Relaxed);
    } else {
        give_up(now);
    }
}

/// Turns are no good. Ever longer until the next trial.
fn give_up(now: u64) {
    let gap = RECORD.gap.load(Relaxed);
    RECORD.gap.store((gap * 4).min(LONGEST_GAP), Relaxed);
    RECORD.period.store(FIRST_PERIOD, Relaxed);
    run_together(now, gap);
}

fn run_together(now: u64, gap: u64) {
    RECORD.decide_at.store(now + gap, Relaxed);
    TURN.mode.store(TOGETHER, Relaxed);
    TURN.holder.store(0, Relaxed);
}

/// Waits until it is our turn (then true), or nobody takes turns any more.
fn await_turn(slot: u32, start: u64, turn: u64) -> bool {
    let wanted = &tables::peer(slot).wants_turn;
    wanted.store(1, Relaxed);
    let most = PATIENCE * turn * tables::participants().load(Relaxed) as u64;
    let mut step = 0u32;
    let got = loop {
        if TURN.mode.load(Relaxed) == TOGETHER {
            break false;
        }
        let holder = TURN.holder.load(Relaxed);
        if holder == slot + 1
            || (holder == 0
                && TURN
                    .holder
                    .compare_exchange(0, slot + 1, Relaxed, Relaxed)
                    .is_ok())
        {
            break true;
        }
        step += 1;
        if step.is_multiple_of(16) {
            let now = clock::cycles();
            if now.saturating_sub(start) > most {
                // Whoever has it does not begin transactions.
                give_up(now);
                break false;
            }
        }
        // Seldom: the processor may share its core with the one whose turn it is.
        for _ in 0..8 {
            spin();
        }
    };
    wanted.store(0, Relaxed);
    got
}

/// The thread will not begin a transaction for a while.
pub fn leave(thread: &mut Thread) {
    let me = thread.me.slot + 1;
    if std::mem::take(&mut thread.share.holds) && TURN.holder.load(Relaxed) == me {
        let other = next(thread.me.slot).map_or(0, |other| other + 1);
        TURN.holder.store(other, Relaxed);
    }
}
