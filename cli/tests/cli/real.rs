//! The real plugin and runtime, from the release build: the way from a C file to a report.

use assert_cmd::Command;
use predicates::str::contains;
use std::path::{Path, PathBuf};

/// `AME`, or the release build in the target folder of these tests.
fn ame() -> PathBuf {
    if let Some(named) = std::env::var_os("AME") {
        return named.into();
    }
    let target = Path::new(env!("CARGO_BIN_EXE_ame"))
        .parent()
        .and_then(Path::parent);
    let path = target
        .expect("binaries are in <target>/<profile>")
        .join("release/ame");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --release` first",
        path.display()
    );
    path
}

const COUNTERS: &str = r#"
#include <ame.h>
#include <pthread.h>

static struct { long hits __attribute__((aligned(64))); } shelf[4];

static void hit(int which)
{
    shelf[which].hits++;
}

static void *work(void *unused)
{
    for (int i = 0; i < 100000; i++) {
        ame_begin();
        hit(i % 4);
        ame_commit();
    }
    return unused;
}

int main(void)
{
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    long sum = 0;
    for (int i = 0; i < 4; i++)
        sum += shelf[i].hits;
    return sum != 200000;
}
"#;

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("counters.c"), COUNTERS).unwrap();
    dir
}

fn command(dir: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env_remove("AME_HOME")
        // Else programs would load the runtime of cargo's tests, not the one they were linked with.
        .env_remove("LD_LIBRARY_PATH")
        .timeout(std::time::Duration::from_secs(120));
    command
}

#[test]
fn from_source_to_report() {
    let dir = project();
    let compile = [
        "cc",
        "-O2",
        "-g",
        "-pthread",
        "counters.c",
        "-o",
        "counters",
    ];
    command(dir.path(), &ame())
        .args(compile)
        .assert()
        .success()
        .stderr("");
    let program = dir.path().join("counters");
    command(dir.path(), &program)
        .env("AME_LOG", "counters.trace")
        .assert()
        .success();
    let mut report = command(dir.path(), &ame());
    report.args(["report", "counters.trace", "--json"]);
    let output = report.assert().success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["totals"]["commits"], 200_000);
    assert!(report["trace"]["cut_off"].is_null());
    // Whether two threads meet on this machine is luck; where they met must have a line.
    for conflict in report["conflicts"].as_array().unwrap() {
        assert_eq!(conflict["site"]["file"], "counters.c", "{conflict}");
        assert_eq!(conflict["site"]["line"], 9, "{conflict}");
        assert_eq!(conflict["site"]["function"], "hit", "{conflict}");
    }
}

#[test]
fn a_killed_program_leaves_a_trace() {
    let dir = project();
    let endless = COUNTERS
        .replace("i < 100000", "i >= 0")
        .replace("i++", "i = (i + 1) & 1023");
    std::fs::write(dir.path().join("endless.c"), endless).unwrap();
    let compile = ["cc", "-O2", "-g", "-pthread", "endless.c", "-o", "endless"];
    command(dir.path(), &ame()).args(compile).assert().success();
    let mut child = std::process::Command::new(dir.path().join("endless"))
        .env("AME_LOG", dir.path().join("endless.trace"))
        .env_remove("LD_LIBRARY_PATH")
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut report = command(dir.path(), &ame());
    report.args(["report", "endless.trace", "--json"]);
    let output = report.assert().success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert!(report["totals"]["commits"].as_u64() > Some(0), "{report}");
    assert_eq!(report["threads"][1]["ended"], false);
}

#[test]
fn static_runtime() {
    let dir = project();
    for (flag, name) in [("-fame-static", "mostly"), ("-static", "fully")] {
        let compile = ["cc", flag, "-O2", "-pthread", "counters.c", "-o", name];
        command(dir.path(), &ame()).args(compile).assert().success();
        command(dir.path(), &dir.path().join(name))
            .assert()
            .success();
    }
}

#[test]
fn explain_names_the_rules() {
    let dir = project();
    let mut explain = command(dir.path(), &ame());
    explain.args(["annotations", "explain", "counters.c"]);
    explain
        .assert()
        .success()
        .stdout(contains("    9  shelf[which].hits++;\n"))
        .stdout(contains("write barrier"));
}

#[test]
fn the_doctor_finds_nothing_to_mend() {
    let dir = project();
    command(dir.path(), &ame())
        .arg("doctor")
        .assert()
        .success()
        .stdout(contains("ok       trial"));
}
