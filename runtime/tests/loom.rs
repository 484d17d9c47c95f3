//! The lock protocol under the model checker: `src/protocol.rs`, `src/gate.rs`, `src/handoff.rs` and
//! `src/sharing.rs`, as they ship, in every interleaving
//! (with a bound on preemptions) and with every reordering that its orderings allow.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p ame-rt --test loom
//!
//! Data are [`UnsafeCell`]s of loom, which reports any access that another one may race with: that is
//! invariant 1. Sleeping is a yield here: loom knows no futex.
//! `mutations.sh` breaks the protocol on purpose and checks that these models notice.

#![cfg(loom)]

use ame_rt::gate;
use ame_rt::handoff::Lock;
use ame_rt::lease;
use ame_rt::peer::*;
use ame_rt::primitive::Ordering;
use ame_rt::protocol::{self, Doomed, Me, Want};
use ame_rt::sharing;
use ame_rt::tables;
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use std::sync::Arc;

struct Memory([UnsafeCell<i32>; 2]);
// SAFETY: loom checks every access.
unsafe impl Sync for Memory {}
unsafe impl Send for Memory {}

impl Memory {
    fn new() -> Arc<Memory> {
        Arc::new(Memory([UnsafeCell::new(0), UnsafeCell::new(0)]))
    }
    fn get(&self, g: u32) -> i32 {
        // SAFETY: loom checks it.
        self.0[g as usize].with(|p| unsafe { *p })
    }
    fn set(&self, g: u32, value: i32) {
        // SAFETY: loom checks it.
        self.0[g as usize].with_mut(|p| unsafe { *p = value })
    }
}

fn want() -> Want {
    Want {
        access: 0,
        address: 0,
        pc: 0,
    }
}

/// What the runtime does around the protocol: remembers locks, undoes, restarts.
struct Transaction<'a> {
    memory: &'a Memory,
    me: Me,
    held: [bool; 2],
    marked: [bool; 2],
    old: Vec<(u32, i32)>,
    unfenced: bool,
    exclusive: bool,
    /// What it acquires stays with the thread.
    keeps: bool,
}

impl Transaction<'_> {
    fn read(&mut self, g: u32) -> Result<i32, Doomed> {
        if self.unfenced && peer(self.me.slot).unfenced.load(Ordering::Relaxed) == 0 {
            self.unfenced = false;
        }
        let i = g as usize;
        if !self.held[i] && !self.marked[i] && !self.exclusive {
            if self.unfenced {
                protocol::read_unfenced(self.me, g, want)?;
            } else {
                protocol::read(self.me, g, want)?;
            }
            self.marked[i] = true;
        }
        Ok(self.memory.get(g))
    }

    fn write(&mut self, g: u32, value: i32) -> Result<(), Doomed> {
        let i = g as usize;
        if !self.held[i] && self.keeps && self.me.has_lock(g) {
            self.held[i] = true;
            self.old.push((g, self.memory.get(g)));
        }
        if !self.held[i] && !self.exclusive {
            protocol::lock_for_write(self.me, g, want)?;
            self.held[i] = true;
            if self.keeps {
                assert!(peer(self.me.slot).leases.note(g));
            }
            protocol::expel_readers(self.me, g, want)?;
            tables::mark(self.me.slot, g).store(self.me.ver + 1, Ordering::Relaxed);
            self.old.push((g, self.memory.get(g)));
        }
        self.memory.set(g, value);
        Ok(())
    }

    /// Writes both granules as a loop does.
    fn write_both(&mut self, value: i32) -> Result<(), Doomed> {
        let got = protocol::lock_together(self.me, &[0, 1]);
        for g in (0..2).filter(|g| got >> g & 1 != 0) {
            self.held[g as usize] = true;
        }
        for g in (0..2).filter(|g| got >> g & 1 != 0) {
            protocol::expel_readers(self.me, g, want)?;
            tables::mark(self.me.slot, g).store(self.me.ver + 1, Ordering::Relaxed);
            self.old.push((g, self.memory.get(g)));
        }
        self.write(0, value)?;
        self.write(1, value)
    }

    /// What instrumented code does between accesses.
    fn poll(&mut self) -> Result<(), Doomed> {
        if protocol::answer_fence(self.me) {
            self.unfenced = false;
        }
        if self.me.doomed() {
            return Err(Doomed);
        }
        Ok(())
    }

    fn inevitable(&mut self) -> Result<(), Doomed> {
        protocol::become_inevitable(self.me, want())
    }
}

/// Use of tables by address: the model has no peer table of its own.
fn peer(slot: u32) -> &'static Peer {
    tables::peer(slot)
}

