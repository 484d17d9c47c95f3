//! Taking turns: short transactions of several threads on the same data, one thread after the other.
//!
//! Two threads whose transactions touch the same memory can be slower together than one of them
//! alone, without a single conflict: every cache line they need is with the other processor. A mutex
//! does better there, because whoever has it often gets it again, and keeps its cache. So can we:
//! from time to time the threads begin transactions only while it is their turn, of which each is
//! long enough to make up for a cold cache. If transactions per time then grow by more than what the
//! others lose by waiting, they go on like that for a while, else they do not.
//!
//! The thread whose turn it is has the gate ([`crate::gate`]): its transactions run alone, and need no marks for
//! what they read and no atomic instruction for what they lock. They can be rolled back like all others. What
//! could wait for another thread ends the turn ([`leave`]): it becomes irrevocable, retries, waits for a lock.
//! The others wait before they begin a transaction, when they hold nothing, and end the turn of
//! one that does not use it ([`await_gate`]).
//!
//! When to take turns is advice, and no order of those accesses matters. That a turn is one is the gate's business.

use crate::clock;
use crate::config::config;
use crate::gate;
use crate::peer;
use crate::primitive::{processors, spin};
use crate::signal;
use crate::tables;
use crate::thread::Thread;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

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
const MARGIN: f64 = 1.05;
/// A trial may end halfway when turns are slower by so much.
const HOPELESS: f64 = 0.85;
/// A thread that begins no transaction for so long in its turn loses it.
const IDLE_PATIENCE: u64 = 250_000;
/// A turn is too short when its second half is faster than the first by so much.
const COLD: f64 = 1.1;

