//! Counters, `struct ame_stats` of `ame.h`. Written by their own thread, read by any.

use crate::thread::{for_each, Thread};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

/// A counter with one writer: an increment is a plain load and store.
#[derive(Default)]
#[repr(transparent)]
pub struct Count(AtomicU64);

impl Count {
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }
    pub fn max(&self, n: u64) {
        if n > self.get() {
            self.0.store(n, Ordering::Relaxed);
        }
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Layout of `struct ame_stats`; times in cycles of the time stamp counter until exported.
#[derive(Default)]
#[repr(C)]
pub struct Stats {
    pub begins: Count,
    pub commits: Count,
    pub aborts_conflict: Count,
    pub aborts_chaos: Count,
    pub retries: Count,
    pub inevitable: Count,
    pub exclusive: Count,
    pub waits: Count,
    pub reads_first: Count,
    pub writes_first: Count,
    pub ns_aborted: Count,
    pub ns_waiting: Count,
    pub log_bytes_max: Count,
}

impl Stats {
    fn counts(&self) -> [&Count; 13] {
        [
            &self.begins,
            &self.commits,
            &self.aborts_conflict,
            &self.aborts_chaos,
            &self.retries,
            &self.inevitable,
            &self.exclusive,
            &self.waits,
            &self.reads_first,
            &self.writes_first,
            &self.ns_aborted,
            &self.ns_waiting,
            &self.log_bytes_max,
        ]
    }

    fn accumulate(&self, other: &Stats) {
        for (mine, theirs) in self.counts().into_iter().zip(other.counts()) {
            if std::ptr::eq(mine, &self.log_bytes_max) {
                mine.max(theirs.get());
            } else {
                mine.add(theirs.get());
            }
        }
    }

    /// The same with times in nanoseconds.
    fn exported(&self) -> Stats {
        let out = Stats::default();
        out.accumulate(self);
        for time in [&out.ns_aborted, &out.ns_waiting] {
            time.0
                .store(crate::clock::nanoseconds(time.get()), Ordering::Relaxed);
        }
        out
    }
}

/// Sums of threads that have ended. The lock orders writers, so [`Count`]'s rule holds.
static ENDED: Mutex<Option<Stats>> = Mutex::new(None);

pub fn retire(stats: &Stats) {
    let mut ended = ENDED.lock().unwrap_or_else(|e| e.into_inner());
    ended.get_or_insert_default().accumulate(stats);
}

pub fn total() -> Stats {
    let sum = Stats::default();
    if let Some(ended) = &*ENDED.lock().unwrap_or_else(|e| e.into_inner()) {
        sum.accumulate(ended);
    }
    for_each(|thread| sum.accumulate(&thread.stats));
    sum.exported()
}

pub fn of_thread(thread: &Thread) -> Stats {
    thread.stats.exported()
}

/// `struct ame_host_thread` of `ame_rt.h`.
#[repr(C)]
pub struct OfThread {
    os_id: u64,
    stats: Stats,
}

/// Of all threads that have not ended.
pub fn of_threads() -> Vec<OfThread> {
    let mut all = Vec::new();
    for_each(|thread| {
        all.push(OfThread {
            os_id: thread.os_id as u64,
            stats: thread.stats.exported(),
        });
    });
    all
}

pub fn print_totals() {
    let s = total();
    eprintln!(
        "ame: {} commits, {} aborts ({} conflict, {} chaos, {} retry), {} inevitable, {} exclusive, \
         {} waits ({:.3} ms), {:.3} ms aborted, first touches: {} reads, {} writes, largest undo \
         log {} bytes, {} turns",
        s.commits.get(),
        s.aborts_conflict.get() + s.aborts_chaos.get() + s.retries.get(),
        s.aborts_conflict.get(),
        s.aborts_chaos.get(),
        s.retries.get(),
        s.inevitable.get(),
        s.exclusive.get(),
        s.waits.get(),
        s.ns_waiting.get() as f64 / 1e6,
        s.ns_aborted.get() as f64 / 1e6,
        s.reads_first.get(),
        s.writes_first.get(),
        s.log_bytes_max.get(),
        crate::turns::total(),
    );
    // A copy: its lock comes after that of the threads, which are asked.
    let domains = crate::domain::all().clone();
    for domain in domains {
        domain.print();
    }
}
