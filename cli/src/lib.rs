//! The program `ame`: one module per subcommand.
//!
//! `ame cc`, `ame c++` and `ame pip` do not go through clap: every argument that is not ours belongs to
//! clang or pip and reaches it as it was written.

#![forbid(unsafe_op_in_unsafe_fn)]

mod annotations;
mod cc;
mod completions;
mod doctor;
mod ext;
mod locate;
mod output;
mod pip;
mod python;
mod report;

use cc::Language;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "ame",
    version,
    about = "Transactions for C and Python programs: compile, run, look into conflicts, check the setup",
    after_help = "\
A first program:
  ame doctor                              is everything there?
  ame cc -O2 -g bank.c -o bank            compile; between ame_begin() and ame_commit() is atomic
  AME_LOG=bank.trace ./bank               run, and write down who was in whose way
  ame report bank.trace                   the source lines that cost the most

A Python program whose threads run in parallel:
  ame python run app.py                   with packages: ame pip install NAME

A C extension with a lock of its own on free-threaded Python:
  ame ext build NAME                      and what in it relies on the GIL: ame ext check NAME

A whole project:
  CC='ame cc' ./configure && make         or: make CC='ame cc'
  CC=ame-cc cmake -B build                ame-cc and ame-cxx are `ame cc` and `ame c++` in one word

Each command explains itself: ame help report"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile and link C as clang does, with transactions
    #[command(disable_help_flag = true, after_help = cc::HELP)]
    Cc {
        /// Arguments of clang; flags that start with -fame are ours
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Compile and link C++ as clang++ does, with transactions
    #[command(name = "c++", disable_help_flag = true, after_help = cc::HELP)]
    Cxx {
        /// Arguments of clang++; flags that start with -fame are ours
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check that everything is there, and say what to do if not
    Doctor(doctor::Args),
    /// Check and list annotation sets, and explain what they do to a file
    Annotations(annotations::Args),
    /// Show the conflicts in a trace that AME_LOG=FILE wrote
    Report(report::Args),
    /// Build and run CPython whose threads run in parallel
    Python(python::Args),
    /// Install Python packages for AME CPython, compiled with `ame cc`
    #[command(disable_help_flag = true, after_help = pip::HELP)]
    Pip {
        /// Arguments of pip
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build C extensions with a GIL of their own, and see what in them relies on one
    Ext(ext::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Entry of `ame`: arguments from the process.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("cc") => return compile(Language::C, args.collect()),
        Some("c++") => return compile(Language::Cxx, args.collect()),
        Some("pip") => return exit_code(pip::run(&args.collect::<Vec<_>>())),
        _ => {}
    }
    let result = match Cli::parse().command {
        Command::Cc { arguments } => return compile(Language::C, arguments),
        Command::Cxx { arguments } => return compile(Language::Cxx, arguments),
        Command::Annotations(args) => annotations::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Report(args) => report::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Python(args) => python::run(&args),
        Command::Pip { arguments } => pip::run(&arguments),
        Command::Ext(args) => ext::run(&args),
        Command::Completions(args) => completions::run::<Cli>(&args).map(|()| ExitCode::SUCCESS),
    };
    exit_code(result)
}

fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ame: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compile(language: Language, args: Vec<OsString>) -> ExitCode {
    let error = match cc::run(language, &args) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // The shape of clang's own diagnostics, so that build tools colour and count it.
    eprintln!("{}: error: {error:#}", language.command());
    ExitCode::FAILURE
}
