//! What was broken once; the cases of `c/regression.c`, named after it.

#![cfg(not(loom))]

mod common;
use common::{Reads, Run};

fn case(name: &str) -> Run {
    Run::new("regression", Reads::Inline, name)
}

const CHAOS: &str = "7,0.3";

#[test]
fn private_undo_after_version_wrap() {
    case("private_undo_after_version_wrap")
        .env("AME_CHAOS", CHAOS)
        .env("AME_MAX_VERSION", 8)
        .ok();
}

#[test]
fn private_undo_in_freed_memory() {
    case("private_undo_in_freed_memory")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn freed_fresh_memory_is_not_ours() {
    case("freed_fresh_memory_is_not_ours").ok();
}

#[test]
fn spare_blocks() {
    case("spare_blocks").ok();
}

#[test]
fn empty_range() {
    case("empty_range").ok();
}

#[test]
fn hot_counts() {
    case("hot_counts").ok();
}

#[test]
fn hot_counts_of_the_dead() {
    case("hot_counts_of_the_dead").ok();
}

#[test]
fn fork_alone_uses_no_window() {
    case("fork_alone_uses_no_window").ok();
}

#[test]
fn nested_boundaries() {
    case("nested_boundaries").ok();
}

#[test]
fn boundary_depth_survives_rollback() {
    case("boundary_depth_survives_rollback")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn deltas_before_exclusive() {
    case("deltas_before_exclusive").ok();
}

#[test]
fn counts_in_opposite_orders() {
    case("counts_in_opposite_orders").ok();
}

#[test]
fn deltas_beside_a_write() {
    case("deltas_beside_a_write").ok();
}

#[test]
fn read_of_own_lock_after_half_a_poke() {
    case("read_of_own_lock_after_half_a_poke").limit(10).ok();
}

#[test]
fn write_of_own_lock_after_late_poke() {
    case("write_of_own_lock_after_late_poke").limit(10).ok();
}

#[test]
fn foreign_write_above_the_frames() {
    case("foreign_write_above_the_frames").ok();
}

#[test]
fn foreign_stack_writes_do_not_pile_up() {
    case("foreign_stack_writes_do_not_pile_up").ok();
}

#[test]
fn stack_write_beside_a_rollback() {
    case("stack_write_beside_a_rollback")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn stack_write_beside_a_rollback_in_turns() {
    case("stack_write_beside_a_rollback")
        .env("AME_CHAOS", CHAOS)
        .env("AME_TURN", "20,always")
        .ok();
}

#[test]
fn exclusive_write_to_a_waiting_stack() {
    case("exclusive_write_to_a_waiting_stack")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn exclusive_write_to_saved_memory() {
    case("exclusive_write_to_saved_memory")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn errno_survives_a_wait() {
    case("errno_survives_a_wait").ok();
}

#[test]
fn later_slot_is_not_starved() {
    case("later_slot_is_not_starved").ok();
}

#[test]
fn token_is_not_hogged() {
    case("token_is_not_hogged").ok();
}

#[test]
fn token_is_not_hogged_by_exclusive_transactions() {
    case("token_is_not_hogged").arg("exclusive").ok();
}

#[test]
fn per_thread_in_key_destructors() {
    case("per_thread_in_key_destructors").ok();
}

#[test]
fn before_release_of_what_stays() {
    case("before_release_of_what_stays")
        .env("AME_CHAOS", CHAOS)
        .ok();
}

#[test]
fn fresh_until_commit() {
    case("fresh_until_commit").ok();
}

#[test]
fn inevitable_before_the_stack_is_restored() {
    case("inevitable_before_the_stack_is_restored")
        .limit(10)
        .ok();
}

#[test]
fn token_of_a_transaction_that_is_rolled_back() {
    case("token_of_a_transaction_that_is_rolled_back")
        .limit(10)
        .ok();
}
