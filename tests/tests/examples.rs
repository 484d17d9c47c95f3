//! Every example compiles with `ame cc` and keeps its invariant, with few and many threads, and
//! when transactions are rolled back at random.

use ame_tests::{compile, root, Level, Run, Unit};

fn example(name: &str, second_argument: &str) {
    let unit = Unit {
        sources: vec![root().join(format!("examples/{name}.c"))],
        ..Unit::default()
    };
    for level in Level::ALL {
        let program = compile(name, &unit, level);
        for threads in [2, 8] {
            for chaos in [None, Some("1,0.01")] {
                let mut run = Run::new(&program).arg(threads).arg(second_argument);
                if let Some(chaos) = chaos {
                    run = run.env("AME_CHAOS", chaos);
                }
                let output = run.ok();
                assert!(
                    output.stdout.contains("invariant holds"),
                    "{name} {level:?} with {threads} threads, chaos {chaos:?}, printed: {}",
                    output.stdout
                );
            }
        }
    }
}

#[test]
fn bank() {
    example("bank", "0.2");
}

#[test]
fn hashmap() {
    example("hashmap", "0.2");
}

#[test]
fn rbtree() {
    example("rbtree", "0.2");
}

#[test]
fn lru() {
    example("lru", "0.2");
}

#[test]
fn journal() {
    example("journal", "500");
}

#[test]
fn audit() {
    example("audit", "0.2");
}

#[test]
fn bank_with_a_mutex_is_the_same_program() {
    let unit = Unit {
        sources: vec![root().join("examples/bank.c")],
        flags: vec!["-DUSE_MUTEX".into()],
        ..Unit::default()
    };
    let program = compile("bank-mutex", &unit, Level::O2);
    let output = Run::new(&program).arg(2).arg("0.2").ok();
    assert!(output.stdout.contains("one mutex"), "{}", output.stdout);
}