/// Runs `body` as a transaction of `slot` until it commits; returns how often it was rolled back.
fn atomic(
    memory: &Memory,
    slot: u32,
    age: u64,
    unfenced: bool,
    body: impl Fn(&mut Transaction) -> Result<(), Doomed>,
) -> usize {
    let mut rollbacks = 0;
    let first = match version(peer(slot).state.load(Ordering::Relaxed)) {
        0 => 2,
        ver => ver,
    };
    for ver in (first..).step_by(2) {
        let me = Me::new(slot, ver);
        while !gate::start(me, age, false) {
            let word = tables::gate().load(Ordering::Relaxed);
            if word != 0 {
                gate::await_change(word);
            }
        }
        let mut t = Transaction {
            memory,
            me,
            held: [false; 2],
            marked: [false; 2],
            old: Vec::new(),
            unfenced,
            exclusive: false,
            keeps: false,
        };
        let result = body(&mut t);
        let state = status(peer(slot).state.load(Ordering::Relaxed));
        if result.is_err() {
            // Invariant 6.
            assert_ne!(
                state, INEVITABLE,
                "an inevitable transaction is rolled back"
            );
            for &(g, value) in t.old.iter().rev() {
                memory.set(g, value);
            }
        } else if state == INEVITABLE {
            protocol::release_token();
        }
        for g in 0..2 {
            if t.held[g as usize] {
                protocol::unlock(g);
            }
        }
        protocol::finish(me, ver + 2);
        if t.exclusive {
            gate::open();
        }
        if result.is_ok() {
            return rollbacks;
        }
        rollbacks += 1;
        // The back-off: without one, it could take the same locks again for ever before the older
        // transaction gets its turn.
        thread::yield_now();
    }
    unreachable!()
}

/// Runs `body` so often as a transaction of `slot`, each of which has what the ones before have acquired.
fn atomic_keeping(
    memory: &Memory,
    slot: u32,
    age: u64,
    times: usize,
    body: impl Fn(&mut Transaction, usize) -> Result<(), Doomed>,
) {
    let mut me = Me::new(slot, 2);
    let mut done = 0;
    while done < times {
        loop {
            if me.keeps() && !lease::hold(me) {
                me.since = me.ver;
            }
            if gate::start(me, age, false) {
                break;
            }
            gate::await_change(tables::gate().load(Ordering::Relaxed));
        }
        let kept = |g| me.keeps() && tables::mark(slot, g).load(Ordering::Relaxed) >= me.since;
        let mut t = Transaction {
            memory,
            me,
            held: [false; 2],
            marked: [kept(0), kept(1)],
            old: Vec::new(),
            unfenced: false,
            exclusive: false,
            keeps: true,
        };
        let result = body(&mut t, done);
        let wanted = peer(slot).wanted.swap(0, Ordering::Relaxed) != 0;
        if result.is_ok() {
            done += 1;
        } else {
            for &(g, value) in t.old.iter().rev() {
                memory.set(g, value);
            }
        }
        if result.is_ok() && !wanted {
            lease::finish(me);
            me.ver += 2;
        } else {
            lease::end(me);
            protocol::finish(me, me.ver + 2);
            me = Me::new(slot, me.ver + 2);
        }
        if result.is_err() {
            thread::yield_now();
        }
    }
    if me.keeps() {
        lease::end_at_rest(me);
    }
    assert_eq!(status(peer(slot).state.load(Ordering::Relaxed)), IDLE);
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(f);
}

/// Gives every thread of a model its slot before any of them starts.
fn slots(n: u32) {
    tables::peer_count().store(n, Ordering::SeqCst);
    tables::participants().store(n, Ordering::SeqCst);
}

/// Runs `theirs` in a thread of its own beside `mine`, on the same memory; when both have ended, returns
/// that and the result of `mine`.
fn beside<T: 'static, R>(
    theirs: impl FnOnce(&Memory) -> T + Send + 'static,
    mine: impl FnOnce(&Memory) -> R,
) -> (Arc<Memory>, R) {
    let memory = Memory::new();
    let shared = memory.clone();
    let other = thread::spawn(move || theirs(&shared));
    let result = mine(&memory);
    other.join().unwrap();
    (memory, result)
}

/// Before the threads of a model start: the thread in `slot` marks reads without fences.
fn unfenced(slot: u32) {
    protocol::go_unfenced(Me::new(slot, 2));
}

#[test]
fn read_against_write() {
    model(3, || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, 1, false, |t| t.write(0, 1)),
            |memory| {
                atomic(memory, 0, 2, false, |t| {
                    let first = t.read(0)?;
                    t.poll()?;
                    // Invariant 2: the mark is not released before the end.
                    assert_eq!(t.read(0)?, first);
                    Ok(())
                })
            },
        );
        assert_eq!(memory.get(0), 1);
    });
}

