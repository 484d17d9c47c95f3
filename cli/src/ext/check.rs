//! `ame ext check`: what in an extension relies on a GIL, and what Ame does about it.
//!
//! The package is built as `ame ext build` builds it, but `ame cc` compiles plain code, and the plugin writes
//! what it sees in each file ([`facts`]). [`report`] puts that together; [`text`] and [`html`] show it.

mod facts;
mod html;
mod report;
#[cfg(test)]
mod tests;
mod text;

use super::interpreter::Interpreter;
use super::package::{self, Package};
use crate::locate::{self, Install};
use crate::output::print;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame ext check .
  ame ext check lru-dict==1.4.1 --html lru.html --json lru.json
  ame ext check cbor2==5.7.1 --python python3.11
                                          what does not compile without a GIL

Keys of the JSON: package, python, modules, state, held, references, unsupported, notes, summary. Each finding
has file, line, and `ame`: what Ame does about it (serialised, made_safe, as_under_a_gil, attention, fine).
The exit code is 0 whatever is found.")]
pub struct Args {
    /// Folder, source archive, NAME or NAME==VERSION
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// The interpreter whose headers are used: CPython 3.11 to 3.13 [default: that of the active
    /// virtual environment, else `ame python path --free-threaded`]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page that needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Options of `pip wheel`
    #[arg(last = true)]
    options: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let package = Package::parse(&args.package)?;
    locate::clang(false)?;
    Install::find()?.plugin()?;
    Interpreter::with(args.python.as_deref(), |python| {
        let report = check(args, &package, &python)?;
        if let Some(path) = &args.json {
            let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
            write(path, &(text + "\n"))?;
        }
        if let Some(path) = &args.html {
            write(path, &html::page(&report))?;
        }
        print(&text::page(&report))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn check(args: &Args, package: &Package, python: &Interpreter) -> Result<report::Report> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = scratch.path().join("facts");
    std::fs::create_dir(&folder).context("cannot make a temporary folder")?;
    let variables = [("AME_CHECK", folder.clone().into())];
    package::wheel(package, python, &variables, &args.options, scratch.path())?;
    let units = facts::read(&folder, &package.shown())?;
    Ok(report::Report::new(&package.shown(), &python.name(), units))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
