//! Help, completions and the doctor.

use crate::stub::Project;
use predicates::str::contains;

#[test]
fn help_teaches_by_examples() {
    let project = Project::new(&[]);
    project
        .command("ame")
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("ame cc -O2 -g bank.c -o bank"));
    for command in [
        "cc",
        "c++",
        "report",
        "doctor",
        "annotations",
        "python",
        "pip",
        "completions",
    ] {
        project
            .command("ame")
            .args(["help", command])
            .assert()
            .success()
            .stdout(contains("Examples:"));
    }
    // A drop-in answers as what it stands for.
    project
        .cc("--help")
        .assert()
        .success()
        .stdout(contains("clang LLVM compiler"));
    project
        .command("ame")
        .arg("reprot")
        .assert()
        .code(2)
        .stderr(contains("report"));
}

#[test]
fn completions_for_each_shell() {
    let project = Project::new(&[]);
    for (shell, has) in [
        ("bash", "complete"),
        ("zsh", "#compdef ame"),
        ("fish", "complete -c ame"),
    ] {
        let mut command = project.command("ame");
        command
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(contains(has));
    }
    project
        .sh("ame completions bash | bash -n")
        .assert()
        .success();
}

#[test]
fn doctor_is_content_with_a_whole_installation() {
    let project = Project::new(&[]);
    let output = project
        .command("ame")
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let status = |name: &str| {
        let checks = verdict["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}"))["status"]
            .as_str()
            .unwrap()
            .to_string()
    };
    for name in [
        "clang",
        "plugin",
        "runtime",
        "header ame.h",
        "static runtime",
        "processor",
    ] {
        assert_eq!(status(name), "ok", "{name}");
    }
    // The stub does no transactions: the trial program counts wrong or, by luck, right.
    assert_ne!(status("trial"), "skipped");
    assert_eq!(verdict["ok"], output.status.success());
}

#[test]
fn doctor_says_what_is_missing_and_what_to_do() {
    let project = Project::new(&[]);
    project
        .command("ame")
        .arg("doctor")
        .env("AME_HOME", project.path())
        .env("AME_CLANG", "/nonexistent/clang")
        .assert()
        .code(1)
        .stdout(contains("FAILED   clang"))
        .stdout(contains("sudo apt-get install clang-19"))
        .stdout(contains("libame_pass.so not found"))
        .stdout(contains("cargo build --release"))
        .stdout(contains("skipped  trial"));
}

#[test]
fn doctor_sees_a_limit_on_address_space() {
    let project = Project::new(&[]);
    // Enough for the programs themselves, not for the tables.
    project
        .sh("ulimit -v 40000000; ame doctor")
        .assert()
        .code(1)
        .stdout(contains("ulimit -v unlimited"));
}
