//! Measures one conflict from the first look to its end, for statistics and the trace.

use crate::protocol::{Doomed, Me, Want};
use crate::thread::Thread;
use crate::{clock, trace};
use ame_abi::trace::outcome;

pub struct Conflict {
    me: Me,
    other: u32,
    want: Want,
    other_pc: u64,
    started: u64,
    outcome: u8,
}

impl Conflict {
    pub fn new(me: Me, other: u32, want: Want) -> Self {
        Conflict {
            me,
            other,
            want,
            // Looked up now: after the wait the other has moved on.
            other_pc: if trace::enabled() {
                trace::last_access(other, want.address)
            } else {
                0
            },
            started: clock::cycles(),
            outcome: outcome::WAITED,
        }
    }

    pub fn wounded(&mut self) {
        self.outcome = outcome::WOUNDED;
    }

    pub fn end(self, result: &Result<(), Doomed>) {
        let lost = clock::cycles() - self.started;
        // SAFETY: the thread's own state; only counters are touched.
        let thread = unsafe { &mut *Thread::current() };
        thread.stats.waits.add(1);
        thread.stats.ns_waiting.add(lost);
        thread.waited += lost;
        if trace::enabled() {
            let outcome = match result {
                Ok(()) => self.outcome,
                Err(Doomed) => outcome::ABORTED,
            };
            trace::conflict(
                self.me.slot,
                self.other,
                &self.want,
                self.other_pc,
                outcome,
                lost,
            );
        }
    }
}
