//! The gate: who may start transactions.
//!
//! | word | meaning |
//! | --- | --- |
//! | 0 | everybody |
//! | s | the exclusive transaction in slot s - 1 runs, or waits until it is alone |
//! | `CLOSING` + s | the thread in slot s - 1 wants a turn, and waits for running transactions to end |
//! | `TURN` + s | its turn: no other transaction runs, and it alone may start some, one after another |
//! | `BREAKING` + s | the thread in slot s - 1 ends somebody's turn, and waits for its transaction to end |
//!
//! In its turn a thread has nobody to agree with: it reads without marks and locks without atomic
//! instructions. That holds until the gate has another word *and* its transaction is over. A turn, unlike
//! exclusive mode, can be taken away between two transactions, and those can be rolled back.
//!
//! Everybody who starts publishes its state and then looks at the gate; everybody who closes the gate
//! stores its word and then looks at the states. [`heavy_fence`] orders the second, so the first
//! needs no fence of the processor.

use crate::peer::*;
use crate::primitive::*;
use crate::protocol::{ask_for_commits, park, wake_waiters, wound, Me, PARK_NS, SPINS};
use crate::tables::*;

pub const CLOSING: u32 = 1 << 29;
pub const BREAKING: u32 = 1 << 30;
pub const TURN: u32 = 1 << 31;

fn word(me: Me, what: u32) -> u32 {
    what | (me.slot + 1)
}

/// Whose turn it is.
pub fn turn() -> Option<u32> {
    let word = gate().load(Ordering::Acquire);
    (word & TURN != 0).then(|| (word & !TURN) - 1)
}

/// Whose exclusive transaction keeps the gate closed with this word, if that is why.
pub fn exclusive(word: u32) -> Option<u32> {
    match word & (CLOSING | BREAKING | TURN) {
        0 => word.checked_sub(1),
        _ => None,
    }
}

/// Publishes the start of a transaction, which runs alone if it is this thread's turn and it says so.
/// False when the gate is closed: then nothing has started.
#[inline(always)]
pub fn start(me: Me, age: u64, alone: bool) -> bool {
    let mine = peer(me.slot);
    mine.age.store(age, Ordering::Relaxed);
    let active = state_of(me.since, ACTIVE);
    mine.state.store(active, Ordering::Release);
    // Loaded after the store: `participate` fences between its count and any lock.
    light_fence();
    if !alone
        && mine.unfenced.load(Ordering::Relaxed) != 0
        && participants().load(Ordering::Acquire) > 1
    {
        // Writers that saw us idle did not ask for a fence (`handshake`).
        fence(Ordering::SeqCst);
    }
    // Pairs with the heavy fence of who closes it: either we see the gate, or it sees our state.
    light_fence();
    let gate = gate().load(Ordering::Acquire);
    let open = match alone {
        true => gate == word(me, TURN),
        false => gate == 0 || gate == word(me, 0),
    };
    if !open {
        give_way(me);
    }
    open
}

#[cold]
#[inline(never)]
fn give_way(me: Me) {
    peer(me.slot).state.store(me.at_rest(), Ordering::Release);
    wake_waiters(me);
}

/// Sleeps while the gate has this word, or a while.
#[cold]
pub fn await_change(held: u32) {
    for _ in 0..SPINS {
        if gate().load(Ordering::Acquire) != held {
            return;
        }
        spin();
    }
    futex_wait(gate(), held, PARK_NS);
}

/// How much longer a gate that closes spins for threads that have been asked to commit, and how often it
/// sleeps then, for 5 ms, before it wounds them: they may be in a long call, or without a processor, and what they
/// have done may be many times as much as the wait. (The list of 100,000 objects of pyperformance's float dies in one
/// call of 70 ms; wounded after 15 ms, it died two or three times.)
const POLITE: u32 = 50;
const POLITE_SLEEPS: u32 = 20;

