//! The small programs of `c/`: each states one property in its first comment, and checks it itself.

use ame_tests::{compile, compile_plain, root, Level, Output, Run, Unit};
use std::collections::HashMap;
use std::ffi::OsString;

/// Runs a program at each optimisation level, with 2 and 8 threads, with and without chaos, and in turns.
fn litmus_with(name: &str, plain: &[&str], check: impl Fn(&Output)) {
    let c = root().join("tests/c");
    let unit = Unit {
        sources: vec![c.join(format!("{name}.c"))],
        plain_sources: plain.iter().map(|file| c.join(file)).collect(),
        ..Unit::default()
    };
    litmus_unit(name, &unit, check);
}

fn litmus_unit(name: &str, unit: &Unit, check: impl Fn(&Output)) {
    for level in Level::ALL {
        let program = compile(name, unit, level);
        for threads in [2, 8] {
            for chaos in [None, Some("1,0.01")] {
                let mut run = Run::new(&program).arg(threads);
                if let Some(chaos) = chaos {
                    run = run.env("AME_CHAOS", chaos);
                }
                check(&run.ok());
            }
        }
        let in_turns = Run::new(&program).arg(2).env("AME_TURN", "50,always");
        check(&in_turns.env("AME_CHAOS", "2,0.01").ok());
    }
}

fn says_ok(output: &Output) {
    assert!(output.stdout.starts_with("ok"), "{}", output.stdout);
}

fn litmus(name: &str) {
    litmus_with(name, &[], says_ok);
}

/// The same for a file that is not `NAME.c`, or needs flags.
fn litmus_file(name: &str, file: &str, flags: &[&str]) {
    let unit = Unit {
        sources: vec![root().join("tests/c").join(file)],
        flags: flags.iter().map(OsString::from).collect(),
        ..Unit::default()
    };
    litmus_unit(name, &unit, says_ok);
}

macro_rules! litmus_tests {
    ($($name:ident)*) => { $(#[test] fn $name() { litmus(stringify!($name)); })* };
}

litmus_tests! {
    actions allocation api atomics big_abort callbacks computed_goto constructors conversions counter counters
    deep_stack fork frames hot ifunc inevitable jump_out jumps language layouts locks made_code memory_functions nested
    new_threads privatisation progress publication realloc_chain recursion retry shared_stack signal_actions
    signal_waits signals sort_rollback
    thread_lives undo varargs write_skew zombie
}

#[test]
fn errno() {
    litmus_file("errno", "errno.c", &["-lm"]);
}

#[test]
fn exceptions() {
    litmus_file("exceptions", "exceptions.cc", &[]);
}

#[test]
fn operators() {
    litmus_file("operators", "operators.cc", &[]);
}

#[test]
fn foreign() {
    litmus_with("foreign", &["foreign_plain.c"], says_ok);
}

/// Lines are "N thread I", with N counting up over all threads.
#[test]
fn output_appears_once_and_in_commit_order() {
    litmus_with("output", &[], |output| {
        let mut lines_of: HashMap<&str, usize> = HashMap::new();
        for (expected, line) in output.stdout.lines().enumerate() {
            let mut words = line.split(" thread ");
            assert_eq!(
                words.next(),
                Some(expected.to_string().as_str()),
                "line {expected}: {line:?}"
            );
            *lines_of
                .entry(words.next().expect("a thread number"))
                .or_default() += 1;
        }
        assert!(
            lines_of.len() >= 2 && lines_of.values().all(|&n| n == 300),
            "{lines_of:?}"
        );
    });
}

#[test]
fn hot_functions_of_several_files() {
    let c = root().join("tests/c");
    let mut annotations = OsString::from("-fame-annotations=");
    annotations.push(c.join("hot_files.toml"));
    let unit = Unit {
        sources: vec![c.join("hot_files.c"), c.join("hot_files_other.c")],
        plain_sources: vec![c.join("hot_files_plain.c")],
        ame_flags: vec![annotations],
        ..Unit::default()
    };
    for level in Level::ALL {
        let program = compile("hot_files", &unit, level);
        assert!(Run::new(&program).arg(4).ok().stdout.starts_with("ok"));
    }
}

#[test]
fn hot_function_left_in_a_transaction() {
    let unit = Unit {
        sources: vec![root().join("tests/c/unbalanced.c")],
        ..Unit::default()
    };
    let program = compile("unbalanced", &unit, Level::O2);
    let message = Run::new(&program).fails();
    assert!(message.contains("ame: hot is marked as hot"), "{message}");
}

/// The threads of the program know nothing of the runtime when they come to the library's barriers.
#[test]
fn library_that_is_loaded_late() {
    let c = root().join("tests/c");
    let library = Unit {
        sources: vec![c.join("late_library.c")],
        flags: ["-shared", "-fPIC"].map(OsString::from).to_vec(),
        ..Unit::default()
    };
    for level in Level::ALL {
        let library = compile("late_library", &library, level);
        let main = compile_plain("late_library", &c.join("late_library_main.c"), level);
        for chaos in [None, Some("1,0.01")] {
            let mut run = Run::new(&main).arg(library.display());
            if let Some(chaos) = chaos {
                run = run.env("AME_CHAOS", chaos);
            }
            let output = run.ok();
            says_ok(&output);
            assert!(output.stderr.contains("blocks SIGURG"), "{}", output.stderr);
        }
    }
}

/// About every twentieth layout is unlucky, so that 200 runs without one would be a wonder.
#[test]
fn unlucky_addresses_are_left_behind() {
    let unit = Unit {
        sources: vec![root().join("tests/c/restart.c")],
        flags: vec!["-rdynamic".into()],
        ..Unit::default()
    };
    let program = compile("restart", &unit, Level::O2);
    let restarted = (0..200)
        .filter(|_| Run::new(&program).arg(8).ok().stdout.trim() != "ok")
        .count();
    assert!(restarted > 0, "no run was started anew");
}

/// Far more threads than processors, all on one counter.
#[test]
fn sixty_four_threads() {
    let unit = Unit {
        sources: vec![root().join("tests/c/counter.c")],
        ..Unit::default()
    };
    let program = compile("counter-64", &unit, Level::O2);
    Run::new(&program).arg(64).ok();
}
