//! `ame annotations` on small sets and files. What a set may say is tested in its crate.

use crate::stub::Project;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

const HEADER: &str = "struct point { int x, y; };\nvoid move(struct point *p);\n";

#[test]
fn list() {
    let project = Project::new(&[
        (
            "mine.toml",
            "name = \"mine\"\n[function.move]\nkind = \"pure\"\n",
        ),
        ("broken.toml", "nmae = 1\n"),
    ]);
    let mut command = project.command("ame");
    command.args(["annotations", "list", "mine.toml"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(
        text.contains("libc ") && text.contains("(always applies)"),
        "{text}"
    );
    assert!(text.contains("mine.toml            1 functions"), "{text}");
    let mut command = project.command("ame");
    command.args(["annotations", "list", "--json", "broken.toml"]);
    let output = command.assert().code(1).get_output().stdout.clone();
    let rows: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(rows.iter().any(|row| row["name"] == "cpython-3.13"));
    assert!(rows.last().unwrap()["problem"]
        .as_str()
        .unwrap()
        .contains("broken.toml"));
}

#[test]
fn check_finds_what_is_not_in_the_headers() {
    let project = Project::new(&[
        ("point.h", HEADER),
        (
            "good.toml",
            "name = \"good\"\n[function.move]\nkind = \"pure\"\nreason = \"moves nothing\"\n",
        ),
        (
            "bad.toml",
            "name = \"bad\"\n[function.mvoe]\nkind = \"pure\"\nreason = \"moves nothing\"\n",
        ),
    ]);
    let check = |set: &str| {
        let mut command = project.command("ame");
        command.args(["annotations", "check", set, "--include", "point.h"]);
        command
    };
    check("good.toml")
        .assert()
        .success()
        .stdout(contains("good: ok"));
    check("bad.toml")
        .assert()
        .code(1)
        .stdout(contains("bad.toml:2:").and(contains("mvoe")));
    check("none.toml")
        .assert()
        .code(1)
        .stderr(contains("none.toml"));
    check("good.toml").args(["--", "-DX=1"]).assert().success();
}

#[test]
fn explain_shows_each_access_with_its_source_line() {
    let project = Project::new(&[(
        "points.c",
        "struct point { int x, y; };\n\
         void shift(struct point *p) { p->x++; }\n\
         void lift(struct point *p) { p->y++; }\n",
    )]);
    let mut command = project.command("ame");
    command.args(["annotations", "explain", "points.c"]);
    command.assert().success().stdout(
        "points.c\n\
         \x20   2  void shift(struct point *p) { p->x++; }\n\
         \x20        write barrier        write barrier, in shift\n\
         \x20   3  void lift(struct point *p) { p->y++; }\n\
         \x20        write barrier        write barrier, in lift\n",
    );
    let mut command = project.command("ame");
    command.args([
        "annotations",
        "explain",
        "points.c",
        "--function",
        "lift",
        "--json",
    ]);
    let output = command.output().unwrap();
    let remarks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(remarks.as_array().unwrap().len(), 1);
    assert_eq!(remarks[0]["line"], 3);
    let mut command = project.command("ame");
    command.args(["annotations", "explain", "points.c", "--function", "lfit"]);
    command
        .assert()
        .code(1)
        .stderr(contains("no access in a function lfit"))
        .stderr(contains("lift, shift"));
    let mut command = project.command("ame");
    command.args([
        "annotations",
        "explain",
        "points.c",
        "--",
        "-include",
        "none.h",
    ]);
    command
        .assert()
        .code(1)
        .stderr(contains("none.h"))
        .stderr(contains("after --"));
}
