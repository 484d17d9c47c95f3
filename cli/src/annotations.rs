//! `ame annotations`: annotation sets checked against headers, listed, and explained on a file.

mod check;
mod explain;
mod list;

use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame annotations list
  ame annotations check cpython-3.13 --include Python.h -- -I/usr/include/python3.13
  ame annotations check mylib.toml --include mylib.h --write-layout
  ame annotations explain bank.c")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the sets that come with Ame
    List(list::Args),
    /// Verify every struct, field and function of a set against the real headers
    Check(check::Args),
    /// Show for each access of a C file which rule applied, in source order
    Explain(explain::Args),
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args).map(|()| ExitCode::SUCCESS),
    }
}
