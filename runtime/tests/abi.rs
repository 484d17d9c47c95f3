//! The contract is one: `ame_rt.h`, `ame.h`, `ame_abi` and what the library exports agree.

#![cfg(not(loom))]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text without comments.
fn code(header: &str) -> String {
    let mut out = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        out += before;
        rest = after.split_once("*/").expect("comments end").1;
    }
    out + rest
}

fn identifiers(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("ame_").filter_map(move |(at, _)| {
        if text[..at].ends_with(word) {
            return None;
        }
        let end = text[at..].find(|c| !word(c)).unwrap_or(text.len() - at);
        Some((&text[at..at + end], &text[at + end..]))
    })
}

/// Functions that a header declares.
fn functions(header: &str) -> BTreeSet<String> {
    let code = code(header);
    identifiers(&code)
        .filter(|(_, after)| after.starts_with('('))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn exported() -> BTreeSet<String> {
    let library = common::library_folder().join("libame_rt.so");
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library)
        .output()
        .expect("binutils has nm");
    assert!(output.status.success(), "nm {}", library.display());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect()
}

/// Symbols that the pass may emit, from the source of `ame_abi`: constants of module `sym`.
fn abi_symbols() -> BTreeSet<String> {
    let source = read("abi/src/lib.rs");
    let module = source.split_once("pub mod sym {").expect("module sym").1;
    module
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.split_once("= \"")?.1.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn header_and_abi_crate_name_the_same_symbols() {
    // Of some functions there is a second form for cold blocks, named by this suffix.
    let suffix = "_stub";
    let mut abi = abi_symbols();
    assert!(abi.remove(suffix));
    // What an interpreter's glue calls is no business of the pass.
    const GLUE: [&str; 14] = [
        "ame_own_region",
        "ame_before_release",
        "ame_is_fresh",
        "ame_is_written",
        "ame_inevitable_from_begin",
        "ame_hold_token",
        "ame_keep",
        "ame_set_end_hook",
        "ame_revocable",
        "ame_at_stake",
        "ame_written",
        "ame_owner_of",
        "ame_roll_back",
        "ame_is_instrumented",
    ];
    let glue = |name: &String| {
        name.starts_with("ame_set_")
            || name.starts_with("ame_host_")
            || name.starts_with("ame_domain_")
            || name.starts_with("ame_elision_")
            || GLUE.contains(&name.as_str())
    };
    let mut header = functions(&read("include/ame_rt.h"));
    header.retain(|name| !glue(name));
    let (stubs, plain): (BTreeSet<String>, _) =
        header.into_iter().partition(|name| name.ends_with(suffix));
    assert_eq!(plain, abi);
    for stub in stubs {
        assert!(abi.contains(stub.trim_end_matches(suffix)), "{stub}");
    }
}

#[test]
fn everything_declared_is_exported() {
    let exported = exported();
    for header in ["include/ame_rt.h", "../annotations/include/ame.h"] {
        for name in functions(&read(header)) {
            assert!(exported.contains(&name), "{header} declares {name}");
        }
    }
    assert!(exported.contains(ame_abi::TLS_SYMBOL));
}

/// Only names of ours, so that the library can be preloaded or linked anywhere.
#[test]
fn nothing_else_is_exported() {
    for name in exported() {
        // The two that libraries call on blocks of ours (`heap.rs`).
        let interposed = ["free", "realloc"].contains(&name.as_str());
        // The C++ operators new and delete (`libc/operators.rs`).
        let operator = ["_Zn", "_Zd"].iter().any(|start| name.starts_with(start));
        assert!(
            interposed || operator || name.starts_with("ame_"),
            "{name} is exported"
        );
    }
}

#[test]
fn header_and_abi_crate_have_the_same_constants() {
    let program = r#"
        #include <ame_rt.h>
        #include <ame.h>
        #include <stdio.h>
        int main(void) {
            printf("%d\n%d %zu %zu %zu\n%zu %zu %zu\n%#lx\n%#llx\n%zu\n", AME_ABI_VERSION,
                AME_SEGMENT_MARKS, offsetof(struct ame_control, rver),
                offsetof(struct ame_control, wver), offsetof(struct ame_control, ver),
                offsetof(struct ame_tls, marks), offsetof(struct ame_tls, unfenced),
                offsetof(struct ame_tls, inside),
                (unsigned long)AME_LOCK_TABLE,
                (unsigned long long)AME_PREFIX_MAGIC, sizeof(struct ame_stats));
        }"#;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("constants.c");
    std::fs::write(&source, program).expect("the folder is writable");
    let binary = folder.path().join("constants");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = std::env::var("AME_TEST_CC").unwrap_or_else(|_| "clang-19".into());
    let status = Command::new(compiler)
        .arg("-I")
        .arg(manifest.join("include"))
        .arg("-I")
        .arg(manifest.join("../annotations/include"))
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .status()
        .expect("a C compiler");
    assert!(status.success());
    let output = Command::new(binary).output().expect("it runs");
    let expected = format!(
        "{}\n{} {} {} {}\n{} {} {}\n{:#x}\n{:#x}\n{}\n",
        ame_abi::ABI_VERSION,
        ame_abi::SEGMENT_MARKS,
        ame_abi::SEGMENT_RVER,
        ame_abi::SEGMENT_WVER,
        ame_abi::SEGMENT_VER,
        ame_abi::TLS_MARKS,
        ame_abi::TLS_UNFENCED,
        ame_abi::TLS_INSIDE,
        ame_abi::LOCK_TABLE,
        ame_abi::PREFIX_MAGIC,
        size_of::<ame_rt::stats::Stats>(),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
