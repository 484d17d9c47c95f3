//! The program `ame`: one module per subcommand.
//!
//! `ame cc` and `ame c++` do not go through clap: every argument that is not ours belongs to clang
//! and reaches it as it was written.

#![forbid(unsafe_op_in_unsafe_fn)]

mod cc;
mod locate;

pub use cc::Language;

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry of `ame`: arguments from the process.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let language = match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("cc") => Some(Language::C),
        Some("c++") => Some(Language::Cxx),
        _ => None,
    };
    match language {
        Some(language) => compile(language, args.collect()),
        None => ExitCode::FAILURE,
    }
}

/// Entry of `ame-cc` and `ame-cxx`.
pub fn compiler_main(language: Language) -> ExitCode {
    compile(language, std::env::args_os().skip(1).collect())
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
