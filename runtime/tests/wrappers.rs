//! The wrappers of the C library: `wrappers/*.c` run them in every mode, without and with chaos; and
//! the shared object exports what headers and annotation sets promise.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(
        output.status.success(),
        "failed ({}): {command:?}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles `wrappers/<name>.c` and returns the program.
fn compile(name: &str) -> PathBuf {
    let library = common::library_folder();
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&out).expect("the target folder is writable");
    let program = out.join(format!("wrappers-{name}"));
    // -fno-builtin: calls of the C library are what the wrappers are compared with.
    run(
        Command::new(env::var("AME_TEST_CC").unwrap_or_else(|_| "clang-19".into()))
            .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wno-format"])
            .args(["-fno-builtin", "-pthread", "-I"])
            .arg(manifest().join("include"))
            .arg("-I")
            .arg(manifest().join("../annotations/include"))
            .arg(manifest().join(format!("tests/wrappers/{name}.c")))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&library)
            .arg("-lame_rt")
            .arg(format!("-Wl,-rpath,{}", library.display())),
    );
    program
}

/// Chaos: none, some, much.
const CHAOS: [Option<&str>; 4] = [None, Some("1,0.01"), Some("2,0.05"), Some("3,0.2")];

/// The program under a time limit: a lost wakeup must not hang the tests.
fn limited(program: &Path, chaos: Option<&str>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program).env_remove("AME_CHAOS");
    // Cargo's path precedes the program's own, and may lead to an older library.
    command.env_remove("LD_LIBRARY_PATH");
    if let Some(chaos) = chaos {
        command.env("AME_CHAOS", chaos);
    }
    command
}

fn ok_in_every_mode(name: &str) -> Vec<String> {
    let program = compile(name);
    let outputs = CHAOS.map(|chaos| {
        let output = run(&mut limited(&program, chaos));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.ends_with("ok\n"), "{name}: {text}");
        text
    });
    outputs.to_vec()
}

#[test]
fn strings_and_numbers() {
    ok_in_every_mode("strings");
}

#[test]
fn sorting_and_searching() {
    ok_in_every_mode("sort");
}

#[test]
fn locks() {
    ok_in_every_mode("locks");
}

#[test]
fn locks_between_threads_fork_and_c11() {
    for output in ok_in_every_mode("threads") {
        // Printed by the transaction that forked, not by its copy in the child.
        assert_eq!(output.matches("once").count(), 1, "{output}");
    }
}

#[test]
fn output_of_transactions_is_what_the_same_calls_print_outside() {
    let program = compile("output");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let print = |mode: &str, chaos: Option<&str>| -> Vec<u8> {
        let file = folder.path().join(mode);
        run(limited(&program, chaos).arg(&file).arg(mode));
        fs::read(&file).expect("the program wrote it")
    };
    let plain = print("plain", None);
    let shown = String::from_utf8_lossy(&plain).into_owned();
    assert!(
        shown.ends_with("before\ndeferred\ndirect\nafter\n"),
        "{shown}"
    );
    for chaos in CHAOS {
        let inside = print("transaction", chaos);
        assert!(inside.len() > 1000 && plain.starts_with(&inside));
    }
    let mixed = print("mixed", None);
    assert_eq!(mixed.strip_prefix(&plain[..]), Some(&b"to a copy\n"[..]));
}

#[test]
fn an_error_at_commit_is_reported_once() {
    let output = run(&mut limited(&compile("failing"), None));
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(report.matches("failed there").count(), 1, "{report}");
    assert!(report.contains("No space left on device"), "{report}");
}

#[test]
fn exit_in_a_transaction_keeps_its_output() {
    let output = run(&mut limited(&compile("exiting"), None));
    assert_eq!(output.stdout, b"deferred\n");
}

/// The symbols that the shared object exports.
fn exported() -> BTreeSet<String> {
    let library = common::library_folder().join("libame_rt.so");
    let output = run(Command::new("nm")
        .args(["--dynamic", "--defined-only"])
        .arg(library));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2))
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}

/// Names of the form `ame_...` that stand before a parenthesis outside of comments and macros.
fn functions_of_header(path: &Path) -> BTreeSet<String> {
    let text = read(path);
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").expect("comments end").1;
    }
    code += rest;
    let mut names = BTreeSet::new();
    for line in code.lines().filter(|line| !line.starts_with('#')) {
        let mut at = 0;
        while let Some(found) = line[at..].find("ame_") {
            let start = at + found;
            let end = line[start..]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(line.len(), |n| start + n);
            if line[end..].starts_with('(') {
                names.insert(line[start..end].to_owned());
            }
            at = end;
        }
    }
    names
}

fn assert_exported(wanted: BTreeSet<String>, source: &str) {
    assert!(wanted.len() > 5, "{source}: only {wanted:?}");
    let exported = exported();
    let missing: Vec<_> = wanted.difference(&exported).collect();
    assert!(
        missing.is_empty(),
        "{source} names, but libame_rt.so lacks: {missing:?}"
    );
}

#[test]
fn headers_are_exported() {
    let manifest = manifest();
    for header in ["include/ame_rt.h", "../annotations/include/ame.h"] {
        assert_exported(functions_of_header(&manifest.join(header)), header);
    }
}

/// All replacements of `libc.toml`: `replace = "ame_*"` for each of `names`.
fn replacements() -> BTreeSet<String> {
    let text = read(&manifest().join("../annotations/sets/libc.toml"));
    let set: toml::Table = text.parse().expect("the set is TOML");
    let mut wanted = BTreeSet::new();
    let single = set.get("function").and_then(|f| f.as_table());
    for (name, rule) in single.into_iter().flatten() {
        if let Some(replace) = rule.get("replace").and_then(|r| r.as_str()) {
            wanted.insert(replace.replace('*', name));
        }
    }
    for rule in set["functions"].as_array().expect("a list of rules") {
        let Some(replace) = rule.get("replace").and_then(|r| r.as_str()) else {
            continue;
        };
        for name in rule["names"].as_array().expect("names") {
            wanted.insert(replace.replace('*', name.as_str().expect("a name")));
        }
    }
    wanted
}

#[test]
fn replacements_of_the_annotation_set_are_exported() {
    assert_exported(replacements(), "libc.toml");
}

/// So that a program may keep their addresses: indirect calls look there.
#[test]
fn replacements_of_the_annotation_set_are_in_the_directory() {
    let names: BTreeSet<String> = ame_rt::wrappers::names()
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let missing: Vec<_> = replacements().difference(&names).cloned().collect();
    assert!(missing.is_empty(), "not in directory.rs: {missing:?}");
}
