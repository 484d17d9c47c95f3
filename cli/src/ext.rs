//! `ame ext`: C extensions of Python, built for a GIL of their own, and what in them relies on one.

mod build;
mod check;
mod interpreter;
mod package;

use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame ext check lru-dict==1.4.1           what in it relies on the GIL, and what Ame does about that
  ame ext build lru-dict==1.4.1           for free-threaded CPython, with a domain (a GIL) of its own
  ame python run --free-threaded app.py   where `import lru` leaves the process-wide GIL off

A package is a folder with pyproject.toml or setup.py, a source archive, or a name on PyPI.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build a package with `ame cc` and install it, or leave a wheel
    Build(build::Args),
    /// Say in a page what in a package relies on the GIL
    Check(check::Args),
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Build(args) => build::run(args),
        Command::Check(args) => check::run(args),
    }
}
