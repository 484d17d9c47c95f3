//! Compiles the C programs of `tests/c` against the runtime and runs their cases.
//!
//! The programs are C because `ame_begin` returns twice, and because the barriers that they inline
//! by hand (`c/barriers.h`) are those that the pass emits: what runs is the machine code that ships.

#![allow(dead_code)] // every test binary uses a part

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, io};

fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let mut latest = None;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let time = if path.is_dir() {
            newest(&path)
        } else {
            modified(&path)
        };
        latest = latest.max(time);
    }
    latest
}

/// Folder of the `libame_rt.so` under test: `AME_RT_DIR`, or the release build if it is newer than
/// the sources (it is what users run), or that of this build profile.
pub fn library_folder() -> PathBuf {
    if let Some(folder) = env::var_os("AME_RT_DIR") {
        return folder.into();
    }
    let deps = env::current_exe().expect("a test has an executable");
    let profile = deps.ancestors().nth(2).expect("it lies in <profile>/deps");
    let sources = newest(&manifest().join("src"));
    let candidates = [
        profile.join("../release"),
        profile.to_path_buf(),
        profile.join("deps"),
    ];
    let fresh = candidates
        .iter()
        .find(|folder| modified(&folder.join("libame_rt.so")) >= sources);
    fresh
        .unwrap_or_else(|| {
            candidates
                .iter()
                .max_by_key(|folder| modified(&folder.join("libame_rt.so")))
                .expect("not empty")
        })
        .clone()
}

/// Which inline read the program is compiled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// A failed check calls `ame_read_slow`.
    Called,
    /// A failed check marks inline where the thread is unfenced.
    Inline,
}

/// Compiles `c/<name>.c`; returns the program.
pub fn compile(name: &str, reads: Reads) -> PathBuf {
    // Tests of one process share programs; those of several replace them atomically.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let folder = manifest().join("tests/c");
    let source = folder.join(format!("{name}.c"));
    let library = library_folder();
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&out).expect("the target folder is writable");
    let program = out.join(format!("{name}-{reads:?}"));
    let inputs = newest(&folder).max(modified(&library.join("libame_rt.so")));
    if modified(&program) >= inputs && program.exists() {
        return program;
    }
    let partial = out.join(format!("{name}-{reads:?}.{}", std::process::id()));
    let compiler = env::var("AME_TEST_CC").unwrap_or_else(|_| "clang-19".into());
    let mut command = Command::new(&compiler);
    command
        .args([
            "-std=gnu11",
            "-O2",
            "-g",
            "-Wall",
            "-Wextra",
            "-mno-red-zone",
            "-pthread",
        ])
        .arg(format!("-DINLINE_READS={}", (reads == Reads::Inline) as u8))
        .arg("-I")
        .arg(manifest().join("include"))
        .arg("-I")
        .arg(manifest().join("../annotations/include"))
        .arg("-o")
        .arg(&partial)
        .arg(&source)
        .arg("-L")
        .arg(&library)
        .arg("-lame_rt")
        .arg(format!("-Wl,-rpath,{}", library.display()));
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {compiler}: {e} (set AME_TEST_CC)"));
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&partial, &program).expect("rename within one folder");
    program
}

/// One run of a case of a program.
pub struct Run {
    command: Command,
    limit: Duration,
}

pub struct Outcome {
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    what: String,
}

impl Run {
    pub fn new(program: &str, reads: Reads, case: &str) -> Run {
        let mut command = Command::new(compile(program, reads));
        command.arg(case).stdin(Stdio::null());
        // Cargo's own value names folders with other builds of the library.
        command.env("LD_LIBRARY_PATH", library_folder());
        for name in [
            "AME_CHAOS",
            "AME_LOG",
            "AME_STATS",
            "AME_STAMP",
            "AME_TURN",
            "AME_MAX_VERSION",
        ] {
            command.env_remove(name);
        }
        Run {
            command,
            limit: Duration::from_secs(90),
        }
    }

    pub fn arg(mut self, arg: impl ToString) -> Run {
        self.command.arg(arg.to_string());
        self
    }

    pub fn env(mut self, name: &str, value: impl ToString) -> Run {
        self.command.env(name, value.to_string());
        self
    }

    pub fn limit(mut self, seconds: u64) -> Run {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Runs it. A program that does not end in time is killed and has no status.
    pub fn outcome(mut self) -> Outcome {
        let what = format!("{:?}", self.command);
        let mut out = tempfile::tempfile().expect("a temporary file");
        let mut err = tempfile::tempfile().expect("a temporary file");
        let mut child = self
            .command
            .stdout(out.try_clone().expect("dup"))
            .stderr(err.try_clone().expect("dup"))
            .spawn()
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let end = Instant::now() + self.limit;
        let status = loop {
            match child.try_wait().expect("our child") {
                Some(status) => break Some(status),
                None if Instant::now() > end => {
                    child.kill().expect("our child");
                    child.wait().expect("our child");
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |file: &mut fs::File| {
            use io::{Read, Seek};
            file.rewind().expect("a regular file");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("a regular file");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Outcome {
            status,
            stdout: text(&mut out),
            stderr: text(&mut err),
            what,
        }
    }

    /// Runs it; it must succeed.
    pub fn ok(self) -> Outcome {
        let outcome = self.outcome();
        let ended = outcome.status.map_or("no end".into(), |s| s.to_string());
        assert!(
            outcome.status.is_some_and(|s| s.success()),
            "{}: {ended}\n{}{}",
            outcome.what,
            outcome.stdout,
            outcome.stderr
        );
        print!("{}", outcome.stdout);
        outcome
    }

    /// Runs it; it must end with the runtime's own message, containing `words`.
    pub fn refused(self, words: &str) {
        use std::os::unix::process::ExitStatusExt;
        let outcome = self.outcome();
        assert!(
            outcome.status.and_then(|s| s.signal()) == Some(6)
                && outcome.stderr.contains("ame: ")
                && outcome.stderr.contains(words),
            "{}: expected a message with {words:?}, got {:?}\n{}{}",
            outcome.what,
            outcome.status,
            outcome.stdout,
            outcome.stderr
        );
    }
}
