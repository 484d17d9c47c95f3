//! Limits and corners (`c/limits.c`): errors are clear, memory does not leak, everybody gets on.

#![cfg(not(loom))]

mod common;
use common::{Reads, Run};

fn case(name: &str) -> Run {
    Run::new("limits", Reads::Inline, name)
}

/// About one rollback in 50,000 slow paths: enough to end the loops that wait for one.
const RARE: &str = "1,0.00002";

#[test]
fn misuse_is_refused_with_a_message() {
    case("commit_without_begin").refused("ame_commit() without ame_begin()");
    case("commit_twice").refused("ame_commit() without ame_begin()");
    case("retry_outside").refused("ame_retry() outside a transaction");
    case("retry_inevitable").refused("inevitable transaction cannot be rolled back");
    case("thread_ends_inside").refused("a thread ended inside a transaction");
    case("bad_abi_version").refused("compile it again");
}

#[test]
fn more_threads_than_slots_are_refused() {
    case("too_many_threads").refused("more than 1000 threads");
}

#[test]
fn settings_are_checked() {
    for (name, value) in [
        ("AME_CHAOS", "1"),
        ("AME_CHAOS", "1,2"),
        ("AME_MAX_VERSION", "7"),
        ("AME_MAX_VERSION", "70000"),
        ("AME_STAMP", "-1"),
        ("AME_LOG", "/nonexistent/folder/trace"),
    ] {
        case("statistics").env(name, value).refused(name);
    }
}

#[test]
fn sixty_four_threads_on_two_cores() {
    case("many_threads").ok();
    case("many_threads").env("AME_MAX_VERSION", 8).ok();
}

#[test]
fn slots_are_reused() {
    case("slot_reuse").ok();
    case("slot_reuse").env("AME_MAX_VERSION", 8).ok();
}

#[test]
fn a_gigabyte_allocated_and_rolled_back_leaks_nothing() {
    case("gigabyte").env("AME_CHAOS", RARE).ok();
}

#[test]
fn blocks_of_all_sizes() {
    case("sizes").ok();
    case("sizes").env("AME_CHAOS", "1,0.05").ok();
}

#[test]
fn a_million_granules_written() {
    case("big_undo_log").env("AME_CHAOS", "1,0.0000002").ok();
}

#[test]
fn a_long_transaction_and_a_stream_of_short_ones_both_get_on() {
    case("long_against_short").ok();
}

#[test]
fn exclusive_transactions_and_many_others_both_get_on() {
    case("exclusive_against_many").ok();
}

#[test]
fn an_inevitable_transaction_is_never_rolled_back() {
    case("inevitable_stays").ok();
    case("inevitable_stays").env("AME_CHAOS", "9,0.05").ok();
}

#[test]
fn retry_wakes_up() {
    case("retry_wakes_up").ok();
}

#[test]
fn the_child_of_a_fork_works() {
    case("fork_beside_transactions").ok();
    case("fork_beside_transactions")
        .env("AME_CHAOS", "9,0.01")
        .ok();
}

#[test]
fn statistics_and_domains() {
    case("statistics").ok();
}

/// What an interpreter says of its program is added up, and is in the trace.
#[test]
fn an_interpreter_names_places_and_objects() {
    case("interpreter").ok();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("trace");
    case("interpreter").env("AME_LOG", path.display()).ok();
    let bytes = std::fs::read(&path).expect("the trace exists");
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"app.x\0g\0"), "no site");
    assert!(has(b"table\0word 2\0use another\0"), "no object");
}

/// The trace is written, whole, and counts what the program did; `ame report` reads it where it has
/// been built.
#[test]
fn trace_is_whole() {
    use ame_abi::trace::{kind, MAGIC};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("trace");
    case("many_threads").env("AME_LOG", path.display()).ok();
    let bytes = std::fs::read(&path).expect("the trace exists");
    assert_eq!(bytes[..8], MAGIC);
    let (mut at, mut commits, mut threads, mut modules) = (8, 0, 0, 0);
    while at < bytes.len() {
        let word = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
        let length = u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]) as usize;
        let payload = at + 4;
        match bytes[at] {
            kind::THREAD_END => {
                threads += 1;
                commits += word(payload + 10);
            }
            kind::MODULE => modules += 1,
            kind::PROCESS | kind::CONFLICT | kind::ABORT | kind::SLICE | kind::IRREVOCABLE => {}
            other => panic!("record of unknown kind {other} at byte {at}"),
        }
        at = payload + length;
    }
    assert_eq!(at, bytes.len(), "the last record is cut off");
    assert!(threads >= 65, "{threads} threads");
    assert!(modules >= 2, "{modules} modules");
    assert_eq!(commits, 64 * 2000);

    let ame = common::library_folder().join("ame");
    if !ame.exists() {
        println!(
            "{} has not been built: not read by ame report",
            ame.display()
        );
        return;
    }
    let report = std::process::Command::new(ame)
        .arg("report")
        .arg(&path)
        .output()
        .expect("ame runs");
    assert!(
        report.status.success(),
        "ame report: {}",
        String::from_utf8_lossy(&report.stderr)
    );
}
