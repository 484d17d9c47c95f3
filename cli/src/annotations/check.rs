//! `ame annotations check SET`.

use ame_annotations::check::{check, Options};
use anyhow::{anyhow, Result};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame annotations check libc
  ame annotations check mylib.toml --include mylib.h --write-layout -- -Iinclude -DNDEBUG
  ame annotations check cpython-3.13 --root Python-3.13.5 -- -IPython-3.13.5/Include

The exit code is 0 when everything that the set names is there.")]
pub struct Args {
    /// A .toml file, or the name of a set that comes with Ame
    set: PathBuf,
    /// Header or C file to check against, instead of those that the set names (repeatable)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    include: Vec<String>,
    /// Folder that relative paths are relative to
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write the layout beside the set instead of comparing it
    #[arg(long)]
    write_layout: bool,
    /// Machine to check for, such as x86_64-linux
    #[arg(long)]
    target: Option<String>,
    /// Arguments for clang
    #[arg(last = true)]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let report = check(&Options {
        set: args.set.clone(),
        includes: args.include.clone(),
        args: args.args.clone(),
        root: args.root.clone(),
        write_layout: args.write_layout,
        target: args.target.clone(),
    })
    // Its own text shows file, line and what to do.
    .map_err(|error| anyhow!("{error}"))?;
    crate::output::print(&format!("{report}\n"))?;
    Ok(if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
