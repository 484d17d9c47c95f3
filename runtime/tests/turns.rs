//! Turns and writes in steps (`c/turns.c`).

#![cfg(not(loom))]

mod common;
use common::{Reads, Run};

fn case(name: &str) -> Run {
    Run::new("turns", Reads::Inline, name)
}

#[test]
fn nobody_waits_for_the_turn_of_a_sleeper() {
    case("turn_of_a_sleeper").ok();
    case("turn_of_a_sleeper").env("AME_TURN", 0).ok();
}

#[test]
fn steps_beside_other_transactions() {
    case("steps_beside_others").ok();
    case("steps_beside_others")
        .env("AME_CHAOS", "1,0.01")
        .env("AME_MAX_VERSION", 8)
        .ok();
}

#[test]
fn steps_hold_what_they_write_and_no_more() {
    case("exact_steps").ok();
}
