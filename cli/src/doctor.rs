//! `ame doctor`: is everything there that compiling and running takes, and if not, what to do.

mod kernel;
mod trial;

use crate::locate::{self, Install, APT_CLANG, LLVM_MAJOR};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, ExitCode};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame doctor           every check with what was found, and what to do about problems
  ame doctor --json    the same for a program

The exit code is 0 when nothing has failed; warnings do not count.")]
pub struct Args {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Something is slower or missing that not everybody needs.
    Warning,
    /// Compiling or running cannot work.
    Failed,
    /// Cannot be checked before something else is there.
    Skipped,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// What to do; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check {
            name,
            status: Status::Ok,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn bad(
        name: &'static str,
        status: Status,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Check {
        Check {
            name,
            status,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    checks: &'a [Check],
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let install = Install::find()?;
    let mut checks = tools();
    checks.extend(files(&install));
    checks.extend(kernel::checks());
    let can_compile = locate::clang(false).is_ok()
        && install.plugin.is_some()
        && install.runtime.is_some()
        && install.include.is_some();
    checks.push(if can_compile {
        trial::check()
    } else {
        Check::bad(
            "trial",
            Status::Skipped,
            "not before the failures above are mended",
            "",
        )
    });
    let ok = checks.iter().all(|check| check.status != Status::Failed);
    let text = if args.json {
        let verdict = Verdict {
            ok,
            checks: &checks,
        };
        serde_json::to_string_pretty(&verdict).context("cannot write JSON")? + "\n"
    } else {
        render(&checks, ok)
    };
    crate::output::print(&text)?;
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(checks: &[Check], ok: bool) -> String {
    let mut text = String::new();
    for check in checks {
        let status = match check.status {
            Status::Ok => "ok     ",
            Status::Warning => "warning",
            Status::Failed => "FAILED ",
            Status::Skipped => "skipped",
        };
        text += &format!("{status}  {:<18} {}\n", check.name, check.found);
        if !check.advice.is_empty() {
            text += &format!("{:29}-> {}\n", "", check.advice);
        }
    }
    text += if ok {
        "Ready.\n"
    } else {
        "Not ready: see the lines marked FAILED.\n"
    };
    text
}

fn tools() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, cxx, status) in [
        ("clang", false, Status::Failed),
        ("clang++", true, Status::Warning),
    ] {
        checks.push(
            match locate::clang(cxx).and_then(|path| Ok((version(&path)?, path))) {
                Ok((version, path)) => Check::ok(name, format!("{version} ({})", path.display())),
                Err(error) => Check::bad(name, status, format!("{error:#}"), APT_CLANG),
            },
        );
    }
    let config = format!("llvm-config-{LLVM_MAJOR}");
    let debian = format!("/usr/lib/llvm-{LLVM_MAJOR}/bin/llvm-config");
    checks.push(
        match locate::in_path(config.as_ref()).or_else(|| existing(&debian)) {
            Some(path) => Check::ok("LLVM development", path.display().to_string()),
            None => Check::bad(
                "LLVM development",
                Status::Warning,
                format!("{config} not found; only building Ame itself needs it"),
                format!("sudo apt-get install llvm-{LLVM_MAJOR}-dev libclang-{LLVM_MAJOR}-dev"),
            ),
        },
    );
    checks.push(match locate::in_path("ccache".as_ref()) {
        Some(path) => Check::ok("ccache", path.display().to_string()),
        None => Check::bad(
            "ccache",
            Status::Warning,
            "not found; only -fame-ccache needs it",
            "sudo apt-get install ccache",
        ),
    });
    checks
}

fn existing(path: &str) -> Option<std::path::PathBuf> {
    Path::new(path).is_file().then(|| path.into())
}

/// First line of `--version`.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run `{} --version`", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_string())
}

fn files(install: &Install) -> Vec<Check> {
    let needed = |name, found: Result<&Path>| match found {
        Ok(path) => Check::ok(name, path.display().to_string()),
        Err(error) => {
            let text = error.to_string();
            let (found, advice) = text.split_once(": ").unwrap_or((&text, ""));
            Check::bad(name, Status::Failed, found, advice)
        }
    };
    let mut checks = vec![
        needed("plugin", install.plugin()),
        needed("runtime", install.runtime()),
        needed("header ame.h", install.include()),
    ];
    let mut static_runtime = needed("static runtime", install.runtime_static());
    if static_runtime.status == Status::Failed {
        static_runtime.status = Status::Warning;
        static_runtime.found += "; only -fame-static and -static need it";
    }
    checks.push(static_runtime);
    checks
}
