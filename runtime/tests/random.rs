//! Seeded random transactions against a serial oracle (`c/random.c`): every recorded history must be
//! serialisable, and memory must be what its serial replay gives.

#![cfg(not(loom))]

mod common;
use common::{Reads, Run};

fn history(threads: u32, seed: u32, transactions: u32, reads: Reads) -> Run {
    Run::new("random", reads, "history")
        .arg(threads)
        .arg(seed)
        .arg(transactions)
}

#[test]
fn histories_are_serialisable() {
    for (i, threads) in [2, 3, 4, 8].into_iter().enumerate() {
        for reads in [Reads::Inline, Reads::Called] {
            history(threads, 1 + i as u32, 200_000, reads).ok();
        }
    }
}

#[test]
fn histories_are_serialisable_under_chaos() {
    for (seed, rate, transactions) in [(1, 0.001, 50_000), (2, 0.01, 50_000), (3, 0.1, 10_000)] {
        history(4, 10 + seed, transactions, Reads::Inline)
            .env("AME_CHAOS", format!("{seed},{rate}"))
            .ok();
    }
}

#[test]
fn histories_are_serialisable_in_turns() {
    for (seed, threads) in [(41, 2), (42, 3), (43, 4)] {
        history(threads, seed, 100_000, Reads::Inline)
            .env("AME_TURN", "20,always")
            .ok();
        history(threads, seed, 30_000, Reads::Called)
            .env("AME_TURN", "10,always")
            .env("AME_CHAOS", format!("{seed},0.02"))
            .ok();
    }
}

#[test]
fn histories_are_serialisable_with_leases() {
    for (i, threads) in [2, 3, 4, 8].into_iter().enumerate() {
        for reads in [Reads::Inline, Reads::Called] {
            history(threads, 51 + i as u32, 50_000, reads)
                .env("AME_LEASES", 1)
                .ok();
            history(threads, 61 + i as u32, 20_000, reads)
                .env("AME_LEASES", 1)
                .env("AME_MAX_VERSION", 40)
                .env("AME_CHAOS", "7,0.01")
                .ok();
        }
    }
    history(3, 71, 50_000, Reads::Inline)
        .env("AME_LEASES", 1)
        .env("AME_TURN", "20,always")
        .ok();
}

#[test]
fn histories_are_serialisable_when_versions_wrap() {
    history(3, 21, 100_000, Reads::Inline)
        .env("AME_MAX_VERSION", 8)
        .ok();
    history(4, 22, 50_000, Reads::Called)
        .env("AME_MAX_VERSION", 8)
        .env("AME_CHAOS", "5,0.01")
        .ok();
    history(2, 23, 100_000, Reads::Inline)
        .env("AME_MAX_VERSION", 11)
        .ok();
}

#[test]
fn histories_are_serialisable_with_a_trace() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    history(3, 31, 30_000, Reads::Inline)
        .env("AME_LOG", folder.path().join("trace").display())
        .ok();
}
