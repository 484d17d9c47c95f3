//! An installation of Ame whose plugin and runtime are stubs: the tests of the wrapper need to know
//! what reaches clang and the linker, not what a transaction does.

use assert_cmd::Command;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::LazyLock;

const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stub");

/// `lib/libame_pass.so`, `lib/libame_rt.so`, `lib/libame_rt.a`, `include/ame.h` in one prefix. Built
/// once and shared by all tests, whether they run as threads or as processes.
static HOME: LazyLock<PathBuf> = LazyLock::new(|| build("1"));

pub fn home() -> &'static Path {
    &HOME
}

/// An installation whose plugin has another content.
pub fn build(version: &str) -> PathBuf {
    // The folder outlives this run: its name has the content of the sources.
    let mut hash = std::hash::DefaultHasher::new();
    (
        include_str!("../stub/plugin.cpp"),
        include_str!("../stub/runtime.c"),
    )
        .hash(&mut hash);
    let name = format!("ame-stub-{version}-{:x}", hash.finish());
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if prefix.is_dir() {
        return prefix;
    }
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (lib, include) = (work.path().join("lib"), work.path().join("include"));
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::create_dir_all(&include).unwrap();
    let header = Path::new(STUB).join("../../../annotations/include/ame.h");
    std::fs::copy(header, include.join("ame.h")).unwrap();
    let config = |flag: &str| {
        let output = Process::new("llvm-config-19")
            .arg(flag)
            .output()
            .expect("llvm-config-19 runs");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut plugin = Process::new("clang++-19");
    plugin
        .args(config("--cxxflags").split_whitespace())
        .args(["-O0", "-fPIC", "-shared"]);
    plugin
        .arg(format!("-DSTUB_VERSION=\"{version}\""))
        .arg(format!("{STUB}/plugin.cpp"));
    run(plugin.arg("-o").arg(lib.join("libame_pass.so")));
    let source = format!("{STUB}/runtime.c");
    run(Process::new("clang-19")
        .args(["-shared", "-fPIC", &source, "-o"])
        .arg(lib.join("libame_rt.so")));
    let object = work.path().join("runtime.o");
    run(Process::new("clang-19")
        .args(["-c", "-fPIC", &source, "-o"])
        .arg(&object));
    run(Process::new("ar")
        .arg("rcs")
        .arg(lib.join("libame_rt.a"))
        .arg(&object));
    // Another process may have been faster; its result is as good.
    if std::fs::rename(work.path(), &prefix).is_ok() {
        std::mem::forget(work);
    }
    assert!(prefix.is_dir());
    prefix
}

fn run(command: &mut Process) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}");
}

/// A folder with sources in it.
pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Project {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A command in this folder, with the stub installation and `ame` in PATH, and nothing of the
    /// caller's settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env("AME_HOME", home());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ame = Path::new(env!("CARGO_BIN_EXE_ame"))
            .parent()
            .unwrap()
            .to_path_buf();
        let path = std::env::join_paths(std::iter::once(ame).chain(std::env::split_paths(&path)));
        command.env("PATH", path.unwrap());
        for name in [
            "AME_ANNOTATIONS",
            "AME_PASS_OPT",
            "AME_PASS_STATS",
            "AME_PASS_REMARKS",
            "AME_CLANG",
        ] {
            command.env_remove(name);
        }
        for name in [
            "CC",
            "CXX",
            "CFLAGS",
            "CXXFLAGS",
            "LDFLAGS",
            "CPPFLAGS",
            "MAKEFLAGS",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// `ame cc` with arguments split at spaces.
    pub fn cc(&self, line: &str) -> Command {
        let mut command = self.command("ame");
        command.arg("cc").args(line.split_whitespace());
        command
    }

    pub fn sh(&self, script: &str) -> Command {
        let mut command = self.command("sh");
        command.args(["-e", "-c", script]);
        command
    }

    /// What the stub plugin was told when it compiled this file; `None`: it was not there.
    pub fn mark(&self, file: &str) -> Option<String> {
        let bytes = std::fs::read(self.path().join(file)).unwrap();
        let needle = b";AME_ANNOTATIONS=";
        let at = bytes
            .windows(needle.len())
            .position(|window| window == needle)?;
        let end = bytes[at..].iter().position(|&byte| byte == 0)?;
        // The version stands before it.
        Some(String::from_utf8_lossy(&bytes[at - 1..at + end]).into_owned())
    }

    /// The libraries that a program or library needs, and where it looks for them.
    pub fn dynamic(&self, file: &str) -> String {
        let output = Process::new("llvm-readelf-19")
            .arg("-d")
            .arg(self.path().join(file))
            .output()
            .expect("llvm-readelf-19 runs");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn assert_instrumented(&self, file: &str) {
        assert!(
            self.mark(file).is_some(),
            "{file} was compiled without the plugin"
        );
    }

    pub fn assert_has_runtime(&self, file: &str) {
        let dynamic = self.dynamic(file);
        assert!(dynamic.contains("libame_rt.so"), "{file}: {dynamic}");
        let lib = home().join("lib");
        assert!(dynamic.contains(lib.to_str().unwrap()), "{file}: {dynamic}");
    }
}
