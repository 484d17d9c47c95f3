//! `ame ext`: what is refused, before anything is built.

use crate::stub::Project;
use predicates::prelude::*;
use predicates::str::contains;

fn refused(project: &Project, args: &[&str], message: &str) {
    project
        .command("ame")
        .env_remove("VIRTUAL_ENV")
        .arg("ext")
        .args(args)
        .assert()
        .failure()
        .stderr(contains(message));
}

#[test]
fn packages_that_are_none() {
    let project = Project::new(&[("empty/readme.txt", ""), ("x-1-py3-none-any.whl", "")]);
    refused(
        &project,
        &["build", "empty"],
        "no pyproject.toml and no setup.py",
    );
    refused(
        &project,
        &["build", "x-1-py3-none-any.whl"],
        "built already",
    );
    refused(
        &project,
        &["check", "./nowhere"],
        "no file or folder ./nowhere",
    );
    refused(
        &project,
        &["build", "name", "--domain", "a b"],
        "up to 64 letters",
    );
}

#[test]
fn interpreters_that_cannot_be_built_for() {
    let project = Project::new(&[
        ("package/setup.py", ""),
        ("pypy", "#!/bin/sh\necho '{\"implementation\": \"pypy\", \"version\": [3, 11], \"free_threaded\": false, \
          \"ame\": false, \"pip\": true, \"ensurepip\": true, \"include\": \"/\"}'\n"),
        ("other", "#!/bin/sh\necho hello\n"),
    ]);
    for name in ["pypy", "other"] {
        use std::os::unix::fs::PermissionsExt;
        let path = project.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let build = |python: &str, message: &str| {
        refused(&project, &["build", "package", "--python", python], message);
    };
    build("./nowhere", "cannot run ./nowhere");
    build("./pypy", "only CPython is supported");
    build("./other", "does not answer as a Python does");
    build("/bin/false", "is no Python that works");
}

#[test]
fn help_says_what_the_json_has() {
    let project = Project::new(&[]);
    let output = project
        .command("ame")
        .args(["ext", "check", "--help"])
        .assert()
        .success();
    output.stdout(contains("as_under_a_gil").and(contains("--html")));
}
