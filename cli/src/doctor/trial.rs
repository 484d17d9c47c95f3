//! Compiles a tiny transactional program and runs it: the one check that covers all the others.

use super::{Check, Status};
use anyhow::{bail, Context, Result};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "trial";
const SOURCE: &str = r#"#include <ame.h>
#include <pthread.h>
#include <stdio.h>

static long value;

static void *add(void *unused) {
    for (int i = 0; i < 1000; i++) {
        ame_begin();
        value++;
        ame_commit();
    }
    return unused;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, add, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%ld\n", value);
    return value != 2000;
}
"#;
/// The trial takes milliseconds; a loaded machine gets this long.
const LONGEST: Duration = Duration::from_secs(30);

pub fn check() -> Check {
    match attempt() {
        Ok(found) => Check::ok(NAME, found),
        Err(error) => Check::bad(
            NAME,
            Status::Failed,
            format!("{error:#}"),
            "rebuild plugin and runtime together: cargo build --release",
        ),
    }
}

fn attempt() -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let source = folder.path().join("trial.c");
    let program = folder.path().join("trial");
    std::fs::write(&source, SOURCE)
        .with_context(|| format!("cannot write {}", source.display()))?;
    let exe = std::env::current_exe().context("cannot find the path of this executable")?;
    let compile = Command::new(exe)
        .args(["cc", "-O2", "-pthread"])
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .context("cannot run `ame cc`")?;
    if !compile.status.success() {
        bail!("`ame cc -O2 trial.c` failed: {}", first_lines(&compile));
    }
    let run = run_for(Command::new(&program), LONGEST)?;
    if !run.status.success() {
        bail!(
            "the compiled program failed ({}): {}",
            run.status,
            first_lines(&run)
        );
    }
    Ok("a program with 2,000 transactions on 2 threads compiles and counts right".into())
}

/// Runs to the end, or kills it after a while.
fn run_for(mut command: Command, longest: Duration) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the compiled program")?;
    let start = Instant::now();
    while child
        .try_wait()
        .context("cannot wait for the compiled program")?
        .is_none()
    {
        if start.elapsed() > longest {
            child.kill().context("cannot stop the compiled program")?;
            child
                .wait()
                .context("cannot wait for the compiled program")?;
            bail!(
                "the compiled program did not end within {} s",
                longest.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child
        .wait_with_output()
        .context("cannot read the output of the compiled program")
}

fn first_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    if lines.is_empty() {
        return "no message".into();
    }
    lines.join("; ")
}