/// The marks of the first transaction count in the second.
fn kept_marks(keeper: u64, writer: u64) {
    model(3, move || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| {
                atomic(theirs, 1, writer, false, |t| {
                    t.write(0, 1)?;
                    t.write(1, 1)
                })
            },
            |memory| {
                atomic_keeping(memory, 0, keeper, 2, |t, _| {
                    let first = t.read(0)?;
                    t.poll()?;
                    assert_eq!(t.read(1)?, first, "a state that no serial order produces");
                    Ok(())
                })
            },
        );
        assert_eq!(memory.get(0), 1);
    });
}

#[test]
fn kept_marks_of_the_older() {
    kept_marks(1, 2);
}

#[test]
fn kept_marks_of_the_younger() {
    kept_marks(2, 1);
}

/// What only the second transaction has read is not that of the first.
#[test]
fn marks_beside_kept_ones() {
    model(3, || {
        slots(2);
        beside(
            move |theirs| atomic(theirs, 1, 1, false, |t| t.write(1, 1)),
            |memory| {
                atomic_keeping(memory, 0, 2, 2, |t, number| {
                    let first = t.read(number as u32)?;
                    t.poll()?;
                    assert_eq!(t.read(number as u32)?, first);
                    Ok(())
                })
            },
        );
    });
}

fn add_one(t: &mut Transaction) -> Result<(), Doomed> {
    let n = t.read(0)?;
    t.write(0, n + 1)
}

/// The lock of the first transaction is that of the second; or somebody else's, and then taken again.
fn kept_locks(keeper: u64, writer: u64) {
    model(3, move || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, writer, false, add_one),
            |memory| atomic_keeping(memory, 0, keeper, 2, |t, _| add_one(t)),
        );
        assert_eq!(memory.get(0), 3);
        assert_eq!(tables::lock(0).load(Ordering::Relaxed), 0);
    });
}

#[test]
fn kept_locks_of_the_older() {
    kept_locks(1, 2);
}

#[test]
fn kept_locks_of_the_younger() {
    kept_locks(2, 1);
}

/// Both keep what they have, and want it from each other.
#[test]
fn kept_locks_of_two() {
    model(2, || {
        slots(2);
        let twice =
            |memory: &Memory, slot, age| atomic_keeping(memory, slot, age, 2, |t, _| add_one(t));
        let (memory, _) = beside(
            move |theirs| twice(theirs, 1, 2),
            move |memory| twice(memory, 0, 1),
        );
        assert_eq!(memory.get(0), 4);
    });
}

/// What a thread keeps is no transaction that an exclusive one would wait for.
#[test]
fn kept_locks_beside_an_exclusive_transaction() {
    model(2, || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| {
                atomic(theirs, 1, 2, false, |t| {
                    t.inevitable()?;
                    gate::close(t.me, 0);
                    t.exclusive = true;
                    add_one(t)
                })
            },
            |memory| atomic_keeping(memory, 0, 1, 2, |t, _| add_one(t)),
        );
        assert_eq!(memory.get(0), 3);
    });
}

fn increments(older: u64, younger: u64) {
    model(3, move || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| {
                atomic(theirs, 1, younger, false, |t| {
                    t.write(0, 10)?;
                    t.write(0, 11)
                })
            },
            |memory| {
                atomic(memory, 0, older, false, |t| {
                    t.write(0, 20)?;
                    t.write(0, 21)
                })
            },
        );
        assert!([11, 21].contains(&memory.get(0)));
    });
}

#[test]
fn write_against_write() {
    increments(1, 2);
}

/// One locks both granules by plain stores, another one of them by an atomic instruction.
#[test]
fn together_against_one() {
    model(3, || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, 2, false, |t| t.write(0, 10)),
            |memory| atomic(memory, 0, 1, false, |t| t.write_both(20)),
        );
        assert!([10, 20].contains(&memory.get(0)));
        assert_eq!(memory.get(1), 20);
    });
}

#[test]
fn together_against_together() {
    model(3, || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, 2, false, |t| t.write_both(10)),
            |memory| atomic(memory, 0, 1, false, |t| t.write_both(20)),
        );
        assert_eq!(memory.get(0), memory.get(1));
    });
}

fn together_against_reader(reader_unfenced: bool) {
    model(3, move || {
        slots(2);
        if reader_unfenced {
            unfenced(1);
        }
        beside(
            move |theirs| {
                atomic(theirs, 1, 9, reader_unfenced, |t| {
                    let x = t.read(0)?;
                    t.poll()?;
                    let y = t.read(1)?;
                    assert_eq!(x, y, "a state that no serial order produces");
                    Ok(())
                })
            },
            |memory| atomic(memory, 0, 5, false, |t| t.write_both(1)),
        );
    });
}