/// What decides about the mode.
#[repr(align(128))]
struct Record {
    mode: AtomicU32,
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
    mode: AtomicU32::new(TOGETHER),
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
    /// It is our turn, unless somebody has ended it.
    pub holds: bool,
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

/// Cycles of a turn.
fn length() -> u64 {
    match RECORD.turn.load(Relaxed) {
        0 => config().turn / 2,
        turn => turn,
    }
}

/// Before a transaction, once in a stretch: is it time to begin a turn, or to end one?
#[cold]
#[inline(never)]
pub fn look(thread: &mut Thread) {
    if thread.elision.is_on() {
        thread.share.left = i32::MAX;
        return;
    }
    let now = clock::cycles();
    let share = &mut thread.share;
    share.count += share.stretch as u64;
    let took = now.saturating_sub(share.looked);
    share.looked = now;
    if took < LOOK / 2 {
        share.stretch = (share.stretch * 2).min(1 << 12);
    } else if took > LOOK * 2 {
        share.stretch = (share.stretch / 2).max(1);
    }
    if config().always_turns {
        share.stretch = 1;
    }
    share.left = share.stretch;
    if share.holds {
        return in_turn(thread, now);
    }
    let participants = tables::participants().load(Relaxed);
    let possible = participants > 1
        && (participants <= processors() || config().always_turns)
        && config().turn != 0
        && thread.participates
        // A trace wants every access, and glue that saves memory at begin runs long transactions.
        && !crate::trace::enabled()
        && crate::transaction::BEGINS.get().is_none();
    if possible {
        return together(thread, now);
    }
    share.together = 0.0;
    share.measure(TOGETHER, now);
}

fn together(thread: &mut Thread, now: u64) {
    let share = &mut thread.share;
    let took = now.saturating_sub(share.since);
    if share.mode != TOGETHER || took > WINDOW * 20 {
        // The first stretch is that of a cold cache, or nothing ran.
        return share.measure(TOGETHER, now);
    }
    if took < WINDOW && !config().always_turns {
        return;
    }
    let rate = share.count as f64 / took as f64;
    share.together = match share.together {
        0.0 => rate,
        old => old * 0.5 + rate * 0.5,
    };
    share.measure(TOGETHER, now);
    let due = RECORD.decide_at.load(Relaxed);
    if due == 0 && !config().always_turns {
        RECORD.decide_at.store(now + FIRST_GAP, Relaxed);
    } else if now >= due
        && RECORD
            .mode
            .compare_exchange(TOGETHER, TRIAL, Relaxed, Relaxed)
            .is_ok()
    {
        RECORD.turns.store(0, Relaxed);
        RECORD.speed.store(0, Relaxed);
        RECORD.threads.store(1, Relaxed);
        let last = now + length();
        share.holds = gate::take_turn(thread.me, || clock::cycles() < last);
        if !share.holds {
            return give_up(now);
        }
        share.measure(TRIAL, clock::cycles());
    }
}

/// In our turn: passes it on when it is over.
fn in_turn(thread: &mut Thread, now: u64) {
    let slot = thread.me.slot;
    let share = &mut thread.share;
    let (took, turn) = (now.saturating_sub(share.since), length());
    if took < turn {
        if share.half.0 == 0 && took >= turn / 2 {
            share.half = (took, share.count);
        }
        return;
    }
    adapt(share, took, turn, config().turn);
    let rate = share.count as f64 / took as f64;
    let speed = if share.together > 0.0 {
        rate / share.together
    } else {
        0.0
    };
    let mode = RECORD.mode.load(Relaxed);
    judge(mode, speed, now);
    share.measure(mode, now);
    if RECORD.mode.load(Relaxed) == TOGETHER {
        return leave(thread);
    }
    if let Some(other) = next(slot) {
        share.holds = false;
        gate::pass_turn(thread.me, other);
    }
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
        .store(better.clamp(longest / 4, longest), Relaxed);
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
    if config().always_turns {
        return record.mode.store(IN_TURNS, Relaxed);
    }
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
        RECORD.mode.store(IN_TURNS, Relaxed);
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
    let gap = if config().always_turns { 0 } else { gap };
    RECORD.decide_at.store(now + gap, Relaxed);
    RECORD.mode.store(TOGETHER, Relaxed);
}

/// Waits until the gate is open, or it is our turn, or a signal has come; notes whether it is. Ends the
/// turn of a thread that does not use it, or keeps it for too long.
#[cold]
pub fn await_gate(thread: &mut Thread) {
    let me = thread.me;
    let wanted = &tables::peer(me.slot).wants_turn;
    let mut watch = Watch::new();
    thread.share.holds = loop {
        let word = tables::gate().load(Acquire);
        if word == 0 || word == me.slot + 1 {
            break false;
        }
        if signal::waiting() {
            break false;
        }
        if word & gate::TURN == 0 {
            gate::await_change(word);
            continue;
        }
        let holder = (word & !gate::TURN) - 1;
        if holder == me.slot {
            break true;
        }
        wanted.store(1, Relaxed);
        // Seldom: the processor may share its core with the one whose turn it is.
        for _ in 0..100 {
            spin();
        }
        if watch.lost(holder) && gate::break_turn(me, holder) {
            give_up(clock::cycles());
        }
    };
    wanted.store(0, Relaxed);
    if thread.share.holds {
        let now = clock::cycles();
        thread.share.looked = now;
        thread.share.left = thread.share.stretch;
        thread.share.measure(RECORD.mode.load(Relaxed), now);
    }
}

/// What a waiting thread sees of the one whose turn it is.
struct Watch {
    since: u64,
    holder: u32,
    state: u32,
    changed: u64,
}

impl Watch {
    fn new() -> Self {
        let now = clock::cycles();
        Watch {
            since: now,
            holder: u32::MAX,
            state: 0,
            changed: now,
        }
    }

    /// Whether the holder has had its chance.
    fn lost(&mut self, holder: u32) -> bool {
        let now = clock::cycles();
        let state = tables::peer(holder).state.load(Relaxed);
        if holder != self.holder {
            self.since = now;
        }
        if holder != self.holder || state != self.state {
            (self.holder, self.state, self.changed) = (holder, state, now);
            return now - self.since > PATIENCE * length();
        }
        let unchanged = now.saturating_sub(self.changed);
        match peer::is_at_rest(state) {
            true => unchanged > IDLE_PATIENCE,
            false => unchanged > PATIENCE * length(),
        }
    }
}

/// Ends our turn, if it is ours: the thread is about to wait for something, or ends. Call it outside of
/// transactions.
pub fn leave(thread: &mut Thread) {
    thread.share.holds = false;
    gate::end_turn(thread.me);
}

/// The same because turns are no good here.
pub fn forsake(thread: &mut Thread) {
    leave(thread);
    give_up(clock::cycles());
}
