//! Findings of several files, put together: a template that two files compile, variables and calls that cross
//! files, and what is done about each kind.

use super::facts::Unit;
use super::report::Report;
use super::{html, text};
use serde_json::json;

/// A file with these parts; all others are empty.
fn unit(file: &str, parts: serde_json::Value) -> Unit {
    let mut all = json!({
        "file": file, "folder": "/build", "modules": {}, "globals": [], "held": [], "references": [],
        "unsupported": [], "functions": {}, "capsules": [], "releases": [],
    });
    for (key, value) in parts.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn function(external: bool, runs: Option<&str>, calls: &[&str]) -> serde_json::Value {
    json!({"external": external, "given_away": false, "init": false, "writes": [], "runs": runs, "calls": calls})
}

fn global(name: &str, file: &str, defined: bool, writes: serde_json::Value) -> serde_json::Value {
    json!({
        "name": name, "type": "int", "file": file, "line": 3, "external": true, "defined": defined,
        "thread_local": false, "lazy": false, "writes": writes, "passed": [], "reads": 1,
    })
}

fn write(file: &str, line: u32, function: &str) -> serde_json::Value {
    json!({"file": file, "line": line, "function": function, "init": false})
}

fn report() -> Report {
    let held = |name: &str, line: u32| {
        json!({
            "way": "update", "memory": "Tree.size",
            "read": {"file": "tree.h", "line": line, "function": "grow"},
            "call": {"name": name, "runs": null, "file": "tree.h", "line": line + 1, "function": "grow"},
            "then": {"file": "tree.h", "line": line + 2, "function": "grow"},
        })
    };
    // Both compile tree.h.
    let shared = json!([held("compare", 10), held("memcmp", 20)]);
    let reference = |way: &str, line: u32, text: &str| json!({"container": "list", "way": way, "text": text, "file": "a.c", "line": line, "function": "f"});
    let mut init = function(true, None, &["setup"]);
    init["init"] = json!(true);
    Report::new(
        "example==1.0",
        "CPython 3.13, free-threaded",
        vec![
            unit(
                "a.c",
                json!({
                    "modules": {"example": "single-phase"},
                    "held": shared,
                    "functions": {"PyInit_example": init, "f": function(true, None, &["compare"])},
                    "globals": [
                        global("count", "a.c", true, json!([write("a.c", 40, "f")])),
                        global("setting", "a.h", false, json!([])),
                    ],
                    "references": [
                        reference("element", 30, "x = PyList_GET_ITEM(list, i);"),
                        reference("pointer", 31, "items = PySequence_Fast_ITEMS(list);"),
                    ],
                    "unsupported": [
                        {"construct": "assembly", "detail": "bswap $0", "file": "a.c", "line": 50, "function": "f"},
                        {"construct": "member", "detail": "name (T_OBJECT_EX)", "file": "a.c", "line": 51, "function": ""},
                    ],
                }),
            ),
            unit(
                "b.c",
                json!({
                    "held": shared,
                    "functions": {
                        "compare": function(true, Some("PyObject_RichCompare"), &[]),
                        "setup": function(true, None, &[]), "g": function(true, None, &[]),
                    },
                    "globals": [
                        global("count", "a.h", false, json!([write("b.c", 41, "g")])),
                        global("setting", "b.c", true, json!([write("b.c", 42, "setup")])),
                    ],
                    "capsules": [{"name": "other.API", "file": "b.c", "line": 60, "function": "setup"}],
                    "releases": [{"file": "b.c", "line": 61, "function": "g"}],
                }),
            ),
        ],
    )
}

#[test]
fn page_of_text() {
    insta::assert_snapshot!(text::page(&report()));
}

#[test]
fn keys_of_the_json() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&report()).unwrap());
}

#[test]
fn page_of_html_is_whole_and_has_every_finding() {
    let page = html::page(&report());
    for word in [
        "<!doctype html>",
        "example==1.0",
        "count",
        "PySequence_Fast_ITEMS",
        "needs your attention",
        "</html>",
    ] {
        assert!(page.contains(word), "{word}");
    }
    assert!(
        !page.contains("memcmp"),
        "a library's function runs no Python code"
    );
}
