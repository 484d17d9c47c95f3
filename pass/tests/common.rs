//! Runs the plugin in opt-19 and clang-19.
#![allow(dead_code)] // every test binary uses a part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The plugin that cargo has built for this test.
pub fn plugin() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let places = [
        deps.join("libame_pass.so"),
        deps.parent().unwrap().join("libame_pass.so"),
    ];
    let newest = places
        .iter()
        .filter(|p| p.exists())
        .max_by_key(|p| p.metadata().unwrap().modified().unwrap());
    newest
        .unwrap_or_else(|| panic!("libame_pass.so is not in {}", deps.display()))
        .clone()
}

pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command without the user's settings of the pass.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "AME_ANNOTATIONS",
        "AME_PASS_OPT",
        "AME_PASS_STATS",
        "AME_PASS_REMARKS",
        "AME_PASS_WARN",
        "AME_ELIDE",
        "AME_PARALLEL",
    ] {
        command.env_remove(name);
    }
    command
}

pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| {
            panic!("cannot run {command:?}: {e} (apt-get install clang-19 llvm-19)")
        });
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// The IR of the functions after the given passes, verified; without attributes and metadata.
pub fn opt(ir: &str, passes: &str, options: &[(&str, &str)]) -> String {
    functions(&module(ir, passes, options))
}

fn run_opt(ir: &str, passes: &str, options: &[(&str, &str)]) -> Output {
    let mut command = command("opt-19");
    command
        .arg(format!("-load-pass-plugin={}", plugin().display()))
        .arg(format!("-passes={passes},verify"))
        .args(["-S", "-o", "-", "-"])
        .envs(options.iter().copied());
    run(&mut command, ir.as_bytes())
}

/// What is printed of a module that the passes refuse.
pub fn refused(ir: &str, passes: &str, options: &[(&str, &str)]) -> String {
    let out = run_opt(ir, passes, options);
    assert!(!out.status.success(), "it is not refused");
    String::from_utf8(out.stderr).unwrap()
}

/// The IR after the given passes, verified.
pub fn module(ir: &str, passes: &str, options: &[(&str, &str)]) -> String {
    let out = run_opt(ir, passes, options);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub fn functions(module: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in module.lines() {
        inside |= line.starts_with("define") && !line.contains("@ame.module_constructor");
        if inside {
            // The clobbers are always the same.
            text += &line.replace("~{flags},~{memory}", "...");
            text.push('\n');
        }
        inside &= line != "}";
    }
    text
}

/// Compiles C to assembly of one function, without directives.
pub fn assembly(source: &str, level: &str, function: &str) -> Vec<String> {
    let mut command = command("clang-19");
    command
        .args([
            level,
            "-x",
            "c",
            "-S",
            "-fno-asynchronous-unwind-tables",
            "-o",
            "-",
            "-",
        ])
        .arg(format!("-fpass-plugin={}", plugin().display()));
    let out = run(&mut command, source.as_bytes());
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .skip_while(|l| !l.starts_with(&format!("{function}:")))
        .take_while(|l| !l.starts_with(".Lfunc_end"))
        .map(str::trim)
        .filter(|l| !l.starts_with(['#', '.']) || l.starts_with(".LBB"))
        .map(str::to_owned)
        .collect()
}
