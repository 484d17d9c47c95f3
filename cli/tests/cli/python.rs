//! `ame python` with a stub in place of the recipe: the real one takes minutes.

use crate::stub::Project;
use predicates::str::contains;

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
    let mut command = project.command("ame");
    command
        .env("AME_HOME", project.path())
        .arg("python")
        .args(args)
        .assert()
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
