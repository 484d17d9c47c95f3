//! C libraries that nobody here wrote, that do no locking, compiled unmodified with `ame cc`, and
//! used by several threads with their data structures shared. The programs are in `libraries/`.
//!
//! The sources come from packages that cargo fetches by `sources/Cargo.lock`, with their SHA-256
//! checked, into cargo's own cache.

use ame_tests::{ame, root, scratch, Run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of a package of `sources/Cargo.toml`, fetched if needed.
fn package(name: &str) -> PathBuf {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(root().join("tests/sources/Cargo.toml"))
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cannot fetch the sources: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let found = packages
        .iter()
        .find(|p| p["name"] == name)
        .and_then(|p| p["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("{name} is not in tests/sources/Cargo.toml"));
    Path::new(found)
        .parent()
        .expect("a manifest is in a folder")
        .to_path_buf()
}

/// How a library and its driver are compiled.
#[derive(Clone, Copy)]
enum How {
    Transactions,
    Mutex,
}

struct Build {
    folder: PathBuf,
    how: How,
    flags: Vec<OsString>,
    objects: Vec<PathBuf>,
}

impl Build {
    fn new(name: &str, how: How, flags: &[&str]) -> Build {
        let suffix = match how {
            How::Transactions => "",
            How::Mutex => "-mutex",
        };
        Build {
            folder: scratch(&format!("{name}{suffix}")),
            how,
            flags: flags.iter().map(OsString::from).collect(),
            objects: Vec::new(),
        }
    }

    fn compiler(&self) -> Command {
        match self.how {
            How::Transactions => {
                let mut command = Command::new(ame());
                command.arg("cc");
                command
            }
            How::Mutex => {
                let mut command = Command::new("clang-19");
                command.arg("-DUSE_MUTEX");
                command
            }
        }
    }

    fn run(&self, mut command: Command) {
        let output = command
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        assert!(
            output.status.success(),
            "failed ({}): {command:?}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Compiles one file to `<object>.o`.
    fn object(&mut self, source: &Path, object: &str, defines: &[&str]) {
        let path = self.folder.join(format!("{object}.o"));
        let mut command = self.compiler();
        command
            .args(&self.flags)
            .args(defines)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(&path);
        self.run(command);
        self.objects.push(path);
    }

    fn link(&self, driver: &str) -> PathBuf {
        let program = self.folder.join("program");
        let mut command = self.compiler();
        command
            .args(&self.flags)
            .arg(root().join("tests/libraries").join(driver))
            .args(&self.objects)
            .args(["-pthread", "-lm", "-o"])
            .arg(&program);
        self.run(command);
        program
    }
}

fn check(program: &Path, threads: u32, chaos: Option<&str>) {
    let mut run = Run::new(program).arg(threads).arg("0.5");
    if let Some(chaos) = chaos {
        run = run.env("AME_CHAOS", chaos);
    }
    let output = run.ok();
    print!("{}", output.stdout);
    assert!(
        output.stdout.contains("invariant holds"),
        "{}",
        output.stdout
    );
}

/// Judy's build, as its makefiles describe it for the parts used here: JudyL and JudySL.
fn judy(how: How, level: &str) -> PathBuf {
    let source = package("judy-sys").join("lib/judy/src");
    let common = source.join("JudyCommon");
    let include = |folder: &Path| format!("-I{}", folder.display());
    let includes = [
        include(&source),
        include(&common),
        include(&source.join("JudyL")),
    ];
    let mut flags = vec![level, "-g", "-w", "-fno-strict-aliasing", "-DJU_64BIT"];
    flags.extend(includes.iter().map(String::as_str));
    let mut build = Build::new(&format!("judy{level}"), how, &flags);

    // Judy generates a table of allocation sizes with a program of its own.
    let mut generator = Command::new("clang-19");
    generator
        .args(&build.flags)
        .arg("-DJUDYL")
        .arg(common.join("JudyTables.c"))
        .args(["-o", "tables"]);
    build.run(generator);
    build.run(Command::new(build.folder.join("tables")));
    let tables = build.folder.join("JudyLTables.c");
    build.object(&tables, "Tables", &["-DJUDYL"]);

    for part in [
        "Cascade",
        "Count",
        "CreateBranch",
        "Decascade",
        "Del",
        "First",
        "FreeArray",
        "Get",
        "InsArray",
        "Ins",
        "InsertBranch",
        "MallocIF",
        "MemActive",
        "MemUsed",
    ] {
        build.object(&common.join(format!("Judy{part}.c")), part, &["-DJUDYL"]);
    }
    for (direction, define) in [("Next", "-DJUDYNEXT"), ("Prev", "-DJUDYPREV")] {
        for part in ["PrevNext", "PrevNextEmpty"] {
            let object = format!("{part}-{direction}");
            build.object(
                &common.join(format!("Judy{part}.c")),
                &object,
                &["-DJUDYL", define],
            );
        }
    }
    build.object(
        &common.join("JudyGet.c"),
        "GetInline",
        &["-DJUDYL", "-DJUDYGETINLINE"],
    );
    let by_count = ["-DJUDYL", "-DNOSMARTJBB", "-DNOSMARTJBU", "-DNOSMARTJLB"];
    build.object(&common.join("JudyByCount.c"), "ByCount", &by_count);
    build.object(&common.join("JudyMalloc.c"), "Malloc", &[]);
    build.object(&source.join("JudySL/JudySL.c"), "SL", &[]);
    build.link("judy_maps.c")
}

#[test]
fn judy_arrays_stay_consistent() {
    for level in ["-O0", "-O2"] {
        let program = judy(How::Transactions, level);
        for threads in [1, 2, 8] {
            check(&program, threads, None);
            check(&program, threads, Some("1,0.01"));
        }
    }
}

#[test]
fn judy_with_a_mutex_is_the_same_program() {
    check(&judy(How::Mutex, "-O2"), 2, None);
}

fn sqlite(how: How) -> PathBuf {
    let source = package("libsqlite3-sys").join("sqlite3");
    let include = format!("-I{}", source.display());
    let flags = [
        "-O1",
        "-g1",
        "-w",
        &include,
        "-DSQLITE_THREADSAFE=0",
        "-DSQLITE_OMIT_LOAD_EXTENSION",
        "-DSQLITE_DEFAULT_MEMSTATUS=0",
        "-DSQLITE_TEMP_STORE=3",
    ];
    let mut build = Build::new("sqlite", how, &flags);
    build.object(&source.join("sqlite3.c"), "sqlite3", &[]);
    build.link("sqlite_shared.c")
}

#[test]
fn one_single_threaded_sqlite_connection_is_shared() {
    let program = sqlite(How::Transactions);
    for threads in [1, 2, 8] {
        check(&program, threads, None);
        check(&program, threads, Some("1,0.01"));
    }
}

#[test]
fn sqlite_with_a_mutex_is_the_same_program() {
    check(&sqlite(How::Mutex), 2, None);
}
