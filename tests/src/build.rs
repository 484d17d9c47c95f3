//! Finding the tools and compiling C programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Optimisation levels that the pass must be right at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    O0,
    O2,
}

impl Level {
    pub const ALL: [Level; 2] = [Level::O0, Level::O2];

    pub fn flag(self) -> &'static str {
        match self {
            Level::O0 => "-O0",
            Level::O2 => "-O2",
        }
    }
}

/// What a program is made of.
#[derive(Debug, Default, Clone)]
pub struct Unit {
    /// Compiled with `ame cc`.
    pub sources: Vec<PathBuf>,
    /// Compiled without the plugin, to stand for code of others.
    pub plain_sources: Vec<PathBuf>,
    /// Passed to every compilation, and to the link.
    pub flags: Vec<OsString>,
    /// Passed to `ame cc` only.
    pub ame_flags: Vec<OsString>,
}

/// The target folder that this test runs from: `<target>/<profile>/deps/<test>`.
fn target_dir() -> PathBuf {
    let exe = env::current_exe().expect("a running test has a path");
    exe.ancestors()
        .nth(3)
        .expect("tests run from <target>/<profile>/deps")
        .to_path_buf()
}

/// The `ame` binary: `AME`, or the release build, or the one of this test's profile.
pub fn ame() -> PathBuf {
    if let Some(named) = env::var_os("AME") {
        return named.into();
    }
    let target = target_dir();
    let found = ["release", "debug"]
        .map(|profile| target.join(profile).join("ame"))
        .into_iter()
        .find(|path| path.is_file());
    match found {
        Some(path) => path,
        None => panic!(
            "no `ame` in {}/release: run `cargo build --release` first, or set AME",
            target.display()
        ),
    }
}

/// A folder for what a test builds; it stays after the test.
pub fn scratch(name: &str) -> PathBuf {
    let folder = target_dir().join("ame-tests").join(name);
    fs::create_dir_all(&folder)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));
    folder
}

fn run_tool(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(
        output.status.success(),
        "failed ({}): {command:?}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Compiles one source without the plugin.
pub fn plain_object(source: &Path, object: &Path, level: Level, flags: &[OsString]) {
    run_tool(
        Command::new("clang-19")
            .arg(level.flag())
            .args(["-g", "-c"])
            .args(flags)
            .arg(source)
            .arg("-o")
            .arg(object),
    );
}

/// Compiles and links a program without the plugin; returns its path.
pub fn compile_plain(name: &str, source: &Path, level: Level) -> PathBuf {
    let program = scratch(name).join(format!("plain{}", level.flag()));
    run_tool(
        Command::new("clang-19")
            .arg(level.flag())
            .args(["-g", "-pthread"])
            .arg(source)
            .arg("-o")
            .arg(&program),
    );
    program
}

/// Compiles and links a program with `ame cc`, or `ame c++` if a source is C++; returns its path.
pub fn compile(name: &str, unit: &Unit, level: Level) -> PathBuf {
    let folder = scratch(name);
    let mut objects = Vec::new();
    for source in &unit.plain_sources {
        let stem = source
            .file_stem()
            .expect("a source has a name")
            .to_string_lossy();
        let object = folder.join(format!("{stem}{}.o", level.flag()));
        plain_object(source, &object, level, &unit.flags);
        objects.push(object);
    }
    let program = folder.join(format!("{name}{}", level.flag()));
    let cxx = |source: &PathBuf| source.extension().is_some_and(|end| end == "cc");
    run_tool(
        Command::new(ame())
            .arg(match unit.sources.iter().any(cxx) {
                true => "c++",
                false => "cc",
            })
            .arg(level.flag())
            .args(["-g", "-pthread"])
            .args(&unit.flags)
            .args(&unit.ame_flags)
            .args(&unit.sources)
            .args(&objects)
            .arg("-o")
            .arg(&program),
    );
    program
}
