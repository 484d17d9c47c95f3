//! The inline barriers keep their size.

mod common;

use common::assembly;

/// Instructions up to the branch, and what follows it.
fn fast_path(source: &str, function: &str) -> (usize, Vec<String>) {
    let code = assembly(source, "-O2", function);
    let branch = code
        .iter()
        .position(|l| l.starts_with("jb"))
        .expect("no check");
    let instructions = code[1..=branch]
        .iter()
        .filter(|l| !l.starts_with(['.', '#']) && !l.ends_with(':'))
        .count();
    (instructions, code[branch + 1..].to_vec())
}

#[test]
fn a_read_is_at_most_seven_instructions() {
    let (n, rest) = fast_path("long get(long *p) { return *p; }", "get");
    assert!(n <= 7, "{n} instructions");
    // The slow path comes after the return.
    let ret = rest.iter().position(|l| l == "retq").unwrap();
    let slow = rest
        .iter()
        .position(|l| l.contains("ame_read_slow"))
        .unwrap();
    assert!(ret < slow, "{rest:#?}");
}

#[test]
fn a_write_is_at_most_seven_instructions() {
    let (n, rest) = fast_path("void put(long *p, long v) { *p = v; }", "put");
    assert!(n <= 7, "{n} instructions");
    assert!(rest.iter().any(|l| l.contains("ame_write_slow")));
}
