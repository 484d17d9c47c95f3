//! Litmus programs (`c/litmus.c`) on the machine code that ships: with reads marked inline and in
//! the stub, with rollbacks at random, with leases, in turns, and with versions that wrap after every third transaction.

#![cfg(not(loom))]

mod common;
use common::{Reads, Run};

fn run(case: &str) {
    for reads in [Reads::Inline, Reads::Called] {
        Run::new("litmus", reads, case).arg(1).ok();
    }
    Run::new("litmus", Reads::Inline, case)
        .arg(0.5)
        .env("AME_MAX_VERSION", 8)
        .ok();
    for (seed, reads) in [(3, Reads::Inline), (4, Reads::Called)] {
        Run::new("litmus", reads, case)
            .arg(0.5)
            .env("AME_CHAOS", format!("{seed},0.002"))
            .env("AME_MAX_VERSION", 8)
            .ok();
    }
    for (seconds, chaos, reads) in [(0.5, "5,0", Reads::Called), (0.3, "6,0.002", Reads::Inline)] {
        Run::new("litmus", reads, case)
            .arg(seconds)
            .env("AME_LEASES", 1)
            .env("AME_CHAOS", chaos)
            .ok();
    }
    Run::new("litmus", Reads::Inline, case)
        .arg(0.3)
        .env("AME_STAMP", 0)
        .ok();
    Run::new("litmus", Reads::Inline, case)
        .arg(0.3)
        .env("AME_TURN", "20,always")
        .ok();
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident)*) => { $($(#[$doc])* #[test] fn $name() { run(stringify!($name)); })* };
}

cases! {
    /// Millions of pairs of transactions, each writing one word and reading the other's.
    store_buffering
    /// No code, doomed or not, ever sees half of a transaction.
    zombie
    /// Two granules side by side, one of which was marked alone.
    neighbours
    /// Single reads, sequential ones that stamp ahead, and ranges, against a writer.
    unfenced_reader
    privatisation
    publication
    write_skew
    upgrade
    opposite_orders
    /// Writes to the own stack and to those of others, with rollbacks on both sides.
    stacks
    /// Begin and commit in different frames, up and down the stack, and in recursion.
    frames
}