#[test]
fn together_against_fenced_reader() {
    together_against_reader(false);
}

#[test]
fn together_against_unfenced_reader() {
    together_against_reader(true);
}

/// The reader's version starts over between two looks of a writer at its marks.
#[test]
fn wrap_between_looks() {
    model(3, || {
        slots(2);
        let memory = Memory::new();
        // The writer has seen the reader at a high version.
        let state = &peer(1).state;
        state.store(state_of(40, IDLE), Ordering::SeqCst);
        tables::mark(1, 1).store(40, Ordering::SeqCst);
        atomic(&memory, 0, 1, false, |t| t.write(1, 1));
        tables::mark(1, 1).store(0, Ordering::SeqCst);
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let me = Me::new(1, 40);
            protocol::wrap(me);
            protocol::finish(me, 2);
            atomic(&theirs, 1, 9, false, |t| {
                let first = t.read(0)?;
                t.poll()?;
                assert_eq!(t.read(0)?, first);
                Ok(())
            });
        });
        atomic(&memory, 0, 5, false, |t| t.write(0, 1));
        reader.join().unwrap();
    });
}

/// Both read, then both want to write: the younger must give way, and no update is lost.
#[test]
fn upgrade() {
    model(3, || {
        slots(2);
        let add = |t: &mut Transaction| {
            let value = t.read(0)?;
            t.write(0, value + 1)
        };
        let (memory, rollbacks) = beside(
            move |theirs| atomic(theirs, 1, 2, false, add),
            |memory| atomic(memory, 0, 1, false, add),
        );
        assert_eq!(memory.get(0), 2);
        assert_eq!(rollbacks, 0, "the oldest was rolled back");
    });
}

/// Locks in opposite orders: the older wounds the younger, the younger waits; no deadlock.
#[test]
fn wound_and_wait() {
    model(3, || {
        slots(2);
        let (memory, rollbacks) = beside(
            move |theirs| {
                atomic(theirs, 1, 2, false, |t| {
                    t.write(1, 2)?;
                    t.poll()?;
                    t.write(0, 2)
                })
            },
            |memory| {
                atomic(memory, 0, 1, false, |t| {
                    t.write(0, 1)?;
                    t.poll()?;
                    t.write(1, 1)
                })
            },
        );
        assert_eq!(memory.get(0), memory.get(1));
        assert_eq!(rollbacks, 0, "the oldest was rolled back");
    });
}

/// A reader never sees half of a write, also when it is going to be rolled back (invariant 4).
fn both_or_none(reader_age: u64, reader_unfenced: bool) {
    model(3, move || {
        slots(2);
        if reader_unfenced {
            unfenced(1);
        }
        beside(
            move |theirs| {
                atomic(theirs, 1, reader_age, reader_unfenced, |t| {
                    let x = t.read(0)?;
                    t.poll()?;
                    let y = t.read(1)?;
                    assert_eq!(x, y, "a state that no serial order produces");
                    Ok(())
                })
            },
            |memory| {
                atomic(memory, 0, 5, false, |t| {
                    t.write(0, 1)?;
                    t.poll()?;
                    t.write(1, 1)
                })
            },
        );
    });
}

#[test]
fn older_reader_sees_both_or_none() {
    both_or_none(1, false);
}

#[test]
fn younger_reader_sees_both_or_none() {
    both_or_none(9, false);
}

#[test]
fn older_unfenced_reader_sees_both_or_none() {
    both_or_none(1, true);
}

#[test]
fn younger_unfenced_reader_sees_both_or_none() {
    both_or_none(9, true);
}

/// A reader stops fencing while a writer, which still takes it for fenced, looks for marks.
#[test]
fn going_unfenced_against_write() {
    model(3, || {
        slots(2);
        beside(
            move |theirs| {
                atomic(theirs, 1, 1, false, |t| {
                    protocol::go_unfenced(t.me);
                    t.unfenced = true;
                    let x = t.read(0)?;
                    t.poll()?;
                    assert_eq!(t.read(0)?, x, "a writer did not see the mark");
                    Ok(())
                })
            },
            |memory| atomic(memory, 0, 5, false, |t| t.write(0, 1)),
        );
    });
}

fn skew(is_unfenced: bool) {
    model(3, move || {
        slots(2);
        if is_unfenced {
            unfenced(0);
            unfenced(1);
        }
        // Each may go down to -1 only while the sum stays above.
        let withdraw = |mine: u32| {
            move |t: &mut Transaction| {
                if t.read(0)? + t.read(1)? == 0 {
                    t.poll()?;
                    t.write(mine, -1)?;
                }
                Ok(())
            }
        };
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, 2, is_unfenced, withdraw(1)),
            |memory| atomic(memory, 0, 1, is_unfenced, withdraw(0)),
        );
        assert_eq!(memory.get(0) + memory.get(1), -1, "write skew");
    });
}

