//! `ame`: see `ame --help`.

fn main() -> std::process::ExitCode {
    ame_cli::main()
}
