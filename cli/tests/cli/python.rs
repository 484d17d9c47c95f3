//! `ame python` with a stub in place of the recipe: the real one takes minutes.

use crate::stub::Project;
use predicates::prelude::*;
use predicates::str::contains;
use std::os::unix::fs::PermissionsExt;

const LIBRARIES: [&str; 3] = ["lib/libame_pass.so", "lib/libame_rt.so", "lib/libame_rt.a"];

/// An installation whose recipe is this Python code.
fn installation(recipe: &str) -> Project {
    let project = Project::new(&[("share/ame/cpython-shim/build", recipe)]);
    for name in LIBRARIES {
        project.write(name, "");
    }
    project
}

/// Says what it was asked for, and answers with /bin/sh as the interpreter.
const ANSWERS: &str = "\
import sys
print(*sys.argv[1:], file=sys.stderr)
print('/bin/sh')
";

fn ame(project: &Project, args: &[&str]) -> assert_cmd::assert::Assert {
    subcommand(project, "python").args(args).assert()
}

fn subcommand(project: &Project, name: &str) -> assert_cmd::Command {
    let mut command = project.command("ame");
    command
        .env("AME_HOME", project.path())
        .env_remove("VIRTUAL_ENV")
        .arg(name);
    command
}

#[test]
fn pip_runs_in_the_interpreter_or_the_active_environment() {
    let project = installation(ANSWERS);
    let script = "share/ame/cpython-shim/python/ame_pip.py";
    project.write(script, "echo \"$0 $*\"; exit 3\n");
    subcommand(&project, "pip")
        .args(["install", "--help", "-r", "x.txt"])
        .assert()
        .code(3)
        .stdout(contains("ame_pip.py install --help -r x.txt"));

    let python = project.path().join("env/bin/python");
    project.write("env/bin/python", "#!/bin/sh\necho environment \"$@\"\n");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    subcommand(&project, "pip")
        .env("VIRTUAL_ENV", project.path().join("env"))
        .args(["list"])
        .assert()
        .success()
        .stdout(contains("environment ").and(contains("ame_pip.py list")));
}

#[test]
fn variants_and_artifacts_reach_the_recipe() {
    let project = installation(ANSWERS);
    for (flag, variant) in [
        (None, "parallel"),
        (Some("--gil"), "plain"),
        (Some("--free-threaded"), "free-threaded"),
        (Some("--disable-gil"), "free-threaded"),
    ] {
        let mut args = vec!["path"];
        args.extend(flag);
        let mut result = ame(&project, &args).success().stdout("/bin/sh\n").stderr(
            predicates::str::starts_with(format!("{variant} --artifacts ")),
        );
        for name in LIBRARIES {
            result = result.stderr(contains(project.path().join(name).to_str().unwrap()));
        }
    }
    ame(&project, &["build", "-j", "3"])
        .success()
        .stdout("/bin/sh\n")
        .stderr(contains("parallel --jobs 3"));
    ame(&project, &["path", "--gil", "--free-threaded"]).code(2);
}

#[test]
fn run_becomes_the_interpreter() {
    let project = installation(ANSWERS);
    ame(
        &project,
        &[
            "run",
            "-c",
            "echo $1 on $2; exit 7",
            "--",
            "--gil",
            "--help",
        ],
    )
    .code(7)
    .stdout("--gil on --help\n");
}

#[test]
fn errors_of_the_recipe_are_the_only_ones() {
    let project = installation("import sys\nsys.exit('no space left')");
    ame(&project, &["run", "x.py"])
        .code(1)
        .stdout("")
        .stderr("no space left\n");
    let silent = installation("");
    ame(&silent, &["path"])
        .code(1)
        .stderr(contains("printed no interpreter"));
}