#[test]
fn write_skew() {
    skew(false);
}

#[test]
fn write_skew_unfenced() {
    skew(true);
}

/// An unfenced thread goes on to its next transaction while a writer asks it for a fence.
#[test]
fn handshake_across_transactions() {
    model(3, || {
        slots(2);
        unfenced(1);
        beside(
            move |theirs| {
                for _ in 0..2 {
                    atomic(theirs, 1, 1, true, |t| {
                        let first = t.read(0)?;
                        assert_eq!(t.read(0)?, first);
                        Ok(())
                    });
                }
            },
            |memory| atomic(memory, 0, 2, false, |t| t.write(0, 1)),
        );
    });
}

/// A third thread wounds the unfenced reader while a writer waits for its fence: the change of its
/// status is no answer.
#[test]
fn wound_is_no_answer() {
    model(3, || {
        slots(3);
        unfenced(1);
        let memory = Memory::new();
        let (readers, wounders) = (memory.clone(), memory.clone());
        let reader = thread::spawn(move || {
            // Once is enough: after the first rollback it stays away.
            let once = AtomicUsize::new(0);
            atomic(&readers, 1, 9, true, |t| {
                if once.fetch_add(1, Ordering::Relaxed) > 0 {
                    return Ok(());
                }
                t.read(0)?;
                t.poll()
            });
        });
        let wounder = thread::spawn(move || {
            let state = peer(1).state.load(Ordering::Acquire);
            protocol::wound(Me::new(2, 2), 1, state);
            drop(wounders);
        });
        atomic(&memory, 0, 2, false, |t| t.write(0, 1));
        reader.join().unwrap();
        wounder.join().unwrap();
    });
}

/// Commit against a waiter that falls asleep: it sees one of the two.
#[test]
fn commit_wakes_waiters() {
    model(3, || {
        slots(2);
        beside(
            move |theirs| atomic(theirs, 1, 2, false, |t| t.write(0, 2)),
            |memory| {
                atomic(memory, 0, 1, false, |t| {
                    t.write(0, 1)?;
                    thread::yield_now();
                    Ok(())
                })
            },
        );
    });
}

/// A transaction becomes inevitable while an older one wounds it: one of the two wins, and an
/// inevitable transaction is not rolled back.
#[test]
fn inevitable_against_wound() {
    model(3, || {
        slots(2);
        let (memory, _) = beside(
            move |theirs| {
                let effects = AtomicUsize::new(0);
                atomic(theirs, 1, 2, false, |t| {
                    t.write(0, 2)?;
                    t.inevitable()?;
                    effects.fetch_add(1, Ordering::Relaxed);
                    t.write(1, 2)
                });
                assert_eq!(effects.load(Ordering::Relaxed), 1);
            },
            |memory| {
                atomic(memory, 0, 1, false, |t| {
                    t.write(1, 1)?;
                    t.poll()?;
                    t.write(0, 1)
                })
            },
        );
        assert_eq!(memory.get(0), memory.get(1));
    });
}

/// Who is told that it has wounded a transaction can rely on its rollback.
#[test]
fn no_wound_is_lost() {
    model(3, || {
        slots(2);
        let memory = Memory::new();
        let wounder = thread::spawn(|| {
            let state = peer(1).state.load(Ordering::Acquire);
            protocol::wound(Me::new(0, 2), 1, state)
        });
        let rollbacks = atomic(&memory, 1, 2, false, |t| {
            t.inevitable()?;
            t.write(0, 2)
        });
        assert!(!wounder.join().unwrap() || rollbacks > 0);
    });
}

#[test]
fn inevitable_against_inevitable() {
    model(3, || {
        slots(2);
        let body = |mine: u32| {
            move |t: &mut Transaction| {
                t.read(mine)?;
                t.inevitable()?;
                t.write(0, mine as i32)?;
                t.write(1, mine as i32)
            }
        };
        let (memory, _) = beside(
            move |theirs| atomic(theirs, 1, 2, false, body(1)),
            |memory| atomic(memory, 0, 1, false, body(0)),
        );
        assert_eq!(memory.get(0), memory.get(1));
        assert_eq!(tables::token().load(Ordering::Relaxed), 0);
    });
}

/// An exclusive transaction accesses memory without locks while another starts.
fn exclusive(other_unfenced: bool) {
    model(3, move || {
        slots(2);
        if other_unfenced {
            unfenced(1);
        }
        let (memory, _) = beside(
            move |theirs| {
                atomic(theirs, 1, 1, other_unfenced, |t| {
                    let value = t.read(0)?;
                    t.poll()?;
                    t.write(0, value + 1)
                })
            },
            |memory| {
                atomic(memory, 0, 2, false, |t| {
                    t.inevitable()?;
                    gate::close(t.me, 1);
                    t.exclusive = true;
                    let value = t.read(0)?;
                    t.write(0, value + 1)
                })
            },
        );
        assert_eq!(memory.get(0), 2);
    });
}

