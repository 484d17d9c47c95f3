//! `ame-cxx` is `ame c++` in one word, for tools that want the compiler as a single path.

fn main() -> std::process::ExitCode {
    ame_cli::compiler_main(ame_cli::Language::Cxx)
}
