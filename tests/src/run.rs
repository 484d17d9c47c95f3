//! Running a compiled program with a time limit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use wait_timeout::ChildExt;

/// One run of a program. A failed one panics with everything needed to repeat it.
#[derive(Debug, Clone)]
pub struct Run {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    limit: Duration,
}

/// What the program wrote.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn new(program: &Path) -> Run {
        Run {
            program: program.to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    pub fn arg(mut self, arg: impl ToString) -> Run {
        self.args.push(arg.to_string());
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Run {
        self.env.push((key.to_string(), value.to_string()));
        self
    }

    /// 60 seconds when not set: a machine that compiles beside the tests is slow.
    pub fn limit(mut self, limit: Duration) -> Run {
        self.limit = limit;
        self
    }

    fn command_line(&self) -> String {
        let env: Vec<String> = self.env.iter().map(|(k, v)| format!("{k}={v} ")).collect();
        format!(
            "{}{} {}",
            env.concat(),
            self.program.display(),
            self.args.join(" ")
        )
    }

    /// Runs it and demands exit code 0 within the limit.
    pub fn ok(self) -> Output {
        let (status, output) = self.output();
        self.demand(status.is_some_and(|s| s.success()), status, &output);
        output
    }

    /// Runs it and demands that it fails by itself; returns what it wrote to stderr.
    pub fn fails(self) -> String {
        let (status, output) = self.output();
        self.demand(status.is_some_and(|s| !s.success()), status, &output);
        output.stderr
    }

    fn output(&self) -> (Option<ExitStatus>, Output) {
        // Files, not pipes: a program that fills a pipe would wait for us while we wait for it.
        // One pair per process: two tests may run the same program at once.
        let file = |suffix: &str| {
            let id = format!(
                "{}.{:?}.{suffix}",
                std::process::id(),
                std::thread::current().id()
            );
            PathBuf::from(format!(
                "{}.{}",
                self.program.display(),
                id.replace(['(', ')'], "")
            ))
        };
        let (out, err) = (file("out"), file("err"));
        let create =
            |path: &Path| File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            // The one that the program was linked with, not the one that cargo's tests would load.
            .env_remove("LD_LIBRARY_PATH")
            .stdout(create(&out))
            .stderr(create(&err))
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.program.display()));
        let status = child
            .wait_timeout(self.limit)
            .expect("waiting for a child works");
        if status.is_none() {
            // It may have ended just now; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        let read =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let output = Output {
            stdout: read(&out),
            stderr: read(&err),
        };
        let _ = (fs::remove_file(&out), fs::remove_file(&err));
        (status, output)
    }

    fn demand(&self, right: bool, status: Option<ExitStatus>, output: &Output) {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        assert!(
            right,
            "{}\n  {}\nstderr: {}\nstdout: {}",
            match status {
                Some(status) => format!("ended with {status}:"),
                None => format!("did not end within {} s:", self.limit.as_secs()),
            },
            self.command_line(),
            tail(&output.stderr),
            tail(&output.stdout)
        );
    }
}