#[test]
fn close_gate_against_start() {
    exclusive(false);
}

#[test]
fn close_gate_against_unfenced_start() {
    exclusive(true);
}

fn me(slot: u32, ver: u16) -> Me {
    Me::new(slot, ver)
}

/// One transaction in a turn: adds to both granules without looking at marks. False if it was not ours,
/// or it was wounded and has rolled back.
fn alone(memory: &Memory, slot: u32, ver: u16) -> bool {
    let me = me(slot, ver);
    if !gate::start(me, slot as u64, true) {
        return false;
    }
    let mut old = [0; 2];
    for g in 0..2 {
        protocol::lock_in_turn(me, g);
        old[g as usize] = memory.get(g);
        memory.set(g, old[g as usize] + 1);
    }
    let doomed = me.doomed();
    for g in 0..2 {
        if doomed {
            memory.set(g, old[g as usize]);
        }
        protocol::unlock(g);
    }
    protocol::finish(me, ver + 2);
    !doomed
}

/// Adds one to both granules, and sees them equal.
fn add_to_both(t: &mut Transaction) -> Result<(), Doomed> {
    let (a, b) = (t.read(0)?, t.read(1)?);
    t.poll()?;
    assert_eq!(a, b);
    t.write(0, a + 1)?;
    t.write(1, b + 1)
}

/// A thread takes a turn of two transactions while another starts an ordinary one.
fn turn_against(other_unfenced: bool) {
    model(3, move || {
        slots(2);
        if other_unfenced {
            unfenced(1);
        }
        let (memory, done) = beside(
            move |theirs| atomic(theirs, 1, 1, other_unfenced, add_to_both),
            |memory| {
                let mut done = 0;
                if gate::take_turn(me(0, 2), || true) {
                    done += alone(memory, 0, 2) as i32;
                    done += alone(memory, 0, 4) as i32;
                    gate::end_turn(me(0, 6));
                }
                done
            },
        );
        assert_eq!(memory.get(0), 1 + done);
    });
}

#[test]
fn turn_against_start() {
    turn_against(false);
}

#[test]
fn turn_against_unfenced_start() {
    turn_against(true);
}

/// A turn that is broken in any of its transactions, after which the other runs.
#[test]
fn broken_turn() {
    model(3, || {
        slots(2);
        assert!(gate::take_turn(me(0, 2), || true));
        let (memory, done) = beside(
            move |theirs| {
                if gate::turn() == Some(0) {
                    gate::break_turn(me(1, 2), 0);
                }
                atomic(theirs, 1, 1, false, add_to_both);
            },
            |memory| {
                let mut done = 0;
                done += alone(memory, 0, 2) as i32;
                done += alone(memory, 0, 4) as i32;
                gate::end_turn(me(0, 6));
                // Where the turn was broken, this cannot be a transaction of one.
                done += alone(memory, 0, 6) as i32;
                done
            },
        );
        assert_eq!(memory.get(0), 1 + done);
    });
}

/// A turn that is passed on: both run without marks, one after the other.
#[test]
fn passed_turn() {
    model(3, || {
        slots(2);
        assert!(gate::take_turn(me(0, 2), || true));
        let (memory, _) = beside(
            move |theirs| {
                while gate::turn() != Some(1) {
                    thread::yield_now();
                }
                assert!(alone(theirs, 1, 2));
                gate::end_turn(me(1, 4));
            },
            |memory| {
                assert!(alone(memory, 0, 2));
                assert!(gate::pass_turn(me(0, 4), 1));
                assert!(!alone(memory, 0, 4), "it has passed the turn on");
                atomic(memory, 0, 0, false, add_to_both);
            },
        );
        assert_eq!(memory.get(0), 3);
    });
}

/// A thread wants a turn while another wants to be exclusive.
#[test]
fn turn_against_close() {
    model(3, || {
        slots(2);
        let (memory, done) = beside(
            move |theirs| {
                atomic(theirs, 1, 1, false, |t| {
                    t.inevitable()?;
                    gate::close(t.me, 1);
                    t.exclusive = true;
                    let value = t.read(0)?;
                    t.write(0, value + 1)?;
                    t.write(1, value + 1)
                });
                // The gate has been open since.
                atomic(theirs, 1, 1, false, add_to_both);
            },
            |memory| {
                let mut done = 0;
                if gate::take_turn(me(0, 2), || true) {
                    done = alone(memory, 0, 2) as i32;
                    gate::end_turn(me(0, 4));
                }
                done
            },
        );
        assert_eq!(memory.get(0), 2 + done);
    });
}

