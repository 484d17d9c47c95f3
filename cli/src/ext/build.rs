//! `ame ext build`: a package with C code, compiled by `ame cc`.

use super::interpreter::Interpreter;
use super::package::{self, Package, Wheel};
use crate::locate;
use crate::output::print;
use anyhow::{bail, Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame ext build lru-dict==1.4.1           into Ame's free-threaded CPython, or the active environment
  ame ext build . --python env/bin/python
  ame ext build persistent --domain zodb && ame ext build BTrees --domain zodb
                                          one calls the other's C code: one lock for both
  ame ext build . --python env/bin/python --parallel solve,digest
                                          on a Python with a GIL these two run without it
  ame ext build . --wheel-dir dist        leave a wheel, install nothing
  ame ext build NAME -- --no-build-isolation
                                          options of pip, for the build

What the package needs besides comes from PyPI, compiled by `ame cc` as well where it is C.")]
pub struct Args {
    /// Folder, source archive, NAME or NAME==VERSION
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// The interpreter to build for: CPython 3.11 to 3.13 [default: that of the active virtual
    /// environment, else `ame python path --free-threaded`]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Extensions with the same name share a domain, that is a lock [default: each has its own]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// For a Python with a GIL: the C functions that run without it, or `all` [default: what ame.toml or the source
    /// says]
    #[arg(long, value_name = "NAME,...")]
    parallel: Option<String>,
    /// Leave the wheel in this folder instead of installing it
    #[arg(long, value_name = "DIR")]
    wheel_dir: Option<PathBuf>,
    /// Do not install what the package needs besides
    #[arg(long)]
    no_deps: bool,
    /// Options of `pip wheel`
    #[arg(last = true)]
    options: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let package = Package::parse(&args.package)?;
    if let Some(name) = &args.domain {
        check_domain(name)?;
    }
    locate::clang(false)?;
    Interpreter::with(args.python.as_deref(), |python| {
        build(args, &package, &python)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn build(args: &Args, package: &Package, python: &Interpreter) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut variables = kind(python);
    if let Some(name) = &args.domain {
        variables.push(("AME_DOMAIN", name.into()));
    }
    match &args.parallel {
        Some(_) if python.free_threaded => bail!(
            "--parallel is for a Python with a GIL: {} has none, and runs all functions of the extension beside Python \
             code",
            python.path.display()
        ),
        Some(names) => variables.push(("AME_PARALLEL", names.into())),
        None => {}
    }
    let wheel = package::wheel(package, python, &variables, &args.options, scratch.path())?;
    if python.free_threaded || args.parallel.is_some() {
        check_compiler(package, &wheel)?;
    }
    let place = match &args.wheel_dir {
        Some(folder) => keep(&wheel.path, folder)?.display().to_string(),
        None => {
            install(python, &wheel, args.no_deps)?;
            format!("installed for {}", python.path.display())
        }
    };
    let count = match wheel.modules.len() {
        1 => "one extension module".to_string(),
        n => format!("{n} extension modules"),
    };
    let domain = match (&args.domain, python.free_threaded) {
        (Some(name), true) => format!(", domain {name}"),
        _ => String::new(),
    };
    print(&format!(
        "{}: {count}{domain}, {}; {place}\n",
        wheel.file_name(),
        python.name()
    ))
}

/// What tells `ame cc` which Python it compiles for, also in files that do not include its headers.
fn kind(python: &Interpreter) -> Vec<(&'static str, OsString)> {
    let mut variables = Vec::new();
    if python.free_threaded {
        variables.push(("AME_EXTENSION", "free-threaded".into()));
    }
    variables
}

/// A name goes into file names and reports.
fn check_domain(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_good) {
        bail!(
            "--domain {name:?}: a name has up to 64 letters, digits, dots, dashes and underscores"
        );
    }
    Ok(())
}

/// A build may have its own mind about the compiler; the result would import, and turn the GIL on.
fn check_compiler(package: &Package, wheel: &Wheel) -> Result<()> {
    for module in &wheel.modules {
        let content =
            std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        if !package::contains(&content, locate::RUNTIME.as_bytes()) {
            bail!(
                "the build of {} did not compile {} with CC, which names `ame cc`: see above what it \
                 ran, and how it wants to be told its compiler",
                package.shown(),
                module.file_name().unwrap_or_default().to_string_lossy()
            );
        }
    }
    Ok(())
}

fn keep(wheel: &Path, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let target = folder.join(wheel.file_name().unwrap_or_default());
    std::fs::copy(wheel, &target).with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target)
}

fn install(python: &Interpreter, wheel: &Wheel, no_deps: bool) -> Result<()> {
    let mut replace = python.pip();
    replace
        .args(["install", "--quiet", "--no-deps", "--force-reinstall"])
        .arg(&wheel.path);
    if !package::runs(&mut replace)? {
        bail!(
            "{} was built, but could not be installed for {}: see above; in an environment of your own it \
             can: `{} -m venv FOLDER`",
            wheel.file_name(),
            python.path.display(),
            python.path.display()
        );
    }
    if no_deps {
        return Ok(());
    }
    let mut rest = python.pip();
    rest.args(["install", "--quiet", "--no-cache-dir"])
        .arg(&wheel.path);
    package::compilers(&mut rest)?;
    rest.envs(kind(python));
    if !package::runs(&mut rest)? {
        bail!(
            "{} is installed, but not all that it needs: see above; with --no-deps that is up to you",
            wheel.file_name()
        );
    }
    Ok(())
}
