//! Options of the command line, which the docs of the crate list beside the environment's.

mod common;

use common::{command, plugin, run};
use std::path::{Path, PathBuf};
use std::process::Output;

const SOURCE: &str = "int g; void f(int *p) { *p = g; p[1] = g; }";

fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn opt(options: &[String], env: &[(&str, &str)]) -> Output {
    let ir = "@g = global i32 0\ndefine void @f(ptr %p) { %v = load i32, ptr @g\n store i32 %v, ptr %p\n ret void }";
    let mut command = command("opt-19");
    command
        .arg(format!("-load-pass-plugin={}", plugin().display()))
        .args(["-passes=ame-tag,ame-instrument", "-S", "-o", "-", "-"])
        .args(options)
        .envs(env.iter().copied());
    run(&mut command, ir.as_bytes())
}

/// clang with `-mllvm` in front of each option.
fn clang(load: &[&str], options: &[String]) -> Output {
    let mut command = command("clang-19");
    command
        .args(["-O1", "-x", "c", "-c", "-o", "/dev/null", "-"])
        .arg(format!("-fpass-plugin={}", plugin().display()));
    for word in load {
        command.arg(word.replace("PLUGIN", &plugin().display().to_string()));
    }
    for option in options {
        command.args(["-mllvm", option]);
    }
    run(&mut command, SOURCE.as_bytes())
}

#[test]
fn opt_takes_every_option() {
    let (stats, remarks, set) = (file("opt-stats"), file("opt-remarks"), file("opt-set.toml"));
    std::fs::write(&set, "name = \"mine\"\n[function.f]\nkind = \"pure\"\n").unwrap();
    let out = opt(
        &[
            format!("-ame-stats={}", stats.display()),
            format!("-ame-remarks={}", remarks.display()),
            "-ame-opt=-all".into(),
            "-ame-warn=1".into(),
        ],
        &[],
    );
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("ame_write_slow"));
    assert!(std::fs::read_to_string(&stats)
        .unwrap()
        .contains("\"phase\":\"instrument\""));
    assert!(std::fs::read_to_string(&remarks)
        .unwrap()
        .contains("write barrier"));
    let out = opt(&[format!("-ame-annotations={}", set.display())], &[]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(!String::from_utf8_lossy(&out.stdout).contains("ame_write_slow"));
}

#[test]
fn the_command_line_wins() {
    let out = opt(&["-ame-opt=-hoist".into()], &[("AME_PASS_OPT", "nonsense")]);
    assert!(out.status.success(), "{}", stderr(&out));
    let out = opt(&["-ame-opt=-hosit".into()], &[("AME_PASS_OPT", "-hoist")]);
    assert!(!out.status.success());
    assert!(stderr(&out).contains("`hosit`"), "{}", stderr(&out));
}

#[test]
fn clang_takes_them_when_the_plugin_is_loaded_first() {
    for (i, load) in [
        &["-fplugin=PLUGIN"][..],
        &["-Xclang", "-load", "-Xclang", "PLUGIN"],
    ]
    .iter()
    .enumerate()
    {
        let stats = file(&format!("clang-stats-{i}"));
        let out = clang(load, &[format!("-ame-stats={}", stats.display())]);
        assert!(out.status.success(), "{}", stderr(&out));
        let text = std::fs::read_to_string(&stats).unwrap();
        // Both phases, once each: loading the plugin twice does not run it twice.
        assert_eq!(text.lines().count(), 2, "{text}");
    }
    let out = clang(&[], &["-ame-opt=-all".into()]);
    assert!(stderr(&out).contains("-ame-opt"), "{}", stderr(&out));
}

/// What `ame cc` refuses by option, the plugin alone refuses by what the option leaves in the code.
#[test]
fn sanitizers_with_shadow_memory_are_refused() {
    for name in ["address", "memory", "thread", "hwaddress", "safe-stack"] {
        let out = clang(&[&format!("-fsanitize={name}")], &[]);
        assert!(!out.status.success(), "{name}");
        let message = format!("ame: f: -fsanitize={name} cannot be combined with transactions");
        assert!(stderr(&out).contains(&message), "{}", stderr(&out));
    }
    for name in ["undefined", "integer"] {
        let out = clang(
            &[&format!("-fsanitize={name}"), "-fno-sanitize=function"],
            &[],
        );
        assert!(out.status.success(), "{name}: {}", stderr(&out));
    }
}