/// Two threads take a lock, each twice; whether they lose patience at once, and whether they keep it with a bias.
fn handoff(impatient: [bool; 2], keeps: [bool; 2]) {
    model(3, move || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let work = move |i: u32, shared: &(Lock, Arc<Memory>)| {
            let (lock, me) = (&shared.0, i + 1);
            for _ in 0..2 {
                if !lock.enter(me, i) && !lock.try_acquire(me) {
                    lock.acquire(me, || impatient[i as usize], || true);
                }
                assert_eq!(lock.owner(), me);
                shared.1.set(0, shared.1.get(0) + 1);
                lock.release_or_keep(me, keeps[i as usize].then_some(i));
            }
            lock.give_bias_up(me);
        };
        let theirs = shared.clone();
        let other = thread::spawn(move || work(1, &theirs));
        work(0, &shared);
        other.join().unwrap();
        assert!(shared.0.is_free());
        assert_eq!(shared.1.get(0), 4);
    });
}

#[test]
fn handoff_of_the_patient() {
    handoff([false, false], [false, false]);
}

#[test]
fn handoff_to_an_heir() {
    handoff([false, true], [false, false]);
}

#[test]
fn handoff_between_heirs() {
    handoff([true, true], [false, false]);
}

/// A third thread comes by, and does not wait, while one of two is the heir.
#[test]
fn handoff_of_three() {
    model(2, || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let work = |me: u32, waits: bool, shared: &(Lock, Arc<Memory>)| {
            if !shared.0.try_acquire(me) {
                if !waits {
                    return 0;
                }
                shared.0.acquire(me, || true, || true);
            }
            shared.1.set(0, shared.1.get(0) + 1);
            shared.0.release(me);
            1
        };
        let others: Vec<_> = [(2, true), (3, false)]
            .map(|(me, waits)| {
                let theirs = shared.clone();
                thread::spawn(move || work(me, waits, &theirs))
            })
            .into();
        let mut done = work(1, true, &shared);
        for other in others {
            done += other.join().unwrap();
        }
        assert_eq!(shared.0.owner(), 0);
        assert_eq!(shared.1.get(0), done);
    });
}

/// By the owner of the lock, with number 1 and slot 0.
fn lend_twice(shared: &(Lock, Arc<Memory>), take: impl Fn()) {
    let (lock, memory) = shared;
    for _ in 0..2 {
        memory.set(0, memory.get(0) + 1);
        memory.set(1, 1);
        lock.lend(1, 0);
        // Nor does it lend it again, where it has lost it by now, or go on as the owner of what it has lent.
        assert!(!lock.has(1, 0));
        let has = lock.lent_by(1, 0) && lock.claim(1, 0);
        memory.set(1, 2);
        if !has {
            // It is lost once.
            assert!(!lock.lent_by(1, 0));
            take();
        }
        assert!(lock.owner() == 1 && !lock.lent_by(1, 0));
    }
}

/// One lends the lock and claims it back, twice; another, which may have a look at it first, takes it over.
#[test]
fn handoff_of_what_is_lent() {
    model(3, || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let add = |shared: &(Lock, Arc<Memory>)| shared.1.set(0, shared.1.get(0) + 1);
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            let (lock, mut looks) = (&theirs.0, 0);
            if !lock.try_acquire(2) {
                let may = || {
                    looks += 1;
                    // What the lender is doing: it changes that as soon as it has the lock again.
                    theirs.1.get(1) == 1 && looks > 1
                };
                lock.acquire(2, || false, may);
            }
            add(&theirs);
            lock.release(2);
        });
        let lock = &shared.0;
        let take = || {
            if !lock.try_acquire(1) {
                lock.acquire(1, || true, || true);
            }
        };
        take();
        lend_twice(&shared, take);
        add(&shared);
        lock.release(1);
        other.join().unwrap();
        assert_eq!(lock.owner(), 0);
        // What is free is not lent.
        assert!(!lock.take_over(3, || true));
        assert_eq!(shared.1.get(0), 4);
    });
}

#[test]
fn handoff_of_a_bias() {
    handoff([false, false], [true, false]);
}

#[test]
fn handoff_between_biases() {
    handoff([false, false], [true, true]);
}

