//! `ame-cc` and `ame-cxx`: `ame cc` and `ame c++` in one word, for tools that take CC as a single
//! path. They become the `ame` beside them.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Returns only when there is no `ame` to become.
pub fn to(subcommand: &str) -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let error = match std::env::current_exe() {
        Ok(own) => {
            // Through a symlink to us, too: the path of this executable is resolved.
            let ame = own.with_file_name("ame");
            let error = Command::new(&ame).arg(subcommand).args(args).exec();
            format!("cannot run {}: {error}", ame.display())
        }
        Err(error) => format!("cannot find the path of this executable: {error}"),
    };
    eprintln!(
        "{}: error: {error}; it belongs beside `ame`",
        name.to_string_lossy()
    );
    ExitCode::FAILURE
}
