//! Measures one conflict from the first look to its end, for statistics, the trace and the host.

use crate::host::{self, About};
use crate::protocol::{Doomed, Me, Want};
use crate::thread::Thread;
use crate::{clock, trace};
use ame_abi::trace::{access, outcome};

pub struct Conflict {
    me: Me,
    other: u32,
    want: Want,
    started: u64,
    outcome: u8,
    /// The other's barrier, looked up at the start: after the wait it has moved on.
    other_pc: u64,
    /// At the start, or where the other is wounded.
    about: Option<About>,
}

impl Conflict {
    pub fn new(me: Me, other: u32, want: Want) -> Self {
        let (other_pc, about) = match trace::recording() {
            true => sides(other, &want),
            false => (0, None),
        };
        Conflict {
            me,
            other,
            want,
            started: clock::cycles(),
            outcome: outcome::WAITED,
            other_pc,
            about,
        }
    }

    /// Before the other's transaction with this version is wounded: its rollback is put down to this.
    #[inline(always)]
    pub fn wounds(&mut self, ver: u16) {
        if trace::recording() || host::known() {
            self.note(ver);
        }
    }

    #[cold]
    fn note(&mut self, ver: u16) {
        let (other, want) = (self.other, &self.want);
        let about = *self
            .about
            .get_or_insert_with(|| host::about(want, other, 0));
        trace::note_wound(other, ver, about);
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
        if trace::recording() {
            let outcome = match result {
                Ok(()) => self.outcome,
                Err(Doomed) => outcome::ABORTED,
            };
            trace::conflict(
                self.me.slot,
                self.other,
                &self.want,
                (self.other_pc, outcome, lost),
                self.about.unwrap_or_default(),
            );
        } else if host::known() {
            host::sample(thread, lost, || host::about(&self.want, self.other, 0));
        }
    }
}

#[cold]
fn sides(other: u32, want: &Want) -> (u64, Option<About>) {
    let (pc, site) = trace::last_access(other, want);
    (pc, Some(host::about(want, other, site)))
}

/// Before the calling thread wounds a transaction of `other` because it wants to run alone.
#[cold]
pub fn wounds_for_exclusive(me: Me, other: u32, ver: u16) {
    if trace::recording() || host::known() {
        // What is in the way is this thread's own reason.
        let about = host::about(&exclusively(0), me.slot, 0);
        trace::note_wound(other, ver, about);
    }
}

fn exclusively(pc: u64) -> Want {
    Want {
        access: access::EXCLUSIVE,
        address: 0,
        pc,
    }
}

/// The calling thread has waited since `started` because `other` runs exclusively, or until the others
/// had let it (then that is itself).
#[cold]
pub fn exclusive(me: Me, other: u32, pc: u64, started: u64) {
    let mut conflict = Conflict::new(me, other, exclusively(pc));
    conflict.started = started;
    conflict.end(&Ok(()));
}