/// The owner of a bias lends the lock and claims it back, twice; another takes the bias away meanwhile, and takes the
/// lock over where it may.
#[test]
fn handoff_of_a_bias_that_is_lent() {
    model(3, || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let add = |shared: &(Lock, Arc<Memory>)| shared.1.set(0, shared.1.get(0) + 1);
        let lock = &shared.0;
        assert!(lock.try_acquire(1));
        lock.release_or_keep(1, Some(0));
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            let lock = &theirs.0;
            if !lock.try_acquire(2) {
                lock.acquire(2, || false, || theirs.1.get(1) == 1);
            }
            add(&theirs);
            lock.release(2);
        });
        let take = || {
            if !lock.enter(1, 0) && !lock.try_acquire(1) {
                lock.acquire(1, || true, || true);
            }
        };
        take();
        lend_twice(&shared, take);
        add(&shared);
        lock.release_or_keep(1, Some(0));
        other.join().unwrap();
        assert_eq!(lock.owner(), 0);
        // What is free is not lent.
        assert!(!lock.take_over(3, || true));
        assert_eq!(shared.1.get(0), 4);
    });
}

/// The owner of a bias lends the lock and waits for another, which can only get it as a loan.
#[test]
fn handoff_of_a_bias_that_stays_lent() {
    model(3, || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let lock = &shared.0;
        assert!(lock.try_acquire(1));
        lock.release_or_keep(1, Some(0));
        assert!(lock.enter(1, 0));
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            theirs.0.acquire(2, || false, || true);
            theirs.1.set(0, theirs.1.get(0) + 1);
            theirs.0.release(2);
        });
        shared.1.set(0, shared.1.get(0) + 1);
        lock.lend(1, 0);
        other.join().unwrap();
        assert!(!lock.lent_by(1, 0) && !lock.claim(1, 0));
        assert!(lock.is_free());
        assert_eq!(shared.1.get(0), 2);
    });
}

/// One thread takes the lock over from the owner of a bias, which another takes away at the same time.
#[test]
fn handoff_of_a_bias_to_two() {
    model(3, || {
        let shared = Arc::new((Lock::new(), Memory::new()));
        let add = |shared: &(Lock, Arc<Memory>)| shared.1.set(0, shared.1.get(0) + 1);
        let lock = &shared.0;
        assert!(lock.try_acquire(1));
        lock.release_or_keep(1, Some(0));
        let done = move |me: u32, taken: bool, shared: &(Lock, Arc<Memory>)| {
            if taken {
                add(shared);
                shared.0.release(me);
            }
            usize::from(taken)
        };
        let (taker, other) = (shared.clone(), shared.clone());
        let taker = thread::spawn(move || done(2, taker.0.take_over(2, || true), &taker));
        let other = thread::spawn(move || done(3, other.0.try_acquire(3), &other));
        let mut sum = 0;
        if lock.enter(1, 0) {
            lock.lend(1, 0);
            sum += done(1, lock.claim(1, 0), &shared);
        }
        sum += taker.join().unwrap() + other.join().unwrap();
        assert_eq!(lock.owner(), 0);
        assert_eq!(shared.1.get(0), sum as i32);
    });
}

/// Each as it can: in shared mode a thread only touches its own cell, the holder both. One gives the lock back where
/// somebody is in the domain, the other waits.
fn shared(takes: [bool; 2]) {
    use ame_rt::primitive::AtomicU32;
    struct Shared {
        lock: Lock,
        members: [AtomicU32; 2],
        memory: Arc<Memory>,
    }
    const DOMAIN: u32 = 7;
    let hold = |me: usize, shared: &Shared| {
        if !shared.lock.try_acquire(me as u32 + 1) {
            shared.lock.acquire(me as u32 + 1, || false, || false);
        }
        sharing::close();
        while !sharing::is_empty(shared.members.iter(), DOMAIN) {
            thread::yield_now();
        }
        for g in 0..2 {
            shared.memory.set(g, shared.memory.get(g) + 1);
        }
        shared.lock.release(me as u32 + 1);
    };
    let join = |me: usize, shared: &Shared| {
        let joined = sharing::join(&shared.members[me], DOMAIN, &shared.lock);
        if joined {
            let g = me as u32;
            shared.memory.set(g, shared.memory.get(g) + 1);
            sharing::leave(&shared.members[me]);
        }
        joined
    };
    let work = move |me: usize, shared: &Shared| match takes[me] {
        true => hold(me, shared),
        // Twice: the second may see what the first left.
        false => {
            for _ in 0..2 {
                if !join(me, shared) {
                    hold(me, shared);
                }
            }
        }
    };
    model(3, move || {
        let shared = Arc::new(Shared {
            lock: Lock::new(),
            members: [AtomicU32::new(0), AtomicU32::new(0)],
            memory: Memory::new(),
        });
        let theirs = shared.clone();
        let other = thread::spawn(move || work(1, &theirs));
        work(0, &shared);
        other.join().unwrap();
        assert_eq!(shared.lock.owner(), 0);
    });
}

#[test]
fn shared_against_held() {
    shared([false, true]);
}

#[test]
fn shared_against_shared() {
    shared([false, false]);
}