/// Closes the gate and waits until no other transaction runs. The caller is inevitable, so at most
/// one thread is here. `grace` steps are given to the others before they are wounded.
pub fn close(me: Me, grace: u32) {
    // The word may be that of a turn: none has begun, because we run. Whoever wants it, or wants to
    // end it, finds out.
    gate().swap(word(me, 0), Ordering::SeqCst);
    // Pairs with the light fence in `start`.
    heavy_fence();
    // Who can be asked to commit gets time to do it.
    let (grace, spins) = match ask_for_commits() {
        true => {
            let spins = SPINS.saturating_mul(POLITE);
            (spins.saturating_add(POLITE_SLEEPS), spins)
        }
        false => (grace, SPINS),
    };
    for slot in 0..peer_count().load(Ordering::SeqCst) {
        if slot != me.slot {
            await_idle(me, slot, grace, spins);
        }
    }
}

/// Waits until `slot` is in no transaction; wounds it after `grace` steps, sleeps after `spins`.
fn await_idle(me: Me, slot: u32, grace: u32, spins: u32) {
    let mut step = 0;
    loop {
        let state = peer(slot).state.load(Ordering::Acquire);
        if is_at_rest(state) {
            return;
        }
        step += 1;
        // Who waits for us does not end before us.
        let waits_for_us = peer(slot).waiting_for.load(Ordering::Relaxed) == me.slot + 1;
        if step > grace || waits_for_us {
            #[cfg(not(loom))]
            if step == grace + 1 || waits_for_us {
                crate::report::wounds_for_exclusive(me, slot, version(state));
            }
            wound(me, slot, state);
        }
        if step < spins {
            spin();
        } else {
            park(me, slot, &|| {
                !is_at_rest(peer(slot).state.load(Ordering::Acquire))
            });
        }
    }
}

/// Opens the gate after [`close`].
pub fn open() {
    gate().store(0, Ordering::Release);
    futex_wake(gate());
}

/// Changes the gate's word, if it is still this one.
fn exchange(from: u32, to: u32) -> bool {
    gate()
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
        .is_ok()
}

/// Begins a turn of the caller, who is in no transaction. Gives up when the gate is closed, or when a
/// transaction runs for longer than `patient` says.
pub fn take_turn(me: Me, mut patient: impl FnMut() -> bool) -> bool {
    let closing = word(me, CLOSING);
    if !exchange(0, closing) {
        return false;
    }
    // Pairs with the light fence in `start`.
    heavy_fence();
    for slot in 0..peer_count().load(Ordering::SeqCst) {
        while slot != me.slot && !is_at_rest(peer(slot).state.load(Ordering::Acquire)) {
            if gate().load(Ordering::Relaxed) != closing {
                return false;
            }
            if !patient() {
                if exchange(closing, 0) {
                    futex_wake(gate());
                }
                return false;
            }
            spin();
        }
    }
    // Acquire by the loads above: what those transactions wrote.
    exchange(closing, word(me, TURN))
}

/// Gives the caller's turn to another thread, which waits for one. The caller is in no transaction.
pub fn pass_turn(me: Me, slot: u32) -> bool {
    exchange(word(me, TURN), TURN | (slot + 1))
}

/// Ends the caller's turn, if it has one. The caller is in no transaction.
pub fn end_turn(me: Me) {
    if exchange(word(me, TURN), 0) {
        futex_wake(gate());
    }
}

/// Steps until a thread whose turn has been ended is wounded.
#[cfg(not(loom))]
const BREAK_GRACE: u32 = SPINS * 20;
#[cfg(loom)]
const BREAK_GRACE: u32 = 1;

/// Ends the turn of another thread. The caller is in no transaction.
pub fn break_turn(me: Me, holder: u32) -> bool {
    let breaking = word(me, BREAKING);
    if !exchange(TURN | (holder + 1), breaking) {
        return false;
    }
    // Pairs with the light fence in `start`.
    heavy_fence();
    await_idle(me, holder, BREAK_GRACE, BREAK_GRACE);
    if exchange(breaking, 0) {
        futex_wake(gate());
    }
    true
}
