//! What the check finds in small files: tests/check/*.c, each with the reason beside it.

mod common;

use common::{command, folder, plugin};
use serde_json::Value;

/// The facts of a file, one a line.
fn facts(name: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let source = folder().join("tests/check");
    let status = command("clang-19")
        .current_dir(&source)
        .arg(format!("-fpass-plugin={}", plugin().display()))
        .args(["-g", "-O1", "-w", "-c", name, "-o", "/dev/null"])
        .env("AME_CHECK", out.path())
        .status()
        .unwrap();
    assert!(status.success());
    let file = std::fs::read_dir(out.path()).unwrap().next().unwrap();
    let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
    let unit: Value = serde_json::from_str(&text).unwrap();
    let mut lines = String::new();
    for (key, value) in unit.as_object().unwrap() {
        match value {
            Value::Array(all) => {
                for each in all {
                    lines += &format!("{key}: {each}\n");
                }
            }
            Value::Object(all) => {
                for (name, each) in all {
                    lines += &format!("{key}: {name} {each}\n");
                }
            }
            _ if key == "folder" => {}
            other => lines += &format!("{key}: {other}\n"),
        }
    }
    lines
}

#[test]
fn globals() {
    insta::assert_snapshot!(facts("globals.c"));
}

#[test]
fn held() {
    insta::assert_snapshot!(facts("held.c"));
}

#[test]
fn references() {
    insta::assert_snapshot!(facts("references.c"));
}

#[test]
fn unsupported() {
    insta::assert_snapshot!(facts("unsupported.c"));
}
